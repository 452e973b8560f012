# %% [markdown]
# # Your own data: from arrays to an answer

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** You have data with a rare class. How do you compare the remedies of this book on them, fairly, in thirty lines?
#
# **Data.** Three sets that come with the packages you have installed: a table of measurements of cells, patches cut from two
# photographs, and the help texts of two libraries. In each one class is rare.
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
import inspect
from functools import partial

import numpy as np
import pandas as pd
import scipy.optimize
import scipy.signal
import scipy.sparse.csgraph
import scipy.stats
from sklearn.datasets import load_breast_cancer, load_sample_image
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import nn

from helpers import plots
from helpers.chapters import load
from helpers.claims import better, between, claim
from helpers.datasets import Dataset
from helpers.experiments import BASELINES, compare
from helpers.models import MLP, CompactNet
from helpers.records import fingerprint, record
from helpers.results import difference, differences, summary
from helpers.training import Recipe

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104]
STEPS = 200
RATES = [0.01, 0.04, 0.16]
DATA = "auto"

# %% [markdown]
# ## What you bring
#
# Five decisions are yours, and no library can take them. Write them down before you look at a result:
#
# - **What is one sample, and which belong together?** Several pictures of one patient, several rows of one customer, copies of one
#   message: give them one group, so that they stay on one side of every split ([why](../text/copies.ipynb)).
# - **What are you paid for?** For a ranking, take PR-AUC. If every class counts the same, take balanced accuracy. For a
#   budget of alarms, take the recall at a precision ([which metric](../foundations/metrics_and_thresholds.ipynb)).
# - **How many rare samples are in the test split?** With sixteen, one more hit is worth six points.
# - **Where will you tune?** `compare` chooses a rate on one more split, cut from the same data; so its rows stand in the test parts of
#   other splits. That is alike for all techniques. For numbers to publish, keep a test set apart, or tune inside each split.
# - **What is the plainest model that could work?** Make it good first ([before any
#   remedy](../foundations/before_any_remedy.ipynb)).
#
# ## A table
#
# The table holds thirty measurements of 569 tumours. To make the malignant ones rare, keep one in ten of them. Then the whole way,
# from arrays to differences with intervals, is the next cell.
#
# Three things in it matter. `from_arrays` splits anew for every seed, and each class keeps its share in each part.
# The model begins with a batch norm, since columns come in different units. And `overlap` tells the intervals that these splits
# share samples: without it they would be far too narrow
# ([Nadeau and Bengio, 2003](../../book/references.md#nadeau2003)).

# %%
X, y = load_breast_cancer(return_X_y=True)
kept = np.r_[np.flatnonzero(y == 1), np.flatnonzero(y == 0)[::10]]
X, y = X[kept], np.where(y[kept] == 0, "malignant", "benign")


def cells(seed):
    """A split of the table for a seed: 60 % to train, 20 % to validate, 20 % to test."""
    return Dataset.from_arrays(X, y, name="cells", seed=seed)


def network(classes):
    """Thirty columns, brought to one scale, into a small network."""
    return nn.Sequential(nn.BatchNorm1d(30, affine=False), MLP(classes, inputs=30, dropout=0.0))


plain = Recipe(model=network)
recipes = {name: Recipe(model=network, **hooks) for name, hooks in BASELINES.items()}
table = compare(recipes, cells, seeds=SEEDS, steps=STEPS, batch_size=64, rates=RATES, overlap=1 / 3)
summary(table.table, ["balanced accuracy", "worst-class recall", "PR-AUC", "ECE"])

# %% [markdown]
# Each row is a [technique](../../book/glossary.md), each number a mean over the seeds with half of its 95 % interval. Do not compare
# two rows by eye: the seeds are paired, so look at the differences.

# %%
differences(table.table, "baseline", ["balanced accuracy", "worst-class recall", "PR-AUC"])

# %% [markdown]
# The intervals are wide. That is what so few malignant samples can tell you, and no technique changes it. Count them:

# %%
data = cells(SEEDS[0])
pd.DataFrame({part: np.bincount(split.labels, minlength=2) for part, split in
              {"train": data.train, "validation": data.val, "test": data.test}.items()},
             index=data.class_names)

# %% [markdown]
# ## A folder of images
#
# Images are an array of bytes, shape (N, channels, height, width). From a folder with one sub-folder a class, that is:
#
# ```python
# from pathlib import Path
# from PIL import Image
#
# files = sorted(Path("my_images").glob("*/*.png"))
# X = np.stack([np.asarray(Image.open(f).convert("L").resize((28, 28)))[None] for f in files])
# y = [f.parent.name for f in files]
# ```
#
# Here the pictures are patches of two photographs that come with scikit-learn, a temple and a flower. Of the flower only one patch
# in nine is kept. Patches that lie near each other look alike. So patches of one block of the photograph are one **group**, and a
# block is on one side of every split.

# %%
def patches(photograph, every=1, size=28, block=4):
    """Grey patches of a photograph, shape (N, 1, size, size), and the block that each lies in."""
    grey = load_sample_image(photograph).mean(2).astype(np.uint8)
    rows, columns = grey.shape[0] // size, grey.shape[1] // size
    cut = grey[:rows * size, :columns * size].reshape(rows, size, columns, size).swapaxes(1, 2)
    number = np.arange(rows)[:, None] // block * 100 + np.arange(columns) // block
    return cut.reshape(-1, 1, size, size)[::every], number.ravel()[::every]


many, their_blocks = patches("china.jpg")
few, its_blocks = patches("flower.jpg", every=9, block=1)
pictures = np.concatenate([many, few])
kinds = np.repeat(["temple", "flower"], [len(many), len(few)])
blocks = np.concatenate([their_blocks, its_blocks + 10_000])


def photographs(seed):
    """A split of the patches in which no block is on two sides."""
    return Dataset.from_arrays(pictures, kinds, name="patches", groups=blocks, seed=seed)


len(many), len(few)

# %% [markdown]
# Look for what could give a class away, a border or a lamp, before a network finds it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of grey patches: tiles, sky and walls of a temple; petals and leaves of a flower.", "classes": "photo"}}
plots.gallery([*many[10:330:32], *few[:10]], ["temple"] * 10 + ["flower"] * 10)

# %% [markdown]
# Any technique of any chapter can join, by its name, without running that chapter. [All techniques](../../book/techniques.md) lists
# them. Here come two ways to mix images, from [their chapter](../augmentation/mixing.ipynb).

# %%
mixing = load("augmentation/mixing").TECHNIQUES
recipes = {name: Recipe(model=CompactNet, **hooks) for name, hooks in
           {**BASELINES, "MixUp": mixing["MixUp"], "Remix": mixing["Remix"]}.items()}
images = compare(recipes, photographs, seeds=SEEDS, steps=STEPS, batch_size=64, rates=RATES,
                 overlap=1 / 3)
summary(images.table, ["balanced accuracy", "worst-class recall", "PR-AUC", "ECE"])

# %% [markdown]
# ## Texts
#
# Texts become vectors first. The help texts of a few modules of SciPy and of NumPy are at hand on every machine that runs this
# book. Which of them come from `scipy.sparse.csgraph`, a module of a few functions?
#
# The vectoriser learns its words from all texts, but never sees a label. That leaks nothing that counts here. Whatever looks
# at labels (a choice of features, say) has to be learned on the training part alone. Many of these texts share their wording; on data of
# your own they would be one group.

# %%
def help_texts(*modules):
    """The first 600 characters of what the functions of some modules say about themselves."""
    texts = {(inspect.getdoc(item) or "")[:600]
             for module in modules for _, item in inspect.getmembers(module, callable)}
    return sorted(text for text in texts if len(text) > 100)


rare = help_texts(scipy.sparse.csgraph)
common = help_texts(np, scipy.stats, scipy.signal, scipy.optimize)
vectors = TfidfVectorizer(max_features=500, stop_words="english").fit_transform(common + rare)
subjects = np.repeat(["other", "graph"], [len(common), len(rare)])


def manual(seed):
    """A split of the help texts."""
    return Dataset.from_arrays(vectors.toarray(), subjects, name="help texts", seed=seed)


recipes = {name: Recipe(model=partial(MLP, inputs=vectors.shape[1]), **hooks)
           for name, hooks in BASELINES.items()}
texts = compare(recipes, manual, seeds=SEEDS, steps=STEPS, batch_size=64, rates=RATES,
                overlap=1 / 3)
summary(texts.table, ["balanced accuracy", "worst-class recall", "PR-AUC", "ECE"])

# %% [markdown]
# ## The three together
#
# In each figure, what a remedy adds to the plain network, paired over the seeds. A filled dot is clear of zero after
# [Holm's correction](../../book/glossary.md).

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels, one a data set: differences of each remedy to the baseline in balanced accuracy, with intervals."}}
results = pd.concat([table.table, images.table, texts.table], ignore_index=True)
axes = plots.plt.subplots(1, 3, figsize=(7.5, 2.4))[1]
for ax, dataset in zip(axes, results.dataset.unique(), strict=True):
    plots.gaps(results, dataset=dataset, ax=ax)
    ax.set(title=dataset, xlabel="points")
    ax.tick_params(labelsize=7)

# %% [markdown]
# ## State it, and let it be checked
#
# A sentence about your results is worth more if it carries its test. Write it while you look at some seeds, then run others, and let
# `claim` judge. In a notebook of your own it judges as on this page, if your `SEEDS` are 100 or more.

# %% tags=["remove-input"]
claim("On the help texts moving the threshold of the plain network adds more than ten points.",
      better(results, "logit adjustment", "baseline", "balanced accuracy", by=0.1,
             dataset="help texts"))

# %% tags=["remove-input"]
claim("It had ranked them well all along: the PR-AUC of the plain network on the help texts is "
      "above 80.",
      between(results, "baseline", "PR-AUC", low=0.8, dataset="help texts"))

# %% [markdown]
# ## When this does not help
#
# - **A dozen rare samples in all.** Split three ways, they leave two or three to test with. Take cross-validation and a simple model.
#   With none at all, [describe the common class](../tables/one_class.ipynb).
# - **Time.** If you will predict next month, do not split at random: train on the past, validate on what follows, test on the
#   last part, and give `Dataset` the three `Split`s yourself.
# - **Another mix at work.** If the rare class is as rare in your test split as in your training split, but not in use,
#   correct the predictions for it ([prior shift](../foundations/metrics_and_thresholds.ipynb)).
#
# ## Published and reproduced
#
# Nothing published is reproduced here. In all three sets we chose what is rare, so their numbers say nothing about tumours, temples
# or libraries. The second claim is what many readers of this book need: the network knew, and only its threshold was in the way.
#
# ## Try it
#
# **1.** In a script, as opposed to a notebook, the comparison must stand below `if __name__ == "__main__":`, because the workers
# import the script again. Why would it start itself again and again otherwise?

# %% tags=["solution", "hide-cell"]
print("A worker is a fresh Python process. It imports your file to find your functions; whatever\n"
      "stands at the top level of the file, the comparison too, then runs in each worker as well.")

# %% [markdown]
# **2.** Add a technique of your own: a sampler that draws the rare class in every third place of a batch.

# %% tags=["solution", "hide-cell"]
def every_third(run):
    """Batches in which each third sample is of the rarest class."""
    import torch

    rarest = (run.train.labels == run.class_counts.argmin()).nonzero()[:, 0]
    while True:
        rows = torch.randint(len(run.train), (run.batch_size,), generator=run.generator)
        chosen = torch.randint(len(rarest), (len(rows[::3]),), generator=run.generator)
        rows[::3] = rarest[chosen]
        yield rows


own = compare({"baseline": plain, "every third": Recipe(model=network, sampler=every_third)}, cells,
              seeds=SEEDS[:3], steps=STEPS, batch_size=64, overlap=1 / 3)
differences(own.table, "baseline", ["balanced accuracy", "PR-AUC"])

# %% [markdown]
# **3.** Leave `overlap` out of the comparison of the table. How much narrower is the interval of the difference between
# oversampling and the baseline, and which one is honest?

# %% tags=["solution", "hide-cell"]
naive = table.table[table.table.metric != "test to train"]
wide, narrow = (difference(some, "random oversampling", "baseline", "balanced accuracy")
                for some in (table.table, naive))
print(f"half-widths: {50 * (wide.high - wide.low):.1f} points with it, "
      f"{50 * (narrow.high - narrow.low):.1f} without.\nThe splits share most of their samples, so "
      "five of them tell less than five new data sets would.")

# %% [markdown]
# ## What to remember
#
# Thirty lines are enough for an honest comparison. What takes longer is to decide what counts, what belongs together,
# and to count the rare samples in the test split before you believe a difference.
# The cell below writes this chapter's results, from which the first page of the book is made.

# %% tags=["hide-input"]
gaps = {name: difference(results, "logit adjustment", "baseline", "balanced accuracy", dataset=name)
        for name in results.dataset.unique()}
told = ", ".join(f"{gap:+%} points ({name})" for name, gap in gaps.items())
verdict = ("Moving the threshold by the class sizes costs nothing, and changes balanced accuracy "
           f"by {told}.")
record("synthesis/your_own_data", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(data))
