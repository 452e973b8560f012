"""One style, one colour a technique, and the figures that the chapters share. Importing the module sets the style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from helpers import metrics
from helpers import results as read
from helpers.datasets import Dataset

mpl.rcParams.update({
    "figure.dpi": 130, "figure.figsize": (7.5, 3.6), "figure.constrained_layout.use": True, "figure.facecolor": "white",
    "font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#555", "axes.labelcolor": "#222",
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.8,
    "xtick.color": "#333", "ytick.color": "#333", "legend.frameon": False, "image.cmap": "gray_r",
    "lines.linewidth": 1.8,
})

# Okabe and Ito's colours, which colour-blind readers tell apart, and some that lie far from them. The strong baselines
# have their own; the techniques of a chapter take the others in turn, and a technique keeps its colour everywhere.
_FIXED = {"baseline": "#555555", "random oversampling": "#0072B2", "logit adjustment": "#D55E00",
          "balanced data": "#000000"}
_OTHERS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6A3D9A", "#8C6D1F", "#1B7837", "#B2182B", "#113377", "#C51B7D",
           "#77BB00", "#9977FF", "#4D4DFF", "#99AA88", "#800000")
_FILLED = "filled: clear of zero after Holm's correction"
_CHAPTERS = (
    ("random undersampling", "weighted sampler", "class-aware sampling", "label shuffling", "SMOTE",
     "noise-added oversampling", "linear model", "class weights", "dynamic sampling"),
    ("Cutout", "AutoAugment", "RandAugment", "AugMix"),
    ("MixUp", "CutMix", "Remix", "SamplePairing", "FMix"),
    ("back-translation", "EDA", "near-duplicate undersampling"),
    ("OHEM", "focal loss", "ScreenerNet", "triplet loss", "CRL"),
    ("XGBoost", "MLP", "plain GNN", "GCN", "GAT", "GraphSAGE", "RGCN", "label propagation", "logistic regression",
     "majority", "XGBoost, link count", "XGBoost, neighbour means", "XGBoost, means and count"),
)
_COLOURS = {name: _OTHERS[place] for chapter in _CHAPTERS for place, name in enumerate(chapter)} | _FIXED


def colour(technique: str) -> str:
    """The colour of a technique, the same in every chapter; a variant that is not listed gets one from its name.

    Examples
    --------
    >>> colour("baseline")
    '#555555'
    """
    place = sum(ord(letter) * (index + 1) for index, letter in enumerate(technique))
    return _COLOURS.get(technique, _OTHERS[place % len(_OTHERS)])


def _row_colour(technique: str) -> str:
    """The colour of a row that has its name beside it: grey for a variant that has no colour of its own."""
    return _COLOURS.get(technique, "#6B7B86")


def colours(techniques: Sequence[str]) -> dict[str, str]:
    """The colours of techniques that stand in one legend.

    Raises
    ------
    ValueError
        If two of them would look alike; list them in ``helpers/plots.py``.

    Examples
    --------
    >>> colours(["baseline", "CutMix"])
    {'baseline': '#555555', 'CutMix': '#CC79A7'}
    """
    found: dict[str, str] = {}
    for name in techniques:
        twin = next((other for other, one in found.items() if one == colour(name)), None)
        if twin:
            raise ValueError(f"{name!r} and {twin!r} have one colour, {colour(name)}: give them places of their own in "
                             "helpers/plots.py, or draw them in two figures")
        found[name] = colour(name)
    return found


def class_counts(data: Dataset, ax: Axes | None = None) -> Axes:
    """Bars of the training samples of each class, with the numbers on them."""
    ax = ax or plt.subplots()[1]
    counts = data.class_counts.tolist()
    bars = ax.bar(data.class_names, counts, color=_FIXED["random oversampling"])
    ax.bar_label(bars, labels=[f"{count:,}" for count in counts], fontsize=8, padding=2)
    ax.set(ylabel="training samples", xlabel="class",
           title=f"{data.name}: imbalance ratio {counts[0] / counts[-1]:.0f}")
    ax.grid(axis="x", visible=False)
    return ax


def gallery(images, titles: Sequence[str] = (), columns: int = 10, size: float = 0.85) -> None:
    """Images side by side.

    Parameters
    ----------
    images : sequence of array or tensor
        Each (height, width), (1, height, width) or (3, height, width).
    titles : sequence of str, optional
        One an image.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height = (size + 0.22 * bool(len(titles))) * rows
    axes = plt.subplots(rows, columns, figsize=(size * columns, height), squeeze=False)[1]
    for place, ax in enumerate(axes.flat):
        ax.axis("off")
        if place < len(images):
            image = np.asarray(images[place])
            ax.imshow(image.transpose(1, 2, 0) if image.ndim == 3 and len(image) == 3 else image.squeeze())
            if len(titles):
                ax.set_title(titles[place], fontsize=7, loc="center")


def overview(results: pd.DataFrame, metric: str = "balanced accuracy", *, protocol: str = "fair",
             dataset: str | None = None, reference: str = "baseline", ax: Axes | None = None) -> Axes:
    """Every technique's mean and 95 % interval, the seeds as dots; the best is at the top.

    Lines show the reference and, where the results have it, the same network trained on balanced data: what is left to
    gain.
    """
    which = {"protocol": protocol, "dataset": dataset}
    known = read.chosen(results, **which).technique.unique()
    found = {name: read.mean(results, name, metric, **which) for name in known}
    order = sorted((name for name in found if name != read.CEILING), key=lambda name: found[name].mean)
    ax = ax or plt.subplots(figsize=(7.5, 0.7 + 0.3 * len(order)))[1]
    scale, unit = _scale(metric)
    for row, name in enumerate(order):
        seeds = read.values(results, name, metric, **which) * scale
        ink = _row_colour(name)
        ax.plot(seeds, [row] * len(seeds), "o", color=ink, alpha=0.3, markersize=4, markeredgewidth=0)
        ax.plot([found[name].low * scale, found[name].high * scale], [row, row], color=ink, linewidth=2.4)
        ax.plot(found[name].mean * scale, row, "o", color=ink, markersize=7)
    for name, style in ((reference, ":"), (read.CEILING, "--")):
        if name in found:
            ax.axvline(found[name].mean * scale, color=colour(name), linestyle=style, linewidth=1.2)
            ax.annotate(name, (found[name].mean * scale, 1), xycoords=("data", "axes fraction"), ha="center",
                        va="bottom", fontsize=7, color=colour(name))
    ax.set(yticks=range(len(order)), yticklabels=order, xlabel=f"{metric}{unit}: mean and 95 % interval")
    return ax


def _scale(metric: str) -> tuple[float, str]:
    return (1, " (s)") if metric == "seconds" else (100, " (%)")


def gaps(results: pd.DataFrame, reference: str = "baseline", metric: str = "balanced accuracy", *,
         protocol: str = "fair", dataset: str | None = None, order: Sequence[str] | None = None,
         ax: Axes | None = None) -> Axes:
    """Paired differences to the reference with 95 % intervals.

    A filled dot is clear of zero after Holm's correction for all differences of the figure; a hollow one is not.

    Parameters
    ----------
    order : sequence of str, optional
        The techniques to draw, from the bottom to the top; sorted by their difference unless given.
    """
    which = {"protocol": protocol, "dataset": dataset}
    known = order or [name for name in read.chosen(results, **which).technique.unique()
                      if name not in (reference, read.CEILING)]
    found = {name: read.difference(results, name, reference, metric, **which) for name in known}
    order = order or sorted(found, key=lambda name: found[name].mean)
    clear = dict(zip(order, metrics.holm([found[name].p for name in order]) < 0.05, strict=True))
    ax = ax or plt.subplots(figsize=(7.5, 0.7 + 0.3 * len(order)))[1]
    scale, unit = _scale(metric)
    for row, name in enumerate(order):
        gap = found[name]
        ink = _row_colour(name)
        ax.plot([gap.low * scale, gap.high * scale], [row, row], color=ink, linewidth=2.4)
        ax.plot(gap.mean * scale, row, "o", color=ink, markersize=7, markerfacecolor=ink if clear[name] else "white")
    ax.axvline(0, color="#333", linewidth=1)
    unit = " (points)" if scale == 100 else unit
    ax.set(yticks=range(len(order)), yticklabels=order,
           xlabel=f"{metric} minus {reference}{unit}, paired, 95 % interval\n{_FILLED}")
    return ax


def both_arenas(results: pd.DataFrame, reference: str = "logit adjustment", metric: str = "balanced accuracy", *,
                techniques: Sequence[str] | None = None) -> np.ndarray:
    """`gaps` of the two arenas side by side, techniques in one order: by their mean difference over both."""
    sets = results[results.protocol == "fair"].dataset.unique()
    names = techniques or [name for name in results[results.protocol == "fair"].technique.unique()
                           if name not in (reference, read.CEILING)]
    middle = {name: np.mean([read.difference(results, name, reference, metric, dataset=one).mean for one in sets])
              for name in names}
    order = sorted(names, key=middle.get)
    figure, axes = plt.subplots(1, len(sets), figsize=(7.5, 0.9 + 0.28 * len(order)), sharey=True, squeeze=False)
    for ax, dataset in zip(axes[0], sets, strict=True):
        gaps(results, reference, metric, dataset=dataset, order=order, ax=ax)
        ax.set(title=dataset, xlabel="")
    figure.supxlabel(f"{metric} minus {reference} (points), paired, 95 % interval\n{_FILLED}", fontsize=10)
    return axes[0]


def per_class(results: pd.DataFrame, techniques: Sequence[str], labels, class_names: Sequence[str], *,
              metric: str = "recall", protocol: str = "fair", dataset: str | None = None,
              ax: Axes | None = None) -> Axes:
    """Per-class values with 95 % intervals, a colour a technique; the axis carries the class's number of test samples.

    Parameters
    ----------
    labels : tensor or array, shape (N,)
        Test labels, for the counts on the axis.
    """
    ax = ax or plt.subplots()[1]
    classes = len(class_names)
    inks = colours(techniques)
    for place, name in enumerate(techniques):
        found = [read.mean(results, name, metric, label=label, protocol=protocol, dataset=dataset)
                 for label in range(classes)]
        at = np.arange(classes) + (place - (len(techniques) - 1) / 2) * 0.8 / len(techniques)
        middle = np.array([100 * entry.mean for entry in found])
        half = np.nan_to_num([50 * (entry.high - entry.low) for entry in found])
        ax.errorbar(at, middle, half, fmt="o", color=inks[name], markersize=5, linewidth=1.4, label=name)
    tests = np.bincount(np.asarray(labels), minlength=classes)
    ax.set(xticks=range(classes), ylabel=f"{metric} (%)", xlabel="class (test samples)")
    ax.set_xticklabels([f"{name}\n({count:,})" for name, count in zip(class_names, tests, strict=True)], fontsize=8)
    ax.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize=8)
    return ax


def history(histories: Mapping[str, Sequence[Sequence[dict]]], metric: str = "balanced accuracy",
            ax: Axes | None = None) -> Axes:
    """Metric at each look during training against steps, the mean over seeds; one list of histories a technique."""
    ax, inks = ax or plt.subplots()[1], colours(histories)
    for name, runs in histories.items():
        steps = [entry["step"] for entry in runs[0]]
        ax.plot(steps, [100 * np.mean([run[at][metric] for run in runs]) for at in range(len(steps))], "o-",
                color=inks[name], markersize=4, label=name)
    ax.set(xlabel="steps", ylabel=f"{metric} at each look (%)")
    ax.legend(fontsize=8)
    return ax


def published_and_reproduced(results: pd.DataFrame, table: str, metric: str = "accuracy",
                             names: Mapping[str, str] | None = None, dataset: str | None = None) -> pd.DataFrame:
    """A published table beside ours: under the source's protocol and under the fair one, in percent.

    Parameters
    ----------
    table : str
        As `helpers.results.published` knows it.
    names : mapping, optional
        From the published row's name to our technique, where the two differ.
    """
    rows, names = {}, names or {}
    found = read.published(table)
    found = found[(found.metric == metric) & (found["class"] == "")]
    for technique, value in zip(found.technique, found.value, strict=True):
        ours = [_or_dash(results, names.get(technique, technique), metric, protocol, dataset)
                for protocol in ("source", "fair")]
        rows[technique] = [f"{value:.1f}", *ours]
    columns = ["published (1 seed)", "reproduced, source protocol", "ours, fair protocol"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis(columns=f"{metric} (%)")


def _or_dash(results, technique, metric, protocol, dataset) -> str:
    try:
        return format(read.mean(results, technique, metric, protocol=protocol, dataset=dataset), "%")
    except KeyError:
        return "–"
