"""Spam: augmenters that keep their promises, splits without leaks, the errata beside the right versions."""

import random
import shutil
import subprocess
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chapters import load
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from helpers.datasets import Dataset, Split, find_nltk_data, load_messages
from helpers.training import Recipe, fit

spam = load("text/spam")
spam.STOP_WORDS = sorted(ENGLISH_STOP_WORDS)

MESSAGES = ["Free entry in a weekly draw, call now", "", "   ", "🎉🎉🎉", "ok",
            "WIN £1000 <script>alert(1)</script> & more"]
BY_NLPAUG = ["keyboard slips", "misread print", "random letters", "misspelling", "splitting", "swapping", "deletion",
             "cropping"]


@pytest.fixture(scope="module")
def wordnet():
    """WordNet, or a skip that says so."""
    if find_nltk_data() is None:
        pytest.skip("needs WordNet: neither in BOOK_DATA/nltk_data nor to be had from the network")


def tiny(word):
    """A dictionary of two words."""
    return {"big": ["large"], "prize": ["award"]}.get(word, [])


# ---------------------------------------------------------------- augmenters


@pytest.mark.parametrize("name", BY_NLPAUG)
@pytest.mark.parametrize("text", MESSAGES)
def test_an_augmenter_returns_a_string_and_the_same_for_the_same_seed(name, text):
    augment = spam.letter_and_word_augmenters(wordnet=False)[name]
    one, other = (augment(text, np.random.default_rng(3)) for _ in range(2))
    assert isinstance(one, str) and one == other


def test_an_augmenter_leaves_the_global_generators_alone():
    augment = spam.letter_and_word_augmenters(wordnet=False)["swapping"]
    random.seed(0)
    np.random.seed(0)
    expected = random.random(), np.random.random()
    random.seed(0)
    np.random.seed(0)
    augment(MESSAGES[0], np.random.default_rng(5))
    assert (random.random(), np.random.random()) == expected


@pytest.mark.parametrize("name", ["synonyms", "EDA", "EDA as printed"])
def test_augmenters_with_wordnet_keep_the_same_promises(name, wordnet):
    one, _ = spam.copies_of(name, MESSAGES, copies=2)
    other, _ = spam.copies_of(name, MESSAGES[::-1], copies=2)
    assert one == other, "a copy depends on its message and the seed, not on the order of the messages"
    assert set(one) == set(MESSAGES)
    assert all(isinstance(copy, str) for copies in one.values() for copy in copies)


def test_tfidf_substitution_draws_from_its_own_training_messages():
    training = ["win a prize now", "win a car now", "call now to win"] * 4
    augment = spam.tfidf_substitution(training)
    known = set(" ".join(training).split())
    for text in ["win a prize now", "", "🎉"]:
        made = augment(text, np.random.default_rng(0))
        assert isinstance(made, str) and made == augment(text, np.random.default_rng(0))
    assert set(augment("win a prize now", np.random.default_rng(1)).split()) <= known


def test_translation_back_runs_one_process_a_direction_and_keeps_empty_messages_in_place(monkeypatch):
    calls = []

    def run(command, *, input, **options):
        calls.append(command[-1])
        return SimpleNamespace(stdout="\n\n".join(part.upper() + "\n" for part in input.split("\n\n")))

    monkeypatch.setattr(subprocess, "run", run)
    assert spam.apertium(["one two", "", "three\nfour"]) == ["ONE TWO", "", "THREE FOUR"]
    assert calls == ["eng-spa", "spa-eng"]


def test_a_translator_that_loses_a_message_is_an_error(monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: SimpleNamespace(stdout="only one\n"))
    with pytest.raises(RuntimeError, match="1 messages for 2"):
        spam.apertium(["one", "two"])


@pytest.mark.skipif(not shutil.which("apertium"), reason="needs the Apertium program")
def test_apertium_translates_each_message_on_its_own():
    made = spam.apertium(["The house is big.", "", "🎉", "I want to win."])
    assert len(made) == 4 and made[1] == ""
    assert "house" in made[0].lower() and "win" in made[3].lower()


def test_a_masked_model_replaces_words_but_neither_stop_words_nor_itself(tmp_path):
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "win", "the", "big", "prize", "car", "house"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16)
    model = BertForMaskedLM(config).eval()
    made = [spam.in_context("win the big prize", np.random.default_rng(seed), tokenizer, model, share=0.3)
            for seed in range(20)]
    assert made[0] == spam.in_context("win the big prize", np.random.default_rng(0), tokenizer, model, share=0.3)
    for text in made:
        new = text.split()
        assert len(new) == 4 and new[1] == "the"
        assert sum(a != b for a, b in zip(new, ["win", "the", "big", "prize"], strict=True)) == 1
    for text in ("", "🎉", "the"):
        assert spam.in_context(text, np.random.default_rng(0), tokenizer, model) == text


# ---------------------------------------------------------------- EDA


def test_each_operation_of_eda_by_hand():
    words, rng = ["the", "big", "prize"], np.random.default_rng(0)
    assert spam.replace_synonyms(words, rng, 1.0, tiny) == ["the", "large", "award"]
    inserted = spam.insert_synonyms(words, rng, 0.1, tiny)
    assert len(inserted) == 4 and [word for word in inserted if word not in ("large", "award")] == words
    swapped = spam.swap_words(words, rng, 0.1)
    assert sorted(swapped) == sorted(words) and sum(a != b for a, b in zip(words, swapped, strict=True)) == 2
    assert spam.delete_words(words, rng, 0.0) == words
    assert len(spam.delete_words(words, rng, 1.0)) == 1
    assert words == ["the", "big", "prize"], "the message itself is not touched"


@pytest.mark.parametrize(("words", "alpha", "changes"), [(3, 0.1, 1), (20, 0.1, 2), (20, 0.5, 10), (1, 0.5, 1)])
def test_eda_changes_alpha_of_the_words_and_at_least_one(words, alpha, changes):
    assert spam.how_many([""] * words, alpha) == changes


def test_eda_deletes_each_word_with_probability_alpha():
    rng, words = np.random.default_rng(0), ["word"] * 20
    kept = np.mean([len(spam.delete_words(words, rng, 0.3)) for _ in range(2000)]) / 20
    assert kept == pytest.approx(0.7, abs=0.01)


def test_eda_gives_each_copy_one_operation_where_the_printed_code_chains_all_four():
    text = "the big prize and the big car"
    for seed in range(20):
        copies = spam.eda(text, np.random.default_rng(seed), alpha=0.3, copies=4, lookup=tiny)
        words = [copy.split() for copy in copies]
        replaced = [w for w in words if len(w) == 7 and set(w) & {"large", "award"}]
        inserted = [w for w in words if len(w) == 9]  # two insertions
        swapped = [w for w in words if sorted(w) == sorted(text.split())]
        assert len(replaced) == 1 and len(inserted) == 1 and len(swapped) >= 1
        assert all(word in {*text.split(), "large", "award"} for w in words for word in w)


def test_the_printed_eda_replaces_stop_words_and_deletes_a_fixed_number(monkeypatch):
    monkeypatch.setattr(spam, "synonyms", lambda word, first_only=False: ["THIS"] if word == "the" else [])
    right = [spam.eda("the the the the", np.random.default_rng(seed), 0.5, 4, spam.synonyms) for seed in range(10)]
    printed = [spam.eda_as_printed("the the the the", np.random.default_rng(seed), 0.5) for seed in range(10)]
    assert not any("THIS" in copy for copies in right for copy in copies)
    assert all("THIS" in copy for copy in printed)
    assert {len(copy.split()) for copy in printed} == {4 + 2 - 3}  # two inserted, half of six deleted, every time


# ---------------------------------------------------------------- duplicates and splits


def test_jaccard_and_cosine_agree_with_sets_and_lists():
    texts = ["call 0800 now to win", "call 0800 now to win!", "see you at home", "hi"]
    runs = [{text.ljust(5)[start:start + 5] for start in range(max(len(text), 5) - 4)} for text in texts]
    found = spam.jaccard(texts).toarray()
    for a in range(4):
        for b in range(a + 1, 4):
            assert found[a, b] == pytest.approx(len(runs[a] & runs[b]) / len(runs[a] | runs[b]))
    assert spam.cosine(["win a prize", "win a prize", "go home"]).toarray()[0, 1] == pytest.approx(1)


def test_copies_of_copies_are_one_group():
    groups = spam.groups_of(np.array([[0, 1], [1, 3]]), 5)
    assert groups[0] == groups[1] == groups[3] and len(set(groups.tolist())) == 3


def test_numbers_case_and_spaces_do_not_make_a_message_new():
    assert spam.normalised("Call  0800 NOW") == spam.normalised("call 0900 now")


def test_a_split_is_disjoint_stratified_and_sixty_fifteen_twentyfive():
    labels = np.repeat([0, 1], [900, 100])
    parts = spam.split(labels, seed=3)
    assert sorted(np.concatenate(parts)) == list(range(1000))
    assert [len(part) for part in parts] == [600, 150, 250]
    assert [int(labels[part].sum()) for part in parts] == [60, 15, 25]


def test_copies_are_of_spam_and_carry_its_label():
    texts, labels = ["ham", "ok", "k", "no", "win", "buy"], np.array([0, 0, 0, 0, 1, 1])
    bank = {"win": ["w1n"], "buy": ["b", "B"]}
    level, marks = spam.with_copies(texts, labels, bank, np.random.default_rng(0))
    assert Counter(marks.tolist()) == {0: 4, 1: 4} and level[:6] == texts
    assert sorted(level[6:]) == ["b", "w1n"] and marks[6:].tolist() == [1, 1]
    own, marks = spam.with_copies(texts, labels, bank, np.random.default_rng(0), level=False)
    assert len(own) == 8 and marks.sum() == 4


def test_undersampling_keeps_all_spam_and_drops_twins_first():
    texts = ["win now", "see you at home", "see you at home!", "see you at home ok", "lunch tomorrow maybe", "buy it"]
    labels = np.array([1, 0, 0, 0, 0, 1])
    kept, marks = spam.undersample_alike(texts, labels)
    assert marks.sum() == 2 and len(kept) == 4 and "lunch tomorrow maybe" in kept
    kept, marks = spam.undersample(texts, labels, np.random.default_rng(0))
    assert marks.sum() == 2 and len(kept) == 4


def test_no_message_of_validation_or_test_enters_a_fit(monkeypatch):
    messages = load_messages("stand-in")
    texts, labels = np.array(messages.texts[:400], dtype=object), messages.labels[:400]
    texts = np.array([f"{text} number{place}x" for place, text in enumerate(texts)], dtype=object)  # to tell them apart
    bank = {text: [text + " again"] for text in texts[labels == 1]}
    fitted, plain = [], TfidfVectorizer.fit_transform

    def spy(self, raw, *rest):
        fitted.extend(raw)
        return plain(self, raw, *rest)

    monkeypatch.setattr(TfidfVectorizer, "fit_transform", spy)
    train, val, test = spam.split(labels, 0)
    for technique in ("baseline", "class weights", "random oversampling", "made up", "made up, one copy"):
        spam.run_linear(technique, texts, labels, {"made up": bank}, 0, "stand-in")
    spam.run_network("network", texts, labels, None, 0, 1, "stand-in")
    seen = {word for text in fitted for word in text.split() if word.startswith("number")}
    assert seen == {f"number{place}x" for place in train}
    assert not seen & {f"number{place}x" for place in [*val, *test]}


def test_twins_in_and_twins_out_train_on_as_many_messages_and_only_one_holds_twins(monkeypatch):
    texts = np.array([f"text {place}" for place in range(240)], dtype=object)
    labels = np.tile([0, 0, 1, 1], 60)
    groups = np.where(np.arange(240) < 40, np.arange(240) // 2, np.arange(240))  # twenty pairs, the rest alone
    trained_on, tested_on = [], []

    def stub(texts, labels):
        trained_on.append(texts)
        return lambda others: tested_on.append(others) or np.zeros(len(others))

    monkeypatch.setattr(spam, "fit_linear", stub)
    _, twins, _ = spam.leak(texts, labels, groups, 0)
    group = dict(zip(texts, groups, strict=True))
    tested = {group[text] for text in tested_on[0]}
    crossing = [sum(group[text] in tested for text in sample) for sample in trained_on]
    assert crossing[0] == twins > 0 and crossing[1] == 0
    assert len(trained_on[0]) == len(trained_on[1])


# ---------------------------------------------------------------- metrics


def test_recall_at_a_precision_by_hand():
    scores, labels = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([1, 1, 0, 1, 0])
    assert spam.recall_at(scores, labels, 1.0) == pytest.approx(2 / 3)
    assert spam.recall_at(scores, labels, 0.75) == 1


def test_the_threshold_with_the_best_f1_by_hand():
    scores, labels = np.array([5.0, 4.0, 3.0, 2.0]), np.array([1, 1, 0, 0])
    cut = spam.best_threshold(scores, labels)
    assert ((scores > cut) == [True, True, False, False]).all()


def test_a_vectoriser_fitted_before_the_augmentation_drops_the_words_that_it_brings():
    before = TfidfVectorizer().fit(["win the prize"])
    after = TfidfVectorizer().fit(["win the prize", "gain the award"])
    assert before.transform(["gain award"]).nnz == 0
    assert after.transform(["gain award"]).nnz == 2


# ---------------------------------------------------------------- the network


def test_mixed_labels_sum_to_one_and_follow_the_share():
    run = SimpleNamespace(rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(0),
                          class_counts=torch.ones(2))
    vectors, labels = torch.eye(4)[:, :3], torch.tensor([0, 1, 0, 1])
    mixed, targets = spam.mixed_pairs(vectors, labels, run)
    share = np.random.default_rng(0).beta(1, 1)
    partner = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(targets.sum(1), torch.ones(4))
    assert torch.allclose(mixed, share * vectors + (1 - share) * vectors[partner], atol=1e-6)
    assert torch.allclose(targets[:, 1], share * labels + (1 - share) * labels[partner].float(), atol=1e-6)


def test_the_network_tells_a_word_that_marks_a_class():
    texts = [*["win a prize now"] * 40, *["see you at home"] * 40]
    dictionary = spam.dictionary_of(texts)
    part = Split(spam.numbered(texts, dictionary, length=8), torch.tensor([1] * 40 + [0] * 40))
    for objective in ({}, {"objective": spam.mixup_words}, {"objective": spam.mixup_sentences}):
        recipe = Recipe(model=lambda classes: spam.TextCNN(classes, len(dictionary) + 2),
                        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01), **objective)
        trained = fit(recipe, Dataset("made up", ("ham", "spam"), part, part, part), steps=40, batch_size=16)
        assert (trained.predict(part).argmax(1) == part.labels).all()


def test_rare_words_and_long_messages_fit_the_row():
    dictionary = spam.dictionary_of(["a big win", "big win"])
    assert set(dictionary) == {"big", "win"} and min(dictionary.values()) == 2
    rows = spam.numbered(["big unheard win big", ""], dictionary, length=3).tolist()
    assert rows == [[dictionary["big"], 1, dictionary["win"]], [0, 0, 0]]


# ---------------------------------------------------------------- what readers see


def test_a_message_with_a_script_is_shown_as_text():
    shown = spam.show({"message": ["<script>alert(1)</script> & more"]}).data
    assert "<script>" not in shown and "&lt;script&gt;" in shown
