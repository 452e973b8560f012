# %% [markdown]
# # The page network: does it help to know the neighbours?

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** Do the links between samples help a rare class, and do you need a graph network to use them?
#
# **Data.** Facebook Page-Page: pages of four kinds and their mutual likes, cut to a long tail of 3,327 / 1,410 / 460 / 256 pages.
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

import networkx as nx
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import LabelPropagation
from torch_geometric.utils import scatter
from xgboost import XGBClassifier

from helpers import graphs, metrics, plots
from helpers.claims import Check, better, between, claim
from helpers.datasets import Dataset, Split
from helpers.networks import graph_digest, load_page_network
from helpers.records import fingerprint, record
from helpers.results import (
    Interval,
    difference,
    is_real,
    mean,
    published,
    published_per_class,
    summary,
    tidy,
    values,
)
from helpers.runs import parallel
from helpers.training import reproducible

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]
STEPS = 120
TREES = 100
DATA = "auto"

# %% [markdown]
# ## Pages that like each other
#
# A **node** is a verified page; its 128 features are made from the words of its description. An **edge** is a mutual like. The
# class is the kind of page ([Rozemberczki et al., 2021](../../book/references.md#rozemberczki2021)). The data are real, and so
# are words and links; the long tail is made.
#
# The loader checks edges and labels against the published ones. The features were published as a reduction of a bag of words
# that can be made in more than one way, so look at their fingerprint before you compare numbers with someone else's.

# %% tags=["hide-input"]
network = load_page_network(DATA)
pd.Series({"nodes": len(network.labels), "directed edges": network.edge_index.shape[1],
           "features": network.inputs.shape[1],
           "edges and labels": graph_digest(network.edge_index.T, network.labels),
           "features' sum of squares": f"{float(network.inputs.double().square().sum()):.1f}"},
          name=network.name).to_frame()

# %% [markdown]
# Two things to know before you use it. Some pages "like themselves", and such a [self-loop](../../book/glossary.md) stands in
# the list twice, since every link does:

# %%
looped = network.edge_index[0, network.edge_index[0] == network.edge_index[1]]
(f"{len(looped)} directed self-loops are {len(looped.unique())} pages, "
 f"each stored {len(looped) // max(len(looped.unique()), 1)} times")

# %% [markdown]
# A mean over neighbours would count such a page itself twice among its own neighbours. Here they are taken out. And TV shows,
# which are the *commonest* class
# below, are the rarest one in the network as it is:

# %%
pd.Series(torch.bincount(network.labels).tolist(), index=network.class_names,
          name="pages, before the cut").to_frame().T

# %% [markdown]
# ## A long tail, cut from a graph
#
# The literature keeps $n_c = \lfloor 22470/4 \cdot 0.01^{c/3} + 200 \rfloor$ random pages of class $c$, or all of them where
# there are fewer ([Abhishek and Abdelaziz, 2023](../../book/references.md#abhishek2023)). Dropping a node drops its edges; do
# it on the **edge list** (exercise 4 shows what the other way costs).

# %%
kept = graphs.kept_nodes(network, SEEDS[0])
edges = graphs.edges_among(network.edge_index, kept, len(network.labels))
edges = edges[:, edges[0] != edges[1]]
labels = network.labels[kept]

# %% [markdown]
# Look for two things in the table: how often a link stays inside a class, and how many pages are left without any link.

# %%
def links(edge_index, labels):
    """Per class: pages, links inside the class, what chance would give, pages without a link."""
    ends = edge_index[:, edge_index[0] != edge_index[1]]
    inside = (labels[ends[0]] == labels[ends[1]]).double()
    degree = torch.bincount(ends[1], minlength=len(labels))
    rows = [{"pages": int((labels == label).sum()),
             "links inside (%)": 100 * float(inside[labels[ends[1]] == label].mean()),
             "by chance (%)": 100 * float((labels[ends[1]] == label).double().mean()),
             "no links (%)": 100 * float((degree[labels == label] == 0).double().mean())}
            for label in range(4)]
    return pd.DataFrame(rows, index=network.class_names).round(1)


before, after = links(network.edge_index, network.labels), links(edges, labels)
after.assign(**{"no links, before the cut (%)": before["no links (%)"]})

# %% [markdown]
# Pages link to their own kind far more often than chance would have it: that is [homophily](../../book/glossary.md), and a
# graph network
# lives on it. Dropping hurts the rare classes twice: few examples are left, and many of those have lost every neighbour. Keep the last
# two columns in mind.
#
# Below are pieces of the long-tailed network, grown outwards from one well-linked page of each class. Look for colours that keep
# together.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A drawing of linked pages, at most 60 around one page of each class, coloured by class; clusters are mostly of one colour."}}
def piece(graph, start, size=60, fan=8):
    """Pages from `start` outwards, at most `fan` new neighbours of each."""
    chosen, queue = [start], [start]
    while queue and len(chosen) < size:
        fresh = [page for page in sorted(graph[queue.pop(0)]) if page not in chosen][:fan]
        chosen += fresh
        queue += fresh
    return chosen[:size]


graph = nx.Graph(edges.T.tolist())
inside = torch.bincount(edges[1], weights=(labels[edges[0]] == labels[edges[1]]).double(),
                        minlength=len(kept))
starts = [int((inside * (labels == label)).argmax()) for label in range(4)]
sample = graph.subgraph([page for start in starts for page in piece(graph, start)])
place = nx.spring_layout(sample, seed=0, iterations=60)
figure, ax = plt.subplots(figsize=(7.5, 4.6))
nx.draw_networkx_edges(sample, place, ax=ax, edge_color="#bbb", width=0.5)
for label, name, ink in zip(range(4), network.class_names,
                            ("#0072B2", "#E69F00", "#009E73", "#CC79A7"), strict=True):
    members = [page for page in sample if labels[page] == label]
    nx.draw_networkx_nodes(sample, place, members, ax=ax, node_size=22, node_color=ink, label=name)
ax.legend(fontsize=8)
ax.axis("off");

# %% [markdown]
# ## Who may see what
#
# The published split has 16 test pages of the rarest class. Here, **all** remaining pages are used: 60 % to train, 15 % to
# validate, 25 % to test, in the same shares for every class, once for each seed, with a new draw of the tail each time.

# %%
case = graphs.draw(network, SEEDS[0])
pd.DataFrame({part: torch.bincount(case.labels[getattr(case, part)]).tolist()
              for part in ("train", "val", "test")}, index=network.class_names).T

# %% [markdown]
# With a graph, "unseen" needs a definition ([inductive, transductive](../../book/glossary.md)):
#
# - **Transductive**: training sees the features and links of all pages, and the labels of the training pages only. This is
#   the usual setting, and it fits when you label some pages of a network that you already have.
# - **Inductive**: training sees the training pages and the links among them. New pages come with their links at test time.
#   This is what a deployed model meets.
#
# ## One network, five ways to listen
#
# Every network below has the same two layers of 32 units, dropout and a linear head; only what a layer does with the
# neighbours differs.
#
# | name | a page's new features are |
# |---|---|
# | MLP | a linear map of its own |
# | plain GNN | the **sum** over itself and its neighbours |
# | GCN | the sum weighted by $1/\sqrt{d_i d_j}$ ([Kipf and Welling, 2017](../../book/references.md#kipf2017)) |
# | GraphSAGE | a map of its own, plus another map of the neighbours' **mean** ([Hamilton et al., 2017](../../book/references.md#hamilton2017)) |
# | GAT | a mean with **learned** weights, four heads ([Veličković et al., 2018](../../book/references.md#velickovic2018)) |
#
# [The chapter on message passing](message_passing.ipynb) works the GCN out by hand. In the code, plain GNN and GCN multiply by
# another matrix, and that is all. Here are both, for three
# pages in a row:

# %%
row = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
pd.concat({name: pd.DataFrame(graphs.as_links(row, 3, layer).to_dense().numpy()).round(2)
           for name, layer in (("plain GNN", graphs.Sum), ("GCN", graphs.Weighted))}, axis=1)

# %% [markdown]
# ## Rivals that need no graph network
#
# A graph network has to beat more than a tree on the bare features. Gradient-boosted trees
# ([XGBoost](../../book/references.md#chen2016); at most 100, in 64 bins) get the links in three ways, each of which tells them
# more:
#
# - **link count**: one more feature, *how many* links a page has. Not who is at the other end.
# - **neighbour means**: 128 more features, the mean of the neighbours' own. No message is learned.
# - **means and count**: both.

# %%
def bare(case):
    """The features of the pages alone."""
    return case.inputs


def neighbour_mean(case):
    """Mean of the neighbours' features, zero for a page without any."""
    source, target = case.edge_index
    return scatter(case.inputs[source], target, dim_size=len(case.inputs), reduce="mean")


def link_count(case):
    """Number of links of each page, loops left out, shape (N, 1)."""
    ends = case.edge_index[:, case.edge_index[0] != case.edge_index[1]]
    return torch.bincount(ends[1], minlength=len(case.labels)).float()[:, None]


def log_of(probabilities):
    """Probabilities as logits."""
    return torch.as_tensor(probabilities).float().clamp_min(1e-6).log()


def boost(case, rate, seed, *, features=(bare,), trees=100, early=True):
    """XGBoost on some features; with `early`, validation decides how many trees are used."""
    inputs = torch.cat([feature(case) for feature in features], dim=1)
    faster = {"early_stopping_rounds": 10, "max_bin": 64} if early else {}
    model = XGBClassifier(n_estimators=trees, learning_rate=rate, n_jobs=1, random_state=seed,
                          **faster)
    train, val = ((inputs[rows].numpy(), case.labels[rows].numpy())
                  for rows in (case.train, case.val))
    model.fit(*train, eval_set=[val] if early else None, verbose=False)
    return log_of(model.predict_proba(inputs.numpy()))


# %% [markdown]
# Three more know less: **logistic regression** on the features, **label propagation** ([Zhu and Ghahramani,
# 2002](../../book/references.md#zhu2002)), which looks at no feature and lets the training labels seep along
# the links, and the **majority**.

# %%
def logistic(case, strength, seed):
    """Logistic regression with an inverse penalty."""
    model = LogisticRegression(C=strength, max_iter=200)
    model.fit(case.inputs[case.train].numpy(), case.labels[case.train].numpy())
    return log_of(model.predict_proba(case.inputs.numpy()))


def propagate(case, alpha, seed):
    """Label propagation; alpha is how much of a label is passed on."""
    return log_of(LabelPropagation(50, alpha)(case.labels, case.edge_index, mask=case.train))


def majority(case, value, seed):
    """The class shares, the same for every page."""
    return log_of(case.class_counts / case.class_counts.sum()).repeat(len(case.labels), 1)


def adjusted_trees(case, rate, seed, **options):
    """XGBoost with the log prior taken off its scores."""
    return graphs.adjust(case, boost(case, rate, seed, **options))


# %% [markdown]
# ## The comparison
#
# Every technique of a seed sees the same pages and the same split. Each has one number to tune, from three values: the learning
# rate of the networks and of the trees, the penalty of the
# regression, how far labels travel. The validation pages of one more draw, which no result comes from, choose it. That
# tuning split is cut from the same data, so its rows stand in the test parts of other splits. That holds for all methods alike;
# for numbers to publish, tune inside each split.
#
# The splits are cut from one network and overlap, so all intervals of the fair comparison are corrected for that ([Nadeau and
# Bengio, 2003](../../book/references.md#nadeau2003)): they are about twice as wide as the usual ones.

# %%
ETAS, STRENGTHS, ALPHAS = (0.03, 0.1, 0.3), (0.01, 0.1, 1.0), (0.5, 0.7, 0.9)
Technique, tree = graphs.Technique, partial(boost, trees=TREES)
TECHNIQUES = {
    "majority": Technique(majority, (0.0,), "none"),
    "logistic regression": Technique(logistic, STRENGTHS, "C"),
    "label propagation": Technique(propagate, ALPHAS, "α"),
    "XGBoost": Technique(tree, ETAS),
    "XGBoost, link count": Technique(partial(tree, features=(bare, link_count)), ETAS),
    "XGBoost, neighbour means": Technique(partial(tree, features=(bare, neighbour_mean)), ETAS),
    "XGBoost, means and count": Technique(
        partial(tree, features=(bare, neighbour_mean, link_count)), ETAS),
    "XGBoost, logit adjustment": Technique(partial(adjusted_trees, trees=TREES), ETAS),
    **{name: Technique(partial(graphs.train, layer=layer, steps=STEPS))
       for name, layer in graphs.LAYERS.items()},
    "GCN, inductive": Technique(partial(graphs.train, steps=STEPS, inductive=True)),
}
fair, logits = graphs.compare(TECHNIQUES, seeds=SEEDS, data=DATA)
summary(fair, ["accuracy", "balanced accuracy", "worst-class recall", "PR-AUC", "ECE"])

# %% [markdown]
# Look for where the trees land once they may look at the neighbours. The figure takes the one that knows most, *means and
# count*, as the zero line. It compares the mean
# [average precision](../../book/glossary.md) of the four classes (PR-AUC), which does not ask where a model draws its lines:
# the networks keep the weights with the best balanced accuracy on validation, the trees stop at the best
# likelihood, so that a recall compares two lines as much as two models.

# %% mystnb={"image": {"alt": "Paired differences in PR-AUC to XGBoost with neighbour means and link count, with corrected intervals."}}
RIVAL = "XGBoost, means and count"
drawn = ["logistic regression", "label propagation", "XGBoost", "XGBoost, link count",
         "XGBoost, neighbour means", *graphs.LAYERS]
plots.gaps(fair[fair.technique.isin([*drawn, RIVAL])], RIVAL, "PR-AUC");

# %% tags=["remove-input"]
claim("Links help: XGBoost with neighbour means and link count beats XGBoost on the bare features "
      "by more than three points of accuracy.",
      better(fair, RIVAL, "XGBoost", "accuracy", by=0.03))

# %% [markdown]
# See in the figure where the plain GNN stands. It sums over all neighbours, so that a hub's numbers are large (exercise 3); that
# is what the GCN's weights are for.
#
# Now class by class. Mind how the intervals widen to the right: the rarest class has the fewest test pages.

# %% mystnb={"image": {"alt": "Recall of the four classes for six models, with corrected intervals and the number of test pages of each class."}}
main = ["MLP", "XGBoost", "XGBoost, link count", RIVAL, "GraphSAGE", "GCN"]
plots.per_class(fair, main, case.labels[case.test], network.class_names);

# %% [markdown]
# ## When this does not help
#
# **When a count does it.** A page without links has no neighbours to listen to, so a graph network should do no better there
# than a tree. Look at the first group of the figure: accuracy by the number of links of a test page.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Accuracy of six models by the number of links of the test page, in four groups, with one standard deviation over the splits."}}
def by_degree(name, bounds):
    """Accuracy of a technique on the test pages of each degree group, one row a split."""
    rows = []
    for seed in SEEDS:
        case = graphs.draw(network, seed)
        degree = link_count(case)[case.test, 0].numpy()
        right = (logits[name, seed].argmax(1) == case.labels[case.test]).numpy()
        group = np.searchsorted(bounds, degree, side="right") - 1
        rows.append([100 * right[group == place].mean() if (group == place).any() else np.nan
                     for place in range(len(bounds))])
    return np.array(rows)


bounds, names = [0, 1, 3, 10], ["none", "1–2", "3–9", "10 or more"]
inks = plots.colours(main)
figure, ax = plt.subplots()
for place, name in enumerate(main):
    found = by_degree(name, bounds)
    ax.errorbar(np.arange(4) + (place - 2.5) * 0.07, np.nanmean(found, 0), np.nanstd(found, 0),
                fmt="o-", markersize=4, color=inks[name], label=name)
ax.set(xticks=range(4), xticklabels=names, xlabel="links of the test page",
       ylabel="accuracy (%), ± 1 sd")
ax.legend(fontsize=8, ncols=2);

# %% [markdown]
# A message cannot help there; its absence can. Hardly any page of the commonest class lost all its links when the tail was cut,
# many of the rare ones did (the last two columns of the table above).

# %% tags=["remove-input"]
silent = (by_degree("XGBoost, link count", bounds) - by_degree("XGBoost", bounds))[:, 0] / 100
silent = Interval.of(silent, overlap=len(case.test) / len(case.train))
claim("Having no links is a sign in itself: on pages without links, XGBoost with the number of "
      "links is ahead of XGBoost without it.",
      Check(silent.low > 0, f"accuracy on pages without links: {silent:+%} points, {silent.seeds}",
            is_real(fair), silent))

# %% [markdown]
# This footprint of the cut is in the published numbers on this long tail too; the network before the cut has none. One more
# feature, the number of links, hands it to the tree. Of the GCN's lead over plain XGBoost in accuracy, the rivals take back this
# share:

# %%
base, gcn = (mean(fair, name, "accuracy").mean for name in ("XGBoost", "GCN"))
pd.Series({name: f"{100 * (mean(fair, name, 'accuracy').mean - base) / (gcn - base):.0f} %"
           for name in ("XGBoost, link count", "XGBoost, neighbour means", RIVAL)},
          name="share of the lead").to_frame()

# %% [markdown]
# So the honest zero line is a tree that knows the count. Against it, on the rarest class alone, and in the mean recall of the three
# rarer classes less that of the commonest, in points:

# %%
rivals = ["XGBoost", "XGBoost, link count", "XGBoost, neighbour means", RIVAL]
pd.DataFrame({what: {f"GCN − {name}": f"{difference(fair, 'GCN', name, metric, **which):+%}"
                     for name in rivals}
              for what, metric, which in (
                  ("accuracy", "accuracy", {}), ("rarest: recall", "recall", {"label": 3}),
                  ("rarest: AP", "average precision", {"label": 3}),
                  ("rare − frequent recall", "rare minus frequent recall", {}))})

# %% tags=["remove-input"]
claim("The number of links, without a word about who is at the other end, helps XGBoost by more "
      "than two points of accuracy.",
      better(fair, "XGBoost, link count", "XGBoost", "accuracy", by=0.02))

# %% tags=["remove-input"]
rare = difference(fair, "GCN", RIVAL, "average precision", label=3)
claim("In average precision of the rarest class the GCN is not clearly ahead of trees that know "
      "the neighbours' means and the number of links.",
      Check(not rare.low > 0, f"average precision of the rarest class: {rare:+%} points, "
                              f"{rare.seeds}", is_real(fair), rare))

# %% [markdown]
# Over all pages something is left that the one-hop average does not give; two hops we did not give to the trees.

# %% tags=["remove-input"]
claim("In accuracy the GCN stays ahead of those trees.", better(fair, "GCN", RIVAL, "accuracy"))

# %% [markdown]
# **New pages.** In the inductive setting the network trains on the training pages and the links among them. What does that cost?

# %%
pd.Series({metric: f"{difference(fair, 'GCN, inductive', 'GCN', metric):+%}"
           for metric in ("accuracy", "balanced accuracy", "PR-AUC")},
          name="inductive − transductive (points)").to_frame().T

# %% [markdown]
# **Cost.** Seconds of one training on one core:

# %%
pd.Series({name: f"{mean(fair, name, 'seconds').mean:.1f}" for name in main},
          name="seconds").to_frame().T

# %% [markdown]
# ## Published and reproduced
#
# Table 9.3 of the textbook reports one draw of the kept pages, one seed, and 242 test pages. Under
# `source` we follow it: masks by row (4,368 train, 243 validation, 242 test; the last 600 pages are not used,
# [E20](../../book/errata.md#e20)), hidden size
# 64 for the MLP and 16 for the graph networks, no dropout, 101 steps of Adam, XGBoost with its defaults. Self-loops are left in:
# the GCN as there; our plain GNN counts a loop once, theirs twice ([E23](../../book/errata.md#e23)). But we draw the pages ten
# times.

# %% tags=["hide-input"]
class SourceNet(nn.Module):
    """Two layers and nothing else, as published."""

    def __init__(self, layer, hidden):
        super().__init__()
        self.first, self.second = layer(128, hidden), layer(hidden, 4)

    def forward(self, inputs, links):
        """Logits of all nodes."""
        return self.second(F.relu(self.first(inputs, links)), links)


def draw_source(network, seed):
    """A long tail and the published masks by row."""
    inputs, labels, edges = graphs.cut(network, seed)
    order = torch.arange(len(labels))
    return graphs.Case(f"{network.name}-LT", inputs, labels, edges, order[:4368],
                       order[4368:4611], order[4611:4853])


def run_source(technique, seed, steps, trees, data):
    """One published row on one draw."""
    case = draw_source(load_page_network(data), seed)
    with reproducible(seed):
        if technique == "XGBoost":
            scores = boost(case, 0.3, seed, trees=trees, early=False)
        else:
            layer = graphs.LAYERS[technique]
            model = SourceNet(layer, 64 if technique == "MLP" else 16)
            links = graphs.as_links(case.edge_index, len(case.labels), layer)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
            for _ in range(steps):
                loss = graphs.plain_loss(model, case, links)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scores = model(case.inputs, links).detach()
    return tidy(case.name, technique, seed, graphs.score(case, scores), protocol="source")


# %% tags=["hide-input"]
SOURCE_ROWS = ["MLP", "XGBoost", "GCN", "plain GNN"]
jobs = [(technique, seed, min(STEPS, 101), TREES, DATA) for seed in SEEDS
        for technique in SOURCE_ROWS]
results = pd.concat([fair, *parallel(run_source, jobs)], ignore_index=True)
plots.published_and_reproduced(results, "T8")

# %% [markdown]
# One draw was published. Beside each number, the lowest and the highest of ours. (On other draws the published GCN lay above all of
# ours, and this page called it no typical draw. See whether it still does.)

# %%
printed = published("T8").query("metric == 'accuracy'").set_index("technique").value
ours = {name: 100 * values(results, name, "accuracy", protocol="source") for name in SOURCE_ROWS}
pd.DataFrame({name: {"published": f"{printed[name]:.1f}", "lowest of ours": f"{some.min():.1f}",
                     "highest of ours": f"{some.max():.1f}"}
              for name, some in ours.items()}).T.rename_axis(columns="accuracy (%)")

# %% tags=["remove-input"]
claim("Under the source's protocol, the mean accuracy over our draws lies below the published "
      "value, for the GCN and for XGBoost.",
      between(results, "GCN", "accuracy", high=printed["GCN"] / 100, protocol="source")
      & between(results, "XGBoost", "accuracy", high=printed["XGBoost"] / 100, protocol="source"))

# %% tags=["remove-input"]
claim("Its order comes out as published: the GCN is ahead of XGBoost and of the MLP in accuracy.",
      better(results, "GCN", "XGBoost", "accuracy", protocol="source")
      & better(results, "GCN", "MLP", "accuracy", protocol="source"))

# %% [markdown]
# One draw in the print, with one split of 242 pages, has a 95 % interval of its own, and the features may be reduced in another
# way than ours.
#
# **Sixteen pages.** The published test set holds 16 pages of the rarest class ([E18](../../book/errata.md#e18)). The recalls
# below are 12, 11 and 6 of 16; the bars
# are 95 % [Wilson](../../book/references.md#wilson1927) intervals. Our test sets hold four times as many, once for each seed.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Published recall of the rarest class with 95 percent intervals for GCN, MLP and XGBoost; the intervals of GCN and MLP overlap almost completely, and each spans about forty points."}}
rarest = published_per_class("T8").loc[["MLP", "XGBoost", "GCN"], "3"]
figure, ax = plt.subplots(figsize=(7.5, 2))
for row, (name, recall) in enumerate(rarest.items()):
    low, high = (100 * bound for bound in metrics.wilson(round(recall * 16 / 100), 16))
    ax.plot([low, high], [row, row], color=plots.colour(name), linewidth=2.4)
    ax.plot(recall, row, "o", color=plots.colour(name), markersize=7)
ax.set(yticks=range(len(rarest)), yticklabels=rarest.index, xlim=(0, 100), ylim=(-0.6, 2.6),
       xlabel="published recall of the rarest class (%): 16 pages, 95 % interval");

# %% [markdown]
# The text calls the GCN's lead significant. Against the MLP, 12 of 16 and 11 of 16 are the same number.
#
# **A threshold, not a blindness** ([E19](../../book/errata.md#e19)). The printed recall of XGBoost on the rarest class is little
# more than half the MLP's, but the notebook's average precision is nearly the same (.74 and .76). The tree ranks these pages well
# and hesitates to name them. Take the [log prior](../../book/glossary.md) off its scores, and see what happens on our splits:

# %%
pd.DataFrame({name: {metric: f"{mean(fair, name, metric, label=3):%}"
                     for metric in ("recall", "average precision")}
              for name in ("MLP", "XGBoost", "XGBoost, logit adjustment",
                           "GCN")}).T.rename_axis(columns="rarest class")

# %% tags=["remove-input"]
claim("Taking off the log prior raises XGBoost's recall of the rarest class by more than five "
      "points.",
      better(fair, "XGBoost, logit adjustment", "XGBoost", "recall", label=3, by=0.05))

# %% [markdown]
# **Which class is the hardest?** In the notebook's average precisions, class 2 is the lowest for the MLP and the GCN, so that
# rarity would
# not be what makes a class hard. With 16 pages such an order means little. Ours:

# %% tags=["hide-input"]
names = ["MLP", "XGBoost", "GCN"]
theirs = published_per_class("T8", "average precision")
ours = pd.DataFrame({str(label): {name: f"{mean(fair, name, 'average precision', label=label):%}"
                                  for name in names}
                     for label in range(4)})
pd.concat({"notebook (1 draw)": theirs.loc[names], "ours, fair protocol": ours}, axis=1)

# %% [markdown]
# **Small print.** XGBoost's accuracy is .793 in the text and 83.9 in the table ([E42](../../book/errata.md#e42)). "127
# features" are 128 ([E21](../../book/errata.md#e21)).
#
# **Precision against recall.** Recall depends on where the model draws the line between classes; the whole curve does not. The
# bands are the middle 80 % of
# our splits.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Precision against recall for each class with the median and a band over the splits for four models."}}
def curve(case, name, seed, label, grid):
    """The best precision at given recalls on one split."""
    truth, scores = case.labels[case.test] == label, logits[name, seed].softmax(1)[:, label]
    precision, recall, _ = precision_recall_curve(truth, scores)
    reached, first = np.unique(recall[::-1], return_index=True)
    return np.interp(grid, reached, np.maximum.accumulate(precision)[::-1][first])


grid, cases = np.linspace(0, 1, 101), [graphs.draw(network, seed) for seed in SEEDS]
figure, axes = plt.subplots(1, 4, figsize=(10, 3), sharey=True)
for label, ax in enumerate(axes):
    for name in ("MLP", "XGBoost", RIVAL, "GCN"):
        found = np.array([curve(some, name, seed, label, grid)
                          for some, seed in zip(cases, SEEDS, strict=True)])
        low, middle, high = np.quantile(found, [0.1, 0.5, 0.9], axis=0)
        ax.plot(grid, middle, color=plots.colour(name), label=name)
        ax.fill_between(grid, low, high, color=plots.colour(name), alpha=0.15, linewidth=0)
    ax.set(title=network.class_names[label], xlabel="recall", ylim=(0, 1.02))
axes[0].set_ylabel("precision")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4,
              fontsize=8);

# %% [markdown]
# ## Try it
#
# **1.** How much of label propagation's failure is due to pages without links? Look at its accuracy with and without.

# %% tags=["solution", "hide-cell"]
degree = link_count(case)[case.test, 0]
right = logits["label propagation", SEEDS[0]].argmax(1) == case.labels[case.test]
(f"accuracy with links {float(right[degree > 0].float().mean()):.0%}, without "
 f"{float(right[degree == 0].float().mean()):.0%}")

# %% [markdown]
# **2.** What if the links were random? Keep every page's number of links, shuffle the other ends, and train the GCN again.

# %% tags=["solution", "hide-cell"]
def rewired(case, seed):
    """The same case with the sources of all links permuted."""
    order = torch.randperm(case.edge_index.shape[1], generator=torch.Generator().manual_seed(seed))
    edges = torch.stack([case.edge_index[0, order], case.edge_index[1]])
    return graphs.Case(case.name, case.inputs, case.labels, edges, case.train, case.val, case.test)


shuffled = graphs.train(rewired(case, 0), 0.03, 0, steps=STEPS)[case.test]
(f"GCN on shuffled links: "
 f"{float((shuffled.argmax(1) == case.labels[case.test]).float().mean()):.0%} accuracy")

# %% [markdown]
# **3.** The normalised GCN and the unnormalised plain GNN share the sparsity. Which one depends more on hubs? Compare the largest
# row of each matrix.

# %% tags=["solution", "hide-cell"]
sums = {name: graphs.as_links(case.edge_index, len(case.labels), layer)
        @ torch.ones(len(case.labels), 1)
        for name, layer in (("plain GNN", graphs.Sum), ("GCN", graphs.Weighted))}
{name: f"largest sum of weights {float(found.max()):.1f}" for name, found in sums.items()}

# %% [markdown]
# **4.** The published code takes rows and columns out of a dense matrix of all pairs of nodes. How much memory would that
# matrix of 32-bit numbers need, and how much does
# the edge list?

# %% tags=["solution", "hide-cell"]
nodes = len(network.labels)
(f"dense {4 * nodes ** 2 / 1e6:,.0f} MB, edge list "
 f"{network.edge_index.element_size() * network.edge_index.numel() / 1e6:,.0f} MB")

# %% [markdown]
# ## What to remember
#
# Links help on this network, where most stay inside a class. Check whether their mere number gives the classes away. Ask the
# neighbourhood with a simple average before you train a graph network, count the test samples of the rarest class before you call
# a difference significant, and say whether the setting is transductive. [The next chapter](rare_pages.ipynb) asks whether the
# remedies for imbalance work on this graph.

# %% tags=["hide-input"]
gap = {name: difference(fair, "GCN", name, "accuracy") for name in ("XGBoost", RIVAL)}
verdict = (f"Against trees without links the GCN changes accuracy by {gap['XGBoost']:+%} points, "
           f"against trees that know the neighbours' averages and the number of links by "
           f"{gap[RIVAL]:+%}, and the average precision of the rarest class by {rare:+%}.")
parts = {part: Split(case.inputs[getattr(case, part)], case.labels[getattr(case, part)])
         for part in ("train", "val", "test")}
record("graphs/page_network", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(Dataset(case.name, network.class_names, **parts)))
