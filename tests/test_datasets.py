"""Data: exact tails, no leakage, checked files, clear errors."""

import gzip
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import datasets, files, results
from helpers.datasets import Dataset, long_tailed, long_tailed_counts
from helpers.experiments import compare
from helpers.files import DamagedData, NoData, Resource, fetch
from helpers.models import MLP
from helpers.training import Recipe, oversample


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty $BOOK_DATA and an empty cache."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path


def resource(path="some/file", content=b"published", url="http://127.0.0.1:9/file"):
    return Resource(path, files.sha256(content), (url,))


def write(path: Path, content: bytes):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_published_counts_of_the_exponential_profile():
    assert long_tailed_counts(6000, 100, 10) == [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]
    assert long_tailed_counts(50, 1, 3) == [50, 50, 50]


@pytest.mark.data
@pytest.mark.parametrize(("name", "validation", "counts"), [
    ("MNIST", 0, [5923, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]),
    ("MNIST", 100, [5823, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]),
    ("FashionMNIST", 0, [6000, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60]),
])
def test_long_tail_has_the_published_counts(name, validation, counts):
    data = long_tailed(name, ratio=100, validation=validation, data="real")
    assert data.class_counts.tolist() == counts
    assert len(data.test) == 10_000
    assert torch.bincount(data.val.labels).tolist() == ([validation] * 10 if validation else
                                                        torch.bincount(data.test.labels).tolist())


@pytest.mark.data
def test_splits_of_the_real_pool_do_not_overlap():
    pool = datasets.load_images("MNIST", "real")
    data = long_tailed("MNIST", seed=3, data="real")
    images = [{row.numpy().tobytes() for row in part.inputs} for part in (data.train, data.val)]
    repeated = len(pool.train) - len({row.numpy().tobytes() for row in pool.train.inputs})
    assert len(images[0] & images[1]) <= repeated  # nothing but duplicates that MNIST itself has


def test_copies_of_one_stand_in_digit_never_cross_the_split():
    pool = datasets.load_images("MNIST", "stand-in")
    where = {row.numpy().tobytes(): int(group) for row, group in zip(pool.train.inputs, pool.groups, strict=True)}
    data = long_tailed("MNIST", validation=90, seed=1, data="stand-in")
    groups = [{where[row.numpy().tobytes()] for row in part.inputs} for part in (data.train, data.val)]
    assert torch.bincount(data.val.labels).tolist() == [90] * 10
    assert not groups[0] & groups[1]
    tests = {row.numpy().tobytes() for row in data.test.inputs}
    assert not tests & {row.numpy().tobytes() for row in data.train.inputs}


def test_the_seed_decides_the_draw():
    one, same, other = (long_tailed(seed=seed, data="stand-in") for seed in (5, 5, 6))
    assert torch.equal(one.train.inputs, same.train.inputs)
    assert not torch.equal(one.train.inputs, other.train.inputs)
    assert one.class_counts.tolist() == other.class_counts.tolist()


@pytest.mark.parametrize(("wrong", "words"), [
    ({"name": "CIFAR"}, ["'CIFAR'", "MNIST, FashionMNIST"]),
    ({"ratio": 0.5}, ["ratio=0.5", "1 or more"]),
    ({"validation": -1}, ["validation=-1", "0 to"]),
    ({"validation": 10**6}, ["validation=1000000", "0 to"]),
    ({"data": "fake"}, ["'fake'", "auto, real, stand-in"]),
])
def test_wrong_input_is_named_with_what_is_accepted(wrong, words):
    with pytest.raises(ValueError) as error:
        long_tailed(**{"name": "MNIST", "data": "stand-in", **wrong})
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_whole_file_is_found(folders):
    write(folders / "data/some/file", b"published")
    assert fetch(resource()) == folders / "data/some/file"


@pytest.mark.parametrize("content", [b"publishe", b"Published", b""])
def test_a_damaged_file_of_the_reader_is_never_used(folders, content):
    write(folders / "data/some/file", content)
    with pytest.raises(DamagedData, match="damaged"):
        fetch(resource())


def test_a_damaged_file_in_the_cache_is_downloaded_again(folders, monkeypatch):
    write(folders / "cache/some/file", b"half")
    monkeypatch.delenv("BOOK_DATA")
    monkeypatch.setattr(files, "_download", lambda resource: b"published")
    assert fetch(resource()).read_bytes() == b"published"
    assert not list((folders / "cache/some").glob("tmp*"))  # nothing half-written stays


def test_no_network_is_one_clear_line(folders):
    with pytest.raises(NoData, match=r"some/file could not be had .*BOOK_DATA") as error:
        fetch(resource())
    assert "\n" not in str(error.value)


def test_the_second_mirror_serves_and_a_wrong_file_is_refused(folders, monkeypatch):
    import pooch

    served = {"first": gzip.compress(b"tampered"), "second": gzip.compress(b"published")}
    monkeypatch.setattr(pooch, "HTTPDownloader",
                        lambda **_: lambda url, target, _pooch: Path(target).write_bytes(served[url]))
    two = Resource("f", files.sha256(b"published"), ("first", "second"), gzip.decompress)
    assert fetch(two).read_bytes() == b"published"
    with pytest.raises(DamagedData, match="sha256"):
        fetch(Resource("g", two.sha256, ("first",), gzip.decompress))


def test_an_unwritable_folder_is_one_clear_line(tmp_path, monkeypatch):
    blocker = tmp_path / "a file"
    blocker.write_text("")
    monkeypatch.delenv("BOOK_DATA", raising=False)
    monkeypatch.setattr(files, "cache_folder", lambda: blocker / "cache")
    with pytest.raises(NoData, match=r"some/file is missing, and .* cannot be written to.*BOOK_DATA"):
        fetch(resource())


def test_a_folder_that_is_none_stops_and_is_not_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for name in ("nowhere", "file"):
        monkeypatch.setenv("BOOK_DATA", str(tmp_path / name))
        datasets._load_idx.cache_clear()
        with pytest.raises(NotADirectoryError, match=f"{name}, which is no folder"):
            long_tailed(data="auto")
    assert not (tmp_path / "nowhere").exists()


def test_what_was_downloaded_can_be_shared(folders, monkeypatch):
    monkeypatch.setattr(files, "_download", lambda resource: b"published")
    umask = os.umask(0o022)
    try:
        assert fetch(resource()).stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(umask)


def test_a_full_disk_leaves_nothing_half_written(folders, monkeypatch):
    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(files, "_download", lambda resource: b"published")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(resource())
    assert not [path for path in (folders / "data/some").rglob("*")]


def test_a_gzip_bomb_is_not_unpacked():
    assert datasets.gunzip(gzip.compress(bytes(100)), limit=100) == bytes(100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        datasets.gunzip(gzip.compress(bytes(101)), limit=100)


@pytest.mark.parametrize("ratio", ["ten", float("nan"), None, 0.5])
def test_a_ratio_that_is_none_is_named(ratio):
    with pytest.raises(ValueError, match=r"ratio=.*a number of 1 or more"):
        long_tailed_counts(6000, ratio, 10)


def test_a_ratio_that_empties_a_class_is_refused():
    with pytest.raises(ValueError, match="without a sample; with 6000 in the largest, give 6000 at most"):
        long_tailed_counts(6000, 1e9, 10)


@pytest.mark.parametrize("seed", [-1, 1.5, "a"])
def test_a_seed_that_is_none_is_named(seed):
    with pytest.raises(ValueError, match="must be a whole number, 0 or more"):
        long_tailed(seed=seed, data="stand-in")


def test_real_data_that_are_not_there_are_an_error_and_auto_falls_back(folders, monkeypatch):
    monkeypatch.setattr(files, "_download", lambda resource: (_ for _ in ()).throw(NoData("offline")))
    datasets._load_idx.cache_clear()
    try:
        with pytest.raises(NoData, match="offline"):
            long_tailed(data="real")
        assert long_tailed(data="auto").is_stand_in
    finally:
        datasets._load_idx.cache_clear()


def test_a_stand_in_is_announced(capsys):
    files.announce.cache_clear()
    assert long_tailed(data="stand-in").name == "stand-in for MNIST-LT"
    assert "not results" in capsys.readouterr().err


@pytest.mark.data
def test_truncated_images_are_refused(tmp_path, monkeypatch):
    real = Path(os.environ["BOOK_DATA"])
    shutil.copytree(real / "MNIST", tmp_path / "MNIST", copy_function=shutil.copyfile)
    target = tmp_path / "MNIST/raw/t10k-labels-idx1-ubyte"
    target.write_bytes(target.read_bytes()[:-1])
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    datasets._load_idx.cache_clear()
    try:
        with pytest.raises(DamagedData, match="t10k-labels"):
            long_tailed(data="auto")
    finally:
        datasets._load_idx.cache_clear()


# ------------------------------------------------------------------------------------------------------- your own data

LABELS = np.array(["common"] * 90 + ["rare"] * 10)


@pytest.mark.parametrize("inputs", [np.arange(300.0).reshape(100, 3), torch.arange(300).view(100, 3),
                                    pd.DataFrame(np.arange(300).reshape(100, 3))])
def test_arrays_of_all_kinds_become_a_data_set(inputs):
    data = Dataset.from_arrays(inputs, LABELS, seed=3)
    assert data.train.inputs.dtype == torch.float32 and data.class_names == ("common", "rare")
    assert [torch.bincount(split.labels).tolist() for split in (data.train, data.val, data.test)] == [
        [54, 6], [18, 2], [18, 2]]
    rows = torch.cat([split.inputs[:, 0] for split in (data.train, data.val, data.test)])
    assert sorted(rows.tolist()) == list(range(0, 300, 3)), "every sample stands in one split"
    for split in (data.train, data.val, data.test):
        assert torch.equal(split.labels, (split.inputs[:, 0] >= 270).long()), "labels stay with their inputs"
    assert not torch.equal(data.test.inputs, Dataset.from_arrays(inputs, LABELS, seed=4).test.inputs)


def test_images_stay_bytes():
    images = torch.zeros(100, 1, 28, 28, dtype=torch.uint8)
    assert Dataset.from_arrays(images, LABELS).train.inputs.dtype == torch.uint8


def test_a_group_stays_on_one_side():
    groups = np.arange(100) // 2
    data = Dataset.from_arrays(np.arange(100.0)[:, None], LABELS, groups=groups)
    sides = [set(split.inputs[:, 0].int().div(2, rounding_mode="floor").tolist())
             for split in (data.train, data.val, data.test)]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert all((split.labels == 1).any() for split in (data.train, data.val, data.test))


@pytest.mark.parametrize(("changes", "words"), [
    ({"labels": LABELS[:50]}, "100 inputs, 50 labels"), ({"class_names": ["one"]}, "2 classes and 1 names"),
    ({"inputs": np.full((100, 3), np.nan)}, "NaN or infinity"), ({"test": 0.9}, "leave some to train"),
    ({"labels": ["common"] * 98 + ["rare"] * 2}, "class 'rare' has 2 samples in 2 groups: too few")])
def test_arrays_that_cannot_be_split_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        Dataset.from_arrays(**{"inputs": np.zeros((100, 3)), "labels": LABELS, **changes})


def test_your_own_two_classes_run_through_the_comparison():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 4)) + np.repeat([0, 2], [270, 30])[:, None]
    base = Recipe(model=partial(MLP, inputs=4), lr=0.1)
    found = compare({"baseline": base, "oversampling": replace(base, resample=oversample)},
                    lambda seed: Dataset.from_arrays(inputs, np.repeat([0, 1], [270, 30]), seed=seed),
                    seeds=[0, 1, 2], steps=60)
    shown = results.summary(found.table)
    assert {"balanced accuracy", "worst-class recall"} <= set(shown.columns)
    assert "PR-AUC" in found.table.metric.values and "tail recall" in found.table.metric.values
    assert results.mean(found.table, "baseline", "PR-AUC").mean > 0.5


def test_a_fifth_that_validates_is_a_random_fifth_and_as_long_tailed_as_the_rest():
    whole = long_tailed("FashionMNIST", validation=0, seed=3, data="stand-in")
    found, other = (datasets.validated_by_a_fifth("FashionMNIST", seed, "stand-in") for seed in (3, 4))
    assert len(found.val) == len(whole.train) // 5 and len(found.train) + len(found.val) == len(whole.train)
    together = torch.bincount(torch.cat([found.train.labels, found.val.labels]), minlength=10)
    assert torch.equal(together, whole.class_counts)
    shares = torch.bincount(found.val.labels, minlength=10) / whole.class_counts
    assert 0.15 < float(shares[0]) < 0.25, "the commonest class is no more than its share of the fifth"
    assert torch.equal(found.test.labels, whole.test.labels)
    assert not torch.equal(found.val.labels, other.val.labels)
