"""What a run found, and what could not be concluded from it, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ssl3d.errors import PluginError
from ssl3d.registry import plugins
from ssl3d.report.material import Place, Row, Run, place_of, records, titled
from ssl3d.tables.entry import Key
from ssl3d.tables.leaderboard import failed
from ssl3d.tables.remarks import remarks
from ssl3d.tables.render import by_table, conclusion
from ssl3d.tables.write import unfinished

TIED = "cannot be separated"


def findings(run: Run) -> list[str]:
    """Return one sentence for each task, plane and protocol: who is first, and who cannot be told from them."""
    return [
        f"{run.titled(place, protocol)}: {_finding(run, rows)}"
        for place, protocol, rows in _blocks(run)  # the last is what is made of the others, where anything is
        if rows and rows[0]["auc"] is not None
    ]


def doubts(run: Run) -> list[str]:
    """Return what could not be concluded, one sentence each, the gravest first."""
    return list(dict.fromkeys([*_about_data(run), *_about_pairs(run), *_about_cells(run), *_about_baselines(run)]))


def _blocks(run: Run) -> Iterator[tuple[Place, str, list[Row]]]:
    """Rows of each task, plane and protocol, in the leaderboard's order: best first."""
    for place, rows in run.rows():
        for protocol in dict.fromkeys(row["protocol"] for row in rows):
            yield place, protocol, [row for row in rows if row["protocol"] == protocol]


def _finding(run: Run, rows: list[Row]) -> str:
    first, *others = [row for row in rows if row["auc"] is not None]
    interval = "" if first["ci_low"] is None else f" (95% interval {first['ci_low']:.3f} to {first['ci_high']:.3f})"
    text = f"{run.name_of_row(first)} has the highest AUC, {first['auc']:.3f}{interval}"
    tied = [run.name_of_row(row) for row in others if _share_letter(first, row)]
    if not others:
        return f"{text}; there is nothing to compare it with."
    if not tied:
        return f"{text}, and is better than {_listed(run.name_of_row(row) for row in others)}."
    return f"{text}, and cannot be separated from {_listed(tied)}."


def _share_letter(a: Row, b: Row) -> bool:
    """Whether two rows share a letter; letters are a to z, and with more than 26 groups a2 and so on."""
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
    if any(row["synthetic"] for row in records(run.board)):
        yield "The volumes are synthetic: nothing follows from these scores for real data."
    seeds = [row["seeds"] for row in records(run.board) if row["auc"] is not None]
    if seeds and max(seeds) == 1:
        yield "Each method ran with one seed: how far another seed would move its score is not known."
    elif seeds and min(seeds) == 1:
        yield "Some methods ran with one seed: how far another seed would move their scores is not known."

    made: dict[str, list[str]] = {}
    for board, _ in by_table(run.board, run.pairs):
        made.setdefault(remarks(board), []).append(titled(place_of(records(board)[0])))
    yield from (f"{'; '.join(places)}: {said}" for said, places in made.items() if said)


def _about_pairs(run: Run) -> Iterator[str]:
    tables = by_table(run.board, run.pairs)
    for board, pairs in tables:
        for _, part in pairs.groupby("protocol", sort=False):
            sentence = conclusion(part).partition(". ")[2]  # the first one explains letters; that stands by the table
            yield f"{titled(place_of(records(board)[0]))}, {sentence}" if len(tables) > 1 else sentence
    if run.pairs.empty:
        yield "There is no pair of methods to compare."


def _about_cells(run: Run) -> Iterator[str]:
    said = unfinished(run.folder)
    if said:
        yield said
    failures = {entry.key for entry in run.entries if failed(entry)}
    for row in records(run.board):
        name = f"{run.name_of_row(row)} ({titled(place_of(row), row['protocol'])})"
        if row["collapsed"]:
            yield f"{run.name_of_row(row)}: its features collapsed in training, so its score says little of the method."
        if row["exactness"] in {"plain", "exact but for backbone batch norm"}:
            yield f"{run.name_of_row(row)}: its gradient was {row['exactness']}, not that of the whole effective batch."
        if row["status"] == "partial":
            yield f"{name}: {_missing(row, failures)}"
        if row["auc"] is None and row["status"] != "failed":
            yield f"{name}: it has no AUC."
        if row["note"]:
            yield f"{name}: {row['note'].rstrip('.')}."


def _missing(row: Row, failures: set[Key]) -> str:
    """What a partial row lacks, and what its score is a mean of."""
    if Key(row["protocol"], row["method"], row["backbone"], row["settings"], *place_of(row)) in failures:
        return "some of its seeds failed, and its score is the mean of those that did not."
    score = "" if row["auc"] is None else ", and its score is the mean of the seeds that are"
    return f"not every seed or fold is finished{score}."


def _about_baselines(run: Run) -> Iterator[str]:
    """Baselines that are registered, belong into every table, and are not in this one."""
    from ssl3d.train.build import method_class  # noqa: PLC0415  # loads torch

    there = {cell.recipe.method for cell in run.done}
    for name in plugins("methods"):
        try:
            kind = method_class(name)
        except PluginError:
            continue  # a broken plugin is reported by `ssl3d list`
        if kind.baseline and name not in there:
            yield f"The baseline {name} is not in the table ({kind.card.summary})."


def _listed(names: Iterable[str]) -> str:
    """Return "a, b and c"."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
