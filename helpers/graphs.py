"""A long-tailed piece of a graph: how it is cut and split, the networks that are trained on it, one fair comparison."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GATConv, GCNConv, SAGEConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import add_remaining_self_loops, remove_self_loops, to_torch_csr_tensor

from helpers import metrics
from helpers.experiments import TUNING_SEED
from helpers.networks import Network, load_page_network
from helpers.results import OVERLAP, tidy
from helpers.runs import parallel
from helpers.training import reproducible

RATES = (0.01, 0.03, 0.1)  # the one grid of learning rates for every network on a graph


# --------------------------------------------------------------------------------------------------------------------
# A long tail and its splits
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A long-tailed graph and its split.

    Attributes
    ----------
    name : str
    inputs : torch.Tensor
    labels : torch.Tensor
    edge_index : torch.Tensor
        All three as in `helpers.networks.Network`.
    train : torch.Tensor
    val : torch.Tensor
    test : torch.Tensor
        Rows, ``int64``, as of the other two.
    """

    name: str
    inputs: torch.Tensor
    labels: torch.Tensor
    edge_index: torch.Tensor
    train: torch.Tensor
    val: torch.Tensor
    test: torch.Tensor

    @property
    def class_counts(self) -> torch.Tensor:
        """Training pages of each class."""
        return torch.bincount(self.labels[self.train], minlength=4).float()

    def links_within(self, rows: torch.Tensor) -> torch.Tensor:
        """Edges with both ends in `rows`; the numbering stays."""
        inside = torch.zeros(len(self.labels), dtype=torch.bool)
        inside[rows] = True
        return self.edge_index[:, inside[self.edge_index].all(0)]


def kept_nodes(network: Network, seed: int) -> torch.Tensor:
    """A random long tail of the pages, in their original order: int(22470/4 · 0.01^(c/3) + 200) of class c, or all."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for label in range(4):
        members = (network.labels == label).nonzero().flatten()
        size = int(22470 / 4 * 0.01 ** (label / 3) + 200)
        kept.append(members[torch.randperm(len(members), generator=generator)][:size])
    return torch.cat(kept).sort().values


def edges_among(edge_index: torch.Tensor, kept: torch.Tensor, nodes: int) -> torch.Tensor:
    """The edges with both ends in `kept`, renumbered by their place in it.

    Examples
    --------
    >>> edges_among(torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([1, 2]), nodes=4).tolist()
    [[0], [1]]
    """
    place = torch.full((nodes,), -1)
    place[kept] = torch.arange(len(kept))
    ends = place[edge_index]
    return ends[:, (ends >= 0).all(0)]


def cut(network: Network, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features, labels and edges of a long tail, self-loops among them."""
    kept = kept_nodes(network, seed)
    return network.inputs[kept], network.labels[kept], edges_among(network.edge_index, kept, len(network.labels))


def draw(network: Network, seed: int) -> Case:
    """A long tail without self-loops, and a stratified split of all of it: 60, 15 and 25 %."""
    inputs, labels, edges = cut(network, seed)
    rest, test = train_test_split(np.arange(len(labels)), test_size=0.25, stratify=labels, random_state=seed)
    train, val = train_test_split(rest, test_size=0.2, stratify=labels[rest], random_state=seed)
    return Case(f"{network.name}-LT", inputs, labels, remove_self_loops(edges)[0],
                *map(torch.as_tensor, (train, val, test)))


# --------------------------------------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------------------------------------


class Alone(nn.Linear):
    """A layer that does not listen to neighbours."""

    def forward(self, inputs, links):
        return super().forward(inputs)


class Sum(GCNConv):
    """The plain GNN's layer: an unnormalised sum over a page (once) and its neighbours."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, normalize=False)


class Weighted(Sum):
    """The GCN's layer: the same sum, over links that carry their weights 1/√(d_i d_j)."""


def attention(inputs: int, outputs: int) -> nn.Module:
    """A GAT's layer: four heads that share the outputs."""
    return GATConv(inputs, outputs // 4, heads=4)


LAYERS = {"MLP": Alone, "plain GNN": Sum, "GCN": Weighted, "GraphSAGE": SAGEConv, "GAT": attention}


class GraphNet(nn.Module):
    """Two layers of a kind, then a linear head.

    Parameters
    ----------
    layer : callable
        ``layer(inputs, outputs)``: one of `LAYERS`.
    """

    def __init__(self, layer, inputs: int = 128, classes: int = 4, hidden: int = 32, dropout: float = 0.5):
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


def as_links(edge_index: torch.Tensor, nodes: int, layer) -> torch.Tensor:
    """The links in the form that the layer computes fastest with: a sparse matrix where it can take one.

    For `Sum` the matrix is A + I, for `Weighted` it is D^(−1/2) (A + I) D^(−1/2): all that sets a GCN apart.
    """
    weights = None
    if layer is Sum:
        edge_index, _ = add_remaining_self_loops(edge_index, num_nodes=nodes)
    elif layer is Weighted:
        edge_index, weights = gcn_norm(edge_index, num_nodes=nodes)
    elif layer in (Alone, attention):
        return edge_index
    return to_torch_csr_tensor(edge_index.flip(0), weights, size=(nodes, nodes))  # row: target, column: source


def plain_loss(model: GraphNet, case: Case, links) -> torch.Tensor:
    """Cross-entropy over the training pages."""
    return F.cross_entropy(model(case.inputs, links)[case.train], case.labels[case.train])


def adjust(case: Case, logits: torch.Tensor) -> torch.Tensor:
    """Post-hoc logit adjustment, z − log π."""
    return logits - (case.class_counts / case.class_counts.sum()).log()


def balanced_accuracy(case: Case, rows: torch.Tensor, logits: torch.Tensor) -> float:
    """Of the logits of all pages, on some of them."""
    return float(metrics.recall_per_class(logits[rows].argmax(1), case.labels[rows], 4).mean())


def train(case: Case, lr: float, seed: int, *, layer=Weighted, steps: int = 120, loss: Callable = plain_loss,
          posthoc: Callable | None = None, inductive: bool = False, every: int = 10,
          patience: int = 40) -> torch.Tensor:
    """Logits of all pages by the weights that did best on the validation pages (balanced accuracy).

    A step looks at the whole graph. Training stops early when nothing has improved for `patience` steps.

    Parameters
    ----------
    case : Case
    lr : float
        Of Adam, whose weight decay is 5e-4.
    seed : int
    layer : callable
        One of `LAYERS`.
    loss : callable
        ``loss(model, case, links)``.
    posthoc : callable, optional
        ``posthoc(case, logits)``, applied whenever the model predicts.
    inductive : bool
        Train on the training pages and the links among them, choose the weights with the validation pages and their
        links added, and let the test pages come in at the end. Otherwise training sees all features and links.

    Returns
    -------
    torch.Tensor, shape (N, 4)
    """
    nodes = len(case.labels)
    with reproducible(seed):
        model = GraphNet(layer, case.inputs.shape[1])
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=5e-4)
        whole = as_links(case.edge_index, nodes, layer)
        seen, checked = whole, whole
        if inductive:
            seen = as_links(case.links_within(case.train), nodes, layer)
            checked = as_links(case.links_within(torch.cat([case.train, case.val])), nodes, layer)
        best, kept, since = -1.0, None, 0
        for step in range(1, steps + 1):
            model.train()
            objective = loss(model, case, seen)
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
            if step % every and step < steps:
                continue
            found = _predicted(model, case, checked, posthoc)
            score, since = balanced_accuracy(case, case.val, found), since + every
            if score > best:
                best, since = score, 0
                kept = _predicted(model, case, whole, posthoc) if inductive else found
            if since >= patience:
                break
    return kept


def _predicted(model, case, links, posthoc):
    model.eval()
    with torch.no_grad():
        logits = model(case.inputs, links)
    return posthoc(case, logits) if posthoc else logits


# --------------------------------------------------------------------------------------------------------------------
# One fair comparison
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Technique:
    """A way to classify pages, with the one number that is tuned.

    Attributes
    ----------
    predict : callable
        ``predict(case, value, seed) -> logits`` of all pages, shape (N, 4).
    grid : sequence of float
        Values to choose from, on the validation pages of the tuning draw.
    knob : str
        What is tuned, as it stands in the results.
    """

    predict: Callable
    grid: Sequence[float] = RATES
    knob: str = "learning rate"


def score(case: Case, logits: torch.Tensor) -> dict:
    """The house metrics on the test pages, and the average precision of each class and over all."""
    logits, labels = logits[case.test], case.labels[case.test]
    found, probabilities = metrics.evaluate(logits, labels, case.class_counts.int().tolist()), logits.softmax(1).numpy()
    truth = np.eye(4)[labels]
    precision = np.array([average_precision_score(truth[:, label], probabilities[:, label]) for label in range(4)])
    return found | {"average precision": precision, OVERLAP: len(case.test) / len(case.train),
                    "micro average precision": float(average_precision_score(truth, probabilities, average="micro")),
                    "rare minus frequent recall": float(found["recall"][1:].mean() - found["recall"][0]),
                    "rare minus frequent AP": float(precision[1:].mean() - precision[0])}


def compare(techniques: Mapping[str, Technique], *, seeds: Sequence[int],
            data: str = "auto") -> tuple[pd.DataFrame, dict[tuple[str, int], torch.Tensor]]:
    """Every technique on the same long tails and splits of the page network, with its own tuned value.

    Parameters
    ----------
    techniques : mapping of str to Technique
    seeds : sequence of int
        Each draws another long tail and another split of it.
    data : {"auto", "real", "stand-in"}

    Returns
    -------
    pandas.DataFrame
        Tidy results; the tuned value is one of the metrics.
    dict of (str, int) to torch.Tensor
        Test logits by technique and seed.
    """
    values = tune(techniques, data)
    jobs = [(technique.predict, values[name], int(seed), data) for name, technique in techniques.items()
            for seed in seeds]
    names = [(name, int(seed)) for name in techniques for seed in seeds]
    tables, logits = [], {}
    for (name, seed), (dataset, found, prediction) in zip(names, parallel(_run, jobs), strict=True):
        tables.append(tidy(dataset, name, seed, found | {techniques[name].knob: values[name]}))
        logits[name, seed] = prediction
    return pd.concat(tables, ignore_index=True), logits


def tune(techniques: Mapping[str, Technique], data: str = "auto") -> dict[str, float]:
    """The value of each technique's grid that does best on the validation pages of the tuning draw."""
    names = [(name, value) for name, technique in techniques.items() for value in technique.grid]
    jobs = [(techniques[name].predict, value, data) for name, value in names]
    scores = dict(zip(names, parallel(_tuning_run, jobs, "tuning runs"), strict=True))
    return {name: max(technique.grid, key=lambda value: scores[name, value])
            for name, technique in techniques.items()}


def _tuning_run(predict: Callable, value: float, data: str) -> float:
    case = draw(load_page_network(data), TUNING_SEED)
    with reproducible(TUNING_SEED):
        return balanced_accuracy(case, case.val, predict(case, value, TUNING_SEED))


def _run(predict: Callable, value: float, seed: int, data: str) -> tuple[str, dict, torch.Tensor]:
    case = draw(load_page_network(data), seed)
    started = time.process_time()
    with reproducible(seed):
        logits = predict(case, value, seed)
    return case.name, score(case, logits) | {"seconds": time.process_time() - started}, logits[case.test]
