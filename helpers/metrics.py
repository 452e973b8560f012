"""Metrics for imbalanced classes. Labels and predictions are tensors or arrays of shape (N,)."""

from __future__ import annotations

import numpy as np
from scipy import stats
from sklearn import metrics as sk


def recall_per_class(predictions, labels, classes: int) -> np.ndarray:
    """Share of each class that is found, shape (classes,); NaN for a class that is absent.

    Examples
    --------
    >>> recall_per_class(np.array([0, 0, 1, 0]), np.array([0, 0, 1, 1]), 2).tolist()
    [1.0, 0.5]
    """
    for name, values in (("predictions", predictions), ("labels", labels)):
        values = np.asarray(values)
        if len(values) and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(f"{name} run from {values.min()} to {values.max()}, but there are {classes} classes")
    confusion = sk.confusion_matrix(labels, predictions, labels=range(classes))
    with np.errstate(invalid="ignore"):
        return confusion.diagonal() / confusion.sum(1)


def precision_per_class(predictions, labels, classes: int) -> np.ndarray:
    """Share of each predicted class that is right, shape (classes,); NaN for a class that is never predicted."""
    return recall_per_class(labels, predictions, classes)


def g_mean(recall) -> float:
    """Geometric mean of the recalls; 0 as soon as one class is lost (Kubat and Matwin, 1997).

    Examples
    --------
    >>> g_mean([0.9, 0.4])
    0.6
    """
    return round(float(stats.gmean(recall)), 12)


def expected_calibration_error(probabilities, labels, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equal-width bins (Guo et al., 2017, equation 3).

    Parameters
    ----------
    probabilities : array or tensor, shape (N, classes)
    labels : array or tensor, shape (N,)

    Examples
    --------
    >>> expected_calibration_error(np.array([[.9, .1], [.9, .1]]), np.array([0, 1]))
    0.4
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    if probabilities.shape[:1] != labels.shape or labels.ndim != 1:
        raise ValueError(f"probabilities have shape {probabilities.shape} and labels {labels.shape}; "
                         "they must be (N, classes) and (N,)")
    if probabilities.min() < 0 or not np.allclose(probabilities.sum(1), 1, atol=1e-3):
        raise ValueError("probabilities must be 0 or more and sum to 1 in every row; these may be logits")
    confidence, hits = probabilities.max(1), probabilities.argmax(1) == labels
    member = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(member, weights=confidence - hits, minlength=bins)
    return round(float(np.abs(gaps).sum() / len(labels)), 6)


def wilson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a proportion (Wilson, 1927).

    Examples
    --------
    >>> [round(bound, 2) for bound in wilson(12, 16)]
    [0.51, 0.9]
    """
    interval = stats.binomtest(int(hits), int(trials)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def _spread(values: np.ndarray, overlap: float) -> float:
    """Standard error of the mean; `overlap` is test rows over training rows where splits of one data set overlap."""
    return values.std(ddof=1) * np.sqrt(1 / len(values) + overlap)


def t_interval(values, confidence: float = 0.95, overlap: float = 0.0) -> tuple[float, float, float]:
    """Mean and its Student interval over seeds: (mean, low, high). One or two values have no interval (NaN).

    Parameters
    ----------
    values : array, shape (n,)
    confidence : float
    overlap : float
        Test rows over training rows, where every seed splits one data set anew: the variance then takes 1/n + overlap
        in place of 1/n (Nadeau and Bengio, 2003, equation 9).

    Examples
    --------
    >>> t_interval([1.0, 1.0, 1.0])
    (1.0, 1.0, 1.0)
    """
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    if len(values) < 3:
        return mean, float("nan"), float("nan")
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * _spread(values, overlap)
    return mean, float(mean - half), float(mean + half)


def t_test(values, overlap: float = 0.0) -> float:
    """Two-sided p-value of a mean of zero, with the spread of `t_interval`; NaN for one or two values.

    Examples
    --------
    >>> round(t_test([0.1, 0.2, 0.3]), 3)
    0.074
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 3:
        return float("nan")
    spread = _spread(values, overlap)
    if spread == 0:
        return 1.0 if values.mean() == 0 else 0.0
    return float(2 * stats.t.sf(abs(values.mean()) / spread, len(values) - 1))


def holm(p_values) -> np.ndarray:
    """p-values adjusted for their number, shape (n,); NaN stays and does not count (Holm, 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=float)
    order = [place for place in np.argsort(p_values) if np.isfinite(p_values[place])]
    adjusted, largest = np.full(len(p_values), np.nan), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min((len(order) - rank) * p_values[place], 1.0))
        adjusted[place] = largest
    return adjusted


def thirds(class_counts) -> dict[str, np.ndarray]:
    """Classes of the head, the middle and the tail: thirds by training count, the head taking what is left over.

    Two classes are head and tail.

    Examples
    --------
    >>> {part: rows.tolist() for part, rows in thirds([50, 40, 30, 20, 10, 8, 6, 4, 2, 1]).items()}
    {'head': [0, 1, 2, 3], 'mid': [4, 5, 6], 'tail': [7, 8, 9]}
    """
    order = np.argsort(-np.asarray(class_counts), kind="stable")
    parts = ("head", "tail") if len(order) == 2 else ("head", "mid", "tail")
    return dict(zip(parts, np.array_split(order, len(parts)), strict=True))


def evaluate(logits, labels, class_counts) -> dict[str, float | np.ndarray]:
    """Every metric of a multi-class prediction.

    Parameters
    ----------
    logits : torch.Tensor, shape (N, classes)
    labels : torch.Tensor, shape (N,)
    class_counts : sequence of int
        Training samples of each class; they decide head, mid and tail.

    Returns
    -------
    dict
        A number for each overall metric; an array of shape (classes,) for the per-class ones, ``recall`` and
        ``precision``. All are fractions. ``PR-AUC`` is the mean over the classes; of two classes, that of the rare one.

    Raises
    ------
    ValueError
        If shapes do not agree, a label is no class, or a logit is NaN.
    """
    classes, labels = logits.shape[1], np.asarray(labels)
    if len(logits) != len(labels) or len(class_counts) != classes:
        raise ValueError(f"{len(logits)} rows of {classes} logits, {len(labels)} labels and {len(class_counts)} class "
                         "counts do not belong together")
    if bool(logits.isnan().any()):
        raise ValueError("the logits hold NaN")
    predictions, probabilities = np.asarray(logits.argmax(1)), logits.softmax(1).numpy()
    recall = recall_per_class(predictions, labels, classes)
    present = np.flatnonzero(np.bincount(labels, minlength=classes))
    ranked = present if classes > 2 else [int(np.argmin(np.asarray(class_counts)))]  # of two classes, the rare one
    return {
        "accuracy": float((predictions == labels).mean()),
        "balanced accuracy": float(recall[present].mean()),
        "macro F1": float(sk.f1_score(labels, predictions, average="macro", zero_division=0)),
        "G-mean": g_mean(recall[present]),
        "worst-class recall": float(recall[present].min()),
        **{f"{part} recall": float(recall[np.intersect1d(rows, present)].mean()) for part, rows in
           thirds(class_counts).items() if np.isin(rows, present).any()},
        "PR-AUC": float(np.mean([sk.average_precision_score(labels == c, probabilities[:, c]) for c in ranked])),
        "ECE": expected_calibration_error(probabilities, labels),
        "recall": recall,
        "precision": precision_per_class(predictions, labels, classes),
    }
