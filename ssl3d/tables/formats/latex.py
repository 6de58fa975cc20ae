"""The leaderboard as LaTeX tables (booktabs). Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from ssl3d.tables.formats.captions import by_table, caption, conclusion, remarks, versus
from ssl3d.tables.formats.markdown import PRICE
from ssl3d.tables.formats.texts import price, score_title, shown

if TYPE_CHECKING:
    from ssl3d.tables.formats.summary import Titled

_BOLD = "Bold: the best score of each protocol."
_ESCAPES = {
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


def to_latex(leaderboard: pd.DataFrame, comparisons: pd.DataFrame, first: Sequence[Titled] = ()) -> str:
    """Return LaTeX tables (booktabs): one per data set, task and plane, and one of the price.

    The best score of each protocol is bold; methods that cannot be separated share a letter.
    """
    found = [_table(title, table, [False] * len(table)) for title, table in first]
    found += [_ranked(board, pairs) for board, pairs in by_table(leaderboard, comparisons)]
    cost = price(leaderboard)
    if not cost.empty:
        found.append(_table(f"{PRICE}.", cost, [False] * len(cost)))
    return "\n".join(found)


def _ranked(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    score = leaderboard["score"].groupby(leaderboard["protocol"]).transform("first")  # rows are ordered, best first
    best = (score.notna() & (leaderboard["score"] == score)).tolist()
    table = shown(leaderboard).drop(columns="note", errors="ignore")
    bold = _BOLD if any(best) else ""
    texts = (caption(leaderboard), remarks(leaderboard), versus(leaderboard), bold, conclusion(comparisons))
    return _table(" ".join(filter(None, texts)), table, best, score_title(leaderboard))


def _table(text: str, table: pd.DataFrame, bold: Sequence[bool], column: str = "") -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(text)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule"]
    lines += [_line([_escape(name) for name in table.columns]), r"\midrule"]
    for strong, row in zip(bold, table.to_numpy().tolist(), strict=True):
        texts = dict(zip(table.columns, map(_escape, row), strict=True))
        if strong:
            texts[column] = rf"\textbf{{{texts[column]}}}"
        lines.append(_line(list(texts.values())))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _line(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"


def _escape(text: str) -> str:
    return " ".join("".join(_ESCAPES.get(letter, letter) for letter in text).split())
