"""The leaderboard as LaTeX tables (booktabs)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ssl3d.tables.captions import by_table, caption, conclusion, versus
from ssl3d.tables.remarks import remarks
from ssl3d.tables.texts import price, shown

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


def to_latex(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Return LaTeX tables (booktabs): one for each task and plane, and one of the price.

    The AUC of each protocol's best, and of what cannot be separated from it, is bold; letters stand for groups.
    """
    found = [_ranked(board, pairs) for board, pairs in by_table(leaderboard, comparisons)]
    cost = price(leaderboard)
    if not cost.empty:
        found.append(_table("Price of pretraining, mean over seeds.", cost, [False] * len(cost)))
    return "\n".join(found)


def _ranked(leaderboard: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    texts = (caption(leaderboard), remarks(leaderboard), versus(leaderboard), conclusion(comparisons))
    best = (leaderboard["rank"] == 1).fillna(False).tolist()
    return _table(" ".join(filter(None, texts)), shown(leaderboard).drop(columns="note", errors="ignore"), best)


def _table(text: str, table: pd.DataFrame, bold: Sequence[bool]) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(text)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}", r"\toprule"]
    lines += [_latex_row([_escape_latex(name) for name in table.columns]), r"\midrule"]
    for strong, row in zip(bold, table.to_numpy().tolist(), strict=True):
        cells = dict(zip(table.columns, map(_escape_latex, row), strict=True))
        if strong:
            cells["AUC"] = rf"\textbf{{{cells['AUC']}}}"
        lines.append(_latex_row(list(cells.values())))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape_latex(text: str) -> str:
    return " ".join("".join(_LATEX.get(letter, letter) for letter in text).split())
