"""A paired bootstrap of AUCs over test cases, with the variance of seeds. Loads neither torch nor scikit-learn.

Cases are resampled within their class, as many as there are (more would make every interval too narrow). Methods that
are compared share the resamples, so a difference is paired. Several tasks of the same cases share them, too: their AUCs
move together. Then no class of one task can be kept at its size without tying down the others, so cases are resampled
whatever their labels, and a draw that lacks a class of any task is drawn again.

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

DRAWS = 2000
BLOCK = 1024  # negatives of the pair matrix that are in memory at one time


@dataclass(frozen=True)
class Resampled:
    """The AUCs of one method's seeds on the test cases, and on resampled cases.

    Attributes:
        aucs: (S,).
        draws: (draws, S).
    """

    aucs: np.ndarray
    draws: np.ndarray

    @property
    def seed_variance(self) -> float:
        """Variance of the mean AUC that is due to the seeds themselves; 0 for one seed: it cannot be known."""
        S = len(self.aucs)
        if S == 1:
            return 0.0
        of_mean, of_each = self.draws.mean(axis=1).var(ddof=1), self.draws.var(axis=0, ddof=1).mean()
        interaction = (of_each - of_mean) * S / (S - 1)
        return float(max(0.0, self.aucs.var(ddof=1) - interaction) / S)


def standard_error(a: Resampled, b: Resampled | None = None) -> tuple[float, float]:
    """Return the standard error of the mean AUC of ``a``, or of its difference to that of ``b``.

    Args:
        a: one method.
        b: another one, on the same resampled cases; its seeds are independent of those of ``a``.

    Returns:
        (standard error, degrees of freedom); the latter are infinite where no variance is due to seeds.
    """
    methods = [a] if b is None else [a, b]
    draws = a.draws.mean(axis=1) - (0.0 if b is None else b.draws.mean(axis=1))
    seeds = [(method.seed_variance, len(method.aucs) - 1) for method in methods]
    variance = float(draws.var(ddof=1)) + sum(part for part, _ in seeds)
    uncertain = sum(part**2 / free for part, free in seeds if part > 0)
    return float(np.sqrt(variance)), variance**2 / uncertain if uncertain > 0 else float("inf")


def resample_cases(labels: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each case is drawn, (draws, N) float64; every class keeps its size in every draw."""
    counts = np.zeros((draws, len(labels)))
    for value in np.unique(labels):
        members = np.flatnonzero(labels == value)
        share = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), share, size=draws)
    return counts


def resample_jointly(labels: Sequence[np.ndarray], draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each case is drawn, (draws, N) float64, for several labellings (N,) of the same cases.

    Every draw has a case of each class of every labelling; the classes' sizes vary.
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
    """Return AUCs of one method on the cases and on resamples of them: of class 1 for K = 2, macro for more.

    Args:
        labels: (N,) integers, every class present.
        probabilities: (S, N, K), one layer a seed.
        counts: (draws, N) from :func:`resample_cases`; the same ones for methods that are to be compared.
    """
    weights = np.vstack([np.ones(len(labels)), counts])  # the first resample is the test set itself
    aucs = np.stack([_aucs(labels, p, weights) for p in probabilities], axis=1)  # (1 + draws, S)
    return Resampled(aucs[0], aucs[1:])


def _aucs(labels: np.ndarray, p: np.ndarray, counts: np.ndarray) -> np.ndarray:
    K = p.shape[1]
    classes = (1,) if K == 2 else range(K)
    return np.asarray(np.mean([_weighted_auc(labels == k, p[:, k], counts) for k in classes], axis=0))


def _weighted_auc(positive: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """AUC in each resample as a bilinear form in the counts: sum_ij c_i [s_i > s_j] c_j / (m n), ties one half."""
    x, weight_x = scores[positive], counts[:, positive]  # (m,), (draws, m)
    total = np.zeros(len(counts))
    negatives = np.flatnonzero(~positive)
    for start in range(0, len(negatives), BLOCK):
        block = negatives[start : start + BLOCK]
        order = (1 + np.sign(x[:, None] - scores[block])) / 2  # (m, n), 0, 1/2 or 1
        total += np.einsum("dn,dn->d", weight_x @ order, counts[:, block])
    return np.asarray(total / (weight_x.sum(axis=1) * counts[:, ~positive].sum(axis=1)))
