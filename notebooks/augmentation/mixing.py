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
# **Data.** Fashion-MNIST with an exponential long tail: 60 boots beside almost 6,000 t-shirts. The test set stays balanced.
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
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from torch.nn import functional as F
from torchvision.transforms import v2

from helpers import plots
from helpers.datasets import long_tailed
from helpers.experiments import (
    Check,
    better,
    claim,
    compare,
    difference,
    differences,
    fingerprint,
    mean,
    published,
    published_per_class,
    record,
    summary,
)
from helpers.metrics import recall_per_class, wilson
from helpers.models import ConvNet
from helpers.training import Recipe, logit_adjustment, oversample, prepare, reproducible, supervised

# %% tags=["parameters"]
SEEDS = [0, 1, 2, 3, 4]
STEPS = 250
SOURCE_STEPS = 2232
DATA = "auto"

# %% [markdown]
# ## Why garments
#
# Digits are nearly solved: a remedy has little left to mend. Garments overlap. A shirt can look like a coat, and no number of
# shirts changes that. So here you can tell two troubles apart: *too few images* and *too much overlap*.

# %%
data = long_tailed("FashionMNIST", ratio=100, seed=0, data=DATA)
len(data.train), len(data.val), len(data.test)

# %% [markdown]
# Look at two bars: the shirts, in the middle of the tail, and the boots at its end.

# %% mystnb={"image": {"alt": "Bar chart of training images per class; the bars shrink exponentially from the first class to the last."}}
plots.class_counts(data)

# %% [markdown]
# The profile is that of the digits; what changes is how alike the classes are.

# %% mystnb={"image": {"alt": "One training image of each of the ten classes in a row."}}
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
# This is **MixUp** (Zhang et al., ICLR 2018). A network that must answer "0.7 trouser" cannot memorise a trouser.
#
# torchvision has it. It pairs every image with its **neighbour in the batch**, so the batch must be shuffled. A hook takes a
# batch and its labels, and returns mixed images and a distribution over classes for each.

# %%
def mixup(inputs, labels, run, alpha=0.5):
    """MixUp by torchvision: one share for the batch, neighbours as partners."""
    return v2.MixUp(alpha=alpha, num_classes=len(run.class_counts))(inputs, labels)


# %% [markdown]
# How much does the shuffling matter? Take batches as a data set stored class by class would give them, and count the pairs
# whose two labels are the same.

# %%
stored = data.train.labels.sort().values
mixed_up = stored[torch.randperm(len(stored), generator=torch.Generator().manual_seed(0))]
same = {name: float((labels == labels.roll(1)).float().mean())
        for name, labels in {"stored by class": stored, "shuffled": mixed_up}.items()}
{name: f"{share:.1%} of the pairs are of one class" for name, share in same.items()}

# %% [markdown]
# Unshuffled, MixUp hardly mixes labels at all. The loop of this book shuffles.
#
# ### CutMix: paste a box
#
# **CutMix** (Yun et al., ICCV 2019) pastes a box of $x_j$ into $x_i$. The box should take $1 - \lambda$ of the area. Its centre is
# random, so it often sticks out of the image and is clipped. Then the label must follow the **area that is really pasted**, and
# not the $\lambda$ that was drawn. torchvision does that.

# %%
def cutmix(inputs, labels, run, alpha=0.75):
    """CutMix by torchvision: one box for the batch, neighbours as partners, labels by the clipped
    area.
    """
    return v2.CutMix(alpha=alpha, num_classes=len(run.class_counts))(inputs, labels)


# %% [markdown]
# Is the correction worth a line of code? Draw many boxes and compare the share drawn with the share pasted.

# %%
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
# Without the correction every label would be wrong by that much on average.
#
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
# **Remix** (Chou et al., 2020) is made for imbalance. It mixes the images as MixUp does. The share in the *label* is decided by
# a rule, from the class sizes $n_i$ and $n_j$:
#
# $$\lambda_y = \begin{cases} 0 & n_i / n_j \ge \kappa \text{ and } \lambda < \tau \\
# 1 & n_i / n_j \le 1/\kappa \text{ and } 1 - \lambda < \tau \\ \lambda & \text{otherwise} \end{cases}$$
#
# If the rare image has the larger share, it takes the whole label. Here $\kappa = 3$ and $\tau = 0.5$.

# %%
def remix_share(share, counts_i, counts_j, kappa=3.0, tau=0.5):
    """The share of the first label, by Remix's three branches.

    `share` is that of the first image.
    """
    ratio = counts_i / counts_j
    share_y = torch.full_like(ratio, share)
    share_y[(ratio >= kappa) & (share < tau)] = 0
    share_y[(ratio <= 1 / kappa) & (1 - share < tau)] = 1
    return share_y


def mix_labels(labels, others, share, classes):
    """Distributions over classes: `share` of the first label, the rest of the second.

    Shape (N, classes).
    """
    share = torch.as_tensor(share).expand(len(labels))[:, None]
    return share * F.one_hot(labels, classes) + (1 - share) * F.one_hot(others, classes)


def remix(inputs, labels, run, alpha=0.5):
    """Remix: images as in MixUp, label shares by the class sizes."""
    share = float(run.rng.beta(alpha, alpha))
    partner = torch.randperm(len(labels), generator=run.generator).to(labels.device)
    share_y = remix_share(share, run.class_counts[labels], run.class_counts[labels[partner]])
    targets = mix_labels(labels, labels[partner], share_y, len(run.class_counts))
    return share * inputs + (1 - share) * inputs[partner], targets


# %% [markdown]
# All three branches at work, for a t-shirt (6,000) and a boot (60), whichever comes first:

# %%
pairs = [("t-shirt", "boot", 6000, 60), ("boot", "t-shirt", 60, 6000),
         ("t-shirt", "t-shirt", 6000, 6000)]
pd.DataFrame({f"λ = {share}": [float(remix_share(share, torch.tensor([i]), torch.tensor([j])))
                               for *_, i, j in pairs]
              for share in (0.3, 0.7)}, index=[f"{one} with {other}" for one, other, *_ in pairs])

# %% [markdown]
# ### SamplePairing: mix the image, keep the label
#
# **SamplePairing** (Inoue, 2018) averages two images and keeps the first label. That is a strong disturbance, so it comes with
# a schedule: off in the first tenth, then on for eight rounds and off for two, off again in the last fifth to settle. The
# author counts epochs of a run of a thousand. Ours is short, so a round is one step, and the shares stay the same.

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
# **FMix** (Harris et al., 2020) replaces the box by a random blob. Take noise, keep its low frequencies (divide the spectrum by
# $f^{\delta}$, $\delta = 3$), and let the brightest $\lambda$ of the pixels be the mask.

# %%
def cloud_mask(share, height, width, generator, decay=3.0):
    """A binary mask of smooth noise, shape (height, width), of which `share` is one (to the
    nearest pixel).
    """
    frequency = torch.fft.fftfreq(height)[:, None].hypot(torch.fft.rfftfreq(width)[None])
    spectrum = torch.randn(*frequency.shape, 2, generator=generator)
    spectrum = torch.view_as_complex(spectrum) / frequency.clamp_min(
        1 / max(height, width)) ** decay
    noise = torch.fft.irfft2(spectrum, s=(height, width)).flatten()
    mask = torch.zeros(height * width)
    mask[noise.topk(round(share * height * width)).indices] = 1
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

# %%
baseline = Recipe(model=ConvNet)
mixes = {"MixUp": mixup, "CutMix": cutmix, "Remix": remix, "FMix": fmix}
shown = {name: partial(mix, alpha=20.0)
         for name, mix in mixes.items()} | {"SamplePairing": sample_pairing}
shown["MixUp then CutMix"] = lambda *batch: shown["CutMix"](*shown["MixUp"](*batch), batch[-1])


def look(mix, rows, seed=1):
    """Mixed images and their distributions over classes, for some rows of the training set."""
    with reproducible(seed):
        run = prepare(baseline, data.train, 10, steps=100, batch_size=len(rows), seed=seed)
        run.step = 50
        inputs, labels = run.batch(data.train, rows)
        images, targets = mix(inputs, labels, run) if mix else (inputs, labels)
    return images, targets if targets.ndim == 2 else F.one_hot(targets, 10).float()


# %% tags=["hide-input"]
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


# %% mystnb={"image": {"alt": "Seven rows of eight pictures with label bars: originals with bars of one colour; MixUp, two pale images on top of each other; CutMix, a box pasted; FMix, a blob pasted; bars of two colours, or three where MixUp and CutMix follow each other; SamplePairing's bars keep one colour although the picture holds two garments."}}
order = torch.tensor([0, 9, 1, 7, 3, 8, 2, 5])
rows = torch.tensor(first)[order]
names = ["MixUp", "CutMix", "MixUp then CutMix", "Remix", "SamplePairing", "FMix"]
draw_with_labels({"original": look(None, rows)} | {name: look(shown[name], rows) for name in names})

# %% [markdown]
# SamplePairing's bars have one colour, though the pictures show two garments. Remix's bars often have one colour too: there the
# rare class has taken the label. (An image that is paired with itself stays as it was.) MixUp's garments are ghosts; CutMix and FMix leave each pixel real.

# %% [markdown]
# ## Does mixing change the balance?
#
# Count again. Every distribution sums to one, so a class's mean over many batches is its **share of the loss**. Divide it by the
# class's share of the data. One means: as imbalanced as before.

# %%
recipes = {
    "baseline": baseline,
    "logit adjustment": replace(baseline, posthoc=logit_adjustment),
    "random oversampling": replace(baseline, resample=oversample),
    "MixUp": replace(baseline, mix=mixup),
    "CutMix": replace(baseline, mix=cutmix),
    "MixUp or CutMix": replace(baseline, mix=mixup_or_cutmix),
    "MixUp then CutMix": replace(baseline, mix=mixup_then_cutmix),
    "Remix": replace(baseline, mix=remix),
    "SamplePairing": replace(baseline, mix=sample_pairing),
    "FMix": replace(baseline, mix=fmix),
    "MixUp + oversampling": replace(baseline, mix=mixup, resample=oversample),
    "CutMix + oversampling": replace(baseline, mix=cutmix, resample=oversample),
    "MixUp + logit adjustment": replace(baseline, mix=mixup, posthoc=logit_adjustment),
    "CutMix + logit adjustment": replace(baseline, mix=cutmix, posthoc=logit_adjustment),
}


# %%
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
mass = {name: label_mass(recipes[name]) / share
        for name in ("MixUp", "CutMix", "FMix", "Remix", "random oversampling",
                     "CutMix + oversampling")}

# %% [markdown]
# The axis is logarithmic. Look at how far a curve is from the line at 1, above all on the right.

# %% mystnb={"image": {"alt": "Label mass of each class relative to plain training, on a logarithmic axis: MixUp, CutMix and FMix stay at one, Remix rises slightly above one for the rare classes, the oversampled recipes rise by more than a factor of ten at the last class."}}
ax = plt.subplots()[1]
for name, ratio in mass.items():
    ax.plot(ratio, "o--" if "+" in name else "o-", color=plots.colour(name), label=name,
            markersize=4)
ax.axhline(1, color="#333", linewidth=1)
ax.legend(fontsize=7, ncols=2)
ax.set(yscale="log", xlabel="class", ylabel="label mass / share of the data")
ax.set_xticks(range(10), data.class_names)
ax.tick_params(axis="x", labelsize=8)

# %% [markdown]
# MixUp, CutMix and FMix leave the balance as it was: a rare image lends its label to others as often as it borrows. Even Remix, which is
# made for this, moves little:

# %%
(f"label mass of the rarest class: Remix {mass['Remix'][9]:.2f} times plain, oversampling "
 f"{mass['random oversampling'][9]:.0f} times")

# %% tags=["hide-input"]
drift = max(float((mass[name] - 1).abs().max()) for name in ("MixUp", "CutMix", "FMix"))
largest = float(mass["Remix"].max())
claim("MixUp, CutMix and FMix leave every class's share of the loss within a tenth of what it "
      "was; Remix adds less than a third.",
      Check(drift < 0.1 and largest < 4 / 3, f"largest change {drift:.1%}; Remix at most "
                                             f"{largest:.2f} times plain",
            not data.is_stand_in))

# %% [markdown]
# So expect *regularisation* from a mix, and *balance* from somewhere else. With oversampling in front all counts are equal, no
# ratio reaches $\kappa$, and Remix **is** MixUp.

# %% [markdown]
# ## The comparison
#
# The same splits, network, optimiser, schedule, batch size and number of steps for all; one look at the test set, at the end.
# The budget is small, and it shapes the result: the trainings are short.

# %%
fair = compare(recipes, lambda seed: long_tailed("FashionMNIST", seed=seed, data=DATA), seeds=SEEDS,
               steps=STEPS,
               evaluate_every=STEPS)
summary(fair.table)

# %%
f"{STEPS} steps of 128 are {STEPS * 128 / len(data.train):.1f} passes over the training set"

# %% [markdown]
# Look for who leaves the grey dotted line, the baseline, and to which side.

# %% mystnb={"image": {"alt": "Mean balanced accuracy of fourteen recipes with intervals and the seeds as dots, sorted; the baseline is a dotted line."}}
plots.overview(fair.table)

# %% [markdown]
# The recipes that change the balance, by sampling or afterwards, are the ones to compare with. Now the tail alone.

# %% mystnb={"image": {"alt": "Mean recall of the three rarest classes for fourteen recipes with intervals; the baseline is a dotted line."}}
plots.overview(fair.table, "tail recall")

# %% tags=["hide-input"]
claim("In so few steps a mix that hides the picture costs accuracy: CutMix is more than five "
      "points below the baseline.",
      better(fair.table, "baseline", "CutMix", by=0.05))

# %% tags=["hide-input"]
claim("With oversampling in front CutMix recovers by more than ten points, and is still below "
      "oversampling alone.",
      better(fair.table, "CutMix + oversampling", "CutMix", by=0.1)
      & better(fair.table, "random oversampling", "CutMix + oversampling"))

# %% [markdown]
# Paired differences, seed by seed, are sharper than the intervals above. A hollow dot's interval holds zero.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy to the baseline with intervals; hollow dots where the interval holds zero."}}
plots.gaps(fair.table, "baseline")

# %%
plain = ["MixUp", "CutMix", "MixUp or CutMix", "MixUp then CutMix", "Remix", "SamplePairing",
         "FMix"]
differences(fair.table, "baseline").loc[plain]

# %% [markdown]
# The same mixes against oversampling:

# %%
differences(fair.table, "random oversampling").loc[plain]

# %% [markdown]
# And class by class. The axis carries the number of test images.

# %% mystnb={"image": {"alt": "Recall of each garment for four recipes with intervals; the number of test images stands below each class."}}
plots.per_class(fair.table, ["baseline", "CutMix", "random oversampling", "CutMix + oversampling"],
                fair.labels,
                data.class_names)

# %% [markdown]
# Compare the shirts with the boots, which are rarer. We come back to them.

# %% [markdown]
# ## Mixing × resampling
#
# A mix regularises, a sampler balances. Do they add up? Rows are mixes, columns are ways to balance; each cell is the mean
# balanced accuracy.

# %%
grid = pd.DataFrame({
    "plain": ["baseline", "MixUp", "CutMix"],
    "oversampling": ["random oversampling", "MixUp + oversampling", "CutMix + oversampling"],
    "logit adjustment": ["logit adjustment", "MixUp + logit adjustment",
                         "CutMix + logit adjustment"],
}, index=["no mixing", "MixUp", "CutMix"])
grid.map(lambda name: f"{mean(fair.table, name, 'balanced accuracy'):%}")

# %% [markdown]
# What the mix adds *within* a column, and what balancing adds within a row, both paired:

# %%
added = [(grid.loc[mix, way], grid.loc["no mixing", way]) for way in grid
         for mix in ("MixUp", "CutMix")]
added += [(grid.loc[mix, "oversampling"], grid.loc[mix, "plain"]) for mix in grid.index]
pd.DataFrame({f"{name} − {reference}": {
    metric: f"{difference(fair.table, name, reference, metric):+%}"
                                        for metric in ("balanced accuracy", "tail recall", "ECE")}
              for name, reference in added}).T

# %% [markdown]
# ## When this does not help
#
# **A short training.** A mix makes the task harder, and pays when the network would otherwise memorise. Here the network
# passes over the data only a few times; its loss tells whether there is anything to regularise:

# %%
pd.Series({name: np.mean([fair.history[name, seed][-1]["loss"] for seed in SEEDS])
           for name in ("baseline", *plain)},
          name="mean training loss").round(2).to_frame().T

# %% [markdown]
# The loss of a mix is not comparable with the baseline's: against a mixed label even a perfect network has a loss above zero.
#
# **A strong baseline.** The recipes below are all measured against the free correction of the baseline's logits:

# %%
differences(fair.table,
            "logit adjustment").loc[["CutMix", "Remix", "random oversampling",
                                     "CutMix + oversampling",
                                     "CutMix + logit adjustment"]]

# %% [markdown]
# **Calibration.** A network trained on shared labels is less sure of itself. That can mend over-confidence, or overshoot:

# %%
summary(fair.table, ["ECE", "accuracy", "seconds"]).loc[["baseline", *plain]]

# %% [markdown]
# **Cost.** A mix is a handful of operations on a batch; the seconds above are those of the whole training.

# %% [markdown]
# ## Published and reproduced
#
# Table T2 is printed in a textbook (Abhishek and Abdelaziz, 2023, figures 7.13–7.15), from one seed each. Under `source` we
# follow its set-up: four fifths of the long tail, SGD with a constant rate of .1 and momentum .9, no weight decay, batch 64,
# no validation set, and the best look at the **test** set. The source trains for 30 epochs. That does not fit on this page:

# %%
epoch = 0.8 * len(long_tailed("FashionMNIST", validation=0, seed=0, data=DATA).train) / 64
(f"{SOURCE_STEPS} steps of 64 are {SOURCE_STEPS / epoch:.1f} of the source's 30 epochs; seeds: "
 f"{len(SEEDS[:2])}")


# %%
def four_fifths(train, seed):
    """The source's training part: a random 80 % of the long tail."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return train[order[:int(0.8 * len(train))]]


def dropout_forgotten(run, inputs, labels):
    """Erratum 5: after the first look at the test set the model stays in evaluation mode, and
    dropout is off.
    """
    if run.step * run.batch_size >= len(run.train):
        run.model.eval()
    return supervised(run, inputs, labels)


# %%
source = Recipe(model=ConvNet, resample=four_fifths,
                optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9), schedule=None)
source_recipes = {"baseline": source, "CutMix": replace(source, mix=cutmix),
                  "MixUp": replace(source, mix=mixup),
                  "Remix": replace(source, mix=remix),
                  "baseline without dropout": replace(source, objective=dropout_forgotten)}
as_printed = compare(source_recipes,
                     lambda seed: long_tailed("FashionMNIST", validation=0, seed=seed, data=DATA),
                     seeds=SEEDS[:2], steps=SOURCE_STEPS, batch_size=64, protocol="source",
                     select="validation",
                     evaluate_every=max(SOURCE_STEPS // 6, 1))
results = pd.concat([fair.table, as_printed.table], ignore_index=True)
plots.published_and_reproduced(results, "T2", names={"CutMix + MixUp, as printed": "MixUp"})

# %% [markdown]
# All accuracies are over the whole test set. The printed "CutMix + MixUp" stands beside our MixUp, for a reason given
# below. How does the gap to the baseline develop as training goes on?

# %% mystnb={"image": {"alt": "Test accuracy of baseline, CutMix, MixUp and Remix at six looks during training under the source's protocol, mean of two seeds."}}
plots.history({name: [as_printed.history[name, seed] for seed in SEEDS[:2]]
               for name in ("baseline", "CutMix", "MixUp", "Remix")},
              "accuracy")

# %%
def gap_at_looks(name):
    """Accuracy minus the baseline's at each look at the test set, in points, mean over the
    source's seeds.
    """
    runs = [(as_printed.history[name, seed], as_printed.history["baseline", seed])
            for seed in SEEDS[:2]]
    return {f"after {mine['step'] / epoch:.1f} epochs": np.mean(
        [100 * (a[at]["accuracy"] - b[at]["accuracy"]) for a, b in runs])
            for at, mine in enumerate(runs[0][0])}


pd.DataFrame({name: gap_at_looks(name) for name in ("CutMix", "MixUp", "Remix")}).round(1).T

# %% [markdown]
# Read the rows from left to right, towards the source's 30 epochs. MixUp and Remix stay within a few points of the baseline, now
# below and now above it: two seeds cannot tell them apart.

# %% tags=["hide-input"]
lead = difference(as_printed.table, "CutMix", "baseline", "accuracy", protocol="source")
first, last = (list(gap_at_looks("CutMix").values())[at] for at in (0, -1))
claim("CutMix begins more than five points behind the baseline, and makes up more than five of "
      "them.",
      Check(first < -5 < 5 < last - first,
            f"CutMix − baseline, accuracy: {first:+.1f} points at the first look, {last:+.1f} at "
            f"the last, {lead.seeds}", not data.is_stand_in))

# %% [markdown]
# Two more numbers say why a printed lead is no proof. How much can accuracy *fall* from one look to the next, within one
# training? And how far has the baseline memorised?

# %%
runs = [as_printed.history["baseline", seed] for seed in SEEDS[:2]]
falls = [100 * (before["accuracy"] - after["accuracy"]) for looks in runs
         for before, after in pairwise(looks)]
losses = np.mean([[look["loss"] for look in looks] for looks in runs], axis=0)
(f"baseline: largest fall {max(falls, default=0):.1f} points; training loss between looks "
 f"{', '.join(f'{loss:.2f}' for loss in losses)}")

# %% tags=["hide-input"]
claim("The printed lead of CutMix, more than six points, does not show within our part of the "
      "budget: it is below three.",
      Check(lead.mean < 0.03, f"CutMix − baseline, best look: {100 * lead.mean:+.1f} points, "
                              f"{lead.seeds}", not data.is_stand_in))

# %% [markdown]
# The step size is constant and large, so single looks jump, and "the best look at the test set" picks the luckiest of them. The source
# also lost its dropout on the way (see below). The profile `full` runs all 30 epochs (`make full`).

# %% [markdown]
# ### The combination that never ran
#
# The printed row "CutMix + MixUp" calls the MixUp training again; the combined function is never used. So its difference to the
# MixUp row is the **noise between two seeds of one recipe**. How large is that noise? Take our MixUp, compare each pair of its
# seeds in the way the printed rows are compared: overall, and on class 4 (coats) among the last 500 test images.

# %%
def seed_noise(logits, seeds, label=4):
    """Absolute differences in points between all pairs of seeds: overall, and for one class of the
    last 500.
    """
    found = []
    for seed in seeds:
        hits = logits[seed].argmax(1) == fair.labels
        found.append((100 * float(hits.float().mean()),
                      100 * float(hits[-500:][fair.labels[-500:] == label].float().mean())))
    return np.array([np.abs(np.subtract(one, other))
                     for one, other in combinations(found, 2)]).reshape(-1, 2)


noise = seed_noise({seed: fair.logits["MixUp", seed] for seed in SEEDS}, SEEDS)
printed = published("T2").set_index(["technique", "metric", "class"]).value
as_combined, as_mixup = "CutMix + MixUp, as printed", "MixUp"
gaps = [printed[as_combined, "accuracy", ""] - printed[as_mixup, "accuracy", ""],
        printed[as_combined, "recall of the last 500",
                "4"] - printed[as_mixup, "recall of the last 500", "4"]]

# %% [markdown]
# Each dot is a pair of seeds; the line is the difference that was printed as the merit of a combination.

# %% mystnb={"image": {"alt": "Differences between pairs of seeds of one MixUp recipe, as dots, overall and on coats among 500 images, with the printed difference as a vertical line."}}
figure, axes = plt.subplots(1, 2, figsize=(7.5, 1.7), sharey=True)
for ax, dots, gap, name in zip(axes, noise.T, gaps,
                               ["accuracy, all test images", "class 4, last 500 images"],
                               strict=True):
    ax.plot(dots, np.linspace(-1, 1, len(dots)), "o", color=plots.colour("MixUp"),
            label="two seeds of MixUp")
    ax.axvline(gap, color="#333", label="printed difference")
    ax.set(xlabel=f"{name}: difference (points)", yticks=[], ylim=(-1.5, 1.5))
    ax.set_xlim(left=0)
axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
for ax in axes:
    ax.tick_params(labelsize=8)

# %%
beyond = (noise >= np.array(gaps)).sum(0) if len(noise) else np.zeros(2, int)
(f"pairs of seeds at least as far apart as printed: overall {beyond[0]} of {len(noise)}, class 4 "
 f"{beyond[1]} of {len(noise)}")

# %% [markdown]
# ### Five hundred images for ten thousand
#
# The printed per-class numbers come from a loop that stands *after* the batch loop, so it sees the last batch alone: the last
# 500 of 10,000 test images. Wrong and right for one of our trained baselines:

# %%
hits = fair.logits["baseline", SEEDS[0]].argmax(1) == fair.labels
table = []
for label, name in enumerate(data.class_names):
    few, many = hits[-500:][fair.labels[-500:] == label], hits[fair.labels == label]
    low, high = wilson(int(few.sum()), len(few))
    table.append((name, len(few),
                  f"{100 * few.float().mean():.1f} ({100 * low:.0f} to {100 * high:.0f})",
                  len(many), f"{100 * many.float().mean():.1f}"))
pd.DataFrame(table, columns=["class", "images", "last 500: recall (95 % interval)", "all images",
                             "recall"]).set_index("class")

# %% [markdown]
# On some fifty images a class, the intervals are wide. How far is the wrong number from the right one, over all our trainings?

# %%
def last_500_error(logits):
    """Recall on the last 500 test images minus recall on all, in points, shape (10,)."""
    predictions = logits.argmax(1)
    return 100 * (recall_per_class(predictions[-500:], fair.labels[-500:],
                                   10) - recall_per_class(predictions, fair.labels, 10))


errors = np.abs([last_500_error(logits) for logits in fair.logits.values()])
f"mean error {np.nanmean(errors):.1f} points, largest {np.nanmax(errors):.1f}"

# %% [markdown]
# ### Shirts are not rare, they are hard
#
# The source reads the low number of class 6 (shirts) as that of "the minority class". Shirts are the fourth from the end. If the count
# were the reason, boots would do worse still. In the printed table itself they do better, in every row:

# %%
published_per_class("T2", "recall of the last 500")[["6", "9"]].set_axis(["shirt", "boot"], axis=1)

# %% [markdown]
# And here, with the number of training images:

# %%
counts = data.class_counts
pd.DataFrame({"training images": counts[[6, 7, 8, 9]].tolist(), **{
    name: [f"{mean(fair.table, name, 'recall', label=label):%}" for label in (6, 7, 8, 9)]
    for name in ("baseline", "random oversampling", "logit adjustment")}},
             index=[data.class_names[k] for k in (6, 7, 8, 9)])

# %% tags=["hide-input"]
shirts, boots_found = (mean(fair.table, "random oversampling", "recall", label=label).mean
                       for label in (6, 9))
claim("Shown equally often, the rarest garment is found far more often than the shirts.",
      Check(boots_found > shirts + 0.1,
            f"random oversampling, recall: boots {boots_found:.1%}, shirts {shirts:.1%}",
            not data.is_stand_in))

# %% [markdown]
# Where do the shirts go? Read the row *shirt*, after oversampling. All classes are shown equally often there, so what this row
# loses, it does not lose to the count alone.

# %% mystnb={"image": {"alt": "Confusion matrix after oversampling in percent, a true class a row; the diagonal is the recall, and the row of the shirts shows which garments they are taken for."}}
together = torch.cat([fair.logits["random oversampling", seed].argmax(1) for seed in SEEDS])
plots.confusion(together, fair.labels.repeat(len(SEEDS)), data.class_names)

# %%
lost = together[(fair.labels.repeat(len(SEEDS)) == 6) & (together != 6)]
tops = torch.isin(lost, torch.tensor([0, 2, 3, 4])).float().mean()
f"of the shirts that are missed, {tops:.0%} are called t-shirt, pullover, dress or coat"

# %% [markdown]
# ### Dropout that is never switched on again
#
# The source calls `model.train()` once, and `model.eval()` after every epoch: dropout is off from the second epoch. Ours with
# and without that slip, under the source's protocol:

# %%
summary(as_printed.table, ["accuracy", "balanced accuracy"],
        protocol="source").loc[["baseline", "baseline without dropout"]]

# %% [markdown]
# ### Labels that cannot be averaged
#
# The printed MixUp averages class **numbers**: half a pullover (2) and half a coat (4) make a dress (3). It takes one-hot
# labels, or a loss with two terms. The two right ways are the same, the printed way is something else:

# %%
one, other = torch.tensor([2]), torch.tensor([4])
logits = torch.zeros(1, 10)
logits[0, [2, 4]] = 4.0  # a network that sees both garments
{"one-hot labels": F.cross_entropy(logits, mix_labels(one, other, 0.5, 10)),
 "two-term loss": 0.5 * F.cross_entropy(logits, one) + 0.5 * F.cross_entropy(logits, other),
 "averaged numbers": F.cross_entropy(logits, (one + other) // 2)}

# %% [markdown]
# The averaged number punishes the network for the right answer.
#
# **Remix** has the same fault in print, and lacks the branch $\lambda_y = 1$. Its notebook multiplies the *mean* loss by a vector
# of shares, so that every sample gets everyone's loss. Two samples show it: the first has a loss of 4 and counts fully, the
# second has none and does not count.

# %%
losses, shares = torch.tensor([4.0, 0.0]), torch.tensor([1.0, 0.0])
{"each sample its own share": float((shares * losses).mean()),
 "mean loss times shares": float((losses.mean() * shares).mean())}


# %%
def remix_share_as_printed(share, counts_i, counts_j, kappa=3.0, tau=0.5):
    """Erratum 15: the branch for a rare first image is missing."""
    return torch.where((counts_i / counts_j >= kappa) & torch.tensor(share < tau), 0.0, share)


boot, shirt = torch.tensor([60.0]), torch.tensor([6000.0])
{"three branches": float(remix_share(0.7, boot, shirt)),
 "as printed": round(float(remix_share_as_printed(0.7, boot, shirt)), 2)}

# %% [markdown]
# A boot that fills 70 % of the picture should take the whole label; as printed it does so only when it comes second.

# %% [markdown]
# ## Try it
#
# **1.** How much does Remix move the balance if $\kappa = 1$ and $\tau = 1$? Measure the label mass of the rarest class.

# %% tags=["solution", "hide-cell"]
def greedy_remix(inputs, labels, run, alpha=0.5):
    """Remix that always gives the whole label to the rarer class."""
    share = float(run.rng.beta(alpha, alpha))
    partner = torch.randperm(len(labels), generator=run.generator)
    share_y = remix_share(share, run.class_counts[labels], run.class_counts[labels[partner]],
                          kappa=1.0, tau=1.0)
    return inputs, mix_labels(labels, labels[partner], share_y, 10)


f"{float((label_mass(replace(baseline, mix=greedy_remix)) / share)[9]):.2f} times plain"

# %% [markdown]
# It cannot exceed 2: a pair has two places, and a class takes at most both.
#
# **2.** Draw $\lambda$ for every pair and not once a batch. Does the label mass change? Does its spread over batches?

# %% tags=["solution", "hide-cell"]
rng = np.random.default_rng(0)
per_batch, per_pair = rng.beta(0.5, 0.5, 1000), rng.beta(0.5, 0.5, (1000, 128)).mean(1)
pd.DataFrame({"one share a batch": per_batch,
              "one share a pair": per_pair}).agg(["mean", "std"]).round(3)

# %% [markdown]
# **3.** Mix only *within* a class. Which of the label's parts is left, and what is this called in an earlier chapter?

# %% tags=["solution", "hide-cell"]
boots = data.train[data.train.labels == 9].inputs[:8].float() / 255
with reproducible(0):
    blends, targets = v2.MixUp(alpha=20.0, num_classes=10)(boots, torch.full((len(boots),), 9))
(f"labels left: {targets.nonzero()[:, 1].unique().tolist()}: this is SMOTE, with a random partner "
 f"in place of a near one")

# %% [markdown]
# ## What to remember
#
# A mix regularises; it does not balance. Check what a label bar says before you train. Compare with two seeds of the same recipe
# before you believe half a point. The cell below writes this chapter's results, from which the first page of the book is made.

# %%
best = max(plain, key=lambda name: mean(fair.table, name, "balanced accuracy").mean)
mixed, balanced = (difference(fair.table, name, "baseline", "balanced accuracy")
                   for name in (best, "random oversampling"))
verdict = (f"In {STEPS} steps, {best}, the best of seven mixes, changes balanced accuracy by "
           f"{mixed:+%} points against the baseline, oversampling by {balanced:+%}; a mix leaves "
           f"each class's share of the loss nearly as it was.")
record("augmentation/mixing", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(data))
