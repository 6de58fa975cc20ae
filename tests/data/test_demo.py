from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl3d.data.sets.demo import ANATOMY, CASES, PREVALENCE, SEED, SIZE, SLICES, Demo, knee, labels, write_demo
from ssl3d.data.sets.knee import Lesions, draw
from ssl3d.data.sets.mrnet import FINDINGS, PLANES, MRNet
from ssl3d.errors import DataError


@pytest.mark.parametrize("plane", PLANES)
def test_the_files_of_the_demo_are_the_demo(tmp_path: Path, plane: str) -> None:
    write_demo(tmp_path / "demo", SIZE, (3, 2), SLICES)
    files = MRNet(tmp_path / "demo", plane)
    generated = {case.id: case for case in Demo(plane=plane).cases()}
    for case in files.cases():
        if case.split == "train":  # the written valid set begins at an earlier number
            assert np.array_equal(files.read(case).voxels, Demo(plane=plane).read(generated[case.id]).voxels)
            assert case.targets == generated[case.id].targets


def test_the_demo_is_made_again_alike_and_moves_no_global_random_state() -> None:
    state = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
    first = [Demo().read(case) for case in Demo().cases()[:4]]
    again = [Demo().read(case) for case in reversed(Demo().cases()[:4])]
    assert all(np.array_equal(a.voxels, b.voxels) for a, b in zip(first, reversed(again), strict=True))
    assert (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()) == state


def test_the_demo_says_that_it_is_synthetic() -> None:
    assert Demo.synthetic
    assert "synthetic" in Demo().name
    assert "SYNTHETIC" in Demo.card.summary


def test_cases_splits_and_prevalence_are_as_stated() -> None:
    cases = Demo().cases()
    assert len({case.id for case in cases}) == sum(CASES)
    for split, count, wanted in zip(("train", "test"), CASES, PREVALENCE.values(), strict=True):
        own = [case for case in cases if case.split == split]
        assert len(own) == count
        for task in ("acl", "meniscus"):
            assert abs(np.mean([case.targets[task] for case in own]) - wanted) < 0.1
    found = {tuple(case.targets[task] for task in ("abnormal", "acl", "meniscus")) for case in cases}
    assert found == {(0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)}  # fluid alone is abnormal, too
    assert all((case.patient, case.exam) == (case.id, case.id) for case in cases)


@pytest.mark.parametrize("plane", PLANES)
def test_volumes_are_ragged_grey_and_span_all_values(plane: str) -> None:
    demo = Demo(plane=plane)
    volumes = [demo.read(case).voxels for case in demo.cases()[:12]]
    depths = [volume.shape[1] for volume in volumes]
    assert (depths[0], depths[1]) == (SLICES[1], SLICES[0])
    assert all(SLICES[0] <= depth <= SLICES[1] for depth in depths)
    assert len(set(depths)) > 3
    for volume in volumes:
        assert volume.shape[2:] == (SIZE, SIZE)
        assert (volume.dtype.name, volume.min(), volume.max()) == ("uint8", 0, 255)


@pytest.mark.parametrize("lesion", ["acl", "meniscus", "effusion"])
def test_a_lesion_changes_a_small_part_of_the_knee(lesion: str) -> None:
    sound = {"acl": False, "meniscus": False, "effusion": False}
    for seed in range(3):
        before = draw(Lesions(**sound), [seed], "sagittal", (14, 48, 48)).astype(int)
        after = draw(Lesions(**(sound | {lesion: True})), [seed], "sagittal", (14, 48, 48)).astype(int)
        changed = (np.abs(after - before) > 25).mean()
        assert 0.0005 < changed < 0.05


def test_planes_show_one_anatomy() -> None:
    sagittal, coronal, axial = (
        draw(Lesions(True, True, True), [5], plane, (24, 24, 24)).astype(float) for plane in PLANES
    )  # a cube here only, so that the axes can be exchanged: rows run downwards, or from front to back
    as_coronal = sagittal.transpose(2, 1, 0)  # (x, z, y) to (y, z, x)
    as_axial = sagittal[:, ::-1, ::-1].transpose(1, 2, 0)  # to (z, y, x)
    for seen, expected in ((coronal, as_coronal), (axial, as_axial)):
        assert np.corrcoef(seen.ravel(), expected.ravel())[0, 1] > 0.95
        assert not np.array_equal(seen, expected)  # each plane is a scan of its own, with noise of its own


def _auc(train: np.ndarray, test: np.ndarray, task: str) -> float:
    """AUC of PCA and logistic regression on voxels."""
    truth = [[labels(number, part)[task] for number in numbers] for part, numbers in PARTS.items()]
    model = make_pipeline(PCA(32, random_state=0), StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return float(roc_auc_score(truth[1], model.fit(train, truth[0]).decision_function(test)))


PARTS = {"train": range(160), "valid": range(160, 460)}


def _voxels(part: str, sound: bool) -> np.ndarray:
    """Volumes of a part as rows, drawn from the demo's own seeds; without their lesions if ``sound``."""
    rows = []
    for number in PARTS[part]:
        found = labels(number, part)
        lesions = Lesions(bool(found["acl"]) and not sound, bool(found["meniscus"]) and not sound, False)
        rows.append(draw(lesions, [SEED, number, ANATOMY], "sagittal", (12, 24, 24)).ravel() / 255)
    return np.stack(rows)


@pytest.mark.parametrize(("sound", "highest"), [(True, 0.62), (False, 0.92)])
def test_raw_voxels_do_not_show_all_lesions_and_the_sound_anatomy_none(sound: bool, highest: float) -> None:
    train, test = _voxels("train", sound), _voxels("valid", sound)
    for task in ("acl", "meniscus"):
        assert _auc(train, test, task) < highest


def test_the_demo_is_written_in_the_exact_layout_of_mrnet(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", size=256, cases=(2, 1), slices=(4, 7))
    for plane in PLANES:
        for name, slices in (("train/{}/0000.npy", 7), ("train/{}/0001.npy", 4)):
            assert (tmp_path / "demo" / name.format(plane)).stat().st_size == 65_536 * slices + 128
    for task in FINDINGS:
        table = (tmp_path / "demo" / f"valid-{task}.csv").read_bytes()
        assert table == f"0002,{labels(2, 'valid')[task]}\n".encode()
    assert len(list((tmp_path / "demo").rglob("*.*"))) == 3 * 3 + 6 + 1  # and the file that says it is synthetic
    assert MRNet(tmp_path / "demo").synthetic


def test_the_demo_is_not_written_over_anything(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        write_demo(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        write_demo(tmp_path / "precious" / "demo", 24, (1, 1), (4, 5))
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("wrong", [{"size": 8}, {"cases": (0, 3)}, {"slices": (9, 5)}, {"slices": (1, 5)}])
def test_a_demo_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="cannot be made"):
        write_demo(tmp_path / "demo", **wrong)
    assert not (tmp_path / "demo").exists()


def test_a_root_a_variant_and_an_unknown_plane_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leave --root"):
        Demo(tmp_path)
    with pytest.raises(DataError, match="no variants"):
        Demo(variant="big")
    with pytest.raises(DataError, match="did you mean 'coronal'"):
        Demo(plane="corona")


def test_numbers_after_the_second_have_depths_of_their_own() -> None:
    depths = {plane: [len(knee(number, "train", plane, 16, (17, 61))) for number in range(2, 12)] for plane in PLANES}
    assert depths["sagittal"] != depths["coronal"] != depths["axial"]


def test_data_sets_are_imported_and_made_without_torch() -> None:
    modules = ["sets.demo", "sets.mrnet", "sets.medmnist3d", "sets.folder", "manifest", "folds", "check_cases"]
    code = f"import sys, {', '.join(f'ssl3d.data.{name}' for name in modules)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
