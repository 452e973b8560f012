"""Tables with a rare class: thirteen published sets, their exact duplicates, splits that keep duplicates together."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.files import Resource, announce, fetch, resolve, sha256


class Published(NamedTuple):
    """What is known of a published table: its size, and the file that it comes in."""

    rows: int
    features: int
    rare: int
    duplicates: int
    file: str
    sha256: str


TABLES = {
    "mammography": Published(11183, 6, 260, 3335, "23_mammography",
                             "a0308ac9712d78321073b1c2dc98dc37665c0f35c1cc33019416fe8f8d7de7ea"),
    "thyroid": Published(3772, 6, 93, 116, "38_thyroid",
                         "8de161b3f235b7647bb0b39a836d983ff61d67bf234edac461da2d71e889cb87"),
    "annthyroid": Published(7200, 6, 534, 138, "2_annthyroid",
                            "e738f7c58a8740d2c4aac4c71ff49ce5e1d1aa16f44178135fc9c09df05fad1b"),
    "satimage-2": Published(5803, 36, 71, 2, "31_satimage-2",
                            "1b056e357f801b8b20c3f380a30224a3c4088d7ed764ec5a24828dc9b1918d6f"),
    "pendigits": Published(6870, 16, 156, 0, "28_pendigits",
                           "c4936b89dcdad59d303020e492f763a0f54170080d787c77497609acbb9c2d79"),
    "optdigits": Published(5216, 64, 150, 18, "26_optdigits",
                           "60de17a375a278ba220a7849727d998aa02b5e2f9fd17732a004bba28de4656e"),
    "PageBlocks": Published(5393, 10, 510, 0, "27_PageBlocks",
                            "10a9b4d5bb5d3b9083caab4c4062f665610eada703c3d927bf7c34b1f2d0d223"),
    "Wilt": Published(4819, 5, 257, 0, "44_Wilt", "c70b72aa611ec87b20efb400943ef3ce4f8bf7aa58fcef825fbd28cc5cee3cc9"),
    "vowels": Published(1456, 12, 50, 4, "40_vowels",
                        "4bfc4244d1c882773bbbc50d4a5db5e52276e53506e46b2d45e02d074cfcb1b6"),
    "shuttle": Published(49097, 9, 3511, 0, "32_shuttle",
                         "26900b0f6be45d9ddb7a402c9b2f956ceda42d23a8ca4cf4406b8bc1352823d1"),
    "campaign": Published(41188, 62, 4640, 12, "5_campaign",
                          "74dd4d0072d6c6f1aabab63bc102f9633454f32bb936fa9bcfbd38f9f2386bcd"),
    "cover": Published(286048, 10, 2747, 0, "10_cover",
                       "945a097c3542ae81a551bf1c06dcad78a755d94f84fcaf1d60687e42d1a656df"),
    "celeba": Published(202599, 39, 4547, 88616, "8_celeba",
                        "1cadfdea14cd8d240eca715a70c09c88af8621d086a7478c63f602d97adef0b5"),
}
_ADDRESS = "https://raw.githubusercontent.com/Minqi824/ADBench/main/adbench/datasets/Classical/"


class Parts(NamedTuple):
    """Row numbers of a split, each shape (n,), in ascending order."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class Table:
    """Rows of numbers, and which of them are of the rare class.

    Attributes
    ----------
    name : str
        As it stands in the results; a stand-in's name begins with ``"stand-in"``.
    X : numpy.ndarray
        Shape (N, features), ``float64``, read-only.
    y : numpy.ndarray
        Shape (N,), ``int64``: 1 is the rare class.
    groups : numpy.ndarray
        Shape (N,), ``int64``: rows with equal features, whatever their label, have equal numbers.
    """

    name: str
    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    @property
    def is_stand_in(self) -> bool:
        """Whether the data are a stand-in, whose numbers are not results."""
        return self.name.startswith("stand-in")

    @property
    def class_counts(self) -> np.ndarray:
        """Rows of the common and of the rare class, shape (2,)."""
        return np.bincount(self.y, minlength=2)

    @property
    def digest(self) -> str:
        """Hash of features and labels, 16 hexadecimal digits, for the ``data_hash`` of `helpers.records.record`."""
        return sha256(self.X.tobytes() + self.y.tobytes())[:16]

    def __getitem__(self, rows) -> Table:
        """The table of some rows only; groups keep their numbers."""
        return Table(self.name, *map(_frozen, (self.X[rows], self.y[rows], self.groups[rows])))

    def distinct(self) -> Table:
        """One row of each group, the first, with its label: the table without its exact duplicates.

        mammography has one point 3,329 times. In a split such a point is in the training rows alone, so that they no
        longer look like the test rows; without its copies they do.
        """
        return self[np.sort(np.unique(self.groups, return_index=True)[1])]

    def sample(self, rows: int, seed: int) -> Table:
        """A random part of a large table, both classes in their proportion; the table itself where it has no more rows.

        Parameters
        ----------
        rows : int
            At least 2; one row of the rare class is always kept.
        seed : int
        """
        if rows < 2:
            raise ValueError(f"rows={rows}: give 2 or more, one of each class")
        if rows >= len(self):
            return self
        rng, rare = np.random.default_rng(seed), max(round(rows * self.y.mean()), 1)
        kept = [rng.permutation(np.flatnonzero(self.y == label))[:count]
                for label, count in ((0, rows - rare), (1, rare))]
        return self[np.sort(np.concatenate(kept))]

    def split(self, seed: int, *, validation: float = 0.2, test: float = 0.2) -> Parts:
        """Draw training, validation and test rows: classes in their proportion, duplicates always in one part.

        Groups come in a random order. Each goes to the test part if that part still lacks as many rows of its classes,
        else to validation, else to training. So a group that is larger than a part trains.

        Parameters
        ----------
        seed : int
        validation, test : float
            Shares of the rows, from 0 to below 1; what they leave is for training.

        Returns
        -------
        Parts

        Raises
        ------
        ValueError
            If the shares leave nothing to train on, or a part that was asked for gets no row of the rare class.

        Examples
        --------
        >>> parts = load_table("thyroid", data="stand-in").split(seed=0)
        >>> [len(rows) for rows in parts]
        [2264, 754, 754]
        """
        if min(validation, test) < 0 or validation + test >= 1:
            raise ValueError(f"validation={validation}, test={test}: give two shares of 0 or more, together below 1")
        _, member = np.unique(self.groups, return_inverse=True)
        sizes = np.stack([np.bincount(member, self.y == label) for label in (0, 1)], axis=1).astype(int)
        part = np.zeros(len(sizes), dtype=int)  # 0 train, 1 validation, 2 test
        order = np.random.default_rng(seed).permutation(len(sizes))
        for place, share in ((2, test), (1, validation)):
            lacking = [round(share * int(count)) for count in self.class_counts]
            for group, (common, rare) in zip(order.tolist(), sizes[order].tolist(), strict=True):
                if not any(lacking):
                    break
                if common <= lacking[0] and rare <= lacking[1] and part[group] == 0:
                    part[group] = place
                    lacking = [lacking[0] - common, lacking[1] - rare]
        train, val, held_out = (np.flatnonzero(part[member] == place) for place in range(3))
        for name, share, rows in (("training", 1, train), ("validation", validation, val), ("test", test, held_out)):
            if share and not self.y[rows].any():
                raise ValueError(f"seed={seed}: {name} gets no row of the rare class, of which {self.name} has "
                                 f"{self.class_counts[1]}; give it a larger share")
        return Parts(train, val, held_out)


def load_table(name: str, data: str = "auto") -> Table:
    """Load one of the tables of ADBench whose rare class is a class of its own.

    Han et al., "ADBench: Anomaly detection benchmark", NeurIPS 2022.

    Parameters
    ----------
    name : str
        One of `TABLES`, which has their sizes.
    data : {"auto", "real", "stand-in"}
        The stand-in is drawn by scikit-learn: as many features, as rare, with as many duplicates, at most 4,000 rows.

    Returns
    -------
    Table

    Examples
    --------
    >>> load_table("Wilt", data="stand-in").X.shape
    (4000, 5)
    """
    if name not in TABLES:
        raise ValueError(f"name={name!r} is unknown; choose one of {', '.join(TABLES)}")
    table = resolve(data, functools.partial(_load_adbench, name), functools.partial(_load_generated, name))
    if table.is_stand_in:
        announce(name, "a generated table")
    return table


@functools.cache
def _load_adbench(name: str) -> Table:
    known = TABLES[name]
    path = fetch(Resource(f"ADBench/{known.file}.npz", known.sha256, (f"{_ADDRESS}{known.file}.npz",)))
    with np.load(path, allow_pickle=False) as arrays:
        return _table(name, arrays["X"], arrays["y"])


@functools.cache
def _load_generated(name: str, largest: int = 4000) -> Table:
    """Clusters on the corners of a cube, two a class, in some of the features; copies overwrite the last rows."""
    from sklearn.datasets import make_classification

    known = TABLES[name]
    rows = min(known.rows, largest)
    rare = max(known.rare / known.rows, 40 / rows)
    X, y = make_classification(rows, known.features, n_informative=min(known.features, 5), n_redundant=0,
                               weights=[1 - rare], flip_y=0, class_sep=1.2, random_state=0)
    copies = round(rows * known.duplicates / known.rows)
    if copies:
        copied = np.random.default_rng(0).integers(rows - copies, size=copies)
        X[-copies:], y[-copies:] = X[copied], y[copied]
    return _table(f"stand-in for {name}", X, y)


def _table(name: str, X: np.ndarray, y: np.ndarray) -> Table:
    X = np.ascontiguousarray(X, dtype=np.float64) + 0.0  # no negative zeros: equal rows have equal bytes
    groups = pd.factorize(np.array([row.tobytes() for row in X], dtype=object))[0]
    return Table(name, *map(_frozen, (X, y.astype(np.int64), groups.astype(np.int64))))


def _frozen(array: np.ndarray) -> np.ndarray:
    """The array, read-only: every caller gets the same one."""
    array.flags.writeable = False
    return array
