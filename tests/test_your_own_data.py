"""The chapter on your own data: what it builds from packages that are there, and its three splits."""

import numpy as np
import torch

from helpers.chapters import load
from helpers.training import Recipe, prepare

chapter = load("synthesis/your_own_data")


def test_patches_tile_a_photograph_and_neighbours_share_a_block():
    cut, blocks = chapter.patches("china.jpg")
    assert cut.shape == (15 * 22, 1, 28, 28) and cut.dtype == np.uint8
    assert blocks[0] == blocks[1] == blocks[22], "four by four patches are one block"
    assert blocks[0] != blocks[4] and blocks[0] != blocks[22 * 4]
    few, own = chapter.patches("china.jpg", every=9, block=1)
    assert np.array_equal(few, cut[::9]) and len(np.unique(own)) == len(few)


def test_help_texts_are_said_once_and_are_long_enough_to_learn_from():
    import math
    import statistics

    found = chapter.help_texts(statistics, statistics, math)
    assert found == sorted(set(found))
    assert all(100 < len(text) <= 600 for text in found)


def test_a_network_on_columns_brings_them_to_one_scale():
    torch.manual_seed(0)
    model = chapter.network(2).train()
    inputs = torch.randn(64, 30)
    again = model(inputs * torch.logspace(-2, 4, 30) + 7)
    assert torch.allclose(model(inputs), again, atol=1e-2)


def test_every_third_sample_of_a_batch_is_rare():
    from helpers.datasets import Dataset

    data = Dataset.from_arrays(np.arange(600.0).reshape(200, 3), [0] * 180 + [1] * 20)
    run = prepare(Recipe(model=lambda classes: torch.nn.Linear(3, classes)), data.train, 2, 1, 60, 0)
    rows = next(chapter.every_third(run))
    assert len(rows) == 60 and (data.train.labels[rows[::3]] == 1).all()
    assert 0 <= (data.train.labels[rows] == 1).sum() - 20 < 20
