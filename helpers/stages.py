"""Training in two stages: the features of a trained network as data of their own, and heads on top of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from helpers.datasets import Dataset, Split
from helpers.machine import autocast, reproducible
from helpers.training import Fit, Recipe, Run, fit


@torch.no_grad()
def as_features(run: Run, split: Split, chunk: int = 1000) -> Split:
    """What the backbone of a trained run makes of a split: float features on the CPU, shape (N, d), and the labels.

    In evaluation mode, so that batch norm uses what it learned and is not changed.

    Examples
    --------
    >>> from helpers.datasets import long_tailed
    >>> data = long_tailed(data="stand-in")
    >>> as_features(fit(Recipe(), data, steps=1).run, data.val).inputs.shape
    torch.Size([1000, 64])
    """
    training, parts = run.model.training, []
    run.model.eval()
    for rows in torch.arange(len(split)).split(chunk):
        inputs, _ = run.batch(split, rows.to(split.labels.device))
        with autocast(run.device):
            parts.append(run.model.features(run.normalise(inputs.to(run.device))).float().cpu())
    run.model.train(training)
    return Split(torch.cat(parts), split.labels.cpu())


def balanced(run: Run) -> Iterator[torch.Tensor]:
    """Balanced batches: rows with replacement, each with a probability inverse to the size of its class."""
    weights = (1 / run.class_counts.cpu())[run.train.labels.cpu()]
    while True:
        yield torch.multinomial(weights, run.batch_size, replacement=True, generator=run.generator)


class Heads(nn.Module):
    """One backbone under several heads; gives the logits of all, shape (N, heads, classes)."""

    def __init__(self, features: nn.Module, heads: Mapping[str, nn.Module]):
        super().__init__()
        self.features, self.names, self.heads = features, list(heads), nn.ModuleList(heads.values())

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of every head, shape (N, heads, classes)."""
        found = self.features(inputs).float()
        return torch.stack([head(found) for head in self.heads], 1)


def of_head(logits: torch.Tensor, run: Run, name: str) -> torch.Tensor:
    """The logits of one of the `Heads`; a hook for `Recipe.posthoc`."""
    return logits[:, run.model.names.index(name)]


@dataclass
class Stage:
    """What a head of the second stage may look at.

    Attributes
    ----------
    trained : Fit
        The first stage.
    features : Dataset
        Its features of the training and the validation split. (The test split is left as it was.)
    recipe : Recipe
    steps : int
        What the first stage left over.
    batch_size : int
    seed : int
    seconds : float
        Spent in the second stage so far.
    """

    trained: Fit
    features: Dataset
    recipe: Recipe
    steps: int
    batch_size: int
    seed: int
    seconds: float = 0.0

    @property
    def head(self) -> nn.Linear:
        """A copy of the head of the first stage."""
        return copy.deepcopy(self.trained.run.model.head).cpu()

    def learn(self, **hooks) -> nn.Module:
        """Train a head on the features in the steps that are left: a recipe like any other, its inputs are features.

        A new linear head, unless the hooks name a `model`.
        """
        width = self.features.train.inputs.shape[1]
        plain = Recipe(model=lambda classes: nn.Linear(width, classes), lr=self.recipe.lr,
                       optimizer=self.recipe.optimizer, schedule=self.recipe.schedule)
        found = fit(replace(plain, **hooks), self.features, steps=self.steps, batch_size=self.batch_size,
                    seed=self.seed, device="cpu")
        self.seconds += found.seconds
        return found.run.model


def two_stages(recipe: Recipe, data: Dataset, *, steps: int, batch_size: int, seed: int,
               heads: Mapping[str, Callable[[Stage], nn.Module]], share: float = 0.8) -> Fit:
    """Train a network, freeze its backbone and put one head or several on it; a hook for `Recipe.procedure`.

    Techniques that share the procedure, one object, share one training: each takes its head by `of_head`.

    Parameters
    ----------
    recipe : Recipe
        Of the first stage.
    data, steps, batch_size, seed
        As in `helpers.training.fit`; the steps are those of both stages together.
    heads : mapping of str to callable
        ``head(stage) -> nn.Module`` from features to logits; it may call `Stage.learn`.
    share : float
        Of the steps, for the first stage; 1 where no head needs any.

    Examples
    --------
    >>> from helpers.datasets import long_tailed
    >>> found = two_stages(Recipe(), long_tailed(data="stand-in"), steps=4, batch_size=32, seed=0, share=0.5,
    ...                    heads={"new head": lambda stage: stage.learn(sampler=balanced)})
    >>> found.history[-1]["step"], found.run.model.names
    (2, ['new head'])
    """
    first = steps if share == 1 else min(max(round(share * steps), 1), steps - 1)
    trained = fit(replace(recipe, posthoc=None), data, steps=first, batch_size=batch_size, seed=seed)
    with reproducible(seed):
        features = replace(data, train=as_features(trained.run, data.train), val=as_features(trained.run, data.val))
        stage = Stage(trained, features, recipe, steps - first, batch_size, seed)
        made = {name: head(stage) for name, head in heads.items()}
    trained.seconds += stage.seconds
    trained.run.model = Heads(trained.run.model.features, made).to(trained.run.device).eval()
    trained.run.recipe = recipe
    return trained
