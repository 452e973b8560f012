# %% [markdown]
# # Hard examples: which samples deserve a gradient?

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** Most samples of a long-tailed set are soon easy. Should a step learn from the hard ones alone?
#
# **Data.** MNIST with an exponential long tail, 60 nines beside almost 6,000 zeros, and Fashion-MNIST cut in the same way. The test
# sets stay balanced.
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
import copy
import math
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from helpers import plots
from helpers.claims import all_of, better, between, claim, equivalent
from helpers.datasets import Dataset, Split, long_tailed
from helpers.experiments import TUNING_SEED, compare, in_arena
from helpers.models import CompactNet, Net
from helpers.records import fingerprint, record
from helpers.results import difference, mean, published_per_class, summary, tidy
from helpers.runs import parallel
from helpers.training import (
    Recipe,
    fit,
    logit_adjustment,
    oversample,
    random_affine,
    reproducible,
    shuffled,
)

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104]
STEPS = 400
RATES = [0.01, 0.04, 0.16]
SOURCE_STEPS = 4640
DATA = "auto"

# %% [markdown]
# ## Hard positives, hard negatives
#
# Pick a class, say the nines. Every image is then a *positive* (a nine) or a *negative* (anything else), and the network gives
# it a score $p_9$. A **hard positive** is a nine with a low score. A **hard negative** is another digit with a *high* score.
# Neither need be wrongly labelled; many are samples near the border, where there is something to learn.
#
# Train the baseline for a quarter of the usual steps, and look at what it finds [hard](../../book/glossary.md#term-hard-example).

# %%
data = long_tailed("MNIST", seed=0, data=DATA)
baseline = Recipe()
young = fit(baseline, data, steps=max(STEPS // 4, 1), device="cpu")
losses = F.cross_entropy(young.predict(data.train), data.train.labels, reduction="none")

# %% [markdown]
# Few samples carry the loss, and the rare digits are over-represented among them. That is why mining is offered as a remedy
# for imbalance: it looks at no class count, and still turns towards the tail.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: the cumulative share of the training loss against the share of the hardest samples kept, with the diagonal. Right: mean training loss by digit, from the commonest to the rarest."}}
figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
carried = losses.sort(descending=True).values.cumsum(0) / losses.sum()
left.plot(np.linspace(0, 100, len(carried)), 100 * carried, color=plots.colour("OHEM"))
left.plot([0, 100], [0, 100], ":", color="#555")
left.set(xlabel="hardest samples kept (%)", ylabel="share of the loss (%)")
right.bar(range(10), [float(losses[data.train.labels == label].mean()) for label in range(10)],
          color=plots.colour("OHEM"))
right.set(xlabel="digit", ylabel="mean training loss", xticks=range(10))

# %% [markdown]
# ## OHEM: keep the highest losses
#
# Online hard example mining ([Shrivastava et al., 2016](../../book/references.md#shrivastava2016)) computes the loss of every
# sample in a batch of $B$, keeps the $k = \lceil s B \rceil$ **highest**, and averages those:
#
# $$L = \frac{1}{k}\sum_{i \in \mathrm{top}_k(\ell)} \ell_i$$
#
# A loss averaged over the batch has nothing left to sort: `reduction="none"` is essential. Note the $1/k$: what is kept pulls
# $1/s$ times as strongly as it would in the whole batch. That will matter.

# %%
def kept(batch, share):
    """Samples that mining keeps of a batch: at least one."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give the part of a batch to keep, above 0, at most 1")
    return max(math.ceil(round(share * batch, 6)), 1)


def ohem(logits, targets, run, share=0.5):
    """Mean of the highest cross-entropies of a batch."""
    each = F.cross_entropy(logits, targets, reduction="none")
    return each.topk(kept(len(each), share)).values.mean()


# %% [markdown]
# [Boosting](../foundations/is_it_the_ratio.ipynb#boosting-looks-for-what-is-hard) raises the weight of what was missed; mining
# replaces that weight by one or nothing. *Focal loss* ([Lin et al., 2017](../../book/references.md#lin2017)) lies between: it
# multiplies the cross-entropy by $(1 - p_t)^\gamma$, where $p_t$ is the softmax probability of the true class.

# %%
def focal(logits, targets, run, gamma=2.0):
    """Softmax focal loss."""
    log_p = F.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0]
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


# %% [markdown]
# Look at the right half of the picture, the easy samples. Cross-entropy does some mining of its own; the schemes differ in how
# fast they let go. The edge is drawn at one half; in training it lies at the batch's median and moves right as the network
# learns. All curves are scaled to one, so the factor $1/s$ does not show.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Pull of a sample against the probability of its true class. Cross-entropy falls in a straight line, focal loss falls faster, and mining follows cross-entropy and then lets go at once."}}
share = torch.linspace(0.005, 0.995, 300).requires_grad_()
score = torch.stack([share.logit(), torch.zeros(300)], 1)
truth = torch.zeros(300, dtype=torch.long)
slopes = {"baseline": 1 - share.detach()}
(slope,) = torch.autograd.grad(300 * focal(score, truth, None), share)
slopes["focal loss"] = (-slope * share * (1 - share)).detach()
slopes["OHEM"] = slopes["baseline"] * (share.detach() < 0.5)
figure, ax = plt.subplots(figsize=(7.5, 2.8))
for name, slope in slopes.items():
    ax.plot(share.detach(), slope / slope.max(), color=plots.colour(name),
            label={"baseline": "cross-entropy", "OHEM": "OHEM, half kept"}.get(name, name))
ax.set(xlabel="probability of the true class", ylabel="pull (largest = 1)")
ax.legend()

# %% [markdown]
# ### Three negatives to one
#
# SSD ([Liu et al., 2016](../../book/references.md#liu2016)), a detector, keeps **all** positives and the highest-loss negatives,
# at most three for each positive. That is [not OHEM](../../book/errata.md#e16), which sorts all samples together. To try it
# here, give each class a sigmoid of its own: one image is then one positive and nine negatives, and mining drops six of the
# nine, over the whole batch. Keeping all nine is plain [one-vs-rest](../../book/glossary.md#term-one-vs-rest), the fair reference.

# %%
def one_vs_rest(logits, targets, run, negatives=None):
    """Sigmoid losses per positive; where `negatives` is given, only that many negatives for each
    positive count, the hardest of the batch.
    """
    positive = F.one_hot(targets, logits.shape[1]).bool()
    each = F.binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    against = each[~positive]
    if negatives:
        against = against.topk(min(negatives * len(targets), len(against))).values
    return (each[positive].sum() + against.sum()) / len(targets)


# %% [markdown]
# ## ScreenerNet: a second network decides
#
# ScreenerNet ([Kim and Choi, 2018](../../book/references.md#kim2018)) learns the weight. A small network with parameters
# $\theta$ sees the image and predicts $w \in (0, 1)$; the classifier minimises $w \ell$, the screener minimises
#
# $$\sum_i \left[ (1 - w_i)^2\,\ell_i + w_i^2 \max(M - \ell_i, 0) \right] + \alpha\,\lVert\theta\rVert_1$$
#
# Set the derivative of the bracket to zero: the best weight is $w = \ell / M$ up to the margin $M$, and 1 beyond. So the screener
# learns to *predict the loss*. The last term keeps it small. Both directions are **detached**: otherwise the classifier could
# lower its loss by lowering its weights, and the screener could ask the classifier to change the losses. $M = 1$ and
# $\alpha = 0.01$ are what a public port of the method takes for MNIST; the network is smaller, and one optimiser trains both.

# %%
class Screened(CompactNet):
    """The arena's network with a screener beside it."""

    def __init__(self, classes):
        super().__init__(classes)
        self.screener = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(),
                                      nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(),
                                      nn.Linear(64, 1))


def screener_loss(weights, losses, margin=1.0):
    """High weights for high losses, low ones for low losses; mean over the batch."""
    return ((1 - weights) ** 2 * losses + weights ** 2 * (margin - losses).clamp_min(0)).mean()


def screened(run, inputs, labels, alpha=0.01):
    """Weighted cross-entropy for the classifier, and the screener's own loss.

    Each takes the other as given. All is divided by the size of the batch.
    """
    images = run.normalise(inputs)
    each = F.cross_entropy(run.model(images), labels, reduction="none")
    weights = run.model.screener(images)[:, 0].float().sigmoid()
    size = sum(values.abs().sum() for values in run.model.screener.parameters())
    return ((weights.detach() * each).mean() + screener_loss(weights, each.detach())
            + alpha * size / len(labels))


# %% [markdown]
# ## Disagreement between copies
#
# A last measure of difficulty needs no label. Turn and shift an image a little, several times. If the predictions of the copies
# differ, the image is near a border. The measure is the Jensen–Shannon divergence: the entropy of the mean prediction, less the
# mean entropy.

# %%
def jensen_shannon(probabilities):
    """Divergence of several predictions of each sample.

    Input (copies, N, classes), output (N,), in nats.
    """
    def entropy(p):
        return -(p * p.clamp_min(1e-12).log()).sum(-1)

    return (entropy(probabilities.mean(0)) - entropy(probabilities).mean(0)).clamp_min(0)


@torch.no_grad()
def disagreement(run, split, copies=2, chunk=1000):
    """Jensen–Shannon divergence between predictions for turned and shifted copies."""
    training = run.model.training
    run.model.eval()
    found = []
    for rows in torch.arange(len(split)).split(chunk):
        images, _ = run.batch(split, rows.to(split.labels.device))
        views = [run.forward(random_affine(images, run, degrees=15, shift=0.1, zoom=0))
                 for _ in range(copies)]
        found.append(jensen_shannon(torch.stack(views).float().softmax(-1)).cpu())
    run.model.train(training)
    return torch.cat(found)


# %% [markdown]
# As a **ranking**: the validation images on which the young network's copies disagree most, with their labels.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of validation digits with the largest disagreement between copies, each with its label."}}
difficulty = disagreement(young.run, data.val, copies=4)
hardest = difficulty.topk(20).indices
plots.gallery(data.val.inputs[hardest], [str(int(label)) for label in data.val.labels[hardest]])

# %%
val_losses = F.cross_entropy(young.predict(data.val), data.val.labels, reduction="none")
(f"rank correlation of disagreement (without labels) and loss (with them): "
 f"{spearmanr(difficulty, val_losses).statistic:.2f}")

# %% [markdown]
# As a **sampler**: twice during training, measure the disagreement on all training images, and draw the next batches in
# proportion to it. A floor keeps the easy ones in play.

# %%
def by_disagreement(run, refreshes=2, floor=0.2):
    """Plain batches; later, rows drawn by a floor plus their relative disagreement."""
    plain, weights = shuffled(run), None
    period = max(run.steps // (refreshes + 1), 1)
    while True:
        if run.step and run.step % period == 0 and run.step // period <= refreshes:
            measured = disagreement(run, run.train)
            weights = floor + measured / measured.mean().clamp_min(1e-12)
        if weights is None:
            yield next(plain)
        else:
            yield torch.multinomial(weights, run.batch_size, replacement=True,
                                    generator=run.generator)


# %% [markdown]
# ## The comparison
#
# All techniques take the same number of steps of the same size in both [arenas](../../book/glossary.md#term-arena), each with its own
# learning rate from the same grid. Two of them put mining on top of what knows the class counts.

# %%
TECHNIQUES = {
    "OHEM": {"loss": ohem},
    "OHEM, a quarter": {"loss": partial(ohem, share=0.25)},
    "OHEM + oversampling": {"loss": ohem, "resample": oversample},
    "OHEM + logit adjustment": {"loss": ohem, "posthoc": logit_adjustment},
    "focal loss": {"loss": focal},
    "one-vs-rest": {"loss": one_vs_rest},
    "3:1 negatives": {"loss": partial(one_vs_rest, negatives=3)},
    "ScreenerNet": {"model": Screened, "objective": screened},
    "disagreement sampler": {"sampler": by_disagreement},
}
digits = in_arena("digits", TECHNIQUES, seeds=SEEDS, steps=STEPS, rates=RATES, data=DATA)
garments = in_arena("garments", TECHNIQUES, seeds=SEEDS, steps=STEPS, rates=RATES, data=DATA)
arenas = pd.concat([digits.table, garments.table], ignore_index=True)
summary(arenas, ["balanced accuracy", "worst-class recall", "ECE", "seconds"], dataset="MNIST-LT")

# %% [markdown]
# Look at the zero line: it is [logit adjustment](../../book/glossary.md#term-logit-adjustment), which trains nothing and costs nothing.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired differences in balanced accuracy to logit adjustment in both arenas, for the baseline, oversampling and each way of mining, alone and on top of what knows the class counts, with intervals."}}
plots.both_arenas(arenas)

# %% tags=["remove-input"]
alone = [name for name in TECHNIQUES if "+" not in name]
ahead = [better(arenas, "logit adjustment", name, dataset=dataset)
         for name in alone for dataset in ("MNIST-LT", "FashionMNIST-LT")]
claim("No way of mining alone reaches the free correction of the logits, in either arena.",
      all_of(ahead))

# %% [markdown]
# Class by class, on the digits, look at the right half.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Recall of each digit for baseline, logit adjustment, OHEM and the disagreement sampler, with intervals."}}
plots.per_class(digits.table, ["baseline", "logit adjustment", "OHEM", "disagreement sampler"],
                digits.labels, data.class_names)

# %% [markdown]
# ### A matter of the learning rate
#
# Above, every technique chose its own learning rate. What if all had to share one? Train the baseline and two OHEMs at three
# rates, each four times the one before, and look at where the lines cross.

# %%
miners = {"baseline": baseline, "OHEM": replace(baseline, loss=ohem),
          "OHEM, a quarter": replace(baseline, loss=partial(ohem, share=0.25))}
shared = compare({f"{name} at {rate}": replace(recipe, lr=rate)
                  for name, recipe in miners.items() for rate in (0.01, 0.04, 0.16)},
                 lambda seed: long_tailed("MNIST", seed=seed, data=DATA), seeds=SEEDS, steps=STEPS)
shared = shared.table.assign(protocol="one rate for all")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Balanced accuracy against the learning rate for the baseline and two shares of OHEM. At the lowest rate mining is far above the baseline; at the highest the baseline and the half lie together, and the quarter has an interval as high as the figure."}}
figure, ax = plt.subplots(figsize=(7.5, 3))
for place, name in enumerate(miners):
    found = [mean(shared, f"{name} at {rate}", "balanced accuracy", protocol="one rate for all")
             for rate in (0.01, 0.04, 0.16)]
    at = np.array([0.01, 0.04, 0.16]) * 1.05 ** (place - 1)
    half = np.nan_to_num([50 * (entry.high - entry.low) for entry in found])
    ax.errorbar(at, [100 * entry.mean for entry in found], half, fmt="o-", label=name,
                color=plots.colour(name))
ax.set(xscale="log", xticks=[0.01, 0.04, 0.16], xticklabels=["0.01", "0.04", "0.16"],
       xlabel="learning rate", ylabel="balanced accuracy (%)",
       ylim=(min(min(line.get_ydata()) for line in ax.lines) - 5, 100))
ax.minorticks_off()
ax.legend()

# %% tags=["remove-input"]
claim("The sign of mining's difference to the baseline turns with the learning rate: at the lowest "
      "rate keeping a quarter gains more than four points, at the highest it loses.",
      better(shared, "OHEM, a quarter at 0.01", "baseline at 0.01", by=0.04,
             protocol="one rate for all")
      & better(shared, "baseline at 0.16", "OHEM, a quarter at 0.16",
               protocol="one rate for all"),
      refuted="The gain at the lowest rate is there. At the highest mining loses on average, but "
              "one of its trainings ended at chance, and the wide interval reaches beyond zero.")

# %% [markdown]
# The $1/k$ suggests why. To average over a quarter of the batch is to pull four times as hard. Compare across columns: a quarter at
# one rate with everything at four times that rate.

# %% tags=["remove-input"]
claim("At a low rate a larger learning rate does what mining does: keeping everything at 0.04 "
      "is as good as keeping a quarter at 0.01.",
      equivalent(shared, "OHEM, a quarter at 0.01", "baseline at 0.04",
                 protocol="one rate for all"))

# %% [markdown]
# So a comparison at one low rate makes mining shine. What a high rate makes of it, the figure shows.

# %% [markdown]
# ### Which test digits are they?
#
# For the nines: the first row holds the hard positives of the baseline, nines with the lowest $p_9$; the second its hard negatives,
# other digits with the highest. Above each stands its number in the test set.

# %% tags=["hide-input"] mystnb={"image": {"alt": "First row: ten nines that the baseline scores lowest. Second row: ten other digits, that it scores highest as nines. Each carries its test-set number."}}
nine = digits.logits["baseline", SEEDS[0]].softmax(1)[:, 9]
is_nine = digits.labels == 9
positives = nine.masked_fill(~is_nine, 2).topk(10, largest=False).indices
negatives = nine.masked_fill(is_nine, -1).topk(10).indices
shown = torch.cat([positives, negatives])
plots.gallery(data.test.inputs[shown], [f"#{int(row)}" for row in shown])

# %%
labels = [data.class_names[label] for label in digits.labels[negatives].unique()]
f"labels of the ten hardest negatives: {', '.join(labels)}"

# %% [markdown]
# ## Where mining was born: windows
#
# OHEM was made for detectors, where an image has thousands of candidate windows and a handful of objects. Here is that setting in
# small. Every image gives 64 windows; two hold a digit, the others are noise or the gap **between** two digits. The training
# digits are those of the long tail; there is one class, *digit*. Focal loss is the sigmoid form here, with α = .25, over all
# windows, divided by the positives.

# %%
def make_windows(split, images, rng, each=64, digits=2):
    """Windows of some images: `digits` of them centred on a digit, a third between two digits, the
    others empty; with noise.
    """
    total, found = images * each, images * digits
    gaps = total // 3

    def pick(count):
        return split.inputs[torch.randint(len(split), (count,), generator=rng)].float() / 255

    sides = torch.cat([pick(gaps), pick(gaps)], -1).unfold(-1, 28, 1)[:, 0].movedim(2, 1)
    between_two = sides[torch.arange(gaps), torch.randint(6, 23, (gaps,), generator=rng)][:, None]
    windows = torch.cat([pick(found), between_two, torch.zeros(total - found - gaps, 1, 28, 28)])
    noise = 0.5 * torch.randn(windows.shape, generator=rng)
    return windows + noise, torch.arange(total).lt(found).long()


# %% tags=["hide-input"] mystnb={"image": {"alt": "Three rows of noisy windows: centred digits, gaps between two digits, and empty background."}}
windows, _ = make_windows(data.train, 8, torch.Generator().manual_seed(0))
rows = torch.cat([torch.arange(10), 16 + torch.arange(10), 500 + torch.arange(10)])
plots.gallery(windows[rows].clamp(0, 1))

# %% [markdown]
# A **read-only** copy of the network scores every window, without gradients and at forward cost only. The other network trains on the
# few that were chosen. Before each step the copy takes over the weights. Five ways to choose:

# %%
def choose(way, losses, labels, size, generator):
    """Rows of the windows to train on."""
    if way == "random windows":
        return torch.randperm(len(labels), generator=generator)[:size]
    if way == "OHEM":
        return losses.topk(size).indices
    if way == "3:1 negatives":
        positive, negative = labels.nonzero().flatten(), (labels == 0).nonzero().flatten()
        return torch.cat([positive,
                          negative[losses[negative].topk(3 * len(positive)).indices]])
    return torch.arange(len(labels))  # all windows, focal loss


def train_windows(way, lr, seed, steps, split, size=32):
    """A small network, trained on windows chosen in one of five ways, and its CPU seconds."""
    with reproducible(seed):
        generator = torch.Generator().manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(),
                                nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(),
                                nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
        reader = copy.deepcopy(network)
        optimizer = torch.optim.SGD(network.parameters(), lr=lr, momentum=0.9)
        started = time.process_time()
        for _ in range(steps):
            images, labels = make_windows(split, 4, generator)
            losses = None
            if way in ("OHEM", "3:1 negatives"):
                reader.load_state_dict(network.state_dict())
                with torch.no_grad():
                    losses = F.binary_cross_entropy_with_logits(
                        reader(images), labels.float(), reduction="none")
            rows = choose(way, losses, labels, size, generator)
            scores, truth = network(images[rows]), labels[rows].float()
            if way == "focal loss":
                loss = sigmoid_focal_loss(scores, truth, reduction="sum") / truth.sum()
            else:
                loss = F.binary_cross_entropy_with_logits(scores, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return network, time.process_time() - started


def window_run(way, lr, seed, steps, choice, part):
    """Average precision on new windows from the validation or the test digits, and seconds."""
    data = long_tailed("MNIST", seed=seed, data=choice)
    network, seconds = train_windows(way, lr, seed, steps, data.train)
    images, labels = make_windows(getattr(data, part), 64, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        scores = network(images).nan_to_num()  # at too high a rate a network may be lost
    return {"average precision": average_precision_score(labels, scores), "seconds": seconds}


# %% [markdown]
# Each way takes the best of three learning rates on validation digits, as above. Then look at the differences to random windows,
# which cost an update of the same size.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Paired differences in average precision to training on random windows for all windows, OHEM, three-to-one mining and focal loss, with intervals."}}
ways = ["random windows", "all windows", "OHEM", "3:1 negatives", "focal loss"]
tried = [(way, rate, TUNING_SEED, max(STEPS // 3, 1), DATA, "val")
         for way in ways for rate in (0.0125, 0.05, 0.2)]
scores = {job[:2]: found["average precision"]
          for job, found in zip(tried, parallel(window_run, tried), strict=True)}
best = {way: max((0.0125, 0.05, 0.2), key=lambda rate, way=way: scores[way, rate])
        for way in ways}
jobs = [(way, best[way], seed, max(STEPS // 3, 1), DATA, "test") for way in ways for seed in SEEDS]
place = digits.table.dataset.iloc[0].replace("MNIST-LT", "digit windows")
window_table = pd.concat([tidy(place, job[0], job[2], {**found, "learning rate": job[1]},
                               protocol="windows")
                          for job, found in zip(jobs, parallel(window_run, jobs), strict=True)],
                         ignore_index=True)
plots.gaps(window_table, "random windows", "average precision", protocol="windows")

# %%
summary(window_table, ["average precision", "seconds"], protocol="windows")

# %% [markdown]
# What mining gains or loses beside the two ways that train on all windows:

# %% tags=["hide-input"]
pd.DataFrame({f"{mined} − {rival}": {
    "average precision (points)":
        f"{difference(window_table, mined, rival, 'average precision', protocol='windows'):+%}",
    "seconds": f"{difference(window_table, mined, rival, 'seconds', protocol='windows'):+}"}
    for mined in ("OHEM", "3:1 negatives") for rival in ("all windows", "focal loss")}).T

# %% tags=["remove-input"]
claim("Where background outnumbers the objects, both ways of mining beat random windows by more "
      "than three points of average precision.",
      better(window_table, "OHEM", "random windows", "average precision", by=0.03,
             protocol="windows")
      & better(window_table, "3:1 negatives", "random windows", "average precision", by=0.03,
               protocol="windows"))

# %% [markdown]
# Most windows are empty and stay easy. Where all can be afforded, compare the row *all windows* and its seconds before you mine. (A
# very wide interval means that a training ran away.)

# %% [markdown]
# ## When this does not help
#
# **Label noise.** A wrongly labelled image tends to have a high loss, and mining goes after it. Flip the labels of 5 % of the
# training images to another digit and train again; validation and test labels stay right. In a long tail that hits the rare
# digits most, as the line below the code says:

# %%
def flip_labels(data, seed, share=0.05):
    """The same data with a share of the training labels replaced, and which were."""
    generator = torch.Generator().manual_seed(seed)
    flipped = torch.randperm(len(data.train), generator=generator)[:round(share * len(data.train))]
    labels, classes = data.train.labels.clone(), len(data.class_names)
    others = torch.randint(1, classes, (len(flipped),), generator=generator)
    labels[flipped] = (labels[flipped] + others) % classes
    return Dataset(data.name, data.class_names, Split(data.train.inputs, labels), data.val,
                   data.test), flipped


def wrong_labels_found(seed, steps, choice, share=0.25):
    """Train the baseline on flipped labels.

    The share of them among the hardest of all training samples.
    """
    data, flipped = flip_labels(long_tailed("MNIST", seed=seed, data=choice), seed)
    trained = fit(Recipe(), data, steps=steps, seed=seed, evaluate_every=steps)
    each = F.cross_entropy(trained.predict(data.train), data.train.labels, reduction="none")
    hardest = each.topk(kept(len(each), share)).indices
    return {"wrong labels found": float(torch.isin(flipped, hardest).float().mean())}


jobs = [(seed, STEPS, DATA) for seed in SEEDS]
found = [tidy(data.name, "baseline", job[0], numbers) for job, numbers in
         zip(jobs, parallel(wrong_labels_found, jobs), strict=True)]
noisy = compare(miners, lambda seed: flip_labels(long_tailed("MNIST", seed=seed, data=DATA),
                                                 seed)[0],
                seeds=SEEDS, steps=STEPS, rates=RATES)
noisy = pd.concat([noisy.table, *found], ignore_index=True).assign(protocol="5 % wrong labels")
drawn = long_tailed("MNIST", seed=SEEDS[0], data=DATA)
called = flip_labels(drawn, SEEDS[0])[0].train.labels == 9
nines = int((drawn.train.labels[called] == 9).sum())
f"{nines} of the {int(called.sum())} images called nine are nines"

# %% [markdown]
# Look at the length of the lines: what each loses when labels are wrong. Each has chosen its learning rate anew. We expected the
# line to grow as less is kept.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Balanced accuracy of the baseline and two OHEMs with clean labels and with five percent wrong labels, a filled and a hollow dot for each, joined by a line whose length is the damage."}}
figure, ax = plt.subplots(figsize=(7.5, 2.2))
for row, name in enumerate(miners):
    clean = mean(digits.table, name, "balanced accuracy").mean
    dirty = mean(noisy, name, "balanced accuracy", protocol="5 % wrong labels").mean
    ax.plot([100 * dirty, 100 * clean], [row, row], color=plots.colour(name))
    ax.plot(100 * clean, row, "o", color=plots.colour(name))
    ax.plot(100 * dirty, row, "o", color=plots.colour(name), markerfacecolor="white")
ax.set(yticks=range(len(miners)), yticklabels=list(miners),
       xlabel="balanced accuracy (%): right labels (filled), 5 % wrong (hollow)")

# %% tags=["remove-input"]
claim("Mining cannot miss the wrong labels: after plain training more than nine in ten of them are "
      "among the hardest quarter of the images.",
      between(noisy, "baseline", "wrong labels found", low=0.9, protocol="5 % wrong labels"))

# %% [markdown]
# Mining, with a rate of its own, may lose more than the baseline or not: compare the lines. They are means, and the figure has no
# intervals. It finds the wrong labels, beside many more right ones; what that costs may depend on how fast they are learned.

# %% [markdown]
# **What is left to gain.** The dashed line is the same network trained on all images of all classes.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Recall of the worst digit for all techniques with intervals and seeds, the baseline and the network trained on balanced data as lines."}}
plots.overview(digits.table, "worst-class recall")

# %% [markdown]
# **Calibration and cost.** A network that gets no gradient from easy samples has no reason to be sure of them. Whether that shows,
# ECE says in the table above. We expected no time saved by OHEM, for it computes the losses of all samples before
# it leaves any out, and extra time for the disagreement sampler, which ranks by extra forward passes. Compare with the seconds in
# the table; they are of a machine that does other work as well, so only large differences count.

# %% [markdown]
# ## Published and reproduced
#
# Table T6 is figure 9.11 of a [textbook](../../book/references.md#abhishek2023) as its notebook left it, one seed each. Under
# `source` we follow it: learning rate .01, momentum .5, batch 64, 20 epochs, half kept, and the best epoch on the **test** set
# ([E6](../../book/errata.md#e6)). Two seeds.

# %% tags=["hide-input"]
source = Recipe(model=Net, lr=0.01, schedule=None,
                optimizer=lambda parameters, lr: torch.optim.SGD(parameters, lr, momentum=0.5))
as_printed = compare({"baseline": source, "OHEM": replace(source, loss=ohem)},
                     lambda seed: long_tailed("MNIST", validation=0, seed=seed, data=DATA),
                     seeds=SEEDS[:2], steps=SOURCE_STEPS, batch_size=64, protocol="source",
                     select="validation", evaluate_every=max(SOURCE_STEPS // 20, 1))
plots.published_and_reproduced(pd.concat([digits.table, as_printed.table]), "T6")

# %% [markdown]
# The source's rate is one of the low ones, at which a larger step alone may gain as much. Its printed gain sits in the tail, as
# the recalls per class say:

# %% tags=["hide-input"]
published_per_class("T6")

# %% [markdown]
# **What the printed text gets wrong** ([E15](../../book/errata.md#e15)). Its code takes the *mean* loss, which cannot be sorted: as
# printed it stops with an error. The text says that the **lowest** losses are kept. The notebook is right on both, so the numbers
# stand. Side by side, on a batch of eight losses:

# %%
eight = torch.tensor([0.01, 2.30, 0.05, 0.70, 0.02, 1.20, 0.10, 0.40])
half = kept(len(eight), 0.5)
pd.Series({"the four highest (right)": float(eight.topk(half).values.mean()),
           "the four lowest (as the text says)": float(
               eight.topk(half, largest=False).values.mean()),
           "all eight": float(eight.mean())}, name="mean loss").round(3).to_frame()

# %% [markdown]
# ## Try it
#
# **1.** What does mining do to the class shares of a *gradient step*? Estimate the share of the three rarest digits among the samples that
# are kept of all, for a half and a quarter, on the young network above.

# %% tags=["solution", "hide-cell"]
tail = data.train.labels >= 7
{share: round(float(tail[losses.topk(kept(len(losses), share)).indices].float().mean()), 3)
 for share in (1, 0.5, 0.25)}

# %% [markdown]
# **2.** Take the larger step out of mining: divide by the whole batch instead of by what is kept. What remains of the gain at
# learning rate .01, on validation?

# %% tags=["solution", "hide-cell"]
def ohem_same_pull(logits, targets, run, share=0.25):
    """OHEM in which what is kept pulls as in the whole batch."""
    return share * ohem(logits, targets, run, share)


{name: round(fit(replace(baseline, loss=loss, lr=0.01), data,
                 steps=STEPS).history[-1]["balanced accuracy"], 3)
 for name, loss in {"all": baseline.loss, "a quarter": partial(ohem, share=0.25),
                    "a quarter, divided by the batch": ohem_same_pull}.items()}

# %% [markdown]
# **3.** Start gently: let the share fall from 1 to ¼ over the training (`run.progress` is the share of steps done). Compare on
# validation.

# %% tags=["solution", "hide-cell"]
def falling(logits, targets, run):
    """OHEM with a share that falls from 1 to a quarter."""
    return ohem(logits, targets, run, share=1 - 0.75 * run.progress)


gentle = fit(replace(baseline, loss=falling), data, steps=STEPS).history[-1]
{name: round(gentle[name], 3) for name in ("accuracy", "balanced accuracy")}

# %% [markdown]
# **4.** Show that the screener's best weight is the loss over the margin: evaluate `screener_loss` on a grid for a loss of .3.

# %% tags=["solution", "hide-cell"]
grid = torch.linspace(0, 1, 101)
best_weight = min(grid, key=lambda w: float(screener_loss(w[None], torch.tensor([0.3]))))
f"best weight for a loss of 0.3 with margin 1: {float(best_weight):.2f}"

# %% [markdown]
# ## What to remember
#
# Mining needs no class counts, and it finds the tail, the border cases and the wrong labels alike: clean the labels first. Where
# most of a batch is background it beats drawing at random. Before you credit it with a gain, give the plain loss its best learning
# rate. The cell below writes this chapter's results, from which the first page of the book is made.

# %% tags=["hide-input"]
sets = arenas.dataset.unique()
mined = [difference(arenas, "OHEM", "baseline", "balanced accuracy", dataset=one) for one in sets]
free = [difference(arenas, "OHEM", "logit adjustment", "balanced accuracy", dataset=one)
        for one in sets]
left = [difference(arenas, "balanced data", "OHEM", "balanced accuracy", dataset=one)
        for one in sets]
verdict = (f"With its own learning rate, learning from the harder half of each batch changes "
           f"balanced accuracy by {mined[0]:+%} points on the digits and {mined[1]:+%} on the "
           f"garments; it stays {free[0]:+%} and {free[1]:+%} from the free correction of the "
           f"logits, and {left[0]:%} and {left[1]:%} are left to gain.")
record("hard_examples/mining",
       pd.concat([arenas, shared, window_table, noisy, as_printed.table], ignore_index=True),
       verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(data))
