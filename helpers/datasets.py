"""Image sets: splits, and long tails cut from them."""

from __future__ import annotations

import functools
import gzip
import io
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from helpers.files import DamagedData, Resource, announce, fetch, resolve


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
    train : Split
    val : Split
    test : Split
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    val: Split
    test: Split

    @classmethod
    def from_arrays(cls, inputs, labels, *, name: str = "your data", class_names: Sequence[str] | None = None,
                    groups=None, validation: float = 0.2, test: float = 0.2, seed: int = 0) -> Dataset:
        """Split your own arrays into training, validation and test samples; every class keeps its share in each.

        Parameters
        ----------
        inputs : array, tensor or data frame, shape (N, ...)
            Images as ``uint8`` of shape (N, channels, height, width); everything else becomes ``float32``.
        labels : sequence, shape (N,)
            Numbers or words. Sorted, they become the classes 0, 1, ….
        name : str
            As it shall stand in the results.
        class_names : sequence of str, optional
            In the order of the sorted labels, which are taken themselves unless given.
        groups : sequence, shape (N,), optional
            Samples of one group (a patient, a scene, copies of one image) stay on one side of every split.
        validation, test : float
            Shares of the samples.
        seed : int
            Decides the splits.

        Raises
        ------
        ValueError
            If shapes do not agree, inputs are not finite, or a class has too few samples (or groups) to be split.

        Examples
        --------
        >>> data = Dataset.from_arrays(np.eye(40), ["common"] * 30 + ["rare"] * 10)
        >>> data.class_names, data.class_counts.tolist(), len(data.test)
        (('common', 'rare'), [18, 6], 8)
        """
        inputs = inputs if isinstance(inputs, torch.Tensor) else torch.tensor(np.asarray(inputs))
        inputs = inputs if inputs.dtype == torch.uint8 else inputs.float()
        known, numbers = np.unique(np.asarray(labels), return_inverse=True)
        names = tuple(str(one) for one in (known if class_names is None else class_names))
        own = np.arange(len(numbers)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        if not len(inputs) == len(numbers) == len(own) or len(names) != len(known):
            raise ValueError(f"{len(inputs)} inputs, {len(numbers)} labels, {len(own)} groups, {len(known)} classes "
                             f"and {len(names)} names do not belong together")
        if not bool(torch.isfinite(inputs).all()):
            raise ValueError("the inputs hold NaN or infinity: fill or drop those samples first")
        if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
            raise ValueError(f"validation={validation} and test={test} must be shares above 0, and leave some to train")
        parts = _grouped(numbers, own, (1 - validation - test, validation, test), seed)
        for label, one in enumerate(names):
            if any(not (numbers[rows] == label).any() for rows in parts):
                raise ValueError(f"class {one!r} has {(numbers == label).sum()} samples in "
                                 f"{len(np.unique(own[numbers == label]))} groups: too few for three splits")
        labels = torch.as_tensor(numbers)
        return cls(name, names, *(Split(inputs[rows], labels[rows]) for rows in parts))

    @property
    def class_counts(self) -> torch.Tensor:
        """Training samples of each class, shape (classes,)."""
        return torch.bincount(self.train.labels, minlength=len(self.class_names))

    @property
    def is_stand_in(self) -> bool:
        """Whether the data are a stand-in, whose numbers are not results."""
        return self.name.startswith("stand-in")


def _grouped(labels: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int) -> list[np.ndarray]:
    """Rows of each part: class by class, groups in a random order go to the part that lacks most."""
    rng = np.random.default_rng(seed)
    member = np.full(groups.max() + 1, -1)
    for label in np.argsort(np.bincount(labels), kind="stable"):  # the rarest first: a group can hold several classes
        rows = np.flatnonzero(labels == label)
        lacking = np.array(shares) * len(rows)
        sizes = np.bincount(groups[rows], minlength=len(member))
        for group in (order := rng.permutation(np.unique(groups[rows])))[member[order] >= 0]:
            lacking[member[group]] -= sizes[group]
        for group in order[member[order] < 0]:
            member[group] = np.argmax(lacking)
            lacking[member[group]] -= sizes[group]
    return [np.flatnonzero(member[groups] == part) for part in range(len(shares))]


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


def gunzip(content: bytes, limit: int = 2**26) -> bytes:
    """Unpack a gzip file, up to `limit` bytes: a mirror's file is unpacked before its hash is known.

    Raises
    ------
    ValueError
        If there is more in it.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
        found = packed.read(limit + 1)
    if len(found) > limit:
        raise ValueError(f"more than {limit:,} bytes are packed in {len(content):,}")
    return found


@functools.cache
def _load_idx(name: str) -> Pool:
    from torchvision import datasets

    class_names, mirrors, hashes = _IMAGE_SETS[name]
    paths = {fetch(Resource(f"{name}/raw/{file}", digest, tuple(f"{mirror}{file}.gz" for mirror in mirrors),
                            gunzip)) for file, digest in hashes.items()}
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
    if not isinstance(ratio, int | float) or not 1 <= ratio < math.inf:
        raise ValueError(f"ratio={ratio!r}: give the largest class over the smallest, a number of 1 or more")
    if classes < 2:
        raise ValueError(f"classes={classes}: a long tail needs at least 2")
    counts = [int(largest * (1 / ratio) ** (rank / (classes - 1))) for rank in range(classes)]
    if counts[-1] < 1:
        raise ValueError(f"ratio={ratio} leaves {counts.count(0)} classes of {classes} without a sample; "
                         f"with {largest} in the largest, give {largest} at most")
    return counts


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
    return cut_tail(pool, ratio=ratio, validation=validation, seed=seed, largest=6000 if pool.name == name else None)


def validated_by_a_fifth(name: str, seed: int = 0, data: str = "auto") -> Dataset:
    """A long tail of which a random fifth validates, as long-tailed as the rest: what several sources do.

    Examples
    --------
    >>> drawn = validated_by_a_fifth("MNIST", data="stand-in")
    >>> round(len(drawn.train) / len(drawn.val), 1)
    4.0
    """
    drawn = long_tailed(name, validation=0, seed=seed, data=data)
    order = torch.randperm(len(drawn.train), generator=torch.Generator().manual_seed(seed))
    cut = len(order) // 5
    return replace(drawn, train=drawn.train[order[cut:]], val=drawn.train[order[:cut]])


def cut_tail(pool: Pool, *, ratio: float = 100, validation: int = 100, seed: int = 0, largest: int | None = None,
             order: Sequence[int] | None = None) -> Dataset:
    """Cut a long tail into a pool of images, in any order of its classes.

    First a balanced validation set leaves the training images, then class c of C keeps at most
    ``int(largest · ratio^(−c/(C−1)))`` of what remains. The test split stays whole.

    Parameters
    ----------
    pool : Pool
    ratio : float
        Imbalance ratio: largest class over smallest.
    validation : int
        Validation images of each class. With 0, the validation split **is** the test split.
    seed : int
        Decides the draw of validation and training images.
    largest : int, optional
        Size that the tail begins with; that of the pool's largest class unless given.
    order : sequence of int, optional
        The pool's classes from the commonest to the rarest; the first becomes class 0.

    Raises
    ------
    ValueError
        If `order` does not name every class once, `ratio` is below 1, `seed` is no whole number, or `validation` is
        negative or leaves too little to train on.

    Examples
    --------
    >>> data = cut_tail(load_images("MNIST", "stand-in"), validation=50, order=range(9, -1, -1))
    >>> data.class_names[0], data.class_counts[[0, 9]].tolist()
    ('9', [1206, 12])
    """
    if not hasattr(seed, "__index__") or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or more")
    labels, classes = pool.train.labels, len(pool.class_names)
    order = list(range(classes) if order is None else order)
    if sorted(order) != list(range(classes)):
        raise ValueError(f"order={order} must name each of the classes 0 to {classes - 1} once")
    available = torch.bincount(labels, minlength=classes)
    if not 0 <= validation <= available.min() // 2:
        raise ValueError(f"validation={validation} images a class; accepted: 0 to {int(available.min()) // 2}, half of "
                         f"the smallest class of {pool.name}")
    largest = int(available.max()) if largest is None else largest
    generator = torch.Generator().manual_seed(operator.index(seed))
    kept, held_out = [], []
    for label, count in zip(order, long_tailed_counts(largest, ratio, classes), strict=True):
        members = (labels == label).nonzero().flatten()
        groups = pool.groups[members].unique()
        shuffled = groups[torch.randperm(len(groups), generator=generator)]
        place = torch.empty(int(pool.groups.max()) + 1, dtype=torch.long)
        place[shuffled] = torch.arange(len(shuffled))
        members = members[place[pool.groups[members]].argsort(stable=True)]  # copies of one image stay side by side
        copies = len(members) // len(groups)
        cut = -(-validation // copies) * copies
        held_out.append(members[:cut][:validation])
        rest = members[cut:]
        kept.append(rest[torch.randperm(len(rest), generator=generator)][:count])
    rank = torch.tensor(order).argsort()
    train, val, test = (Split(part.inputs, rank[part.labels]) for part in (
        pool.train[torch.cat(kept)], pool.train[torch.cat(held_out)] if validation else pool.test, pool.test))
    return Dataset(f"{pool.name}-LT", tuple(pool.class_names[label] for label in order), train, val, test)
