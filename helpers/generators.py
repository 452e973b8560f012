"""What the chapters on made images share: balanced batches, the descent of a generator, how its images are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import torch
from torch import nn
from torch.nn import functional as F

from helpers.datasets import Split, long_tailed
from helpers.training import Recipe, fit, one_cycle


def evenly(labels: torch.Tensor, batch_size: int) -> Iterator[torch.Tensor]:
    """Rows in which every class comes equally often, without end; by torch's global generator."""
    weights = (1 / torch.bincount(labels))[labels]
    while True:
        yield torch.multinomial(weights, batch_size, replacement=True)


def descend(losses: Callable, model: nn.Module, split: Split, steps: int, lr: float = 2e-3,
            batch_size: int = 64) -> list[list[float]]:
    """Adam with one cycle of its rate, on balanced batches.

    Parameters
    ----------
    losses : callable
        ``losses(model, inputs, labels) -> sequence of scalars``, which are summed.
    model : torch.nn.Module
    split : Split
        Inputs as the model wants them, floats in [0, 1] say.
    steps : int
    lr : float
    batch_size : int

    Returns
    -------
    list of list of float
        The terms of each step.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule, history = one_cycle(optimizer, steps), []
    for rows in islice(evenly(split.labels, batch_size), steps):
        terms = losses(model, split.inputs[rows], split.labels[rows])
        optimizer.zero_grad()
        sum(terms).backward()
        optimizer.step()
        schedule.step()
        history.append([term.item() for term in terms])
    return history


def diversity(images: torch.Tensor, fresh: torch.Tensor) -> float:
    """Mean distance between two images, in that between two fresh real ones; low is mode collapse.

    Examples
    --------
    >>> diversity(torch.tensor([[0], [50]]), torch.tensor([[10], [110]]))
    0.5
    """
    own, theirs = (F.pdist(one.flatten(1).float() / 255).mean() for one in (images, fresh))
    return float(own / theirs)


def ask_the_judge(seed: int, steps: int, data: str, images: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The classes that a classifier of the whole balanced Fashion-MNIST sees in images, by name; it is in no recipe."""
    whole = long_tailed("FashionMNIST", ratio=1, seed=seed, data=data)
    judge = fit(Recipe(), whole, steps=steps, seed=seed)
    return {name: judge.predict(Split(one, torch.zeros(len(one), dtype=torch.long))).argmax(1)
            for name, one in images.items()}
