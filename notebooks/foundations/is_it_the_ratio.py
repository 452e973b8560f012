# %% [markdown]
# # Is it the ratio? What makes a rare class hard

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** Is a class hard to learn because it is rare? And do the classes have to be one to one?
#
# **Data.** Two clouds of points in the plane, drawn afresh for every seed, so that you know the best possible answer.
#
# **Time.** <span class="minutes">A few minutes on a CPU</span> for everything on this page.
#
# **Verdict.** <span class="verdict">computed by the last cell</span>
#
# </div>

# %% tags=["bootstrap", "remove-cell"]
try:
    import helpers  # noqa: F401
except ModuleNotFoundError:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "-q",
                    "git+https://github.com/YOUR-ACCOUNT/learning-from-imbalanced-data"],
                   check=True)

# %% tags=["hide-input"]
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from scipy.stats import hypergeom, norm
from sklearn.ensemble import AdaBoostClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torch.nn import functional as F

from helpers import plots
from helpers.claims import Check, better, between, claim, equivalent
from helpers.datasets import Split
from helpers.metrics import recall_per_class
from helpers.records import record
from helpers.results import difference, mean, tidy
from helpers.runs import parallel
from helpers.training import oversample, reproducible, shuffled
from helpers.widgets import Widget, bars, lines, slider

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]
STEPS = 300
DISTANCES = [1, 2, 3, 4, 6, 8]
DATA = "auto"

# %% [markdown]
# ## A world where you know the answer
#
# The **common** class is a round cloud at the origin; the **rare** class is the same cloud, moved to the right by a distance
# $d$. Both are normal with unit variance, so $d$ alone says how much they overlap. The *imbalance ratio* $\rho$ says how many
# common points come for one rare point.

# %%
def draw(rare, common, distance, seed):
    """Points of both classes and their labels; 1 is the rare class.

    The rare points come first: they are the same for a seed, however many common ones follow.
    """
    centres = np.repeat([[distance, 0.0], [0.0, 0.0]], [rare, common], axis=0)
    noise = np.random.default_rng(seed).normal(size=centres.shape)
    return centres + noise, np.repeat([1, 0], [rare, common])


# %% [markdown]
# In such a world the probability of the rare class is known. With $x_1$ the first coordinate, its log odds are
#
# $$\log\frac{P(\text{rare} \mid x)}{P(\text{common} \mid x)} = d\,x_1 - \frac{d^2}{2} - \log\rho$$
#
# The rule with the highest **accuracy** says "rare" where this is above zero. **Balanced accuracy** is the mean of the two
# *recalls*, the shares of each class that are found. The rule with the highest one leaves the last term out: to it every class
# counts the same. So even someone who knows everything about the two clouds loses rare points when the ratio grows, as long as
# accuracy is the aim:

# %%
def all_knowing(distance, ratio=1):
    """Balanced accuracy of the rule with the highest accuracy; at ratio 1, the best there is."""
    move = np.log(ratio) / distance
    return (norm.cdf(distance / 2 + move) + norm.cdf(distance / 2 - move)) / 2


RATIOS = (1, 10, 100, 1000)
pd.DataFrame({f"1:{ratio:,}": {f"distance {distance}": 100 * all_knowing(distance, ratio)
                               for distance in DISTANCES} for ratio in RATIOS}).round(1)

# %% [markdown]
# From now on, *separable* means distance 8, where the clouds hardly touch, and *overlapping* means distance 2. The table is what
# you have to compare a learner with. Where it falls short of the table, it has lost something of its own.
#
# ## Five learners
#
# Nearest neighbours and AdaBoost, as in the article that put the question (see [below](#published-and-reproduced)); logistic
# regression without a penalty, which is *consistent* here: with enough data it finds the true log odds; the same with a
# strong penalty; and a small network, trained by plain SGD.

# %%
def train(inputs, labels, steps, seed, *, batch=128, balanced=False, prior_bias=False):
    """Train a network with one hidden layer; yields it before each step and after the last."""
    data = Split(torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(labels))
    prior = torch.bincount(data.labels) / len(data)
    if balanced:
        data = oversample(data, seed)
    with reproducible(seed):
        net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    if prior_bias:
        net[2].bias.data.copy_(prior.log())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    run = SimpleNamespace(train=data, batch_size=batch,
                          generator=torch.Generator().manual_seed(seed))
    for rows in islice(shuffled(run), steps):
        yield net
        loss = F.cross_entropy(net(data.inputs[rows]), data.labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    yield net


# %%
class Network:
    """The network after some steps, with scikit-learn's interface."""

    def __init__(self, steps, seed):
        self.steps, self.seed = steps, seed

    def fit(self, inputs, labels):
        *_, self.net = train(inputs, labels, self.steps, self.seed)
        return self

    @torch.no_grad()
    def predict_proba(self, inputs):
        return self.net(torch.as_tensor(inputs, dtype=torch.float32)).softmax(1).numpy()


def learners(steps, seed):
    """The five learners, untrained."""
    return {"k-NN": KNeighborsClassifier(5),
            "AdaBoost": AdaBoostClassifier(n_estimators=30, random_state=seed),
            "logistic regression": LogisticRegression(C=np.inf, max_iter=1000),
            "penalised": LogisticRegression(C=0.01),
            "network": Network(steps, seed)}


# %% [markdown]
# Look at the rows first: in the first and third the clouds stand apart, in the second and fourth they overlap. Then go from
# left to right, with fifty rare points in every panel. Crosses are mistakes among 200 new points of **each** class.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Twelve panels of points with decision regions for k-NN and AdaBoost at ratios 1, 10 and 100. Where the classes stand apart there is almost no mistake at any ratio; where they overlap, the rare class's region shrinks to specks as the ratio grows and most of its points are missed."}}
grid = np.stack(np.meshgrid(np.linspace(-4, 12, 161), np.linspace(-4, 4, 81)), -1)
figure, axes = plt.subplots(4, 3, figsize=(7.5, 7.6), sharex="row", sharey=True)
for row, (name, distance) in zip(axes, [("k-NN", 8), ("k-NN", 2), ("AdaBoost", 8), ("AdaBoost", 2)],
                                 strict=True):
    for ax, ratio in zip(row, (1, 10, 100), strict=True):
        inputs, labels = draw(50, 50 * ratio, distance, 0)
        model = learners(1, 0)[name].fit(inputs, labels)
        region = model.predict(grid.reshape(-1, 2)).reshape(grid.shape[:2])
        ax.contourf(grid[..., 0], grid[..., 1], region, levels=[-0.5, 0.5, 1.5],
                    colors=["#e8eef4", "#fbe3d2"])
        points, truth = draw(200, 200, distance, 1)
        wrong = model.predict(points) != truth
        for label, ink in ((0, "#0072B2"), (1, "#D55E00")):
            own = truth == label
            ax.plot(*points[own & ~wrong].T, ".", color=ink, markersize=2)
            ax.plot(*points[own & wrong].T, "x", color=ink, markersize=4, markeredgewidth=1)
        ax.set_title(f"{name}, 1:{ratio}, rare found {1 - wrong[truth == 1].mean():.0%}",
                     fontsize=8)
        ax.set(xlim=(-4, distance + 4), ylim=(-4, 4), xticks=[], yticks=[])
        ax.grid(visible=False)

# %% [markdown]
# Where the clouds stand apart, the ratio changes nothing. Where they overlap, the rare region shrinks with every step to the
# right, although the rare points are the same. Before we measure it, two mechanisms: what a batch does, and what boosting
# does.

# %% [markdown]
# ## Batches without a rare sample
#
# A step of SGD sees a batch. Draw 128 samples from classes at $1:\rho$, with replacement: all of them are common with
# probability $(\rho / (\rho + 1))^{128}$. Without replacement, as in an epoch, it is the *hypergeometric* chance. Here are both,
# beside what the book's sampler does, with ten rare samples in the training set.

# %%
def empty_batches(rare, common, batch=128, batches=3000, balanced=False):
    """Share of batches without a rare sample, counted."""
    labels = torch.arange(rare + common) < rare
    data = Split(torch.zeros(len(labels), 1), labels.long())
    if balanced:
        data = oversample(data, 0)
    run = SimpleNamespace(train=data, batch_size=batch, generator=torch.Generator().manual_seed(0))
    drawn = torch.stack(list(islice(shuffled(run), batches)))
    return float((data.labels[drawn].sum(1) == 0).float().mean())


batch_table = pd.DataFrame({f"1:{ratio:,}": {
    "with replacement (binomial)": (ratio / (ratio + 1)) ** 128,
    "without (hypergeometric)": hypergeom.pmf(0, 10 * (ratio + 1), 10, 128),
    "counted": empty_batches(10, 10 * ratio),
    "counted, balanced batches": empty_batches(10, 10 * ratio, balanced=True)}
    for ratio in (100, 1000, 10000)}).T
batch_table.round(3)

# %% [markdown]
# At 1:1,000 most batches say nothing about the rare class but "less of it". What does SGD make of that? Train the network on
# classes at distance 4, at 1:1,000 with twenty rare points, and look at it every ten steps. Four ways to begin:
#
# - *plain batches* of 128;
# - *large batches* of 1,024: most of them hold a rare sample;
# - *log-prior bias*: plain batches, but the biases of the two outputs start at $\log \pi_c$, the log of each class's share in
#   training, so that the network begins with the trivial solution in place of having to find it (Lin et al., ICCV 2017, start a
#   detector at a fixed small probability, .01);
# - *balanced batches*: half of every batch is rare.

# %%
WAYS = {"plain batches": {}, "large batches": {"batch": 1024},
        "log-prior bias": {"prior_bias": True}, "balanced batches": {"balanced": True}}
LOOKS = ("training loss", "bias, rare minus common", "recall of the rare class", "ROC-AUC")


def watch(way, steps, seed, *, rare=20, ratio=1000, distance=4, every=10):
    """Four numbers at every tenth step of one training, shape (looks, 4)."""
    inputs, labels = draw(rare, rare * ratio, distance, [seed, 0])
    points, truth = draw(2000, 2000, distance, [seed, 1])
    everything = torch.as_tensor(inputs, dtype=torch.float32), torch.as_tensor(labels)
    seen = []
    for step, net in enumerate(train(inputs, labels, steps, seed, **WAYS[way])):
        if step % every == 0:
            with torch.no_grad():
                logits = net(torch.as_tensor(points, dtype=torch.float32))
                loss = F.cross_entropy(net(everything[0]), everything[1])
            score, bias = (logits[:, 1] - logits[:, 0]).numpy(), net[2].bias.detach()
            seen.append([float(loss), float(bias[1] - bias[0]),
                         float((score[truth == 1] > 0).mean()), roc_auc_score(truth, score)])
    return np.array(seen)


jobs = [(way, STEPS, seed) for way in WAYS for seed in SEEDS]
seen = dict(zip(jobs, parallel(watch, jobs), strict=True))

# %% [markdown]
# Look at the last panel, ROC-AUC: below one half, the network ranks the classes **the wrong way round**.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels over the first 300 steps. Plain and large batches reach a low loss within ten steps, find no rare sample for a long time, and their ROC-AUC drops far below one half before it recovers; with a log-prior bias ROC-AUC rises at once, while recall stays below that of balanced batches."}}
figure, axes = plt.subplots(2, 2, figsize=(7.5, 5), sharex=True)
inks = dict(zip(WAYS, [plots.colour("baseline"), "#009E73", plots.colour("logit adjustment"),
                       plots.colour("random oversampling")], strict=True))
for place, (ax, what) in enumerate(zip(axes.flat, LOOKS, strict=True)):
    for way in WAYS:
        curve = np.mean([seen[way, STEPS, seed][:, place] for seed in SEEDS], axis=0)
        ax.plot(10 * np.arange(len(curve)), curve, color=inks[way], label=way)
    ax.set(title=what)
axes[0, 0].set(yscale="log")
axes[1, 1].axhline(0.5, color="#333", linewidth=1, linestyle=":")
axes[0, 0].legend(fontsize=8)
for ax in axes[1]:
    ax.set(xlabel="steps")

# %% tags=["hide-input"]
early = min(40, STEPS) // 10
sgd = pd.concat([
    tidy("distance 4", f"{way} at 1:1000", seed,
         {"early ROC-AUC": run[early, 3], "early recall": run[early, 2], "late ROC-AUC": run[-1, 3],
          "late recall": run[-1, 2]})
    for (way, _, seed), run in seen.items()], ignore_index=True)

# %% tags=["remove-input"]
claim("Plain SGD first learns to say no, and the hard way: after forty steps it finds no rare "
      "point, and it ranks the classes worse than a coin.",
      between(sgd, "plain batches at 1:1000", "early ROC-AUC", high=0.5)
      & between(sgd, "plain batches at 1:1000", "early recall", high=0.01))

# %% [markdown]
# Why worse than a coin? The quickest way to a small loss is to lower the rare logit for everything. The bias is one weight of
# many; the gradient pulls all that are active, and most where the inputs are large. That is where the rare class lies. A bias
# that starts at the log prior leaves nothing to pull down.

# %% tags=["remove-input"]
claim("With the biases started at the log prior, the ranking is right after the same forty steps.",
      better(sgd, "log-prior bias at 1:1000", "plain batches at 1:1000", "early ROC-AUC", by=0.3)
      & between(sgd, "log-prior bias at 1:1000", "early ROC-AUC", low=0.9))

# %% tags=["remove-input"]
claim("Batches eight times as large do not prevent it.",
      between(sgd, "large batches at 1:1000", "early ROC-AUC", high=0.5))

# %% [markdown]
# And yet the recall of the log-prior start stays below that of balanced batches. How many could it find? Even the all-knowing rule
# with the highest accuracy leaves many out here:

# %% tags=["hide-input"]
f"rare points found by the accuracy-best rule: {norm.cdf(4 / 2 - np.log(1000) / 4):.0%}"

# %% [markdown]
# Its ranking is almost perfect; its *threshold* aims at accuracy. Remember this difference: a ranking that is learned, and a
# threshold that is a choice.

# %% [markdown]
# ## Boosting looks for what is hard
#
# AdaBoost trains one weak learner after another, and after each round multiplies the weight of every sample that the learner
# got wrong. With labels $y_i = \pm 1$ and margin $m_i = y_i F(x_i)$ the weights are $w_i \propto e^{-m_i}$. Cross-entropy on
# the same score, $\log(1 + e^{-2m_i})$, falls with the same margin: **the weight and the loss rank the samples alike**. It is
# the oldest form of [hard example mining](../hard_examples/mining.ipynb).

# %%
def adaboost_weights(inputs, targets, rounds=50):
    """Sample weights after some rounds of AdaBoost with stumps (Freund and Schapire, 1997), and
    the margins, both of shape (N,); targets are ±1.
    """
    weights, score = np.full(len(targets), 1 / len(targets)), np.zeros(len(targets))
    for _ in range(rounds):
        stump = DecisionTreeClassifier(max_depth=1, random_state=0).fit(inputs, targets, weights)
        vote = stump.predict(inputs)
        error = weights[vote != targets].sum()
        if not 0 < error < 0.5:
            break
        alpha = 0.5 * np.log((1 - error) / error)
        score += alpha * vote
        weights = weights * np.exp(-alpha * targets * vote)
        weights /= weights.sum()
    return weights, targets * score


SIDES = ("common, right side", "common, wrong side", "rare, right side", "rare, wrong side")


def weight_shares(distance, ratio, seed, rare=50):
    """Share of the points and share of AdaBoost's weight on each of `SIDES`, shape (2, 4).

    The wrong side is that of the rule with the highest accuracy.
    """
    inputs, labels = draw(rare, rare * ratio, distance, seed)
    weights, _ = adaboost_weights(inputs, 2 * labels - 1)
    log_odds = distance * inputs[:, 0] - distance ** 2 / 2 - np.log(ratio)
    side = 2 * labels + ((log_odds > 0) != (labels == 1))
    return np.array([np.bincount(side, minlength=4) / len(side),
                     np.bincount(side, weights, minlength=4)])


# %% [markdown]
# Take classes at a distance of 3 and at 1:100, where the rule with the highest accuracy finds about half of the rare points. On the
# left a point is as large as its weight after fifty rounds. On the right is who holds that weight; the border is that of the
# accuracy-best rule.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: after fifty rounds the large points are rare ones near and inside the common cloud. Right: four bars of weight, for the common and the rare points on either side of the accuracy-best border; the rare ones on the wrong side, few of all points, hold nearly as long a bar as all the common ones on the right side."}}
shares = np.array(parallel(weight_shares, [(3, 100, seed) for seed in SEEDS]))
figure, (left, right) = plt.subplots(1, 2)
inputs, labels = draw(50, 5000, 3, 0)
weights, _ = adaboost_weights(inputs, 2 * labels - 1)
for label, ink in ((0, "#0072B2"), (1, "#D55E00")):
    own = labels == label
    left.scatter(*inputs[own].T, s=2500 * weights[own], color=ink, alpha=0.5, linewidths=0)
left.axvline(3 / 2 + np.log(100) / 3, color="#333", linestyle=":", linewidth=1)
left.set(xlabel="first coordinate (dotted: the border)", ylabel="second coordinate")
portion, held = 100 * shares.mean(0)
right.barh(range(4), held, color=["#0072B2", "#0072B2", "#D55E00", "#D55E00"])
right.set(xlabel="share of the weight (%)", yticks=range(4))
right.set_yticklabels([f"{name}\n({share:.1f} % of the points)"
                       for name, share in zip(SIDES, portion, strict=True)], fontsize=8)
right.grid(axis="y", visible=False)

# %% tags=["hide-input"]
boosting = pd.concat([
    tidy("distance 3", "AdaBoost's weights at 1:100", seed,
         {"weight of the rare class": held[2:].sum(),
          "weight of the wrong side": held[[1, 3]].sum(),
          "share of the wrong side": portion[[1, 3]].sum()})
    for seed, (portion, held) in zip(SEEDS, shares, strict=True)], ignore_index=True)

# %% tags=["remove-input"]
claim("Boosting balances the classes by itself: one point in a hundred is rare, but the rare hold "
      "about half of the weight.",
      between(boosting, "AdaBoost's weights at 1:100", "weight of the rare class", 0.4, 0.6))

# %% [markdown]
# That is no accident. Every update gives exactly half of the weight to what the learner before it got wrong; and a learner that
# says "common" to nearly everything is wrong on the rare class. But look at *which* rare points end up heavy: not those that the
# accuracy-best rule finds, but those that it gives up. Most of these are not lost: without the log prior the same rule finds them.

# %% tags=["remove-input"]
claim("Boosting spends itself beyond the border: fewer than one point in fifty lies on the wrong "
      "side of the accuracy-best border, and those hold more than four tenths of the weight.",
      between(boosting, "AdaBoost's weights at 1:100", "weight of the wrong side", low=0.4)
      & between(boosting, "AdaBoost's weights at 1:100", "share of the wrong side", high=0.02))

# %% [markdown]
# ## The comparison
#
# Now the measured surface: ratio × overlap × sample size, every learner, a balanced test set of 2,500 points of each class. If
# you let the ratio grow at a **fixed total**, the rare class also gets *fewer* samples, and you cannot tell the two apart. So
# there are two designs: one holds the rare class at 20 samples and adds common ones, the other holds the total at 2,000.
#
# Each learner is also tested **adjusted**: it says "rare" where $P(\text{rare} \mid x)$ exceeds the prior $\pi$ in place of one
# half. That is the last term of the log odds taken off, [logit adjustment](../../book/glossary.md) of two classes. It costs
# nothing.

# %%
def sizes(fixed, count, ratio):
    """Rare and common samples: `count` rare ones, or `count` in all."""
    if fixed == "rare":
        return count, count * ratio
    rare = max(round(count / (1 + ratio)), 1)
    return rare, count - rare


def measure(names, fixed, count, distance, ratios, steps, seed):
    """Recall of both classes by (learner, ratio), as it is and adjusted."""
    points, truth = draw(2500, 2500, distance, [seed, 1])
    found = {}
    for ratio in ratios:
        rare, common = sizes(fixed, count, ratio)
        inputs, labels = draw(rare, common, distance, [seed, 0])
        for name in names:
            model = learners(steps, seed)[name].fit(inputs, labels)
            p = model.predict_proba(points)[:, 1]
            for suffix, threshold in (("", 0.5), (", adjusted", rare / (rare + common))):
                recall = recall_per_class((p > threshold).astype(int), truth, 2)
                found[f"{name}{suffix}", ratio] = recall
    return found


def surface(names, designs, distances, ratios, steps, seeds):
    """Tidy results of `measure` over a grid: the table that every figure below reads."""
    jobs = [(names, fixed, count, distance, ratios, steps, seed) for fixed, count in designs
            for distance in distances for seed in seeds]
    tables = []
    for (_, fixed, count, distance, *_, seed), found in zip(jobs, parallel(measure, jobs),
                                                            strict=True):
        design = f"{count} rare" if fixed == "rare" else f"{count} in all"
        tables += [tidy(f"distance {distance}", f"{name} at 1:{ratio}, {design}", seed,
                        {"balanced accuracy": recall.mean(), "recall": recall})
                   for (name, ratio), recall in found.items()]
    return pd.concat(tables, ignore_index=True)


# %%
FIVE = ("k-NN", "AdaBoost", "logistic regression", "penalised", "network")
results = surface(FIVE, (("rare", 20), ("total", 2000)), DISTANCES, RATIOS, STEPS // 3, SEEDS)

# %% [markdown]
# First with twenty rare samples at every ratio. Look along a row: from left to right only common samples are added. The first
# panel is the all-knowing rule; what a learner loses beyond it is its own.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six heat maps of balanced accuracy over ratio and distance with 20 rare samples. At distance 6 and 8 all but the penalised regression and, at 1:1000, the network stay near 100 at every ratio; at distance 1 and 2 all fall to 50, as the all-knowing rule does."}}
def heat(results, design):
    """Balanced accuracy over ratio and distance, a panel a learner."""
    means = (results[results.metric == "balanced accuracy"]
             .groupby(["dataset", "technique"]).value.mean())
    axes = plt.subplots(2, 3, figsize=(7.5, 5.4), sharex=True, sharey=True)[1]
    for ax, name in zip(axes.flat, ("all-knowing", *FIVE), strict=True):
        cells = np.array([[100 * (all_knowing(distance, r) if name == "all-knowing" else
                                  means[f"distance {distance}", f"{name} at 1:{r}, {design}"])
                           for r in RATIOS] for distance in DISTANCES])
        ax.imshow(cells, cmap="cividis", vmin=50, vmax=100, aspect="auto")
        for (row, column), number in np.ndenumerate(cells):
            ax.text(column, row, f"{number:.0f}", ha="center", va="center", fontsize=8,
                    color="white" if number < 75 else "#111")
        ax.set(title=name, xticks=range(len(RATIOS)), yticks=range(len(DISTANCES)))
        ax.set_xticklabels([f"1:{ratio}" for ratio in RATIOS], fontsize=8)
        ax.set_yticklabels(DISTANCES)
        ax.grid(visible=False)
    for ax in axes[:, 0]:
        ax.set(ylabel="distance")


heat(results, "20 rare")

# %% [markdown]
# And with 2,000 samples in all, where the rare class has 1,000, 182, 20 and at last **two**. Look at the last column of k-NN:

# %% tags=["hide-input"] mystnb={"image": {"alt": "The same six heat maps with 2,000 samples in all. At 1:1000 only two rare samples are left: k-NN is at 50 at every distance, even where the classes stand apart."}}
heat(results, "2000 in all")

# %% tags=["remove-input"]
check = Check(True, "margin of a point")
for name in ("k-NN", "AdaBoost", "logistic regression"):
    for design in ("20 rare", "2000 in all"):
        check &= equivalent(results, f"{name} at 1:100, {design}", f"{name} at 1:1, {design}",
                            dataset="distance 8")
claim("A separable problem stays solved at 1:100: k-NN, AdaBoost and plain logistic regression are "
      "as good as at 1:1, in both designs.", check)

# %% [markdown]
# Go through the first surface yourself. Move the *ratio*: the two clouds stay where they are, and the border of the rule with the
# highest accuracy walks into the rare one. Move the *distance*, and see from where on the walk costs nothing. The marks across the
# bars are the same learners, adjusted.

# %% tags=["hide-input"]
def at_every_place(suffix, prior):
    """Balanced accuracy (%) by ratio, distance and learner, the all-knowing rule first."""
    found = results[results.metric == "balanced accuracy"].groupby(["dataset", "technique"])
    found = found.value.mean()
    return np.array([[[100 * all_knowing(distance, ratio if prior else 1)]
                      + [100 * found[f"distance {distance}",
                                     f"{name}{suffix} at 1:{ratio}, 20 rare"]
                         for name in FIVE] for distance in DISTANCES] for ratio in RATIOS])


as_it_is, freed = at_every_place("", True), at_every_place(", adjusted", False)
across = np.linspace(-4, 12, 65)
clouds = [np.broadcast_to(np.array([norm.pdf(across, centre) for centre in centres]),
                          (len(RATIOS), len(DISTANCES), len(across)))
          for centres in ([0] * len(DISTANCES), DISTANCES)]
border = np.array([[distance / 2 + np.log(ratio) / distance for distance in DISTANCES]
                   for ratio in RATIOS])
Widget("Ratio and overlap",
       [slider("ratio", [f"1:{ratio:,}" for ratio in RATIOS], start=2),
        slider("distance", DISTANCES, start=DISTANCES.index(2))],
       [lines("the clouds and the border (dotted)", across,
              dict(zip(("common", "rare"), clouds, strict=True)), xlabel="first coordinate",
              mark=border, limits=(0, 0.42)),
        bars("balanced accuracy (%)", ["all-knowing", *FIVE],
             {"as it is": as_it_is, "adjusted": freed})],
       {"best for accuracy (%)": as_it_is[..., 0], "best possible (%)": freed[..., 0]},
       "Twenty rare samples at every ratio; means over all seeds.")

# %% [markdown]
# So much for the article's answer: it is not the ratio. But look at what it takes.

# %% tags=["remove-input"]
claim("It does not stay solved under a strong penalty, to which a rare class is too cheap to "
      "bother with.",
      better(results, "penalised at 1:1, 20 rare", "penalised at 1:100, 20 rare", by=0.15,
             dataset="distance 8"))

# %% tags=["remove-input"]
claim("Nor after a hundred steps of SGD at 1:1,000: at distance 6, where logistic regression still "
      "finds nearly all, the network loses more than thirty points.",
      better(results, "logistic regression at 1:1000, 20 rare", "network at 1:1000, 20 rare",
             by=0.3, dataset="distance 6"),
      refuted="We expected more than thirty points with room to spare. The loss is there, and "
              "its mean is larger, but trainings differ so much that the interval reaches lower.")

# %% tags=["hide-input"]
found = {name: mean(results, f"{name} at 1:1000, 20 rare", "recall", label=1, dataset="distance 6")
         for name in ("logistic regression", "network")}
"rare points found there: " + ", ".join(f"{name} {recall:%} %" for name, recall in found.items())

# %% tags=["remove-input"]
claim("Nor for five neighbours when only two rare points are left: they can never have a majority.",
      between(results, "k-NN at 1:1000, 2000 in all", "recall", high=0, label=1,
              dataset="distance 8"))

# %% [markdown]
# Where the classes overlap, all lose. But so does the rule that knows everything.

# %% tags=["remove-input"]
check = Check(True, "more than fifteen points")
for name in FIVE:
    check &= better(results, f"{name} at 1:1, 20 rare", f"{name} at 1:100, 20 rare", by=0.15,
                    dataset="distance 2")
claim("On overlapping classes, 1:100 costs every learner more than fifteen points.", check)

# %% tags=["remove-input"]
claim("Logistic regression ends where the all-knowing rule does, give or take three points.",
      between(results, "logistic regression at 1:100, 20 rare", "balanced accuracy",
              all_knowing(2, 100) - 0.03, all_knowing(2, 100) + 0.03, dataset="distance 2"))

# %% [markdown]
# ### The number, not the ratio
#
# So is it the ratio? Take the log prior off, and look at both halves of the next figure. On the left the four ratios lie far
# apart. On the right the same models, adjusted, come together as the rare points grow in **number**; with a handful, more common
# points even help.

# %%
COUNTS = (2, 5, 10, 20, 50, 200)
by_count = surface(("logistic regression",), [("rare", count) for count in COUNTS], (2,), RATIOS,
                   STEPS // 3, SEEDS)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Balanced accuracy against the number of rare points, a line a ratio, overlapping classes. Left, as trained: the four ratios lie far apart. Right, with the log prior taken off: the lines come together and climb towards the best possible."}}
figure, axes = plt.subplots(1, 2, sharey=True)
for ax, suffix in zip(axes, ("", ", adjusted"), strict=True):
    for ratio, ink in zip(RATIOS, ("#009E73", "#0072B2", "#E69F00", "#D55E00"), strict=True):
        found = [mean(by_count, f"logistic regression{suffix} at 1:{ratio}, {count} rare",
                      "balanced accuracy", dataset="distance 2") for count in COUNTS]
        half = [np.nan_to_num(50 * (entry.high - entry.low)) for entry in found]
        ax.errorbar(COUNTS, [100 * entry.mean for entry in found], half, fmt="o-", color=ink,
                    markersize=4, label=f"1:{ratio:,}")
    ax.axhline(100 * all_knowing(2), color="#333", linestyle=":", linewidth=1)
    ax.set(xscale="log", xlabel="rare points", xticks=COUNTS, xticklabels=COUNTS,
           title="adjusted" if suffix else "as trained")
    ax.minorticks_off()
axes[0].set(ylabel="balanced accuracy (%)")
axes[1].legend(loc="lower right")

# %% tags=["remove-input"]
claim("With fifty rare points and the log prior taken off, 1:100 and 1:1,000 are as good as 1:1.",
      equivalent(by_count, "logistic regression, adjusted at 1:100, 50 rare",
                 "logistic regression at 1:1, 50 rare")
      & equivalent(by_count, "logistic regression, adjusted at 1:1000, 50 rare",
                   "logistic regression at 1:1, 50 rare"))

# %% tags=["remove-input"]
claim("With two rare points, taking the log prior off does not make up for the forty-eight that "
      "are missing.",
      better(by_count, "logistic regression, adjusted at 1:100, 50 rare",
             "logistic regression, adjusted at 1:100, 2 rare"))

# %% [markdown]
# Once the prior is off, a common point costs the rare class nothing. Deleting common points to reach 1:1 moves the border as the
# subtraction does, but throws away points that show where the common cloud ends:

# %% tags=["remove-input"]
claim("With five rare points, 500 common ones and the log prior taken off are better than five.",
      better(by_count, "logistic regression, adjusted at 1:100, 5 rare",
             "logistic regression at 1:1, 5 rare"))

# %% [markdown]
# ## When this does not help
#
# **The subtraction needs probabilities.** The log prior is a term of the log odds. A score that is no log odds has no such term:
# AdaBoost ranks the points, but its "probabilities" all lie close to one half.

# %% tags=["remove-input"]
claim("Adjusted in the same way, AdaBoost calls almost everything rare and falls to a coin.",
      between(results, "AdaBoost, adjusted at 1:100, 20 rare", "balanced accuracy", high=0.52,
              dataset="distance 2"))

# %% [markdown]
# The [next chapter](metrics_and_thresholds.ipynb) chooses the threshold on validation data, which works for any score.
#
# **It moves mistakes, it does not remove them.** On overlapping classes the adjusted rule finds most rare points and pays in
# false alarms. *Precision* is the share of alarms that are right. This is the all-knowing rule at distance 2 and 1:100:

# %%
def precision_and_recall(distance, ratio, threshold):
    """Of the rule "rare where the first coordinate exceeds the threshold"."""
    hits, alarms = norm.sf(threshold - distance), ratio * norm.sf(threshold)
    return {"recall": hits, "precision": hits / (hits + alarms)}


pd.DataFrame({"best for accuracy": precision_and_recall(2, 100, 1 + np.log(100) / 2),
              "best for balanced accuracy": precision_and_recall(2, 100, 1)}).T.round(3)

# %% [markdown]
# Most of its alarms are false. Whether that is better depends on what a missed sample costs you, and on nothing that a
# learner could know. Only a larger **distance** removes mistakes: better features, another representation.
#
# **Real classes are not one round cloud.** A rare class of several small groups can be rich in total and poor in each. Then
# the number that counts is the number of samples in a group.

# %% [markdown]
# ## Published and reproduced
#
# The question is put in an article by [Zhining Liu](../../book/references.md#liu-ratio): must positives and negatives be one to
# one? It draws k-NN and AdaBoost at growing ratios, on separable and on overlapping classes, and answers that the ratio is the
# symptom and the overlap the cause. Our figure repeats it, with the mistakes on *new* points marked. The answer holds. What it
# says of separable classes at *any* ratio holds for the training error alone ([erratum E51](../../book/errata.md#e51)): new
# points are lost as soon as two rare ones have to say where the border is. Its learners use all data; a network trained by SGD
# sees a batch, and a penalised one does not trust what it sees. [Japkowicz and Stephen
# (2002)](../../book/references.md#japkowicz2002) varied ratio, size and complexity together before us, and found that the ratio hurts
# where the problem is hard and the samples are few.
#
# Detectors start their last bias at a small prior since [Lin et al. (2017)](../../book/references.md#lin2017), who report that
# plain cross-entropy diverged without it. Here the log prior is at work, measured:

# %%
early_looks = {way: {what: f"{mean(sgd, f'{way} at 1:1000', what):%}"
                     for what in ("early ROC-AUC", "early recall", "late ROC-AUC", "late recall")}
               for way in WAYS}
pd.DataFrame(early_looks).T

# %% [markdown]
# And three numbers that are often quoted, the chance that a batch of 128 holds no rare sample at 1:100, 1:1,000 and 1:10,000,
# are the first column of the [table above](#batches-without-a-rare-sample).

# %% [markdown]
# ## Try it
#
# **1.** Give 5 % of the common points the label "rare" (label noise), on separable classes. How much of AdaBoost's weight do
# they hold after fifty rounds?

# %% tags=["solution", "hide-cell"]
inputs, labels = draw(200, 2000, 8, 0)
flipped = (labels == 0) & (np.random.default_rng(0).random(len(labels)) < 0.05)
weights, _ = adaboost_weights(inputs, np.where(flipped, 1, 2 * labels - 1))
(f"{flipped.mean():.0%} of the points are labelled wrongly; they hold "
 f"{weights[flipped].sum():.0%} of the weight")

# %% [markdown]
# Boosting, and every form of mining, takes a wrong label for a hard example.
#
# **2.** The ranking was turned round because the rare class lies far from the origin. Mirror the world, so that the *common* class
# lies far out ($x_1 \to d - x_1$). What is the ROC-AUC after forty steps now?

# %% tags=["solution", "hide-cell"]
found = {"as above": [], "mirrored": []}
for seed in range(3):
    inputs, labels = draw(20, 20000, 4, [seed, 0])
    points, truth = draw(2000, 2000, 4, [seed, 1])
    for name, turn in (("as above", lambda x: x), ("mirrored", lambda x: [4, 0] - x)):
        *_, net = train(turn(inputs), labels, min(40, STEPS), seed)
        with torch.no_grad():
            logits = net(torch.as_tensor(turn(points), dtype=torch.float32))
        found[name].append(roc_auc_score(truth, logits[:, 1] - logits[:, 0]))
{name: np.round(values, 2).tolist() for name, values in found.items()}

# %% [markdown]
# Now the pull on the rare logit is strongest where the common class is, and the ranking comes out right by luck.
#
# **3.** How large must a batch be at 1:1,000 so that nine in ten hold a rare sample?

# %% tags=["solution", "hide-cell"]
f"{int(np.ceil(np.log(0.1) / np.log(1000 / 1001))):,} samples"

# %% [markdown]
# ## What to remember
#
# A ratio is a prior, and a prior can be subtracted. What cannot be subtracted is overlap, and too few samples. The next chapter
# shows how to measure that, and how to choose the threshold.

# %%
results = pd.concat([results, by_count.query("not technique.str.endswith(', 20 rare')"), sgd,
                     boosting], ignore_index=True)
lost = difference(by_count, "logistic regression at 1:1, 50 rare",
                  "logistic regression at 1:100, 50 rare", "balanced accuracy")
remaining = difference(by_count, "logistic regression at 1:1, 50 rare",
                       "logistic regression, adjusted at 1:100, 50 rare", "balanced accuracy")
verdict = (f"On overlapping classes a ratio of 1:100 costs logistic regression {lost:%} points of "
           f"balanced accuracy; with the log prior subtracted, {remaining:%} are left. What stays "
           "hard is overlap, and too few rare samples.")
record("foundations/is_it_the_ratio", results, verdict=verdict, seeds=SEEDS, steps=STEPS)
