"""How often intervals cover the true AUC, equal methods are separated, and a better one is found.

    OMP_NUM_THREADS=1 python benchmarks/simulation/coverage.py

Tables of four methods. A score is binormal: the class, at a distance that differs by seed, plus three kinds of noise:
of the case (half of the variance), of the case for this method (a fifth), and of the case for this seed. So methods are
compared on the same cases, and cases and seeds are random. Seeds vary as on AdrenalMNIST3D, by a standard deviation of
the AUC of .025 at .77; or not at all; or four methods by .005, .015, .025 and .05, as untrained encoders vary less.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import scipy
from scipy.special import ndtri

from ssl3d.evaluate.statistics.auc import estimate_auc
from ssl3d.evaluate.statistics.compare import holm
from ssl3d.evaluate.statistics.estimate import Block, Estimate, total
from ssl3d.evaluate.statistics.inference import satterthwaite, standard_error
from ssl3d.evaluate.statistics.limits import logit_limits, two_sided

METHODS = 4
CHUNK = 250  # tables at once
OF_CASE, OF_METHOD = 0.5, 0.2  # shares of the variance of a score
AT, DEVIATION = 0.77, 0.025  # AdrenalMNIST3D: mean AUC, and its standard deviation over seeds
MEASURED = DEVIATION * np.sqrt(2) * np.sqrt(2 * np.pi) * np.exp(ndtri(AT) ** 2 / 2)  # the same, of the distance
SPREADS = {"none": (0.0,) * 4, "measured": (1.0,) * 4, "unequal": (0.2, 0.6, 1.0, 2.0)}
Rule = Callable[[Estimate, Estimate | None, Sequence[Estimate]], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Condition:
    """What is simulated.

    Attributes:
        n: number of test cases.
        auc: true AUC, over cases and seeds.
        minority: share of positives.
        seeds: of each method.
        spread: how seeds vary, a key of :data:`SPREADS`.
        lift: by how much the first method is better.
        patients: number of patients that the cases are of; None: one case each. The cases of a patient share the class,
            and half of the noise that a case has for all methods, and for each method.
    """

    n: int
    auc: float
    minority: float
    seeds: int
    spread: str = "measured"
    lift: float = 0.0
    patients: int | None = None


class Outcome(NamedTuple):
    """Shares of all intervals that cover, of tables with a false verdict, of verdicts on the better method found."""

    coverage: float
    false_tables: float
    power: float


def shipped(a: Estimate, b: Estimate | None, _: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """The rule of the tables."""
    return standard_error(a, b)


def truncated(a: Estimate, b: Estimate | None, _: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom from the truncated component of the seeds alone: the rule before."""
    variance = total(a.terms(b))
    terms = []
    for method in [a] if b is None else [a, b]:
        if method.scores.shape[-1] > 1:
            of_seeds, of_sample = method.seed_variances
            terms.append((np.maximum(0.0, of_seeds - of_sample), method.scores.shape[-1] - 1))
            variance = variance + terms[-1][0]
    return np.sqrt(variance), satterthwaite(variance, terms or [(np.zeros_like(variance), 1)])


def pooled(a: Estimate, b: Estimate | None, table: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """As the rule of the tables, with the variance over seeds pooled over the methods of a table."""
    S, terms = a.scores.shape[-1], a.terms(b)
    variance = total(terms)
    if S > 1:
        of_seeds = np.mean([method.seed_variances[0] for method in table], axis=0)
        of_sample = [method.seed_variances[1] for method in ([a] if b is None else [a, b])]
        variance = variance + np.sum([np.maximum(0.0, of_seeds - one) for one in of_sample], axis=0)
        terms.append((np.sum([np.maximum(of_seeds, one) for one in of_sample], axis=0), (S - 1) * len(table)))
    return np.sqrt(variance), satterthwaite(variance, terms)


RULES: dict[str, Rule] = {"before": truncated, "now": shipped, "pooled": pooled}


def simulate(condition: Condition, tables: int, rng: np.random.Generator, *, as_cases: bool = False) -> list[Estimate]:
    """Return the estimates of each method, with AUCs (tables, S); ``as_cases`` takes every case for a patient."""
    n, S = condition.n, condition.seeds
    if condition.patients is None:
        patients, labels = np.arange(n), np.repeat([1, 0], [(m := max(2, round(n * condition.minority))), n - m])
    else:
        patients = np.concatenate([np.arange(condition.patients), rng.integers(condition.patients, size=n)])[:n]
        positive = rng.permutation(condition.patients) < condition.patients * condition.minority
        labels = positive[patients].astype(int)
    members = None if condition.patients is None or as_cases else patients
    of_case = _noise(rng, (tables,), patients, condition) * np.sqrt(OF_CASE)
    found = []
    for index, spread in enumerate(np.array(SPREADS[condition.spread]) * MEASURED):
        auc = condition.auc + (condition.lift if index == 0 else 0.0)
        distance = ndtri(auc) * np.sqrt(2 + spread**2) + spread * rng.standard_normal((tables, S, 1))
        of_method = _noise(rng, (tables,), patients, condition) * np.sqrt(OF_METHOD)
        scores = (of_case + of_method)[:, None] + labels * distance
        scores += np.sqrt(1 - OF_CASE - OF_METHOD) * rng.standard_normal((tables, S, n))
        flat = scores.reshape(-1, n)
        found.append(_shaped(estimate_auc(labels, np.stack([-flat, flat], axis=2), members), (tables, S)))
    return found


def _noise(rng: np.random.Generator, shape: tuple[int, ...], patients: np.ndarray, condition: Condition) -> np.ndarray:
    own = rng.standard_normal((*shape, condition.n))
    if condition.patients is None:
        return own
    of_patient = rng.standard_normal((*shape, condition.patients))[..., patients]
    return np.asarray(np.sqrt(0.5) * (own + of_patient))


def _shaped(of: Estimate, shape: tuple[int, int]) -> Estimate:
    """Return estimates whose seeds are those of several tables, table after table, as one with an axis of tables."""
    (block,) = of.blocks
    parts = block.parts.reshape(*block.parts.shape[:2], *shape)
    return Estimate(of.scores.reshape(shape), (Block(parts, block.present),))


def outcomes(
    condition: Condition, tables: int, seed: int, rules: Iterable[str] = ("now",), *, as_cases: bool = False
) -> dict[str, Outcome]:
    """Return what the intervals and verdicts of each rule come to, on the same simulated tables."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Outcome]] = {name: [] for name in rules}
    sizes = [min(CHUNK, tables - begin) for begin in range(0, tables, CHUNK)]
    for size in sizes:
        table = simulate(condition, size, rng, as_cases=as_cases)
        for name, each in found.items():
            each.append(_outcome(condition, table, RULES[name], widen=name != "before"))
    return {name: Outcome(*np.average(each, axis=0, weights=sizes).tolist()) for name, each in found.items()}


def _outcome(condition: Condition, table: Sequence[Estimate], rule: Rule, *, widen: bool) -> Outcome:
    covered = []
    for index, method in enumerate(table):
        auc, (se, df) = method.scores.mean(axis=-1), rule(method, None, table)
        averaged = 1 if widen else 10**9  # so many are never widened
        low, high = logit_limits(auc, se, method.smallest, df=df, averaged=averaged)
        true = condition.auc + (condition.lift if index == 0 else 0.0)
        covered.append(((low <= true) & (true <= high)).mean())
    p = []
    for a, b in combinations(table, 2):
        se, df = rule(a, b, table)
        p.append(two_sided(a.scores.mean(axis=-1) - b.scores.mean(axis=-1), se, a.smallest, df))
    separated = np.stack([holm(row) < 0.05 for row in np.stack(p, axis=1)])  # (tables, pairs); the first method's first
    false = separated[:, METHODS - 1 :] if condition.lift else separated
    return Outcome(float(np.mean(covered)), float(false.any(axis=1).mean()), float(separated[:, : METHODS - 1].mean()))


SIZES, AUCS, MINORITIES, SEEDS = (120, 300), (0.6, 0.77, 0.85, 0.97), (0.05, 0.2, 0.5), (2, 3, 5)
Found = dict[Condition, dict[str, Outcome]]


def grid(seeds: int, spread: str) -> list[Condition]:
    """Return the conditions of every size, AUC and share of positives."""
    return [Condition(n, auc, share, seeds, spread) for n in SIZES for auc in AUCS for share in MINORITIES]


def lifted(condition: Condition) -> Condition:
    """Return the condition with one better method: by .08, or by as much as leaves room below 1."""
    return replace(condition, lift=min(0.08, 0.7 * (1 - condition.auc)))


def main() -> None:
    """Simulate every condition and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000, help="simulated tables per condition")
    tables = parser.parse_args().tables
    began = time.monotonic()
    groups = [(1, "none"), (1, "measured"), *((S, spread) for spread in ("measured", "unequal", "none") for S in SEEDS)]
    found = {group: _simulated(grid(*group), tables) for group in groups}
    power = {group: _simulated(map(lifted, grid(*group)), tables // 3) for group in groups if group[1] != "none"}
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"{tables} tables per condition, {tables // 3} for power, in {time.monotonic() - began:.0f} s.")
    print(f"{platform.machine()}, {versions}.")
    print("\n## All conditions\n")
    print(_summary(found, power))
    print("\n## Each condition: coverage, and tables with a false verdict, in %\n")
    print(_detail({group: found[group] for group in groups if group == (1, "none") or group[1] == "measured"}))
    print("\n## Several cases of a patient: 300 cases of 120 patients\n")
    print(_patients(tables))


def _simulated(conditions: Iterable[Condition], tables: int) -> Found:
    return {one: outcomes(one, tables, seed, RULES) for seed, one in enumerate(conditions)}


def _summary(found: dict[tuple[int, str], Found], power: dict[tuple[int, str], Found]) -> str:
    columns = ["coverage, smallest", "mean", "largest", "false tables, mean", "largest", "power, mean"]
    head = ["seeds", "spread", "rule", *columns]
    rows = []
    for group, of_group in found.items():
        for rule in RULES:
            if rule == "pooled" and group[0] == 1:
                continue
            cover, false, _ = np.transpose([one[rule] for one in of_group.values()])
            mean = np.mean([one[rule].power for one in power[group].values()]) if group in power else None
            shares = [cover.min(), cover.mean(), cover.max(), false.mean(), false.max(), mean]
            rows.append([str(group[0]), group[1], rule, *(_percent(share) for share in shares)])
    return _markdown(head, rows)


def _detail(found: dict[tuple[int, str], Found]) -> str:
    head = ["n", "AUC", "positives", *(f"{S} seed{'s' * (S > 1)}, {spread}" for S, spread in found)]
    rows = []
    for index, first in enumerate(next(iter(found.values()))):
        each = [list(of_group.values())[index]["now"] for of_group in found.values()]
        name = [str(first.n), f"{first.auc:g}", f"{first.minority:.0%}"]
        rows.append([*name, *(f"{_percent(one.coverage)}, {_percent(one.false_tables)}" for one in each)])
    return _markdown(head, rows)


def _patients(tables: int) -> str:
    head = ["AUC", "seeds", "counted", "coverage", "false tables"]
    rows = []
    for auc in (0.77, 0.85):
        for S, spread in ((1, "none"), (3, "measured")):
            one = Condition(300, auc, 0.3, S, spread, patients=120)
            for counted in ("patients", "cases"):
                made = outcomes(one, tables, 5, as_cases=counted == "cases")["now"]
                rows.append([f"{auc:g}", str(S), counted, _percent(made.coverage), _percent(made.false_tables)])
    return _markdown(head, rows)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
