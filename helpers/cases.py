"""One split of a table, and what scores of its rare class say: a threshold from validation rows, then all metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn import metrics as sk
from sklearn.preprocessing import StandardScaler

from helpers.tables import Table, load_table


@dataclass(frozen=True)
class Case:
    """One split of a table: features, standardised by the training rows, and labels, 1 for the rare class.

    Attributes
    ----------
    train : tuple of numpy.ndarray
    val : tuple of numpy.ndarray
    test : tuple of numpy.ndarray
        Each features, shape (n, features), and labels, shape (n,).
    """

    train: tuple[np.ndarray, np.ndarray]
    val: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]

    @property
    def overlap(self) -> float:
        """Test rows divided by training rows, for intervals over splits (`helpers.results.Interval`)."""
        return len(self.test[1]) / len(self.train[1])


def distinct(name: str, data: str, rows: int) -> Table:
    """One row of each point of a table; one with more than `rows` is cut to them, the same for every seed."""
    return load_table(name, data).distinct().sample(rows, seed=0)


def draw(name: str, data: str, rows: int, seed: int) -> Case:
    """Split a table of `distinct` rows, three fifths to train, and standardise it.

    Examples
    --------
    >>> case = draw("Wilt", "stand-in", 1000, seed=0)
    >>> [len(labels) for _, labels in (case.train, case.val, case.test)]
    [600, 200, 200]
    """
    table = distinct(name, data, rows)
    parts = table.split(seed)
    scaler = StandardScaler().fit(table.X[parts.train])
    return Case(*((scaler.transform(table.X[part]), table.y[part]) for part in parts))


def best_threshold(truth, score) -> float:
    """The threshold with the highest balanced accuracy, half-way between two scores.

    Parameters
    ----------
    truth : array, shape (n,)
        1 is the rare class; both classes must be there.
    score : array, shape (n,)
        Higher is rarer.

    Examples
    --------
    >>> best_threshold(np.array([0, 0, 1, 1]), np.array([0.0, 0.25, 0.75, 1.0]))
    0.5
    """
    truth, score = np.asarray(truth), np.asarray(score, dtype=float)
    if not 0 < truth.sum() < len(truth):
        raise ValueError(f"{int(truth.sum())} of {len(truth)} rows are rare; a threshold needs both classes")
    order = np.argsort(-score, kind="stable")
    ranked, found = score[order], truth[order]
    balanced = np.cumsum(found) / found.sum() - np.cumsum(1 - found) / (1 - found).sum()
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal scores fall on one side
    place = ends[np.argmax(balanced[ends])]
    below = ranked[place + 1] if place + 1 < len(ranked) else ranked[place] - 1
    return float((ranked[place] + below) / 2)


def recall_at_precision(truth, score, precision: float) -> float:
    """The share of the rare rows that is found while at least this share of the alarms is right.

    Examples
    --------
    >>> recall_at_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]), 0.6)
    1.0
    >>> recall_at_precision(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]), 0.8)
    0.5
    """
    right, share, _ = sk.precision_recall_curve(truth, score)
    return float(share[right >= precision].max())


def measure(case: Case, val, test, *, probabilities: bool = True) -> dict[str, float | np.ndarray]:
    """Every metric of one split's scores, for `helpers.results.tidy`.

    Parameters
    ----------
    case : Case
    val, test : array
        Scores of the rare class. The threshold comes from the validation rows alone.
    probabilities : bool
        Whether the scores are meant as probabilities; else there is no Brier score.
    """
    truth, threshold = case.test[1], best_threshold(case.val[1], val)
    recall = {name: sk.recall_score(truth, test > at, average=None) for name, at in
              (("", threshold), (" at one half", 0.5))}
    return {"PR-AUC": sk.average_precision_score(truth, test), "ROC-AUC": sk.roc_auc_score(truth, test),
            **{f"balanced accuracy{name}": shares.mean() for name, shares in recall.items()},
            "recall": recall[""], "worst-class recall": recall[""].min(), "threshold": threshold,
            "recall at 80 % precision": recall_at_precision(truth, test, 0.8),
            **({"Brier score": sk.brier_score_loss(truth, test)} if probabilities else {}),
            "test to train": case.overlap}


def over_tables(results: pd.DataFrame) -> pd.DataFrame:
    """Results of several tables as results over tables: the mean over seeds, and each table in the place of a seed.

    Tables are independent of each other where splits of one table are not; so an interval over them needs no correction
    for overlap.

    Examples
    --------
    >>> rows = pd.DataFrame({"dataset": ["a", "a", "b"], "technique": "x", "protocol": "fair", "seed": [0, 1, 0],
    ...                      "metric": "PR-AUC", "class": "", "value": [0.5, 0.7, 0.2]})
    >>> over_tables(rows)[["dataset", "seed", "value"]].values.tolist()
    [['2 tables', 0, 0.6], ['2 tables', 1, 0.2]]
    """
    known = results.dataset.unique().tolist()
    stand_in = "stand-in for " if any(name.startswith("stand-in") for name in known) else ""
    kept = results[results.metric != "test to train"]
    means = kept.groupby(["technique", "protocol", "metric", "class", "dataset"], sort=False).value.mean().reset_index()
    return means.assign(seed=[known.index(name) for name in means.dataset], dataset=f"{stand_in}{len(known)} tables")


def by_table(results: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over seeds of one metric: a technique a row, a table a column, in the order of the results."""
    rows = results[(results.metric == metric) & (results["class"] == "")]
    wide = rows.pivot_table(index="technique", columns="dataset", values="value", sort=False)
    return wide.rename(columns=lambda name: name.removeprefix("stand-in for "))
