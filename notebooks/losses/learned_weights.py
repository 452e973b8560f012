# %% [markdown]
# # Learned weights: Meta-Weight-Net

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** Can a network learn from a few clean, balanced images which samples deserve weight, when the labels are right and
# when a fifth of them is wrong?
#
# **Data.** MNIST with an exponential long tail, and Fashion-MNIST cut in the same way; a hundred validation images serve as the
# *meta set*. The test sets stay balanced.
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
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.func import functional_call, grad
from torch.nn import functional as F

from helpers import plots
from helpers.claims import Check, better, claim
from helpers.datasets import Split, long_tailed
from helpers.experiments import compare, in_arena
from helpers.records import fingerprint, record
from helpers.results import difference, published, summary, tidy
from helpers.runs import parallel
from helpers.training import Recipe, fit, logit_adjustment, oversample

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104]
STEPS = 400
RATES = [0.01, 0.04, 0.16]
DATA = "auto"

# %% [markdown]
# ## A large loss: rare, or wrong?
#
# Two schools weigh samples by their loss, and they contradict each other. [Hard-example mining](../hard_examples/mining.ipynb)
# and focal loss give *more* weight to a large loss: it may be a rare sample. Self-paced learning gives it *less*: it may be a
# wrong label. Which school is right depends on the data, so let the data say it.
#
# **Meta-Weight-Net** ([Shu et al., 2019](../../book/references.md#shu2019)) learns the weight as a function of the loss,
# $w = V_\theta(\ell)$, with a network of one hidden layer. What makes a weight good? That a step taken with it lowers the loss on a
# small, clean, *balanced* **meta set**. Take a step with the weights, in thought,
#
# $$\hat\phi(\theta) = \phi - \eta\,\nabla_\phi \frac1B \sum_i V_\theta(\ell_i)\,\ell_i(\phi)$$
#
# look at the meta loss there, and follow its gradient with respect to $\theta$. Then take the real step with the new weights. We
# scale the weights of a batch to mean one; η is the technique's peak rate.
#
# ## The meta set is not free
#
# It comes from validation: ten images a class. Nine tenths are left to validate on. Whoever holds ten more clean images of each
# class could also **train** on them; that is the rival to beat.

# %%
def split_meta(data, per_class=10):
    """Ten validation images a class as a meta set, and the data without them."""
    labels = data.val.labels
    rows = torch.cat([(labels == label).nonzero()[:per_class, 0] for label in labels.unique()])
    left = torch.ones(len(labels), dtype=torch.bool)
    left[rows] = False
    return data.val[rows], replace(data, val=data.val[left.nonzero()[:, 0]])


def with_meta_images(recipe, data, **how):
    """Any recipe, with the meta images among the training images."""
    meta, data = split_meta(data)
    train = Split(torch.cat([data.train.inputs, meta.inputs]),
                  torch.cat([data.train.labels, meta.labels]))
    return fit(recipe, replace(data, train=train), **how)


# %% [markdown]
# ## A step in thought
#
# `torch.func` makes this short. `functional_call` runs a layer with parameters that are not its own, and `grad` turns a loss into a
# function that returns slopes, through which you can differentiate again. We look ahead with the **last layer** alone and keep the
# features as they are: the whole network would cost far more; how much its direction differs we have not measured.

# %%
def weigh(weigher, losses):
    """Weights with mean one over the batch, shape (N,), from losses."""
    raw = weigher(losses[:, None])[:, 0]
    return raw / raw.mean().clamp_min(1e-8)


def step_in_thought(head, features, labels, weights, rate):
    """Parameters of the last layer after a step on weighted losses; the layer itself stays."""
    def loss(parameters):
        logits = functional_call(head, parameters, (features,))
        return (weights * F.cross_entropy(logits, labels, reduction="none")).mean()

    now = {name: value.detach() for name, value in head.named_parameters()}
    slopes = grad(loss)(now)
    return {name: value - rate * slopes[name] for name, value in now.items()}


def meta_loss(weigher, head, batch, meta, rate):
    """Loss on the meta set after a step in thought; `batch` and `meta` are features and labels."""
    features, labels = batch
    losses = F.cross_entropy(head(features), labels, reduction="none").detach()
    ahead = step_in_thought(head, features, labels, weigh(weigher, losses), rate)
    return F.cross_entropy(functional_call(head, ahead, (meta[0],)), meta[1])


# %% [markdown]
# The objective puts it together. Every fifth step $V$ learns (by Adam with a rate of .001, the setting of the authors' code for
# noise); every step uses it, with its weights *detached*: the classifier must not lower its loss by lowering its weights.

# %%
class MetaWeighted:
    """An objective that learns the weights of its samples on a meta set."""

    def __init__(self, meta, every=5, rate=1e-3):
        self.meta, self.every, self.rate = meta, every, rate
        self.weigher, self.optimizer, self.curves = None, None, {}

    def begin(self, run):
        """A fresh weigher, 1-100-1, that at first weighs all losses nearly alike."""
        self.weigher = nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 1),
                                     nn.Sigmoid()).to(run.device)
        self.optimizer = torch.optim.Adam(self.weigher.parameters(), self.rate)
        self.meta = Split(self.meta.inputs.to(run.device), self.meta.labels.to(run.device))

    def learn(self, run, features, labels):
        """One step of the weigher; batch norm sees the meta set as it will see the test set."""
        run.model.eval()
        with torch.no_grad():
            inputs, truth = run.batch(self.meta, torch.arange(len(self.meta)))
            meta = run.model.features(run.normalise(inputs)), truth
        run.model.train()
        loss = meta_loss(self.weigher, run.model.head, (features, labels), meta, run.recipe.lr)
        slopes = torch.autograd.grad(loss, list(self.weigher.parameters()))
        for parameter, slope in zip(self.weigher.parameters(), slopes, strict=True):
            parameter.grad = slope
        self.optimizer.step()

    def __call__(self, run, inputs, labels):
        if self.weigher is None:
            self.begin(run)
        features = run.model.features(run.normalise(inputs))
        if run.step % self.every == 0:
            self.learn(run, features.detach(), labels)
        each = F.cross_entropy(run.model.head(features), labels, reduction="none")
        return (weigh(self.weigher, each.detach()).detach() * each).mean()


def meta_weight_net(recipe, data, **how):
    """Training with learned weights; the meta set leaves validation."""
    meta, data = split_meta(data)
    return fit(replace(recipe, objective=MetaWeighted(meta)), data, **how)


# %%
TECHNIQUES = {
    "Meta-Weight-Net": {"procedure": meta_weight_net},
    "Meta-Weight-Net + logit adjustment": {"procedure": meta_weight_net,
                                           "posthoc": logit_adjustment},
    "baseline, meta images too": {"procedure": with_meta_images},
    "logit adjustment, meta images too": {"procedure": with_meta_images,
                                          "posthoc": logit_adjustment},
    "oversampling, meta images too": {"procedure": with_meta_images, "resample": oversample},
}


def wrong_labels(data, seed, share=0.2):
    """The data with a share of the training labels replaced by another class, and which were."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(data.train), generator=generator)[:round(share * len(data.train))]
    labels, classes = data.train.labels.clone(), len(data.class_names)
    labels[rows] += torch.randint(1, classes, (len(rows),), generator=generator)
    return replace(data, train=Split(data.train.inputs, labels % classes)), rows


# %% [markdown]
# ## What it learns
#
# Before any comparison, look at the curve. Train once on right labels, and once after a fifth of the training labels was replaced
# by another class. Nobody tells $V$ which is which.

# %% tags=["hide-input"]
GRID = [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]


class Watched(MetaWeighted):
    """Keeps the curve of its weigher as it changes, at each tenth of the steps."""

    def __call__(self, run, inputs, labels):
        loss = super().__call__(run, inputs, labels)
        if (run.step + 1) % max(run.steps // 10, 1) == 0:
            with torch.no_grad():
                curve = self.weigher(torch.tensor(GRID, device=run.device)[:, None])[:, 0]
            self.curves[run.step + 1] = (curve / curve.max()).tolist()
        return loss


def watch(share, rate, seed, steps, choice):
    """Curves of one training by step, and mean weights of kinds of training samples at its end."""
    data, rows = wrong_labels(long_tailed("MNIST", seed=seed, data=choice), seed, share)
    meta, data = split_meta(data)
    trained = fit(Recipe(objective=Watched(meta), lr=rate), data, steps=steps, seed=seed)
    objective, labels = trained.run.recipe.objective, data.train.labels
    losses = F.cross_entropy(trained.predict(data.train), labels, reduction="none")
    with torch.no_grad():
        weights = weigh(objective.weigher.cpu(), losses)
    wrong = torch.zeros(len(labels), dtype=torch.bool)
    wrong[rows] = True
    kinds = {"wrong": wrong, "right": ~wrong, "right, rare": ~wrong & (labels >= 7),
             "right, common": ~wrong & (labels < 3)}
    return {"curves": objective.curves,
            "weights": {f"weight, {kind}": float(weights[rows].mean())
                        for kind, rows in kinds.items() if rows.any()}}


conditions = {"right labels": 0.0, "20 % wrong labels": 0.2}
jobs = [(share, 0.16, seed, STEPS, DATA) for share in conditions.values() for seed in SEEDS]
watched = dict(zip([(name, seed) for name in conditions for seed in SEEDS],
                   parallel(watch, jobs), strict=True))

# %% [markdown]
# Each curve is scaled to its largest weight; the stronger the line, the later in the training, and the faint lines are the ends of
# other seeds. On which side is the weight?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Learned weight against the loss in two panels, right labels and a fifth wrong: one training at each tenth of its steps, and the last curve of the other seeds in pale."}}
figure, axes = plt.subplots(1, 2, figsize=(7.5, 3), sharey=True)
for ax, name in zip(axes, conditions, strict=True):
    for seed in SEEDS:
        curves = watched[name, seed]["curves"]
        for place, step in enumerate(sorted(curves)):
            if seed == SEEDS[0] or step == max(curves):
                ax.plot(GRID, curves[step], color=plt.cm.viridis_r(0.1 + 0.9 * place / len(curves)),
                        linewidth=2 if step == max(curves) else 1,
                        alpha=1 if seed == SEEDS[0] else 0.4)
    ax.set(title=name, xlabel="loss of a sample", ylim=(0, 1.05))
axes[0].set_ylabel("weight (largest = 1)")

# %% tags=["remove-input"]
last = {name: [watched[name, seed]["curves"][max(watched[name, seed]["curves"])] for seed in SEEDS]
        for name in conditions}
start = {name: max(curve[0] / curve[-1] for curve in curves) for name, curves in last.items()}
fall = {name: max(max(curve) - curve[-1] for curve in curves) for name, curves in last.items()}
data = long_tailed("MNIST", seed=0, data=DATA)
claim("With right labels and with wrong ones, every training ends with a curve that rises: a "
      "sample without loss gets less than three quarters of the weight of one with the largest "
      "loss drawn, and no curve falls by more than two hundredths before that.",
      Check(max(start.values()) < 0.75 and max(fall.values()) <= 0.02, "; ".join(
          f"{name}: at a loss of 0 at most {start[name]:.2f} of the weight at {GRID[-1]:g}, which "
          f"is at most {fall[name]:.2f} below the largest"
          for name in conditions), not data.is_stand_in))

# %% [markdown]
# What that means for samples: the mean weights at the end, with a fifth of the labels wrong, in percent of the mean over all
# training images. *Rare* are the digits from 7 on, *common* those below 3. Compare the wrong with the right and rare.

# %% tags=["hide-input"]
weighed = pd.concat([tidy(data.name, "Meta-Weight-Net", seed, found["weights"], protocol=name)
                     for (name, seed), found in watched.items()], ignore_index=True)
summary(weighed, ["weight, wrong", "weight, right, rare", "weight, right, common"],
        protocol="20 % wrong labels")

# %% [markdown]
# So Meta-Weight-Net joins the first school, twice. We think that on the meta set the *rare* classes have the large losses, and that
# a step in thought lowers those by weight on large losses, wrong labels included. One number a sample cannot say which of the two
# it is.

# %% [markdown]
# ## The comparison
#
# Right labels first, in both arenas. Everybody who learns from the meta images, and nobody else, has them; and all choose their
# rates as in every chapter. (For these, a tenth of the validation images that choose the rate are images they know: that is the
# same for each rate.)

# %%
arenas = {name: in_arena(name, TECHNIQUES, seeds=SEEDS, steps=STEPS, rates=RATES, data=DATA)
          for name in ("digits", "garments")}
results = pd.concat([arena.table for arena in arenas.values()], ignore_index=True)
DIGITS, GARMENTS = "MNIST-LT", "FashionMNIST-LT"
COLUMNS = ["balanced accuracy", "worst-class recall", "ECE", "seconds"]
summary(results, COLUMNS, dataset=DIGITS)

# %% [markdown]
# Look for the learned weights alone, and for the same hundred images as training images.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy to logit adjustment in both arenas, with intervals, for learned weights and for the same meta images in training."}}
plots.both_arenas(results)

# %% tags=["remove-input"]
claim("Learned weights alone are more than a point behind the free correction, in both arenas.",
      better(results, "logit adjustment", "Meta-Weight-Net", by=0.01, dataset=DIGITS)
      & better(results, "logit adjustment", "Meta-Weight-Net", by=0.01, dataset=GARMENTS))

# %% tags=["remove-input"]
claim("The meta images are worth more in training: on digits the plain baseline that has them "
      "beats the network that learns weights from them.",
      better(results, "baseline, meta images too", "Meta-Weight-Net", dataset=DIGITS),
      refuted="It is ahead on average, by about half a point, and the interval reaches below zero.")

# %% [markdown]
# ## A fifth of the labels is wrong
#
# The same on the digits after a fifth of all training labels was replaced. There are 60 nines; now most images *called* nine are
# something else. The meta set, validation and test stay right.

# %%
def mislabelled(seed, choice, share=0.2):
    """Long-tailed digits with wrong training labels."""
    return wrong_labels(long_tailed("MNIST", seed=seed, data=choice), seed, share)[0]


rivals = {"baseline": {}, "logit adjustment": {"posthoc": logit_adjustment},
          "random oversampling": {"resample": oversample}, **TECHNIQUES}
noisy = compare({name: Recipe(**hooks) for name, hooks in rivals.items()},
                partial(mislabelled, choice=DATA), seeds=SEEDS, steps=STEPS, rates=RATES)
noisy = noisy.table.assign(protocol="20 % wrong labels")
summary(noisy, COLUMNS, protocol="20 % wrong labels")

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy, with a fifth of the labels wrong, to the baseline that trains on the meta images too, with intervals."}}
plots.gaps(noisy, "baseline, meta images too", protocol="20 % wrong labels")

# %% tags=["remove-input"]
claim("With a fifth of the labels wrong, logit adjustment that trains on the meta images is more "
      "than five points ahead of the weights that are learned from them; so is plain oversampling.",
      better(noisy, "logit adjustment, meta images too", "Meta-Weight-Net", by=0.05,
             protocol="20 % wrong labels")
      & better(noisy, "random oversampling", "Meta-Weight-Net", by=0.05,
               protocol="20 % wrong labels"))

# %% [markdown]
# Wrong labels fall on all classes alike, so most of what is called a rare digit is a common one. Ten right images more of each
# digit are then a treasure.
#
# ## When this does not help
#
# **Two troubles at once.** The published gains come from data that are imbalanced *or* noisy, with far more steps and a look ahead
# through the whole network. Ours is a small copy: the last layer, a hundred meta images, and as few updates of $V$ as the line
# below says. What it shows is a direction, not the method's best.

# %%
f"updates of V in a training of {STEPS} steps: {STEPS // 5}"

# %% [markdown]
# **The weights do not know the class.** Compare the row with logit adjustment on top: what it repairs is what was missing.
#
# **Calibration and cost.** Compare ECE in the table: corrected logits are moved by counts of wrong labels. The look ahead comes at
# every fifth step; its seconds are in the tables, of a machine that does other work as well: only large differences count.
#
# ## Published and reproduced
#
# No published table is reproduced here. The paper's experiments ([Shu et al., 2019](../../book/references.md#shu2019)) train
# residual networks on CIFAR with thousands of steps and a look ahead through all layers, which is more than a page that trains
# in minutes can hold. What the literature reports on CIFAR-10-LT with a ResNet-32 (imbalance 100), accuracy in percent:

# %% tags=["hide-input"]
reported = published("CIFAR-10-LT").query("`class` == 'IF 100'").groupby("technique").value
reach = reported.agg(["min", "max"]).loc[["baseline", "Meta-Weight-Net"]]
pd.DataFrame({"lowest": reach["min"], "highest": reach["max"]}).round(1)

# %% [markdown]
# ### Relatives
#
# Not implemented here, each for a reason of a line:
#
# - **Learning to reweight** ([Ren et al., 2018](../../book/references.md#ren2018)) has no network: the weights of a batch start
#   at zero, take one meta gradient step, and are forgotten. Meta-Weight-Net came after it, and remembers.
# - The **meta sampler** of Balanced Meta-Softmax ([Ren et al., 2020](../../book/references.md#ren2020)) learns the sampling rates
#   of classes in the same way, on top of the balanced softmax of the [previous chapter](weights_and_margins.ipynb).
# - **MESA** ([Liu et al., 2020](../../book/references.md#liu2020)) learns how to *sample* for an ensemble on tables, by
#   reinforcement. It is not here because it has [a chapter of its own](../tables/learned_sampler.ipynb).
# - **ScreenerNet**, which needs no meta set and learns a weight from the image, is in [*Hard
#   examples*](../hard_examples/mining.ipynb).
#
# ## Try it
#
# **1.** Check the meta gradient by hand: on a linear layer, compare the slope of the meta loss in one parameter of $V$ with a
# finite difference.

# %% tags=["solution", "hide-cell"]
torch.manual_seed(0)
toy_head, toy = nn.Linear(4, 3).double(), nn.Sequential(nn.Linear(1, 5), nn.Tanh(), nn.Linear(5, 1),
                                                        nn.Sigmoid()).double()
toy_batch, toy_meta = ((torch.randn(20, 4).double(), torch.randint(3, (20,))) for _ in range(2))
ahead = partial(meta_loss, toy, toy_head, toy_batch, toy_meta, 0.5)
slope = torch.autograd.grad(ahead(), toy[0].weight)[0][0, 0]
with torch.no_grad():
    toy[0].weight[0, 0] += 1e-5
    above = ahead()
    toy[0].weight[0, 0] -= 2e-5
    below = ahead()
f"slope {float(slope):.6f}, finite difference {float((above - below) / 2e-5):.6f}"

# %% [markdown]
# **2.** How good is the meta loss as a judge with *one* image a class? Compare the direction in which it wants to move $V$ with
# that of all of validation.

# %% tags=["solution", "hide-cell"]
young = fit(Recipe(), data, steps=max(STEPS // 4, 1), device="cpu").run
young.model.eval()
torch.manual_seed(0)
fresh = nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 1), nn.Sigmoid())


def judged(split, rows):
    """Features and labels of some rows."""
    inputs, labels = young.batch(split, rows)
    with torch.no_grad():
        return young.model.features(young.normalise(inputs)), labels


def direction(per_class):
    """The meta gradient that so many images a class give."""
    meta, _ = split_meta(data, per_class)
    batch = judged(data.train, torch.arange(0, len(data.train), 20))
    loss = meta_loss(fresh, young.model.head, batch, judged(meta, torch.arange(len(meta))), 0.16)
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, fresh.parameters())])


every = direction(100)
pd.Series({f"{per_class} a class": float(F.cosine_similarity(direction(per_class), every, dim=0))
           for per_class in (1, 3, 10, 30)}, name="cosine with all of it").round(3).to_frame()

# %% [markdown]
# At a cosine of one, so few images point the same way as all of validation.
#
# ## What to remember
#
# A learned weight is only as wise as what it sees of a sample. From the loss alone it cannot tell rare from wrong, and in a long
# tail it bets on rare. Whoever has clean, balanced images should first train on them and correct the prior. The cell below writes
# this chapter's results, from which the first page of the book is made.

# %% tags=["hide-input"]
gap = [difference(results, "Meta-Weight-Net", "logit adjustment", "balanced accuracy", dataset=one)
       for one in (DIGITS, GARMENTS)]
wrong = difference(noisy, "Meta-Weight-Net", "logit adjustment, meta images too",
                   "balanced accuracy", protocol="20 % wrong labels")
verdict = (f"With right labels, weights learned from the loss are {gap[0]:+%} points from the free "
           f"correction on digits and {gap[1]:+%} on garments. With a fifth of them wrong they "
           f"give more weight to large losses all the same, and are {wrong:+%} points from logit "
           f"adjustment that trains on the meta images.")
record("losses/learned_weights", pd.concat([results, noisy, weighed], ignore_index=True),
       verdict=verdict, seeds=SEEDS, steps=STEPS, data_hash=fingerprint(data))
