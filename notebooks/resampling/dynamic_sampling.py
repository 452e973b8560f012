# %% [markdown]
# # Dynamic sampling: let the validation set choose

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** Should a sampler look at which classes the network still gets wrong, and is it worth a second model?
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
from dataclasses import replace
from functools import partial

import pandas as pd
import torch
from matplotlib import pyplot as plt
from sklearn.metrics import f1_score

from helpers import plots
from helpers.datasets import Split, long_tailed
from helpers.experiments import (
    better,
    claim,
    compare,
    difference,
    differences,
    fingerprint,
    indistinguishable,
    mean,
    parallel,
    published_per_class,
    record,
    summary,
    tidy,
)
from helpers.metrics import evaluate, precision_per_class, recall_per_class
from helpers.models import Net
from helpers.training import Recipe, fit, logit_adjustment, oversample, prepare, random_affine, sgd

# %% tags=["parameters"]
SEEDS = [0, 1, 2, 3, 4]
STEPS = 300
SOURCE_STEPS = 2320
DATA = "auto"

# %% [markdown]
# ## The idea
#
# The balanced samplers of the chapter before treat all classes alike. But a rare class can be easy, and a frequent one hard.
# **Dynamic sampling** (Pouyanfar et al., MIPR 2018) asks the network. After each round it measures the F1 of every class on the
# **validation set**, and the next sample size of class $c$ is
#
# $$N_c = N^* \frac{1 - F_c}{\sum_k (1 - F_k)}$$
#
# where $N^*$ is the mean class size. Only the shares matter to a batch; $N^*$ says how long a round is. The method has
# three more parts: real-time augmentation, a second model trained without sampling, and the fusion of both.

# %%
def next_shares(f1):
    """Class shares of the next round, proportional to 1 − F1; equal when every class is perfect."""
    room = 1 - torch.as_tensor(f1, dtype=torch.float64)
    return room / room.sum() if room.sum() > 0 else torch.full_like(room, 1 / len(room))


next_shares([0.1, 0.2, 0.3])

# %% [markdown]
# The classes differ by a factor of three in F1, and hardly in their shares: the rule is gentle while all classes are
# bad. It becomes sharp when they are good. Compare:

# %%
pd.DataFrame([next_shares(f1).tolist()
              for f1 in ([0.1, 0.2, 0.3], [0.7, 0.8, 0.9], [0.97, 0.98, 0.999])],
             index=["early", "later", "late"], columns=["class a", "class b", "class c"]).round(3)

# %% [markdown]
# To draw class $c$ with share $s_c$, each of its $n_c$ images needs the weight $s_c / n_c$. The division is the point that is easy
# to miss; the errata below show what happens without it.

# %%
def draw_by_share(run, shares):
    """One batch with the given class shares, with replacement."""
    weights = (shares / run.class_counts.cpu())[run.train.labels.cpu()]
    return torch.multinomial(weights, run.batch_size, replacement=True, generator=run.generator)


def weighted(run):
    """The weighted sampler: equal shares for ever."""
    classes = len(run.class_counts)
    while True:
        yield draw_by_share(run, torch.full((classes,), 1 / classes))


def validation_f1(run):
    """F1 of each class on the validation split, by the model as it was at the last validation."""
    logits, labels = run.validation
    return f1_score(labels, logits.argmax(1), labels=range(logits.shape[1]), average=None,
                    zero_division=0)


def dynamic(run, log=None):
    """Shares proportional to 1 − F1, renewed at every validation; equal before the first."""
    classes, seen = len(run.class_counts), None
    shares = torch.full((classes,), 1 / classes)
    while True:
        if run.validation is not seen:
            seen, shares = run.validation, next_shares(validation_f1(run))
            if log is not None:
                log.append((run.step, shares.tolist()))
        yield draw_by_share(run, shares)


# %% [markdown]
# The network learns, the validation set is a little better known, the shares move. They depend on the validation set, so
# the validation set now takes part in training. That has a price, and you will see it below.
#
# ## Real-time augmentation
#
# A nine that is drawn forty times is the same picture forty times. Turn, move and scale it a little each time it is drawn.
# `random_affine` gives every image of the batch its own amounts. Look for nines that are still nines.

# %% mystnb={"image": {"alt": "Three rows of ten: each row starts with a nine and shows nine slightly turned, moved and scaled copies that are still nines."}}
data = long_tailed("MNIST", ratio=100, seed=0, data=DATA)
baseline = Recipe(model=Net)
run = prepare(baseline, data.train, 10, STEPS, 30, seed=0)
nines = (data.train.labels == 9).nonzero().flatten()[:3].repeat_interleave(10)
images, labels = run.batch(data.train, nines)
turned = random_affine(images, run)
turned[::10] = images[::10]
plots.gallery(turned)

# %% [markdown]
# The first of each row is the original. Real-time means that the copies are made for one batch and forgotten, so the training
# set does not grow.
#
# ## The shares as they move
#
# Train once, and keep the shares of every round. Look for the class that gets the most, and whether it stays the same.

# %%
log = []
shown = fit(replace(baseline, sampler=partial(dynamic, log=log), augment=random_affine), data,
            steps=STEPS, seed=0)
moves = pd.DataFrame([shares for _, shares in log], index=[step for step, _ in log],
                     columns=data.class_names)

# %% mystnb={"image": {"alt": "Class shares against steps as lines, one for each digit, together with a dotted line at one tenth; they spread out around it and change from round to round."}}
figure, ax = plt.subplots()
for label, name in enumerate(data.class_names):
    ax.plot(moves.index, 100 * moves[name], "o-", markersize=3,
            color=plt.get_cmap("viridis")(label / 9), label=name)
ax.axhline(10, color="#333", linestyle=":")
ax.set(xlabel="steps", ylabel="share of the next batches (%)", ylim=(0, None))
ax.legend(title="digit", fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1, 0.5))

# %% tags=["hide-input"]
(f"largest share in the last round: digit {moves.iloc[-1].idxmax()} with "
 f"{moves.iloc[-1].max():.0%}; smallest: digit {moves.iloc[-1].idxmin()} with "
 f"{moves.iloc[-1].min():.0%}")

# %% [markdown]
# The dotted line is the weighted sampler. The validation set holds 100 images of a class, so an F1 near one moves by
# whole steps, and $1 - F_c$ relative to the others can move a lot from round to round.
#
# ## Two models and their fusion
#
# The sampler's model has seen few different images, often. So the method trains a **second model** by transfer: it starts from
# the first model's weights and goes on with plain sampling. At inference both speak. Here we take the mean of their
# probabilities; no weight is tuned.

# %%
def fuse(first, second):
    """Log of the mean of two models' probabilities, usable as logits."""
    return ((first.softmax(1) + second.softmax(1)) / 2).log()


def transfer(weights, classes):
    """A network that starts from another one's weights."""
    model = Net(classes)
    model.load_state_dict(weights)
    return model


def second_model(first, recipe, dataset, steps, seed):
    """Train on from the first model's weights under another recipe."""
    return fit(replace(recipe, model=partial(transfer, first.run.model.state_dict())), dataset,
               steps=steps, seed=seed)


# %% [markdown]
# Two models cost twice the steps, and an average of two models is better than one nearly always. So the fair rival is not one
# oversampled model but **two**, with the same augmentation, trained the same way from two seeds, and averaged.

# %%
def pair_of_models(seed, kind, steps, data):
    """Train two models of one kind and fuse them; values of the parts and of the fusion."""
    dataset = long_tailed("MNIST", seed=seed, data=data)
    plain = Recipe(model=Net, augment=random_affine)
    if kind == "dynamic sampling":
        first = fit(replace(plain, sampler=dynamic), dataset, steps=steps, seed=seed)
        second = second_model(first, plain, dataset, steps, seed)
    else:
        first, second = (fit(replace(plain, resample=oversample), dataset, steps=steps, seed=number)
                         for number in (seed, 1000 + seed))
    logits = [model.predict(dataset.test) for model in (first, second)]
    parts = {f"{kind} with augmentation": (logits[0], first.seconds),
             f"{kind}, two models": (fuse(*logits), first.seconds + second.seconds)}
    if kind == "dynamic sampling":
        parts["second model alone"] = (logits[1], first.seconds + second.seconds)
    return [tidy(dataset.name, name, seed,
                 {**evaluate(found, dataset.test.labels, dataset.class_counts), "seconds": spent})
            for name, (found, spent) in parts.items()]


# %% [markdown]
# ## The comparison
#
# All trainings get the same splits, network, optimiser, schedule, batch and steps. There is one more rival. Dynamic sampling
# *uses* the validation set, which holds more nines than the training set does. So give the same images to oversampling, as
# training data.

# %%
def with_validation(seed, data):
    """The same draw with the validation images moved into the training split."""
    dataset = long_tailed("MNIST", seed=seed, data=data)
    train = Split(torch.cat([dataset.train.inputs, dataset.val.inputs]),
                  torch.cat([dataset.train.labels, dataset.val.labels]))
    return replace(dataset, train=train)


def multiplied(run):
    """Dynamic sampling as it is often copied: the share of the class as the weight of each image,
    not divided by n.
    """
    classes, seen = len(run.class_counts), None
    weights = torch.full((classes,), 1 / classes)
    while True:
        if run.validation is not seen:
            seen, weights = run.validation, next_shares(validation_f1(run))
        yield draw_by_share(run, weights * run.class_counts.cpu())


# %%
recipes = {
    "baseline": baseline,
    "logit adjustment": replace(baseline, posthoc=logit_adjustment),
    "random oversampling": replace(baseline, resample=oversample),
    "weighted sampler": replace(baseline, sampler=weighted),
    "dynamic sampling": replace(baseline, sampler=dynamic),
    "dynamic sampling, as copied": replace(baseline, sampler=multiplied),
}
draw = partial(long_tailed, "MNIST", data=DATA)
fair = compare(recipes, lambda seed: draw(seed=seed), seeds=SEEDS, steps=STEPS)
more = compare({"oversampling, validation images added": recipes["random oversampling"]},
               lambda seed: with_validation(seed, DATA), seeds=SEEDS, steps=STEPS)
jobs = [(seed, kind, STEPS, DATA) for seed in SEEDS
        for kind in ("dynamic sampling", "random oversampling")]
pairs = [table for tables in parallel(pair_of_models, jobs) for table in tables]
table = pd.concat([fair.table, more.table, *pairs], ignore_index=True)
summary(table)

# %% [markdown]
# Look at three things: what the sampler alone does, what augmentation adds, and what the second model adds.

# %% mystnb={"image": {"alt": "Mean balanced accuracy with intervals for each sampler, alone, with augmentation and as two fused models; the baseline is marked by a dotted line."}}
plots.overview(table, "balanced accuracy")

# %% tags=["hide-input"]
claim("Dynamic sampling lifts the recall of the three rarest digits over the baseline.",
      better(table, "dynamic sampling", "baseline", "tail recall"))

# %% [markdown]
# But the baseline is a low bar. The paired differences to plain oversampling say more; a hollow dot's interval holds zero.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy to random oversampling with intervals; hollow dots mark intervals that hold zero."}}
plots.gaps(table, "random oversampling")

# %% [markdown]
# And class by class, with the test counts on the axis:

# %% mystnb={"image": {"alt": "Recall of each digit for the baseline, oversampling and dynamic sampling, with intervals; they agree on the first digits and part on the last."}}
plots.per_class(table, ["baseline", "random oversampling", "dynamic sampling",
                        "dynamic sampling, two models"], fair.labels,
                data.class_names)

# %% [markdown]
# ## When this does not help
#
# **Sampler against sampler.** Take everything else away, and set dynamic sampling beside the samplers that look at nothing:

# %%
differences(table, "dynamic sampling").loc[["weighted sampler", "random oversampling",
                                            "logit adjustment"]]

# %% tags=["hide-input"]
claim("In balanced accuracy dynamic sampling cannot be told from samplers that look at nothing.",
      indistinguishable(table, "dynamic sampling", "weighted sampler")
      & indistinguishable(table, "dynamic sampling", "random oversampling"))

# %% [markdown]
# **Augmentation against augmentation, two models against two models.** Each row below is the dynamic version minus the
# oversampled version of the same thing:

# %%
versions = ["", " with augmentation", ", two models"]


def gap(kind, metric):
    """Dynamic minus oversampled, of one version."""
    return difference(table, "dynamic sampling" + kind, "random oversampling" + kind, metric)


pd.DataFrame({metric: [f"{gap(kind, metric):+%}" for kind in versions]
              for metric in ("balanced accuracy", "tail recall", "ECE")},
             index=["sampler alone", "with augmentation", "two models"])

# %% tags=["hide-input"]
claim("Two oversampled models find more of the rarest digits than dynamic sampling's two.",
      better(table, "random oversampling, two models", "dynamic sampling, two models",
             "tail recall"))

# %% [markdown]
# The second model is why. It trains on plain batches, so half of the vote believes in the long tail again.

# %% [markdown]
# **The validation images as training images.** What would the data that steers the sampler have done as data?

# %%
differences(table, "dynamic sampling").loc[["oversampling, validation images added"]]

# %% [markdown]
# **Cost.** Seconds of training; the two models are counted together:

# %%
summary(table, ["seconds", "balanced accuracy", "ECE"]).sort_values(
    "balanced accuracy", ascending=False)

# %% [markdown]
# ## Published and reproduced
#
# A textbook prints dynamic sampling in its table 7.2 (Abhishek and Abdelaziz, 2023). Three things went wrong there.
#
# **1. Precision sold as recall.** The confusion matrix was called with its arguments swapped, and its rows were read as true
# classes. The row of *that* method is precision, while the other rows are recall. On digits 6 to 9 this decides who wins:

# %%
rows = published_per_class("T1").loc[
    ["weighted sampler", "random oversampling", "dynamic sampling, as printed",
     "dynamic sampling, true recall"], list("6789")]
rows.assign(mean=rows.mean(axis=1).round(1)).sort_values("mean")

# %% [markdown]
# As printed, it is the best of the three. Read correctly, it is the worst. The same swap on our own results, over all seeds:

# %%
samplers = ["weighted sampler", "random oversampling", "dynamic sampling, as copied"]
pd.DataFrame({metric: {name: 100 * sum(mean(table, name, metric, label=label).mean
                                       for label in (6, 7, 8, 9)) / 4
                       for name in samplers} for metric in ("recall", "precision")}).round(1)

# %% [markdown]
# A class that is seldom predicted can be precise and still be missed. Small numbers show why the axis matters: of four nines
# two are found, and nothing else is called a nine.

# %%
true, said = torch.tensor([4, 4, 4, 9, 9, 9, 9]), torch.tensor([4, 4, 4, 9, 9, 4, 4])
{"recall of the nines": float(recall_per_class(said, true, 10)[9]),
 "what the swapped call gives": float(precision_per_class(said, true, 10)[9])}

# %% [markdown]
# **2. Weights that are not divided.** Its code gives every image the share of its class as a weight. A class then gets
# $n_c s_c$, not $s_c$: the head comes back. For three rounds of the training above, wanted and got, for a zero and a nine:

# %%
def shares_got(shares):
    """Class shares when the share is used as the weight of each image."""
    got = torch.tensor(list(shares)) * data.class_counts
    return got / got.sum()


kept = moves.iloc[[0, len(moves) // 2, -1]]
pd.DataFrame({"zeros wanted": kept["0"],
              "zeros got": [float(shares_got(row)[0]) for row in kept.to_numpy()],
              "nines wanted": kept["9"],
              "nines got": [float(shares_got(row)[9]) for row in kept.to_numpy()]}).round(3)

# %%
differences(table, "dynamic sampling").loc[["dynamic sampling, as copied"]]

# %% tags=["hide-input"]
claim("Without the division the tail loses more than five points of recall.",
      better(table, "dynamic sampling", "dynamic sampling, as copied", "tail recall", by=0.05))

# %% [markdown]
# **3. The judge is the test set.** Its F1 comes from the test images, and the best look at them is reported. It has no
# augmentation, no second model and no fusion, and its learning rate is ten times that of its rivals. With all that, for part
# of its steps:

# %%
source = Recipe(model=Net, optimizer=partial(sgd, lr=0.1, momentum=0.5, weight_decay=0),
                schedule=None, sampler=multiplied)
as_printed = compare({"dynamic sampling, as copied": source},
                     lambda seed: draw(seed=seed, validation=0), seeds=SEEDS[:2],
                     steps=SOURCE_STEPS, batch_size=64, protocol="source", select="validation",
                     evaluate_every=max(SOURCE_STEPS // 20, 1))
results = pd.concat([table, as_printed.table], ignore_index=True)
plots.published_and_reproduced(results, "T1", names={
    "dynamic sampling, true recall": "dynamic sampling, as copied",
    "dynamic sampling, as printed": "dynamic sampling, as copied"})

# %%
f"steps of the source's 4,640 that we run: {SOURCE_STEPS / 4640:.0%}, {len(SEEDS[:2])} seeds"

# %% [markdown]
# The fair column of the other rows is the protocol of this page; their source rows stand in the chapter before. All errata are on
# the errata page.

# %% [markdown]
# ## Try it
#
# **1.** The shares jump. Smooth them: take half of the old shares and half of the new ones. How much calmer are they?

# %% tags=["solution", "hide-cell"]
smoothed = moves.ewm(alpha=0.5, adjust=False).mean()
{name: round(float(frame.diff().abs().mean().mean()), 4)
 for name, frame in {"as they are": moves, "smoothed": smoothed}.items()}

# %% [markdown]
# **2.** What if F1 is measured on the *training* set instead? Predict on 1,000 training images and compute the next shares.

# %% tags=["solution", "hide-cell"]
sample = data.train[torch.randperm(len(data.train),
                                   generator=torch.Generator().manual_seed(0))[:1000]]
on_train = f1_score(sample.labels, shown.predict(sample).argmax(1), labels=range(10), average=None,
                    zero_division=0)
next_shares(on_train).numpy().round(2)

# %% [markdown]
# **3.** Show that `draw_by_share` keeps its promise: draw 200 batches with shares 1 to 10 over 55, and count.

# %% tags=["solution", "hide-cell"]
wanted = torch.arange(1, 11) / 55
counted = torch.stack([torch.bincount(data.train.labels[draw_by_share(run, wanted)], minlength=10)
                       for _ in range(200)]).float()
pd.DataFrame({"wanted": wanted, "counted": counted.mean(0) / run.batch_size}).round(3).T

# %% [markdown]
# ## What to remember
#
# Ask of every adaptive method: what does it look at, what would that data do as data, and what does a plain rival do with the
# same cost? The cell below writes this chapter's results, from which the first page of the book is made.

# %%
alone = difference(table, "dynamic sampling", "random oversampling", "tail recall")
two = difference(table, "dynamic sampling, two models", "random oversampling, two models",
                 "tail recall")
added = difference(table, "oversampling, validation images added", "dynamic sampling",
                   "tail recall")
verdict = (f"Against plain oversampling, dynamic sampling changes the tail recall by {alone:+%} "
           f"points, and two fused models by {two:+%} against two oversampled ones; training on "
           f"the validation images instead gives {added:+%}.")
record("resampling/dynamic_sampling", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(data))
