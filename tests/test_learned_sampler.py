"""The chapter on MESA: window, state and reward by hand; what meta-training sees; a player that learns a game."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from helpers.cases import Case, draw
from helpers.chapters import load
from helpers.undersampling import rare_scores

learned = load("tables/learned_sampler")


def blobs(common=200, rare=20, seed=0):
    rng = np.random.default_rng(seed)
    y = np.repeat([0, 1], [common, rare])
    return rng.normal(size=(common + rare, 2)) + 1.5 * y[:, None], y


# ---------------------------------------------------------------- the game

def test_the_window_at_nought_picks_easy_rows_and_at_one_hard_ones():
    errors, rng = np.linspace(0, 1, 2001), np.random.default_rng(0)
    means = {mu: errors[learned.window(errors, mu, 60, rng)].mean() for mu in (0, 0.5, 1)}
    assert means[0] == pytest.approx(0.16, abs=0.04)  # a half normal of σ .2 has the mean .2 · √(2/π) = .16
    assert means[0.5] == pytest.approx(0.5, abs=0.06)
    assert means[1] == pytest.approx(0.84, abs=0.04)


def test_the_window_draws_by_its_density_and_no_row_twice():
    rng, errors = np.random.default_rng(0), np.array([0.0, 0.2, 0.4])
    hits = np.bincount([learned.window(errors, 0.0, 1, rng)[0] for _ in range(6000)], minlength=3) / 6000
    weight = np.exp([0, -0.5, -2])  # nought, one and two σ
    assert hits == pytest.approx(weight / weight.sum(), abs=0.02)
    chosen = learned.window(np.zeros(50), 1.0, 30, rng)
    assert len(np.unique(chosen)) == 30
    assert sorted(learned.window(errors, 1.0, 9, rng)) == [0, 1, 2]


def test_the_histogram_spans_nought_to_one_whatever_the_errors():
    assert learned.spread(np.array([0.05, 0.05, 0.15, 0.5])).tolist() == [0.75, 0, 0.25, 0, 0]
    assert learned.spread(np.array([0.9, 0.95])).tolist() == [0, 0, 0, 0, 1]  # not from least to greatest
    assert learned.spread(np.array([0.0, 1.0])).tolist() == [0.5, 0, 0, 0, 0.5]


def test_a_game_keeps_the_books_of_its_ensemble():
    train, val = blobs(), blobs(seed=1)
    game = learned.Game(train, val, rounds=4, depth=3)
    state = game.start(0)
    assert state.shape == (10,) and state[:5].sum() == pytest.approx(1) == state[5:].sum()
    for number in range(2, 5):
        before = sk.average_precision_score(val[1], game.guess)
        state, reward, over = game.play(0.7)
        assert len(game.trees) == number and over == (number == 4)
        scores = rare_scores(game.trees, val[0])
        assert reward == pytest.approx(100 * (sk.average_precision_score(val[1], game.guess) - before))
        common = rare_scores(game.trees, train[0][train[1] == 0])
        assert np.allclose(game.hardness, common) and np.allclose(game.guess, scores)
        spread = [*learned.spread(game.hardness), *learned.spread(abs(val[1] - game.guess))]
        assert state.tolist() == pytest.approx(spread)
    assert max(tree.get_depth() for tree in game.trees) <= 3


def test_each_tree_sees_all_rare_rows_and_as_many_common_ones():
    train = blobs()
    game, counts = learned.Game(train, blobs(seed=1)), []
    game.start(0)

    class Recorded(learned.DecisionTreeClassifier):
        def fit(self, X, y):
            counts.append(np.bincount(y).tolist())
            return super().fit(X, y)

    original, learned.DecisionTreeClassifier = learned.DecisionTreeClassifier, Recorded
    try:
        game.play(0.5)
    finally:
        learned.DecisionTreeClassifier = original
    assert counts == [[20, 20]]


# ---------------------------------------------------------------- the player

def test_density_of_an_action_is_that_of_a_squashed_normal():
    player = learned.Player(0)
    torch.manual_seed(1)
    action, density = player.draw(torch.rand(5, 10))
    torch.manual_seed(1)
    mean, log_std = player.actor(torch.rand(5, 10)).chunk(2, dim=1)
    base = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
    squashed = torch.distributions.TransformedDistribution(base, torch.distributions.SigmoidTransform())
    assert torch.allclose(density, squashed.log_prob(action), atol=1e-4)
    assert ((action > 0) & (action < 1)).all()


def test_the_lesser_critic_counts_and_targets_follow_slowly():
    player = learned.Player(0)
    states, actions = torch.rand(6, 10), torch.rand(6, 1)
    both = [critic(torch.cat([states, actions], 1)) for critic in player.critics]
    assert torch.equal(player.value(player.critics, states, actions), torch.minimum(*both))
    before = [value.clone() for value in player.targets.parameters()]
    player.learn(states, actions, torch.ones(6, 1), states, torch.zeros(6, 1))
    for old, slow, quick in zip(before, player.targets.parameters(), player.critics.parameters(), strict=True):
        assert torch.allclose(slow, old + 0.01 * (quick - old), atol=1e-6)


@pytest.mark.parametrize("best", [0.3, 0.6])
def test_a_player_learns_a_game_with_a_known_best_action(best):
    player, generator = learned.Player(0), torch.Generator().manual_seed(0)
    for _ in range(750):
        states, actions = (torch.rand(64, width, generator=generator) for width in (10, 1))
        player.learn(states, actions, -20 * (actions - best) ** 2, states, torch.ones(64, 1))
    assert player.act(np.full(10, 0.5)) == pytest.approx(best, abs=0.1)


def test_what_comes_after_the_end_does_not_count():
    states, actions = torch.rand(64, 10), torch.rand(64, 1)
    worth = {}
    for over in (0.0, 1.0):
        player = learned.Player(0)
        for _ in range(400):
            player.learn(states, actions, torch.ones(64, 1), states, torch.full((64, 1), over))
        worth[over] = float(player.value(player.critics, states, actions).mean())
    assert worth[1.0] == pytest.approx(1, abs=0.1) and worth[0.0] > 1.5


# ---------------------------------------------------------------- meta-training and transfer

def test_meta_training_sees_no_test_row_and_tells_its_cost(monkeypatch):
    case, seen = draw("Wilt", "stand-in", 600, 0), []
    hidden = Case(case.train, case.val, None)  # a look at the test rows would fail
    original = learned.Game.__init__

    def recorded(self, train, val, **options):
        seen.append((train, val))
        original(self, train, val, **options)

    monkeypatch.setattr(learned, "draw", lambda *_: hidden)
    monkeypatch.setattr(learned.Game, "__init__", recorded)
    found = learned.meta_train("Wilt", "stand-in", 600, 12, 0, batch=8)
    assert seen == [(case.train, case.val)]
    assert len(found["rewards"]) == 24 and found["seconds"] > 0
    untrained = learned.Player(0).actor.state_dict()
    assert set(found["actor"]) == set(untrained)
    assert any(not np.array_equal(value, untrained[name].numpy()) for name, value in found["actor"].items())
    player = learned.player_of(found["actor"], seed=9)
    assert all(np.array_equal(value.numpy(), found["actor"][name]) for name, value in player.actor.state_dict().items())


def test_the_first_half_of_the_moves_is_random_and_teaches_nothing(monkeypatch):
    taught = []
    monkeypatch.setattr(learned.Player, "learn", lambda self, *batch: taught.append([part.shape for part in batch]))
    learned.meta_train("Wilt", "stand-in", 600, 6, 0, batch=8)
    assert taught == [[(8, 10), (8, 1), (8, 1), (8, 10), (8, 1)]] * 6


def test_choices_differ_in_their_actions_alone():
    actor = {name: value.numpy() for name, value in learned.Player(0).actor.state_dict().items()}
    actions = {choice: learned.ensemble(choice, actor, "Wilt", "stand-in", 600, 0)[1] for choice in learned.CHOICES}
    assert actions["uniform undersampling"] == actions["Self-paced Ensemble"] == []
    assert actions["μ = ½"] == [0.5] * 9 and actions["μ = 1"] == [1.0] * 9
    assert len(set(actions["random windows"])) == 9 and all(0 < mu < 1 for mu in actions["MESA"])
    found, _ = learned.ensemble("MESA", actor, "Wilt", "stand-in", 600, 0)
    again, _ = learned.ensemble("MESA", actor, "Wilt", "stand-in", 600, 0)
    assert found["PR-AUC"] == again["PR-AUC"] and found["seconds"] > 0


def test_plain_boosted_trees_see_the_same_split():
    found = learned.boosted("Wilt", "stand-in", 600, 3)
    case = draw("Wilt", "stand-in", 600, 3)
    model = learned.XGBClassifier(n_estimators=100, max_depth=4, learning_rate=0.1, n_jobs=1, random_state=3)
    scores = model.fit(*case.train).predict_proba(case.test[0])[:, 1]
    assert found["PR-AUC"] == sk.average_precision_score(case.test[1], scores) and found["seconds"] > 0


@pytest.fixture
def small(monkeypatch):
    for name, value in {"SEEDS": [0], "DATA": "stand-in", "ROWS": 600, "STEPS": 9, "SETS": ["Wilt"]}.items():
        monkeypatch.setattr(learned, name, value)


def test_a_fixed_window_is_the_same_game_without_a_player(small):
    actor = {name: value.numpy() for name, value in learned.Player(0).actor.state_dict().items()}
    found, _ = learned.ensemble("μ = 1", actor, "Wilt", "stand-in", 600, 0)
    assert learned.with_window(1.0, "Wilt", seed=0) == found["PR-AUC"]


def test_a_player_that_learns_for_longer_makes_four_times_the_moves(small, monkeypatch):
    asked, original = [], learned.meta_train
    monkeypatch.setattr(learned, "meta_train", lambda *job: (asked.append(job), original(*job))[1])
    scores, moves = learned.longer(0)
    assert asked == [("Wilt", "stand-in", 600, 36, 0)]
    assert scores["μ = 1"] == learned.with_window(1.0, "Wilt", seed=0) and len(moves) == 9
    assert 0 <= scores["four times the games"] <= 1 and all(0 < mu < 1 for mu in moves)
