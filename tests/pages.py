"""Runs made by hand on the disk, and a browser to look at their reports with. No test is in here."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl3d.results.records import CellResult, write_result
from tests.cells import LABELS, Cell, cell, failed

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "\"'&><img src=x onerror='window.hacked = 1'>",
    "=1+1",
    "\N{RIGHT-TO-LEFT OVERRIDE}desrever $x^$ ]]> --> `",
)
LOG = "epoch,step,loss,lr,feature_std,effective_rank\n1.0,1.0,2.5,0.1,0.2,5.0\n2.0,2.0,1.5,0.05,0.1,4.0\n"


def write_run(folder: Path, cells: Iterable[Cell], log: str = LOG) -> Path:
    """Write results as a run has them, with a log for each cell that was pretrained; neither store nor features."""
    for number, (result, predictions) in enumerate(cells):
        named = CellResult.model_validate({**result.model_dump(), "cell": f"cell-{number}"})
        (folder / "cells" / named.cell).mkdir(parents=True)
        write_result(folder / "cells" / named.cell, named, predictions)
        if named.exactness == "exact":
            (folder / "cells" / named.cell / "log.csv").write_text(log)
    (folder / "plan.json").write_text('{"base": {}, "cells": {}}')
    (folder / "recipe.toml").write_text('methods = ["</pre><script>window.hacked = 1</script>"]\n')
    return folder


def plain_cells() -> list[Cell]:
    """Three methods with two seeds, far apart enough to be told apart, and a failed cell."""
    found = [
        cell(method, seed, strength, noise=noise)
        for noise, (method, strength) in enumerate({"byol": 4.0, "simclr": 0.5, "random": 0.4}.items())
        for seed in (0, 1)
    ]
    return [*found, failed("moco", reason="out of memory; set a smaller --micro-batch")]


def hostile_cells() -> list[Cell]:
    """Methods, cases, task, plane and notes with names that are code elsewhere."""
    ids = [f"{HOSTILE[i % len(HOSTILE)]} {i}" for i in range(len(LABELS))]
    names = {"task": HOSTILE[0], "plane": HOSTILE[1]}
    found = [
        cell(name, 0, 1.0 + k, noise=k, ids=ids, data={"name": HOSTILE[0], **names}, notes=HOSTILE, departures=HOSTILE)
        for k, name in enumerate(HOSTILE)
    ]
    return [*found, failed(HOSTILE[0], seed=1, reason=HOSTILE[1])]


def chromium() -> str:
    """Path of a Chromium or Chrome; the test is skipped where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no chromium, chromium-browser or google-chrome on the path")


def look(page: Path, script: str, folder: Path, width: int = 1280) -> tuple[dict[str, Any], str]:
    """Open a page, run a script in it that returns an object, and return that with what the browser logged.

    The script is allowed by its hash: the page's own policy stays in force for everything else. The page stands in a
    frame, because no window is narrower than 500 pixels.
    """
    keep = "(found) => { parent.document.body.dataset.found = JSON.stringify(found); }"
    script = f"(async () => {{{script}}})().then({keep});"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = page.read_text("utf-8").replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    inner = html.escape(text.replace("</body>", f"<script>{script}</script></body>"))
    outer = folder / f"{page.stem}-{width}-outer.html"
    frame = f'<iframe width="{width}" height="900" frameborder="0" srcdoc="{inner}"></iframe>'
    outer.write_text(
        f'<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body>{frame}</body>', "utf-8"
    )
    done = subprocess.run(
        [
            chromium(),
            *("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=4000"),
            *("--dump-dom", "--window-size=1400,950", f"--user-data-dir={folder / 'profile'}"),
            outer.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(html.unescape(found[1]))
    return answer, done.stderr


def by_hand(labels: np.ndarray, scores: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """ROC curve as it is defined, threshold by threshold: the highest rate of true positives up to each grid value."""
    thresholds = np.unique(scores)
    false = np.array([0.0, *((scores >= t)[labels == 0].mean() for t in thresholds[::-1])])
    true = np.array([0.0, *((scores >= t)[labels == 1].mean() for t in thresholds[::-1])])
    return np.array([_at(x, false, true) for x in grid])


def _at(x: float, false: np.ndarray, true: np.ndarray) -> float:
    reached = np.flatnonzero(false <= x + 1e-12)[-1]
    if reached + 1 == len(false) or abs(false[reached] - x) < 1e-12:
        return float(true[reached])
    share = (x - false[reached]) / (false[reached + 1] - false[reached])
    return float(true[reached] + share * (true[reached + 1] - true[reached]))
