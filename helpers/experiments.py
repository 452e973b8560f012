"""Comparisons under one protocol: every recipe on the same splits and seeds; claims that are checked; records."""

from __future__ import annotations

import datetime
import functools
import hashlib
import html
import importlib.metadata
import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import torch

from helpers import metrics
from helpers.datasets import Dataset
from helpers.training import Recipe, fit, quiet

COLUMNS = ["dataset", "technique", "protocol", "seed", "metric", "class", "value"]
JUDGED_PROFILES = ("book", "full")
_started = time.time()


# --------------------------------------------------------------------------------------------------------------------
# Running
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns.

    Attributes
    ----------
    table : pandas.DataFrame
        Tidy results, columns ``dataset, technique, protocol, seed, metric, class, value``.
    logits : dict
        Test logits by (technique, seed), shape (N, classes): for confusion matrices and curves.
    labels : torch.Tensor
        Test labels, shape (N,).
    history : dict
        Validation history by (technique, seed), see `helpers.training.Fit`.
    """

    table: pd.DataFrame
    logits: dict[tuple[str, int], torch.Tensor]
    labels: torch.Tensor
    history: dict[tuple[str, int], list[dict]]


def compare(recipes: Mapping[str, Recipe], data: Callable[[int], Dataset], *, seeds: Sequence[int], steps: int = 600,
            batch_size: int = 128, protocol: str = "fair", select: str = "last",
            evaluate_every: int | None = None) -> Comparison:
    """Train every recipe on every seed and look at the test set once.

    All recipes of a seed see the same splits. Recipes that differ in `posthoc` alone share one training.

    Parameters
    ----------
    recipes : mapping of str to Recipe
        By the name of the technique.
    data : callable
        ``data(seed) -> Dataset``.
    seeds : sequence of int
    steps, batch_size : int
    protocol : {"fair", "source"}
        What the results are labelled as.
    select : {"last", "validation"}
        Test the weights after the last step, or those that did best on the validation split.
    evaluate_every : int, optional
        As in `helpers.training.fit`.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If there are no seeds or recipes, or `protocol` is unknown.
    """
    if protocol not in ("fair", "source"):
        raise ValueError(f"protocol={protocol!r} is unknown; choose fair or source")
    if not recipes or not len(seeds):
        raise ValueError(f"{len(recipes)} recipes and {len(seeds)} seeds: give at least one of each")
    groups: dict[Recipe, list[str]] = {}
    for technique, recipe in recipes.items():
        groups.setdefault(replace(recipe, posthoc=None), []).append(technique)
    jobs = [(data, seed, {name: recipes[name] for name in names}, steps, batch_size, select, evaluate_every)
            for seed in seeds for names in groups.values()]
    tables, logits, history = [], {}, {}
    for (_, seed, *_), (dataset, labels, found) in zip(jobs, parallel(_train, jobs), strict=True):  # noqa: B007
        for technique, (values, prediction, past) in found.items():
            tables.append(tidy(dataset, technique, seed, values, protocol=protocol))
            logits[technique, seed], history[technique, seed] = prediction, past
    table = pd.concat(tables, ignore_index=True)
    order = {technique: place for place, technique in enumerate(recipes)}
    table = table.sort_values("technique", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return Comparison(table, logits, labels, history)


def _train(data, seed: int, recipes: dict[str, Recipe], steps: int, batch_size: int, select: str,
           evaluate_every: int | None):
    dataset = data(seed)
    trained = fit(next(iter(recipes.values())), dataset, steps=steps, batch_size=batch_size, seed=seed,
                  evaluate_every=evaluate_every)
    found = {}
    for technique, recipe in recipes.items():
        trained.run.recipe = recipe
        logits = trained.predict(dataset.test, select)
        values = metrics.evaluate(logits, dataset.test.labels, dataset.class_counts)
        found[technique] = {**values, "seconds": trained.seconds}, logits, trained.history
    return dataset.name, dataset.test.labels, found


def workers() -> int:
    """Processes that train side by side: ``$BOOK_WORKERS``, else one a core; one where there is a GPU."""
    if torch.cuda.is_available():
        return 1
    return max(int(os.environ.get("BOOK_WORKERS", os.cpu_count() or 1)), 1)


def parallel(function: Callable, jobs: Sequence[tuple], label: str = "runs") -> list:
    """``[function(*job) for job in jobs]``, on all workers, with a progress bar; the order is kept.

    Each job must depend on its arguments alone, so that the number of workers does not change a result.

    Examples
    --------
    >>> parallel(divmod, [(7, 2)])
    [(3, 1)]
    """
    from tqdm.auto import tqdm

    count, waiting = min(workers(), len(jobs)), []
    if count <= 1:
        results = (function(*job) for job in jobs)
    else:
        pool = _pool(count)
        waiting = [pool.submit(_call, cloudpickle.dumps((function, job))) for job in jobs]
        results = (future.result() for future in waiting)
    try:
        return list(tqdm(results, total=len(jobs), unit=label, disable=quiet() or len(jobs) < 2))
    finally:  # if one fails, or the reader stops the cell, the next cell shall not wait for the others
        for future in waiting:
            future.cancel()


@functools.cache
def _pool(count: int) -> ProcessPoolExecutor:
    """Fresh processes, kept for the next comparison. (Forking is not safe once torch has run threads.)"""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=_obey_parent)


def _obey_parent() -> None:
    """In a worker: end when the process that started it ends, even if it was killed, and not when it is interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _call(pickled: bytes):
    """Run a pickled job; cloudpickle carries functions that a notebook defines. An interrupt ends the job alone."""
    function, job = cloudpickle.loads(pickled)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return function(*job)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def tidy(dataset: str, technique: str, seed: int, values: Mapping[str, float | np.ndarray], *,
         protocol: str = "fair") -> pd.DataFrame:
    """One run's metrics as rows of the results table; an array becomes one row a class.

    Examples
    --------
    >>> tidy("MNIST-LT", "baseline", 0, {"accuracy": 0.9, "recall": np.array([1.0, 0.8])})["class"].tolist()
    ['', '0', '1']
    """
    rows = []
    for metric, value in values.items():
        per_class = np.ndim(value) > 0
        for label, number in enumerate(np.atleast_1d(value)):
            rows.append((dataset, technique, protocol, seed, metric, str(label) if per_class else "", float(number)))
    return pd.DataFrame(rows, columns=COLUMNS)


# --------------------------------------------------------------------------------------------------------------------
# Reading the results
# --------------------------------------------------------------------------------------------------------------------


def values(results: pd.DataFrame, technique: str, metric: str, *, label: str | int = "",
           protocol: str = "fair") -> pd.Series:
    """One metric of one technique, a value a seed (the index).

    Raises
    ------
    KeyError
        If the results hold no such rows; the message names what they hold.
    """
    chosen = results[(results.protocol == protocol) & (results.technique == technique)]
    rows = chosen[(chosen.metric == metric) & (chosen["class"] == str(label))]
    if rows.empty:
        known = (sorted(chosen.metric.unique()) if len(chosen) else
                 sorted(results[results.protocol == protocol].technique.unique()))
        raise KeyError(f"no {metric!r} (class {str(label)!r}) of {technique!r} under {protocol!r}; there are: "
                       f"{', '.join(known)}")
    return rows.set_index("seed").value.sort_index()


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % Student interval over `n` seeds; ``low`` and ``high`` are NaN for one seed."""

    mean: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        """``f"{interval:%}"`` as percentage with half-width, ``f"{interval:+%}"`` with its sign."""
        half, sign = (self.high - self.low) / 2, "+" if "+" in spec else ""
        scale = 100 if "%" in spec else 1
        places, error = (".1f", ".1f") if scale == 100 or abs(self.mean) >= 1 else (".3g", ".2g")
        shown = f"{scale * self.mean:{sign}z{places}}".replace("-", "−")
        return f"{shown} ± {scale * half:{error}}" if self.n > 1 else shown

    @property
    def seeds(self) -> str:
        """How many there are, in words: ``"1 seed"``, ``"5 seeds"``."""
        return f"{self.n} seed{'s' * (self.n > 1)}"


def mean(results: pd.DataFrame, technique: str, metric: str, **which) -> Interval:
    """Mean of a metric over seeds; `which` as in `values`."""
    found = values(results, technique, metric, **which)
    return Interval(*metrics.t_interval(found), len(found))


def difference(results: pd.DataFrame, technique: str, reference: str, metric: str, **which) -> Interval:
    """Paired difference ``technique − reference`` over the seeds that both have."""
    pair = pd.concat([values(results, name, metric, **which) for name in (technique, reference)], axis=1, join="inner")
    if pair.empty:
        raise KeyError(f"{technique!r} and {reference!r} share no seed")
    gaps = pair.iloc[:, 0] - pair.iloc[:, 1]
    return Interval(*metrics.t_interval(gaps), len(gaps))


OVERALL = ("accuracy", "balanced accuracy", "macro F1", "G-mean", "tail recall", "ECE")


def summary(results: pd.DataFrame, columns: Sequence[str] = OVERALL, *, protocol: str = "fair") -> pd.DataFrame:
    """A technique a row, a metric a column: mean ± half of the 95 % interval, in percent (seconds as they are)."""
    chosen = results[results.protocol == protocol]
    rows = {technique: {metric: format(mean(results, technique, metric, protocol=protocol),
                                       "" if metric == "seconds" else "%") for metric in columns}
            for technique in chosen.technique.unique()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(columns)).rename_axis(columns="technique")


def differences(results: pd.DataFrame, reference: str, columns: Sequence[str] = OVERALL, *,
                protocol: str = "fair") -> pd.DataFrame:
    """Paired differences of every technique to `reference`, in percentage points, with 95 % intervals."""
    chosen = results[results.protocol == protocol]
    rows = {technique: {metric: format(difference(results, technique, reference, metric, protocol=protocol), "+%")
                        for metric in columns}
            for technique in chosen.technique.unique() if technique != reference}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=list(columns))
    return found.rename_axis(columns=f"minus {reference}")


@functools.cache
def _published() -> pd.DataFrame:
    path = Path(__file__).with_name("published.csv")
    return pd.read_csv(path, dtype={"class": str}, keep_default_na=False).astype({"value": float})


def published(table: str) -> pd.DataFrame:
    """Numbers printed in the literature, in percent or as printed, columns ``table, technique, metric, class, value``.

    Raises
    ------
    KeyError
        If there is no such table; the message names those there are.
    """
    everything = _published()
    found = everything[everything.table == table]
    if found.empty:
        raise KeyError(f"table {table!r} is unknown; choose one of {', '.join(everything.table.unique())}")
    return found.reset_index(drop=True)


def published_per_class(table: str, metric: str = "recall") -> pd.DataFrame:
    """Printed numbers of one metric: a technique a row, a class a column, in the order of print."""
    found = published(table).query("metric == @metric")
    wide = found.pivot(index="technique", columns="class", values="value").rename_axis(index=None)
    return wide.loc[found.technique.unique(), found["class"].unique()]


# --------------------------------------------------------------------------------------------------------------------
# Claims
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """Whether the data bear a sentence out, and the numbers that say so."""

    holds: bool
    detail: str
    real: bool = True

    def __and__(self, other: Check) -> Check:
        """Both must hold."""
        return Check(self.holds and other.holds, f"{self.detail}; {other.detail}", self.real and other.real)


def _is_real(results: pd.DataFrame) -> bool:
    return not results.dataset.str.startswith("stand-in").any()


def _paired(results, technique, reference, metric, which) -> tuple[Interval, str]:
    gap = difference(results, technique, reference, metric, **which)
    spec, unit = ("+", "s") if metric == "seconds" else ("+%", "points")
    number, low, high = (format(Interval(value, 0, 0, 1), spec) for value in (gap.mean, gap.low, gap.high))
    span = f"95 % interval {low} to {high}, " if gap.n > 1 else ""
    return gap, f"{technique} − {reference}, {metric}: {number} {unit}, {span}{gap.seeds}"


def better(results: pd.DataFrame, technique: str, reference: str, metric: str = "balanced accuracy", by: float = 0.0,
           **which) -> Check:
    """`technique` exceeds `reference` by more than `by`: the whole paired 95 % interval lies above it.

    For a metric that is better when small (ECE, seconds), swap the two names.
    """
    gap, detail = _paired(results, technique, reference, metric, which)
    return Check(bool(gap.low > by), detail, _is_real(results))


def indistinguishable(results: pd.DataFrame, technique: str, reference: str, metric: str = "balanced accuracy",
                      **which) -> Check:
    """The paired 95 % interval holds zero: these seeds do not tell the two apart."""
    gap, detail = _paired(results, technique, reference, metric, which)
    return Check(bool(gap.low <= 0 <= gap.high), detail, _is_real(results))


def between(results: pd.DataFrame, technique: str, metric: str, low: float = -np.inf, high: float = np.inf,
            **which) -> Check:
    """The mean over seeds lies between two bounds."""
    found = mean(results, technique, metric, **which)
    number = format(found, "" if metric == "seconds" else "%")
    detail = f"{technique}, {metric}: {number}, {found.seeds}"
    return Check(bool(low <= found.mean <= high), detail, _is_real(results))


class ClaimRefuted(AssertionError):
    """Raised at the end of a chapter when the data refute one of its sentences."""


_claims: list[dict] = []


class Claim:
    """A sentence with its check, shown on the page. Made by `claim`."""

    def __init__(self, sentence: str, status: str, detail: str):
        self.sentence, self.status, self.detail = sentence, status, detail

    def __repr__(self) -> str:
        return f"{self.sentence} [{self.status}: {self.detail}]"

    def _repr_html_(self) -> str:
        kind = self.status.replace(" ", "")
        return (f'<div class="claim claim-{kind}"><p><strong>{html.escape(self.sentence)}</strong></p>'
                f"<p><em>{self.status}</em> – {html.escape(self.detail)}</p></div>")


def claim(sentence: str, check: Check) -> Claim:
    """State a result and check it.

    With real data and the book's profile, a refuted claim makes `record`, and with it the build, fail. With another
    profile or a stand-in it is shown as not judged.

    Examples
    --------
    >>> claim("Two is more than one.", Check(2 > 1, "2 − 1 = 1"))
    Two is more than one. [not judged: 2 − 1 = 1]
    >>> _claims.clear()
    """
    judged = check.real and os.environ.get("BOOK_PROFILE") in JUDGED_PROFILES
    status = ("held" if check.holds else "refuted") if judged else "not judged"
    _claims.append({"sentence": sentence, "status": status, "detail": check.detail})
    return Claim(sentence, status, check.detail)


# --------------------------------------------------------------------------------------------------------------------
# Records
# --------------------------------------------------------------------------------------------------------------------


def record(chapter: str, results: pd.DataFrame, *, verdict: str, seeds: Sequence[int], steps: int,
           data_hash: str = "") -> pd.DataFrame:
    """Write a chapter's results and their manifest; the last cell of every chapter.

    Parameters
    ----------
    chapter : str
        ``"part/chapter"``.
    results : pandas.DataFrame
        Rows as `tidy` makes them.
    verdict : str
        The chapter's finding in one sentence, its numbers computed.
    seeds, steps
        As the chapter ran.
    data_hash : str, optional
        From `fingerprint`.

    Returns
    -------
    pandas.DataFrame
        How many techniques and runs each protocol has, to show.

    Raises
    ------
    ValueError
        If a column is missing or a value is not a number.
    ClaimRefuted
        If the data refute a claim. The results are written first.
    """
    missing = [column for column in COLUMNS if column not in results]
    if missing:
        raise ValueError(f"the results lack {', '.join(missing)}; they need {', '.join(COLUMNS)}")
    profile = os.environ.get("BOOK_PROFILE", "reader")
    folder = Path(os.environ.get("BOOK_BUILD", "build")) / "results" / profile
    folder.mkdir(parents=True, exist_ok=True)
    stem = chapter.replace("/", "-")
    results[COLUMNS].to_csv(folder / f"{stem}.csv", index=False, float_format="%.6g")
    manifest = {
        "chapter": chapter, "profile": profile, "dataset": sorted(results.dataset.unique()),
        "data": "real" if _is_real(results) else "stand-in", "data_hash": data_hash, "code_hash": code_hash(),
        "seeds": [int(seed) for seed in seeds], "steps": int(steps),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU", "versions": _versions(),
        "commit": _commit(), "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "minutes": round((time.time() - _started) / 60, 2), "claims": list(_claims), "verdict": verdict,
    }
    (folder / f"{stem}.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    refuted = [f"  {entry['sentence']}\n    {entry['detail']}" for entry in _claims if entry["status"] == "refuted"]
    if refuted:
        raise ClaimRefuted("the data refute\n" + "\n".join(refuted))
    runs = results.drop_duplicates(["protocol", "technique", "seed"]).groupby("protocol", sort=False)
    counted = runs.agg(techniques=("technique", "nunique"), runs=("seed", "size"))
    return counted.rename_axis(columns="protocol", index=None)


def fingerprint(data: Dataset) -> str:
    """Hash of a data set's splits, 16 hexadecimal digits: equal splits, equal hash."""
    digest = hashlib.sha256()
    for split in (data.train, data.val, data.test):
        for tensor in (split.inputs, split.labels):
            digest.update(np.ascontiguousarray(tensor.cpu().numpy()))
    return digest.hexdigest()[:16]


def code_hash() -> str:
    """Hash of the `helpers` package, 16 hexadecimal digits."""
    files = sorted(Path(__file__).parent.glob("*.*"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {}
    for package in ("numpy", "scikit-learn", "imbalanced-learn", "torch", "torchvision", "torch-geometric", "xgboost"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "not a checkout"
