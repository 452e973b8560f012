"""Class rectification on a batch of eight worked out by hand, the source's errors beside it, triplets, attributes."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from helpers.chapters import load
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
    terms = crl.violations(SCORES, LABELS)
    assert float(terms.min()) < 0  # some triplets keep the margin with room to spare, and must not pay for others
    assert float(crl.rectification(SCORES, LABELS)) == pytest.approx(float(terms.clamp_min(0).mean()), abs=1e-6)
    assert float(terms.mean().clamp_min(0)) < float(terms.clamp_min(0).mean())
    below_its_negative = torch.tensor([[0.6, 0.4], [1.0, 0.0], [1.0, 0.0], [0.8, 0.2], [0.8, 0.2]])
    found = crl.violations(below_its_negative, torch.tensor([0, 0, 0, 1, 1]), kappa=1)
    assert found.tolist() == pytest.approx([0.25 + 0 + 0.2])


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


def a_step(eta, instances=False):
    """The loss of one step on a batch of eight, and what it is made of."""
    generator = torch.Generator().manual_seed(3)
    inputs, head = torch.randn(8, 5, generator=generator), torch.nn.Linear(5, 3)
    run = SimpleNamespace(model=SimpleNamespace(features=torch.nn.Identity(), head=head), normalise=torch.nn.Identity(),
                          class_counts=torch.tensor([100.0, 10.0, 5.0]), recipe=SimpleNamespace(loss=cross_entropy))
    loss = crl.crl_step(run, inputs, LABELS, eta=eta, instances=instances)
    scores = head(inputs).softmax(1)
    rectified = crl.rectification(scores, LABELS, features=F.normalize(inputs) if instances else None)
    return loss.item(), rectified.item(), F.cross_entropy(head(inputs), LABELS).item()


@pytest.mark.parametrize("instances", [False, True])
def test_the_step_mixes_rectification_and_cross_entropy_by_the_training_sets_imbalance(instances):
    loss, _, plain = a_step(0, instances)
    assert loss == pytest.approx(plain, abs=1e-6)
    loss, rectified, plain = a_step(0.01, instances)
    alpha = 0.01 * crl.imbalance(torch.tensor([100.0, 10.0, 5.0]))
    assert 0.5 < alpha < 1
    assert abs(rectified - plain) > 0.05
    assert loss == pytest.approx(alpha * rectified + (1 - alpha) * plain, abs=1e-5)


def test_the_two_forms_of_the_step_differ():
    assert abs(a_step(0.01)[1] - a_step(0.01, instances=True)[1]) > 1e-3


def test_a_triplet_inside_the_margin_costs_what_it_lacks_and_one_outside_nothing():
    angle = torch.tensor([0.0, 0.0, 0.1, 3.0])      # two alike, one of another class close by, one far away
    embedded = torch.stack([angle.cos(), angle.sin()], 1)
    followed = []
    run = SimpleNamespace(normalise=lambda inputs: inputs, model=SimpleNamespace(
        embed=lambda inputs: embedded, follow=lambda *both: followed.append(both)))
    loss = crl.triplet_step(run, None, torch.tensor([0, 0, 1, 2]))
    near = float((embedded[0] - embedded[2]).norm())
    assert loss.item() == pytest.approx(0.2 - near, abs=1e-4)
    assert len(followed) == 1


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


def test_balanced_batches_are_those_of_the_triplets_and_train_a_classifier():
    data = long_tailed("MNIST", data="stand-in")
    trained = fit(Recipe(sampler=crl.several_of_each), data, steps=2, batch_size=40)
    assert len(next(crl.several_of_each(trained.run))) == 40


def test_the_sources_dropout_is_lost_in_evaluation_too_and_the_same_units_each_time():
    network, images = crl.DroppingAtTest(10).eval(), torch.rand(4, 1, 28, 28)
    assert torch.equal(network(images), network(images))
    network.head = torch.nn.Identity()
    whole, judged = network.features(images), network(images)
    assert 0.3 < float((judged[whole > 0] == 0).float().mean()) < 0.7
    assert torch.allclose(judged[judged > 0], 2 * whole[judged > 0])
    assert not torch.equal(network.train()(images), network.train()(images))


def test_marks_come_in_the_promised_ratios():
    images = torch.zeros(10, 1, 28, 28, dtype=torch.uint8)
    inputs, targets = crl.marked_digits(images, 20000, torch.Generator().manual_seed(0))
    assert inputs.shape == (20000, 1, 28, 28)
    expected = 1 / (1 + torch.tensor(list(crl.ATTRIBUTES.values())))
    assert torch.allclose(targets.mean(0), expected, atol=4 * float((expected.max() / 20000).sqrt()))
    with_mark = inputs[targets.sum(1) == 1].mean()
    assert float(with_mark - inputs[targets.sum(1) == 0].mean()) > 0.005


def test_attribute_losses_by_hand():
    logits, targets = torch.tensor([[0.0], [1.0], [-1.0], [2.0]]), torch.tensor([[1.0], [0.0], [0.0], [1.0]])
    prior = torch.tensor([0.2])
    each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    assert torch.allclose(crl.attribute_loss("baseline", logits, targets, prior), each.mean())
    assert torch.allclose(crl.attribute_loss("logit adjustment", logits, targets, prior), each.mean())
    weighted = (each * torch.where(targets == 1, 4.0, 1.0)).mean()          # (1 − .2) / .2
    assert torch.allclose(crl.attribute_loss("class weights", logits, targets, prior), weighted)
    alpha = 0.01 * 100 * (1 - 1 / (2 * 0.8))                                # .375: three eighths of a balanced set
    p = logits.sigmoid()[:, 0]
    pairs = crl.rectification(torch.stack([1 - p, p], 1), targets[:, 0].long())
    assert pairs.item() > 0
    assert torch.allclose(crl.attribute_loss("CRL", logits, targets, prior), alpha * pairs + (1 - alpha) * each.mean())


def test_the_threshold_of_a_rare_attribute_moves_down():
    prior = torch.tensor([0.1, 0.5])
    logits = torch.tensor([[-1.0, -1.0], [-3.0, 1.0], [-1.5, -1.0], [-4.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert crl.attribute_recalls(logits, targets).tolist() == [0.5, 1.0]    # no logit is above 0: the rare are missed
    assert crl.attribute_recalls(logits, targets, prior).tolist() == [1.0, 1.0]    # log(.1 / .9) is −2.2


@pytest.mark.parametrize("part", ["val", "test"])
def test_attributes_are_judged_on_digits_that_were_not_trained_on(part, monkeypatch):
    data = long_tailed("MNIST", ratio=1, seed=1, data="stand-in")
    seen, original = [], crl.marked_digits
    monkeypatch.setattr(crl, "marked_digits", lambda images, *rest: seen.append(images) or original(images, *rest))
    crl.attribute_run("baseline", 0.003, 1, 1, "stand-in", part)
    assert torch.equal(seen[0], data.train.inputs)
    assert torch.equal(seen[1], getattr(data, part).inputs)


def test_a_moved_threshold_finds_attributes_that_the_same_network_misses():
    plain, moved = (crl.attribute_run(way, 0.01, 0, 200, "stand-in", "test") for way in
                    ("baseline", "logit adjustment"))
    assert plain["attribute recall"].shape == (5,)
    assert moved["balanced accuracy"] > plain["balanced accuracy"] + 0.05
