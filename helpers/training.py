"""The one training loop. A technique is a change to the `Recipe`; every recipe gets the same number of steps.

Hooks take the `Run`, so that a technique can look at the step, the class counts or the last validation, and draw its
random numbers from the run's generators.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from helpers import metrics
from helpers.datasets import Dataset, Split
from helpers.machine import autocast, keep_memory, quiet, reproducible
from helpers.models import CompactNet


@dataclass
class Run:
    """What a hook may look at while `fit` runs.

    Attributes
    ----------
    recipe : Recipe
    train : Split
        The training split on its device, after `Recipe.resample`.
    class_counts : torch.Tensor
        Samples of each class in `train`, shape (classes,), float.
    model : nn.Module
    steps : int
    batch_size : int
    step : int
        Steps done so far.
    rng : numpy.random.Generator
    generator : torch.Generator
        On the CPU. Both are seeded by the run; so is torch's global generator, which torchvision's transforms use.
    validation : tuple of torch.Tensor or None
        Logits and labels of the last validation.
    """

    recipe: Recipe
    train: Split
    class_counts: torch.Tensor
    model: nn.Module
    steps: int
    batch_size: int
    rng: np.random.Generator
    generator: torch.Generator
    mean: torch.Tensor
    std: torch.Tensor
    step: int = 0
    validation: tuple[torch.Tensor, torch.Tensor] | None = None

    @property
    def progress(self) -> float:
        """Share of the steps done, from 0 to 1."""
        return self.step / self.steps

    @property
    def device(self) -> torch.device:
        """Where the model and the data are."""
        return self.class_counts.device

    def batch(self, split: Split, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of some rows; images come as floats in [0, 1]."""
        inputs = split.inputs[rows]
        return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs, split.labels[rows]

    def normalise(self, inputs: torch.Tensor) -> torch.Tensor:
        """Zero mean and unit variance over the training split; what the model sees."""
        return (inputs - self.mean) / self.std

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits of a batch as `batch` gives it."""
        return self.model(self.normalise(inputs))


def shuffled(run: Run) -> Iterator[torch.Tensor]:
    """Plain sampling: every sample once an epoch, in a new order each time; batches may span two epochs."""
    rows = torch.empty(0, dtype=torch.long)
    while True:
        while len(rows) < run.batch_size:
            rows = torch.cat([rows, torch.randperm(len(run.train), generator=run.generator)])
        yield rows[:run.batch_size]
        rows = rows[run.batch_size:]


def oversample(train: Split, seed: int) -> Split:
    """Random oversampling: repeat samples of each class at random until all are as large as the largest.

    As imbalanced-learn's ``RandomOverSampler``, which draws the rows; a hook for `Recipe.resample`.
    """
    from imblearn.over_sampling import RandomOverSampler

    rows = np.arange(len(train))[:, None]
    rows, _ = RandomOverSampler(random_state=seed).fit_resample(rows, train.labels.numpy())
    return train[torch.as_tensor(rows[:, 0])]


def logit_adjustment(logits: torch.Tensor, run: Run, tau: float = 1.0) -> torch.Tensor:
    """Post-hoc logit adjustment, z − τ log π with the training prior π; a hook for `Recipe.posthoc`.

    A class without training samples is never predicted. Menon et al., "Long-tail learning via logit adjustment",
    ICLR 2021, equation 9.
    """
    prior = run.class_counts / run.class_counts.sum()
    return (logits - tau * prior.log()).masked_fill(prior == 0, -torch.inf)


def random_affine(inputs: torch.Tensor, run: Run, degrees: float = 10.0, shift: float = 0.07, zoom: float = 0.1,
                  shear: float = 0.0) -> torch.Tensor:
    """Turn, move, scale and shear every image of a batch by its own random amount; a hook for `Recipe.augment`.

    Parameters
    ----------
    inputs : torch.Tensor, shape (N, channels, height, width)
        What comes in from outside the picture is black.
    degrees, shift, zoom, shear : float
        Largest turn in degrees, move as a share of the side, change of the scale, and shear. All are drawn uniformly.
    """
    draws = torch.rand(5, len(inputs), generator=run.generator).to(inputs) * 2 - 1
    angle, scale = draws[0] * math.radians(degrees), 1 / (1 + zoom * draws[1])
    cos, sin, move = scale * angle.cos(), scale * angle.sin(), 2 * shift * draws[2:4]
    rows = [torch.stack([cos, shear * draws[4] - sin, move[0]], 1), torch.stack([sin, cos, move[1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(inputs.shape), align_corners=False)
    return F.grid_sample(inputs, grid, align_corners=False)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, run: Run) -> torch.Tensor:
    """Cross-entropy with class labels (N,) or target distributions (N, classes)."""
    return F.cross_entropy(logits, targets)


def supervised(run: Run, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Loss of one step: augment, mix, forward, loss."""
    recipe, targets = run.recipe, labels
    if recipe.augment:
        inputs = recipe.augment(inputs, run)
    if recipe.mix:
        inputs, targets = recipe.mix(inputs, labels, run)
    return recipe.loss(run.forward(inputs), targets, run)


def dropout_forgotten(run: Run, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """As `supervised`, with a slip of some sources: the model stays in evaluation mode after the first epoch.

    Its dropout is off from then on; an objective for the `source` protocol alone, see E5 on the page of errata.
    """
    if run.step * run.batch_size >= len(run.train):
        run.model.eval()
    return supervised(run, inputs, labels)


def sgd(parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.9) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov momentum."""
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, nesterov=momentum > 0)


def one_cycle(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Warm up over 30 % of the steps to the optimiser's rate, then anneal to nothing (Smith and Topin, 2018)."""
    peak = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=max(steps, 2), cycle_momentum=False)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. ``Recipe()`` is the baseline; a technique is ``dataclasses.replace(baseline, hook=…)``.

    Attributes
    ----------
    model : callable
        ``model(classes) -> nn.Module`` from inputs to logits.
    resample : callable, optional
        ``resample(train, seed) -> Split``: another training set, made once before the first step.
    sampler : callable
        ``sampler(run)`` yields the rows of one batch after the other, without end.
    augment : callable, optional
        ``augment(inputs, run) -> inputs``, on a batch of images in [0, 1].
    mix : callable, optional
        ``mix(inputs, labels, run) -> (inputs, targets)``; targets have shape (N, classes) or (N,).
    loss : callable
        ``loss(logits, targets, run) -> scalar``.
    objective : callable
        ``objective(run, inputs, labels) -> scalar``: the whole step, for a technique that needs several views or the
        features. It calls the hooks above itself.
    lr : float
        The learning rate, which `helpers.experiments.compare` tunes for each technique.
    optimizer : callable
        ``optimizer(parameters, lr) -> torch.optim.Optimizer``.
    schedule : callable, optional
        ``schedule(optimizer, steps) -> LRScheduler``, stepped after every step; None keeps the rate constant.
    posthoc : callable, optional
        ``posthoc(logits, run) -> logits``, applied at every prediction and never in training.
    procedure : callable, optional
        ``procedure(recipe, data, steps=, batch_size=, seed=) -> Fit`` in place of the loop of `fit`, for what fits no
        hook: several stages, several networks. It gets the recipe without the procedure, so that it may call `fit`.
    """

    model: Callable[[int], nn.Module] = CompactNet
    resample: Callable[[Split, int], Split] | None = None
    sampler: Callable[[Run], Iterator[torch.Tensor]] = shuffled
    augment: Callable[[torch.Tensor, Run], torch.Tensor] | None = None
    mix: Callable[[torch.Tensor, torch.Tensor, Run], tuple[torch.Tensor, torch.Tensor]] | None = None
    loss: Callable[[torch.Tensor, torch.Tensor, Run], torch.Tensor] = cross_entropy
    objective: Callable[[Run, torch.Tensor, torch.Tensor], torch.Tensor] = supervised
    lr: float = 0.16
    optimizer: Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer] = sgd
    schedule: Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler] | None = one_cycle
    posthoc: Callable[[torch.Tensor, Run], torch.Tensor] | None = None
    procedure: Callable[..., Fit] | None = None


class Diverged(ArithmeticError):
    """Raised by `fit` when the loss is no number any more."""


@dataclass
class Fit:
    """A trained model.

    Attributes
    ----------
    run : Run
        Holds the model after the last step.
    history : list of dict
        One entry a validation: ``step``, training ``loss`` since the one before, validation ``balanced accuracy``,
        ``accuracy`` and per-class ``recall``.
    selected : dict
        The weights with the best validation balanced accuracy. (Where the validation split is the test split, as in the
        `source` protocol, that is the best *test* epoch.)
    most_accurate : dict
        The weights with the best validation accuracy: what a source takes that chooses on a long-tailed split.
    seconds : float
        CPU time of resampling and training (wall time on a GPU), evaluation left out.
    """

    run: Run
    history: list[dict] = field(default_factory=list)
    selected: dict = field(default_factory=dict)
    most_accurate: dict = field(default_factory=dict)
    seconds: float = 0.0

    def predict(self, split: Split, select: str = "last", posthoc: bool = True) -> torch.Tensor:
        """Logits on the CPU, shape (N, classes).

        Parameters
        ----------
        split : Split
        select : {"last", "validation", "validation accuracy"}
            The weights after the last step, or those that did best on the validation split, by balanced accuracy or by
            accuracy.
        posthoc : bool
            Whether to apply the recipe's post-hoc correction.
        """
        if select == "last":
            return predict(self.run, split, posthoc)
        kept = {"validation": self.selected, "validation accuracy": self.most_accurate}
        if select not in kept:
            raise ValueError(f"select={select!r} is unknown; choose last, validation or validation accuracy")
        last = copy.deepcopy(self.run.model.state_dict())
        self.run.model.load_state_dict(kept[select])
        try:
            return predict(self.run, split, posthoc)
        finally:
            self.run.model.load_state_dict(last)


@torch.no_grad()
def predict(run: Run, split: Split, posthoc: bool = True, chunk: int = 1000) -> torch.Tensor:
    """Logits of a split in evaluation mode, on the CPU, shape (N, classes)."""
    training, threads = run.model.training, torch.get_num_threads()
    run.model.eval()
    torch.set_num_threads(1)  # small convolutions lose time over several
    parts = []
    for rows in torch.arange(len(split)).split(chunk):
        inputs, _ = run.batch(split, rows.to(split.labels.device))
        with autocast(run.device):
            logits = run.forward(inputs.to(run.device))
        logits = logits.float()
        parts.append((run.recipe.posthoc(logits, run) if posthoc and run.recipe.posthoc else logits).cpu())
    run.model.train(training)
    torch.set_num_threads(threads)
    return torch.cat(parts)


def fit(recipe: Recipe, data: Dataset, *, steps: int = 600, batch_size: int = 128, seed: int = 0,
        evaluate_every: int | None = None, device: str | torch.device | None = None, progress: bool = False) -> Fit:
    """Train a recipe for a number of steps.

    Parameters
    ----------
    recipe : Recipe
    data : Dataset
        Only its training and validation splits are looked at.
    steps, batch_size : int
        Optimiser updates, and samples in each.
    seed : int
        Decides initialisation, order, dropout and every draw: on one machine, the same seed gives the same numbers.
    evaluate_every : int, optional
        Steps between validations; a tenth of `steps` unless given.
    device : optional
        A GPU where there is one, else the CPU.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    Fit

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be; the message names it and what is accepted.
    Diverged
        If the loss is no number any more; the message names the step and the rate.

    Examples
    --------
    >>> from helpers.datasets import long_tailed
    >>> trained = fit(Recipe(), long_tailed(data="stand-in"), steps=2)
    >>> [entry["step"] for entry in trained.history]
    [1, 2]
    """
    _check(recipe, data, steps, batch_size, seed)
    if recipe.procedure:
        return recipe.procedure(replace(recipe, procedure=None), data, steps=steps, batch_size=batch_size, seed=seed)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    keep_memory()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    with reproducible(seed):
        started = clock()
        train = recipe.resample(data.train, seed) if recipe.resample else data.train
        train = Split(train.inputs.to(device), train.labels.to(device))
        run = prepare(recipe, train, len(data.class_names), steps, batch_size, seed)
        optimizer = recipe.optimizer(run.model.parameters(), recipe.lr)
        schedule = recipe.schedule(optimizer, steps) if recipe.schedule else None
        result, evaluate_every = Fit(run), evaluate_every or max(steps // 10, 1)
        batches, total = recipe.sampler(run), 0.0
        for run.step in _bar(range(steps), progress):
            inputs, labels = run.batch(train, next(batches).to(device))
            with autocast(device):
                loss = recipe.objective(run, inputs, labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if schedule:
                schedule.step()
            total = total + loss.detach()
            if device.type == "cpu" and not math.isfinite(total):  # on a GPU the question would stop the queue
                raise Diverged(f"the loss is {loss.item()} at step {run.step + 1} of {steps}, "
                               f"learning rate {recipe.lr}: a lower rate may do")
            if (run.step + 1) % evaluate_every == 0 or run.step + 1 == steps:
                result.seconds += clock() - started
                since = run.step + 1 - (result.history[-1]["step"] if result.history else 0)
                _validate(result, data.val, float(total) / since)
                total, started = 0.0, clock()
        run.step = steps
    return result


def _check(recipe, data, steps, batch_size, seed) -> None:
    """Say in one line what a reader got wrong."""
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe is a {type(recipe).__name__}; it must be a Recipe")
    if not isinstance(data, Dataset):
        raise TypeError(f"data is a {type(data).__name__}; it must be a Dataset, as long_tailed(…) gives it")
    for name, value, least in (("steps", steps, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name}={value!r} must be a whole number, {least} or more")
    classes = len(data.class_names)
    for name in ("train", "val"):
        split = getattr(data, name)
        if not len(split) or len(split.inputs) != len(split.labels):
            raise ValueError(f"{data.name}: {len(split.inputs)} inputs and {len(split.labels)} labels in {name}; "
                             "there must be as many, and at least one")
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            raise ValueError(f"{data.name}: labels from {low} to {high} in {name}, but there are {classes} classes")


def prepare(recipe: Recipe, train: Split, classes: int, steps: int, batch_size: int, seed: int) -> Run:
    """Build the model and the `Run` of a recipe; `train` is on its device already."""
    device = train.labels.device
    model = recipe.model(classes).to(device, memory_format=torch.channels_last)
    if train.inputs.dtype == torch.uint8:
        mean, std = pixel_moments(train.inputs)
    else:
        mean, std = torch.zeros((), device=device), torch.ones((), device=device)
    counts = torch.bincount(train.labels, minlength=classes).float()
    return Run(recipe, train, counts, model.train(), steps, batch_size, np.random.default_rng(seed),
               torch.Generator().manual_seed(seed), mean, std)


def pixel_moments(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of ``uint8`` images scaled to [0, 1], counted without a copy in floats."""
    counts = torch.bincount(images.flatten(), minlength=256).double()
    grey = torch.arange(256, device=images.device) / 255
    mean = (counts * grey).sum() / counts.sum()
    variance = (counts * (grey - mean) ** 2).sum() / (counts.sum() - 1)
    return mean.float(), variance.sqrt().float().clamp_min(1e-6)


def _validate(result: Fit, val: Split, loss: float) -> None:
    run = result.run
    logits, labels = predict(run, val), val.labels.cpu()
    run.validation = logits, labels
    predictions = logits.argmax(1)
    recall = metrics.recall_per_class(predictions, labels, logits.shape[1])
    entry = {"step": run.step + 1, "loss": loss, "balanced accuracy": float(np.nanmean(recall)),
             "accuracy": float((predictions == labels).float().mean()), "recall": recall}
    for metric, kept in (("balanced accuracy", "selected"), ("accuracy", "most_accurate")):
        if entry[metric] > max((before[metric] for before in result.history), default=-1):
            setattr(result, kept, copy.deepcopy(run.model.state_dict()))
    result.history.append(entry)


def _bar(iterable, show: bool):
    if not show or quiet():
        return iterable
    from tqdm.auto import tqdm

    return tqdm(iterable, unit="step")
