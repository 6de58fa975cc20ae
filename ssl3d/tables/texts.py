"""The leaderboard as texts: the columns that people read, and those of the price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd


def shown(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return the leaderboard as texts: the columns that people read, those without any content left out."""
    titles = _SHOWN if "baseline" in leaderboard else {name: _SHOWN[name] for name in _SHOWN if name not in _AGAINST}
    table = pd.DataFrame({title: leaderboard.apply(make, axis=1) for title, make in titles.items()}, dtype="str")
    if not leaderboard.duplicated(["protocol", "method", "backbone"]).any():
        table = table.drop(columns="settings")  # needed only to tell rows of one name apart
    return table.loc[:, [name for name in table.columns if name in _ALWAYS or (table[name] != "").any()]]


def price(leaderboard: pd.DataFrame) -> pd.DataFrame:
    """Return what pretraining cost as texts, one row a method and backbone; empty if nothing was measured."""
    known = leaderboard[leaderboard["device"].notna()]
    table = pd.DataFrame({title: known.apply(make, axis=1) for title, make in _PRICE.items()}, dtype="str")
    table = table.drop_duplicates(ignore_index=True)
    return table.loc[:, [name for name in table.columns if (table[name] != "").any()]]


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


def _difference(row: Mapping[str, float]) -> str:
    if pd.isna(row["difference"]):
        return ""
    return f"{row['difference']:+.3f} ({row['difference_low']:+.3f} to {row['difference_high']:+.3f})"


def _p(row: Mapping[str, float]) -> str:
    return "" if pd.isna(row["difference_p_holm"]) else f"{row['difference_p_holm']:.3g}"


def _scaled(name: str, unit: float, after: str = "") -> Callable[[Mapping[str, float]], str]:
    def text(row: Mapping[str, float]) -> str:
        if pd.isna(row[name]):
            return ""
        value = row[name] / unit
        return (f"{value:.0f}" if value >= 100 else f"{value:.3g}") + after

    return text


_AGAINST = ("difference", "p")  # a baseline that was named
_SHOWN: Mapping[str, Callable[..., str]] = {
    "protocol": _text("protocol"),
    "rank": _text("rank"),
    "method": _text("method"),
    "backbone": _text("backbone"),
    "settings": _text("settings"),
    "AUC": _auc,
    "group": _text("group"),
    "difference": _difference,
    "p": _p,
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
    "note": _text("note"),
}
_ALWAYS: Sequence[str] = ("protocol", "rank", "method", "backbone", "AUC", "group", "seeds")
_PRICE: Mapping[str, Callable[..., str]] = {
    "method": _text("method"),
    "backbone": _text("backbone"),
    "pretraining": _minutes,
    "vol/s": _number("volumes_per_second", 1),
    "memory": _scaled("peak_memory_bytes", 2**30, " GiB"),
    "TFLOP": _scaled("flops", 1e12),
    "hardware": _text("device"),
}
