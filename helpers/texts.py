"""Short texts and a rare class: near-duplicates, splits, a linear model with its penalty tuned, tables of words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse import coo_array, triu
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)
from sklearn.model_selection import train_test_split

from helpers import metrics

STRENGTHS = (1.0, 10.0, 100.0, 1000.0, 10000.0)  # the one grid of C for every technique; 1 is scikit-learn's default


# Words that carry grammar and no topic, by kind: those that EDA leaves alone. ("call", "get" and "please", which some
# lists of stop words hold, are what spam is made of.)
FUNCTION_WORDS = frozenset(" ".join([
    "i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself",
    "it its itself they them their theirs themselves this that these those what which who whom",
    "am is are was were be been being have has had having do does did doing will can should",
    "a an the and but if or because as until while than so nor not no only",
    "of at by for with about against between into through during before after above below to from up down in out",
    "on off over under again further then once here there now when where why how too very just",
    "all any both each few more most other some such own same don s t",
]).split())


# --------------------------------------------------------------------------------------------------------------------
# Near-duplicates
# --------------------------------------------------------------------------------------------------------------------


def normalised(text: str) -> str:
    """Case, digits and spacing ignored.

    Examples
    --------
    >>> normalised("Call  0800 NOW")
    'call 0000 now'
    """
    return " ".join(re.sub(r"\d", "0", text.casefold()).split())


def jaccard(texts: Sequence[str], size: int = 5) -> coo_array:
    """Jaccard's coefficient ``|A ∩ B| / |A ∪ B|`` of the texts' runs of characters, of each pair once, shape (N, N)."""
    runs = CountVectorizer(analyzer="char", ngram_range=(size, size), binary=True, lowercase=False, dtype=np.float32)
    found = runs.fit_transform([text.ljust(size) for text in texts])
    shared, lengths = triu(found @ found.T, k=1, format="coo"), np.asarray(found.sum(1)).ravel()
    union = lengths[shared.row] + lengths[shared.col] - shared.data
    return coo_array((shared.data / union, (shared.row, shared.col)), shape=shared.shape)


def cosine(texts: Sequence[str]) -> coo_array:
    """Cosine of the texts' TF-IDF vectors, of each pair once, shape (N, N)."""
    vectors = TfidfVectorizer(token_pattern=r"\S+", dtype=np.float32).fit_transform(texts)
    return triu(vectors @ vectors.T, k=1, format="coo")


def pairs_above(similarity: coo_array, least: float) -> np.ndarray:
    """The pairs of texts at least that similar, shape (2, pairs)."""
    chosen = similarity.data >= least
    return np.stack([similarity.row[chosen], similarity.col[chosen]])


def groups_of(pairs: np.ndarray, size: int) -> np.ndarray:
    """A number for each of `size` texts, the same for all that are linked by pairs.

    Examples
    --------
    >>> groups_of(np.array([[0, 1], [1, 3]]), 5).tolist()
    [0, 0, 1, 0, 2]
    """
    return connected_components(coo_array((np.ones(pairs.shape[1]), pairs), shape=(size, size)), directed=False)[1]


def near_duplicates(texts: Sequence[str], runs: float = 0.7, words: float = 0.9) -> np.ndarray:
    """The group of each text: near-duplicates by Jaccard's coefficient of character runs or by cosine of words."""
    plain = [normalised(text) for text in texts]
    return groups_of(np.hstack([pairs_above(jaccard(plain), runs), pairs_above(cosine(plain), words)]), len(texts))


def first_of_each(groups: np.ndarray) -> np.ndarray:
    """The first row of each group, in the order of the rows."""
    return np.sort(np.unique(groups, return_index=True)[1])


# --------------------------------------------------------------------------------------------------------------------
# Splits, samples, a linear model
# --------------------------------------------------------------------------------------------------------------------


def split(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train, validate and test on: 60, 15 and 25 %, stratified."""
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=seed)
    train, val = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=seed)
    return train, val, test


def undersample(texts: Sequence[str], labels: np.ndarray, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """All texts of class 1 and as many random ones of class 0."""
    ham = rng.choice(np.flatnonzero(labels == 0), int(labels.sum()), replace=False)
    kept = np.sort(np.concatenate([ham, np.flatnonzero(labels == 1)]))
    return [texts[place] for place in kept], labels[kept]


def fit_linear(texts: Sequence[str], labels: np.ndarray, strength: float = 1.0, **options) -> Callable:
    """TF-IDF and logistic regression; returns a function from texts to log-odds of class 1.

    Parameters
    ----------
    strength : float
        scikit-learn's C, the inverse of the penalty on large weights.
    """
    vectors = TfidfVectorizer()
    model = LogisticRegression(C=strength, solver="liblinear", **options).fit(vectors.fit_transform(texts), labels)
    return lambda others: model.decision_function(vectors.transform(others))


def tuned_linear(train: tuple[Sequence[str], np.ndarray], val: tuple[Sequence[str], np.ndarray],
                 strengths: Sequence[float] = STRENGTHS, **options) -> tuple[dict[float, Callable], float, float]:
    """A linear model for each C, the C with the best F1 on validation, and its threshold with the best F1 there.

    Parameters
    ----------
    train, val : tuple of texts and labels

    Returns
    -------
    dict of float to callable
    float
        The chosen C.
    float
        The chosen threshold of its log-odds.
    """
    models = {strength: fit_linear(*train, strength, **options) for strength in strengths}
    texts, labels = val
    scores = {strength: model(texts) for strength, model in models.items()}
    best = max(strengths, key=lambda strength: f1_score(labels, scores[strength] > 0))
    return models, best, best_threshold(scores[best], labels)


def best_threshold(scores: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the highest F1."""
    precision, recall, cuts = precision_recall_curve(labels, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(cuts[np.argmax(f1[:-1])]) - 1e-9


def recall_at(scores: np.ndarray, labels: np.ndarray, least: float) -> float:
    """The largest recall with at least that precision."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(recall[precision >= least].max())


def rare_metrics(scores: np.ndarray, labels: np.ndarray, cut: float = 0.0) -> dict[str, float]:
    """What matters for class 1, from scores whose threshold is `cut`."""
    found = (scores > cut).astype(int)
    return {"precision": precision_score(labels, found, zero_division=0), "recall": recall_score(labels, found),
            "F1": f1_score(labels, found), "PR-AUC": average_precision_score(labels, scores),
            "recall at 99 % precision": recall_at(scores, labels, 0.99)}


def score(scores: np.ndarray, labels: np.ndarray, class_counts, cut: float = 0.0) -> dict[str, float]:
    """The house metrics and those of class 1, at a threshold."""
    logits = torch.stack([torch.zeros(len(scores)), torch.as_tensor(scores - cut).float()], dim=1)
    overall = metrics.evaluate(logits, labels, class_counts)
    left_out = ("precision", "recall", "PR-AUC")  # per class, or the same as below
    return {name: value for name, value in overall.items() if name not in left_out} | rare_metrics(scores, labels, cut)


# --------------------------------------------------------------------------------------------------------------------
# Messages on a page
# --------------------------------------------------------------------------------------------------------------------

UNQUOTABLE = re.compile(r"sex|xxx|dating|dogging|fuc?k|shit|naked|nude|horny|adult|babe|girls|lover|darlin|\b18\b"
                        r"|\bdie\b|gay|cum\b|semen|seminal|orgasm", re.I)


def quotable(texts: Sequence[str]) -> list[int]:
    """The places of messages fit to print, of a middle length."""
    return [place for place, text in enumerate(texts) if not UNQUOTABLE.search(text) and 40 < len(text) < 150]


def table_of_words(columns):
    """A table of strangers' words: escaped, and not cut short."""
    import pandas as pd
    from IPython.display import HTML

    with pd.option_context("display.max_colwidth", None):
        return HTML(pd.DataFrame(columns).to_html(index=False, escape=True, classes="words"))
