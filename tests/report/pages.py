"""Runs made by hand, in memory and on the disk, and a browser to look at their reports with. No test is in here."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssl3d.data.pack import pack
from ssl3d.data.sets.demo import write_demo
from ssl3d.data.sets.mrnet import MRNet
from ssl3d.files import LOG
from ssl3d.protocol import Prediction
from ssl3d.recipe import CorpusPart
from ssl3d.registry import plugins
from ssl3d.report.material import Run
from ssl3d.results.feature_file import pack_features
from ssl3d.results.folder import FEATURES, PLAN, RECIPE, WEIGHTS, RunFolder
from ssl3d.results.model import CorpusRecord, EncoderRecord, FeaturesRecord, PlanRecord
from ssl3d.results.predictions import predictions_frame
from ssl3d.results.read import read_plan
from ssl3d.results.records import read_record, sha256, write_model, write_record
from ssl3d.results.results import Evaluated, Results
from ssl3d.results.scoring import score
from ssl3d.results.sources import sources_hash
from ssl3d.tables.tables import Tables
from ssl3d.task import Kind, Task
from ssl3d.train.build import method_class
from tests import records
from tests.records import LABELS, evaluated, failed, results

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "\"'&><img src=x onerror='window.hacked = 1'>",
    "=1+1",
    "\N{RIGHT-TO-LEFT OVERRIDE}desrever $x^$ ]]> --> `",
)
TEXT = "epoch,step,loss,lr,feature_std,effective_rank\n1.0,1.0,2.5,0.1,0.2,5.0\n2.0,2.0,1.5,0.05,0.1,4.0\n"
CONFIGS = {"byol": {"hidden_dim": 8}}
UNTRAINED = {"pretrain": None, "corpus": (), "augment": None}  # fields of the recipe of an encoder that is as built


def read(of: Results) -> Run:
    """A run that was never written."""
    return Run(Path("nowhere"), PlanRecord(base={}), of, Tables(of))


def of_kind(
    kind: Kind, method: str = "byol", seed: int = 0, noise: int = 0, spread: float = 5.0, labels: float = 1.0
) -> Evaluated:
    """An evaluation of a task of any kind, with simulated predictions.

    Of a regression, ``spread`` is that of its errors and ``labels`` the fraction of the training labels.
    """
    if kind == "ordinal":
        target = records.task("grade", 3, kind)
        return evaluated(method, seed, 2.0, labels=np.arange(60) % 3, K=3, noise=noise, target=target)
    if kind in {"binary", "multiclass"}:
        K = 2 if kind == "binary" else 3
        return evaluated(method, seed, labels=np.arange(40) % K, K=K, noise=noise, target=records.task("acl", K))
    rng, N = np.random.default_rng((noise, seed)), 40
    names: dict[str, Any] = {"name": "age", "kind": kind, "classes": ("a", "b") if kind == "multilabel" else ()}
    task = Task(**names, unit="years" if kind == "regression" else None)
    targets = np.random.default_rng(9).integers(0, 2, (N, 2)) if kind == "multilabel" else np.linspace(20, 80, N)
    p = rng.random((N, 2)) if kind == "multilabel" else targets[:, None] + spread * rng.standard_normal((N, 1))
    ids = [f"{i:02d}" for i in range(N)]
    made = evaluated(method, seed, noise=noise, target=records.task("age"), K=2, recipe={"labels": labels})
    data = made.record.data.model_copy(update={"task": task, "n_test": N, "n_test_patients": N})
    of = score(Prediction(p, None, {}), targets, task)
    record = made.record.model_copy(update={"data": data, "score": of, "n_positive": None})
    return replace(made, record=record, predictions=predictions_frame(ids, ids, targets, p, task))


def write_run(folder: Path, of: Results, log: str = TEXT) -> Path:
    """Write results as a run has them, with a log for each encoder that was pretrained; neither store nor features."""
    records.write_run(folder, of)
    for made in of.encoders.values():
        if made.recipe.pretrain is not None:
            write_log(folder, made, log)
    (folder / RECIPE).write_text('methods = ["</pre><script>window.hacked = 1</script>"]\n')
    return folder


def write_log(run: Path, encoder: EncoderRecord, text: str) -> Path:
    """Write the log of an encoder, with its hash in the record; return the file."""
    folder = RunFolder(run).folder_of(EncoderRecord, encoder.name)
    write_record(folder, read_record(folder, EncoderRecord), {LOG: text}, also=[WEIGHTS])
    return folder / LOG


def plain_results() -> Results:
    """Three methods with two seeds under two protocols, and one that failed."""
    methods = {"byol": 2.0, "simclr": 0.5, "random": 0.4}
    found = [
        evaluated(
            method,
            seed,
            strength,
            protocol=protocol,
            noise=noise,
            encoder_recipe=UNTRAINED if method == "random" else None,
        )
        for noise, (method, strength) in enumerate(methods.items())
        for seed in (0, 1)
        for protocol in ("linear", "knn")
    ]
    return results(*found, failed("moco", reason="out of memory; set a smaller --micro-batch"))


def pictured_run(folder: Path, methods: tuple[str, ...] = ("simclr", "byol")) -> Path:
    """Write a run on packed volumes (small generated knees), with features, as if these methods had been trained."""
    write_demo(folder / "knees", size=18, cases=(6, 6), slices=(4, 6))
    store = pack(MRNet(folder / "knees", "sagittal"), folder / "run" / "stores" / "mrnet-sagittal")
    tested = store.labelled("test", "acl")
    part = CorpusPart(data="mrnet", plane="sagittal")
    corpus = CorpusRecord(name=store.name, synthetic=True, fingerprint="ab", volumes=6)
    found = [
        evaluated(
            method,
            0,
            2.0,
            noise=noise,
            labels=store.targets("acl", tested),
            ids=store.ids(tested),
            target=store.task("acl"),
            recipe={"data": "mrnet"},
            encoder_recipe={"corpus": (part,), "view_size": (4, 16, 17), "method_config": CONFIGS.get(method, {})},
            encoder_fields={"corpus": corpus, "sources": {"method": _sources(method)}},
            data={"name": store.name, "fingerprint": store.evaluation_fingerprint("acl")},
        )
        for noise, method in enumerate(methods)
    ]
    run = write_run(folder / "run", results(*found))
    plan = read_plan(run)
    write_model(run / PLAN, plan.model_copy(update={"stores": {"mrnet sagittal": str(store.folder)}}))
    for one in found:
        write_features(run, one.encoder, store.name, store.ids(range(len(store))))
    return run


def _sources(method: str) -> str:
    return sources_hash(method_class(method)) if method in plugins("methods") else "ab"


def write_features(run: Path, encoder: EncoderRecord, data: str, ids: list[str]) -> Path:
    """Write features of volumes with these ids; return their folder."""
    x = np.random.default_rng(len(ids)).standard_normal((len(ids), 5)).astype(np.float32)
    key = sha256(encoder.key.encode())[:16]
    name = f"{encoder.name.rpartition('-')[0]}-{key[:10]}"
    values = {"encoder": encoder.key, "encoder_sha256": "e0", "data": data, "fingerprint": "f0"}
    record = FeaturesRecord(key=key, name=name, made_by=encoder.made_by, volumes=len(x), widths={"last": 5}, **values)
    folder = RunFolder(run).folder_of(FeaturesRecord, name)
    write_record(folder, record, {FEATURES: pack_features(ids, {"last": x})})
    return folder


def hostile_results() -> Results:
    """Methods, cases, patients, data set, task, classes, plane and notes with names that are code elsewhere."""
    ids = [f"{HOSTILE[i % len(HOSTILE)]} {i}" for i in range(len(LABELS))]
    target = records.task(HOSTILE[0]).model_copy(update={"classes": HOSTILE[:2]})
    found = [
        evaluated(
            name,
            0,
            1.0 + k,
            noise=k,
            ids=ids,
            target=target,
            plane=HOSTILE[1],
            data={"name": HOSTILE[0]},
            notes=HOSTILE,
            encoder_fields={"departures": HOSTILE, "notes": HOSTILE},
        )
        for k, name in enumerate(HOSTILE)
    ]
    broken = failed(HOSTILE[0], seed=1, reason=HOSTILE[1], target=HOSTILE[0], plane=HOSTILE[1])
    return results(*found, broken)


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
