"""The chapter on losses: values by hand, what each loss must leave alone, and the errors beside the right way."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from helpers.chapters import load
from helpers.datasets import long_tailed
from helpers.keys import keys
from helpers.training import Recipe, fit, logit_adjustment, prepare, reproducible
from helpers.training import cross_entropy as plain

chapter = load("losses/weights_and_margins")
partial = chapter.partial
LOGITS, TARGETS = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([1])
COUNTS = (6000, 600, 60)
LOSSES = {name: hooks["loss"] for name, hooks in chapter.TECHNIQUES.items() if "loss" in hooks}


def run_of(*counts, progress=0.0, validation=None):
    """What a loss looks at."""
    return SimpleNamespace(class_counts=torch.tensor(counts, dtype=torch.float), progress=progress,
                           validation=validation, device=torch.device("cpu"))


def batch(classes=3, size=40, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(size, classes, generator=generator, dtype=dtype),
            torch.randint(classes, (size,), generator=generator))


# ---------------------------------------------------------------- hand case H: z = (2, 0, 1), y = 1

@pytest.mark.parametrize(("loss", "expected"), [
    (plain, 2.40761),
    (partial(chapter.focal, gamma=1.0), 2.19085),
    (chapter.focal, 1.99360),
    (partial(chapter.class_balanced_focal, weights=chapter.even, gamma=1.0), 2.19085),
    (partial(chapter.class_balanced_focal, weights=chapter.even), 1.99360),
    (LOSSES["logit-adjusted loss"], 4.31965),
    (partial(chapter.vector_scaling, gamma=0.3, tau=0.0), 2.26950),
    (partial(chapter.vector_scaling, gamma=0.3), 4.31774),
    (chapter.seesaw, 6.01032),
])
def test_hand_case(loss, expected):
    assert float(loss(LOGITS, TARGETS, run_of(*COUNTS))) == pytest.approx(expected, abs=1e-5)


def test_hand_case_of_the_weights():
    run = run_of(*COUNTS)
    balanced = chapter.effective(run)
    torch.testing.assert_close(3 * balanced / balanced.sum(), torch.tensor([0.03564, 0.27614, 2.68822]), rtol=0,
                               atol=1e-5)
    torch.testing.assert_close(chapter.inverse(run), torch.tensor([6660 / (3 * n) for n in COUNTS]))
    for weights in (balanced, chapter.inverse(run)):
        assert float((weights * run.class_counts).sum() / 6660) == pytest.approx(1)
    assert float(chapter.weighted(LOGITS, TARGETS, run)) == pytest.approx(2.4076059 * 3.7, abs=1e-5)


def test_hand_case_of_ldams_margins():
    margins = [0.5 * (60 / n) ** 0.25 for n in COUNTS]
    assert margins == pytest.approx([0.15811, 0.28117, 0.5], abs=1e-5)
    moved = LOGITS - torch.tensor([[0.0, 30 * 0.28117, 0.0]])
    assert float(chapter.ldam(LOGITS, TARGETS, run_of(*COUNTS))) == pytest.approx(
        float(F.cross_entropy(moved, TARGETS)), abs=3e-4)
    assert float(chapter.ldam(LOGITS, TARGETS, run_of(*COUNTS), scale=1.0)) == pytest.approx(
        math.log(math.e ** 2 + math.exp(-0.281171) + math.e) + 0.281171, abs=1e-5)


def test_hand_case_of_label_aware_smoothing():
    run, shares = run_of(*COUNTS), (0.3, 0.04269, 0.0)
    log_p = LOGITS.log_softmax(1)[0]
    for label, share in enumerate(shares):
        expected = -(1 - share) * log_p[label] - share * log_p.mean()
        found = LOSSES["label-aware smoothing"](LOGITS, torch.tensor([label]), run)
        assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_hand_case_of_influence():
    features = torch.tensor([[1.0, 2.0, 0.0, -1.0]])
    assert float(chapter.influence(LOGITS, features, TARGETS)) == pytest.approx(4 * 1.81994, abs=2e-5)


def test_hand_case_of_class_wise_difficulty():
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    found = F.one_hot(torch.tensor([0, 0, 1, 0, 0, 1]), 3).float()  # recalls 1, .5, 0
    weights = chapter.missed(run_of(*COUNTS, validation=(found, labels)))
    torch.testing.assert_close(weights / weights[2], torch.tensor([0.001, 0.5, 1.0]))
    assert float((weights * torch.tensor(COUNTS)).sum() / 6660) == pytest.approx(1)
    sharper = chapter.missed(run_of(*COUNTS, validation=(found, labels)), tau=2.0)
    assert float(sharper[1] / sharper[2]) == pytest.approx(0.25)
    assert chapter.missed(run_of(*COUNTS)).tolist() == [1, 1, 1], "before the first look nothing is known"


# ---------------------------------------------------------------- what each must leave alone

@pytest.mark.parametrize("name", ["class weights", "class-balanced loss", "deferred re-weighting",
                                  "logit-adjusted loss", "CDT", "VS loss"])
def test_with_equal_classes_it_is_cross_entropy(name):
    logits, targets = batch()
    torch.testing.assert_close(LOSSES[name](logits, targets, run_of(50, 50, 50)), F.cross_entropy(logits, targets))


def test_neutral_settings_are_cross_entropy():
    logits, targets = batch()
    run = run_of(*COUNTS)
    for loss in (partial(chapter.focal, gamma=0.0), partial(chapter.vector_scaling, gamma=0.0, tau=0.0),
                 partial(chapter.class_balanced_focal, gamma=0.0, weights=chapter.even),
                 partial(chapter.ldam, largest=0.0), partial(chapter.seesaw, p=0.0, q=0.0),
                 partial(chapter.equalised, ignored=0.0), partial(chapter.equalised, rare=0.0),
                 partial(chapter.smoothed, most=0.0, least=0.0)):
        torch.testing.assert_close(loss(logits, targets, run).double(), F.cross_entropy(logits, targets), rtol=1e-5,
                                   atol=1e-6)


def test_class_balanced_weights_go_from_one_to_the_inverse_class_size():
    run = run_of(*COUNTS)
    torch.testing.assert_close(chapter.effective(run, beta=0.0), torch.ones(3))
    torch.testing.assert_close(chapter.effective(run, beta=1 - 1e-9), chapter.inverse(run), rtol=1e-4, atol=0)
    rare_to_common = [float(weights[2] / weights[0]) for weights in (chapter.effective(run, beta) for beta in
                                                                      (0.9, 0.99, 0.999, 0.9999))]
    assert rare_to_common == pytest.approx([1.0, 2.2, 17, 75], rel=0.05)


def test_the_logit_adjusted_loss_is_balanced_softmax_and_undoes_post_hoc_adjustment():
    logits, targets = batch()
    run, adjusted = run_of(*COUNTS), LOSSES["logit-adjusted loss"]
    balanced_softmax = F.cross_entropy(logits + run.class_counts.log(), targets)
    torch.testing.assert_close(adjusted(logits, targets, run), balanced_softmax)
    torch.testing.assert_close(adjusted(logit_adjustment(logits, run), targets, run), F.cross_entropy(logits, targets))


def test_a_rare_class_must_win_by_more():
    logits, run = torch.zeros(1, 3), run_of(*COUNTS)
    for name in ("logit-adjusted loss", "VS loss", "LDAM", "seesaw loss"):
        rare, common = (float(LOSSES[name](logits, torch.tensor([label]), run)) for label in (2, 0))
        assert rare > common, name


def test_cdt_scales_the_logits_of_the_common_class_least():
    logits = torch.eye(3) * 5
    each = [float(LOSSES["CDT"](logits[[label]], torch.tensor([label]), run_of(*COUNTS))) for label in range(3)]
    assert each[0] < each[1] < each[2]


def test_the_weights_are_linear_in_the_class_balanced_focal_loss():
    logits, targets = batch()
    run = run_of(*COUNTS)
    once, twice = (chapter.class_balanced_focal(logits, targets, run, weights=lambda run, by=by: torch.full((3,), by))
                   for by in (1.0, 2.0))
    assert float(twice / once) == pytest.approx(2)
    torch.testing.assert_close(once, chapter.focal(logits, targets, run))


def test_the_probability_of_the_focal_loss_is_not_taken_from_the_weighted_loss():
    double = lambda run: torch.full((3,), 2.0)  # noqa: E731
    right = float(chapter.class_balanced_focal(LOGITS, TARGETS, run_of(*COUNTS), weights=double))
    each = 2 * F.cross_entropy(LOGITS, TARGETS)
    wrong = float((1 - (-each).exp()) ** 2 * each)
    assert (right, wrong) == pytest.approx((3.987, 4.737), abs=1e-3)


def test_the_focal_loss_is_that_of_the_chapter_on_hard_examples_and_is_trained_once():
    other = load("hard_examples/mining")
    assert keys(Recipe, [({"loss": chapter.focal},)]) == keys(Recipe, [({"loss": other.focal},)])


def test_a_deferred_weight_begins_at_four_fifths_of_the_steps():
    before, after = (chapter.deferred(run_of(*COUNTS, progress=step / 600)) for step in (479, 480))
    assert before.tolist() == [1, 1, 1]
    torch.testing.assert_close(after, chapter.effective(run_of(*COUNTS)))


def test_deferred_ldam_gets_its_weights_late():
    logits, targets = batch()
    early, late = (LOSSES["LDAM-DRW"](logits, targets, run_of(*COUNTS, progress=share)) for share in (0.5, 0.9))
    torch.testing.assert_close(early, chapter.ldam(logits, targets, run_of(*COUNTS)))
    assert not torch.allclose(early, late)


def test_a_cosine_head_looks_at_directions_alone():
    with reproducible(0):
        head = chapter.CosineNet(10).head
    features = torch.randn(5, 64)
    torch.testing.assert_close(head(7 * features), head(features))
    assert head(features).abs().max() <= 30
    torch.testing.assert_close(head(head.weight).diagonal(), torch.full((10,), 30.0))
    head.weight.data[3] *= 4
    torch.testing.assert_close(head(head.weight[3:4])[0, 3], torch.tensor(30.0))


def test_equalisation_spares_the_rare_class_on_other_classes_samples_alone():
    logits, run = torch.zeros(3, 3, requires_grad=True), run_of(6000, 600, 60)  # shares .90, .09, .009
    (pull,) = torch.autograd.grad(chapter.equalised(logits, torch.arange(3), run, ignored=1.0), logits)
    assert pull[:2, 2].tolist() == [0, 0] and pull[2, 2] < 0
    assert (pull[:2, :2] != 0).all() and (pull[2] != 0).all()
    with reproducible(0):
        many = torch.zeros(2000, 3, requires_grad=True)
        (pull,) = torch.autograd.grad(chapter.equalised(many, torch.zeros(2000, dtype=torch.long), run), many)
    assert float((pull[:, 2] == 0).float().mean()) == pytest.approx(0.9, abs=0.02)


def test_seesaw_spares_by_counts_and_pushes_by_detached_scores():
    logits, run = torch.zeros(1, 3, requires_grad=True), run_of(*COUNTS)
    (pull,) = torch.autograd.grad(chapter.seesaw(logits, torch.tensor([0]), run), logits)
    added = torch.tensor([0.0, 0.8 * math.log(0.1), 0.8 * math.log(0.01)])
    torch.testing.assert_close(pull[0], added.softmax(0) - torch.tensor([1.0, 0, 0]))
    other = run_of(100, 100, 100)
    logits = torch.tensor([[1.0, 2.0, 0.0]], requires_grad=True)
    (pull,) = torch.autograd.grad(chapter.seesaw(logits, torch.tensor([0]), other), logits)
    expected = (logits.detach() + torch.tensor([[0.0, 2.0, 0.0]])).softmax(1) - torch.tensor([[1.0, 0, 0]])
    torch.testing.assert_close(pull, expected)
    assert math.isfinite(chapter.seesaw(torch.tensor([[-200.0, 200.0, 0.0]]), torch.tensor([0]), run))


def test_label_smoothing_is_torchs():
    logits, targets = batch()
    torch.testing.assert_close(LOSSES["label smoothing"](logits, targets, run_of(*COUNTS)).double(),
                               F.cross_entropy(logits, targets, label_smoothing=0.1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_for_the_sure_and_the_lost(name):
    logits = torch.tensor([[80.0, 0.0, 0.0], [0.0, 80.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([0, 2, 1]), run_of(*COUNTS, progress=0.9))
    (pull,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(pull).all()
    assert float(pull[1, 2]) < 0, "the missed sample of the rare class is pulled up"


# ---------------------------------------------------------------- whole steps

@pytest.fixture(scope="module")
def data():
    return long_tailed("MNIST", data="stand-in")


@pytest.fixture
def run(data):
    with reproducible(0):
        return prepare(Recipe(), data.train, 10, steps=10, batch_size=16, seed=0)


def test_influence_balancing_is_plain_at_first_and_divides_by_the_influence_later(run, data):
    run.model.eval()
    inputs, labels = run.batch(data.train, torch.arange(0, len(data.train), 40))
    features = run.model.features(run.normalise(inputs))
    logits = run.model.head(features)
    each = F.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(chapter.influence_balanced(run, inputs, labels), each.mean())
    run.step = 5
    pull = (logits.softmax(1) - F.one_hot(labels, 10)).abs().sum(1) * features.abs().sum(1)
    rarity = 10 * (1 / run.class_counts) / (1 / run.class_counts).sum()
    expected = (1000 * rarity[labels] * each / (pull + 1e-3)).mean()
    found = chapter.influence_balanced(run, inputs, labels)
    torch.testing.assert_close(found, expected)
    slopes, right = (torch.autograd.grad(loss, run.model.head.weight, retain_graph=True)[0]
                     for loss in (found, expected))
    torch.testing.assert_close(slopes, right, msg="the gradient runs through the quotient")


def test_detached_influence_gives_every_sample_one_pull_however_easy(run, data):
    run.model.eval()
    inputs, labels = run.batch(data.train, torch.arange(0, len(data.train), 40))
    features = run.model.features(run.normalise(inputs)).detach()
    logits = (8 * F.one_hot(labels, 10) + run.model.head(features)).detach().requires_grad_()
    sizes = {}
    for detached in (False, True):
        pull = chapter.influence(logits, features, labels)
        each = F.cross_entropy(logits, labels, reduction="none") / ((pull.detach() if detached else pull) + 1e-9)
        (slope,) = torch.autograd.grad(each.sum(), logits)
        sizes[detached] = slope.abs().sum(1) * features.abs().sum(1)
    torch.testing.assert_close(sizes[True], torch.ones(len(labels)), rtol=1e-3, atol=0)
    assert sizes[False].max() < 0.1


def test_the_detached_influence_loss_is_plain_at_first_and_its_weights_have_mean_one_and_no_gradient(run, data):
    run.model.eval()
    inputs, labels = run.batch(data.train, torch.arange(0, len(data.train), 40))
    features = run.model.features(run.normalise(inputs))
    logits = run.model.head(features)
    each = F.cross_entropy(logits, labels, reduction="none")
    run.step = 0
    torch.testing.assert_close(chapter.influence_detached(run, inputs, labels), each.mean())
    run.step = run.steps - 1
    weights = chapter.inverse(run)[labels] / (chapter.influence(logits, features, labels) + 1e-3)
    expected = (weights / weights.mean()).detach() @ each / len(labels)
    found = chapter.influence_detached(run, inputs, labels)
    torch.testing.assert_close(found, expected)
    slopes, right = (torch.autograd.grad(loss, run.model.head.weight, retain_graph=True)[0]
                     for loss in (found, expected))
    torch.testing.assert_close(slopes, right, msg="the gradient runs through the weights")


def test_the_published_mean_divides_by_the_weights_of_the_batch():
    logits, targets = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 0, 1])
    def weights(run):
        return torch.tensor([0.5, 1.5])
    assert float(chapter.divided_by_weights(logits, targets, None, weights)) == pytest.approx(0.57990, abs=1e-5)
    assert float(chapter.weighted(logits, targets, None, weights)) == pytest.approx(0.48325, abs=1e-5)


def test_weights_that_sum_to_the_classes_take_a_smaller_step_than_torchs_mean():
    run = run_of(5923, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60)
    weights = chapter.sum_to_classes(run)
    assert float(weights.sum()) == pytest.approx(10)
    mean = float((weights * run.class_counts).sum() / run.class_counts.sum())
    assert 1 / mean == pytest.approx(5.8, abs=0.4)
    torch.testing.assert_close(weights / mean, chapter.effective(run))


REFERENCE = {  # by the code of BagofTricks-LT (and of mmdetection for seesaw, its clamp let go) on the tensors below
    "softmax equalisation": 4.9690261, "CDT": 4.0327454, "label-aware smoothing": 5.4059229, "LDAM": 54.2735901,
    "logit-adjusted loss": 6.1733775, "label smoothing": 5.2955866, "seesaw loss": 13.5098581,
}


@pytest.mark.parametrize("name", REFERENCE)
def test_the_loss_has_the_value_of_an_independent_implementation(name):
    run = run_of(5923, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60)
    logits = 3 * torch.arange(1.0, 321).sin().view(32, 10)
    targets = torch.arange(32) * 7 % 10
    changes = {"softmax equalisation": {"ignored": 1.0}}.get(name, {})
    logits = 10 * logits if name == "LDAM" else logits  # its code multiplies cosines by 30
    assert float(LOSSES[name](logits, targets, run, **changes)) == pytest.approx(REFERENCE[name], rel=2e-6)


def test_the_influence_balanced_loss_has_the_value_of_an_independent_implementation():
    run = run_of(5923, 3596, 2156, 1292, 774, 464, 278, 166, 100, 60, progress=0.9)
    features = torch.arange(256.0).cos().view(32, 8).abs()
    run.model = SimpleNamespace(features=lambda inputs: features,
                                head=lambda _: 3 * torch.arange(1.0, 321).sin().view(32, 10))
    run.normalise = lambda inputs: inputs
    found = chapter.influence_balanced(run, features, torch.arange(32) * 7 % 10)
    assert float(found) == pytest.approx(597.270996, rel=2e-6)


def test_e44_as_printed_turns_the_whole_batch_down():
    logits, targets = batch(dtype=torch.float32)
    run = run_of(*COUNTS)
    loss = chapter.divided_by_weights(logits, targets, run, chapter.effective)
    expected = 0.98 * (1 - (-loss).exp()) ** 2 * loss
    torch.testing.assert_close(chapter.focal_of_the_batch(logits, targets, run), expected)
    assert not torch.allclose(expected, chapter.class_balanced_focal(logits, targets, run), rtol=0.05)


# ---------------------------------------------------------------- what is drawn and measured

def test_the_four_ideas_are_the_losses_of_the_page():
    counts = torch.tensor([6000.0, 600.0, 60.0])
    run = run_of(*COUNTS)
    logits, targets = batch(dtype=torch.float32)
    real = {"weigh the class": LOSSES["class weights"], "weigh the difficulty": LOSSES["focal loss"],
            "move the margin": LOSSES["logit-adjusted loss"], "scale the logits": LOSSES["CDT"]}
    for idea, loss in chapter.four_ideas(counts).items():
        torch.testing.assert_close(loss(logits, targets).mean(), real[idea](logits, targets, run))


def test_a_pull_is_the_slope_at_the_true_logit():
    lead = torch.tensor([-2.0, 0.0, 3.0])
    for label in (0, 1):
        found = chapter.pulls(lambda z, y: F.cross_entropy(z, y, reduction="none"), lead, label)
        torch.testing.assert_close(found, 1 - lead.sigmoid())


def test_sampling_and_weighting_have_one_mean_and_two_noises():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 900 + [1] * 100)
    errors, features = torch.randn(1000, 2, generator=generator), torch.rand(1000, 3, generator=generator)
    weights = (500 / torch.bincount(labels).float())[labels]
    ones = torch.ones(1000)
    weighing = chapter.head_gradients(errors, features, weights, ones, batches=4000, size=32)
    sampling = chapter.head_gradients(errors, features, ones, weights, batches=4000, size=32)
    exact = (weights[:, None] * errors).T @ features / 1000
    for found in (weighing, sampling):
        assert found.shape == (4000, 2, 3)
        torch.testing.assert_close(found.mean(0), exact, rtol=0, atol=0.02)
    assert (chapter.noise(weighing) > 1.3 * chapter.noise(sampling)).all()
    spread = chapter.noise(sampling)
    torch.testing.assert_close(spread, sampling.var(0, correction=0).sum(1).sqrt())


def test_errors_and_features_make_the_gradient_of_the_last_layer(run, data):
    some = data.train[torch.arange(0, len(data.train), 10)]
    errors, features = chapter.errors_and_features(run, some, chunk=7)
    run.model.eval()
    inputs, labels = run.batch(some, torch.arange(len(some)))
    loss = F.cross_entropy(run.forward(inputs), labels)
    (slope,) = torch.autograd.grad(loss, run.model.head.weight)
    torch.testing.assert_close(errors.T @ features / len(some), slope, rtol=1e-3, atol=1e-5)


def test_a_bag_misses_a_third_of_what_is_weighed_and_nothing_of_what_is_drawn_or_repeated():
    ways = ("weighed in the tree", "drawn by weight", "repeated before the bootstrap")
    weighed, drawn, repeated = (chapter.bags(60, 780, way, draws=60) for way in ways)
    assert weighed[0] == pytest.approx(60 * (1 - math.exp(-1)), abs=1.5) and weighed[0] + weighed[1] == 60
    assert weighed[2] == 0, "without copies nothing of what is left out is in the bag"
    assert drawn[0] > 59.5 and drawn[1] < 0.5
    assert repeated[0] > 59.5 and repeated[1] == pytest.approx(780 / math.e, rel=0.05)
    assert repeated[2] > 0.99 * repeated[1]


def test_one_look_is_at_validation_and_a_lost_training_finds_nothing():
    found = chapter.one_look({}, 0.16, 0, 2, "stand-in")
    assert len(found) == 10 and max(found) > 0
    assert chapter.one_look({"loss": lambda logits, targets, run: logits.sum() * torch.inf}, 0.16, 0, 2,
                            "stand-in").tolist() == [0] * 10


@pytest.mark.parametrize("name", chapter.TECHNIQUES)
def test_every_technique_trains(data, name):
    trained = fit(Recipe(**chapter.TECHNIQUES[name]), data, steps=3, batch_size=16, evaluate_every=1)
    assert torch.isfinite(torch.tensor(trained.history[-1]["loss"]))
