# %% [markdown]
# # Mixing images: MixUp, CutMix and their kin

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** If you train on blends of two images, does a rare class gain?
#
# **Data.** Fashion-MNIST with an exponential long tail: 60 boots beside almost 6,000 t-shirts. MNIST, cut in the same way, is the
# second arena. The test sets stay balanced.
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
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from scipy import stats
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import plots
from helpers.claims import Check, better, claim, equivalent
from helpers.datasets import long_tailed, validated_by_a_fifth
from helpers.experiments import BASELINES, compare, in_arena
from helpers.models import ConvNet
from helpers.records import fingerprint, record
from helpers.results import Interval, difference, is_real, mean, published, summary, values
from helpers.training import (
    Recipe,
    dropout_forgotten,
    logit_adjustment,
    oversample,
    prepare,
    reproducible,
    supervised,
)
from helpers.widgets import Widget, bars, blend, lines, slider

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104]
STEPS = 400
RATES = [0.01, 0.04, 0.16]
SOURCE_STEPS = 1122
DATA = "auto"

# %% [markdown]
# ## Why garments
#
# Digits hardly overlap. Garments ([Xiao et al., 2017](../../book/references.md#xiao2017)) overlap. A shirt can look like a t-shirt,
# or like a coat. So here you can tell two troubles apart, *too few images* and *too much overlap*, and see what they do together.

# %%
data = long_tailed("FashionMNIST", ratio=100, seed=0, data=DATA)
len(data.train), len(data.val), len(data.test)

# %% [markdown]
# Look at two bars: the shirts, seventh of ten, and the boots, the last.

# %% mystnb={"image": {"alt": "Bar chart of training images per class; the bars shrink exponentially from the first class to the last."}}
plots.class_counts(data)

# %% [markdown]
# The profile is that of the digits; what changes is how alike the classes are.

# %% tags=["hide-input"] mystnb={"image": {"alt": "One training image of each of the ten classes in a row."}}
first = [int((data.train.labels == label).nonzero()[0]) for label in range(10)]
plots.gallery(data.train.inputs[first], data.class_names)

# %% [markdown]
# ## One idea, five forms
#
# Take two images $x_i, x_j$ with one-hot labels $y_i, y_j$. Mix the images in the share $\lambda$, and the labels too:
#
# $$\tilde x = \lambda x_i + (1 - \lambda)\, x_j, \qquad \tilde y = \lambda y_i + (1 - \lambda)\, y_j, \qquad
# \lambda \sim \mathrm{Beta}(\alpha, \alpha)$$
#
# This is **MixUp** ([Zhang et al., 2018](../../book/references.md#zhang2018)). A network that must answer "0.7 trouser" cannot
# memorise a trouser.
#
# torchvision has it. It pairs every image with its **neighbour in the batch**, so the batch must be shuffled, as ours is: in a
# set that is stored class by class, nearly all neighbours are of one class. A hook takes a batch and its labels, and returns
# mixed images and a distribution over classes for each.

# %%
def mixup(inputs, labels, run, alpha=0.5):
    """MixUp by torchvision: one share for the batch, neighbours as partners."""
    return v2.MixUp(alpha=alpha, num_classes=len(run.class_counts))(inputs, labels)


# %% [markdown]
# Mix one-hot labels, never class numbers: half a pullover (2) and half a coat (4) are no dress (3).
#
# What does $\alpha$ do? Move it, and then the draw: at the quantile 0.5 stands the middle of all draws, whatever $\alpha$ is. A small
# $\alpha$ leaves most pictures nearly as they were; a large one makes ghosts of all.

# %% tags=["hide-input"]
alphas, quantiles = [0.1, 0.2, 0.5, 0.75, 1, 2, 5, 20], np.linspace(0.05, 0.95, 19)
points = np.linspace(0.02, 0.98, 33)
drawn = stats.beta([[alpha] for alpha in alphas], [[alpha] for alpha in alphas])
share = drawn.ppf(quantiles)
density = np.repeat(drawn.pdf(points)[:, None], len(quantiles), axis=1)
pair = [data.class_names[label] for label in (1, 9)]
Widget("MixUp's share",
       [slider("α", alphas, start=2), slider("quantile of the draw", quantiles, start=14)],
       [lines("density of λ (dotted: this draw)", points, {"density": density}, xlabel="λ",
              mark=share, limits=(0, 4)),
        blend("the picture", data.train.inputs[[first[1], first[9]]] / 255, pair, share),
        bars("its label (%)", pair, {"label": 100 * np.stack([share, 1 - share], -1)})],
       {"λ": share, "draws that leave one garment 90 % or more (%)":
        np.broadcast_to(200 * drawn.cdf(0.1), share.shape)})

# %% [markdown]
# ### CutMix: paste a box
#
# **CutMix** ([Yun et al., 2019](../../book/references.md#yun2019)) pastes a box of $x_j$ into $x_i$. The box should take
# $1 - \lambda$ of the area. Its centre is random, so it often sticks out of the image and is clipped. Then the label must follow
# the **area that is really pasted**, and not the $\lambda$ that was drawn. torchvision does that.

# %%
def cutmix(inputs, labels, run, alpha=0.75):
    """CutMix by torchvision: one box for the batch, labels by the clipped area."""
    return v2.CutMix(alpha=alpha, num_classes=len(run.class_counts))(inputs, labels)


# %% [markdown]
# Is the correction worth a line of code? Draw many boxes and compare the share drawn with the share pasted: without it, every
# label would be wrong by this much on average.

# %% tags=["hide-input"]
def box_shares(boxes, alpha=0.75, side=28, seed=0):
    """Share of the area that CutMix draws, and the share that is left of it inside the image, for
    many boxes.
    """
    rng = np.random.default_rng(seed)
    drawn = 1 - rng.beta(alpha, alpha, boxes)
    half, centres = (0.5 * np.sqrt(drawn) * side).astype(int), rng.integers(side, size=(2, boxes))
    edges = np.minimum(centres + half, side) - np.maximum(centres - half, 0)
    return drawn, edges.prod(0) / side**2


drawn, pasted = box_shares(10_000)
(f"drawn {drawn.mean():.0%} of the area, pasted {pasted.mean():.0%}; mean error of the label "
 f"{np.abs(drawn - pasted).mean():.2f}")

# %% [markdown]
# ### Both
#
# You can toss a coin for every batch, or do one after the other. In sequence the second mix pastes from an image that is a mix
# already, so up to three images meet and the label has three parts.

# %%
def mixup_or_cutmix(inputs, labels, run):
    """A fair coin for every batch decides between MixUp and CutMix."""
    return mixup(inputs, labels, run) if torch.rand(()) < 0.5 else cutmix(inputs, labels, run)


def mixup_then_cutmix(inputs, labels, run):
    """MixUp, then CutMix on its result; the labels are distributions in between."""
    return cutmix(*mixup(inputs, labels, run), run)


# %% [markdown]
# ### Remix: give the label to the rare class
#
# **Remix** ([Chou et al., 2020](../../book/references.md#chou2020)) is made for imbalance. It mixes the images as MixUp does. The
# share in the *label* is decided by a rule, from the class sizes $n_i$ and $n_j$:
#
# $$\lambda_y = \begin{cases} 0 & n_i / n_j \ge \kappa \text{ and } \lambda < \tau \\
# 1 & n_i / n_j \le 1/\kappa \text{ and } 1 - \lambda < \tau \\ \lambda & \text{otherwise} \end{cases}$$
#
# If the rare image has the larger share, it takes the whole label. Here $\kappa = 3$ and $\tau = 0.5$.

# %%
def remix_share(share, counts_i, counts_j, kappa=3.0, tau=0.5):
    """The share of the first label, by Remix's three branches; `share` is that of its image."""
    ratio = counts_i / counts_j
    share_y = torch.full_like(ratio, share)
    share_y[(ratio >= kappa) & (share < tau)] = 0
    share_y[(ratio <= 1 / kappa) & (1 - share < tau)] = 1
    return share_y


def mix_labels(labels, others, share, classes):
    """Distributions over classes, shape (N, classes): `share` of the first label, the rest of the
    second.
    """
    share = torch.as_tensor(share).expand(len(labels))[:, None]
    return share * F.one_hot(labels, classes) + (1 - share) * F.one_hot(others, classes)


def remix(inputs, labels, run, alpha=0.5, rule=remix_share):
    """Remix: images as in MixUp, label shares by a rule of the class sizes."""
    share = float(run.rng.beta(alpha, alpha))
    partner = torch.randperm(len(labels), generator=run.generator).to(labels.device)
    share_y = rule(share, run.class_counts[labels], run.class_counts[labels[partner]])
    targets = mix_labels(labels, labels[partner], share_y, len(run.class_counts))
    return share * inputs + (1 - share) * inputs[partner], targets


# %% [markdown]
# All three branches at work, for a t-shirt (6,000) and a boot (60), whichever comes first:

# %% tags=["hide-input"]
pairs = [("t-shirt", "boot", 6000, 60), ("boot", "t-shirt", 60, 6000),
         ("t-shirt", "t-shirt", 6000, 6000)]
pd.DataFrame({f"λ = {share}": [float(remix_share(share, torch.tensor([i]), torch.tensor([j])))
                               for *_, i, j in pairs]
              for share in (0.3, 0.7)}, index=[f"{one} with {other}" for one, other, *_ in pairs])

# %% [markdown]
# ### SamplePairing: mix the image, keep the label
#
# **SamplePairing** ([Inoue, 2018](../../book/references.md#inoue2018)) averages two images and keeps the first label. That is a
# strong disturbance, so it comes with a schedule: off in the first tenth, then on for eight rounds and off for two, off again in
# the last fifth to settle. The author counts epochs of a run of a thousand. Ours is short, so a round is one step, and the shares
# stay the same.

# %%
def pairing_is_on(step, steps):
    """SamplePairing's schedule: a warm-up, then 8 on and 2 off, then off to the end."""
    return 0.1 <= step / steps < 0.8 and step % 10 < 8


def sample_pairing(inputs, labels, run):
    """The average of two images with the label of the first, while the schedule says so."""
    if not pairing_is_on(run.step, run.steps):
        return inputs, labels
    partner = torch.randperm(len(labels), generator=run.generator).to(labels.device)
    return (inputs + inputs[partner]) / 2, labels


# %% [markdown]
# ### FMix: paste a cloud
#
# **FMix** ([Harris et al., 2020](../../book/references.md#harris2020)) replaces the box by a random blob. Take noise, keep its low
# frequencies (divide the spectrum by $f^{\delta}$, $\delta = 3$), and let the brightest $\lambda$ of the pixels be the mask.

# %%
def cloud_mask(share, height, width, generator, decay=3.0):
    """A binary mask of smooth noise, shape (height, width); `share` of it is one."""
    frequency = torch.fft.fftfreq(height)[:, None].hypot(torch.fft.rfftfreq(width)[None])
    noise = torch.view_as_complex(torch.randn(*frequency.shape, 2, generator=generator))
    smooth = noise / frequency.clamp_min(1 / max(height, width)) ** decay
    heights = torch.fft.irfft2(smooth, s=(height, width)).flatten()
    mask = torch.zeros(height * width)
    mask[heights.topk(round(share * height * width)).indices] = 1
    return mask.view(height, width)


def fmix(inputs, labels, run, alpha=1.0):
    """FMix: one mask for the batch; labels by the mask's mean."""
    mask = cloud_mask(float(run.rng.beta(alpha, alpha)), *inputs.shape[-2:],
                      run.generator).to(inputs.device)
    partner = torch.randperm(len(labels), generator=run.generator).to(labels.device)
    targets = mix_labels(labels, labels[partner], mask.mean(), len(run.class_counts))
    return mask * inputs + (1 - mask) * inputs[partner], targets


# %% [markdown]
# ## What the network sees
#
# Before you train, look. In the figure $\alpha$ is large so that shares come out near one half; in training they are often close
# to 0 or 1. The bar below each picture is its label. Look for bars that do not match their picture.

# %% tags=["hide-input"]
shown = {name: partial(mix, alpha=20.0) for name, mix in
         {"MixUp": mixup, "CutMix": cutmix, "Remix": remix, "FMix": fmix}.items()}
shown["SamplePairing"] = sample_pairing
shown["MixUp then CutMix"] = lambda *batch: shown["CutMix"](*shown["MixUp"](*batch), batch[-1])


def look(mix, rows, seed=1):
    """Mixed images and their distributions over classes, for some rows of the training set."""
    with reproducible(seed):
        run = prepare(Recipe(), data.train, 10, steps=100, batch_size=len(rows), seed=seed)
        run.step = 50
        inputs, labels = run.batch(data.train, rows)
        images, targets = mix(inputs, labels, run) if mix else (inputs, labels)
    return images, targets if targets.ndim == 2 else F.one_hot(targets, 10).float()


def with_label_bar(image, target, colours):
    """A picture in colour, shape (36, 30, 3), with its label as a bar of class shares below."""
    panel = np.ones((36, 30, 3))
    panel[:28, 1:29] = 1 - np.asarray(image).transpose(1, 2, 0)
    edges = np.concatenate([[0], np.asarray(target).cumsum() * 28]).round().astype(int) + 1
    for colour, start, end in zip(colours, edges[:-1], edges[1:], strict=True):
        panel[29:33, start:end] = colour
    return panel


def draw_with_labels(rows):
    """A row of pictures with label bars a technique."""
    colours = plt.get_cmap("tab10").colors
    figure, axes = plt.subplots(len(rows), figsize=(7.5, 1.08 * len(rows)))
    for ax, (name, (images, targets)) in zip(axes, rows.items(), strict=True):
        panels = [with_label_bar(image, target, colours)
                  for image, target in zip(images, targets, strict=True)]
        ax.imshow(np.concatenate(panels, axis=1))
        ax.set(xticks=[], yticks=[])
        ax.set_ylabel(name.replace(" then ", "\nthen ").replace("Pairing", "\nPairing"), rotation=0,
                      ha="right", va="center", fontsize=8)
        ax.spines[:].set_visible(False)
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours]
    figure.legend(handles, data.class_names, ncols=10, fontsize=6, loc="outside lower center",
                  handlelength=0.8,
                  columnspacing=0.9)


# %% tags=["hide-input"] mystnb={"image": {"alt": "Seven rows of eight pictures with label bars: originals with bars of one colour; MixUp, two pale images on top of each other; CutMix, a box pasted; FMix, a blob pasted; bars of two colours, or three where MixUp and CutMix follow each other; SamplePairing's bars keep one colour although the picture holds two garments."}}
order = torch.tensor([0, 9, 1, 7, 3, 8, 2, 5])
rows = torch.tensor(first)[order]
names = ["MixUp", "CutMix", "MixUp then CutMix", "Remix", "SamplePairing", "FMix"]
draw_with_labels({"original": look(None, rows)} | {name: look(shown[name], rows) for name in names})

# %% [markdown]
# SamplePairing's bars have one colour, though the pictures show two garments. Remix's bars often have one colour too: there the
# rare class has taken the label. (An image that is paired with itself stays as it was.) MixUp's garments are ghosts; CutMix and
# FMix leave each pixel real.
#
# ## Does mixing change the balance?
#
# A technique is one hook of the recipe. Four of these put a mix together with a remedy that does change the balance:
# [oversampling](../../book/glossary.md#term-oversampling-undersampling) before it, or
# [logit adjustment](../../book/glossary.md#term-logit-adjustment) ([Menon et al., 2021](../../book/references.md#menon2021)) after
# it.

# %%
TECHNIQUES = {
    "MixUp": {"mix": mixup},
    "CutMix": {"mix": cutmix},
    "MixUp or CutMix": {"mix": mixup_or_cutmix},
    "MixUp then CutMix": {"mix": mixup_then_cutmix},
    "Remix": {"mix": remix},
    "SamplePairing": {"mix": sample_pairing},
    "FMix": {"mix": fmix},
    "MixUp + oversampling": {"mix": mixup, "resample": oversample},
    "CutMix + oversampling": {"mix": cutmix, "resample": oversample},
    "MixUp + logit adjustment": {"mix": mixup, "posthoc": logit_adjustment},
    "CutMix + logit adjustment": {"mix": cutmix, "posthoc": logit_adjustment},
}

# %% [markdown]
# Now count. Every distribution sums to one, so a class's mean over many batches is its **share of the labels**. Divide it by
# the class's share of the data. One means: as imbalanced as before.

# %% tags=["hide-input"]
def label_mass(recipe, batches=300, seed=0):
    """Mean share of the labels that each class gets, shape (10,); the images are blank."""
    with reproducible(seed):
        train = recipe.resample(data.train, seed) if recipe.resample else data.train
        run = prepare(recipe, train, 10, batches, batch_size=128, seed=seed)
        draw, blank, total = recipe.sampler(run), torch.zeros(128, 1, 28, 28), torch.zeros(10)
        for run.step in range(batches):
            labels = train.labels[next(draw)]
            targets = recipe.mix(blank, labels, run)[1] if recipe.mix else labels
            total += (targets if targets.ndim == 2 else F.one_hot(targets, 10).float()).mean(0)
    return total / batches


share = data.class_counts / data.class_counts.sum()
mass = {name: label_mass(Recipe(**{**BASELINES, **TECHNIQUES}[name])) / share
        for name in ("MixUp", "CutMix", "FMix", "Remix", "random oversampling")}

# %% [markdown]
# The axis is logarithmic. Look at how far a curve is from the line at 1, above all on the right.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Label mass of each class relative to plain training, on a logarithmic axis: MixUp, CutMix and FMix stay at one, Remix rises slightly above one for the rare classes, oversampling rises to more than ten at the last class."}}
ax = plt.subplots()[1]
for name, ratio in mass.items():
    ax.plot(ratio, "o-", color=plots.colour(name), label=name, markersize=4)
ax.axhline(1, color="#333", linewidth=1)
ax.legend(fontsize=7, ncols=2)
ax.set(yscale="log", xlabel="class", ylabel="label mass / share of the data")
ax.set_xticks(range(10), data.class_names)
ax.tick_params(axis="x", labelsize=8)

# %% tags=["remove-input"]
drift = max(float((mass[name] - 1).abs().max()) for name in ("MixUp", "CutMix", "FMix"))
largest = float(mass["Remix"].max())
claim("MixUp, CutMix and FMix leave every class's share of the labels within a tenth of what it "
      "was; Remix adds less than a third.",
      Check(drift < 0.1 and largest < 4 / 3,
            f"largest change {drift:.1%}; Remix at most {largest:.2f} times plain, oversampling "
            f"{mass['random oversampling'].max():.0f} times", not data.is_stand_in))

# %% [markdown]
# A rare image lends its label to others as often as it borrows. So expect *regularisation* from a mix, and *balance* from
# somewhere else. Even Remix, which is made for this, moves little; and with oversampling in front all counts are equal, no ratio
# reaches $\kappa$, and Remix **is** MixUp.

# %% [markdown]
# ## The comparison
#
# The protocol is the same for all: the same splits for a seed, the same network, optimiser and schedule, the same number of
# steps and batch size; and each technique its own learning rate from one grid, chosen on validation of a draw that is used for
# nothing else. The test set is looked at once, after the last step. *Balanced data* is the same network on the whole balanced
# set: what is left to gain.

# %%
arenas = {name: in_arena(name, TECHNIQUES, seeds=SEEDS, steps=STEPS, rates=RATES, data=DATA)
          for name in ("garments", "digits")}
results = pd.concat([arena.table for arena in arenas.values()], ignore_index=True)
summary(results, ["balanced accuracy", "worst-class recall", "ECE", "seconds"],
        dataset="FashionMNIST-LT")

# %% [markdown]
# Now the same techniques against the free correction, in both arenas, seed by seed. A filled dot is clear of zero after Holm's
# correction for its panel. Look on which side of the line each dot lies, and for the seven mixes alone.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy to logit adjustment in two panels, garments and digits, a row a technique, with intervals: MixUp and CutMix alone lie below the baseline in both."}}
plots.both_arenas(results)

# %% tags=["remove-input"]
both = ("FashionMNIST-LT", "MNIST-LT")
alone = [better(results, "baseline", name, dataset=dataset)
         for name in ("MixUp", "CutMix") for dataset in both]
claim("Alone, neither MixUp nor CutMix keeps up with the plain baseline, in either arena.",
      alone[0] & alone[1] & alone[2] & alone[3])

# %% [markdown]
# The labels hold as much *boot* as before, but the few boots share many of their pictures with a common garment. With oversampling
# in front a boot is drawn as often as a t-shirt, and meets every class alike:

# %% tags=["remove-input"]
claim("Behind oversampling CutMix pays: on garments it lifts the worst class by more than three "
      "points over oversampling alone.",
      better(results, "CutMix + oversampling", "random oversampling", "worst-class recall", by=0.03,
             dataset="FashionMNIST-LT"))

# %% [markdown]
# And the free correction itself, beside it and behind a mix? (The row *CutMix + logit adjustment* is there to compare.)

# %% tags=["remove-input"]
claim("CutMix with oversampling is level with the free correction on garments, to a point and a "
      "half, and behind it on digits; MixUp in front of the correction costs in both arenas.",
      equivalent(results, "CutMix + oversampling", "logit adjustment", within=0.015,
                 dataset="FashionMNIST-LT")
      & better(results, "logit adjustment", "CutMix + oversampling", dataset="MNIST-LT")
      & better(results, "logit adjustment", "MixUp + logit adjustment", dataset="FashionMNIST-LT")
      & better(results, "logit adjustment", "MixUp + logit adjustment", dataset="MNIST-LT"))

# %% [markdown]
# ## Rarity costs most where classes overlap
#
# What does rarity cost a class? The recall on *balanced data* minus the recall on the long tail. On digits you find what you
# expect: the rarer, the dearer. On garments look at *shirt* and *boot*: three classes are rarer than the shirts, and none pays as
# much. And look below the line.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Recall lost to rarity by class in two panels, digits and garments, for the baseline and for logit adjustment, with intervals. Among garments the baseline's shirts lose more than its boots, which are rarer, and its t-shirts lie below zero."}}
figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.4), width_ratios=[2, 3])
for ax, dataset, arena in zip(axes, both[::-1], ("digits", "garments"), strict=True):
    for shift, name in ((-0.12, "baseline"), (0.12, "logit adjustment")):
        costs = [difference(results, "balanced data", name, "recall", label=label, dataset=dataset)
                 for label in range(10)]
        middle = np.array([100 * cost.mean for cost in costs])
        half = np.nan_to_num([50 * (cost.high - cost.low) for cost in costs])
        ax.errorbar(np.arange(10) + shift, middle, half, fmt="o", color=plots.colour(name),
                    markersize=5, linewidth=1.4, label=name)
    ax.axhline(0, color="#333", linewidth=1)
    ax.set(title=arena, xticks=range(10), xlabel="from the commonest class to the rarest")
    ax.tick_params(axis="x", labelsize=8)
axes[1].set_xticklabels(data.class_names, rotation=45, ha="right")
axes[0].set_ylabel("recall lost to rarity (points)")
axes[0].legend(fontsize=8, loc="upper left")

# %% tags=["hide-input"]
garments = arenas["garments"]
said = torch.cat([garments.logits["balanced data", seed].argmax(1) for seed in SEEDS])
missed = said[(garments.labels.repeat(len(SEEDS)) == 6) & (said != 6)]
tops = torch.isin(missed, torch.tensor([0, 2, 3, 4])).float().mean()
f"on balanced data, {tops:.0%} of the missed shirts are called t-shirt, pullover, dress or coat"


# %% tags=["remove-input"]
def dearer(label, other, dataset):
    """By how much more recall rarity costs one class than another, paired over seeds."""
    cost = [values(results, "balanced data", "recall", label=one, dataset=dataset)
            - values(results, "baseline", "recall", label=one, dataset=dataset)
            for one in (label, other)]
    return Interval.of(cost[0] - cost[1])


shirts, sixes = (dearer(6, 9, dataset) for dataset in both)
claim("Rarity costs the shirts over fifteen points more recall than the boots, which are rarer; "
      "the sixes, in the place of the shirts, it costs less than the nines.",
      Check(shirts.low > 0.15 and sixes.high < 0,
            f"shirts minus boots: {shirts:+%} points; sixes minus nines: {sixes:+%} points, "
            f"{shirts.seeds}", is_real(results), shirts))

# %% tags=["remove-input"]
claim("What rare shirts lose, common t-shirts win: the long tail lifts their recall by more than "
      "five points over balanced data.",
      better(results, "baseline", "balanced data", "recall", by=0.05, label=0,
             dataset="FashionMNIST-LT"))

# %% [markdown]
# Rarity costs the rarest digits and garments. But where two classes overlap, the network must draw a border through the overlap,
# and it draws it in favour of the class that it sees more often. Logit adjustment does nothing but move borders; see in the figure
# what the shirts get back by that. (In the first edition of this book the network was held back by its dropout and found no rare
# shirt at all, so that every remedy which showed it more shirts looked large; see
# [*Before any remedy*](../foundations/before_any_remedy.ipynb).)
#
# ## When this does not help
#
# **Alone.** Balance first; a mix can only follow.
#
# **Short training.** A mix pays where a network would otherwise memorise, and the gains in the papers named above come from
# hundreds of passes over the data. What becomes of MixUp and CutMix with four times the steps, [the
# benchmark](../../book/benchmark.md) says. Here there are few, yet the plain network has learned its training images well, and the
# digits by heart:

# %% tags=["hide-input"]
losses = {name: np.mean([arena.history["baseline", seed][-1]["loss"] for seed in SEEDS])
          for name, arena in arenas.items()}
(f"{STEPS * 128 / len(data.train):.1f} passes; the baseline's training loss at the end: "
 + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))

# %% [markdown]
# **Calibration.** Mixed labels make a network less sure of itself. Whether that mends its
# [calibration](../../book/glossary.md#term-calibration) or overshoots depends on how over-confident it was:

# %% tags=["hide-input"]
pd.DataFrame({arena: {name: f"{mean(results, name, 'ECE', dataset=dataset):%}" for name in
                      ("baseline", "MixUp", "CutMix", "CutMix + oversampling")}
              for arena, dataset in zip(("ECE, digits", "ECE, garments"), both[::-1], strict=True)})

# %% [markdown]
# **Cost.** A handful of operations on a batch; the seconds stand in the table of the comparison.

# %% [markdown]
# ## Published and reproduced
#
# Table T2 is printed in a textbook ([Abhishek and Abdelaziz, 2023](../../book/references.md#abhishek2023), figures 7.13–7.15), from
# one seed each. Under `source` we do what its notebook does: a random fifth of the long tail validates and is as long-tailed as
# the rest; SGD with a constant rate of .1 and momentum .9, batch 64; the epoch with the best validation *accuracy* counts.
# Dropout is lost after the first epoch in all rows alike ([E5](../../book/errata.md#e5)), and Remix gives every pair the mean share
# of the batch ([E12](../../book/errata.md#e12)). One more training of ours keeps the dropout; its accuracy stands in the next line.
# Thirty epochs do not fit on this page:

# %% tags=["hide-input"]
def everyones_share(share, counts_i, counts_j):
    """E12: mean losses are multiplied by shares, so that every pair gets the mean share."""
    own = remix_share(share, counts_i, counts_j)
    return own.mean().expand(len(own))


source = Recipe(model=ConvNet, lr=0.1, optimizer=partial(torch.optim.SGD, momentum=0.9),
                schedule=None, objective=dropout_forgotten)
source_recipes = {"baseline": source, "CutMix": replace(source, mix=cutmix),
                  "MixUp": replace(source, mix=mixup),
                  "Remix": replace(source, mix=partial(remix, rule=everyones_share)),
                  "baseline, dropout kept": replace(source, objective=supervised)}
source_draw = partial(validated_by_a_fifth, "FashionMNIST", data=DATA)
epoch = -(-len(source_draw(0).train) // 64)
as_printed = compare(source_recipes, source_draw, seeds=SEEDS[:2],
                     steps=SOURCE_STEPS, batch_size=64, protocol="source",
                     select="validation accuracy", evaluate_every=epoch)
results = pd.concat([results, as_printed.table], ignore_index=True)
(f"{SOURCE_STEPS} steps of 64 are {SOURCE_STEPS / epoch:.1f} of the source's 30 epochs; the "
 f"baseline with its dropout kept: "
 f"{mean(as_printed.table, 'baseline, dropout kept', 'accuracy', protocol='source'):%}")

# %%
plots.published_and_reproduced(results, "T2", names={"CutMix + MixUp, as printed": "MixUp"},
                               dataset="FashionMNIST-LT")

# %% [markdown]
# ### What a difference between two rows is worth
#
# The printed row "CutMix + MixUp" is a second run of MixUp: the function that combines them is never called
# ([E2](../../book/errata.md#e2)). So the source measured by accident what every table should measure on purpose: how far two
# trainings of **one** recipe lie apart. The text finds no significant gain in the combination, and that verdict was never tested.
#
# The printed recalls make it worse. They are counted over the last 500 of 10,000 test images, 42 to 62 a class
# ([E4](../../book/errata.md#e4)). Compare each pair of our own MixUp trainings in the two ways in which those two rows are
# compared. (Ours differ in their draw of the tail too. So we expected them to lie further apart; compare.)

# %% tags=["hide-input"]
def apart(logits, labels, label=4):
    """Differences in points between all pairs of trainings, shape (pairs, 2): accuracy, and the
    recall of one class among the last 500 test images.
    """
    hits = [found.argmax(1) == labels for found in logits]
    last = labels[-500:] == label
    scores = [(100 * float(hit.float().mean()), 100 * float(hit[-500:][last].float().mean()))
              for hit in hits]
    return np.array([np.abs(np.subtract(one, other))
                     for one, other in combinations(scores, 2)]).reshape(-1, 2)


ours = apart([garments.logits["MixUp", seed] for seed in SEEDS], garments.labels).round(1)
printed = published("T2").set_index(["technique", "metric", "class"]).value
gaps = (printed["CutMix + MixUp, as printed"] - printed["MixUp"]).abs()
gaps = gaps[[("accuracy", ""), ("recall of the last 500", "4")]].to_numpy().round(1)
pd.DataFrame({"printed pair": gaps, "our pairs, smallest": ours.min(0, initial=100),
              "our pairs, largest": ours.max(0, initial=0)},
             index=["accuracy, all images (points)", "coats among the last 500 (points)"]).round(1)

# %% tags=["hide-input"]
(f"pairs of our trainings at least as far apart as the printed rows: {(ours >= gaps).sum(0)[0]} of "
 f"{len(ours)} by accuracy, {(ours >= gaps).sum(0)[1]} of {len(ours)} by coats")

# %% [markdown]
# The printed pair differs by six coats of 47. Ask of every table whether its rows differ by more than one row from itself. On those
# 500 images Remix is called one of the two best, and over all 10,000 it is the last of the four
# ([E28](../../book/errata.md#e28)); MixUp is preferred on "the minority class" by one image of a class that is not the rarest
# ([E34](../../book/errata.md#e34), [E3](../../book/errata.md#e3)).
#
# As for the printed code: MixUp needs one-hot labels and does not say so ([E10](../../book/errata.md#e10)), and Remix, which calls
# itself simplified, lacks the branch $\lambda_y = 1$ ([E11](../../book/errata.md#e11)). The notebook has both right.
#
# ## Try it
#
# **1.** How much does Remix move the balance if $\kappa = 1$ and $\tau = 1$? Measure the label mass of the rarest class.

# %% tags=["solution", "hide-cell"]
def greedy(share, counts_i, counts_j):
    """Remix's rule that always gives the whole label to the rarer class."""
    return remix_share(share, counts_i, counts_j, kappa=1.0, tau=1.0)


greedy_mass = label_mass(Recipe(mix=partial(remix, rule=greedy))) / share
f"{float(greedy_mass[9]):.2f} times plain"

# %% [markdown]
# It cannot exceed 2: a pair has two places, and a class takes at most both.
#
# **2.** Draw $\lambda$ for every pair and not once a batch. Does the label mass change? Does its spread over batches?

# %% tags=["solution", "hide-cell"]
def added_mass(per_pair, batches=1000):
    """What mixing adds to the label mass of class 9, a share of the batch; one number a batch."""
    rng, added = np.random.default_rng(0), []
    for _ in range(batches):
        labels = data.train.labels[rng.integers(len(data.train), size=128)]
        partner = torch.as_tensor(rng.permutation(128))
        share = rng.beta(0.5, 0.5, 128 if per_pair else 1)
        mixed = mix_labels(labels, labels[partner], share, 10)
        added.append(float(mixed[:, 9].mean() - (labels == 9).double().mean()))
    return np.array(added)


pd.DataFrame({"one share a batch": added_mass(False), "one share a pair": added_mass(True)}
             ).agg(["mean", "std"]).round(4) + 0.0  # no minus zero

# %% [markdown]
# One share a batch changes no batch's label mass, because the partners are a permutation. One share a pair keeps the mean and adds
# spread.
#
# **3.** Mix only *within* a class. Which of the label's parts is left, and what is this called in an earlier chapter?

# %% tags=["solution", "hide-cell"]
boots = data.train[data.train.labels == 9].inputs[:8].float() / 255
with reproducible(0):
    _, targets = v2.MixUp(alpha=20.0, num_classes=10)(boots, torch.full((len(boots),), 9))
(f"labels left: {targets.nonzero()[:, 1].unique().tolist()}: this is SMOTE, with a random partner "
 f"in place of a near one")

# %% [markdown]
# ## What to remember
#
# A mix regularises; it does not balance. Balance first, and look at what a mix adds. Ask where rarity costs most: where classes
# overlap. And compare two trainings of one recipe before you believe a difference between two. The cell below writes this
# chapter's results, from which the first page of the book is made.

# %%
garment, digit = ({name: difference(results, name, reference, "balanced accuracy", dataset=dataset)
                   for name, reference in (("MixUp", "baseline"),
                                           ("CutMix + oversampling", "logit adjustment"),
                                           ("balanced data", "logit adjustment"))}
                  for dataset in both)
verdict = (f"Alone, a mix does not help the rare: MixUp changes balanced accuracy by "
           f"{garment['MixUp']:+%} points on garments and {digit['MixUp']:+%} on digits. Behind "
           f"oversampling, CutMix is {garment['CutMix + oversampling']:+%} and "
           f"{digit['CutMix + oversampling']:+%} points from the free correction; balanced data "
           f"would add {garment['balanced data']:+%} and {digit['balanced data']:+%}.")
record("augmentation/mixing", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(data))
