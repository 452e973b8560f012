"""The list of planted faults: each entry can be planted, and the one that plants them can tell red from green."""

import mutate
import pytest

MUTANTS = mutate.listed()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.listed)
def test_each_fault_can_be_planted(mutant):
    assert mutant.trouble() is None


@pytest.fixture
def project(tmp_path):
    (tmp_path / "toy.py").write_text("def double(x):\n    return 2 * x\n", encoding="utf-8")
    (tmp_path / "test_toy.py").write_text(
        "from toy import double\n\ndef test_double():\n    assert double(2) == 4\n", encoding="utf-8")
    return tmp_path


def fault(**changes):
    entry = {"file": "toy.py", "old": "2 * x", "new": "3 * x", "test": "test_toy.py", "why": "thrice"}
    return mutate.Mutant("toy 1", **{**entry, **changes})


def test_a_killed_fault_is_told_from_a_survivor_and_taken_out_again(project):
    before = (project / "toy.py").read_text()
    assert not mutate.survives(fault(), project)
    assert mutate.survives(fault(new="x + x"), project)
    assert (project / "toy.py").read_text() == before


def test_a_test_that_is_red_without_any_fault_is_named(project):
    assert mutate.red_already([fault()], project, workers=1) == ""
    (project / "toy.py").write_text("def double(x):\n    return 3 * x\n", encoding="utf-8")
    assert "test_double" in mutate.red_already([fault()], project, workers=1)


@pytest.mark.parametrize(("changes", "words"), [
    ({"old": "4 * x"}, "stands 0 times"), ({"new": "2 * x"}, "and change"),
    ({"file": "none.py"}, "there is no none.py"),
    ({"test": "test_none.py"}, "there is no test_none.py")])
def test_an_entry_that_is_out_of_step_is_named(project, changes, words):
    assert words in fault(**changes).trouble(project)


def test_an_entry_that_lacks_a_field_is_named(tmp_path):
    (tmp_path / "part.toml").write_text('[[mutant]]\nfile = "x"\n', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"part.toml, mutant 1: has file; needs file, new, old, test, why"):
        mutate.listed(tmp_path)
