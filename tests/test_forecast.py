"""How long a build would take elsewhere, by the times that the last one took."""

import json

import catalogue
import forecast
import pytest

TIMES = [{"runs": 4, "stored": 0, "time": 0}, *[{"seconds": seconds} for seconds in (60, 120, 180, 240)],
         {"workers": 2, "took": 360}]


@pytest.fixture
def times(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "build_folder", lambda: tmp_path)
    monkeypatch.setattr(catalogue, "in_order", lambda: ["part/one", "part/two"])
    monkeypatch.setattr(catalogue, "parameters", lambda profile, chapter: {
        "SEEDS": [0, 1] if profile == "book" else [0, 1, 2, 3], "STEPS": 100 if profile == "book" else 300})

    def write(*lines):
        folder = catalogue.run_folder("part/one", "book")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "runs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    write(*TIMES)
    return write


def test_free_cores_take_the_longest_run_that_waits():
    assert forecast.makespan([1, 2, 3, 4], 1) == 10
    assert forecast.makespan([1, 2, 3, 4], 2) == 5
    assert forecast.makespan([1, 1, 4], 2) == 4, "not 5, as in the order of the list"
    assert forecast.makespan([1, 2], 64) == 2
    assert forecast.makespan([], 3) == 0


def test_what_no_run_takes_is_the_chapters_own(times):
    queues, own, stored = forecast.measured("part/one", "book")
    assert queues == [[60, 120, 180, 240]] and stored == 0
    assert own == 60, "of 360 seconds, two workers spent 300 on the runs"
    assert forecast.measured("part/two", "book") is None


def test_what_an_earlier_chapter_has_trained_is_counted_and_said(times):
    times({"runs": 7, "stored": 3, "time": 0}, *TIMES[1:-1], {"runs": 1, "stored": 1, "time": 300}, TIMES[-1])
    queues, _, stored = forecast.measured("part/one", "book")
    assert queues == [[60, 120, 180, 240], []] and stored == 4
    assert forecast.forecast("book", "book", [1])[1].startswith("4 runs came from the store")


def test_a_chapter_without_a_network_has_no_steps_to_grow_by(times, monkeypatch):
    monkeypatch.setattr(catalogue, "parameters", lambda profile, chapter: {"SEEDS": [0, 1], "STEPS": 0})
    assert forecast.grown("part/one", [[3, 2]], "book", "full") == [[3, 2]]


def test_where_nothing_was_trained_it_says_so_instead_of_no_minutes(times):
    times({"runs": 4, "stored": 4, "time": 0}, TIMES[-1])
    with pytest.raises(catalogue.Trouble, match="trained nothing"):
        forecast.forecast("book", "book", [1, 2])


@pytest.mark.parametrize(("cores", "seconds"), [
    (1, 44),  # one by one: 6 + 20, 1 + 6, 1 + 10
    (2, 32),  # one by one on two: 6 + 10, 1 + 4, 1 + 10
    (4, 21),  # two chapters at once, two cores each: the last for 11 beside the second for 5, then the first
    (64, 16)])  # all three at once
def test_chapters_run_side_by_side_two_cores_each_the_last_first(monkeypatch, cores, seconds):
    monkeypatch.setattr(catalogue, "in_order", lambda: ["part/one", "part/two", "part/three"])
    known = {"part/one": ([[10, 10]], 6), "part/two": ([[2, 2, 2]], 1), "part/three": ([[5], [5]], 1)}
    assert forecast.on_one_machine(known, "book", cores) == seconds


def test_it_is_laid_out_on_so_many_cores(times):
    said = forecast.forecast("book", "book", [1, 2, 64])
    assert said[0] == "measured in the profile book, laid out for book; without part/two"
    # one core: 60 + 600 s; two: 60 + 300; 64: 60 + 240. A cluster: two seeds of 60 + 300 s, then 60 s for the chapter.
    assert [line.split() for line in said[2:]] == [["1", "11", "min", "100%", "13", "min"],
                                                   ["2", "6", "min", "92%", "7", "min"],
                                                   ["64", "5", "min", "3%", "7", "min"]]


def test_another_profile_has_more_seeds_and_longer_runs(times):
    queues, _, _ = forecast.measured("part/one", "book")
    (queue,) = forecast.grown("part/one", queues, "book", "full")
    assert sorted(queue) == [180, 180, 360, 360, 540, 540, 720, 720]
