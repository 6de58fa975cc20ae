"""A paired bootstrap of AUCs over test cases, with the variance of seeds. Loads neither torch nor scikit-learn.

Cases are resampled within their class. A resample of all n cases underestimates the variance by (n - 1)/n, so n - 1
cases are drawn, each of weight n/(n - 1), which is unbiased (Rao & Wu 1988, JASA 83:231). The variance of a class with
one case is unknown: the standard error is NaN, as with DeLong. The AUC in a resample is linear in the cases of each
side, positives and negatives: the sum of their structural components, resampled. Their joint effect is omitted; it is
of second order, and DeLong's components, which are means over the finite other side, contain it already. With one seed
and two classes this is DeLong's variance, up to the error of finitely many draws.

Methods that are compared share the resamples, so a difference is paired. Several tasks of the same cases share them,
too: their AUCs are correlated. Fixing the class sizes of one task would then constrain the other tasks, so cases are
resampled regardless of their labels, and a draw that lacks a class of any task is drawn again.

Several seeds of a method are several readers of the same cases: a crossed design. Resampling cases and seeds at once
counts the interaction of both three times (Owen 2007, Ann. Appl. Stat. 1:386; measured here: intervals of 95% that
cover 98%). So the cases are resampled, and the seeds' own component is added without bias, as in the analysis of
several readers and cases (Gallas 2006, Acad. Radiol. 13:353):

    Var(mean over S seeds) = Var_cases(mean) + max(0, s^2 - v) / S
    v = (mean_s Var_cases(AUC_s) - Var_cases(mean)) S / (S - 1)

where s^2 is the variance of the AUC over seeds, and v the part of it that comes from this sample of cases. With few
seeds that component is uncertain itself: Student's t with Satterthwaite's degrees of freedom allows for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl3d.evaluate.statistics.delong import components

DRAWS = 2000


@dataclass(frozen=True)
class Resampled:
    """The AUCs of one method's seeds on the test cases, and on resampled cases.

    Attributes:
        aucs: (S,).
        draws: (draws, S), linearised; NaN where a class has one case.
    """

    aucs: np.ndarray
    draws: np.ndarray

    def grouped(self, seeds: int) -> Resampled:
        """Return the mean of the repetitions of each seed: S repetitions, seed after seed, become ``seeds``.

        The variance over these means contains that of seeds and, divided by their number, that of repetitions.
        """
        return Resampled(
            self.aucs.reshape(seeds, -1).mean(axis=1), self.draws.reshape(len(self.draws), seeds, -1).mean(axis=2)
        )

    @property
    def seed_variance(self) -> float:
        """Variance of the mean AUC due to the seeds themselves; 0 for one seed, where it is unknown."""
        S = len(self.aucs)
        if S == 1:
            return 0.0
        of_mean, of_each = self.draws.mean(axis=1).var(ddof=1), self.draws.var(axis=0, ddof=1).mean()
        interaction = (of_each - of_mean) * S / (S - 1)
        return float(max(0.0, self.aucs.var(ddof=1) - interaction) / S)


def standard_error(a: Resampled, b: Resampled | None = None) -> tuple[float, float]:
    """Return the standard error of the mean AUC of ``a``, or of its difference from that of ``b``.

    Args:
        a: one method.
        b: another one, on the same resampled cases; its seeds are independent of those of ``a``.

    Returns:
        (standard error, degrees of freedom); the former is NaN where a class has one case, the latter are infinite
        where no variance is due to seeds.
    """
    methods = [a] if b is None else [a, b]
    draws = a.draws.mean(axis=1) - (0.0 if b is None else b.draws.mean(axis=1))
    seeds = [(method.seed_variance, len(method.aucs) - 1) for method in methods]
    variance = float(draws.var(ddof=1)) + sum(part for part, _ in seeds)
    uncertain = sum(part**2 / free for part, free in seeds if part > 0)
    return float(np.sqrt(variance)), variance**2 / uncertain if uncertain > 0 else float("inf")


def resample_cases(labels: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the weight of each case, (draws, N) float64; every class keeps the sum of its own in every draw.

    Of a class of n cases n - 1 are drawn, of weight n / (n - 1); a class of one case is left as it is.
    """
    counts = np.ones((draws, len(labels)))
    for value in np.unique(labels):
        members = np.flatnonzero(labels == value)
        n = len(members)
        if n > 1:
            counts[:, members] = rng.multinomial(n - 1, np.full(n, 1 / n), size=draws) * (n / (n - 1))
    return counts


def resample_jointly(labels: Sequence[np.ndarray], draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each case is drawn, (draws, N) float64, for several labellings (N,) of the same cases.

    Every draw has a case of each class of every labelling; the sizes of the classes vary.
    """
    members = np.stack([y == value for y in labels for value in np.unique(y)]).astype(float)  # (classes of all, N)
    N = members.shape[1]
    counts = np.zeros((draws, N))
    lacking = np.arange(draws)
    while len(lacking):
        counts[lacking] = rng.multinomial(N, np.full(N, 1 / N), size=len(lacking))
        lacking = lacking[((counts[lacking] @ members.T) == 0).any(axis=1)]
    return counts


def mean_of(parts: Sequence[Resampled]) -> Resampled:
    """Return the mean over tasks or folds, seed by seed; with one part, that part."""
    return Resampled(np.mean([part.aucs for part in parts], axis=0), np.mean([part.draws for part in parts], axis=0))


def resample(labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> Resampled:
    """Return AUCs of one method on the cases, and linearised on resamples: of class 1 for K = 2, macro for more.

    Args:
        labels: (N,) integers, every class present. Where one has a single case the draws are NaN: its variance is
            unknown, and so is the standard error.
        probabilities: (S, N, K), one layer per seed.
        counts: (draws, N) from :func:`resample_cases` or :func:`resample_jointly`; the same for all methods that are
            compared.
    """
    K = probabilities.shape[2]
    classes = (1,) if K == 2 else range(K)
    found = mean_of([_one_class(labels == k, probabilities[:, :, k], counts) for k in classes])
    single = np.unique(labels, return_counts=True)[1].min() < 2
    return Resampled(found.aucs, np.full_like(found.draws, np.nan)) if single else found


def _one_class(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> Resampled:
    """AUCs of scores (S, N), and their linearised values on resamples of both sides."""
    found = components(positive.astype(int), scores)
    sides = [(positive, found.positive), (~positive, found.negative)]
    means = [counts[:, members] @ part.T / counts[:, members].sum(axis=1)[:, None] for members, part in sides]
    return Resampled(found.auc, means[0] + means[1] - found.auc)
