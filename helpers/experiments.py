"""Comparisons under one protocol: the same splits, seeds and steps for every technique, and its own learning rate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
import torch

from helpers import metrics
from helpers.datasets import Dataset, long_tailed
from helpers.models import CompactNet
from helpers.results import CEILING, OVERLAP, tidy
from helpers.runs import parallel
from helpers.training import Diverged, Recipe, fit, logit_adjustment, oversample

TUNING_SEED = 1000  # the draw on which rates are chosen: neither a draft seed nor a judging one
RATES = (0.01, 0.04, 0.16)


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
    rates : pandas.DataFrame
        Validation balanced accuracy on the tuning draw, a technique a row, a learning rate a column; empty where the
        rates were given.
    """

    table: pd.DataFrame
    logits: dict[tuple[str, int], torch.Tensor]
    labels: torch.Tensor
    history: dict[tuple[str, int], list[dict]]
    rates: pd.DataFrame = field(default_factory=pd.DataFrame)


def compare(recipes: Mapping[str, Recipe], data: Callable[[int], Dataset], *, seeds: Sequence[int], steps: int = 400,
            batch_size: int = 128, rates: Sequence[float] = (), protocol: str = "fair", select: str = "last",
            evaluate_every: int | None = None, overlap: float | None = None) -> Comparison:
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
    rates : sequence of float, optional
        Learning rates to choose from: each technique gets the one with the best validation balanced accuracy on the
        tuning draw, ``data(TUNING_SEED)``, at the same number of steps. Without them each keeps its recipe's own.
    protocol : {"fair", "source"}
        What the results are labelled as.
    select : {"last", "validation", "validation accuracy"}
        Test the weights after the last step, or those that did best on the validation split, by balanced accuracy or
        by accuracy.
    evaluate_every : int, optional
        As in `helpers.training.fit`.
    overlap : float, optional
        Where every seed splits one data set anew: test samples per training sample. It widens the intervals, because
        such splits share samples (see `helpers.results.Interval`).

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it and what is accepted.
    """
    found = _compare([(recipes, data)], seeds=seeds, steps=steps, batch_size=batch_size, rates=rates,
                     protocol=protocol, select=select, evaluate_every=evaluate_every)
    if overlap is None:
        return found
    runs = found.table.drop_duplicates(["dataset", "technique", "protocol", "seed"])
    said = runs.assign(**{"metric": OVERLAP, "class": "", "value": float(overlap)})
    return replace(found, table=pd.concat([found.table, said], ignore_index=True))


def _compare(sets: Sequence[tuple[Mapping[str, Recipe], Callable[[int], Dataset]]], *, seeds, steps, batch_size, rates,
             protocol="fair", select="last", evaluate_every=None) -> Comparison:
    """`compare` for sets of recipes, each with its data, in one queue: no core waits until another set begins.

    Recipes of two sets share no training, so that what a set trains does not depend on what it is compared with.
    """
    for recipes, data in sets:
        _check(recipes, data, seeds, protocol)
    tuned, tried = tune(sets, rates, steps=steps, batch_size=batch_size) if len(rates) > 1 else (
        {name: replace(recipe, lr=rates[0]) if len(rates) else recipe
         for recipes, _ in sets for name, recipe in recipes.items()}, pd.DataFrame())
    jobs = [(data, int(seed), {name: tuned[name] for name in names}, steps, batch_size, select, evaluate_every)
            for seed in seeds for recipes, data in sets for names in _sharing({name: tuned[name] for name in recipes})]
    tables, logits, history = [], {}, {}
    for (_, seed, *_), (dataset, labels, found) in zip(jobs, parallel(_train, jobs), strict=True):  # noqa: B007
        for technique, (numbers, prediction, past) in found.items():
            numbers = {**numbers, "learning rate": tuned[technique].lr} if len(rates) else dict(numbers)
            if np.isnan(numbers["seconds"]):  # of a training that diverged there is no time, but a result: it failed
                del numbers["seconds"]
            tables.append(tidy(dataset, technique, seed, numbers, protocol=protocol))
            logits[technique, seed], history[technique, seed] = prediction, past
    table = pd.concat(tables, ignore_index=True)
    order = {technique: place for place, technique in enumerate(tuned)}
    table = table.sort_values("technique", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return Comparison(table, logits, labels, history, tried)


def _check(recipes, data, seeds, protocol) -> None:
    if protocol not in ("fair", "source"):
        raise ValueError(f"protocol={protocol!r} is unknown; choose fair or source")
    if not callable(data):
        raise TypeError(f"data is a {type(data).__name__}; it must be a function of the seed: lambda seed: …")
    if isinstance(seeds, str | int | float) or not all(isinstance(seed, int | np.integer) and seed >= 0
                                                       for seed in seeds):
        raise ValueError(f"seeds={seeds!r} must be a list of whole numbers, 0 or more")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={seeds!r} holds one twice; a seed counts once")
    if not recipes or not len(seeds):
        raise ValueError(f"{len(recipes)} recipes and {len(seeds)} seeds: give at least one of each")
    strange = {name: recipe for name, recipe in recipes.items() if not isinstance(recipe, Recipe)}
    if strange:
        name, recipe = next(iter(strange.items()))
        raise TypeError(f"{name!r} is a {type(recipe).__name__}; it must be a Recipe")


def _sharing(recipes: Mapping[str, Recipe]) -> list[list[str]]:
    """Techniques that differ in their post-hoc correction alone, together."""
    groups: dict[Recipe, list[str]] = {}
    for technique, recipe in recipes.items():
        groups.setdefault(replace(recipe, posthoc=None), []).append(technique)
    return list(groups.values())


def tune(sets: Sequence[tuple[Mapping[str, Recipe], Callable[[int], Dataset]]], rates: Sequence[float], *, steps: int,
         batch_size: int) -> tuple[dict[str, Recipe], pd.DataFrame]:
    """Give each recipe the rate that does best on the validation split of the tuning draw.

    Parameters
    ----------
    sets : sequence of (mapping of str to Recipe, callable)
        Recipes and their data.
    rates : sequence of float
    steps, batch_size : int

    Returns
    -------
    dict of str to Recipe
    pandas.DataFrame
        Validation balanced accuracy, a technique a row, a rate a column.
    """
    jobs = [(data, {name: replace(recipes[name], lr=float(rate)) for name in names}, steps, batch_size)
            for rate in rates for recipes, data in sets for names in _sharing(recipes)]
    every = {name: recipe for recipes, _ in sets for name, recipe in recipes.items()}
    scores = pd.DataFrame(index=list(every), columns=[float(rate) for rate in rates], dtype=float)
    for (_, group, *_), found in zip(jobs, parallel(_tune, jobs, "tuning runs"), strict=True):
        for technique, score in found.items():
            scores.loc[technique, group[technique].lr] = score
    best = scores.idxmax(axis=1)
    return {name: replace(recipe, lr=float(best[name])) for name, recipe in every.items()}, scores


def _tune(data, recipes: dict[str, Recipe], steps: int, batch_size: int) -> dict[str, float]:
    """Validation balanced accuracy of recipes that share a training; the test split is never looked at.

    The training looks at validation as often as any other: a technique may steer by it.
    """
    dataset = data(TUNING_SEED)
    found = _predictions(recipes, dataset, dataset.val, steps, batch_size, TUNING_SEED, "last", None)[0]
    return {technique: float(np.nanmean(metrics.recall_per_class(
        logits.argmax(1), dataset.val.labels, logits.shape[1]))) for technique, logits in found.items()}


def _train(data, seed: int, recipes: dict[str, Recipe], steps: int, batch_size: int, select: str,
           evaluate_every: int | None):
    dataset = data(seed)
    found, seconds, history = _predictions(recipes, dataset, dataset.test, steps, batch_size, seed, select,
                                           evaluate_every)
    return dataset.name, dataset.test.labels, {
        technique: ({**metrics.evaluate(logits, dataset.test.labels, dataset.class_counts), "seconds": seconds},
                    logits, history) for technique, logits in found.items()}


def _predictions(recipes: dict[str, Recipe], dataset: Dataset, split, steps: int, batch_size: int, seed: int,
                 select: str, evaluate_every: int | None):
    """Logits of each technique from one training, its seconds and its history. One that diverged predicts nothing."""
    first = next(iter(recipes.values()))
    extra = {} if first.procedure else {"evaluate_every": evaluate_every}
    try:
        trained = fit(first, dataset, steps=steps, batch_size=batch_size, seed=seed, **extra)
    except Diverged:
        nothing = torch.zeros(len(split), len(dataset.class_names))
        return dict.fromkeys(recipes, nothing), float("nan"), []
    found = {}
    for technique, recipe in recipes.items():
        trained.run.recipe = replace(trained.run.recipe, posthoc=recipe.posthoc)
        found[technique] = trained.predict(split, select)
    return found, trained.seconds, trained.history


# --------------------------------------------------------------------------------------------------------------------
# The two arenas
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arena:
    """A standard comparison: one long-tailed set of images, and the plain recipe that every technique changes.

    Attributes
    ----------
    dataset : str
        As `helpers.datasets.long_tailed` knows it.
    recipe : Recipe
        Network, batch and steps were chosen for this plain recipe on validation, before any remedy was tried.
    steps : int
    batch_size : int
    """

    dataset: str
    recipe: Recipe = field(default_factory=functools.partial(Recipe, model=CompactNet))
    steps: int = 400
    batch_size: int = 128


ARENAS = {"digits": Arena("MNIST"), "garments": Arena("FashionMNIST")}
BASELINES = {"baseline": {}, "logit adjustment": {"posthoc": logit_adjustment},
             "random oversampling": {"resample": oversample}}


def in_arena(arena: str, techniques: Mapping[str, Mapping], *, seeds: Sequence[int], steps: int | None = None,
             rates: Sequence[float] = RATES, data: str = "auto") -> Comparison:
    """Compare techniques in one of the two arenas, always beside the strong baselines.

    These are cross-entropy, the same with post-hoc logit adjustment, and random oversampling; "balanced data" is the
    plain recipe trained on the whole balanced set, which shows how much is left to gain. They are trained once for all
    chapters (see `helpers.runs`).

    Parameters
    ----------
    arena : {"digits", "garments"}
    techniques : mapping of str to mapping
        By name, the hooks of the arena's recipe that the technique changes: ``{"focal loss": {"loss": focal}}``.
    seeds : sequence of int
    steps : int, optional
        The arena's own, unless given.
    rates : sequence of float
        As in `compare`.
    data : {"auto", "real", "stand-in"}

    Returns
    -------
    Comparison

    Examples
    --------
    >>> found = in_arena("digits", {}, seeds=[0], steps=1, rates=[0.1], data="stand-in")
    >>> found.table.technique.unique().tolist()
    ['baseline', 'logit adjustment', 'random oversampling', 'balanced data']
    """
    if arena not in ARENAS:
        raise ValueError(f"arena={arena!r} is unknown; choose one of {', '.join(ARENAS)}")
    place = ARENAS[arena]
    known = {name: hooks for name, hooks in BASELINES.items() if name not in techniques}
    try:
        baselines, others = ({name: replace(place.recipe, **hooks) for name, hooks in some.items()}
                             for some in (known, techniques))
    except TypeError as error:
        raise TypeError(f"a technique is a mapping of a recipe's hooks: {error}") from None
    draw, whole = (functools.partial(_draw, place.dataset, ratio, data) for ratio in (100, 1))
    sets = [(recipes, draw) for recipes in (baselines, others) if recipes] + [({CEILING: place.recipe}, whole)]
    return _compare(sets, seeds=seeds, steps=steps or place.steps, batch_size=place.batch_size, rates=rates)


def _draw(name: str, ratio: float, data: str, seed: int) -> Dataset:
    return long_tailed(name, ratio=ratio, seed=seed, data=data)
