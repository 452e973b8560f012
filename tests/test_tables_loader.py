"""Tables: published counts, duplicates that stay together, splits in proportion, clear errors."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers import files, tables
from helpers.files import DamagedData, NoData
from helpers.tables import TABLES, Table, load_table


def made(labels, groups=None, name="made"):
    """A table whose one feature is the number of the row's group."""
    labels = np.asarray(labels)
    groups = np.arange(len(labels)) if groups is None else np.asarray(groups)
    return Table(name, groups[:, None].astype(float), labels, groups)


@pytest.fixture
def fresh():
    """Loaders that remember nothing, before and after."""
    for loader in (tables._load_adbench, tables._load_generated):
        loader.cache_clear()
    yield
    for loader in (tables._load_adbench, tables._load_generated):
        loader.cache_clear()


@pytest.mark.data
@pytest.mark.parametrize("name", TABLES)
def test_each_published_table_has_the_counts_that_are_listed(name):
    table, known = load_table(name, data="real"), TABLES[name]
    duplicates = len(table) - len(np.unique(table.groups))
    assert (*table.X.shape, table.y.sum(), duplicates) == (known.rows, known.features, known.rare, known.duplicates)
    assert table.name == name and table.X.dtype == np.float64 and set(table.y.tolist()) == {0, 1}


def test_groups_are_the_rows_with_equal_features_whatever_their_label():
    X = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, -0.0], [1.0, 1e-16]])
    table = tables._table("made", X, np.array([0, 1, 1, 0]))
    assert table.groups.tolist() == [0, 1, 0, 2]
    assert table.distinct().y.tolist() == [0, 1, 0]


def test_no_duplicate_parts_from_its_copies_and_no_row_is_lost():
    rng = np.random.default_rng(0)
    table = made(rng.random(3000) < 0.1, rng.integers(1200, size=3000))
    for seed in range(5):
        parts = table.split(seed)
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(3000))
        groups = [set(table.groups[rows].tolist()) for rows in parts]
        assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
        for rows, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
            assert abs(len(rows) - share * 3000) <= 4 and abs(table.y[rows].sum() - share * table.y.sum()) <= 4


def test_classes_are_in_exact_proportion_where_there_are_no_duplicates():
    table = made([1] * 50 + [0] * 950)
    parts = table.split(seed=3, validation=0.1, test=0.3)
    assert [table.class_counts.tolist(), *(np.bincount(table.y[rows]).tolist() for rows in parts)] == [
        [950, 50], [570, 30], [95, 5], [285, 15]]


def test_a_group_larger_than_a_part_trains_and_others_go_anywhere():
    table = made([0] * 500 + [1] * 20 + [0] * 480, [0] * 500 + list(range(1, 501)))
    tested = np.zeros(1000, dtype=int)
    for seed in range(60):
        parts = table.split(seed)
        assert np.isin(np.arange(500), parts.train).all()
        assert len(parts.test) == len(parts.val) == 200
        tested[parts.test] += 1
    assert tested[500:].min() > 0


def test_a_pair_of_copies_is_tested_as_often_as_a_single_row():
    table = made([1] * 20 + [0] * 180, [*range(20), *(place // 2 + 20 for place in range(80)), *range(60, 160)])
    tested = np.zeros(200)
    for seed in range(300):
        tested[table.split(seed).test] += 1
    assert abs(tested[20:100].mean() - tested[100:].mean()) < 0.02 * 300


def test_the_seed_decides_the_split():
    table = made([1] * 50 + [0] * 950)
    one, same, other = (table.split(seed) for seed in (1, 1, 2))
    assert all(np.array_equal(*pair) for pair in zip(one, same, strict=True))
    assert not np.array_equal(one.test, other.test)


def test_shares_of_nothing_give_empty_parts():
    parts = made([1, 0] * 10).split(0, validation=0, test=0.5)
    assert [len(rows) for rows in parts] == [10, 0, 10]


def test_a_sample_keeps_the_proportion_the_order_and_the_groups():
    table = made([1] * 100 + [0] * 9900, np.arange(10000) // 2)
    part = table.sample(1000, seed=0)
    assert part.class_counts.tolist() == [990, 10]
    assert (np.diff(part.groups) >= 0).all() and np.array_equal(part.X[:, 0], part.groups)
    assert np.array_equal(part.groups, table.sample(1000, seed=0).groups)
    assert not np.array_equal(part.groups, table.sample(1000, seed=1).groups)
    assert table.sample(10000, seed=0) is table
    assert table.sample(5, seed=0).class_counts.tolist() == [4, 1]


def test_the_arrays_of_a_table_cannot_be_changed_by_one_of_its_users():
    with pytest.raises(ValueError, match="read-only"):
        load_table("thyroid", data="stand-in").X[0, 0] = 1


def test_the_digest_sees_features_and_labels():
    one, features, labels = made([0, 1, 0]), made([0, 1, 0], [0, 2, 1]), made([0, 1, 1])
    assert len({one.digest, features.digest, labels.digest}) == 3 and one.digest == made([0, 1, 0]).digest


@pytest.mark.parametrize("name", ["mammography", "Wilt", "celeba", "vowels"])
def test_a_stand_in_is_like_the_table_it_stands_for(name):
    table, known = load_table(name, data="stand-in"), TABLES[name]
    assert table.name == f"stand-in for {name}" and table.is_stand_in
    assert table.X.shape == (min(known.rows, 4000), known.features)
    assert abs(table.y.mean() - known.rare / known.rows) < 0.01 and table.y.sum() >= 40
    assert abs(1 - len(table.distinct()) / len(table) - known.duplicates / known.rows) < 0.001


@pytest.mark.parametrize(("ask", "words"), [
    (lambda: load_table("iris"), ["'iris'", "mammography, thyroid"]),
    (lambda: load_table("Wilt", data="fake"), ["'fake'", "auto, real, stand-in"]),
    (lambda: made([0, 1]).split(0, test=0.8), ["test=0.8", "together below 1"]),
    (lambda: made([0, 1]).split(0, validation=-0.1), ["validation=-0.1", "0 or more"]),
    (lambda: made([0] * 90 + [1] * 2).split(0), ["no row of the rare class", "has 2", "seed=0"]),
    (lambda: made([0, 1]).sample(1, seed=0), ["rows=1", "2 or more"]),
])
def test_wrong_input_is_named_with_what_is_accepted(ask, words):
    with pytest.raises(ValueError) as error:
        ask()
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_real_data_that_are_not_there_are_an_error_and_auto_falls_back(tmp_path, monkeypatch, fresh):
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    asked = []

    def offline(resource):
        asked.append(resource)
        raise NoData("offline")

    monkeypatch.setattr(files, "_download", offline)
    with pytest.raises(NoData, match="offline"):
        load_table("Wilt", data="real")
    assert load_table("Wilt").is_stand_in
    assert asked[0].path == "ADBench/44_Wilt.npz"
    assert asked[0].urls[0].endswith("Minqi824/ADBench/main/adbench/datasets/Classical/44_Wilt.npz")


@pytest.mark.data
def test_a_damaged_table_is_refused(tmp_path, monkeypatch, fresh):
    target = tmp_path / "ADBench/44_Wilt.npz"
    target.parent.mkdir()
    shutil.copyfile(Path(os.environ["BOOK_DATA"]) / "ADBench/44_Wilt.npz", target)
    target.write_bytes(target.read_bytes()[:-1])
    monkeypatch.setenv("BOOK_DATA", str(tmp_path))
    with pytest.raises(DamagedData, match="44_Wilt"):
        load_table("Wilt")
