# %% [markdown]
# # Before any remedy: is the network held back?

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** How much of what a remedy gains is only what the plain network had lost for want of a better recipe?
#
# **Data.** The two arenas of this book: MNIST and Fashion-MNIST, each with an exponential long tail of ratio 100.
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
from functools import partial

import pandas as pd
from matplotlib import pyplot as plt
from torch import nn

from helpers import plots
from helpers.claims import Check, better, claim, equivalent
from helpers.datasets import long_tailed
from helpers.experiments import BASELINES, TUNING_SEED, compare, in_arena
from helpers.models import CompactNet, ConvNet, Net
from helpers.records import fingerprint, record
from helpers.results import difference, mean, published
from helpers.runs import parallel
from helpers.training import Diverged, Recipe, fit

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104]
STEPS = 400
RATES = [0.01, 0.04, 0.16]
DATA = "auto"

# %% [markdown]
# ## A baseline is a choice
#
# A remedy is judged by what it adds to a baseline, so the baseline is half of every result. `Net` is the small network that the
# literature trains on long-tailed digits ([Abhishek and Abdelaziz, 2023](../../book/references.md#abhishek2023), among others).
# Half of its hidden units and half of its channels are dropped at random in each step. Dropout guards a network that trains for
# long against learning its samples by heart. Does it also help one that sees a nine a few hundred times, if that?
#
# Before you try any remedy, try some networks. Here are six. The first change is to take the dropout out:

# %%
def without_dropout(model):
    """Take a model's dropout layers out."""
    kept = [layer for layer in model.features if not isinstance(layer, nn.Dropout | nn.Dropout2d)]
    model.features = nn.Sequential(*kept)
    return model


def plain_net(classes):
    """`Net` without its dropout."""
    return without_dropout(Net(classes))


# %% [markdown]
# The second is batch norm after each convolution, in its place:

# %%
def batch_norm_net(classes):
    """`Net` without its dropout, with batch norm after each convolution."""
    model, layers = plain_net(classes), []
    for layer in model.features:
        layers.append(layer)
        if isinstance(layer, nn.Conv2d):
            layers.append(nn.BatchNorm2d(layer.out_channels))
    model.features = nn.Sequential(*layers)
    return model


# %% [markdown]
# `ConvNet` is wider and has less dropout. `CompactNet` is ours: strides in place of pooling, batch norm, no dropout. Their steps do
# not cost the same, so each gets a number of its own; what it took here, the last column of the next table says.

# %%
def plain_convnet(classes):
    """`ConvNet` without its dropout."""
    return without_dropout(ConvNet(classes))


NETWORKS = {  # the network, and its steps as a share of STEPS
    "Net": (Net, 0.7),
    "Net without dropout": (plain_net, 0.75),
    "Net with batch norm": (batch_norm_net, 0.6),
    "ConvNet": (ConvNet, 0.25),
    "ConvNet without dropout": (plain_convnet, 0.25),
    "CompactNet": (CompactNet, 1),
}
ARENAS = {"digits": "MNIST", "garments": "FashionMNIST"}


def steps_of(network):
    """How many steps a network gets where CompactNet gets STEPS; the dearer its step, the fewer."""
    return max(round(NETWORKS[network][1] * STEPS), 1)


def draw(arena, data, seed):
    """One draw of an arena's data."""
    return long_tailed(ARENAS[arena], seed=seed, data=data)


# %% [markdown]
# ## Choose for the plain baseline
#
# The choice is made for **cross-entropy alone**, on the validation split of the *tuning draw*, a draw that no result of this book
# is measured on. Each network is tried with every learning rate of one small grid, and with one beyond it.

# %%
def tried(network, arena, rate, data):
    """Validation balanced accuracy of the plain recipe on the tuning draw, and its seconds."""
    plain = Recipe(model=NETWORKS[network][0], lr=rate)
    try:
        trained = fit(plain, draw(arena, data, TUNING_SEED), steps=steps_of(network),
                      seed=TUNING_SEED)
    except Diverged:
        return float("nan"), float("nan")
    return trained.history[-1]["balanced accuracy"], trained.seconds


jobs = [(network, arena, rate, DATA)
        for arena in ARENAS for rate in (*RATES, 4 * RATES[-1]) for network in NETWORKS]
tries = pd.DataFrame(parallel(tried, jobs), columns=["score", "seconds"],
                     index=pd.MultiIndex.from_tuples([job[:3] for job in jobs],
                                                     names=["network", "arena", "rate"]))

# %% [markdown]
# What matters in a row is the best entry of each arena. A dash is a training whose loss ran away; 10 is chance.

# %% tags=["hide-input"]
shown = (100 * tries.score).unstack(["arena", "rate"]).loc[list(NETWORKS)].round(1)
shown = shown.astype(object).where(shown.notna(), "–")
shown["seconds", ""] = tries.seconds.groupby("network").median().round(1)
shown.rename_axis(index=None)

# %%
best = tries.score.groupby(["arena", "network"]).max().unstack("arena").loc[list(NETWORKS)]
chosen = best.mean(axis=1).idxmax()
f"best over both arenas: {chosen}"

# %% [markdown]
# As far as one draw tells, the network of the literature is far behind its own copy without dropout. In so few steps it learns too
# little, not too much. `ConvNet` tells the other half: without its light dropout it gains in one arena and loses in the other, and
# stays behind, for its steps are dear and it gets few. Batch norm adds nothing at the best rate, but it bears the largest one.
#
# The last rate of each arena is one too many: most networks run away there. It stood in the grid of an earlier edition of this
# book. It was the choice of few techniques then, by a training that happened to stay whole, and five more trainings at that rate did
# not always. So the techniques of both arenas choose among the other three, each four times the one before. (A training can be lost at
# one of these, too.)

# %% tags=["remove-input"]
ahead = best.loc["Net without dropout"] - best.loc["Net"]
claim("CompactNet is the best of the six over both arenas, and Net gains more than ten points in "
      "each by losing its dropout.",
      Check(bool(chosen == "CompactNet" and ahead.min() > 0.1),
            f"best: {chosen}; Net without dropout − Net on validation: "
            + ", ".join(f"{arena} {100 * points:+.1f} points" for arena, points in ahead.items())
            + "; one draw",
            not any(draw(arena, DATA, TUNING_SEED).is_stand_in for arena in ARENAS)))

# %% [markdown]
# `CompactNet`, its steps and the three rates are the plain recipe of both arenas from here on.
#
# ## Two remedies on three networks
#
# Now the experiment that this page is about. Take the two strongest simple remedies. *Random oversampling* repeats the images of
# the rare classes until all classes are equally large. *Logit adjustment*
# ([Menon et al., 2021](../../book/references.md#menon2021)) trains nothing: it subtracts $\log \pi_c$, the log of the class's
# share in training, from each logit of the trained baseline. Give both to `Net`, to `Net` without dropout and to `CompactNet`.
# Steps, splits and seeds are the same within a network, and each entry has its own rate from the grid.

# %%
COMPARED = ["Net", "Net without dropout", "CompactNet"]


def named(remedy, network):
    """How a remedy on a network is called in the results; the arena's own keep their names."""
    return remedy if network == "CompactNet" else f"{remedy}, {network}"


def on_network(network, arena, seeds, rates, data):
    """The strong baselines on a network that is not the arena's."""
    recipes = {named(remedy, network): Recipe(model=NETWORKS[network][0], **hooks)
               for remedy, hooks in BASELINES.items()}
    return compare(recipes, partial(draw, arena, data), seeds=seeds, steps=steps_of(network),
                   rates=rates)


# %%
arenas = {arena: in_arena(arena, {}, seeds=SEEDS, steps=STEPS, rates=RATES, data=DATA)
          for arena in ARENAS}
others = [on_network(network, arena, SEEDS, RATES, DATA)
          for network in COMPARED[:2] for arena in ARENAS]
results = pd.concat([run.table for run in [*arenas.values(), *others]], ignore_index=True)

# %% [markdown]
# Look at the distance from the grey dots to the blue ones, from the top row to the bottom one.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Balanced accuracy of baseline, logit adjustment and oversampling on three networks, a panel an arena, a row a network, with intervals, and a line for balanced data. The mean gap between them is widest on the network with dropout; on the garments two intervals of the network without it span most of the panel."}}
names = {arena: run.table.dataset.iloc[0] for arena, run in arenas.items()}
figure, axes = plt.subplots(1, 2, figsize=(7.5, 2.9), sharey=True)
for ax, dataset in zip(axes, names.values(), strict=True):
    for row, network in enumerate(reversed(COMPARED)):
        for shift, remedy in zip((0.2, 0, -0.2), BASELINES, strict=True):
            found = mean(results, named(remedy, network), "balanced accuracy", dataset=dataset)
            ax.plot([100 * found.low, 100 * found.high], [row + shift] * 2,
                    color=plots.colour(remedy), linewidth=2.2)
            ax.plot(100 * found.mean, row + shift, "o", color=plots.colour(remedy),
                    label=remedy if row == 0 else None)
    ceiling = mean(results, "balanced data", "balanced accuracy", dataset=dataset)
    ax.axvline(100 * ceiling.mean, color=plots.colour("balanced data"), linestyle="--",
               linewidth=1.2, label="CompactNet on balanced data")
    ax.set(title=dataset, yticks=range(3), yticklabels=[*reversed(COMPARED)])
    ax.set_xlim(right=min(100, ax.get_xlim()[1]))
figure.supxlabel("balanced accuracy (%): mean and 95 % interval", fontsize=10)
figure.legend(*axes[0].get_legend_handles_labels(), ncols=4, loc="outside upper center", fontsize=8)

# %% [markdown]
# The same as differences, each seed paired with itself. Read a column from the top to the bottom. (A very wide interval tells of a
# training that ended at chance.)

# %% tags=["hide-input"]
def gain(network, over, dataset, remedy="random oversampling", metric="balanced accuracy"):
    """Balanced accuracy, or another metric, of a remedy minus another's, on one network."""
    return difference(results, named(remedy, network), named(over, network), metric,
                      dataset=dataset)


pd.DataFrame({(dataset, f"over {over}"): {network: f"{gain(network, over, dataset):+%}"
                                          for network in COMPARED}
              for dataset in names.values() for over in ("baseline", "logit adjustment")}
             ).rename_axis(columns=["random oversampling gains", None])

# %% [markdown]
# The same remedy, the same data, and not the same conclusion. Which one you would draw depends on a network that nobody looked at.

# %% tags=["remove-input"]
claim("On the network with dropout, oversampling gains more than five points, on digits and on "
      "garments.",
      better(results, named("random oversampling", "Net"), named("baseline", "Net"), by=0.05,
             dataset=names["digits"])
      & better(results, named("random oversampling", "Net"), named("baseline", "Net"), by=0.05,
               dataset=names["garments"]))

# %% tags=["remove-input"]
claim("On the network that nothing holds back, it moves neither by more than four points.",
      equivalent(results, "random oversampling", "baseline", within=0.04, dataset=names["digits"])
      & equivalent(results, "random oversampling", "baseline", within=0.04,
                   dataset=names["garments"]))

# %% tags=["remove-input"]
claim("There, the correction that costs nothing is ahead of oversampling on the digits.",
      better(results, "logit adjustment", "random oversampling", dataset=names["digits"]))

# %% [markdown]
# ## When this does not help
#
# **Dropout is not the culprit in general.** It holds a network back that trains for a short time. Train longer, and it may pay;
# exercise 1 tries it. The lesson is about the order of the work: the plain recipe first, then the remedy.
#
# **One draw chose.** The table of candidates is one draw and one seed. It is good enough to tell 75 from 95; it is not good
# enough to tell two networks that are a point apart, and nothing on the later pages rests on that point.
#
# **A good baseline can still be wrong for your data.** The arenas' recipe was chosen for these images. On your own, choose again:
# a handful of networks, three learning rates, cross-entropy alone, and a validation set that is used for nothing else.
#
# ## Published and reproduced
#
# What a textbook prints on the digits is a comparison on `Net` with its dropout
# ([Abhishek and Abdelaziz, 2023](../../book/references.md#abhishek2023), table 7.2). It trains longer than we do here, yet at a
# low rate and with [unequal steps](../../book/errata.md#e7). The gain of oversampling over the baseline, in points of accuracy
# on the same test set:

# %% tags=["hide-input"]
printed = published("T1").query("metric == 'accuracy'").set_index("technique").value
pd.Series({"printed, Net (1 seed)": f"{printed['random oversampling'] - printed['baseline']:+.1f}",
           **{f"ours, {network}":
              f"{gain(network, 'baseline', names['digits'], metric='accuracy'):+%}"
              for network in COMPARED}}, name="oversampling minus baseline").to_frame()

# %% [markdown]
# The [next part](../resampling/long_tailed_digits.ipynb) repeats that table as its source made it.
#
# ## Try it
#
# **1.** Give `Net` four times the steps. How far does its plain baseline come on validation, with dropout and without?

# %% tags=["solution", "hide-cell"]
tuning_draw = draw("digits", DATA, TUNING_SEED)
{name: round(fit(Recipe(model=NETWORKS[name][0], lr=0.04), tuning_draw, seed=TUNING_SEED,
                 steps=4 * steps_of(name)).history[-1]["balanced accuracy"], 3)
 for name in ("Net", "Net without dropout")}

# %% [markdown]
# **2.** Which part of the gap between `Net` and `CompactNet` does each change close? Read it off the table of candidates.

# %% tags=["solution", "hide-cell"]
(100 * best.loc[["Net", "Net without dropout", "Net with batch norm", "CompactNet"]].diff()
 ).round(1).iloc[1:].rename_axis(index="points gained over the row before")

# %% [markdown]
# ## What to remember
#
# A baseline that is held back makes every remedy look good. Make the plain recipe good first, on validation and for nothing but
# itself; then ask what a remedy adds. The cell below writes this chapter's results.

# %%
held, free = (gain(network, "baseline", names["digits"]) for network in ("Net", "CompactNet"))
verdict = (f"Oversampling lifts the digits by {held:%} points on a network that its dropout holds "
           f"back, and by {free:%} on one that nothing does.")
record("foundations/before_any_remedy", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(draw("digits", DATA, 0)))
