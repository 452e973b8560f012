"""CIFAR-10 and long tails in any order of the classes; the chapter on other tails."""

import io
import tarfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import files, photos
from helpers.chapters import load
from helpers.datasets import Pool, Split, cut_tail, long_tailed
from helpers.files import DamagedData

chapter = load("synthesis/other_tails")


@pytest.fixture
def pool():
    """Ten classes of forty; an image tells its class and its number."""
    labels = torch.arange(10).repeat_interleave(40)
    inputs = (labels * 1000 + torch.arange(400)).reshape(-1, 1, 1, 1)
    test = Split(torch.arange(10).reshape(-1, 1, 1, 1), torch.arange(10))
    return Pool("numbers", tuple("abcdefghij"), Split(inputs, labels), test, torch.arange(400))


def test_the_tail_falls_in_the_order_that_is_asked_for(pool):
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    data = cut_tail(pool, ratio=10, validation=5, seed=1, order=order)
    assert data.class_names == tuple("dbeafjcgih")
    # 40 · 10^(−c/9), but five of the first class's forty have left for validation
    assert data.class_counts.tolist() == [35, 30, 23, 18, 14, 11, 8, 6, 5, 4]
    for split in (data.train, data.val):
        assert (split.inputs.flatten() // 1000).tolist() == [order[label] for label in split.labels.tolist()]
    assert [order[label] for label in data.test.labels.tolist()] == data.test.inputs.flatten().tolist()
    assert torch.bincount(data.val.labels).tolist() == [5] * 10
    assert not set(data.train.inputs.flatten().tolist()) & set(data.val.inputs.flatten().tolist())


def test_a_draw_is_another_with_another_seed_only(pool):
    one, again, other = (cut_tail(pool, ratio=10, validation=5, seed=seed).train.inputs for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize(("wrong", "words"), [
    ({"order": [0] * 10}, "each of the classes 0 to 9"), ({"order": range(9)}, "each of the classes 0 to 9"),
    ({"validation": 21}, "0 to 20"), ({"validation": -1}, "0 to 20"), ({"ratio": 0.5}, "ratio=0.5")])
def test_what_cannot_be_cut_is_named(pool, wrong, words):
    with pytest.raises(ValueError, match=words):
        cut_tail(pool, **{"validation": 5, **wrong})


# ---------------------------------------------------------------- files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder, and no cache of an earlier load."""
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path)
    photos._load_real.cache_clear()
    yield tmp_path
    photos._load_real.cache_clear()


def test_the_published_archive_is_read_byte_for_byte(folder, monkeypatch):
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    rng, content = np.random.default_rng(0), {}
    path = folder / "CIFAR10/cifar-10-binary.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name in reversed(names):  # their order in the archive decides nothing
            rows = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
            rows[:, 0] %= 10
            content[name] = rows
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = rows.size
            archive.addfile(entry, io.BytesIO(rows.tobytes()))
    monkeypatch.setattr(photos, "_ARCHIVE", photos.Resource(
        "CIFAR10/cifar-10-binary.tar.gz", files.sha256(path.read_bytes()), ()))
    found = photos.load_photos("real")
    assert found.name == "CIFAR10"
    expected = np.concatenate([content[name] for name in names[:5]])
    assert found.train.labels.tolist() == expected[:, 0].tolist()
    assert np.array_equal(found.train.inputs.numpy().reshape(15, -1), expected[:, 1:])
    assert np.array_equal(found.test.inputs[2, 1, 0].numpy(), content["test_batch"][2, 1 + 1024:1 + 1024 + 32])


def jpeg_copies(path, colours):
    packed = []
    for colour in colours:
        target = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(target, "JPEG", quality=95)
        packed.append(target.getvalue())
    np.savez(path, jpeg=np.frombuffer(b"".join(packed), dtype=np.uint8),
             offsets=np.cumsum([0, *map(len, packed)]), labels=np.arange(len(packed)))


def test_jpeg_copies_are_named_as_such_and_checked(folder, monkeypatch):
    (folder / "CIFAR10jpeg").mkdir()
    for part in ("train", "test"):
        jpeg_copies(folder / f"CIFAR10jpeg/{part}.npz", [(200, 10, 10), (10, 10, 200)])
    with pytest.raises(DamagedData, match=r"train\.npz is missing or damaged"):
        photos.load_photos("real")
    monkeypatch.setattr(photos, "_COPIES", {part: files.sha256((folder / f"CIFAR10jpeg/{part}.npz").read_bytes())
                                            for part in ("train", "test")})
    found = photos.load_photos("real")
    assert found.name == "CIFAR10, JPEG copies" and found.train.labels.tolist() == [0, 1]
    red, blue = found.train.inputs.float().mean(dim=(2, 3))
    assert red[0] > 150 > 60 > red[2] and blue[2] > 150 > 60 > blue[0]


# ---------------------------------------------------------------- the chapter


def test_the_four_orders_differ_in_names_and_in_what_is_rare():
    sets = {order: chapter.garments_in_order(0, order, "stand-in") for order in chapter.ORDERS}
    assert len({data.name for data in sets.values()}) == len(sets) == 4
    rarest = {order: data.class_names[-1] for order, data in sets.items()}
    assert rarest == {"as usual": "boot", "reversed": "t-shirt", "hard ones rare": "shirt",
                      "hard ones common": "trouser"}
    arena = long_tailed("FashionMNIST", data="stand-in")
    assert torch.equal(sets["as usual"].train.labels, arena.train.labels), "so its runs are the arena's"
    assert torch.equal(sets["as usual"].train.inputs, arena.train.inputs)


def test_the_network_takes_photos_and_the_tail_is_of_photos():
    data = chapter.photos(0, "stand-in")
    assert chapter.PhotoNet()(data.train.inputs[:2].float()).shape == (2, 10)
    assert chapter.PhotoNet().features(torch.zeros(2, 3, 32, 32)).shape == (2, 64)
    assert data.class_names[0] == "airplane" and data.class_counts[0] > 50 * data.class_counts[-1]
    assert data.class_counts[-1] > 6, "neighbours of the rarest class, for those who interpolate"


@pytest.mark.parametrize(("share", "steps"), [(0.25, 10), (4, 160), (0.001, 2)])
def test_another_budget_is_the_same_comparison_with_other_steps(monkeypatch, share, steps):
    asked = []

    def comparison(arena, techniques, **options):
        asked.append((arena, techniques, options))
        return SimpleNamespace(table=pd.DataFrame({"dataset": ["FashionMNIST-LT"], "value": [0.5]}))

    monkeypatch.setattr(chapter, "in_arena", comparison)
    page = {"GARMENTS": "FashionMNIST-LT", "SEEDS": [7], "STEPS": 40, "RATES": [0.1], "DATA": "stand-in",
            "TECHNIQUES": {"MixUp": {}}}
    for name, value in page.items():
        monkeypatch.setattr(chapter, name, value, raising=False)
    assert chapter.shorter(share).dataset.tolist() == [f"FashionMNIST-LT, {share:g} of the steps"]
    assert asked == [("garments", page["TECHNIQUES"],
                      {"seeds": [7], "steps": steps, "rates": [0.1], "data": "stand-in"})]


def test_a_stored_run_knows_whether_it_read_the_archive_or_copies(monkeypatch, tmp_path):
    """Both are pinned in the code, so the key of a run is the same for both."""
    (tmp_path / "CIFAR10jpeg").mkdir()
    monkeypatch.setattr(photos, "data_folders", lambda: [tmp_path])
    monkeypatch.setattr(files, "data_folders", lambda: [tmp_path])
    monkeypatch.setattr(photos, "_decode", lambda path, expected: Split(torch.zeros(10, 3, 32, 32), torch.arange(10)))
    photos.used.pop(photos._ARCHIVE.path, None)
    assert photos._load_real.__wrapped__().name == "CIFAR10, JPEG copies"
    assert photos.used[photos._ARCHIVE.path] == "", "absent"
    del photos.used[photos._ARCHIVE.path]
