"""Learning rates chosen by trials: on the training split alone, once for all seeds, resumable, and really used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssl3d.audit.reproduce import reproduce
from ssl3d.audit.verify import verify
from ssl3d.cli import run as command
from ssl3d.errors import RecipeError
from ssl3d.experiment import read_experiment
from ssl3d.files import LOG
from ssl3d.progress import Progress
from ssl3d.recipe import TRIAL_SEED, PretrainRecipe
from ssl3d.results.folder import RunFolder
from ssl3d.results.rate_record import RateRecord
from ssl3d.results.records import read_model, write_model
from ssl3d.run.graph import Graph, make_graph
from ssl3d.run.options import Options
from ssl3d.run.planning.plan import Plan, make_plan
from ssl3d.run.planning.rates import trials
from ssl3d.run.volumes import pack_volumes
from tests.run.test_labels_in_pretraining import relabelled
from tests.runs import SMALL, Listener, arguments, encoder_folder, small_run, write_knees

FACTORS = (0.5, 2.0)
TUNED: dict[str, Any] = {"pretrain.tune_lr": FACTORS}
QUICK: dict[str, Any] = {"controls": "none", "evaluate__protocols": "knn", "pretrain__epochs": 1}


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_knees(tmp_path_factory.mktemp("data") / "knees")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packed volumes that all graphs share."""
    return tmp_path_factory.mktemp("stores")


def plan(root: Path, **fields: Any) -> Plan:
    values = {**SMALL, **TUNED, "methods": ("byol",), "controls": "none"}
    values |= {name.replace("__", "."): value for name, value in fields.items()}
    return make_plan(read_experiment(None, values), Options(roots={"mrnet": root}))


def graph(root: Path, stores: Path, **fields: Any) -> Graph:
    made = plan(root, **fields)
    folder = RunFolder(stores / "run", stores)
    return make_graph(made, pack_volumes(made, folder.stores, Progress()), folder, Options())


# Plans


def test_every_method_that_is_pretrained_without_labels_has_the_same_grid(knees: Path) -> None:
    made = plan(knees, methods=("byol", "simclr", "random", "supervised"), seeds=(0, 1))
    rates = {request.recipe.method: request.rate for request in made.requests}
    assert rates["random"] is None
    assert rates["supervised"] is None
    for name in ("byol", "simclr"):
        (recipe,) = {request.rate for request in made.requests if request.recipe.method == name}
        assert recipe is not None
        assert recipe.factors == FACTORS
    assert [note for note in made.notes if "not tuned" in note] == [
        "the learning rate of 'supervised' is not tuned: inner folds cannot judge an encoder that was trained on their "
        "labels"
    ]


def test_a_trial_is_the_recipe_but_for_its_rate_and_a_seed_that_no_row_has(knees: Path) -> None:
    (request,) = plan(knees, **{"pretrain.lr": 0.01, "pretrain.tune_lr": [4, 1]}).requests
    pretrain = request.recipe.pretrain
    assert pretrain is not None
    assert [trial.pretrain and trial.pretrain.lr for trial in trials(request.recipe)] == [0.01, 0.04]
    for trial in trials(request.recipe):
        assert trial.seed == TRIAL_SEED
        back = trial.model_copy(update={"seed": request.recipe.seed, "pretrain": pretrain})
        assert back == request.recipe
        assert trial.pretrain is not None
        assert trial.pretrain.tune_lr == ()
    with pytest.raises(RecipeError, match="kept for trials"):
        plan(knees, seeds=(TRIAL_SEED,))


def test_each_fold_chooses_by_its_own_training_cases_and_shares_trials_of_another_corpus(knees: Path) -> None:
    first, second = plan(knees, corpus="demo", data__folds=2).requests
    assert first.rate is not None
    assert second.rate is not None
    assert [part.fold for rate in (first.rate, second.rate) for part in rate.parts] == [0, 1]
    assert trials(first.recipe) == trials(second.recipe)


@pytest.mark.parametrize("factors", [[1.0], [1.0, 1.0, 2.0], [0.0, 1.0], [-1.0, 1.0]])
def test_a_grid_has_two_or_more_different_positive_factors(factors: list[float]) -> None:
    with pytest.raises(RecipeError) as caught:
        PretrainRecipe.checked({"tune_lr": factors}, "pretrain")
    assert str(caught.value).startswith("pretrain.tune_lr")


def test_tasks_and_planes_of_a_tuned_run_do_not_grow() -> None:
    plain = [read_experiment(None, {"data.task": task}).base() for task in ("acl", "meniscus")]
    assert plain[0] == plain[1]
    chosen = [read_experiment(None, {"data.task": task, **TUNED}).base() for task in ("acl", "meniscus")]
    assert chosen[0] != chosen[1]


# Graphs


def test_a_choice_comes_after_its_trials_and_before_its_encoders(knees: Path, stores: Path) -> None:
    made = graph(knees, stores, methods=("byol", "simclr"), seeds=(0, 1), data__task="acl,meniscus")
    seen: set[str] = set()
    for artifact in made.artifacts:
        assert {one.key for one in artifact.needs} <= seen
        seen.add(artifact.key)
    kinds = [artifact.kind for artifact in made.artifacts]
    assert (kinds.count("rate"), kinds.count("encoder")) == (2, 2 * (2 + 2))
    assert len({artifact.label for artifact in made.artifacts}) == len(made.artifacts)
    assert {encoder.rate and encoder.rate.key for encoder in made.encoders.values()} == set(made.rates)
    assert not set(made.encoders) & made.trials


def test_seeds_methods_and_protocols_that_are_added_change_no_choice(knees: Path, stores: Path) -> None:
    before = graph(knees, stores)
    more: dict[str, Any] = {"seeds": (0, 1), "methods": ("byol", "simclr"), "evaluate__protocols": "knn,attentive"}
    after = graph(knees, stores, **more)
    assert set(before.rates) < set(after.rates)
    assert set(before.encoders) < set(after.encoders)


@pytest.mark.parametrize(
    "changes", [{"pretrain.tune_lr": [0.5, 1, 2]}, {"evaluate.inner_folds": 3}, {"pretrain.lr": 0.1}]
)
def test_what_decides_the_choice_decides_the_encoder(knees: Path, stores: Path, changes: dict[str, Any]) -> None:
    before, after = graph(knees, stores), graph(knees, stores, **changes)
    assert not set(before.rates) & set(after.rates)
    assert not set(before.encoders) & set(after.encoders)


def test_no_label_of_a_test_case_reaches_a_choice(knees: Path, stores: Path, tmp_path: Path) -> None:
    before = graph(knees, stores)
    tested = graph(relabelled(knees, tmp_path / "tested", "valid-acl.csv"), stores)
    trained = graph(relabelled(knees, tmp_path / "trained", "train-acl.csv"), stores)
    assert set(before.rates) == set(tested.rates)
    assert set(before.encoders) == set(tested.encoders)
    assert not set(before.evaluations) & set(tested.evaluations)
    assert not set(before.rates) & set(trained.rates)
    assert before.trials == trained.trials
    (ours,), (theirs,) = (next(iter(made.rates.values())).cases for made in (before, tested))
    assert (ours.indices, ours.y.tolist()) == (theirs.indices, theirs.y.tolist())


# Runs


@pytest.fixture(scope="module")
def interrupted(knees: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Listener]]:
    """A run that was stopped before its second trial and then ended, and what both calls made."""
    out = tmp_path_factory.mktemp("runs") / "run"

    class Stops(Listener):
        def started(self, artifact: str) -> None:
            super().started(artifact)
            if len(self.started_list) == 2:
                raise KeyboardInterrupt

    first, second = Stops(), Listener()
    with pytest.raises(KeyboardInterrupt):
        small_run(knees, out, progress=first, pretrain__tune_lr=FACTORS, **QUICK)
    assert small_run(knees, out, progress=second, pretrain__tune_lr=FACTORS, **QUICK).failures == {}
    return out, [first, second]


def rate_file(run: Path) -> Path:
    (path,) = run.glob("rates/*/rate.json")
    return path


def test_a_run_that_is_stopped_between_trials_repeats_none(interrupted: tuple[Path, list[Listener]]) -> None:
    run, listeners = interrupted
    made = [
        label for listener in listeners for label in listener.made if label.endswith("pretrained on mrnet sagittal")
    ]
    assert [label.partition(", ")[2].partition(",")[0] for label in made] == [
        "trial of lr 0.001", "trial of lr 0.004", "seed 0",
    ]  # fmt: skip
    assert len(list(run.glob("encoders/*"))) == 3


def test_the_encoder_is_trained_with_the_best_rate_and_carries_its_price(
    interrupted: tuple[Path, list[Listener]],
) -> None:
    run, _ = interrupted
    rate = read_model(rate_file(run), RateRecord)
    scores = {trial.factor: trial.score for trial in rate.trials}
    assert None not in scores.values()
    assert rate.factor == max(FACTORS, key=lambda factor: (scores[factor], -factor))
    assert any("edge of the grid" in note for note in rate.notes)
    (winner,) = (trial.encoder for trial in rate.trials if trial.factor == rate.factor)
    logs = [
        pd.read_csv(folder / LOG) for folder in (encoder_folder(run, "byol"), *run.glob(f"encoders/*-{winner[:10]}"))
    ]
    assert logs[0]["lr"].tolist() == logs[1]["lr"].tolist()
    board = pd.read_csv(run / "leaderboard.csv")
    assert board["tuned"].tolist() == ["0.5, 2"]
    assert board["lr"].tolist() == [rate.lr]
    assert board["tuning_seconds"].tolist() == pytest.approx([rate.seconds])
    assert board["tuning_flops"].tolist() == pytest.approx([2 * board["flops"][0]])
    text = (run / "leaderboard.md").read_text()
    assert "the learning rate of each method was chosen from 2 values (0.5, 2 times its recipe's)" in text


def test_a_chosen_rate_reproduces_without_trials_and_verifies(
    interrupted: tuple[Path, list[Listener]], tmp_path: Path
) -> None:
    run, _ = interrupted
    assert all(verdict.sound for verdict in verify(run))
    found = reproduce(encoder_folder(run, "byol"), Options(out=tmp_path / "again", device="cpu"))
    assert found.same, (found.reason, found.parts)
    assert not (tmp_path / "again" / "rates").exists()


def test_a_choice_that_does_not_follow_from_its_scores_is_found(
    interrupted: tuple[Path, list[Listener]], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(interrupted[0], tmp_path / "run"))
    rate = read_model(rate_file(run), RateRecord)
    other = next(factor for factor in FACTORS if factor != rate.factor)
    write_model(rate_file(run), rate.model_copy(update={"factor": other}))
    wrong = {verdict.name.partition("/")[0]: verdict for verdict in verify(run) if not verdict.sound}
    assert [one.field for one in wrong["rates"].differences] == ["factor"]
    assert [one.field for one in wrong["encoders"].differences] == ["rate.factor", "rate.lr"]


def test_other_test_labels_and_deleted_trials_repeat_evaluations_alone(
    interrupted: tuple[Path, list[Listener]], knees: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(interrupted[0], tmp_path / "run"))
    for folder in run.glob("*/*-trial-*"):
        shutil.rmtree(folder)
    root, listener = relabelled(knees, tmp_path / "knees", "valid-acl.csv"), Listener()
    assert small_run(root, run, progress=listener, pretrain__tune_lr=FACTORS, **QUICK).failures == {}
    assert listener.made == ["byol on tiny, seed 0: acl of mrnet sagittal, knn"]


def test_a_rate_that_diverges_is_not_chosen_and_not_tried_again(knees: Path, tmp_path: Path) -> None:
    for times in range(2):
        listener = Listener()
        fields = {"pretrain__tune_lr": (1.0, 1e30), **QUICK}
        assert small_run(knees, tmp_path / "run", progress=listener, **fields).failures == {}
        assert (len(listener.pretrained) > 0) is (times == 0)
    rate = read_model(rate_file(tmp_path / "run"), RateRecord)
    assert rate.factor == 1
    assert [bool(trial.problem) for trial in rate.trials] == [False, True]
    assert any("diverged with 1e+30" in note for note in rate.notes)


def test_a_dry_run_lists_and_prices_the_trials(knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*arguments(knees, tmp_path / "run", "--controls=none", "--tune-lr", "--dry-run", "--json")]) == 0
    line = json.loads(capsys.readouterr().out)
    rows = line["encoders"]
    assert [row["encoder"].partition(", ")[2].partition(",")[0] for row in rows] == [
        "trial of lr 0.0005", "trial of lr 0.002", "trial of lr 0.008", "seed 0",
    ]  # fmt: skip
    assert len({row["tflop"] for row in rows}) == 1
    assert "chosen from 3 values (0.25, 1, 4 times its recipe's)" in line["tuned"]
    assert list(tmp_path.iterdir()) == []
