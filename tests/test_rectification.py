"""Class rectification on a batch of eight worked out by hand, the source's errors beside it, triplets, attributes."""

from types import SimpleNamespace

import pytest
import torch
from chapters import load
from torch.nn import functional as F

from helpers.datasets import long_tailed
from helpers.training import Recipe, cross_entropy, fit

crl = load("hard_examples/rectification")

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
SCORES = torch.tensor([[0.7, 0.1, 0.2], [0.5, 0.4, 0.1], [0.2, 0.1, 0.7], [0.9, 0.1, 0.0],
                       [0.3, 0.6, 0.1], [0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [0.4, 0.2, 0.4]])


@pytest.mark.parametrize(("labels", "expected"), [
    ([0, 0, 0, 0, 1, 1, 2, 2], [1, 2]),
    ([0, 0, 0, 1, 1, 1], [0]),                    # a tie: the second would make it all of the batch
    ([5, 5, 5, 5, 5], []),
    ([0, 0, 0, 0, 0, 1, 1, 2], [2, 1]),
    ([*range(9), *[9] * 9], list(range(9))),
])
def test_minorities_are_all_classes_that_together_hold_at_most_half(labels, expected):
    assert crl.minority_classes(torch.tensor(labels)) == expected


def test_hard_positives_score_low_and_hard_negatives_high_on_the_minority_class():
    own, positives, negatives = crl.mine(SCORES, LABELS, 1, kappa=1)
    assert (own.tolist(), positives.tolist(), negatives.tolist()) == ([4, 5], [5], [1])
    assert crl.mine(SCORES, LABELS, 2, kappa=2)[2].tolist() == [2, 5]


def test_the_notebook_takes_the_easiest_negatives():
    assert crl.mine_as_in_the_notebook(SCORES, LABELS, 1, kappa=1)[2].tolist() == [3]
    wrong = crl.rectification(SCORES, LABELS, kappa=1, mining=crl.mine_as_in_the_notebook)
    assert float(wrong) < float(crl.rectification(SCORES, LABELS, kappa=1))


def test_the_loss_of_the_batch_of_eight_by_hand():
    assert float(crl.rectification(SCORES, LABELS, kappa=1)) == pytest.approx((0.45 + 0.55) / 2, abs=1e-6)


def test_with_all_positives_both_orders_of_a_pair_count():
    one = [0.25 + 0.4 - (0.6 - 0.4), 0.25 + 0.4 - (0.2 - 0.4)]     # class 1, negative row 1
    two = [0.25 + 0.4 - (0.8 - 0.7), 0.25 + 0.4 - (0.4 - 0.7)]     # class 2, negative row 2
    scores, labels = SCORES[[1, 2, 4, 5, 6, 7, 0, 3]], LABELS[[1, 2, 4, 5, 6, 7, 0, 3]]
    by_loops = []
    for label in crl.minority_classes(labels):
        own = (labels == label).nonzero().flatten().tolist()
        negative = max((r for r in range(8) if labels[r] != label), key=lambda r: float(scores[r, label]))
        for a in own:
            for p in own:
                if a != p:
                    s = scores[:, label]
                    by_loops.append(max(0, float(0.25 + abs(s[a] - s[p]) - (s[a] - s[negative]))))
    assert sorted(by_loops) == pytest.approx(sorted(one + two), abs=1e-6)


@pytest.mark.parametrize("kappa", [1, 2, 25])
def test_it_agrees_with_three_plain_loops(kappa):
    generator = torch.Generator().manual_seed(kappa)
    scores, labels = torch.rand(40, 5, generator=generator), torch.randint(5, (40,), generator=generator)
    terms = []
    for label in crl.minority_classes(labels):
        own, positives, negatives = crl.mine(scores, labels, label, kappa)
        s = scores[:, label]
        terms += [max(0.0, float(0.25 + abs(s[a] - s[p]) - (s[a] - s[n])))
                  for a in own for p in positives for n in negatives if a != p]
    assert float(crl.rectification(scores, labels, kappa=kappa)) == pytest.approx(sum(terms) / len(terms), abs=1e-5)


def test_the_hinge_stands_inside_the_mean_and_the_distance_is_signed():
    terms = crl.unclamped_terms(SCORES, LABELS)
    assert float(crl.rectification(SCORES, LABELS)) == pytest.approx(float(terms.clamp_min(0).mean()), abs=1e-6)
    assert float(terms.mean().clamp_min(0)) < float(terms.clamp_min(0).mean())
    # anchor 5 scores .2 on class 1 and the negative .4: unsigned, that would count as "far", and cost less
    unsigned = crl.unclamped_terms(SCORES, LABELS, signed=False).clamp_min(0).mean()
    assert float(unsigned) < float(terms.clamp_min(0).mean())


def test_contrastive_form_by_hand():
    pairs = [0.4**2, (0.25 - 0.2) ** 2, (0.25 + 0.2) ** 2, 0.4**2, (0.25 - 0.1) ** 2, (0.25 + 0.3) ** 2]
    found = crl.rectification(SCORES, LABELS, kappa=1, form="contrastive")
    assert float(found) == pytest.approx(sum(pairs) / 6, abs=1e-6)


def test_instance_level_form_takes_distances_of_features():
    features = torch.zeros(8, 2)
    features[4, 0], features[5, 0] = 1.0, 2.0      # the two of class 1; all others at the origin
    # class 1: anchor 4, positive 5, negative 1: .25 + 1 − 1; class 2: anchor 6, positive 7, negative 2: .25 + 0 − 0
    assert float(crl.rectification(SCORES, LABELS, features=features, kappa=1)) == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 0, 1]])
def test_a_batch_without_a_pair_costs_nothing_and_still_has_a_gradient(labels):
    scores = torch.rand(4, 3, requires_grad=True)
    loss = crl.rectification(scores, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert float(scores.grad.abs().sum()) == 0


def test_omega_is_the_share_missing_from_a_balanced_set():
    assert crl.imbalance(torch.tensor([10.0, 10.0])) == pytest.approx(0)
    assert crl.imbalance(torch.tensor([10.0, 5.0])) == pytest.approx(25)
    counts = torch.tensor([5923, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60])
    assert crl.imbalance(counts) == pytest.approx(75, abs=0.1)


def test_with_alpha_zero_the_step_is_cross_entropy():
    logits, labels = torch.randn(8, 3), LABELS
    run = SimpleNamespace(forward=lambda _: logits, class_counts=torch.tensor([100.0, 10.0, 5.0]),
                          recipe=SimpleNamespace(loss=cross_entropy))
    assert torch.allclose(crl.crl_step(run, None, labels, eta=0), F.cross_entropy(logits, labels))
    alpha = 0.01 * crl.imbalance(run.class_counts)
    mixed = alpha * crl.rectification(logits.softmax(1), labels) + (1 - alpha) * F.cross_entropy(logits, labels)
    assert torch.allclose(crl.crl_step(run, None, labels), mixed)


def test_triplet_batches_hold_equally_many_of_each_class_drawn_and_the_seed_decides():
    data = long_tailed("MNIST", data="stand-in")
    recipe = Recipe(model=crl.Embedding, objective=crl.triplet_step, sampler=crl.several_of_each)
    first, second = (fit(recipe, data, steps=3, batch_size=40, seed=1) for _ in range(2))
    assert torch.equal(first.predict(data.test), second.predict(data.test))
    counts = torch.bincount(data.train.labels[next(crl.several_of_each(first.run))], minlength=10)
    assert sorted(counts.tolist()) == [0, 0, *[5] * 8]


def test_the_nearest_mean_wins():
    model = crl.Embedding(3, dimensions=2).eval()
    model.means = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    model.embed = lambda inputs: inputs
    assert model(torch.tensor([[0.9, 0.1], [0.1, 0.9], [-0.7, 0.2]])).argmax(1).tolist() == [0, 1, 2]
    model.follow(torch.tensor([[0.0, 0.0]]), torch.tensor([0]), pace=0.5)
    assert model.means[0].tolist() == [0.5, 0.0]


def test_marks_come_in_the_promised_ratios():
    images = torch.zeros(10, 1, 28, 28, dtype=torch.uint8)
    inputs, targets = crl.marked_digits(images, 20000, torch.Generator().manual_seed(0))
    assert inputs.shape == (20000, 1, 28, 28)
    expected = 1 / (1 + torch.tensor(list(crl.ATTRIBUTES.values())))
    assert torch.allclose(targets.mean(0), expected, atol=4 * float((expected.max() / 20000).sqrt()))
    with_mark = inputs[targets.sum(1) == 1].mean()
    assert float(with_mark - inputs[targets.sum(1) == 0].mean()) > 0.005
