"""Tables for people: Markdown, LaTeX, CSV, and a terminal. Synthetic data are called synthetic in each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ssl3d.runs.remarks import remarks

if TYPE_CHECKING:
    from rich.table import Table

Format = Literal["md", "latex", "csv", "svg"]
_PLACE = ("task", "plane")

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


def by_table(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """Return the leaderboard and its comparisons for each task and plane, in the order of the leaderboard."""
    places = leaderboard[["task", "plane"]].drop_duplicates()
    return [(_at(leaderboard, place), _at(comparisons, place)) for place in places.itertuples(index=False)] or [
        (leaderboard, comparisons)
    ]


def _at(table: pd.DataFrame, place: tuple[Any, ...]) -> pd.DataFrame:
    """Rows of one task and plane; either may be missing."""
    same = [
        table[name].isna() if pd.isna(value) else table[name] == value
        for name, value in zip(_PLACE, place, strict=True)
    ]
    return table[(same[0] & same[1]).fillna(False).astype(bool)]


def caption(leaderboard: pd.DataFrame) -> str:
    """Return one line: the data, called synthetic where they are, task, plane, number of test volumes."""
    known = leaderboard[leaderboard["n_test"].notna()]
    if known.empty:
        return "No cell has finished."
    row = known.iloc[0]
    said = "synthetic" in str(row["data"])
    text = str(row["data"]) + (" (synthetic data)" if row["synthetic"] and not said else "")
    parts = [text, f"task {row['task']}" if pd.notna(row["task"]) else ""]
    plane = f"plane {row['plane']}" if pd.notna(row["plane"]) and row["plane"] not in str(row["data"]) else ""
    parts += [plane, f"{row['n_test']} test volumes"]
    parts += [f"{row['folds']}-fold cross-validation"] if pd.notna(row["folds"]) else []
    return ", ".join(part for part in parts if part) + "."


def conclusion(comparisons: pd.DataFrame) -> str:
    """Return what the test set could and could not show, protocol by protocol; empty without a pair."""
    sentences = []
    for protocol, pairs in comparisons.groupby("protocol", sort=False):
        tied = int((pairs["verdict"] == "cannot be separated").sum())
        sentence = f"{protocol}: {tied} of {len(pairs)} pairs cannot be separated"
        detectable = pairs["smallest_detectable"].dropna()
        if not detectable.empty:
            low, high = (f"{value:.3f}" for value in (detectable.min(), detectable.max()))
            size = low if low == high else f"{low} to {high}, depending on the pair"
            sentence += f"; smallest difference in AUC that this test set shows in 8 of 10 trials: {size}"
        sentences.append(sentence + ".")
    if not sentences:
        return ""
    return "Methods that share a letter cannot be separated (Holm-corrected, 5%). " + " ".join(sentences)


def departures(leaderboard: pd.DataFrame) -> list[str]:
    """Return one sentence a method that departs from its paper: "byol: ..."."""
    known = leaderboard[leaderboard["departures"].notna()][["method", "departures"]].drop_duplicates()
    return [f"{method}: {text.replace('.; ', '. ')}" for method, text in known.itertuples(index=False)]


def shown(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard as texts: the columns that people read, those without any content left out."""
    table = pd.DataFrame({title: leaderboard.apply(make, axis=1) for title, make in _SHOWN.items()}, dtype="str")
    if not leaderboard.duplicated(["protocol", "method", "backbone"]).any():
        table = table.drop(columns="settings")  # needed only to tell rows of one name apart
    return table.loc[:, [name for name in table.columns if name in _ALWAYS or (table[name] != "").any()]]


def to_markdown(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Return Markdown: for each task and plane caption, table and conclusion; at the end departures."""
    parts = [part for board, pairs in by_table(leaderboard, comparisons) for part in _markdown(board, pairs)]
    sentences = [f"- {_escape_markdown(sentence)}" for sentence in departures(leaderboard)]
    parts += ["Departures from the papers:\n\n" + "\n".join(sentences)] if sentences else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """Caption, table, and what it says, of one task and plane."""
    table = shown(leaderboard)
    rows = [list(table.columns), *table.to_numpy().tolist()]
    lines = ["| " + " | ".join(_escape_markdown(cell) for cell in row) + " |" for row in rows]
    lines.insert(1, "| " + " | ".join("---" for _ in table.columns) + " |")
    below = [_escape_markdown(text) for text in (remarks(leaderboard), conclusion(comparisons))]
    return [_escape_markdown(caption(leaderboard)), "\n".join(lines), *below]


def to_latex(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Return LaTeX tables (booktabs), one for each task and plane."""
    return "\n".join(_latex(board, pairs) for board, pairs in by_table(leaderboard, comparisons))


def _latex(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """One table: of each protocol the best, and what cannot be separated from it, in bold."""
    table = shown(leaderboard).drop(columns=["note"], errors="ignore")
    best = (leaderboard["rank"] == 1).fillna(False).to_numpy(bool)
    text = f"{caption(leaderboard)} {remarks(leaderboard)} {conclusion(comparisons)}".strip()
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(text)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule"]
    lines += [_latex_row([_escape_latex(name) for name in table.columns]), r"\midrule"]
    for bold, row in zip(best, table.to_numpy().tolist(), strict=True):
        cells = dict(zip(table.columns, map(_escape_latex, row), strict=True))
        if bold:
            cells["AUC"] = rf"\textbf{{{cells['AUC']}}}"
        lines.append(_latex_row(list(cells.values())))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def to_csv(table: pd.DataFrame) -> str:
    """Return any table as CSV; the column ``synthetic`` says what the caption says."""
    return table.to_csv(index=False, lineterminator="\n")


def to_rich(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, width: int) -> Table:
    """Return the table of one task and plane (see :func:`by_table`) for a terminal ``width`` characters wide.

    What does not fit stays in the CSV.
    """
    from rich import box  # noqa: PLC0415  # only terminals need rich
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = _narrowed(shown(leaderboard), width)
    below = escape(f"{remarks(leaderboard)} {conclusion(comparisons)}".strip())
    out = Table(
        title=escape(caption(leaderboard)), caption=below, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    for name in table.columns:
        out.add_column(name, no_wrap=name in _KEPT_WHOLE, overflow="fold")
    last = ""
    for row in table.to_dict("records"):
        if last and row["protocol"] != last:
            out.add_section()
        last = row["protocol"]
        out.add_row(*(escape(text) for text in row.values()))
    return out


def _narrowed(table: pd.DataFrame, width: int) -> pd.DataFrame:
    """Leave out columns, the least telling first, until a table of texts fits."""
    for name in _LEAVE_OUT:
        widths = [max(len(column), *map(len, table[column])) + 3 for column in table.columns]
        if sum(widths) <= width:
            break
        table = table.drop(columns=name, errors="ignore")
    return table


_LEAVE_OUT = (
    "Brier",
    "spec.",
    "sens.",
    "note",
    "bal. acc.",
    "vol/s",
    "seeds",
    "AP",
    "pretraining",
    "gradient",
    "collapse",
)
_KEPT_WHOLE = frozenset({"protocol", "rank", "AUC", "group"})


def to_svg(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, width: int = 130) -> str:
    """Return a picture of the table as a terminal shows it, ``width`` characters wide; it loads nothing."""
    import io  # noqa: PLC0415
    import re  # noqa: PLC0415

    from rich.console import Console  # noqa: PLC0415  # only terminals and their pictures need rich

    console = Console(record=True, width=width, file=io.StringIO())
    for board, pairs in by_table(leaderboard, comparisons):
        console.print(to_rich(board, pairs, width))
    drawn = console.export_svg(title="ssl3d leaderboard", unique_id="leaderboard")
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # the reader's own fixed-width font will do


def render(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, form: Format) -> str:
    """Return the leaderboard as Markdown, LaTeX, CSV or SVG."""
    if form == "csv":
        return to_csv(leaderboard)
    return {"md": to_markdown, "latex": to_latex, "svg": to_svg}[form](leaderboard, comparisons)


def _text(name: str) -> Callable[[Mapping[str, object]], str]:
    return lambda row: "" if pd.isna(row[name]) else str(row[name])  # type: ignore[call-overload]  # scalars only


def _number(name: str, digits: int = 3) -> Callable[[Mapping[str, float]], str]:
    return lambda row: "" if pd.isna(row[name]) else f"{row[name]:.{digits}f}"


def _auc(row: Mapping[str, float]) -> str:
    if pd.isna(row["auc"]):
        return str(row["status"]) if row["status"] != "done" else "none"
    return f"{row['auc']:.3f} ({row['ci_low']:.3f}-{row['ci_high']:.3f})"


def _minutes(row: Mapping[str, float]) -> str:
    seconds = row["pretrain_seconds"]
    if pd.isna(seconds):
        return ""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _collapsed(row: Mapping[str, object]) -> str:
    flag = row["collapsed"]
    return "" if flag is pd.NA else "collapsed" if flag else "no"


_SHOWN: Mapping[str, Callable[..., str]] = {
    "protocol": _text("protocol"),
    "rank": _text("rank"),
    "method": _text("method"),
    "backbone": _text("backbone"),
    "settings": _text("settings"),
    "AUC": _auc,
    "group": _text("group"),
    "seeds": _text("seeds"),
    "spread": _number("spread"),
    "AP": _number("average_precision"),
    "bal. acc.": _number("balanced_accuracy"),
    "sens.": _number("sensitivity"),
    "spec.": _number("specificity"),
    "Brier": _number("brier"),
    "gradient": _text("exactness"),
    "collapse": _collapsed,
    "pretraining": _minutes,
    "vol/s": _number("volumes_per_second", 1),
    "note": _text("note"),
}
_ALWAYS: Sequence[str] = ("protocol", "rank", "method", "backbone", "AUC", "group", "seeds")


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape_latex(text: str) -> str:
    return " ".join("".join(_LATEX.get(letter, letter) for letter in text).split())


def _escape_markdown(text: str) -> str:
    """Keep a text in its cell and out of the markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\\", "\\\\")
    for mark in "|`*_[]!":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
