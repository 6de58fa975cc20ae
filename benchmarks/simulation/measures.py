"""How often intervals of kappa, Spearman, R2 and MAE cover the true value, and equal methods are separated.

    OMP_NUM_THREADS=1 python benchmarks/simulation/measures.py

Tables of four methods. A prediction is the truth plus three kinds of noise, with shares of its variance: of a case for
all methods (a half), of a case for the method (a fifth), and of a case for the seed (the rest). Seeds also
differ in how much noise they have: its deviation varies by 5% (--spread 0.1: by 10%, which moves R2 by .1). For kappa,
truth and prediction are cut into four classes. The true value is the mean over thousands of seeds.
"""

from __future__ import annotations

import argparse
import platform
import time
from itertools import combinations

import numpy as np
import scipy

from ssl3d.evaluate.statistics.compare import holm
from ssl3d.evaluate.statistics.estimate import Estimate
from ssl3d.evaluate.statistics.inference import interval, paired
from ssl3d.evaluate.statistics.measures import MEASURES

METHODS, K = 4, 4
EDGES = np.array([-0.7, 0.0, 0.7])
NAMES = ("quadratic_kappa", "spearman", "r2", "mae")
NOISE = 0.8  # deviation of a prediction from the truth, in deviations of the truth


def table(name: str, n: int, seeds: int, rng: np.random.Generator, spread: float = 0.05) -> list[Estimate]:
    """Return the estimates of four equal methods on the same cases; ``spread`` is how seeds vary."""
    truth, of_case = rng.standard_normal((2, n))
    found = []
    for _ in range(METHODS):
        of_method = rng.standard_normal(n)
        size = NOISE * (1 + spread * rng.standard_normal(seeds))[:, None]
        noise = np.sqrt(0.5) * of_case + np.sqrt(0.2) * of_method + np.sqrt(0.3) * rng.standard_normal((seeds, n))
        guess = truth + size * noise  # (S, N)
        if name == "quadratic_kappa":
            y, p = np.digitize(truth, EDGES), np.eye(K)[np.digitize(guess, EDGES)]
        else:
            y, p = truth, guess[:, :, None]
        found.append(MEASURES[name].estimate(y, p, None))
    return found


def true_value(name: str, rng: np.random.Generator, spread: float = 0.05) -> float:
    """Return the mean score over thousands of seeds."""
    return float(np.mean([[one.scores.mean() for one in table(name, 1000, 50, rng, spread)] for _ in range(20)]))


def condition(
    name: str, n: int, seeds: int, tables: int, rng: np.random.Generator, *, true: float, spread: float = 0.05
) -> tuple[float, float]:
    """Return the coverage of intervals, and the share of tables with a false verdict."""
    covered, false = 0, 0
    for _ in range(tables):
        methods = table(name, n, seeds, rng, spread)
        limits = [interval(one) for one in methods]
        covered += sum(one.low <= true <= one.high for one in limits)
        false += bool((holm([paired(a, b).p for a, b in combinations(methods, 2)]) < 0.05).any())
    return covered / tables / METHODS, false / tables


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=500, help="tables per condition")
    parser.add_argument("--cases", type=int, nargs="+", default=[40, 120, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--spread", type=float, default=0.05, help="how the noise of seeds varies")
    given = parser.parse_args()
    rng, started = np.random.default_rng(0), time.monotonic()
    print("| score | true value | cases | seeds | coverage, % | false tables, % |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in NAMES:
        true = true_value(name, rng, given.spread)
        for n in given.cases:
            for seeds in given.seeds:
                covered, false = condition(name, n, seeds, given.tables, rng, true=true, spread=given.spread)
                print(
                    f"| {MEASURES[name].title} | {true:.3f} | {n} | {seeds} | {covered:.1%} | {false:.1%} |".replace(
                        "%", ""
                    )
                )
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    print(f"\n{given.tables} tables per condition, in {time.monotonic() - started:.0f} s. {versions}.")


if __name__ == "__main__":
    main()
