"""The results table: a row a number; means, paired differences and summaries; what the literature prints."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import metrics

COLUMNS = ["dataset", "technique", "protocol", "seed", "metric", "class", "value"]
OVERLAP = "test to train"
CEILING = "balanced data"  # the plain recipe on the whole balanced set: what is left to gain, and no technique


def tidy(dataset: str, technique: str, seed: int, values: Mapping[str, float | np.ndarray], *,
         protocol: str = "fair") -> pd.DataFrame:
    """One run's metrics as rows of the results table; an array becomes one row a class.

    Where every seed splits one data set anew, the splits overlap; give ``"test to train"``, the test rows divided by
    the training rows, among the values, and every interval is corrected for it (see `Interval`).

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


def is_real(results: pd.DataFrame) -> bool:
    """Whether no row comes from a stand-in."""
    return not results.dataset.str.startswith("stand-in").any()


def chosen(results: pd.DataFrame, protocol: str = "fair", dataset: str | None = None) -> pd.DataFrame:
    """The rows of one protocol and one data set.

    Raises
    ------
    KeyError
        If there are none.
    ValueError
        If the rows are of several data sets and none is named.
    """
    found = results[results.protocol == protocol]
    known = found.dataset.unique().tolist()
    if dataset is None and len(known) > 1:
        raise ValueError(f"these results hold {len(known)} data sets; name one, dataset=…: {', '.join(known)}")
    if dataset is not None:
        plain = dataset.removeprefix("stand-in for ")
        found = found[found.dataset.isin([name for name in known if name.removeprefix("stand-in for ") == plain])]
        if found.empty:
            raise KeyError(f"no data set {dataset!r} under {protocol!r}; there are: {', '.join(known) or 'none'}")
    return found


def values(results: pd.DataFrame, technique: str, metric: str, *, label: str | int = "", protocol: str = "fair",
           dataset: str | None = None) -> pd.Series:
    """One metric of one technique, a value a seed (the index).

    Raises
    ------
    KeyError
        If the results hold no such rows; the message names what they hold.
    ValueError
        If a seed stands in them twice, or they are of several data sets and none is named.
    """
    everything = chosen(results, protocol, dataset)
    own = everything[everything.technique == technique]
    rows = own[(own.metric == metric) & (own["class"] == str(label))]
    if rows.empty:
        known = sorted(own.metric.unique()) if len(own) else sorted(everything.technique.unique())
        raise KeyError(f"no {metric!r} (class {str(label)!r}) of {technique!r} under {protocol!r}; there are: "
                       f"{', '.join(known)}")
    twice = rows.seed[rows.seed.duplicated()]
    if len(twice):
        raise ValueError(f"{technique!r} has {metric!r} of seed {twice.iloc[0]} twice; a seed counts once")
    return rows.set_index("seed").value.sort_index()


def shown(value: float, spec: str = "%") -> str:
    """A number for the page: ``"%"`` in percent, ``"+"`` with its sign, always with a real minus sign.

    Examples
    --------
    >>> shown(-0.0123, "+%")
    '−1.2'
    """
    scale, sign = 100 if "%" in spec else 1, "+" if "+" in spec else ""
    places = ".1f" if scale == 100 or abs(value) >= 1 else ".3g"
    return f"{scale * value:{sign}z{places}}".replace("-", "−")


def collapsed(results: pd.DataFrame, protocol: str = "fair") -> dict[str, int]:
    """By technique, how many trainings ended at chance, over all data sets; those of which none did are left out.

    At chance is a balanced accuracy below one and a half times that of a single answer to everything: where a training
    diverged, or where nothing but one class is left.

    Examples
    --------
    >>> found = [tidy("MNIST-LT", name, 0, {"balanced accuracy": value, "recall": np.array([1.0, 2 * value - 1])})
    ...          for name, value in (("a", 0.9), ("b", 0.5))]
    >>> collapsed(pd.concat(found))
    {'b': 1}
    """
    return {name: int(sum(ends)) for name, ends in _at_chance(results, protocol) if any(ends)}


def lost_trainings(results: pd.DataFrame, protocol: str = "fair") -> str:
    """The same in words, for the page.

    Examples
    --------
    >>> found = [tidy("MNIST-LT", name, 0, {"balanced accuracy": value, "recall": np.array([1.0, 2 * value - 1])})
    ...          for name, value in (("a", 0.9), ("b", 0.5))]
    >>> lost_trainings(pd.concat(found))
    'trainings that ended at chance: b (1 of 1)'
    """
    told = [f"{name} ({sum(ends)} of {len(ends)})" for name, ends in _at_chance(results, protocol) if any(ends)]
    return f"trainings that ended at chance: {'; '.join(told) or 'none'}"


def _at_chance(results: pd.DataFrame, protocol: str) -> Iterator[tuple[str, pd.Series]]:
    """By technique: of each of its trainings, whether it ended at chance."""
    rows = results[results.protocol == protocol]
    classes = rows[rows.metric == "recall"].groupby("dataset")["class"].nunique()
    ends = rows[rows.metric == "balanced accuracy"]
    yield from (ends.value < 1.5 / ends.dataset.map(classes)).groupby(ends.technique, sort=False)


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its 95 % interval.

    Student's; where splits overlap, corrected after Nadeau and Bengio ("Inference for the generalization error",
    Machine Learning 52, 2003). One or two seeds have none: ``low`` and ``high`` are NaN, and two are printed as they
    are.

    Attributes
    ----------
    mean : float
    low : float
    high : float
    n : int
        Seeds.
    p : float
        Two-sided p-value of a mean of zero; NaN without an interval.
    seen : tuple of float
        The value of each seed.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = float("nan")
    seen: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: pd.Series | Sequence[float], overlap: float = 0.0) -> Interval:
        """Of one value a seed.

        Examples
        --------
        >>> f"{Interval.of([0.90, 0.92, 0.94]):%}"
        '92.0 ± 5.0'
        >>> f"{Interval.of([0.90, 0.94]):%}"
        '90.0 and 94.0'
        """
        seen = tuple(float(value) for value in values)
        return cls(*metrics.t_interval(seen, overlap=overlap), len(seen), metrics.t_test(seen, overlap), seen)

    def __format__(self, spec: str) -> str:
        """``f"{interval:%}"`` as percentage with half-width, ``f"{interval:+%}"`` with its sign."""
        if np.isfinite(self.low) and np.isfinite(self.high):
            half, scale = (self.high - self.low) / 2, 100 if "%" in spec else 1
            places = ".1f" if scale == 100 or abs(self.mean) >= 1 else ".2g"
            return f"{shown(self.mean, spec)} ± {scale * half:{places}}"
        if len(self.seen) == 2:
            return " and ".join(shown(value, spec) for value in self.seen)
        return shown(self.mean, spec)

    @property
    def seeds(self) -> str:
        """How many there are, in words such as ``"1 seed"`` or ``"5 seeds"``."""
        return f"{self.n} seed{'s' * (self.n > 1)}"


def _overlap(results: pd.DataFrame, technique: str, **which) -> float:
    which.pop("label", None)
    try:
        return float(values(results, technique, OVERLAP, **which).mean())
    except KeyError:
        return 0.0


def mean(results: pd.DataFrame, technique: str, metric: str, **which) -> Interval:
    """Mean of a metric over seeds; `which` as in `values`."""
    return Interval.of(values(results, technique, metric, **which), _overlap(results, technique, **which))


def difference(results: pd.DataFrame, technique: str, reference: str, metric: str, **which) -> Interval:
    """Paired difference ``technique − reference`` over the seeds that both have."""
    pair = pd.concat([values(results, name, metric, **which) for name in (technique, reference)], axis=1, join="inner")
    if pair.empty:
        raise KeyError(f"{technique!r} and {reference!r} share no seed")
    return Interval.of(pair.iloc[:, 0] - pair.iloc[:, 1], _overlap(results, technique, **which))


def clearly_ahead(results: pd.DataFrame, names: Sequence[str], reference: str, metric: str,
                  datasets: Sequence[str | None] = (None,)) -> list[tuple[str, str | None]]:
    """Which of the techniques are ahead of `reference`, and on which data set: clear of zero after Holm among all.

    Examples
    --------
    >>> found = [tidy("MNIST-LT", name, seed, {"F1": value + 0.01 * (seed * seed + shift) % 0.03})
    ...          for shift, (name, value) in enumerate((("a", 0.5), ("b", 0.8), ("c", 0.5))) for seed in range(5)]
    >>> clearly_ahead(pd.concat(found), ["b", "c"], "a", "F1")
    [('b', None)]
    """
    pairs = [(name, dataset) for dataset in datasets for name in names]
    gaps = [difference(results, name, reference, metric, dataset=dataset) for name, dataset in pairs]
    adjusted = metrics.holm([gap.p for gap in gaps])
    return [pair for pair, gap, p in zip(pairs, gaps, adjusted, strict=True) if p < 0.05 and gap.mean > 0]


OVERALL = ("accuracy", "balanced accuracy", "worst-class recall", "macro F1", "G-mean", "ECE")


def _columns(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The columns that say something: those that are there, and accuracy only where it is not the balanced one."""
    here = [column for column in columns if (table.metric == column).any()]
    if {"accuracy", "balanced accuracy"} <= set(here):
        keys = ["technique", "seed"]
        both = [table[table.metric == name].set_index(keys).value.sort_index() for name in ("accuracy",
                                                                                            "balanced accuracy")]
        if both[0].index.equals(both[1].index) and np.allclose(*both, atol=1e-9):
            here.remove("accuracy")
    return here


def summary(results: pd.DataFrame, columns: Sequence[str] = OVERALL, *, protocol: str = "fair",
            dataset: str | None = None) -> pd.DataFrame:
    """A technique a row, a metric a column: mean ± half of the 95 % interval, in percent (seconds as they are).

    Metrics that the results do not hold are left out, and accuracy where it equals balanced accuracy; the tuned
    learning rate stands last.
    """
    table = chosen(results, protocol, dataset)
    columns = _columns(table, columns)
    rows = {technique: {metric: format(mean(results, technique, metric, protocol=protocol, dataset=dataset),
                                       "" if metric == "seconds" else "%") for metric in columns}
            for technique in table.technique.unique()}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(columns="technique")
    rates = table[table.metric == "learning rate"].groupby("technique").value.first()
    return found.assign(**{"learning rate": [f"{rates[name]:g}" if name in rates else "–" for name in found.index]}
                        if len(rates) else {})


def differences(results: pd.DataFrame, reference: str, columns: Sequence[str] = OVERALL, *, protocol: str = "fair",
                dataset: str | None = None) -> pd.DataFrame:
    """Paired differences of every technique to `reference`, in percentage points, with 95 % intervals."""
    table = chosen(results, protocol, dataset)
    columns = _columns(table, columns)
    rows = {technique: {metric: format(difference(results, technique, reference, metric, protocol=protocol,
                                                  dataset=dataset), "+%") for metric in columns}
            for technique in table.technique.unique() if technique != reference}
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
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
