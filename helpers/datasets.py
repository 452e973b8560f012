"""Data sets: the real ones, checked by hash; long tails cut from them; stand-ins for a machine without network.

Every loader looks in ``$BOOK_DATA`` and in the user's cache folder, downloads what is missing, and with ``data="auto"``
falls back to a stand-in that ships with the packages. A stand-in is announced wherever it is used.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

CHOICES = ("auto", "real", "stand-in")


class NoData(RuntimeError):
    """Raised when a data set is neither on this machine nor to be had from the network."""


class DamagedData(RuntimeError):
    """Raised when a file is there but is not the published one, byte for byte."""


# --------------------------------------------------------------------------------------------------------------------
# Files: where they are, how they come, how they are checked
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Resource:
    """One published file.

    Parameters
    ----------
    path : str
        Where it lies below the data folder, for example ``"MNIST/raw/train-images-idx3-ubyte"``.
    sha256 : str
        Hash of the file as it is used (after unpacking).
    urls : tuple of str
        Where it can be had; the mirrors are tried in turn.
    unpack : callable, optional
        Turns the downloaded bytes into the file's bytes.
    """

    path: str
    sha256: str
    urls: tuple[str, ...]
    unpack: Callable[[bytes], bytes] = bytes


def cache_folder() -> Path:
    """The user's own folder for what the book downloads or processes."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("learning-from-imbalanced-data"))


def data_folders() -> list[Path]:
    """The folders searched, in order: ``$BOOK_DATA`` where it is set, then the user's cache folder."""
    chosen = os.environ.get("BOOK_DATA")
    return [*([Path(chosen).expanduser()] if chosen else []), cache_folder()]


def sha256(content: bytes) -> str:
    """Hash of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def fetch(resource: Resource) -> Path:
    """Find a published file on this machine, or download it.

    The download is checked by hash and moved into place in one step, under a lock, so that a file that exists is whole.

    Returns
    -------
    pathlib.Path
        The checked file.

    Raises
    ------
    DamagedData
        If the file in ``$BOOK_DATA``, or every download of it, has another hash.
    NoData
        If no mirror answers, or no folder can be written to.
    """
    folders = data_folders()
    for folder in folders:
        path = folder / resource.path
        if path.is_file():
            found = sha256(path.read_bytes())
            if found == resource.sha256:
                return path
            if folder != cache_folder():
                raise DamagedData(f"{path} is damaged: sha256 {found[:12]}…, expected {resource.sha256[:12]}…; "
                                  "delete it, or point BOOK_DATA elsewhere")
    folder = _writable(folders)
    from filelock import FileLock

    with FileLock(folder / ".download.lock"):
        path = folder / resource.path
        if path.is_file() and sha256(path.read_bytes()) == resource.sha256:  # another kernel was faster
            return path
        content = _download(resource)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as partial:
            partial.write(content)
        Path(partial.name).replace(path)
    return path


def _writable(folders: list[Path]) -> Path:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
    raise NoData(f"cannot write to {' or '.join(map(str, folders))}: set BOOK_DATA to a folder that you may write to, "
                 "or to one that holds the data")


def _download(resource: Resource, attempts: int = 2, timeout: float = 15) -> bytes:
    import pooch

    troubles = []
    for url in resource.urls * attempts:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "download"
            try:
                pooch.HTTPDownloader(timeout=timeout)(url, str(target), None)
                content = resource.unpack(target.read_bytes())
            except Exception as error:  # a mirror fails in many ways; each is reported below
                troubles.append(f"{url}: {type(error).__name__}")
                continue
        found = sha256(content)
        if found == resource.sha256:
            return content
        troubles.append(f"{url}: sha256 {found[:12]}…, expected {resource.sha256[:12]}…")
    kind = DamagedData if any("expected" in trouble for trouble in troubles) else NoData
    raise kind(f"{resource.path} could not be had ({'; '.join(dict.fromkeys(troubles))}); put it under BOOK_DATA, "
               'or choose DATA="stand-in"')


def resolve(data: str, real: Callable, stand_in: Callable):
    """Load the real data or the stand-in, as `data` asks: the one place where that choice is made.

    Parameters
    ----------
    data : {"auto", "real", "stand-in"}
        "auto" takes the real data where they can be had and the stand-in elsewhere, with a banner.
    real, stand_in : callable
        Loaders without arguments. `real` raises `NoData` where there are none.

    Raises
    ------
    ValueError
        If `data` is none of the three.
    NoData
        If ``data="real"`` and there are none.
    """
    if data not in CHOICES:
        raise ValueError(f"data={data!r} is unknown; choose one of {', '.join(CHOICES)}")
    if data == "stand-in":
        return stand_in()
    try:
        return real()
    except NoData:
        if data == "real":
            raise
        return stand_in()


@functools.cache
def announce(what: str, instead: str) -> None:
    """Say, once a kernel and on the page, that a stand-in replaces real data."""
    text = f"Stand-in data: {instead} in place of {what}. The numbers on this page are not results."
    from IPython import get_ipython
    from IPython.display import HTML, display

    if get_ipython() is None:
        print(text, file=sys.stderr)
    else:
        title = '<p class="admonition-title">Stand-in data</p>'
        display(HTML(f'<div class="admonition warning">{title}<p>{text}</p></div>'))


# --------------------------------------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """Samples and their labels, in memory.

    Attributes
    ----------
    inputs : torch.Tensor
        Shape (N, ...). Images are ``uint8`` of shape (N, channels, height, width); features are ``float32``.
    labels : torch.Tensor
        Shape (N,), ``int64``.
    """

    inputs: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows) -> Split:
        return Split(self.inputs[rows], self.labels[rows])


@dataclass(frozen=True)
class Dataset:
    """One draw of a data set: training, validation and test split.

    Attributes
    ----------
    name : str
        As it stands in the results; a stand-in's name begins with ``"stand-in"``.
    class_names : tuple of str
    train, val, test : Split
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split

    @property
    def class_counts(self) -> torch.Tensor:
        """Training samples of each class, shape (classes,)."""
        return torch.bincount(self.train.labels, minlength=len(self.class_names))

    @property
    def is_stand_in(self) -> bool:
        """Whether the data are a stand-in, whose numbers are not results."""
        return self.name.startswith("stand-in")


@dataclass(frozen=True)
class Pool:
    """All training and test images of a data set. Images of one `group` are copies of each other and stay together."""

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    groups: torch.Tensor


DIGITS = tuple("0123456789")
GARMENTS = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")

_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/")
_IMAGE_SETS = {
    "MNIST": (DIGITS, _MNIST, {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"}),
    "FashionMNIST": (GARMENTS, _FASHION, {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"}),
}


def load_images(name: str, data: str = "auto") -> Pool:
    """Load a whole image data set.

    Parameters
    ----------
    name : {"MNIST", "FashionMNIST"}
    data : {"auto", "real", "stand-in"}

    Returns
    -------
    Pool
        Images are ``uint8``, shape (N, 1, 28, 28).

    Examples
    --------
    >>> load_images("MNIST", data="stand-in").train.inputs.shape[1:]
    torch.Size([1, 28, 28])
    """
    if name not in _IMAGE_SETS:
        raise ValueError(f"name={name!r} is unknown; choose one of {', '.join(_IMAGE_SETS)}")
    pool = resolve(data, functools.partial(_load_idx, name), functools.partial(_load_stand_in, name))
    if pool.name.startswith("stand-in"):
        announce(name, "scikit-learn's handwritten digits")
    return pool


@functools.cache
def _load_idx(name: str) -> Pool:
    from torchvision import datasets

    class_names, mirrors, hashes = _IMAGE_SETS[name]
    paths = {fetch(Resource(f"{name}/raw/{file}", digest, tuple(f"{mirror}{file}.gz" for mirror in mirrors),
                            gzip.decompress)) for file, digest in hashes.items()}
    roots = {path.parents[2] for path in paths}
    if len(roots) > 1:
        raise DamagedData(f"the files of {name} are spread over {', '.join(map(str, sorted(roots)))}: "
                          "keep them in one folder")
    (root,) = roots
    train, test = (getattr(datasets, name)(root, train=part) for part in (True, False))
    splits = [Split(part.data[:, None], part.targets.long()) for part in (train, test)]
    return Pool(name, class_names, *splits, torch.arange(len(train)))


@functools.cache
def _load_stand_in(name: str) -> Pool:
    """scikit-learn's digits, enlarged to 28×28; the training images come in nine shifted copies each."""
    from sklearn.datasets import load_digits
    from torch.nn import functional as F

    digits = load_digits()
    small = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = F.pad(F.interpolate(small, size=(20, 20), mode="bilinear"), (4, 4, 4, 4))
    images, labels = (images * 255).round().to(torch.uint8), torch.tensor(digits.target)
    rank = torch.stack([(labels[:row] == label).sum() for row, label in enumerate(labels)])
    held_out = rank < 40
    shifts = [(down, right) for down in (-2, 0, 2) for right in (-2, 0, 2)]
    kept, originals = images[~held_out], labels[~held_out]
    copies = torch.stack([kept.roll(shift, dims=(-2, -1)) for shift in shifts], dim=1).flatten(0, 1)
    groups = torch.arange(len(kept)).repeat_interleave(len(shifts))
    return Pool(f"stand-in for {name}", _IMAGE_SETS[name][0], Split(copies, originals[groups]),
                Split(images[held_out], labels[held_out]), groups)


def long_tailed_counts(largest: int, ratio: float, classes: int) -> list[int]:
    """Class sizes that fall off exponentially from `largest` to ``largest / ratio``.

    Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019, section 5.1.

    Examples
    --------
    >>> long_tailed_counts(6000, 100, 10)
    [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]
    """
    if ratio < 1:
        raise ValueError(f"ratio={ratio} is below 1; give the largest class over the smallest, 1 or more")
    if classes < 2:
        raise ValueError(f"classes={classes}: a long tail needs at least 2")
    return [int(largest * (1 / ratio) ** (rank / (classes - 1))) for rank in range(classes)]


def long_tailed(name: str = "MNIST", *, ratio: float = 100, validation: int = 100, seed: int = 0,
                data: str = "auto") -> Dataset:
    """Cut a long tail into a data set; class 0 stays the largest.

    First a balanced validation set leaves the training pool, then class c keeps at most
    ``int(6000 · ratio^(−c/9))`` of what remains. The test split is the published one, whole and in order.

    Parameters
    ----------
    name : {"MNIST", "FashionMNIST"}
    ratio : float
        Imbalance ratio: largest class over smallest.
    validation : int
        Validation images of each class. With 0, the validation split **is** the test split: what the literature does,
        and what the book does only under the `source` protocol.
    seed : int
        Decides the draw of validation and training images.
    data : {"auto", "real", "stand-in"}

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        If `ratio` is below 1, or `validation` is negative or leaves too little to train on.

    Examples
    --------
    >>> long_tailed("MNIST", ratio=10, validation=50, data="stand-in").class_counts[[0, 9]].tolist()
    [1188, 128]
    """
    pool = load_images(name, data)
    labels, classes = pool.train.labels, len(pool.class_names)
    available = torch.bincount(labels, minlength=classes)
    if not 0 <= validation <= available.min() // 2:
        raise ValueError(f"validation={validation} images a class; accepted: 0 to {int(available.min()) // 2}, half of "
                         f"the smallest class of {pool.name}")
    largest = 6000 if pool.name == name else int(available.max())
    generator = torch.Generator().manual_seed(seed)
    kept, held_out = [], []
    for label, count in enumerate(long_tailed_counts(largest, ratio, classes)):
        members = (labels == label).nonzero().flatten()
        groups = pool.groups[members].unique()
        order = groups[torch.randperm(len(groups), generator=generator)]
        place = torch.empty(int(pool.groups.max()) + 1, dtype=torch.long)
        place[order] = torch.arange(len(order))
        members = members[place[pool.groups[members]].argsort(stable=True)]  # copies of one image stay side by side
        copies = len(members) // len(groups)
        cut = -(-validation // copies) * copies
        held_out.append(members[:cut][:validation])
        rest = members[cut:]
        kept.append(rest[torch.randperm(len(rest), generator=generator)][:count])
    train = pool.train[torch.cat(kept)]
    val = pool.train[torch.cat(held_out)] if validation else pool.test
    return Dataset(pool.name.replace(name, f"{name}-LT"), pool.class_names, train, val, pool.test)


# --------------------------------------------------------------------------------------------------------------------
# Graphs
# --------------------------------------------------------------------------------------------------------------------


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
    be made in more than one way, so only their shape is checked: name them by their digest where you report results.

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
            shape, found = arrays["features"].shape, graph_digest(arrays["edges"], arrays["target"])
        if shape == (sum(_PAGE_COUNTS), 128) and found == _PAGE_DIGEST:
            return
        trouble = f"features {shape}, edges and labels {found}; expected {(sum(_PAGE_COUNTS), 128)}, {_PAGE_DIGEST}"
    raise DamagedData(f"{path} is not the published graph: {trouble}; delete it, or point BOOK_DATA elsewhere")


def _download_pages(url: str, timeout: float = 15) -> Path:
    import pooch
    from filelock import FileLock

    folder = _writable(data_folders())
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


# --------------------------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Messages:
    """Short messages and whether they are spam.

    Attributes
    ----------
    name : str
        As it stands in the results; a stand-in's name begins with ``"stand-in"``.
    texts : tuple of str
    labels : numpy.ndarray
        Shape (N,), ``int64``: 1 is spam.
    """

    name: str
    texts: tuple[str, ...]
    labels: np.ndarray


def _unzip(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("SMSSpamCollection")


_MESSAGES = Resource(
    "SMSSpam/SMSSpamCollection", "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
    ("https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
     "https://archive.ics.uci.edu/ml/machine-learning-databases/00228/smsspamcollection.zip"), _unzip)


def load_messages(data: str = "auto") -> Messages:
    """Load the SMS Spam Collection: 5,574 messages, 747 of them spam.

    Almeida, Gómez Hidalgo and Yamakami, "Contributions to the study of SMS spam filtering", DocEng 2011.

    Parameters
    ----------
    data : {"auto", "real", "stand-in"}

    Returns
    -------
    Messages

    Examples
    --------
    >>> messages = load_messages("stand-in")
    >>> len(messages.texts), int(messages.labels.sum())
    (1500, 201)
    """
    messages = resolve(data, _load_sms, _load_made_up_messages)
    if messages.name.startswith("stand-in"):
        announce("the SMS Spam Collection", "made-up messages")
    return messages


@functools.cache
def _load_sms() -> Messages:
    lines = fetch(_MESSAGES).read_text(encoding="utf-8").rstrip("\n").split("\n")
    labels, texts = zip(*(line.split("\t", 1) for line in lines), strict=True)
    return Messages("SMS Spam", texts, np.array([label == "spam" for label in labels], dtype=np.int64))


_HAM = (
    "{hi} {name}, are u coming {when}?", "{hi}! {tail} call me {when}", "im {late} n stuck at {place}, {tail}",
    "cant talk now, at {place}. txt u {when}", "did {name} get the {thing}? need it {when}", "ok {tail}",
    "happy bday {name}!! c u {when} at {place}", "pls bring the {thing} {when}, {tail}",
    "lol {name} is so {late} {tail}", "mum says {name} won a {prize} at {place} lol",
    "can u call {name} about the {thing}? its free {when}", "meeting moved to {when}, {place}. reply if ok",
    "{name} forgot the {thing} again {tail}")
_SPAM = (
    "WINNER! You have won a {prize}. Call {number} now to claim. {small}",
    "Call {number} for half price {prize} {when}", "FREE {prize} for our customers! Txt {word} to {short}. {small}",
    "URGENT {name}, your {prize} is waiting. Reply {word} or call {number}. {small}",
    "Your account has {prize} waiting, visit {place}",
    "Hi {name}, want to chat {when}? Txt {word} to {short}. {small}", "{hi} its {name}, got the {thing}, ring {number}")
_SLOTS = {slot: words.split("|") for slot, words in {
    "hi": "hey|hiya|yo|hi|heya mate|gm|alrite", "name": "Sam|Priya|Tom|Wei|Ana|Joe|Mei|Ola",
    "when": "2nite|tmrw|l8r|in 5 min|at 6|on sat|after class|now|b4 lunch|this wk",
    "late": "knackered|l8|sleepy|skint|bored|busy|hungry", "tail": "lol|haha|ttyl|x|k?|omg|:)|thx|np|😀|cya",
    "place": "work|the gym|uni|home|the pub|town|the shop|lib",
    "thing": "keys|notes|tickets|charger|book|bill|pics|phone", "word": "WIN|YES|CLAIM|GO|PLAY|HOT",
    "prize": "£500 prize|cruise|new mobile|ringtone|£100 voucher|holiday for 2|camera phone|gift card",
    "small": "T&Cs apply|16+ only|Std txt rate|To stop txt STOP|150p/msg",
}.items()}


@functools.cache
def _load_made_up_messages(size: int = 1500) -> Messages:
    """Messages from templates: slang, near-duplicates that differ in a number, some told twice, some hard to tell."""
    rng = np.random.default_rng(0)
    labels = rng.permutation((np.arange(size) < round(size * 747 / 5574)).astype(np.int64))

    def message(spam: int) -> str:
        chosen = {slot: str(rng.choice(words)) for slot, words in _SLOTS.items()}
        numbers = {"number": f"09{rng.integers(10**8):08d}", "short": str(rng.integers(80000, 90000))}
        parts = [str(rng.choice(_SPAM if spam else _HAM))]
        if not spam:
            parts += [str(rng.choice(_HAM)) for _ in range(rng.integers(3))]
        return " ".join(parts).format(**chosen, **numbers)

    texts: list[str] = []
    for place, label in enumerate(labels):
        earlier = np.flatnonzero(labels[:place] == label)
        again = len(earlier) > 0 and rng.random() < 0.08
        texts.append(texts[int(rng.choice(earlier))] if again else message(label))
    return Messages("stand-in for SMS Spam", tuple(texts), labels)


_LANGUAGE_DATA = {"wordnet": "corpora", "averaged_perceptron_tagger_eng": "taggers"}


def find_nltk_data(timeout: float = 10) -> Path | None:
    """Find WordNet and the English tagger for nltk, or have nltk download them; tells nltk where they are.

    Looks in ``$BOOK_DATA/nltk_data``, in ``$NLTK_DATA`` and in the user's cache folder, where a download goes.

    Returns
    -------
    pathlib.Path or None
        The folder, or None where there is neither a copy nor a network.
    """
    import nltk

    cached = cache_folder() / "nltk_data"
    elsewhere = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    folders = [folder / "nltk_data" for folder in data_folders()[:-1]] + [*elsewhere, cached]
    found = next(filter(_has_language_data, folders), None)
    if found is None and _download_language_data(cached, timeout):
        found = cached
    if found is not None and str(found) not in nltk.data.path:
        nltk.data.path.insert(0, str(found))
    return found


def _has_language_data(folder: Path) -> bool:
    return all((folder / kind / name).is_dir() or (folder / kind / f"{name}.zip").is_file()
               for name, kind in _LANGUAGE_DATA.items())


def _download_language_data(folder: Path, timeout: float) -> bool:
    import socket

    import nltk
    from filelock import FileLock

    before = socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            socket.setdefaulttimeout(timeout)  # nltk has no timeout of its own
            return _has_language_data(folder) or (
                all(nltk.download(name, download_dir=str(folder), quiet=True) for name in _LANGUAGE_DATA)
                and _has_language_data(folder))
    except (OSError, ValueError):  # a read-only folder, no network, an answer that is no index
        return False
    finally:
        socket.setdefaulttimeout(before)
