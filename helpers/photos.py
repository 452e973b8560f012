"""CIFAR-10, small colour photos: the field's usual benchmark."""

from __future__ import annotations

import functools
import io
import itertools
import tarfile

import numpy as np
import torch

from helpers.datasets import Pool, Split
from helpers.files import DamagedData, Resource, announce, data_folders, digest, fetch, resolve, sha256, used

OBJECTS = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_ARCHIVE = Resource(
    "CIFAR10/cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",))
_COPIES = {"train": "9115696a771e96e3043f2d259f2f38d928cf60dcd5773729a9564e5fdb3d7659",
           "test": "b003fe1c405c2fb499fd39de1ac8f62fed80c9426f13802f5946343e4b3f04cd"}


def load_photos(data: str = "auto") -> Pool:
    """Load CIFAR-10: 5,000 training and 1,000 test photos of each of ten objects.

    Krizhevsky, "Learning multiple layers of features from tiny images", 2009. Where ``CIFAR10jpeg`` lies in a data
    folder and the published archive does not, its JPEG copies are taken: the same photos, slightly other pixels, and
    the name says so.

    Parameters
    ----------
    data : {"auto", "real", "stand-in"}

    Returns
    -------
    Pool
        Images are ``uint8``, shape (N, 3, 32, 32).

    Examples
    --------
    >>> load_photos("stand-in").test.inputs.shape[1:]
    torch.Size([3, 32, 32])
    """
    pool = resolve(data, _load_real, _load_gratings)
    if pool.name.startswith("stand-in"):
        announce("CIFAR-10", "coloured gratings")
    return pool


@functools.cache
def _load_real() -> Pool:
    local = [folder for folder in data_folders() if (folder / _ARCHIVE.path).is_file()]
    copies = [folder / "CIFAR10jpeg" for folder in data_folders() if (folder / "CIFAR10jpeg").is_dir()]
    if copies and not local:
        parts = [_decode(copies[0] / f"{part}.npz", expected) for part, expected in _COPIES.items()]
        pool = _pool("CIFAR10, JPEG copies", *parts)
    else:
        with tarfile.open(fetch(_ARCHIVE)) as archive:
            parts = [b"".join(archive.extractfile(f"cifar-10-batches-bin/{name}.bin").read() for name in names)
                     for names in ([f"data_batch_{number}" for number in range(1, 6)], ["test_batch"])]
        pool = _pool("CIFAR10", *(_records(part) for part in parts))
    used[_ARCHIVE.path] = digest(_ARCHIVE.path)  # a stored run is of the archive, or of copies where there was none
    return pool


def _records(content: bytes) -> Split:
    """One byte of label and 3,072 of pixels, red, green, blue, row by row, a photo."""
    rows = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return Split(rows[:, 1:].reshape(-1, 3, 32, 32).clone(), rows[:, 0].long())


def _decode(path, expected: str) -> Split:
    from PIL import Image

    content = path.read_bytes() if path.is_file() else b""
    if sha256(content) != expected:
        raise DamagedData(f"{path} is missing or damaged: sha256 {sha256(content)[:12]}…, expected {expected[:12]}…")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        jpeg, offsets, labels = (arrays[name] for name in ("jpeg", "offsets", "labels"))
    photos = np.empty((len(labels), 32, 32, 3), dtype=np.uint8)
    for row, (start, end) in enumerate(itertools.pairwise(offsets)):
        photos[row] = Image.open(io.BytesIO(jpeg[start:end].tobytes())).convert("RGB")
    return Split(torch.from_numpy(photos).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels.astype(np.int64)))


@functools.cache
def _load_gratings() -> Pool:
    """Each class a direction and a colour, in noise."""
    rng = np.random.default_rng(0)
    across, down = np.meshgrid(np.arange(32), np.arange(32))

    def photos(per_class: int) -> Split:
        labels = np.repeat(np.arange(10), per_class)
        angle, phase = labels * np.pi / 10 + rng.normal(0, 0.1, len(labels)), rng.uniform(0, 2 * np.pi, len(labels))
        wave = np.sin((np.cos(angle)[:, None, None] * across + np.sin(angle)[:, None, None] * down) / 2
                      + phase[:, None, None])
        tint = 0.5 + 0.5 * np.cos(2 * np.pi * (labels[:, None] / 10 + np.array([0, 1, 2]) / 3))
        value = 128 + 50 * wave[:, None] * tint[:, :, None, None] + rng.normal(0, 40, (len(labels), 3, 32, 32))
        return Split(torch.from_numpy(value.clip(0, 255).astype(np.uint8)), torch.from_numpy(labels))

    return _pool("stand-in for CIFAR10", photos(800), photos(50))


def _pool(name: str, train: Split, test: Split) -> Pool:
    return Pool(name, OBJECTS, train, test, torch.arange(len(train)))
