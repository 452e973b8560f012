"""While a build works it says how far it is."""

import io
import json
import subprocess
import sys

import catalogue
import progress
import pytest


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the next lines of a chapter under way, as its kernel would."""
    monkeypatch.setattr(catalogue, "build_folder", lambda: tmp_path)
    monkeypatch.setattr(catalogue, "in_order", lambda: ["part/one", "part/two"])

    def write(*lines, chapter="part/one", seed=None):
        if not progress.path(chapter, seed).is_file():
            assert progress.begin(chapter, seed) == str(progress.path(chapter, seed))
        with progress.path(chapter, seed).open("a", encoding="utf-8") as file:
            file.write("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))

    return write


def test_it_tells_runs_done_of_how_many_and_the_time_left(write):
    assert progress.report(0) == ""
    write()
    assert progress.report(0) == "part/one: under way"
    write({"runs": 50, "stored": 12, "time": 1000.0})
    assert progress.report(1000) == "part/one: 12 of 50 runs, 12 from the store"
    write(*[{"seconds": 6.0}] * 8)
    assert progress.report(1016) == "part/one: 20 of 50 runs, 12 from the store, about 60 s left"
    assert progress.report(1080) == "part/one: 20 of 50 runs, 12 from the store, about 5 min left"
    write(*[{"seconds": 6.0}] * 30)
    assert progress.report(1200) == "part/one: 50 of 50 runs, 12 from the store"
    write({"runs": 10, "stored": 0, "time": 2000.0}, *[{"seconds": 1.0}] * 5, '{"secon')
    assert progress.report(2010) == "part/one: 55 of 60 runs, 12 from the store, about 10 s left"


def test_chapters_side_by_side_are_told_together_and_a_finished_one_not_at_all(write):
    write()
    write({"runs": 1, "stored": 0, "time": 0}, chapter="part/two")
    assert progress.report(0) == "part/one: under way; part/two: 0 of 1 run"
    progress.path("part/one").unlink()
    assert progress.report(0) == "part/two: 0 of 1 run"
    progress.forget()
    assert progress.report(0) == ""


def test_seeds_that_are_jobs_count_together_and_take_as_long_as_the_slowest(write):
    write({"runs": 12, "stored": 0, "time": 0}, *[{"seconds": 1}] * 3, seed=100)
    write({"runs": 12, "stored": 2, "time": 0}, {"seconds": 1}, seed=101)
    write({"runs": 12, "stored": 0, "time": 0}, chapter="part/two", seed=100)
    assert progress.report(6) == ("part/one: 6 of 24 runs, 2 from the store, about 54 s left; "
                                  "part/two: 0 of 12 runs")


def test_what_happens_elsewhere_is_told_once_it_is_in_the_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "build_folder", lambda: tmp_path)
    logs = catalogue.logs("smoke")
    (logs / "seeds").mkdir(parents=True)
    (logs / "part-old.log").write_text("part/old ran in 1.0 s; its slowest cells\n")
    news = progress.News("smoke")
    assert news() == []
    (logs / "part-one.log").write_text(f"part/one {catalogue.STOPPED}.\n")
    (logs / "seeds/part-one-0.log").write_text("[1/2] part/one, seed 0: 3 s\n")
    assert news() == ["[1/2] part/one, seed 0: 3 s"]
    (logs / "part-one.log").write_text("part/one ran in 4.2 s; its slowest cells, by their last lines:\n  1 s  x\n")
    assert news() == ["part/one ran in 4.2 s"]
    assert news() == []


@pytest.mark.parametrize("live", [True, False])
def test_what_the_steps_say_is_shown_whole_between(write, live, monkeypatch):
    write()
    screen = io.StringIO()
    screen.isatty = lambda: live
    monkeypatch.setattr(sys, "stdout", screen)
    wait = "print('one', flush=True); input(); print('two')"
    process = subprocess.Popen([sys.executable, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    report = progress.report

    def let_go(now):  # once the first report is made
        if not process.stdin.closed:
            process.stdin.write("\n")
            process.stdin.close()
        return report(now)

    monkeypatch.setattr(progress, "report", let_go)
    assert progress.follow(process, every=0.05) == 0
    shown = screen.getvalue()
    assert "one\n" in shown
    assert "two\n" in shown
    assert "part/one: under way" in shown
    assert ("\x1b[K" in shown) == live
    assert live or shown.count("under way") == 1, "said once while nothing changes"
