"""Data: exact tails, no leakage, checked files, clear errors."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
import torch

from helpers import datasets
from helpers.datasets import DamagedData, NoData, Resource, fetch, long_tailed, long_tailed_counts


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """An empty $BOOK_DATA and an empty cache."""
    monkeypatch.setenv("BOOK_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(datasets, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path


def resource(path="some/file", content=b"published", url="http://127.0.0.1:9/file"):
    return Resource(path, datasets.sha256(content), (url,))


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
    monkeypatch.setattr(datasets, "_download", lambda resource: b"published")
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
    two = Resource("f", datasets.sha256(b"published"), ("first", "second"), gzip.decompress)
    assert fetch(two).read_bytes() == b"published"
    with pytest.raises(DamagedData, match="sha256"):
        fetch(Resource("g", two.sha256, ("first",), gzip.decompress))


def test_an_unwritable_folder_is_one_clear_line(tmp_path, monkeypatch):
    blocker = tmp_path / "a file"
    blocker.write_text("")
    monkeypatch.setenv("BOOK_DATA", str(blocker / "below"))
    monkeypatch.setattr(datasets, "cache_folder", lambda: blocker / "cache")
    with pytest.raises(NoData, match=r"cannot write to .*BOOK_DATA"):
        fetch(resource())


def test_real_data_that_are_not_there_are_an_error_and_auto_falls_back(folders, monkeypatch):
    monkeypatch.setattr(datasets, "_download", lambda resource: (_ for _ in ()).throw(NoData("offline")))
    datasets._load_idx.cache_clear()
    try:
        with pytest.raises(NoData, match="offline"):
            long_tailed(data="real")
        assert long_tailed(data="auto").is_stand_in
    finally:
        datasets._load_idx.cache_clear()


def test_a_stand_in_is_announced(capsys):
    datasets.announce.cache_clear()
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
