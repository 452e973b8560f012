# %% [markdown]
# # Rare pages: do the remedies work on a graph?

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** Do weights, oversampling and SMOTE help the rare classes of a graph network, and more than the free correction does?
#
# **Data.** The long-tailed page network of the chapter before: 3,327 / 1,410 / 460 / 256 pages of four kinds, and their links.
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
import importlib.util
from functools import partial

import pandas as pd
import torch
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.loader import ImbalancedSampler, NeighborLoader

from helpers import graphs, plots
from helpers.claims import better, claim, none_ahead
from helpers.datasets import Dataset, Split
from helpers.networks import load_page_network
from helpers.records import fingerprint, record
from helpers.results import clearly_ahead, difference, mean, shown, summary

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]
STEPS = 120
DATA = "auto"

# %% [markdown]
# ## The baseline
#
# [The chapter before](page_network.ipynb) cuts a long tail from a network of pages that like each other, splits it 60 / 15 / 25 %, and
# finds out what the links are worth. Here the model stays the same, a [GCN](../../book/glossary.md) of two layers that sees all links (*transductive*), and
# only the remedy changes. It is this page's **baseline**.

# %%
network = load_page_network(DATA)
case = graphs.draw(network, SEEDS[0])
pd.DataFrame({part: torch.bincount(case.labels[getattr(case, part)]).tolist()
              for part in ("train", "val", "test")}, index=network.class_names).T

# %% [markdown]
# ## A graph has no batches
#
# Most remedies of this book act on a batch: what is drawn, and how it is counted. A step on a graph looks at the whole of it,
# because the layers need every page's neighbours, rare or not.
# What can be drawn, or weighted, are the pages that the **loss** looks at.

# %%
def weighted_loss(weights):
    """Cross-entropy with a weight for each class, from the class counts."""
    def loss(model, case, links):
        logits = model(case.inputs, links)[case.train]
        return F.cross_entropy(logits, case.labels[case.train], weight=weights(case.class_counts))
    return loss


def inverse(counts):
    """n / (C n_c)."""
    return counts.sum() / (len(counts) * counts)


def effective(counts, beta=0.999):
    """Class-balanced weights, (1 − β)/(1 − β^n_c), with mean 1."""
    weights = (1 - beta) / (1 - beta ** counts)
    return weights * len(counts) / weights.sum()


def oversampled_loss(model, case, links):
    """Cross-entropy over training pages drawn with equal class shares."""
    rows = case.train[list(ImbalancedSampler(case.labels[case.train]))]
    return F.cross_entropy(model(case.inputs, links)[rows], case.labels[rows])


# %% [markdown]
# `inverse` are plain class weights; `effective` are those of the [class-balanced loss](../../book/glossary.md) ([Cui et al.,
# 2019](../../book/references.md#cui2019)). β is .999 here, because classes are small; in the chapters on images it is .9999.
# Oversampling draws with PyG's `ImbalancedSampler`. How do the two weightings differ?

# %%
pd.DataFrame({"training pages": case.class_counts.int().tolist(),
              "class weights": inverse(case.class_counts).tolist(),
              "class-balanced": effective(case.class_counts).tolist()},
             index=network.class_names).round(2).astype(object).T

# %% [markdown]
# ### Points between embeddings
#
# [SMOTE](../../book/glossary.md) makes new samples on the line between two rare ones. Between two *pages* there is nothing;
# between their [embeddings](../../book/glossary.md) there is. *Embedding SMOTE*
# goes from a rare page towards one of its five nearest neighbours of the class. GraphSMOTE ([Zhao et al.,
# 2021](../../book/references.md#zhao2021)) goes one step further and
# predicts links for the new nodes; here the new points only meet the head, so they need none.

# %%
def smote(features, labels, neighbours=5):
    """New points of each smaller class until all are as large as the largest.

    Returns features and labels of them alone.
    """
    counts = torch.bincount(labels)
    made, classes = [], []
    for label in (counts < counts.max()).nonzero().flatten().tolist():
        own = features[labels == label]
        missing = int(counts.max()) - len(own)
        if len(own) < 2:
            continue
        with torch.no_grad():
            nearest = torch.cdist(own, own).fill_diagonal_(torch.inf).topk(
                min(neighbours, len(own) - 1), largest=False).indices
        first = torch.randint(len(own), (missing,))
        second = nearest[first, torch.randint(nearest.shape[1], (missing,))]
        made.append(own[first] + torch.rand(missing, 1) * (own[second] - own[first]))
        classes.append(torch.full((missing,), label))
    return torch.cat(made), torch.cat(classes)


def smote_loss(model, case, links):
    """Cross-entropy over the training pages and the points made between their embeddings."""
    features, labels = model.features(case.inputs, links)[case.train], case.labels[case.train]
    made, classes = smote(features, labels)
    return F.cross_entropy(model.head(torch.cat([features, made])), torch.cat([labels, classes]))


made, classes = smote(torch.tensor([[0.0], [1], [2], [3], [10], [14]]),
                      torch.tensor([0, 0, 0, 0, 1, 1]))
[round(value, 2) for value in made.flatten().tolist()], classes.tolist()

# %% [markdown]
# ## The comparison
#
# Six ways to train one network: on the same pages, links and splits, each with its own learning rate, chosen from the same
# three values on the
# validation pages of a draw that no result comes from. That tuning split is cut from the same data, so its rows stand in the test
# parts of other splits. That holds for all methods alike; for numbers to publish, tune inside each split. All keep the weights
# that do best on validation. Intervals are corrected for the overlap of the splits.
# [Logit adjustment](../../book/glossary.md) subtracts the log prior from the scores and costs nothing.

# %%
gcn = partial(graphs.train, steps=STEPS)
REMEDIES = {"baseline": gcn, "logit adjustment": partial(gcn, posthoc=graphs.adjust),
            "random oversampling": partial(gcn, loss=oversampled_loss),
            "class weights": partial(gcn, loss=weighted_loss(inverse)),
            "class-balanced loss": partial(gcn, loss=weighted_loss(effective)),
            "embedding SMOTE": partial(gcn, loss=smote_loss)}
results, _ = graphs.compare({name: graphs.Technique(way) for name, way in REMEDIES.items()},
                                 seeds=SEEDS, data=DATA)
summary(results, ["accuracy", "balanced accuracy", "worst-class recall", "PR-AUC", "ECE"])

# %% [markdown]
# Compare the columns worst-class recall and PR-AUC. Now each against the free correction. Look at how many dots are filled.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy between the GCN with each remedy and the GCN with logit adjustment, with corrected intervals."}}
plots.gaps(results, "logit adjustment", "balanced accuracy");

# %% tags=["remove-input"]
trained = [name for name in REMEDIES if name not in ("baseline", "logit adjustment")]
claim("No remedy that changes the training is clearly ahead of the free correction in balanced "
      "accuracy.",
      none_ahead(results, trained, "logit adjustment"))

# %% [markdown]
# And class by class. The rarest class is on the right.

# %% mystnb={"image": {"alt": "Recall of the four classes for the baseline, logit adjustment, random oversampling and class weights."}}
plots.per_class(results, ["baseline", "logit adjustment", "random oversampling",
                          "class weights"], case.labels[case.test], network.class_names);

# %% tags=["remove-input"]
claim("Weights and oversampling move the line: they lift the recall of the rarest class, and class "
      "weights lower that of the commonest.",
      better(results, "class weights", "baseline", "recall", label=3)
      & better(results, "random oversampling", "baseline", "recall", label=3)
      & better(results, "baseline", "class weights", "recall", label=0))

# %% [markdown]
# ## Larger than memory
#
# A full-batch step needs the whole graph. Neighbour sampling ([Hamilton et al., 2017](../../book/references.md#hamilton2017))
# draws a few neighbours of each page in
# a batch, a few of each of those, and runs the network on that piece. Then there are batches again, and every sampler of this
# book applies to the pages they start from.

# %%
def sampled_links(edge_index, rows, fan, generator):
    """At most `fan` random incoming links of each of `rows`."""
    wanted = torch.isin(edge_index[1], rows).nonzero().flatten()
    wanted = wanted[torch.randperm(len(wanted), generator=generator)]
    target, order = edge_index[1, wanted].sort(stable=True)
    starts = torch.searchsorted(target, target)
    return edge_index[:, wanted[order[torch.arange(len(target)) - starts < fan]]]


generator = torch.Generator().manual_seed(0)
batch = case.train[:256]
inner = sampled_links(case.edge_index, batch, 10, generator)
outer = sampled_links(case.edge_index, torch.cat([batch, inner[0]]).unique(), 5, generator)
needed = torch.cat([batch, inner.flatten(), outer.flatten()]).unique()
(f"256 pages need {len(needed)} of {len(case.labels)} pages for two layers, and "
 f"{inner.shape[1] + outer.shape[1]} links")

# %% [markdown]
# PyG's `NeighborLoader` does this in compiled code, with one of two extra packages, `pyg-lib` or `torch-sparse`, which must
# match your torch version.

# %% tags=["hide-input"]
if any(importlib.util.find_spec(name) for name in ("pyg_lib", "torch_sparse")):
    loader = NeighborLoader(Data(x=case.inputs, y=case.labels, edge_index=case.edge_index),
                            num_neighbors=[10, 5], input_nodes=case.train, batch_size=256)
    first = next(iter(loader))
    print(f"a batch of {first.batch_size} pages: {first.num_nodes} pages, {first.num_edges} links")
else:
    print("Neither of the two is installed here.")

# %% [markdown]
# ## When this does not help
#
# **When order is what you need.** A list of suspects is read from the top: then average precision counts, not where the line is
# drawn. Points gained on the rarest class:

# %%
pd.DataFrame({what: {name: f"{difference(results, name, 'baseline', metric, label=3):+%}"
                     for name in REMEDIES if name != "baseline"}
              for what, metric in (("recall", "recall"),
                                   ("average precision", "average precision"))})

# %% [markdown]
# **Cost.** Seconds of one training on one core, and the expected calibration error that is left:

# %%
pd.DataFrame({metric: {name: format(mean(results, name, metric), "%" if metric == "ECE" else "")
                       for name in REMEDIES} for metric in ("seconds", "ECE")}).T

# %% [markdown]
# ## Published and reproduced
#
# There is no published table of these remedies on this network. The comparison of *models* on it, Table 9.3 of the textbook,
# stands in
# [the chapter before](page_network.ipynb#published-and-reproduced).

# %% [markdown]
# ## Try it
#
# **1.** Take the log prior off *and* oversample. Do the two add up?

# %% tags=["solution", "hide-cell"]
both = partial(gcn, loss=oversampled_loss, posthoc=graphs.adjust)
found = graphs.score(case, both(case, 0.03, SEEDS[0]))
one = graphs.score(case, REMEDIES["random oversampling"](case, 0.03, SEEDS[0]))
{name: f"{some['head recall']:.0%} of the common, {some['tail recall']:.0%} of the rarest"
 for name, some in (("oversampling", one), ("oversampling and adjustment", found))}

# %% [markdown]
# **2.** Weigh the rarest class twice as much as `class weights` does. Which classes pay, on one split?

# %% tags=["solution", "hide-cell"]
def tilted_loss(model, case, links):
    """Class weights, those of the rarest class doubled."""
    weights = inverse(case.class_counts) * torch.tensor([1.0, 1, 1, 2])
    logits = model(case.inputs, links)[case.train]
    return F.cross_entropy(logits, case.labels[case.train], weight=weights)


tilted = graphs.score(case, partial(gcn, loss=tilted_loss)(case, 0.03, SEEDS[0]))["recall"]
plain = graphs.score(case, REMEDIES["class weights"](case, 0.03, SEEDS[0]))["recall"]
dict(zip(network.class_names, [f"{shown(change, '+%')} points" for change in tilted - plain],
         strict=True))

# %% [markdown]
# ## What to remember
#
# On a graph, sample and weight the pages of the loss; leave the links alone. Try the free correction first, and ask whether you
# need another line or another order.
# The cell below writes this chapter's results, from which the first page of the book is made.

# %% tags=["hide-input"]
gap = {name: difference(results, name, "baseline", "balanced accuracy")
       for name in ("logit adjustment", "random oversampling")}
ahead = clearly_ahead(results, trained, "logit adjustment", "balanced accuracy")
verdict = (f"Oversampling the loss's pages changes the GCN's balanced accuracy by "
           f"{gap['random oversampling']:+%} points, logit adjustment by "
           f"{gap['logit adjustment']:+%} for nothing; of {len(trained)} remedies that train, "
           f"{len(ahead) or 'none'} {'is' if len(ahead) < 2 else 'are'} clearly ahead of it.")
parts = {part: Split(case.inputs[getattr(case, part)], case.labels[getattr(case, part)])
         for part in ("train", "val", "test")}
record("graphs/rare_pages", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(Dataset(case.name, network.class_names, **parts)))
