"""What is drawn: curves as defined, bounded figures, and sentences on what is left out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl3d.evaluate.statistics.measures import MEASURES
from ssl3d.report.cases import cases, disagreements
from ssl3d.report.curves import labels
from ssl3d.report.figures import sections
from ssl3d.report.maps import project
from ssl3d.report.material import Run
from ssl3d.report.price import price
from ssl3d.report.roc import GRID, band, roc
from ssl3d.report.score import Score, cut, ends
from ssl3d.report.training import training
from ssl3d.report.views import views
from ssl3d.report.volumes import Pictures
from ssl3d.report.words import findings
from ssl3d.results.model import Price
from ssl3d.tables.entry import Part
from tests.records import LABELS, evaluated, results
from tests.report.pages import (
    UNTRAINED,
    by_hand,
    chromium,
    of_kind,
    pictured_run,
    plain_results,
    read,
    write_log,
    write_run,
)


def test_figures_of_many_methods_stay_bounded_and_report_what_they_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl3d.report.roc.VALUES", 1)  # fewest resamples
    run = read(results(*(evaluated(f"m{k:02d}", strength=1 + k / 10, noise=k) for k in range(20))))
    (curves,), (prices,), (shown,) = (of.drawings for of in (roc(run), price(run), cases(run, None)))
    assert len(curves.panels.paint) == len(prices.panels.legend) == len(shown.panels.legend) == 12
    for drawn in (curves, prices, shown):
        assert "Shown are 12 of 20 methods" in drawn.caption
    assert re.search(r"and \d+ more", findings(run)[0])


def test_several_planes_have_figures_and_findings_of_their_own() -> None:
    run = read(
        results(
            *(
                evaluated(method, 0, 1.0 + k, noise=k, plane=plane, protocol=protocol)
                for k, method in enumerate(("byol", "simclr"))
                for plane in ("axial", "coronal")
                for protocol in ("linear", "knn")
            )
        )
    )
    assert set(run.names.values()) == {"byol", "simclr"}  # no hash: one method is one name on every plane
    assert [text.partition(": ")[0] for text in findings(run)] == [
        f"{plane}, {protocol}" for plane in ("axial", "coronal") for protocol in ("linear", "knn")
    ]
    titles = [drawn.title for section in sections(run, volumes=False) for drawn in section.drawings]
    for plane in ("axial", "coronal"):
        assert titles.count(plane) == 1  # the forest plot
        assert titles.count(f"{plane}, linear") == 3  # ROC curves, price, and cases


def test_several_data_sets_are_sections_of_their_own() -> None:
    found = [
        evaluated(method, noise=k, recipe={"data": data}, data={"name": data}, plane=None)
        for k, method in enumerate(("byol", "simclr"))
        for data in ("one", "two")
    ]
    titles = [drawn.title for section in sections(read(results(*found)), volumes=False) for drawn in section.drawings]
    assert {"one", "two", "one, linear", "two, linear"} <= set(titles)


def test_methods_that_make_the_same_views_share_a_figure(tmp_path: Path) -> None:
    section = views(run := Run.read(pictured_run(tmp_path, ("simclr", "byol", "dino"))), Pictures(run))
    assert section.notes == []
    assert [drawn.title for drawn in section.drawings] == ["simclr, byol", "dino"]
    assert "4 of 10 views" in section.drawings[1].caption  # two large crops and eight small ones


def test_a_price_that_is_not_known_is_left_out_and_reported() -> None:
    unknown = {"price": Price(device="cpu")}
    found = [
        evaluated("byol"),
        evaluated("simclr", noise=1, encoder_fields=unknown),
        evaluated("random", noise=2, encoder_recipe=UNTRAINED, encoder_fields=unknown),
    ]
    drawn = price(read(results(*found))).drawings[0]
    assert drawn.caption.endswith("Not known, and left out (pretraining, seconds): simclr.")
    assert set(drawn.panels.legend) == {"byol", "random"}


def test_a_log_that_cannot_be_read_is_named_and_the_others_are_drawn(tmp_path: Path) -> None:
    of = plain_results()
    folder = write_run(tmp_path, of)
    path = write_log(folder, next(iter(of.encoders.values())), "epoch,loss\n1,what\n")
    run = Run.read(folder)
    section = training(run)
    assert [note.partition(" cannot be read")[0] for note in section.notes] == [str(path)]
    assert section.drawings[0].alt.startswith("Training curves of 3 encoders")


def test_axes_follow_the_measure_and_are_not_stretched_by_endless_intervals() -> None:
    rows = [{"score": 4.0, "ci_low": 2.0, "ci_high": np.inf}, {"score": 5.0, "ci_low": None, "ci_high": None}]
    years = Score(MEASURES["mae"], "years")
    low, high = limits = years.limits(rows)
    assert 0 < low < 2 < 10 < high < 11
    assert ends(rows[0], limits) == (2.0, high)
    assert ends(rows[1], limits) == (5.0, 5.0)
    assert "goes on beyond" in cut(rows, limits)
    assert cut(rows[1:], limits) == ""
    assert (years.best, years.chance, years.text(4.0)) == ("the smallest MAE", "", "4.000 years")
    low, high = Score(MEASURES["quadratic_kappa"]).limits([{"score": 0.4, "ci_low": 0.3, "ci_high": 0.5}])
    assert low < 0 < 0.5 < high  # chance is inside


def test_curves_and_prices_of_a_regression_have_no_line_of_chance() -> None:
    shares = ((share, seed) for share in (0.5, 1.0) for seed in (0, 1))
    run = read(results(*(of_kind("regression", "byol", seed, labels=share) for share, seed in shares)))
    (curve,), (cost,) = labels(run).drawings, price(run).drawings
    for drawn in (curve, cost):
        assert "MAE" in drawn.alt
        assert "chance" not in drawn.caption
        assert "MAE (years), smaller is better" in drawn.panels.narrow[0]


def test_the_number_of_resamples_in_the_caption_is_the_one_used(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "(1000 resamples" in roc(Run.read(made)).drawings[0].caption
    monkeypatch.setattr("ssl3d.report.roc.VALUES", 300 * len(LABELS))
    assert "(300 resamples" in roc(Run.read(made)).drawings[0].caption


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), levels=st.integers(2, 40), n=st.integers(4, 60))
def test_the_roc_curve_is_the_definition_ties_included(seed: int, levels: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2)
    scores = rng.integers(0, levels, n) / levels
    p = np.stack([1 - scores, scores], axis=1)[None]
    part = Part(tuple(map(str, range(n))), labels, p, {"auc": (0.5,)})
    curve, low, high = band([part], draws=100)
    np.testing.assert_allclose(curve, by_hand(labels, scores, GRID), atol=1e-9)
    assert (low <= high).all()
    assert (np.diff(curve) >= -1e-12).all()


def test_seeds_and_folds_are_averaged_at_equal_false_positive_rates() -> None:
    rng = np.random.default_rng(0)
    parts = [
        Part(
            tuple(f"{fold}{i}" for i in range(len(LABELS))),
            LABELS,
            rng.dirichlet([1, 1], (2, len(LABELS))),
            {"auc": (0.5, 0.5)},
        )
        for fold in range(2)
    ]
    each = [band([part.of([seed])], 100)[0] for part in parts for seed in range(2)]
    np.testing.assert_allclose(band(parts, 100)[0], np.mean(each, axis=0), atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4, 30])
def test_maps_are_finite_for_any_number_of_volumes_and_always_the_same(n: int) -> None:
    x = np.random.default_rng(1).standard_normal((n, 7)).astype(np.float32)
    found = project(x)
    assert found.shape == (n, 2)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found, project(x))


def test_the_cases_shown_are_those_with_the_largest_spread() -> None:
    table = pd.DataFrame({"a": np.linspace(0, 1, 20), "b": 0.5, "label": np.linspace(0.4, 0.6, 20)})
    shown = disagreements(table)
    rest = table.drop(shown.index)
    smallest, largest = ((rows.max(axis=1) - rows.min(axis=1)) for rows in (shown, rest))
    assert smallest.min() >= largest.max()


def test_chromium_is_looked_for_by_its_three_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/x/google-chrome" if name == "google-chrome" else None)
    assert chromium() == "/x/google-chrome"
