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
import importlib.util
import time
import tracemalloc
from dataclasses import dataclass

import networkx as nx
import numpy as np
import pandas as pd
import torch
from matplotlib import pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, precision_recall_curve
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.loader import ImbalancedSampler, NeighborLoader
from torch_geometric.nn import GATConv, GCNConv, LabelPropagation, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_remaining_self_loops, scatter, subgraph, to_torch_csr_tensor
from xgboost import XGBClassifier

from helpers import metrics, plots
from helpers.datasets import Dataset, Split, graph_digest, load_page_network
from helpers.experiments import (
    Check,
    better,
    between,
    claim,
    difference,
    fingerprint,
    indistinguishable,
    mean,
    parallel,
    published_per_class,
    record,
    summary,
    tidy,
    values,
)
from helpers.training import reproducible

# %% tags=["parameters"]
SEEDS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
STEPS = 120
SOURCE_DRAWS = 5
TREES = 100
DATA = "auto"

# %% [markdown]
# ## Pages that like each other
#
# A **node** is a verified page; its 128 features are made from the words of its description. An **edge** is a mutual like. The
# class is the kind of page. TV shows are no rarer than the others in real life, but a copy of the data with a long tail
# is a good place to ask this chapter's question: the links are real, and so are the words.
#
# The loader checks edges and labels against the published ones. The features were published as a reduction of a bag of words
# that can be made in more than one way, so look at their fingerprint before you compare numbers with someone else's.

# %%
network = load_page_network(DATA)
pd.Series({"nodes": len(network.labels), "directed edges": network.edge_index.shape[1],
           "features": network.inputs.shape[1],
           "self-loops": int((network.edge_index[0] == network.edge_index[1]).sum()),
           "edges and labels": graph_digest(network.edge_index.T, network.labels),
           "features' sum of squares": f"{float(network.inputs.double().square().sum()):.1f}"},
          name=network.name).to_frame()

# %% [markdown]
# ## A long tail, cut from a graph
#
# The literature keeps $n_c = \lfloor 22470/4 \cdot 0.01^{c/3} + 200 \rfloor$ random pages of class $c$, or all of them where
# there are fewer. Dropping a node drops its edges. How you drop them matters: on the **edge list**.

# %%
def kept_nodes(network, seed):
    """A random long tail of the nodes, in their original order."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for label in range(4):
        members = (network.labels == label).nonzero().flatten()
        size = int(22470 / 4 * 0.01 ** (label / 3) + 200)
        kept.append(members[torch.randperm(len(members), generator=generator)][:size])
    return torch.cat(kept).sort().values


def edges_among(edge_index, kept, nodes):
    """The edges with both ends in `kept`, renumbered by their place in it."""
    place = torch.full((nodes,), -1)
    place[kept] = torch.arange(len(kept))
    ends = place[edge_index]
    return ends[:, (ends >= 0).all(0)]


kept = kept_nodes(network, SEEDS[0])
edges = edges_among(network.edge_index, kept, len(network.labels))
bool((edges == subgraph(kept, network.edge_index, relabel_nodes=True,
                        num_nodes=len(network.labels))[0]).all())

# %% [markdown]
# The result is the one of PyG's `subgraph`. The published code instead fills a dense matrix of all pairs of nodes and takes rows and
# columns out of it. Here is what that costs, measured once on this machine:

# %%
def dense_way(edge_index, kept, nodes):
    """A matrix of all pairs, its rows and columns taken out: what not to do."""
    adjacency = np.zeros((nodes, nodes), dtype=np.float32)
    adjacency[edge_index[0], edge_index[1]] = 1
    return np.stack(adjacency[kept][:, kept].nonzero())


def edge_list_way(edge_index, kept, nodes):
    """`edges_among` in NumPy, whose memory Python can trace."""
    place = np.full(nodes, -1)
    place[kept] = np.arange(len(kept))
    ends = place[edge_index]
    return ends[:, (ends >= 0).all(0)]


def cost(way, repeats):
    """Best wall time in milliseconds, and peak memory in MB."""
    arguments = network.edge_index.numpy(), kept.numpy(), len(network.labels)
    times = []
    tracemalloc.start()
    for _ in range(repeats):
        started = time.perf_counter()
        found = way(*arguments)
        times.append(1000 * (time.perf_counter() - started))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return min(times), peak, len(set(zip(*found.tolist(), strict=True)))


costs = pd.DataFrame.from_dict(
    {"edge list": cost(edge_list_way, 5), "dense matrix": cost(dense_way, 1)}, orient="index",
    columns=["milliseconds", "peak MB", "different edges"])
costs.round(1)

# %% tags=["hide-input"]
faster = costs.milliseconds["dense matrix"] / costs.milliseconds["edge list"]
claim("The edge list takes less than a hundredth of the dense matrix's time, and less than 200 "
      "MB, for the same edges.",
      Check(bool(faster > 100 and costs["peak MB"]["edge list"] < 200
                 and costs["different edges"].nunique() == 1),
            f"{faster:,.0f} times faster; {costs['peak MB']['edge list']:.0f} MB against "
            f"{costs['peak MB']['dense matrix']:,.0f} MB",
            real=not network.name.startswith("stand-in")))

# %% [markdown]
# ## What dropping does to the links
#
# Look for two things in the table: how often a link stays inside a class, and how many pages are left without any link.

# %%
def links(edge_index, labels):
    """Per class: pages, links inside the class, what chance would give, pages without a link."""
    ends = edge_index[:, edge_index[0] != edge_index[1]]
    inside = (labels[ends[0]] == labels[ends[1]]).double()
    degree = torch.bincount(ends[1], minlength=len(labels))
    rows = [{"pages": int((labels == label).sum()),
             "links inside the class (%)": 100 * float(inside[labels[ends[1]] == label].mean()),
             "by chance (%)": 100 * float((labels[ends[1]] == label).double().mean()),
             "pages without links (%)": 100 * float((degree[labels == label] == 0).double().mean())}
            for label in range(4)]
    return pd.DataFrame(rows, index=network.class_names).round(1)


before, after = links(network.edge_index, network.labels), links(edges, network.labels[kept])
pd.concat({"before": before, "after": after}, axis=1)

# %% [markdown]
# Pages link to their own kind far more often than chance would have it: that is **homophily**, and it is what a graph network
# lives on. Dropping hurts the rare classes twice: few examples are left, and many of those have lost every neighbour.
#
# Below are pieces of the long-tailed network, grown outwards from one well-linked page of each class. Look for colours that keep
# together.

# %% mystnb={"image": {"alt": "A drawing of about 240 linked pages, coloured by class; clusters are mostly of one colour, and the rarest class is the most mixed with the commonest."}}
def piece(graph, start, size=60, fan=8):
    """Pages from `start` outwards, at most `fan` new neighbours of each."""
    chosen, queue = [start], [start]
    while queue and len(chosen) < size:
        fresh = [page for page in sorted(graph[queue.pop(0)]) if page not in chosen][:fan]
        chosen += fresh
        queue += fresh
    return chosen[:size]


labels = network.labels[kept]
graph = nx.Graph(edges[:, edges[0] != edges[1]].T.tolist())
inside = torch.bincount(edges[1], weights=(labels[edges[0]] == labels[edges[1]]).double(),
                        minlength=len(kept))
starts = [int((inside * (labels == label)).argmax()) for label in range(4)]
sample = graph.subgraph([page for start in starts for page in piece(graph, start)])
place = nx.spring_layout(sample, seed=0, iterations=60)
colours = ["#0072B2", "#E69F00", "#009E73", "#D55E00"]
figure, ax = plt.subplots(figsize=(7.5, 5))
nx.draw_networkx_edges(sample, place, ax=ax, edge_color="#bbb", width=0.5)
for label, name in enumerate(network.class_names):
    members = [page for page in sample if labels[page] == label]
    nx.draw_networkx_nodes(sample, place, members, ax=ax, node_size=22, node_color=colours[label],
                           label=name)
ax.legend(fontsize=8)
ax.axis("off");

# %% [markdown]
# ## Splits: who may see what
#
# The published split has 16 test pages of the rarest class. Here, **all** remaining pages are used: 60 % to train, 15 % to
# validate, 25 % to test, in the same shares for every class, and ten times over, with a new draw of the tail each time.
#
# With a graph, "unseen" needs a definition:
#
# - **Transductive**: training sees the features and links of all pages, and the labels of the training pages only. This is
#   the usual setting, and it fits when you label some pages of a network that you already have.
# - **Inductive**: training sees the training pages and the links among them. New pages come with their links at test time.
#   This is what a deployed model meets.

# %%
@dataclass(frozen=True)
class Case:
    """A long-tailed graph and its split; `train`, `val` and `test` are rows."""

    name: str
    inputs: torch.Tensor
    labels: torch.Tensor
    edge_index: torch.Tensor
    train: torch.Tensor
    val: torch.Tensor
    test: torch.Tensor

    @property
    def class_counts(self):
        """Training pages of each class."""
        return torch.bincount(self.labels[self.train], minlength=4).float()

    def links_within(self, rows):
        """Edges with both ends in `rows`; the numbering stays."""
        inside = torch.zeros(len(self.labels), dtype=torch.bool)
        inside[rows] = True
        return self.edge_index[:, inside[self.edge_index].all(0)]


def cut(network, seed):
    """The features, labels and edges of a long tail."""
    kept = kept_nodes(network, seed)
    links = edges_among(network.edge_index, kept, len(network.labels))
    return network.inputs[kept], network.labels[kept], links


def draw(network, seed):
    """A long tail and a stratified split of all of it: 60, 15 and 25 %."""
    inputs, labels, edges = cut(network, seed)
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels,
                                  random_state=seed)
    train, val = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=seed)
    return Case(f"{network.name}-LT", inputs, labels,
                edges, *map(torch.as_tensor, (train, val, test)))


case = draw(network, SEEDS[0])
pd.DataFrame({part: torch.bincount(case.labels[getattr(case, part)]).tolist()
              for part in ("train", "val", "test")},
             index=network.class_names).T

# %% [markdown]
# ## One network, five ways to listen to the neighbours
#
# Every network below has the same two layers of 32 units, dropout and a linear head; only what a layer does with the
# neighbours differs. The chapter on message passing works the GCN layer out by hand.
#
# | name | a page's new features are |
# |---|---|
# | MLP | a linear map of its own |
# | plain GNN | the **sum** over itself and its neighbours |
# | GCN | the sum weighted by $1/\sqrt{d_i d_j}$ (Kipf and Welling, 2017) |
# | GraphSAGE | a map of its own, plus another map of the neighbours' **mean** (Hamilton et al., 2017) |
# | GAT | a mean with **learned** weights, four heads (Veličković et al., 2018) |

# %%
class Alone(nn.Linear):
    """A layer that does not listen."""

    def forward(self, inputs, links):
        return super().forward(inputs)


class Sum(GCNConv):
    """The plain GNN's layer: an unnormalised sum over a page (once) and its neighbours."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, normalize=False)


class Weighted(Sum):
    """The GCN's layer: the same sum, over links that carry their weights 1/√(d_i d_j)."""


def attention(inputs, outputs):
    """Four heads that share the outputs."""
    return GATConv(inputs, outputs // 4, heads=4)


class GraphNet(nn.Module):
    """Two layers of a kind, then a linear head."""

    def __init__(self, layer, inputs=128, classes=4, hidden=32, dropout=0.5):
        super().__init__()
        self.first, self.second = layer(inputs, hidden), layer(hidden, hidden)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(hidden, classes)

    def features(self, inputs, links):
        """Embeddings of all nodes, shape (N, hidden)."""
        inputs = self.dropout(F.relu(self.first(inputs, links)))
        return self.dropout(F.relu(self.second(inputs, links)))

    def forward(self, inputs, links):
        """Logits of all nodes, shape (N, classes)."""
        return self.head(self.features(inputs, links))


layers = {"MLP": Alone, "plain GNN": Sum, "GCN": Weighted, "GraphSAGE": SAGEConv, "GAT": attention}
[tuple(GraphNet(layer)(case.inputs[:5], torch.tensor([[0, 1], [1, 0]])).shape)
 for layer in layers.values()]


# %% [markdown]
# A sparse matrix product is faster than gathering and scattering, so the layers that can take one get the links as a sparse
# matrix. Here you see all that sets the GCN apart from the plain GNN: the weights in that matrix.

# %%
def as_links(edge_index, nodes, layer):
    """The links in the form that the layer computes fastest with."""
    weights = None
    if layer is Sum:
        edge_index, _ = add_remaining_self_loops(edge_index, num_nodes=nodes)
    elif layer is Weighted:
        edge_index, weights = gcn_norm(edge_index, num_nodes=nodes)
    elif layer in (Alone, attention):
        return edge_index
    return to_torch_csr_tensor(edge_index.flip(0), weights,
                               size=(nodes, nodes))  # row: target, column: source


# %% [markdown]
# The training loop is full-batch: one step looks at the whole graph. It keeps the weights that do best on the validation pages
# (balanced accuracy, every ten steps) and stops early when nothing has improved for forty steps.

# %%
def plain_loss(model, case, links):
    """Cross-entropy over the training pages."""
    return F.cross_entropy(model(case.inputs, links)[case.train], case.labels[case.train])


def train_graph(case, layer, *, steps, seed, loss=plain_loss, inductive=False, every=10,
                patience=40):
    """Logits of all nodes by the weights that did best on validation."""
    nodes = len(case.labels)
    with reproducible(seed):
        model = GraphNet(layer, case.inputs.shape[1])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
        whole = as_links(case.edge_index, nodes, layer)
        seen, checked = whole, whole
        if inductive:
            seen = as_links(case.links_within(case.train), nodes, layer)
            checked = as_links(case.links_within(torch.cat([case.train, case.val])), nodes, layer)
        best, logits, since = -1.0, None, 0
        for step in range(1, steps + 1):
            model.train()
            objective = loss(model, case, seen)
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
            if step % every and step < steps:
                continue
            model.eval()
            with torch.no_grad():
                found = model(case.inputs, checked)[case.val].argmax(1)
                score = metrics.recall_per_class(found, case.labels[case.val], 4).mean()
                if score > best:
                    best, since, logits = score, 0, model(case.inputs, whole)
                else:
                    since += every
            if since >= patience:
                break
    return logits


# %% [markdown]
# ## Baselines that need no graph network
#
# A graph network has to beat more than the tree on the bare features:
#
# - **XGBoost on neighbour averages**: the features beside the mean of the neighbours' features. No message is learned.
# - **XGBoost on the number of links**: the features, and one more: how many links a page has. Not who is at the other end.
# - **Label propagation** (Zhu and Ghahramani, 2002): no features at all; the training labels seep along the links. Validation
#   chooses how far.

# %%
def neighbour_mean(inputs, edge_index):
    """Mean of the neighbours' features, zero for a page without any."""
    return scatter(inputs[edge_index[0]], edge_index[1], dim_size=len(inputs), reduce="mean")


def link_count(case):
    """Number of links of each page, loops left out, shape (N, 1)."""
    ends = case.edge_index[:, case.edge_index[0] != case.edge_index[1]]
    return torch.bincount(ends[1], minlength=len(case.labels)).float()[:, None]


def log_of(probabilities):
    """Probabilities as logits."""
    return torch.as_tensor(probabilities).float().clamp_min(1e-6).log()


def boost(case, inputs, *, trees, seed, early=True):
    """XGBoost.

    With `early`, validation decides how many trees are used, and 64 bins a feature save time.
    """
    faster = {"early_stopping_rounds": 10, "max_bin": 64} if early else {}
    model = XGBClassifier(n_estimators=trees, n_jobs=1, random_state=seed, **faster)
    train, val = ((inputs[rows].numpy(), case.labels[rows].numpy())
                  for rows in (case.train, case.val))
    model.fit(*train, eval_set=[val] if early else None, verbose=False)
    return log_of(model.predict_proba(inputs.numpy()))


def logistic(case, strengths=(0.01, 0.1)):
    """Logistic regression; validation chooses the penalty."""
    inputs, labels = case.inputs[case.train].numpy(), case.labels[case.train].numpy()
    models = [LogisticRegression(C=strength, max_iter=200).fit(inputs, labels)
              for strength in strengths]
    return chosen(case, [log_of(model.predict_proba(case.inputs.numpy())) for model in models])


def propagate(case, alphas=(0.5, 0.7, 0.9)):
    """Label propagation; validation chooses how much of a label is passed on."""
    return chosen(case, [
        log_of(LabelPropagation(50, alpha)(case.labels, case.edge_index, mask=case.train))
        for alpha in alphas])


def chosen(case, candidates):
    """The logits with the best validation balanced accuracy."""
    scores = [metrics.recall_per_class(logits[case.val].argmax(1), case.labels[case.val], 4).mean()
              for logits in candidates]
    return candidates[int(np.argmax(scores))]


def majority(case):
    """The class shares, the same for every page."""
    return log_of(case.class_counts / case.class_counts.sum()).repeat(len(case.labels), 1)


# %% [markdown]
# ## Remedies on the graph
#
# The house remedies need one change: a graph has no batches, so what is sampled are the pages that the **loss** looks at. Each is
# tried on the GCN.

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
    """Class-balanced weights, (1 − β)/(1 − β^n_c), with mean 1 (Cui et al., 2019)."""
    weights = (1 - beta) / (1 - beta ** counts)
    return weights * len(counts) / weights.sum()


def oversampled_loss(model, case, links):
    """Cross-entropy over training pages drawn with equal class shares by PyG's
    ImbalancedSampler.
    """
    rows = case.train[list(ImbalancedSampler(case.labels[case.train]))]
    return F.cross_entropy(model(case.inputs, links)[rows], case.labels[rows])


# %% [markdown]
# *Embedding SMOTE* interpolates between the **embeddings** of rare training pages, not between their words: a point on the
# line from a page to one of its five nearest neighbours in the class. GraphSMOTE (Zhao et al., 2021) goes one step further and
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


def adjust(case, logits):
    """Post-hoc logit adjustment, z − log π."""
    return logits - (case.class_counts / case.class_counts.sum()).log()


# %% [markdown]
# ## The comparison
#
# Every technique of a seed sees the same pages and the same split; the test pages are scored once. The last two metrics ask this
# chapter's question: how much better does a model do on the rare classes than on the commonest one?

# %%
REMEDIES = {"class weights": weighted_loss(inverse),
            "class-balanced loss": weighted_loss(effective),
            "random oversampling": oversampled_loss, "embedding SMOTE": smote_loss}


def predictions(technique, case, seed, steps, trees):
    """Logits of all pages by technique; one training may serve two of them."""
    train = {"steps": steps, "seed": seed}
    if technique == "GCN":
        logits = train_graph(case, Weighted, **train)
        return {"GCN": logits, "logit adjustment": adjust(case, logits)}
    if technique in layers:
        return {technique: train_graph(case, layers[technique], **train)}
    if technique in REMEDIES:
        return {technique: train_graph(case, Weighted, loss=REMEDIES[technique], **train)}
    if technique.endswith(", inductive"):
        return {technique: train_graph(case, layers[technique.split(",")[0]], inductive=True,
                                       **train)}
    if technique == "XGBoost":
        logits = boost(case, case.inputs, trees=trees, seed=seed)
        return {technique: logits, "XGBoost, logit adjustment": adjust(case, logits)}
    if technique == "XGBoost, link count":
        return {technique: boost(case, torch.cat([case.inputs, link_count(case)], dim=1),
                                 trees=trees, seed=seed)}
    if technique == "XGBoost, neighbours":
        both = torch.cat([case.inputs, neighbour_mean(case.inputs, case.edge_index)], dim=1)
        return {technique: boost(case, both, trees=trees, seed=seed)}
    return {technique: {"majority": majority, "logistic regression": logistic,
                        "label propagation": propagate}[technique](case)}


def score(logits, labels, class_counts):
    """The house metrics, and the average precision of each class and over all."""
    found, probabilities = metrics.evaluate(logits, labels, class_counts), logits.softmax(1).numpy()
    truth = np.eye(4)[labels]
    precision = np.array([average_precision_score(truth[:, label], probabilities[:, label])
                          for label in range(4)])
    return found | {"average precision": precision,
                    "micro average precision": float(
                        average_precision_score(truth, probabilities, average="micro")),
                    "rare minus frequent recall": float(
                        found["recall"][1:].mean() - found["recall"][0]),
                    "rare minus frequent AP": float(precision[1:].mean() - precision[0])}


def run_fair(technique, seed, steps, trees, data):
    """One technique on one split: results as rows, and test logits by name."""
    case = draw(load_page_network(data), seed)
    started = time.process_time()
    with reproducible(seed):
        found = predictions(technique, case, seed, steps, trees)
    seconds = time.process_time() - started
    counts, labels = case.class_counts.int().tolist(), case.labels[case.test]
    table = pd.concat([tidy(case.name, name, seed,
                            score(logits[case.test], labels, counts) | {"seconds": seconds})
                       for name, logits in found.items()])
    return table, {(name, seed): logits[case.test] for name, logits in found.items()}


techniques = ["majority", "logistic regression", "XGBoost", *layers, "label propagation",
              "XGBoost, link count",
              "XGBoost, neighbours", "GCN, inductive", "GraphSAGE, inductive", *REMEDIES]
runs = parallel(run_fair,
                [(technique, seed, STEPS, TREES, DATA) for seed in SEEDS
                 for technique in techniques])
fair = pd.concat([table for table, _ in runs], ignore_index=True)
logits = {key: value for _, found in runs for key, value in found.items()}
cases = {seed: draw(network, seed) for seed in SEEDS}
summary(fair, ["accuracy", "balanced accuracy", "macro F1", "worst-class recall", "PR-AUC", "ECE"])

# %% [markdown]
# Look for the gap between the models that see links and those that do not, and for where XGBoost lands once it may
# average over neighbours. The dotted line is the GCN.

# %% mystnb={"image": {"alt": "Balanced accuracy of all techniques with intervals: models that see the links stand together on the right, models on features alone far to the left, the majority predictor at 25 percent."}}
remedies = [*REMEDIES, "logit adjustment", "XGBoost, logit adjustment"]
plots.overview(fair[~fair.technique.isin(remedies)], "balanced accuracy", reference="GCN");

# %% tags=["hide-input"]
claim("The GCN beats XGBoost on the bare features by more than ten points of accuracy.",
      better(fair, "GCN", "XGBoost", "accuracy", by=0.10))

# %% [markdown]
# The plain GNN falls behind, probably because its sums over hubs are large and its first steps erratic. Every network here
# gets the same number of steps. Give this one four times as many, on the first split:

# %%
first = cases[SEEDS[0]]
longer = train_graph(first, Sum, steps=4 * STEPS, seed=SEEDS[0], patience=4 * STEPS)[first.test]
found = {"as above": logits["plain GNN", SEEDS[0]], "four times the steps": longer}
{name: f"{float((scores.argmax(1) == first.labels[first.test]).float().mean()):.1%} accuracy"
 for name, scores in found.items()}

# %% [markdown]
# Now class by class. Mind how the intervals widen to the right: the rarest class has the fewest test pages.

# %% mystnb={"image": {"alt": "Recall of the four classes for five models; all are close on the commonest class, and the models with links are far ahead on the three rarer ones."}}
main = ["MLP", "XGBoost", "GCN", "GraphSAGE", "XGBoost, neighbours"]
plots.per_class(fair, main, case.labels[case.test], network.class_names);

# %% [markdown]
# The links help every class. Whether they help the rare classes **more** is a difference of differences: GCN minus XGBoost on the
# three rarer classes, less GCN minus XGBoost on the commonest.

# %% tags=["hide-input"]
claim("The graph helps the three rarer classes more than the commonest one, in recall and in "
      "average precision.",
      better(fair, "GCN", "XGBoost", "rare minus frequent recall")
      & better(fair, "GCN", "XGBoost", "rare minus frequent AP"))

# %% [markdown]
# Recall depends on where the model draws the line between classes; the whole curve does not. The bands are the middle 80 % of
# the splits. Look at the right-hand panel, the rarest class.

# %% mystnb={"image": {"alt": "Precision against recall for each class with bands over the splits; the GCN's curve lies above those of XGBoost and the MLP in all four panels, by the most in the rarer classes."}}
def curve(name, seed, label, grid):
    """Precision at given recalls on one split."""
    case = cases[seed]
    truth, scores = case.labels[case.test] == label, logits[name, seed].softmax(1)[:, label]
    precision, recall, _ = precision_recall_curve(truth, scores)
    return np.interp(grid, recall[::-1], np.maximum.accumulate(precision)[::-1])


grid = np.linspace(0, 1, 101)
figure, axes = plt.subplots(1, 4, figsize=(10, 3), sharey=True)
for label, ax in enumerate(axes):
    for name in ("MLP", "XGBoost", "GCN"):
        found = np.array([curve(name, seed, label, grid) for seed in SEEDS])
        low, middle, high = np.quantile(found, [0.1, 0.5, 0.9], axis=0)
        ax.plot(grid, middle, color=plots.colour(name), label=name)
        ax.fill_between(grid, low, high, color=plots.colour(name), alpha=0.2, linewidth=0)
    ax.set(title=network.class_names[label], xlabel="recall", ylim=(0, 1.02))
axes[0].set_ylabel("precision")
axes[0].legend(fontsize=8, loc="lower left");

# %% [markdown]
# ## Do the remedies help on a graph?
#
# All rows below are the GCN with one change. A hollow dot's interval holds zero.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy between the GCN with each remedy and the plain GCN, with intervals."}}
plots.gaps(fair[fair.technique.isin(["GCN", "logit adjustment", *REMEDIES])], "GCN",
           "balanced accuracy");

# %%
summary(fair[fair.technique.isin(["GCN", "logit adjustment", *REMEDIES])],
        ["accuracy", "balanced accuracy", "worst-class recall", "PR-AUC", "ECE", "seconds"])

# %% [markdown]
# Compare the columns: recall moves, and the area under the precision-recall curve hardly does. A remedy here moves the line between the
# classes, and the free correction moves it as well.

# %% tags=["hide-input"]
claim("Oversampling the pages of the loss lifts the GCN's recall of the rarest class by more than "
      "ten points.",
      better(fair, "random oversampling", "GCN", "tail recall", by=0.10))

# %% tags=["hide-input"]
claim("It does not change the area under the precision-recall curve measurably.",
      indistinguishable(fair, "random oversampling", "GCN", "PR-AUC"))

# %% [markdown]
# ## When this does not help
#
# **A page without links** has no neighbours to listen to, so a graph network should do no better there than a tree. Look at the left end
# of the figure: accuracy by the number of links of a test page, over all splits.

# %% mystnb={"image": {"alt": "Accuracy by number of links: models that see links lead at every number of links, and by the most where a page has none."}}
def by_degree(name, bounds):
    """Accuracy of a technique on the test pages of each degree group, one row a split."""
    rows = []
    for seed, case in cases.items():
        degree = link_count(case)[case.test, 0].numpy()
        right = (logits[name, seed].argmax(1) == case.labels[case.test]).numpy()
        group = np.searchsorted(bounds, degree, side="right") - 1
        rows.append([100 * right[group == place].mean() if (group == place).any() else np.nan
                     for place in range(len(bounds))])
    return np.array(rows)


bounds, names = [0, 1, 3, 10], ["none", "1–2", "3–9", "10 or more"]
degrees = {name: by_degree(name, bounds) for name in [*main, "XGBoost, link count"]}
figure, ax = plt.subplots()
for place, (name, found) in enumerate(degrees.items()):
    ax.errorbar(np.arange(4) + (place - 2) * 0.07, np.nanmean(found, 0), np.nanstd(found, 0),
                fmt="o-", markersize=4,
                color=plots.colour(name), label=name)
ax.set(xticks=range(4), xticklabels=names, xlabel="links of the test page",
       ylabel="accuracy (%), ± 1 sd over splits")
ax.legend(fontsize=8);

# %% [markdown]
# They lead even there. The reason is not a message but its absence: hardly any page of the commonest class lost all its links when the
# tail was cut, many of the rare ones did (look back at the table). **Having no links gives the rare classes away.** This footprint
# of the cut is in the published numbers on this long tail too; the network before the cut has no such footprint. One more feature, the number of links,
# hands it to the tree:

# %%
bare, count, tree, gcn = (mean(fair, name, "accuracy").mean for name in
                          ("XGBoost", "XGBoost, link count", "XGBoost, neighbours", "GCN"))
(f"Of the GCN's lead over XGBoost in accuracy, the number of links gives "
 f"{100 * (count - bare) / (gcn - bare):.0f} %.")

# %% tags=["hide-input"]
claim("The number of links, without a word about who is at the other end, helps XGBoost by more "
      "than two points of accuracy.",
      better(fair, "XGBoost, link count", "XGBoost", "accuracy", by=0.02))

# %% [markdown]
# What is left is real: among pages that do have links, the leads in the figure are no footprint.

# %% tags=["hide-input"]
lead = pd.Series(degrees["GCN"][:, 2] - degrees["XGBoost, link count"][:, 2])
middle, low, high = metrics.t_interval(lead)
claim("On pages with three to nine links, the GCN beats XGBoost with the number of links.",
      Check(bool(low > 0),
            f"{middle:+.1f} points of accuracy, 95 % interval {low:+.1f} to {high:+.1f}, "
            f"{len(lead)} splits",
            real=not network.name.startswith("stand-in")))

# %% [markdown]
# **The tree that asks the neighbours.** Much of the gain needs no graph network. Give the tree the average of the neighbours' features:

# %%
(f"Of the GCN's lead over XGBoost in accuracy, neighbour averages give "
 f"{100 * (tree - bare) / (gcn - bare):.0f} %.")

# %% tags=["hide-input"]
claim("The GCN still beats XGBoost on neighbour averages in balanced accuracy.",
      better(fair, "GCN", "XGBoost, neighbours", "balanced accuracy"))

# %% [markdown]
# **New pages.** In the inductive setting the network trains on the training pages and the links among them. The difference to the
# transductive setting, in points:

# %%
pd.DataFrame({metric: {name: f"{difference(fair, f'{name}, inductive', name, metric):+%}"
                       for name in ("GCN", "GraphSAGE")}
              for metric in ("accuracy", "balanced accuracy",
                             "PR-AUC")}).rename_axis(columns="inductive minus transductive")

# %% [markdown]
# **Overlapping splits.** The ten splits are cut from one network, so they are not independent, and the intervals above
# describe *this* network. A correction for overlapping training sets (Nadeau and Bengio, 2003) widens the interval of a difference
# by $\sqrt{1 + J\,n_\text{test}/n_\text{train}}$ for $J$ splits:

# %%
gap = difference(fair, "GCN", "XGBoost", "balanced accuracy")
wider = (1 + len(SEEDS) * len(case.test) / len(case.train)) ** 0.5
half = 50 * (gap.high - gap.low)
(f"GCN minus XGBoost, balanced accuracy: {100 * gap.mean:+.1f} points, ± {half:.1f} as printed, ± "
 f"{half * wider:.1f} corrected")

# %% [markdown]
# **Cost.** Seconds of one training on one core:

# %%
summary(fair[fair.technique.isin(techniques)],
        ["seconds"]).sort_values("seconds",
                                 key=lambda column: column.str.split().str[0].astype(float))

# %% [markdown]
# ## Published and reproduced
#
# Tables 9.1–9.3 of the textbook (Abhishek and Abdelaziz, 2023) report one draw of the kept pages, one seed, and 242 test pages. Under
# `source` we follow it: masks by row (4,368 train, 243 validation, 242 test; the last 600 pages are not used), hidden size
# 64 for the MLP and 16 for the graph networks, no dropout, 100 steps of Adam, XGBoost with its defaults. But we draw
# the pages more than once.

# %%
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
    inputs, labels, edges = cut(network, seed)
    order = torch.arange(len(labels))
    return Case(f"{network.name}-LT", inputs, labels, edges, order[:4368], order[4368:4611],
                order[4611:4853])


def run_source(technique, seed, steps, trees, data):
    """One published row on one draw."""
    case = draw_source(load_page_network(data), seed)
    with reproducible(seed):
        if technique == "XGBoost":
            logits = boost(case, case.inputs, trees=trees, seed=seed, early=False)
        else:
            layer = layers[technique]
            model, links = SourceNet(layer, 64 if layer is Alone
                                     else 16), as_links(case.edge_index, len(case.labels), layer)
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
            for _ in range(steps):
                loss = plain_loss(model, case, links)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            logits = model(case.inputs, links).detach()
    counts = case.class_counts.int().tolist()
    found = {technique: logits} | ({f"{technique}, logit adjustment": adjust(case, logits)}
                                   if technique == "XGBoost" else {})
    return pd.concat([tidy(case.name, name, seed,
                           score(values[case.test], case.labels[case.test], counts),
                           protocol="source")
                      for name, values in found.items()])


SOURCE_ROWS = ["MLP", "XGBoost", "GCN", "plain GNN"]
source = pd.concat(parallel(run_source,
                            [(technique, seed, min(STEPS, 100), TREES, DATA)
                             for seed in range(SOURCE_DRAWS)
                             for technique in SOURCE_ROWS]), ignore_index=True)
results = pd.concat([fair, source], ignore_index=True)
plots.published_and_reproduced(results, "T8")

# %% tags=["hide-input"]
claim("Under the source's protocol, the GCN's accuracy comes out as published, within the spread "
      "of the draws.",
      between(results, "GCN", "accuracy", 0.85, 0.91, protocol="source"))

# %% tags=["hide-input"]
lead = {name: difference(results, "GCN", name, "accuracy", protocol="source")
        for name in ("XGBoost", "MLP")}
claim("Under the source's protocol, the GCN leads XGBoost and the MLP by at least four points of "
      "accuracy on average.",
      Check(all(gap.mean >= 0.04 for gap in lead.values()),
            "; ".join(f"GCN − {name}: {gap:+%} points, {gap.n} draws"
                      for name, gap in lead.items()),
            real=not network.name.startswith("stand-in")))

# %%
draws = 100 * values(results, "GCN", "accuracy", protocol="source")
(f"GCN under the source's protocol, {len(draws)} draws: {draws.min():.1f} to {draws.max():.1f} % "
 f"accuracy")

# %% [markdown]
# A published row is one such draw. Why the columns differ:
#
# **Sixteen pages.** The published test set holds 16 pages of the rarest class. The recalls below are 12, 11 and 6 of 16; the bars
# are 95 % Wilson intervals. Our test sets hold four times as many, ten times over.

# %% mystnb={"image": {"alt": "Published recall of the rarest class with 95 percent intervals: GCN 75, MLP 69 and XGBoost 38 percent; the intervals of GCN and MLP overlap almost completely, and each spans about forty points."}}
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
# **A threshold, not a blindness.** The printed recall of XGBoost on the rarest class is half the MLP's, but its printed average
# precision is nearly the same (.74 and .76). The tree ranks these pages well and hesitates to name them. Take the log prior off
# its scores, and see what happens on our splits:

# %%
pd.DataFrame({name: {metric: f"{mean(fair, name, metric, label=3):%}"
                     for metric in ("recall", "average precision")}
              for name in ("MLP", "XGBoost", "XGBoost, logit adjustment",
                           "GCN")}).T.rename_axis(columns="rarest class")

# %% tags=["hide-input"]
claim("Taking off the log prior raises XGBoost's recall of the rarest class; no tree changes.",
      better(fair, "XGBoost, logit adjustment", "XGBoost", "recall", label=3))

# %% [markdown]
# Against the GCN, though, the tree is behind on the whole curve: that part of its deficit is no threshold effect.

# %% tags=["hide-input"]
claim("The GCN's average precision on the rarest class is above XGBoost's.",
      better(fair, "GCN", "XGBoost", "average precision", label=3))

# %% [markdown]
# **Which class is the hardest?** In the printed average precisions, class 2 is the lowest for the MLP and the GCN, so that rarity would
# not be what makes a class hard. With 16 pages such an order means little. Ours, with a reduction of the words that need not be the
# published one:

# %%
names = ["MLP", "XGBoost", "GCN"]
theirs = published_per_class("T8", "average precision")
ours = pd.DataFrame({str(label): {name: f"{mean(fair, name, 'average precision', label=label):%}"
                                  for name in names}
                     for label in range(4)})
pd.concat({"published (1 draw)": theirs.loc[names], "ours, fair protocol": ours}, axis=1)

# %% [markdown]
# %% tags=["hide-input"]
orders = {name: metrics.t_interval(values(fair, name, "average precision", label=2)
                                   - values(fair, name, "average precision", label=3))
          for name in names}
claim("On our splits the rarest class has a lower average precision than class 2, for all three.",
      Check(all(low > 0 for _, low, _ in orders.values()),
            "; ".join(f"{name}: {100 * low:+.1f} to {100 * high:+.1f} points"
                      for name, (_, low, high) in orders.items()),
            real=not network.name.startswith("stand-in")))

# %% [markdown]
# **Small print.** XGBoost's accuracy is .793 in the text and 83.9 in the table. "127 features" are 128. The class table's headers
# are shifted by one. An identity matrix is added to the adjacency though the data already have self-loops, so those pages count
# themselves twice. And a GCN does not give neighbours "equal weights": see the chapter on message passing.

# %% [markdown]
# ## Larger than memory
#
# A full-batch step needs the whole graph. Neighbour sampling (Hamilton et al., 2017) draws a few neighbours of each page in
# a batch, a few of each of those, and runs the network on that piece. PyG's `NeighborLoader` does it, and needs one of two
# extra packages with compiled code, `pyg-lib` or `torch-sparse`, which must match your torch version. Where neither is there,
# the cell says so.

# %%
sampling = any(importlib.util.find_spec(name) for name in ("pyg_lib", "torch_sparse"))
if sampling:
    loader = NeighborLoader(Data(x=case.inputs, y=case.labels, edge_index=case.edge_index),
                            num_neighbors=[10, 5],
                            input_nodes=case.train, batch_size=256)
    batch = next(iter(loader))
    print(f"a batch of {batch.batch_size} pages needs {batch.num_nodes} pages and "
          f"{batch.num_edges} links")
else:
    print("Neither pyg-lib nor torch-sparse is installed: neighbour sampling is skipped. The next "
          "cell does it by hand.")

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
    return Case(case.name, case.inputs, case.labels, edges, case.train, case.val, case.test)


shuffled = train_graph(rewired(case, 0), Weighted, steps=STEPS, seed=0)[case.test]
(f"GCN on shuffled links: "
 f"{float((shuffled.argmax(1) == case.labels[case.test]).float().mean()):.0%} accuracy")

# %% [markdown]
# **3.** The normalised GCN and the unnormalised plain GNN share the sparsity. Which one depends more on hubs? Compare the largest
# row of each matrix.

# %% tags=["solution", "hide-cell"]
hub = int(torch.bincount(case.edge_index[1]).argmax())
size = int((case.edge_index[1] == hub).sum())
neighbours = case.edge_index[0, case.edge_index[1] == hub]
degrees_of = torch.bincount(case.edge_index[1], minlength=len(case.labels)).float() + 1
(f"the largest hub sums {size} neighbours; its GCN weights sum to "
 f"{float((1 / (degrees_of[hub] * degrees_of[neighbours]).sqrt()).sum()):.1f}")

# %% [markdown]
# ## What to remember
#
# Links help where they stay inside a class. Check whether their mere number gives the classes away. Ask the neighbourhood with a simple average before you train
# a graph network, count the test samples of the rarest class before you call a difference significant, and say whether the
# setting is transductive. The cell below writes this chapter's results, from which the first page of the book is made.

# %%
rare = [difference(fair, "GCN", "XGBoost", "recall", label=label) for label in (0, 3)]
verdict = (f"Links lift the GCN's recall over XGBoost's by {rare[1]:%} points on the rarest class "
           f"and by {rare[0]:%} on the commonest; XGBoost on neighbour averages reaches "
           f"{mean(fair, 'XGBoost, neighbours', 'balanced accuracy'):%} % balanced accuracy, "
           f"the GCN {mean(fair, 'GCN', 'balanced accuracy'):%} %.")
parts = {part: Split(case.inputs[getattr(case, part)], case.labels[getattr(case, part)])
         for part in ("train", "val", "test")}
record("graphs/page_network", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(Dataset(case.name, network.class_names, **parts)))
