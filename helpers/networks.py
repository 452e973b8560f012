"""Graphs whose nodes have features and a class."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from helpers.files import DamagedData, NoData, announce, data_folders, digest, resolve, sha256, used, writable


@dataclass(frozen=True)
class Network:
    """A graph whose nodes have features and a class.

    Attributes
    ----------
    name : str
        As it stands in the results; a stand-in's name begins with ``"stand-in"``.
    class_names : tuple of str
    inputs : torch.Tensor
        Features of the nodes, ``float32``, shape (N, features).
    labels : torch.Tensor
        Shape (N,), ``int64``.
    edge_index : torch.Tensor
        Source and target of every directed edge, ``int64``, shape (2, edges); an undirected edge stands in it twice.
    """

    name: str
    class_names: tuple[str, ...]
    inputs: torch.Tensor
    labels: torch.Tensor
    edge_index: torch.Tensor


PAGES = ("TV show", "company", "government", "politician")
_PAGE_COUNTS = (3327, 6495, 6880, 5768)
_PAGE_FILE = "FacebookPagePage/raw/facebook.npz"
_PAGE_DIGEST = "7faf5e17d530b9b1"


def load_page_network(data: str = "auto") -> Network:
    """Load Facebook Page-Page: verified pages, their mutual likes, and four kinds of pages.

    Rozemberczki, Allen and Sarkar, "Multi-scale attributed node embedding", Journal of Complex Networks 9(2), 2021.

    Edges and labels are checked against the published ones. The 128 features are a reduction of a bag of words that can
    be made in more than one way, so only their shape, and that they vary, is checked: name them by their digest where
    you report results.

    Parameters
    ----------
    data : {"auto", "real", "stand-in"}
        The stand-in is a contextual block model (Deshpande et al., 2018): classes as blocks, Gaussian features.

    Returns
    -------
    Network

    Examples
    --------
    >>> load_page_network("stand-in").inputs.shape
    torch.Size([6077, 128])
    """
    network = resolve(data, _load_page_network, _load_block_model)
    if network.name.startswith("stand-in"):
        announce("Facebook Page-Page", "a generated block model")
    return network


def graph_digest(edges, labels) -> str:
    """Hash of a graph's edges and labels, 16 hexadecimal digits; the order of the edges does not count.

    Parameters
    ----------
    edges : array, shape (edges, 2)
    labels : array, shape (N,)
    """
    edges = np.asarray(edges, dtype=np.int64)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    return sha256(edges[order].tobytes() + np.asarray(labels, dtype=np.int64).tobytes())[:16]


@functools.cache
def _load_page_network() -> Network:
    from torch_geometric.datasets import FacebookPagePage

    path = next((path for folder in data_folders() if (path := folder / _PAGE_FILE).is_file()), None)
    path = path or _download_pages(FacebookPagePage.url)
    _check_pages(path)
    used[_PAGE_FILE] = digest(_PAGE_FILE)  # its features may be one reduction or another
    with tempfile.TemporaryDirectory() as root:  # PyG writes beside the raw file, which may stand in a read-only folder
        (Path(root) / "raw").mkdir()
        shutil.copyfile(path, Path(root) / "raw" / path.name)
        with contextlib.redirect_stderr(io.StringIO()):  # PyG reports its progress there
            graph = FacebookPagePage(root)[0]
    return Network("Facebook Page-Page", PAGES, graph.x, graph.y, graph.edge_index)


def _check_pages(path: Path) -> None:
    trouble = "it cannot be read"
    with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
        with np.load(path, allow_pickle=False) as arrays:
            features = arrays["features"]
            shape, found = features.shape, graph_digest(arrays["edges"], arrays["target"])
        if not np.isfinite(features).all() or (features.std(0) == 0).any():
            shape = f"{shape}, some of them constant or not finite"
        elif shape == (sum(_PAGE_COUNTS), 128) and found == _PAGE_DIGEST:
            return
        trouble = f"features {shape}, edges and labels {found}; expected {(sum(_PAGE_COUNTS), 128)}, {_PAGE_DIGEST}"
    raise DamagedData(f"{path} is not the published graph: {trouble}; delete it, or point BOOK_DATA elsewhere")


def _download_pages(url: str, timeout: float = 15) -> Path:
    import pooch
    from filelock import FileLock

    folder = writable(data_folders(), _PAGE_FILE)
    path = folder / _PAGE_FILE
    with FileLock(folder / ".download.lock"):
        if path.is_file():  # another kernel was faster
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as partial:
            target = Path(partial) / path.name
            try:
                pooch.HTTPDownloader(timeout=timeout)(url, str(target), None)
            except Exception as error:  # a server fails in many ways; all mean that there are no data
                raise NoData(f"{url}: {type(error).__name__}; put the file under BOOK_DATA as {_PAGE_FILE}, "
                             'or choose DATA="stand-in"') from error
            _check_pages(target)
            target.replace(path)
    return path


@functools.cache
def _load_block_model(within: float = 4.0, across: float = 1.5, signal: float = 0.17) -> Network:
    """Four blocks; a node has about `within` neighbours in its own block and at most `across` elsewhere."""
    rng = np.random.default_rng(0)
    counts = np.array([3327, 1650, 700, 400])
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    members = [np.flatnonzero(labels == label) for label in range(len(counts))]
    pairs = []
    for first in range(len(counts)):
        for second in range(first, len(counts)):
            share = within / 2 if first == second else across * counts[second] / counts.sum()
            size = rng.poisson(counts[first] * share)
            pairs.append(np.stack([rng.choice(members[block], size) for block in (first, second)]))
    edges = np.concatenate(pairs, axis=1)
    edges = np.unique(np.sort(edges[:, edges[0] != edges[1]], axis=0), axis=1)
    edges = np.concatenate([edges, edges[::-1]], axis=1)
    centres = rng.normal(size=(len(counts), 128))
    features = signal * centres[labels] + rng.normal(size=(len(labels), 128))
    return Network("stand-in for Facebook Page-Page", PAGES, torch.tensor(features, dtype=torch.float32),
                   torch.tensor(labels), torch.tensor(np.ascontiguousarray(edges)))
