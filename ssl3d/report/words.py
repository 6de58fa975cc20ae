"""The findings of a run, and what cannot be concluded from it, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ssl3d.errors import PluginError
from ssl3d.registry import plugins
from ssl3d.report.material import Row, Run, Subject, plain_rows, subject_of, titled
from ssl3d.report.score import interval
from ssl3d.tables.formats.captions import by_table, conclusion, remarks, unfinished
from ssl3d.tables.formats.lacking import lacking_controls
from ssl3d.train.build import method_class


def findings(run: Run) -> list[str]:
    """Return one sentence per data set, task, plane and protocol, headlines first: who is first, and who is tied."""
    return [
        f"{run.titled(subject, protocol)}: {_finding(run, rows)}"
        for subject, protocol, rows in run.by_table()
        if rows[0]["score"] is not None
    ]


def doubts(run: Run) -> list[str]:
    """Return what could not be concluded, one sentence each, the most serious first."""
    pending = [unfinished(run.results)] if run.results.pending else []
    of_rows: dict[str, list[str]] = {}  # names by what is to say of them
    for name, text in _about_rows(run):
        of_rows.setdefault(text, []).append(name)
    rows = [f"{listed(names)}: {text}" for text, names in of_rows.items()]
    return list(dict.fromkeys([*_about_data(run), *_about_pairs(run), *pending, *rows, *_about_controls(run)]))


def primary_comparison(run: Run) -> str:
    """Return a sentence that names the primary comparison; empty if all rows belong to it."""
    of = [row for row in run.rows if row["primary"]]
    if not of or len(of) == len(run.rows):
        return ""
    named = run.titled(subject_of(of[0]), of[0]["protocol"])
    return f"Primary comparison of this run, requested first: {named}. The others are exploratory."


def _finding(run: Run, rows: list[Row]) -> str:
    first, *others = [row for row in rows if row["score"] is not None]
    score, limits = run.score_of(rows), interval(first).replace("(", "(95% interval ", 1)
    labels = ", which saw labels while it was pretrained," if first["labels_used"] else ""
    text = f"{run.name_of_row(first)}{labels} has {score.best}, {score.text(first['score'])}{limits}"
    if not others:
        return f"{text}; there is nothing to compare it with."
    groups: dict[str, list[str]] = {"tied": [], "methods": [], "encoders": []}
    for row in others:
        about = "methods" if min(first["seeds"], row["seeds"]) > 1 else "encoders"
        groups["tied" if _share_letter(first, row) else about].append(run.name_of_row(row))
    parts = [f"cannot be separated from {listed(groups['tied'])}"] if groups["tied"] else []
    if groups["methods"]:
        parts.append(f"scores better than {listed(groups['methods'])} with these settings on these data")
    if groups["encoders"]:
        whose = "this encoder scores" if first["seeds"] == 1 else "its encoders score"
        parts.append(f"{whose} better than the tested encoders of {listed(groups['encoders'])}")
    return f"{text}; {'; '.join(parts)}."


def _share_letter(a: Row, b: Row) -> bool:
    """Return whether two rows share a letter; letters are a to z, and beyond 26 groups a2 and so on."""
    return bool(_letters(a) & _letters(b))


def _letters(row: Row) -> set[str]:
    found: list[str] = []
    for sign in row["group"] or "":
        if sign.isdigit() and found:
            found[-1] += sign
        else:
            found.append(sign)
    return set(found)


def _about_data(run: Run) -> Iterator[str]:
    if any(row["synthetic"] for row in run.rows):
        yield "The volumes are synthetic: nothing follows from these scores for real data."
    made: dict[str, list[str]] = {}
    for board, _ in by_table(run.board, run.tables.comparisons):
        made.setdefault(remarks(board, primary=False), []).append(titled(*subject_of(plain_rows(board)[0])))
    yield from (f"{'; '.join(subjects)}: {remark}" for remark, subjects in made.items() if remark)


def _about_pairs(run: Run) -> Iterator[str]:
    tables = by_table(run.board, run.tables.comparisons)
    for board, pairs in tables:
        for _, part in pairs.groupby("protocol", sort=False):
            sentence = conclusion(part).partition(". ")[2]  # the first one explains letters, which the table does
            subject: Subject = subject_of(plain_rows(board)[0])
            yield f"{run.titled(subject)}, {sentence}" if len(tables) > 1 else sentence
    if run.tables.comparisons.empty:
        yield "There is no pair of methods to compare."


def _about_rows(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the name of a row and a sentence on it."""
    failures = {entry.key for entry in run.tables.entries if entry.failed}
    failed = {(*key.table, key.protocol, key.method, key.backbone, key.settings) for key in failures}
    for row in run.rows:
        name = f"{run.name_of_row(row)} ({titled(*subject_of(row), row['protocol'])})"
        if row["collapsed"]:
            yield run.name_of_row(row), "features collapsed in training, so the score says little about the method."
        if row["exactness"] in {"plain", "not exact"}:
            gradient = f"the gradient was {row['exactness']}, not that of the whole effective batch."
            yield run.name_of_row(row), gradient
        if row["status"] == "partial":
            key = (*subject_of(row), row["protocol"], row["method"], row["backbone"], row["settings"])
            yield name, _missing(row, key in failed)
        if row["score"] is None and row["status"] != "failed":
            yield name, f"no {run.score_of([row]).title if row['metric'] else 'score'}."
        if row["note"]:
            yield name, f"{row['note'].rstrip('.')}."


def _missing(row: Row, failed: bool) -> str:
    """What a partial row lacks, and what its score is a mean of."""
    if failed:
        return "some seeds failed, and the score is the mean of those that did not."
    score = "" if row["score"] is None else ", and the score is the mean of the seeds that are"
    return f"not every seed or fold is complete{score}."


def _about_controls(run: Run) -> Iterator[str]:
    """Yield one sentence on the registered controls that are not in the table."""
    there = {one.encoder.recipe.method for one in run.results.evaluated}
    missing = [name for name in plugins("methods") if name not in there and _is_control(name)]
    known = {reason: [name for name in names if name in missing] for reason, names in run.results.lacking.items()}
    known[""] = [name for name in missing if not any(name in names for names in known.values())]
    return filter(None, [lacking_controls(known)])


def _is_control(name: str) -> bool:
    try:
        return method_class(name).control
    except PluginError:
        return False  # a broken plugin is reported by `ssl3d list`


def listed(names: Iterable[str], most: int = 8) -> str:
    """Return "a, b and c", or "a, b, c and 9 more"."""
    found = list(dict.fromkeys(names))
    if len(found) > most:
        found = [*found[: most - 1], f"{len(found) - most + 1} more"]
    *start, last = found
    return f"{', '.join(start)} and {last}" if start else last
