"""The leaderboard and comparisons: rows, ranks, intervals, and what may stand in one table."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl3d.errors import RunError
from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.compare import holm
from ssl3d.evaluate.statistics.inference import interval
from ssl3d.results.folder import COMPARISONS, CURVES, EVALUATIONS, LEADERBOARD, LEADERBOARD_MD
from ssl3d.results.model import Primary
from ssl3d.results.read import read_results
from ssl3d.results.results import Evaluated, Failed, Results
from ssl3d.tables import comparisons, evaluations, leaderboard
from ssl3d.tables.columns import read_table
from ssl3d.tables.comparable import check_shared
from ssl3d.tables.formats.captions import remarks
from ssl3d.tables.formats.markdown import to_markdown
from ssl3d.tables.tables import Tables
from ssl3d.tables.write import write_tables
from ssl3d.task import Task
from tests.evaluate.estimates import auc_interval, paired_test
from tests.records import LABELS, aucs, by_column, encoder, evaluated, failed, results, with_prediction, write_run


def tables(*found: Evaluated | Failed) -> Tables:
    return Tables(results(*found))


def three_methods(protocol: str = "linear", seeds: int = 1) -> list[Evaluated]:
    """Two that cannot be separated, and one far below them."""
    kinds = {"byol": (1.6, 1), "simclr": (1.6, 5), "random": (0.0, 3)}
    return [
        evaluated(name, seed, strength, noise=noise, protocol=protocol)
        for name, (strength, noise) in kinds.items()
        for seed in range(seeds)
    ]


def test_there_is_one_row_per_method_and_protocol_best_first() -> None:
    table = tables(*three_methods(), *three_methods("knn")).leaderboard
    assert list(table["protocol"]) == ["linear"] * 3 + ["knn"] * 3
    for _, rows in table.groupby("protocol"):
        assert rows["auc"].is_monotonic_decreasing
        assert set(rows["method"]) == {"byol", "simclr", "random"}
    assert (table["ci_low"] < table["auc"]).all()
    assert (table["auc"] < table["ci_high"]).all()


def test_methods_that_cannot_be_separated_share_a_rank_and_a_letter() -> None:
    table = by_column(tables(*three_methods(seeds=5)).leaderboard)
    assert table["byol"]["rank"] == table["simclr"]["rank"] == 1
    assert table["random"]["rank"] == 3
    assert table["byol"]["group"] == table["simclr"]["group"] == "a"
    assert table["random"]["group"] == "b"


def test_one_seed_is_one_encoder_and_has_no_rank() -> None:
    made = tables(*three_methods())
    table = by_column(made.leaderboard)
    assert all(pd.isna(row["rank"]) for row in table.values())
    assert [row["group"] for row in table.values()] == ["a", "a", "b"]
    verdicts = made.comparisons.set_index(["method_a", "method_b"])["verdict"]
    assert verdicts["byol", "random"] == "this encoder of byol scores better than this encoder of random"
    assert "methods have no rank" in remarks(made.leaderboard)
    one = [one for one in three_methods(seeds=5) if one.encoder.recipe.method != "byol" or one.encoder.recipe.seed == 0]
    mixed = tables(*one)
    ranked = by_column(mixed.leaderboard)
    assert pd.isna(ranked["byol"]["rank"])
    assert (ranked["simclr"]["rank"], ranked["random"]["rank"]) == (1, 2)
    assert "Rows with one seed are of one encoder" in remarks(mixed.leaderboard)


def test_one_seed_has_delongs_interval_and_test() -> None:
    a, b = evaluated("byol", noise=1), evaluated("simclr", noise=2)
    p = {"byol": a.predictions["p_1"].to_numpy(), "simclr": b.predictions["p_1"].to_numpy()}
    made = tables(a, b)
    row = made.leaderboard.set_index("method").loc["byol"]
    expected = auc_interval(LABELS, p["byol"])
    assert (row["auc"], row["ci_low"], row["ci_high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    assert (row["interval"], row["seeds"], np.isnan(row["spread"])) == ("DeLong", 1, True)
    pair = made.comparisons.iloc[0]
    test = paired_test(LABELS, p[pair["method_a"]], p[pair["method_b"]])
    assert (pair["p"], pair["p_holm"], pair["difference"]) == pytest.approx((test.p, test.p, test.estimate))
    assert pair["test"] == "DeLong"


def test_several_seeds_are_averaged_with_their_spread() -> None:
    seeds = [evaluated("byol", seed, strength=1 + seed / 4, noise=1) for seed in range(3)]
    row = tables(*seeds).leaderboard.iloc[0]
    assert row["auc"] == pytest.approx(np.mean(aucs(seeds)))
    assert row["spread"] == pytest.approx(np.std(aucs(seeds), ddof=1))
    assert (row["seeds"], row["interval"], row["pretrain_seconds"]) == (3, "DeLong and seeds", 11.0)


def test_tables_are_the_same_in_any_order_of_evaluations() -> None:
    found = [evaluated(method, seed, noise=n) for n, method in enumerate("abc") for seed in range(2)]
    one, other = tables(*found), tables(*found[::-1])
    pd.testing.assert_frame_equal(one.leaderboard, other.leaderboard, check_exact=False, rtol=1e-12)
    pd.testing.assert_frame_equal(one.comparisons, other.comparisons, check_exact=False, rtol=1e-12)


def test_predictions_are_joined_by_case_not_by_order() -> None:
    order = np.random.default_rng(0).permutation(len(LABELS))
    straight = tables(evaluated("byol", noise=1), evaluated("simclr", noise=2))
    shuffled = tables(evaluated("byol", noise=1), evaluated("simclr", noise=2, order=order))
    pd.testing.assert_frame_equal(straight.comparisons, shuffled.comparisons)


def test_p_values_are_corrected_over_all_pairs_of_a_protocol() -> None:
    found = [
        evaluated(name, noise=i, strength=1 + 0.1 * i, protocol=protocol)
        for protocol in ("linear", "knn")
        for i, name in enumerate("abcd")
    ]
    table = tables(*found).comparisons
    assert list(table.groupby("protocol").size()) == [6, 6]
    assert (table["p_holm"] >= table["p"]).all()
    for _, rows in table.groupby("protocol"):
        assert rows["p_holm"].min() == pytest.approx(min(1.0, 6 * rows["p"].min()))


def test_verdicts_are_words() -> None:
    table = tables(*three_methods(seeds=5)).comparisons.set_index(["method_a", "method_b"])
    assert table.loc[("byol", "random"), "verdict"] == "byol better than random"
    tied = table[table.index.map(lambda pair: "random" not in pair)].iloc[0]
    assert tied["verdict"] == "cannot be separated"
    assert tied["smallest_detectable"] > tied["difference"]


def test_failed_evaluations_stay_in_the_table_with_their_reason() -> None:
    made = tables(
        evaluated("byol"), failed("moco"), evaluated("simclr", noise=4), failed("simclr", 1, "the loss is not finite")
    )
    table = by_column(made.leaderboard)
    assert table["moco"]["status"] == "failed"
    assert table["moco"]["note"] == "seed 0 failed: out of memory"
    assert pd.isna(table["moco"]["rank"])
    assert table["simclr"]["status"] == "partial"
    assert "seed 1 failed: the loss is not finite" in table["simclr"]["note"]
    assert list(table) == ["byol", "simclr", "moco"]
    assert len(made.evaluations.query("status == 'failed'")) == 2


def test_a_failed_evaluation_joins_the_row_with_its_code() -> None:
    edited = {"sources": {"method": "ed17ed"}}
    both = [evaluated("byol"), evaluated("byol", noise=2, encoder_fields=edited)]
    broken = failed("byol", 1)
    broken = Failed(
        broken.evaluation, broken.encoder.model_copy(update={"sources": both[1].encoder.made_by.sources}), "no space"
    )
    made = tables(*both, broken)
    (row,) = (entry for entry in made.entries if entry.failed)
    assert row.done == (both[1],)


def test_nothing_but_failures_is_still_a_table() -> None:
    made = tables(failed("moco"), failed("moco", protocol="knn"))
    assert list(made.leaderboard["status"]) == ["failed", "failed"]
    assert made.comparisons.empty
    assert Tables(Results()).leaderboard.empty


def test_one_class_in_the_test_set_leaves_no_auc_and_says_why() -> None:
    labels = np.ones(20, int)
    made = tables(evaluated("byol", labels=labels), evaluated("simclr", labels=labels, noise=3))
    assert made.leaderboard["auc"].isna().all()
    assert made.leaderboard["rank"].isna().all()
    assert made.leaderboard["note"].str.contains("no auc: all 20 test cases are of class 1").all()
    assert made.comparisons.empty


def test_an_auc_of_zero_is_a_number() -> None:
    made = tables(evaluated("byol", strength=-40.0), evaluated("simclr", noise=3))
    row = made.leaderboard.set_index("method").loc["byol"]
    assert (row["auc"], row["sensitivity"], row["ci_low"]) == (0.0, 0.0, 0.0)
    assert made.comparisons.iloc[0]["score_b"] == 0.0
    assert made.evaluations["auc"].tolist() == [0.0, made.leaderboard["auc"].max()]


def test_more_than_two_classes_have_the_interval_of_their_macro_auc() -> None:
    labels = np.arange(90) % 3
    found = [evaluated(name, labels=labels, K=3, noise=i, strength=1.5 - i) for i, name in enumerate("ab")]
    made = tables(*found)
    assert set(made.leaderboard["interval"]) == {"DeLong"}
    p = found[0].predictions[["p_0", "p_1", "p_2"]].to_numpy()
    expected = interval(estimate_auc(labels, p[None]))
    row = made.leaderboard.iloc[0]
    assert (row["auc"], row["ci_low"], row["ci_high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high)
    )
    assert made.leaderboard["sensitivity"].isna().all()
    assert made.leaderboard["log_loss"].notna().all()
    assert made.comparisons["verdict"].str.fullmatch("this encoder of a scores better than this encoder of b").all()


def test_the_same_encoder_reached_twice_counts_once() -> None:
    published = encoder("kinetics", recipe={"pretrain": None, "corpus": ()})
    table = tables(*(evaluated(of=published, recipe={"seed": seed}) for seed in (0, 1, 2))).leaderboard
    assert table["seeds"].tolist() == [1]
    assert table["note"].isna().all()


def test_two_encoders_of_one_seed_count_once_with_a_note() -> None:
    one = evaluated("byol")
    other = evaluated("byol", of=one.encoder.model_copy(update={"key": "beef"}))
    table = tables(one, other).leaderboard
    assert table["seeds"].tolist() == [1]
    assert table["note"].tolist() == ["seed 0 has more than one encoder, the first is used"]


def test_other_settings_are_another_row() -> None:
    table = tables(
        evaluated("byol"), evaluated("byol", encoder_recipe={"backbone_config": {"width": 8}}, noise=5)
    ).leaderboard
    assert table["settings"].nunique() == len(table) == 2
    assert table["note"].isna().all()


@pytest.mark.parametrize(
    "changed",
    [{"encoder_fields": {"sources": {"method": "ed17ed"}}}, {"sources": {"protocol": "ed17ed"}}],
    ids=["method", "protocol"],
)
def test_two_versions_of_the_code_are_two_rows_and_the_notes_say_so(changed: dict[str, Any]) -> None:
    table = tables(evaluated("byol"), evaluated("byol", 1, noise=5, **changed)).leaderboard
    assert table["seeds"].tolist() == [1, 1]
    first, second = table["settings"]
    assert table["note"].tolist() == [
        f"its code differs from that of settings {second}",
        f"its code differs from that of settings {first}",
    ]
    assert "byol" in tables(evaluated("byol"), evaluated("byol", 1, **changed)).comparisons["method_a"].tolist()


@pytest.mark.parametrize("which", ["encoder", "evaluation"])
def test_versions_of_packages_that_differ_within_a_row_are_named(which: str) -> None:
    newer = {"torch": "2.9.0"}
    changed: dict[str, Any] = {"versions": newer} if which == "evaluation" else {"encoder_fields": {"versions": newer}}
    table = tables(evaluated("byol"), evaluated("byol", 1, **changed), evaluated("simclr", noise=2)).leaderboard
    notes = table.set_index("method")["note"]
    assert notes["byol"] == "made with several versions of packages: torch 2.8.0 and 2.9.0"
    assert pd.isna(notes["simclr"])


def test_exactness_labels_corpus_and_patients_stand_in_the_row() -> None:
    patients = [f"p{i // 2}" for i in range(len(LABELS))]
    seen = {"labels_used": True, "exactness": "not exact", "gradient_error": 0.7}
    made = tables(
        evaluated("supervised", encoder_fields=seen, patients=patients),
        evaluated("random", noise=1, encoder_recipe={"pretrain": None, "corpus": ()}, patients=patients),
    )
    board = made.leaderboard.set_index("method")
    table = by_column(made.leaderboard)
    assert board["labels_used"].to_dict() == {"supervised": True, "random": False}
    assert board["exactness"].to_dict() == {"supervised": "not exact", "random": "not trained"}
    assert table["supervised"]["gradient_error"] == 0.7
    assert pd.isna(table["random"]["gradient_error"])
    assert table["supervised"]["corpus"] == "demo sagittal"
    assert pd.isna(table["random"]["corpus"])
    assert (board["n_test"] == 120).all()
    assert (board["n_test_patients"] == 60).all()
    assert made.evaluations["n_test_patients"].tolist() == [60, 60]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("fingerprint", "beef", "data fingerprint differs ('f00d' and 'beef')"),
        ("n_train", 299, "number of training cases differs (300 and 299)"),
    ],
)
def test_what_is_not_comparable_is_refused_with_the_reason(field: str, value: object, said: str) -> None:
    made = tables(evaluated("byol"), evaluated("simclr", data={field: value}))
    with pytest.raises(RunError) as error:
        made.leaderboard  # noqa: B018
    assert said in str(error.value)
    assert "demo-acl/byol-tiny-s0-linear" in str(error.value)
    assert "demo-acl/simclr-tiny-s0-linear" in str(error.value)


def test_other_inner_folds_or_protocol_settings_are_refused() -> None:
    made = tables(evaluated("byol"), evaluated("simclr", recipe={"inner_folds": 3}))
    with pytest.raises(RunError, match=r"number of inner folds differs \(5 and 3\)"):
        made.leaderboard  # noqa: B018
    few, many = ({"protocol_config": {"neighbours": [n]}} for n in (5, 50))
    made = tables(evaluated("byol", protocol="knn", recipe=few), evaluated("simclr", protocol="knn", recipe=many))
    with pytest.raises(RunError, match=r"knn\.neighbours differs \(\[5\] and \[50\]\)"):
        made.leaderboard  # noqa: B018


def other_table(field: str, method: str = "random") -> Evaluated:
    if field == "data":
        return evaluated(method, recipe={"data": "knees"}, data={"fingerprint": "beef"})
    return evaluated(method, target="meniscus") if field == "task" else evaluated(method, plane="axial")


@pytest.mark.parametrize("field", ["data", "task", "plane"])
def test_other_data_sets_tasks_and_planes_stand_in_tables_of_their_own(field: str) -> None:
    made = tables(evaluated("byol"), evaluated("simclr", noise=2), other_table(field))
    board = made.leaderboard
    value = {"data": "knees", "task": "meniscus", "plane": "axial"}[field]
    assert list(board[board[field] == value]["method"]) == ["random"]
    assert (board[board[field] == value]["group"] == "a").all()
    assert set(made.comparisons[field]) == set(board[field]) - {value}


@pytest.mark.parametrize(("field", "said"), [("data", "data set"), ("task", "task"), ("plane", "plane")])
def test_runs_that_share_no_table_are_refused(field: str, said: str) -> None:
    one, other = results(evaluated("byol")), results(other_table(field, "simclr"))
    check_shared([one, one])
    check_shared([one, results(*one.evaluated, *other.evaluated)])
    with pytest.raises(RunError, match=f"runs cannot be compared: {said} differs"):
        check_shared([one, other])


def test_other_test_cases_or_labels_are_refused() -> None:
    ids = [f"{i:04d}" for i in range(len(LABELS))]
    for changed, said in (
        ({"ids": ["x", *ids[1:]]}, "case '0000' is in its test set or in that of the others"),
        ({"labels": np.array([1, 1, *LABELS[2:]])}, "its label of case '0000' differs"),
        ({"patients": ["x", *ids[1:]]}, "its patient of case '0000' differs"),
        ({"ids": ["0000", "0000", *ids[2:]]}, "predicts case '0000' twice"),
    ):
        made = tables(evaluated("byol"), evaluated("simclr", **changed))
        with pytest.raises(RunError, match=said):
            made.comparisons  # noqa: B018


def test_tables_come_back_from_disk_unchanged(tmp_path: Path) -> None:
    made = tables(*three_methods(), failed("moco"), evaluated("byol", 1, noise=9))
    write_tables(tmp_path, made)
    frames = {
        LEADERBOARD: (made.leaderboard, leaderboard.COLUMNS),
        COMPARISONS: (made.comparisons, comparisons.COLUMNS),
        EVALUATIONS: (made.evaluations, evaluations.COLUMNS),
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*frames, LEADERBOARD_MD])
    for name, (table, columns) in frames.items():
        pd.testing.assert_frame_equal(read_table(tmp_path / name, columns), table, check_exact=True)
        assert {c: str(t) for c, t in table.dtypes.items()} == {c: column.dtype for c, column in columns.items()}


def test_tables_from_a_run_folder_are_those_of_its_records(tmp_path: Path) -> None:
    made = tables(*three_methods(), failed("moco"), evaluated("byol", 1, noise=9))
    again = Tables(read_results(write_run(tmp_path, made.results)))
    for name in ("leaderboard", "comparisons", "evaluations"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(made, name), check_exact=True)


def test_an_evaluation_has_a_row_with_everything_that_is_known_of_it() -> None:
    one = evaluated("byol", 2, protocol="knn", notes=("folds reduced to 3",), recipe={"folds": 4, "fold": 1})
    row = tables(one).evaluations.iloc[0]
    assert (row["evaluation"], row["key"], row["encoder"]) == (one.record.name, one.record.key, one.encoder.name)
    assert (row["seed"], row["fold"], row["folds"], row["fingerprint"]) == (2, 1, 4, "f00d")
    assert row["auc"] == one.record.score.metrics["auc"]
    assert row["notes"] == "folds reduced to 3"
    assert '"torch": "2.8.0"' in row["versions"]
    assert pd.isna(row["draw"])


def multilabel(method: str, noise: int, strength: float = 1.0, positive: float = 0.5) -> Evaluated:
    """Two labels of one task, the second positive in a share of the cases."""
    task = Task(name="findings", kind="multilabel", classes=("edema", "fracture"))
    rng = np.random.default_rng([noise, 7])
    targets = np.stack([LABELS, (np.arange(len(LABELS)) < positive * len(LABELS)).astype(int)], axis=1)
    p = 1 / (1 + np.exp(-(strength * (2 * targets - 1) + rng.standard_normal(targets.shape))))
    return with_prediction(evaluated(method, noise=noise), task, targets, p)


def test_a_multi_label_task_is_the_mean_over_its_labels() -> None:
    made = tables(multilabel("byol", 1, 1.5), multilabel("simclr", 2), multilabel("random", 3, 0.0))
    row = made.leaderboard.set_index("method").loc["byol"]
    metrics = made.results.evaluated[0].record.score.metrics
    assert row["auc"] == pytest.approx(metrics["auc"])
    assert (row["interval"], row["kind"], row["n_test"]) == ("DeLong", "multilabel", 120)
    assert row["ci_low"] < row["auc"] < row["ci_high"]
    assert made.comparisons["primary"].sum() == 3
    assert '"auc:edema"' in made.evaluations.iloc[0]["by_label"]
    one_label = tables(multilabel("byol", 1, positive=0.0), multilabel("simclr", 2, positive=0.0))
    assert one_label.leaderboard["auc"].notna().all()
    assert set(one_label.leaderboard["interval"]) == {"DeLong"}


def test_each_label_has_its_interval_and_its_tests() -> None:
    made = tables(multilabel("byol", 1, 1.5), multilabel("simclr", 2), multilabel("random", 3, 0.0))
    scores = made.scores.set_index(["method", "label"])
    metrics = made.results.evaluated[0].record.score.metrics
    for label in ("edema", "fracture"):
        row = scores.loc["byol", label]
        assert row["score"] == pytest.approx(metrics[f"auc:{label}"])
        assert row["ci_low"] < row["score"] < row["ci_high"]
        pairs = made.comparisons[made.comparisons["label"] == label]
        assert not pairs["primary"].any()
        assert list(pairs["p_holm"]) == pytest.approx(list(holm(list(pairs["p"]))))  # a family of its own


def test_a_regression_is_ranked_by_its_error() -> None:
    task = Task(name="age", kind="regression", classes=())
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 80, len(LABELS))
    found = [
        with_prediction(evaluated(name, seed), task, ages, (ages + rng.normal(0, width, len(ages)))[:, None])
        for name, width in (("a", 9.0), ("b", 3.0), ("c", 8.5))
        for seed in range(3)
    ]
    made = tables(*found)
    assert list(made.leaderboard["method"]) == ["b", "c", "a"]
    assert list(made.leaderboard["rank"]) == [1, 2, 2]
    assert (made.leaderboard["score"] == made.leaderboard["mae"]).all()
    assert (made.leaderboard["ci_low"] < made.leaderboard["score"]).all()
    primary = made.comparisons[made.comparisons["primary"]]
    assert list(primary["verdict"]) == ["b better than c", "b better than a", "cannot be separated"]
    assert (primary["difference"] <= 0).all()  # the better one has the smaller error
    further = made.comparisons.groupby("metric")["difference"].max()
    assert further[["r2", "spearman"]].min() > 0
    assert list(made.scores[made.scores["method"] == "b"]["metric"]) == ["mae", "r2", "spearman"]
    text = to_markdown(made.leaderboard, made.comparisons)
    assert "| protocol | rank | method | backbone | MAE | group |" in text
    assert "A true difference in MAE smaller than about" in text


def test_an_ordinal_task_is_ranked_by_kappa_and_compared_by_rank_correlation_too() -> None:
    task = Task(name="grade", kind="ordinal", classes=("none", "some", "all"))
    labels = np.arange(120) % 3
    found = [
        evaluated(name, target=task, labels=labels, K=3, strength=s, noise=i)
        for i, (name, s) in enumerate([("byol", 3.0), ("random", 0.5)])
    ]
    made = tables(*found)
    assert list(made.leaderboard["metric"]) == ["quadratic_kappa"] * 2
    metrics = found[0].record.score.metrics
    scores = made.scores[made.scores["method"] == "byol"].set_index("metric")["score"]
    assert dict(scores) == pytest.approx({name: metrics[name] for name in ("quadratic_kappa", "spearman", "auc")})
    assert set(made.comparisons["metric"]) == {"quadratic_kappa", "spearman", "auc"}


def test_the_primary_comparison_is_the_first_one_requested() -> None:
    found = [
        evaluated(name, protocol=protocol, noise=i) for i, name in enumerate("ab") for protocol in ("knn", "linear")
    ]
    made = tables(*found)
    assert set(made.leaderboard[made.leaderboard["primary"]]["protocol"]) == {"knn"}
    text = to_markdown(made.leaderboard, made.comparisons)
    assert "The knn rows are the primary comparison of this run, fixed by its first request" in text


def test_the_primary_comparison_does_not_move_to_what_is_complete_or_was_added() -> None:
    found = [evaluated(name, target=task, noise=i) for i, name in enumerate("ab") for task in ("acl", "meniscus")]
    asked = Primary(data="demo", protocol="linear", tasks=("acl",), planes=("sagittal",))
    pending, grown = (Tables(replace(results(*of), primary=asked)) for of in (found[1::2], found))
    assert pending.leaderboard["primary"].isna().all()
    assert "primary" not in to_markdown(pending.leaderboard, pending.comparisons)
    assert set(grown.leaderboard[grown.leaderboard["primary"]]["task"]) == {"acl"}  # not the mean
    assert "This table is exploratory" in to_markdown(grown.leaderboard, grown.comparisons)


def test_few_cases_of_a_class_are_noted() -> None:
    labels = np.repeat([0, 1], [110, 10])
    row = tables(evaluated(labels=labels), evaluated("simclr", labels=labels)).leaderboard.iloc[0]
    assert "10 test patients of the smallest class, fewer than 20: the interval is approximate" in row["note"]
    assert row["about"] == "encoders"


def test_a_task_of_which_a_method_failed_leaves_the_mean_of_the_others_alone() -> None:
    grade = Task(name="grade", kind="ordinal", classes=("none", "some", "all"))
    found = [evaluated(name, target=task, noise=i) for i, name in enumerate("ab") for task in ("acl", "meniscus")]
    ordinal = evaluated("a", target=grade, labels=np.arange(120) % 3, K=3)
    board = tables(*found, ordinal, failed("b", recipe={"task": "grade"})).leaderboard
    means = board[board["task"].str.startswith("mean")]
    assert list(means["task"]) == ["mean of acl, meniscus"] * 2
    assert means["score"].notna().all()


def test_tables_load_neither_torch_nor_scikit_learn(tmp_path: Path) -> None:
    write_run(tmp_path, results(*three_methods(), evaluated("byol", recipe={"labels": 0.5})))
    code = (
        "import sys; from pathlib import Path; import ssl3d.tables.dictionary, ssl3d.tables.baseline; "
        "import ssl3d.tables.formats.render; from ssl3d.results.read import read_results; "
        "from ssl3d.tables.tables import Tables; from ssl3d.tables.write import write_tables; "
        "run = Path(sys.argv[1]); write_tables(run, Tables(read_results(run))); "
        "sys.exit(', '.join({'torch', 'sklearn'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert (tmp_path / CURVES).exists()
