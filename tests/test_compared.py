"""Two builds of the same code are compared to the last digit."""

import json

import bookmaker
import compared
import pytest

ROWS = ["fair,baseline,0,accuracy,0.5", "fair,baseline,1,accuracy,0.25", "fair,baseline,0,GAN seconds,3.5"]
CLAIMS = [{"sentence": "It helps.", "status": "held", "detail": "b − a: +1.0 points"},
          {"sentence": "It is slow.", "status": "held", "detail": "b / a, seconds: 3.5"}]


@pytest.fixture
def write(tmp_path):
    def write(folder, name="part-one", rows=ROWS, claims=CLAIMS):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.csv").write_text(
            "\n".join(["protocol,technique,seed,metric,value", *rows]), encoding="utf-8")
        (tmp_path / folder / f"{name}.json").write_text(json.dumps({"claims": claims}), encoding="utf-8")
        return tmp_path / folder

    return write


def test_builds_that_differ_in_time_alone_are_the_same(write, capsys):
    slower = [*ROWS[:2], "fair,baseline,0,GAN seconds,9.5"], [CLAIMS[0], {**CLAIMS[1], "detail": "b / a, seconds: 9.5"}]
    one, other = write("one"), write("other", rows=slower[0], claims=slower[1])
    write("one", "part-two")  # the second build had fewer chapters
    assert compared.compare(one, other) == (1, [])
    assert bookmaker.main(["compare", str(one), str(other)]) == 0
    assert capsys.readouterr().out == "1 of 1 chapters have the same numbers.\n"


@pytest.mark.parametrize(("changed", "told"), [
    ({"rows": [ROWS[0], "fair,baseline,1,accuracy,0.250001", ROWS[2]]},
     "1 of 3 records differ; the first: fair, baseline, 1, accuracy, 0.25 | fair, baseline, 1, accuracy, 0.250001"),
    ({"rows": ROWS[:1]}, "2 of 3 records differ; the first: fair, baseline, 1, accuracy, 0.25 | It helps., held"),
    ({"rows": [*ROWS, "fair,baseline,2,accuracy,1"], "claims": []}, "| fair, baseline, 2, accuracy, 1"),
    ({"claims": [*CLAIMS, CLAIMS[0]]}, "1 of 4 records differ; the first: nothing | It helps., held"),
    ({"claims": [{**CLAIMS[0], "status": "refuted"}]}, "1 of 3 records differ; the first: It helps., held"),
    ({"claims": [{**CLAIMS[0], "detail": "b − a: +1.1 points"}]}, "+1.0 points | It helps., held, b − a: +1.1 points")])
def test_what_differs_is_named(write, changed, told, capsys):
    one, other = write("one"), write("other", **changed)
    write("one", "part-two"), write("other", "part-two")
    chapters, (line,) = compared.compare(one, other)
    assert chapters == 2 and line.startswith("part-one: ") and told in line
    assert bookmaker.main(["compare", str(one), str(other)]) == 1
    assert capsys.readouterr().out.endswith("\n1 of 2 chapters have the same numbers.\n")


def test_without_a_chapter_in_common_nothing_was_compared(write, tmp_path):
    with pytest.raises(SystemExit, match="no chapter in common"):
        compared.compare(write("one"), tmp_path / "nowhere")
