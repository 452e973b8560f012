"""Figures that the chapters share: one colour a technique, intervals that are what they say."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors

from helpers import plots
from helpers.results import tidy

GAINS = {"baseline": 0.0, "logit adjustment": 0.02, "clear": 0.05, "unclear": 0.004}
NOISE = (0.001, -0.001, 0.002, -0.002, 0.0)


def results(dataset="MNIST-LT", ceiling=False):
    rows = []
    for place, (name, gain) in enumerate({**GAINS, **({"balanced data": 0.07} if ceiling else {})}.items()):
        for seed in range(5):
            values = {"balanced accuracy": 0.9 + gain + (place + 1) * NOISE[(seed + place) % 5]}
            rows.append(tidy(dataset, name, seed, values))
    return pd.concat(rows, ignore_index=True)


def test_two_techniques_of_one_colour_are_refused():
    with pytest.raises(ValueError, match="'MixUp' and 'Cutout' have one colour"):
        plots.colours(["baseline", "Cutout", "MixUp"])


@pytest.mark.parametrize("chapter", plots._CHAPTERS)
def test_the_techniques_of_a_chapter_differ_from_each_other_and_from_the_baselines(chapter):
    assert len(set(plots.colours([*plots._FIXED, *chapter]).values())) == len(plots._FIXED) + len(chapter)


def test_no_two_colours_lie_close():
    def oklab(code):  # Ottosson (2020)
        part = np.array(colors.to_rgb(code))
        linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
        cones = np.cbrt(linear @ [[0.4122, 0.2119, 0.0883], [0.5363, 0.6807, 0.2817], [0.0514, 0.1074, 0.6300]])
        return cones @ [[0.2105, 1.9780, 0.0259], [0.7936, -2.4286, 0.7828], [-0.0041, 0.4506, -0.8087]]

    close = [(one, other) for one, other in itertools.combinations([*plots._FIXED.values(), *plots._OTHERS], 2)
             if np.linalg.norm(oklab(one) - oklab(other)) < 0.115]
    assert not close, f"a reader would take one for the other: {close}"


def test_a_dot_is_filled_where_holm_leaves_it_clear():
    ax = plots.gaps(results())
    names = [label.get_text() for label in ax.get_yticklabels()]
    dots = {names[round(line.get_ydata()[0])]: colors.to_hex(line.get_markerfacecolor())
            for line in ax.lines if line.get_marker() == "o"}
    assert dots["clear"] == "#6b7b86" and dots["unclear"] == "#ffffff", "a row without a colour of its own is grey"
    assert dots["logit adjustment"] == plots.colour("logit adjustment").lower()
    assert "filled: clear of zero" in ax.get_xlabel()
    assert names == ["unclear", "logit adjustment", "clear"], "the best is at the top"


def test_a_difference_that_is_clear_alone_is_not_clear_among_many():
    alone = results().query("technique in ('baseline', 'unclear')").copy()
    rows = alone[alone.technique == "unclear"].reset_index(drop=True)
    rows["value"] = [0.9035, 0.906, 0.9105, 0.9045, 0.9025]
    many = pd.concat([alone[alone.technique == "baseline"],
                      *(rows.assign(technique=f"t{number}") for number in range(12))], ignore_index=True)

    def filled(table):
        ax = plots.gaps(table)
        return {colors.to_hex(line.get_markerfacecolor()) != "#ffffff" for line in ax.lines if line.get_marker() == "o"}

    assert filled(many[many.technique.isin(["baseline", "t0"])]) == {True}
    assert filled(many) == {False}


def test_both_arenas_stand_in_one_order_and_the_ceiling_is_a_line():
    both = pd.concat([results(ceiling=True), results("FashionMNIST-LT", ceiling=True)], ignore_index=True)
    axes = plots.both_arenas(both)
    assert [ax.get_title(loc="left") for ax in axes] == ["MNIST-LT", "FashionMNIST-LT"]
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    assert names == ["baseline", "unclear", "clear"]
    ax = plots.overview(both, dataset="MNIST-LT")
    assert "balanced data" not in [label.get_text() for label in ax.get_yticklabels()]
    assert {note.get_text() for note in ax.texts} == {"baseline", "balanced data"}
