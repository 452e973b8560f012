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
# **Data.** MNIST with an exponential long tail: 60 nines beside almost 6,000 zeros. The test set stays balanced.
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
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from helpers import metrics, plots
from helpers.datasets import Dataset, Split, long_tailed
from helpers.experiments import (
    Check,
    better,
    between,
    claim,
    compare,
    difference,
    differences,
    fingerprint,
    mean,
    parallel,
    published_per_class,
    record,
    summary,
    tidy,
    values,
)
from helpers.models import Net
from helpers.training import Recipe, fit, logit_adjustment, oversample, reproducible, sgd, shuffled

# %% tags=["parameters"]
SEEDS = [0, 1, 2, 3, 4]
STEPS = 300
SOURCE_STEPS = 4640
DATA = "auto"

# %% [markdown]
# ## Hard positives, hard negatives
#
# Pick a class, say the nines. Every image is then a *positive* (a nine) or a *negative* (anything else), and the network gives
# it a score $p_9$. A **hard positive** is a nine with a low score. A **hard negative** is another digit with a *high* score.
# Neither is wrongly labelled; they are the samples near the border, where there is something to learn.
#
# Train the baseline for half of the usual steps, and look at what it finds hard among the training images.

# %%
data = long_tailed("MNIST", seed=0, data=DATA)
baseline = Recipe()
young = fit(baseline, data, steps=max(STEPS // 2, 1))
train_logits = young.predict(data.train)
losses = F.cross_entropy(train_logits, data.train.labels, reduction="none")

# %% [markdown]
# Look at how few samples carry the loss: the curve says which share of the total loss the hardest samples hold.

# %% mystnb={"image": {"alt": "Left: the cumulative share of the training loss rises far above the diagonal, so few samples carry most of it. Right: mean loss by digit, smallest for the common digits and largest for the rare ones."}}
figure, (left, right) = plt.subplots(1, 2)
carried = losses.sort(descending=True).values.cumsum(0) / losses.sum()
left.plot(np.linspace(0, 100, len(carried)), 100 * carried, color=plots.colour("OHEM"))
left.plot([0, 100], [0, 100], ":", color="#555")
left.set(xlabel="hardest samples kept (%)", ylabel="share of the loss (%)")
right.bar(range(10), [float(losses[data.train.labels == label].mean()) for label in range(10)],
          color=plots.colour("OHEM"))
right.set(xlabel="digit", ylabel="mean training loss", xticks=range(10))

# %%
half = float(carried[len(carried) // 2])
f"the harder half of the training samples carries {half:.1%} of the loss"

# %% [markdown]
# And the rare digits are over-represented among the hard ones. This is why mining is offered as a remedy for imbalance: it
# looks at no class count, and still turns towards the tail.

# %% [markdown]
# ### You know this from boosting
#
# AdaBoost trains one weak learner after another, and after each round multiplies the weight of every sample that the learner
# got wrong. With margin $m_i = y_i F(x_i)$ the weights are $w_i \propto e^{-m_i}$. Cross-entropy on the same score,
# $\log(1 + e^{-2m_i})$, falls with the same margin: **the weight and the loss rank the samples alike**. Mining replaces the
# smooth weight by a step.
#
# The rounds fit in one cell. Here they are on "is it a nine or a four?", with small trees on the pixels.

# %%
def adaboost_weights(inputs, targets, rounds=25, depth=1):
    """Sample weights of AdaBoost (Freund and Schapire, 1997) after some rounds, and the final
    margins; targets are ±1.
    """
    weights, score = np.full(len(targets), 1 / len(targets)), np.zeros(len(targets))
    for _ in range(rounds):
        learner = DecisionTreeClassifier(max_depth=depth,
                                         random_state=0).fit(inputs, targets, weights)
        vote = learner.predict(inputs)
        error = weights[vote != targets].sum()
        if not 0 < error < 0.5:
            break
        alpha = 0.5 * np.log((1 - error) / error)
        score += alpha * vote
        weights = weights * np.exp(-alpha * targets * vote)
        weights /= weights.sum()
    return weights, targets * score


pair = ((data.train.labels == 4) | (data.train.labels == 9)).nonzero().flatten()
pixels = F.avg_pool2d(data.train.inputs[pair].float(), 2).flatten(1).numpy()
sides = np.where(data.train.labels[pair] == 9, 1, -1)
boosting, margins = adaboost_weights(pixels, sides)
(f"rank correlation of AdaBoost's weights with the network's losses: "
 f"{spearmanr(boosting, losses[pair]).statistic:.2f}")

# %% [markdown]
# Two learners that share nothing but the data agree to some degree on what is hard. Now compare how much each scheme makes
# of it. Look at the right-hand side of the picture, the easy samples.

# %% mystnb={"image": {"alt": "Weight of a sample against its margin. AdaBoost falls exponentially, cross-entropy's gradient falls like a sigmoid, focal loss falls faster, and mining is a step from one to zero."}}
margin = torch.linspace(-3, 3, 301)
probability = torch.sigmoid(2 * margin)
focal_gradient = (1 - probability) ** 2 * (1 - probability - 2 * probability * probability.log())
curves = {"AdaBoost": torch.exp(-margin) / torch.exp(torch.tensor(3.0)),
          "baseline": 1 - probability,
          "focal loss": focal_gradient / focal_gradient.max(), "OHEM": (margin < 0.5).float()}
figure, ax = plt.subplots()
for name, curve in curves.items():
    ax.plot(margin, curve, label={"baseline": "cross-entropy"}.get(name, name),
            color=plots.colour(name))
ax.plot(margins, np.full(len(margins), -0.04), "|", color="#999", markersize=5)
ax.set(xlabel="margin (ticks: the fours and nines after boosting)",
       ylabel="pull of the sample (largest = 1)")
ax.legend()

# %% [markdown]
# Cross-entropy does some mining of its own: an easy sample pulls little. The schemes differ in how fast they let go.

# %% [markdown]
# ## OHEM: keep the highest losses
#
# Online hard example mining (Shrivastava et al., CVPR 2016) computes the loss of every sample in a batch of $B$, keeps the
# $k = \lceil r B \rceil$ **highest**, and averages those:
#
# $$L = \frac{1}{k}\sum_{i \in \mathrm{top}_k(\ell)} \ell_i$$
#
# A loss averaged over the batch has nothing left to sort: `reduction="none"` is essential.

# %%
def kept(batch, rate):
    """Samples that mining keeps of a batch: at least one."""
    if not 0 < rate <= 1:
        raise ValueError(f"rate={rate}: give the share of a batch to keep, above 0 and at most 1")
    return max(math.ceil(round(rate * batch, 6)), 1)


def ohem(logits, targets, run, rate=0.5):
    """Mean of the highest cross-entropies of a batch."""
    each = F.cross_entropy(logits, targets, reduction="none")
    return each.topk(kept(len(each), rate)).values.mean()


# %% [markdown]
# What does it keep of a batch? Look at the share of each digit before and after.

# %% mystnb={"image": {"alt": "Share of each digit among all training samples and among the half and the quarter with the highest loss; mining lowers the share of zeros and ones and raises that of the rare digits."}}
figure, ax = plt.subplots()
for place, rate in enumerate((1, 0.5, 0.25)):
    chosen = losses.topk(kept(len(losses), rate)).indices
    share = torch.bincount(data.train.labels[chosen], minlength=10) / len(chosen)
    ax.bar(np.arange(10) + 0.27 * (place - 1), 100 * share, 0.27, label=f"rate {rate}",
           color=("#555555", plots.colour("OHEM"), plots.colour("focal loss"))[place])
ax.set(xlabel="digit", ylabel="share of the samples kept (%)", xticks=range(10))
ax.legend()

# %% [markdown]
# The zeros shrink, the tail grows, and nobody had to count classes.

# %% [markdown]
# ## Focal loss and three negatives to one
#
# *Focal loss* (Lin et al., ICCV 2017) makes the step smooth: it multiplies the cross-entropy by $(1 - p_t)^\gamma$. With more
# than two classes, $p_t$ is the softmax probability of the true one.

# %%
def focal(logits, targets, run, gamma=2.0):
    """Softmax focal loss."""
    log_p = F.log_softmax(logits, 1).gather(1, targets[:, None])[:, 0]
    return -((1 - log_p.exp()) ** gamma * log_p).mean()


# %% [markdown]
# With two classes this is torchvision's sigmoid form without its α:

# %%
score = torch.linspace(-4, 4, 9)
truth = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
pair_of_logits = torch.stack([torch.zeros(9), score], 1)
theirs = sigmoid_focal_loss(score, truth.float(), alpha=-1, reduction="mean")
float(focal(pair_of_logits, truth, None)), float(theirs)

# %% [markdown]
# *Three to one.* SSD (Liu et al., ECCV 2016), a detector, keeps **all** positives and the highest-loss negatives, at most three
# for each positive. That is not OHEM, which sorts all samples together. To try it here, give each class a sigmoid of its own: one
# image is then one positive and nine negatives, and mining drops six of the nine, over the whole batch. Keeping all nine
# is plain *one-vs-rest*, the fair reference.

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
# ScreenerNet (Kim and Choi, 2018) learns the weight. A small network sees the image and predicts $w \in (0, 1)$; the classifier
# minimises $w \ell$, the screener minimises
#
# $$(1 - w)^2\,\ell + w^2 \max(M - \ell, 0)$$
#
# Set the derivative to zero: the best weight is $w = \ell / M$ up to the margin $M$, and 1 beyond. So the screener learns to
# *predict the loss*. Both directions must be **detached**: without it the classifier could lower its loss by lowering its weights,
# and the screener could ask the classifier to change the losses.

# %%
class Screened(Net):
    """Net with a screener beside it, so that one optimiser trains both."""

    def __init__(self, classes):
        super().__init__(classes)
        self.screener = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(),
                                      nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(),
                                      nn.Linear(64, 1))


def screener_loss(weights, losses, margin=1.0):
    """High weights for high losses, low ones for low losses; mean over the batch."""
    return ((1 - weights) ** 2 * losses + weights ** 2 * (margin - losses).clamp_min(0)).mean()


def screened(run, inputs, labels):
    """Weighted cross-entropy for the classifier, and the screener's own loss.

    Each takes the other as given.
    """
    images = run.normalise(inputs)
    each = F.cross_entropy(run.model(images), labels, reduction="none")
    weights = run.model.screener(images)[:, 0].sigmoid()
    return (weights.detach() * each).mean() + screener_loss(weights, each.detach())


# %% [markdown]
# ## Disagreement between copies
#
# A last measure of difficulty needs no label. Turn and shift an image a little, several times. If the predictions of the copies
# differ, the image is near a border. The measure is the Jensen–Shannon divergence: the entropy of the mean prediction, less the
# mean entropy.

# %%
def wiggle(images, degrees=15, shift=0.1):
    """Each image turned and shifted a little at random."""
    count = len(images)
    angle = (2 * torch.rand(count) - 1) * math.radians(degrees)
    move = (2 * torch.rand(count, 2) - 1) * 2 * shift
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    grid = F.affine_grid(torch.cat([rotation, move[:, :, None]], 2).to(images), list(images.shape),
                         align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def jensen_shannon(probabilities):
    """Divergence of several predictions of each sample.

    Input (copies, N, classes), output (N,), in nats.
    """
    entropy = lambda p: -(p * p.clamp_min(1e-12).log()).sum(-1)  # noqa: E731
    return (entropy(probabilities.mean(0)) - entropy(probabilities).mean(0)).clamp_min(0)


@torch.no_grad()
def disagreement(run, split, copies=2, chunk=1000):
    """Jensen–Shannon divergence between predictions for wiggled copies, in evaluation mode."""
    training = run.model.training
    run.model.eval()
    found = []
    for rows in torch.arange(len(split)).split(chunk):
        images, _ = run.batch(split, rows.to(split.labels.device))
        views = torch.stack([run.forward(wiggle(images)).float().softmax(1) for _ in range(copies)])
        found.append(jensen_shannon(views).cpu())
    run.model.train(training)
    return torch.cat(found)


# %% [markdown]
# As a **ranking**: the validation images on which the young network's copies disagree most, with their labels.

# %% mystnb={"image": {"alt": "Two rows of validation digits with the largest disagreement between copies; many are unusual or belong to rare classes, and each carries its label."}}
with reproducible(0):
    difficulty = disagreement(young.run, data.val, copies=4)
hardest = difficulty.topk(20).indices
plots.gallery(data.val.inputs[hardest], [str(int(label)) for label in data.val.labels[hardest]])

# %%
val_losses = F.cross_entropy(young.predict(data.val), data.val.labels, reduction="none")
(f"rank correlation of disagreement (without labels) and loss (with them): "
 f"{spearmanr(difficulty, val_losses).statistic:.2f}")

# %% [markdown]
# As a **sampler**: a few times during training, measure the disagreement on all training images, and draw the next batches in
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
# All recipes take the same number of steps of the same size. OHEM comes with three rates. The steps are kept few here so that the
# page stays quick; mining may need more of them, because it throws gradients away.

# %%
recipes = {
    "baseline": baseline,
    "logit adjustment": replace(baseline, posthoc=logit_adjustment),
    "random oversampling": replace(baseline, resample=oversample),
    "OHEM": replace(baseline, loss=ohem),
    "OHEM, rate 0.25": replace(baseline, loss=partial(ohem, rate=0.25)),
    "OHEM, rate 0.95": replace(baseline, loss=partial(ohem, rate=0.95)),
    "focal loss": replace(baseline, loss=focal),
    "one-vs-rest": replace(baseline, loss=one_vs_rest),
    "3:1 negatives": replace(baseline, loss=partial(one_vs_rest, negatives=3)),
    "ScreenerNet": replace(baseline, model=Screened, objective=screened),
    "disagreement sampler": replace(baseline, sampler=by_disagreement),
}
fair = compare(recipes, lambda seed: long_tailed("MNIST", seed=seed, data=DATA), seeds=SEEDS,
               steps=STEPS, evaluate_every=STEPS)
summary(fair.table)

# %% [markdown]
# Look at which intervals lie to the right of the grey dotted line, the baseline, and which reach oversampling.

# %% mystnb={"image": {"alt": "Mean recall of the three rarest digits for eleven techniques with intervals and seeds; a dotted line marks the baseline."}}
plots.overview(fair.table, "tail recall")

# %% [markdown]
# The same pairs in balanced accuracy, each technique minus the baseline of the same seed. A hollow dot's interval holds zero.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy between each technique and the baseline, with intervals; hollow dots mark differences that the seeds do not show."}}
plots.gaps(fair.table)

# %% [markdown]
# The table says the same in points, for every metric:

# %%
differences(fair.table, "baseline")

# %% tags=["hide-input"]
claim("In a short training, keeping only the harder half of each batch costs accuracy instead of "
      "bringing any.",
      better(fair.table, "baseline", "OHEM"))

# %% tags=["hide-input"]
claim("Plain oversampling beats OHEM, focal loss, ScreenerNet and the disagreement sampler by "
      "more than ten points each.",
      better(fair.table, "random oversampling", "OHEM", by=0.1)
      & better(fair.table, "random oversampling", "focal loss", by=0.1)
      & better(fair.table, "random oversampling", "ScreenerNet", by=0.1)
      & better(fair.table, "random oversampling", "disagreement sampler", by=0.1))

# %% [markdown]
# Why does mining not help here? The likely reason: in so few steps the network has not yet learned the common digits, and dropping
# the easy half of a batch throws away gradient that it still needs. Under the source's protocol, below, there is time.

# %% [markdown]
# Class by class, look at the right half, where the differences are.

# %% mystnb={"image": {"alt": "Recall of each digit for baseline, oversampling, OHEM and focal loss with intervals; all agree on the common digits and part on the rare ones."}}
plots.per_class(fair.table, ["baseline", "random oversampling", "OHEM", "focal loss"], fair.labels,
                data.class_names)

# %% [markdown]
# ### Which test digits are they?
#
# For the nines: the first row holds the hard positives of the baseline, nines with the lowest $p_9$; the second its hard negatives,
# other digits with the highest. Above each stands its number in the test set.

# %% mystnb={"image": {"alt": "First row: ten nines that the baseline scores lowest. Second row: ten other digits, that it scores highest as nines. Each carries its test-set number."}}
nine = fair.logits["baseline", SEEDS[0]].softmax(1)[:, 9]
is_nine = fair.labels == 9
positives = nine.masked_fill(~is_nine, 2).topk(10, largest=False).indices
negatives = nine.masked_fill(is_nine, -1).topk(10).indices
shown = torch.cat([positives, negatives])
plots.gallery(data.test.inputs[shown], [f"#{int(row)}" for row in shown])

# %%
pd.Series(torch.bincount(fair.labels[negatives], minlength=10).tolist(),
          name="labels of the ten hardest negatives").to_frame().T

# %% [markdown]
# ## Where mining was born: windows
#
# OHEM was made for detectors, where an image has thousands of candidate windows and a handful of objects. Here is that setting in
# small. Every image gives 64 windows; two hold a digit, the others are noise or the gap **between** two digits.

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


# %% mystnb={"image": {"alt": "Three rows of noisy windows: centred digits, gaps between two digits, and empty background."}}
windows, is_digit = make_windows(data.train, 8, torch.Generator().manual_seed(0))
rows = torch.cat([torch.arange(10), 16 + torch.arange(10), 500 + torch.arange(10)])
plots.gallery(windows[rows].clamp(0, 1))

# %% [markdown]
# A **read-only** copy of the network scores every window, without gradients and at forward cost only. The other network trains on the
# few that were chosen. After each step the copy takes over the weights. Five ways to choose:

# %%
def choose(way, losses, labels, size, generator):
    """Rows of the windows to train on."""
    if way == "all windows":
        return torch.arange(len(labels))
    if way == "random windows":
        return torch.randperm(len(labels), generator=generator)[:size]
    if way == "OHEM":
        return losses.topk(size).indices
    positive, negative = labels.nonzero().flatten(), (labels == 0).nonzero().flatten()
    return torch.cat([positive, negative[losses[negative].topk(3 * len(positive)).indices]])


def train_windows(way, seed, steps, data, size=32):
    """Train on windows in one of five ways.

    Average precision on new windows from the test digits.
    """
    with reproducible(seed):
        generator = torch.Generator().manual_seed(seed)
        network = nn.Sequential(nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(),
                                nn.Conv2d(8, 16, 5, stride=2), nn.ReLU(),
                                nn.Flatten(), nn.Linear(256, 1), nn.Flatten(0))
        reader = copy.deepcopy(network)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

        started = time.process_time()
        for _ in range(steps):
            images, labels = make_windows(data.train, 4, generator)
            losses = None
            if way in ("OHEM", "3:1 negatives"):
                reader.load_state_dict(network.state_dict())
                with torch.no_grad():
                    losses = F.binary_cross_entropy_with_logits(
                        reader(images), labels.float(), reduction="none")
            rows = (torch.arange(len(labels)) if way == "focal loss"
                    else choose(way, losses, labels, size, generator))
            scores, truth = network(images[rows]), labels[rows].float()
            if way == "focal loss":
                loss = sigmoid_focal_loss(scores, truth, reduction="sum") / truth.sum()
            else:
                loss = F.binary_cross_entropy_with_logits(scores, truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds = time.process_time() - started
        images, labels = make_windows(data.test, 64, torch.Generator().manual_seed(1000 + seed))
        with torch.no_grad():
            precision = average_precision_score(labels, network(images))
    name = ("stand-in " if data.is_stand_in else "") + "digit windows"
    return tidy(name, way, seed, {"average precision": precision, "seconds": seconds},
                protocol="windows")


def window_job(way, seed, steps, choice):
    """One run, as `parallel` wants it."""
    return train_windows(way, seed, steps, long_tailed("MNIST", seed=seed, data=choice))


ways = ["random windows", "all windows", "OHEM", "3:1 negatives", "focal loss"]
window_table = pd.concat(parallel(window_job,
                                  [(way, seed, max(STEPS // 3, 1), DATA) for way in ways
                                   for seed in SEEDS]),
                         ignore_index=True)
summary(window_table, ["average precision", "seconds"], protocol="windows")

# %% [markdown]
# Look at the paired differences to random windows, which cost one update of the same size.

# %% mystnb={"image": {"alt": "Paired differences in average precision to training on random windows for all windows, OHEM, three-to-one mining and focal loss, with intervals."}}
plots.gaps(window_table, "random windows", "average precision", protocol="windows")

# %% tags=["hide-input"]
claim("Where background outnumbers the objects, both ways of mining beat random windows by more "
      "than three points.",
      better(window_table, "OHEM", "random windows", "average precision", by=0.03,
             protocol="windows")
      & better(window_table, "3:1 negatives", "random windows", "average precision", by=0.03,
               protocol="windows"))

# %% [markdown]
# This is the problem that mining was made for: most windows are empty and stay easy, and there are more of them in every step than
# you can afford to train on.

# %% [markdown]
# ## When this does not help
#
# **Label noise.** A wrongly labelled image has the highest loss of all, and mining goes after it. Flip the labels of 5 % of the
# training images to another digit and train again.

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


def noisy_run(technique, recipe, seed, steps, choice, rate=0.25):
    """Train on flipped labels: metrics, and the share of flipped labels among the samples that
    mining would keep.
    """
    data, flipped = flip_labels(long_tailed("MNIST", seed=seed, data=choice), seed)
    trained = fit(recipe, data, steps=steps, seed=seed, evaluate_every=steps)
    found = metrics.evaluate(trained.predict(data.test), data.test.labels, data.class_counts)
    each = F.cross_entropy(trained.predict(data.train, posthoc=False), data.train.labels,
                           reduction="none")
    hardest = each.topk(kept(len(each), rate)).indices
    found["flipped among the hardest"] = float(torch.isin(hardest, flipped).float().mean())
    found["flipped labels learned"] = float((trained.predict(data.train[flipped]).argmax(1)
                                             == data.train.labels[flipped]).float().mean())
    return tidy(data.name, technique, seed, found, protocol="5 % label noise")


noisy_recipes = {name: recipes[name] for name in ("baseline", "OHEM", "OHEM, rate 0.25")}
jobs = [(name, recipe, seed, STEPS, DATA) for name, recipe in noisy_recipes.items()
        for seed in SEEDS]
noisy = pd.concat(parallel(noisy_run, jobs), ignore_index=True)
summary(noisy, ["accuracy", "balanced accuracy", "tail recall", "flipped among the hardest",
                "flipped labels learned"],
        protocol="5 % label noise")

# %% [markdown]
# Look at the length of the lines: what each technique loses when labels are wrong.

# %% mystnb={"image": {"alt": "Balanced accuracy of the baseline and two OHEM rates with clean labels and with five percent flipped labels, a filled and a hollow dot for each, joined by a line whose length is the damage."}}
figure, ax = plt.subplots(figsize=(7.5, 2.2))
for row, name in enumerate(noisy_recipes):
    clean = mean(fair.table, name, "balanced accuracy")
    dirty = mean(noisy, name, "balanced accuracy", protocol="5 % label noise")
    ax.plot([100 * dirty.mean, 100 * clean.mean], [row, row], color=plots.colour(name))
    ax.plot(100 * clean.mean, row, "o", color=plots.colour(name))
    ax.plot(100 * dirty.mean, row, "o", color=plots.colour(name), markerfacecolor="white")
ax.set(yticks=range(3), yticklabels=list(noisy_recipes),
       xlabel="balanced accuracy (%): clean (filled), 5 % flipped (hollow)")

# %%
finals = values(noisy, "OHEM", "balanced accuracy", protocol="5 % label noise")
f"OHEM with flipped labels, seed by seed: {', '.join(f'{100 * value:.0f} %' for value in finals)}"

# %% [markdown]
# Look at the lowest of them: ten classes at random give 10 %.

# %% tags=["hide-input"]
claim("The wrong labels are what mining finds: more than nine in ten of them are among the "
      "hardest quarter.",
      between(noisy, "baseline", "flipped among the hardest", low=0.9 * 0.05 / 0.25,
              protocol="5 % label noise"))

# %% [markdown]
# **A free correction.** OHEM minus logit adjustment and minus oversampling, which know the class counts:

# %%
miners = ["OHEM", "focal loss", "ScreenerNet", "disagreement sampler"]
pd.concat([differences(fair.table, reference, ["balanced accuracy", "tail recall"]).loc[miners]
           .add_suffix(f" minus {reference}")
           for reference in ("logit adjustment", "random oversampling")], axis=1)

# %% [markdown]
# **Calibration and cost.** A network that never sees the easy samples again has no reason to be sure of them. And the disagreement
# sampler pays for its ranking with extra forward passes.

# %%
summary(fair.table, ["ECE", "seconds"])

# %% [markdown]
# ## Published and reproduced
#
# Table T6 is left in the outputs of a textbook's notebook (Abhishek and Abdelaziz, 2023, figure 9.11), from one seed each. Under
# `source` we follow it: learning rate .01, momentum .5, batch 64, 20 epochs, rate .5, the best look at the **test** set. Two seeds.

# %%
source = Recipe(optimizer=partial(sgd, lr=0.01, momentum=0.5), schedule=None)
as_printed = compare({"baseline": source, "OHEM": replace(source, loss=ohem)},
                     lambda seed: long_tailed("MNIST", validation=0, seed=seed, data=DATA),
                     seeds=SEEDS[:2], steps=SOURCE_STEPS,
                     batch_size=64, protocol="source", select="validation",
                     evaluate_every=max(SOURCE_STEPS // 10, 1))
results = pd.concat([fair.table, as_printed.table], ignore_index=True)
plots.published_and_reproduced(results, "T6")

# %% tags=["hide-input"]
gap = difference(results, "OHEM", "baseline", "accuracy", protocol="source")
claim("Under the source's protocol OHEM comes out above cross-entropy, as printed.",
      Check(gap.mean > 0.01,
            f"OHEM − baseline, accuracy: {100 * gap.mean:+.1f} points, {gap.seeds}",
            not data.is_stand_in))

# %% [markdown]
# The published gain sits in the tail, as the per-class rows say:

# %%
published_per_class("T6")

# %% [markdown]
# **What the printed text gets wrong.** It takes the *mean* loss, which cannot be sorted, and says three times that the **lowest** losses
# are kept. Keep the lowest and you train on what the network already knows. Side by side, on a batch of eight losses:

# %%
eight = torch.tensor([0.01, 2.30, 0.05, 0.70, 0.02, 1.20, 0.10, 0.40])
half_of_it = kept(len(eight), 0.5)
pd.Series({"the four highest (right)": float(eight.topk(half_of_it).values.mean()),
           "the four lowest (as printed)": float(
               eight.topk(half_of_it, largest=False).values.mean()),
           "all eight": float(eight.mean())}, name="mean loss").round(3).to_frame()

# %% [markdown]
# Nor is 3:1 part of OHEM, as one article has it: it is SSD's ratio, and it counts negatives only. And a hard negative is not a wrong
# label. It is another class's sample with a high score.

# %% [markdown]
# ## Try it
#
# **1.** What does mining do to the class shares of a *gradient step*? Estimate the share of the three rarest digits among the samples that
# rates .5 and .25 keep, on the young network above.

# %% tags=["solution", "hide-cell"]
tail = data.train.labels >= 7
{rate: round(float(tail[losses.topk(kept(len(losses), rate)).indices].float().mean()), 3)
 for rate in (1, 0.5, 0.25)}

# %% [markdown]
# **2.** Start gently: let the rate fall from 1 to .25 over the training (`run.progress` is the share of steps done). Compare on validation.

# %% tags=["solution", "hide-cell"]
def falling(logits, targets, run):
    """OHEM with a rate that falls from 1 to a quarter."""
    return ohem(logits, targets, run, rate=1 - 0.75 * run.progress)


gentle = fit(replace(baseline, loss=falling), data, steps=max(STEPS // 3, 1)).history[-1]
{name: round(gentle[name], 3) for name in ("accuracy", "balanced accuracy")}

# %% [markdown]
# **3.** Show that the screener's best weight is the loss over the margin: evaluate `screener_loss` on a grid for a loss of .3.

# %% tags=["solution", "hide-cell"]
grid = torch.linspace(0, 1, 101)
best = min(grid, key=lambda weight: float(screener_loss(weight[None], torch.tensor([0.3]))))
f"best weight for a loss of 0.3 with margin 1: {float(best):.2f}"

# %% [markdown]
# ## What to remember
#
# Mining needs no class counts. It finds the tail, the border cases and the wrong labels alike: clean the labels first. The cell below writes
# this chapter's results, from which the first page of the book is made.

# %%
gain = difference(fair.table, "OHEM", "baseline", "tail recall")
counted = difference(fair.table, "random oversampling", "baseline", "tail recall")
hurt = difference(noisy, "OHEM", "baseline", "balanced accuracy", protocol="5 % label noise")
verdict = (f"Keeping the harder half of each batch changes the recall of the three rarest digits "
           f"by {gain:+%} points, where oversampling gives {counted:+%}; with 5 % wrong labels it "
           f"changes balanced accuracy by {hurt:+%}.")
record("hard_examples/mining", pd.concat([results, window_table, noisy], ignore_index=True),
       verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(data))
