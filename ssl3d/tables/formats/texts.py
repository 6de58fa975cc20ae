"""The leaderboard as text: the columns shown to readers, and those of the price. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ssl3d.evaluate.statistics.measures import MEASURES
from ssl3d.tables.entry import PLUS
from ssl3d.tables.formats.captions import LABELS_MARK

Row = Mapping[str, Any]


def shown(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return one table as text: the columns shown to readers, without empty and uninformative ones."""
    titles = _SHOWN if "baseline" in leaderboard else {name: _SHOWN[name] for name in _SHOWN if name not in _VERSUS}
    table = _texts(leaderboard, titles)
    if not leaderboard.duplicated(["data", "task", "plane", "protocol", "method", "backbone"]).any():
        table = table.drop(columns="settings")  # needed only if names coincide
    if leaderboard["corpus"].nunique() < 2 and not any(map(_is_transfer, leaderboard.to_dict("records"))):
        table = table.drop(columns="corpus")
    if leaderboard["view_size"].nunique() < 2:
        table = table.drop(columns="view")
    title = score_title(leaderboard)
    if title != _SCORE:
        table = table.drop(columns=title, errors="ignore").rename(columns={_SCORE: title})
    always = (*_ALWAYS, title)
    return table.loc[:, [name for name in table.columns if name in always or (table[name] != "").any()]]


def score_title(table: pd.DataFrame) -> str:
    """Return the name of the score that ranks the rows of one table: "AUC", "kappa" or "MAE"; "score" if unknown."""
    known = table["metric"].dropna()
    return "score" if known.empty else MEASURES[str(known.iloc[0])].title


def price(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of pretraining as text, one row per method, backbone and corpus; empty if not measured."""
    table = _texts(leaderboard[leaderboard["pretrain_seconds"].notna()], _PRICE).drop_duplicates(ignore_index=True)
    if table["corpus"][table["corpus"] != ""].nunique() < 2:
        table = table.drop(columns="corpus")
    return table.loc[:, [name for name in table.columns if (table[name] != "").any()]]


def _texts(rows: pd.DataFrame, titles: Mapping[str, Callable[..., str]]) -> pd.DataFrame:
    records = rows.to_dict("records")
    return pd.DataFrame({title: [make(row) for row in records] for title, make in titles.items()}, dtype="str")


def _is_transfer(row: Mapping[Any, Any]) -> bool:
    """Return whether the encoder was pretrained on a different data set or plane than it was evaluated on."""
    if pd.isna(row["corpus"]):
        return False
    planes = [""] if pd.isna(row["plane"]) else str(row["plane"]).split(PLUS)
    same = PLUS.join(f"{row['data']} {plane}".strip() for plane in planes)
    return str(row["corpus"]).replace(" (synthetic)", "") != same.replace(" (synthetic)", "")


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: "" if pd.isna(row[name]) else str(row[name])


def _number(name: str, digits: int = 3) -> Callable[[Row], str]:
    return lambda row: "" if pd.isna(row[name]) else f"{row[name]:.{digits}f}"


def _method(row: Row) -> str:
    marked: bool = pd.notna(row["labels_used"]) and bool(row["labels_used"])
    return str(row["method"]) + (LABELS_MARK if marked else "")


def _score(row: Row) -> str:
    if pd.isna(row["score"]):
        return str(row["status"]) if row["status"] != "done" else "none"
    low, high = digits(row["ci_low"]), digits(row["ci_high"])
    return f"{digits(row['score'])} ({low}{' to ' if low.startswith('-') else '-'}{high})"


def digits(value: float, sign: str = "") -> str:
    """Return a score with three decimals, and a large one, such as an error in mm, with four significant digits."""
    return f"{value:{sign}.3f}" if abs(value) < 10 else f"{value:{sign}.4g}"


def _duration(name: str = "pretrain_seconds") -> Callable[[Row], str]:
    def text(row: Row) -> str:
        seconds = row[name]
        if pd.isna(seconds):
            return ""
        return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"

    return text


def _chosen_lr(row: Row) -> str:
    return "" if pd.isna(row["tuned"]) else str(row["lr"])


def _collapsed(row: Row) -> str:
    flag = row["collapsed"]
    return "" if pd.isna(flag) else "collapsed" if flag else "no"


def _difference(row: Row) -> str:
    if pd.isna(row["difference"]):
        return ""
    low, high = (digits(row[name], "+") for name in ("difference_low", "difference_high"))
    return f"{digits(row['difference'], '+')} ({low} to {high})"


def _p(row: Row) -> str:
    return "" if pd.isna(row["difference_p_holm"]) else f"{row['difference_p_holm']:.3g}"


def _scaled(name: str, unit: float, after: str = "") -> Callable[[Row], str]:
    def text(row: Row) -> str:
        if pd.isna(row[name]):
            return ""
        value = row[name] / unit
        return (f"{value:.0f}" if value >= 100 else f"{value:.3g}") + after

    return text


_SCORE = "score"  # renamed by what it is
_VERSUS = ("difference", "p")  # with a named baseline
_SHOWN: Mapping[str, Callable[..., str]] = {
    "protocol": _text("protocol"),
    "rank": _text("rank"),
    "method": _method,
    "backbone": _text("backbone"),
    "corpus": _text("corpus"),
    "settings": _text("settings"),
    "view": _text("view_size"),
    _SCORE: _score,
    "group": _text("group"),
    "difference": _difference,
    "p": _p,
    "seeds": _text("seeds"),
    "spread": _number("spread"),
    "AUC": _number("auc"),
    "AP": _number("average_precision"),
    "bal. acc.": _number("balanced_accuracy"),
    "sens.": _number("sensitivity"),
    "spec.": _number("specificity"),
    "kappa": _number("quadratic_kappa"),
    "MAE": _number("mae"),
    "R2": _number("r2"),
    "Spearman": _number("spearman"),
    "Brier": _number("brier"),
    "read-out": _text("readout"),
    "gradient": _text("exactness"),
    "collapse": _collapsed,
    "pretraining": _duration(),
    "note": _text("note"),
}
_ALWAYS: Sequence[str] = ("protocol", "method", "backbone", "group", "seeds")
_PRICE: Mapping[str, Callable[..., str]] = {
    "method": _text("method"),
    "backbone": _text("backbone"),
    "corpus": _text("corpus"),
    "pretraining": _duration(),
    "vol/s": _number("volumes_per_second", 1),
    "memory": _scaled("peak_memory_bytes", 2**30, " GiB"),
    "TFLOP": _scaled("flops", 1e12),
    "chosen lr": _chosen_lr,
    "tuning": _duration("tuning_seconds"),
    "tuning TFLOP": _scaled("tuning_flops", 1e12),
    "hardware": _text("device"),
}
