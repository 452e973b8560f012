"""Ensembles of small trees, each grown on all rare rows and on as many common ones, and three ways to choose these."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.tree import DecisionTreeClassifier

Choice = Callable[[int, np.ndarray, int, np.random.Generator], np.ndarray]


def grow(X, y, choose: Choice, *, rounds: int = 20, depth: int = 6, seed: int = 0) -> list[DecisionTreeClassifier]:
    """Grow trees in turn; before each, the common rows are chosen by how hard the trees so far find them.

    Parameters
    ----------
    X : array, shape (n, features)
    y : array, shape (n,)
        1 is the rare class.
    choose : callable
        ``choose(round, hardness, count, rng)`` returns which common rows the tree learns from, as places among the
        common rows. ``hardness`` is the probability of being rare that the trees so far give each of them, 0 before
        there is a tree; ``count`` is the number of rare rows.
    rounds, depth, seed : int

    Returns
    -------
    list of DecisionTreeClassifier

    Examples
    --------
    >>> X = np.arange(8.0)[:, None]
    >>> trees = grow(X, X[:, 0] > 5, uniform, rounds=3)
    >>> rare_scores(trees, [[0.0], [7.0]]).tolist()
    [0.0, 1.0]
    """
    rng, y = np.random.default_rng(seed), np.asarray(y).astype(int)
    common, rare = np.flatnonzero(y == 0), np.flatnonzero(y == 1)
    if not len(common) or not len(rare):
        raise ValueError(f"{len(common)} common and {len(rare)} rare rows: both classes are needed")
    trees, total = [], np.zeros(len(common))
    for number in range(rounds):
        chosen = common[choose(number, total / max(number, 1), len(rare), rng)]
        rows = np.concatenate([chosen, rare])
        tree = DecisionTreeClassifier(max_depth=depth, random_state=int(rng.integers(2**31))).fit(X[rows], y[rows])
        trees.append(tree)
        total += tree.predict_proba(X[common])[:, 1]
    return trees


def rare_scores(trees, X) -> np.ndarray:
    """Mean probability of the rare class over trees, shape (n,)."""
    return np.mean([tree.predict_proba(X)[:, 1] for tree in trees], axis=0)


def uniform(number: int, hardness: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Any common rows, all with the same chance: random undersampling, anew for each tree."""
    return rng.choice(len(hardness), min(count, len(hardness)), replace=False)


def self_paced(number: int, hardness: np.ndarray, count: int, rng: np.random.Generator, *, rounds: int = 20,
               bins: int = 5) -> np.ndarray:
    """Common rows from bins of hardness: at first most from the easy bins, at last as many from each.

    A bin with mean hardness h has the weight 1 / (h + α), with α = tan(π i / (2 (rounds − 1))) in round i (Liu et al.,
    "Self-paced ensemble", ICDE 2020). In round 0 there is no hardness yet, and any rows are as good.
    """
    low, high = hardness.min(), hardness.max()
    if number == 0 or low == high:
        return uniform(number, hardness, count, rng)
    member = np.minimum((bins * (hardness - low) / (high - low)).astype(int), bins - 1)
    rows = [np.flatnonzero(member == place) for place in range(bins)]
    share = bin_weights([hardness[inside].mean() if len(inside) else np.nan for inside in rows], number, rounds)
    return np.concatenate([rng.choice(inside, min(len(inside), round(count * part)), replace=False)
                           for inside, part in zip(rows, share, strict=True) if len(inside)])


def pace(number: int, rounds: int) -> float:
    """α of a round: 0 at the start, without bound at the end.

    Examples
    --------
    >>> [round(pace(number, 10), 3) for number in (0, 1, 8, 9)]
    [0.0, 0.176, 5.671, inf]
    """
    return np.inf if number == rounds - 1 else float(np.tan(np.pi * number / (2 * (rounds - 1))))


def bin_weights(means, number: int, rounds: int) -> np.ndarray:
    """What share of the rows each bin gives, from the mean hardness of its rows; an empty bin (NaN) gives none.

    Examples
    --------
    >>> bin_weights([0.0, 0.5, np.nan], 9, 10).tolist()
    [0.5, 0.5, 0.0]
    """
    means, alpha = np.asarray(means, dtype=float), pace(number, rounds)
    if np.isinf(alpha):
        weights = np.isfinite(means).astype(float)
    else:
        weights = np.nan_to_num(1 / np.maximum(means + alpha, 1e-9))
    return weights / weights.sum()
