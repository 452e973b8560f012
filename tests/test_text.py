"""The chapters on text: copies, splits without leaks, augmenters that keep their promises, errata beside the right."""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch.nn import functional as F

from helpers import results, texts
from helpers.chapters import load
from helpers.datasets import Dataset, Split
from helpers.messages import find_nltk_data, load_messages
from helpers.training import Recipe, fit

spam, copies = load("text/augmentation"), load("text/copies")
spam.STOP_WORDS = sorted(texts.FUNCTION_WORDS)

MESSAGES = ["Free entry in a weekly draw, call now", "", "   ", "🎉🎉🎉", "ok",
            "WIN £1000 <script>alert(1)</script> & more"]
BY_NLPAUG = ["keyboard slips", "misread print", "random letters", "misspelling", "splitting", "swapping", "deletion",
             "cropping"]
TAGGER = "averaged_perceptron_tagger_eng"


@pytest.fixture(scope="module")
def wordnet():
    """WordNet, or a skip that says so."""
    if find_nltk_data() is None:
        pytest.skip("needs WordNet: neither in BOOK_DATA/nltk_data nor to be had from the network")


@pytest.mark.parametrize("harm", ["cut", "another tagger"])
def test_language_data_that_are_others_are_named(wordnet, harm, tmp_path):
    there = find_nltk_data()
    if not (there / "corpora" / "wordnet").is_dir() or not (there / "taggers" / TAGGER).is_dir():
        pytest.skip("the copy is packed")
    shutil.copytree(there, tmp_path / "nltk_data", copy_function=lambda old, new: Path(new).symlink_to(old))
    path, keep = {"cut": ("corpora/wordnet/data.adj", 0.5),
                  "another tagger": (f"taggers/{TAGGER}/{TAGGER}.weights.json", 0)}[harm]
    content = (there / path).read_bytes()
    (tmp_path / "nltk_data" / path).unlink()
    (tmp_path / "nltk_data" / path).write_bytes(content[:round(keep * len(content))] or b"{}")
    code = "from helpers.messages import find_nltk_data; find_nltk_data()"
    ran = subprocess.run([sys.executable, "-c", code], env=os.environ | {"BOOK_DATA": str(tmp_path)}, text=True,
                         capture_output=True, check=False)
    last = ran.stderr.splitlines()[-1]
    assert ran.returncode == 1 and "DamagedData" in last and str(tmp_path / "nltk_data") in last, ran.stderr


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
    training = [f"claim your gift{place} or the watch{place} today" for place in range(40)]
    augment = spam.tfidf_substitution(training)
    known = set(" ".join(training).split())
    for text in ["claim your gift7 today", "", "🎉"]:
        made = augment(text, np.random.default_rng(0))
        assert isinstance(made, str) and made == augment(text, np.random.default_rng(0))
    made = augment("claim your gift7 today", np.random.default_rng(1))
    assert made != "claim your gift7 today" and set(made.split()) <= known


def test_misspelling_does_not_depend_on_how_a_process_orders_a_set():
    words = ["they", "received", "because", "their", "tomorrow", "friend", "until", "believe", "really"]
    text = " ".join(words)
    made = spam.letter_and_word_augmenters(wordnet=False)["misspelling"]
    expected = [made(text, np.random.default_rng(seed)) for seed in range(20)]
    for word in words:  # nlpaug has the list of a word from a set, and shares it within a process
        spam.naw.SpellingAug().model.dict.get(word, []).reverse()
    made = spam.letter_and_word_augmenters(wordnet=False)["misspelling"]
    assert [made(text, np.random.default_rng(seed)) for seed in range(20)] == expected


def test_tfidf_substitution_does_not_keep_the_statistics_that_a_process_read_first():
    other = [f"message {place} of another split" for place in range(40)]
    own = [f"win a prize{place} or a car{place} now" for place in range(40)]
    spam.tfidf_substitution(other)
    augment = spam.tfidf_substitution(own)
    made = {augment(own[0], np.random.default_rng(seed)) for seed in range(10)}
    assert set(" ".join(made).split()) <= set(" ".join(own).split()), "words of the split that the process saw first"
    assert made != {own[0]}, "nothing was replaced"


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
    assert spam.replace_synonyms(words, rng, 1.0, spam.tiny) == ["the", "large", "award"]
    inserted = spam.insert_synonyms(words, rng, 0.1, spam.tiny)
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
        copies = spam.eda(text, np.random.default_rng(seed), alpha=0.3, copies=4, lookup=spam.tiny)
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


@pytest.mark.parametrize(("word", "kept"), [("the", True), ("You", True), ("because", True), ("call", False),
                                            ("get", False), ("please", False)])
def test_eda_leaves_words_of_grammar_alone_and_not_words_of_the_topic(word, kept):
    assert len(texts.FUNCTION_WORDS) == 127, "as many as the method's own list"
    assert (spam.replaceable([word], lambda word: ["other"]) == []) == kept


# ---------------------------------------------------------------- duplicates and splits


def test_jaccard_and_cosine_agree_with_sets_and_lists():
    lines = ["call 0800 now to win", "call 0800 now to win!", "see you at home", "hi"]
    runs = [{text.ljust(5)[start:start + 5] for start in range(max(len(text), 5) - 4)} for text in lines]
    found = texts.jaccard(lines).toarray()
    for a in range(4):
        for b in range(a + 1, 4):
            assert found[a, b] == pytest.approx(len(runs[a] & runs[b]) / len(runs[a] | runs[b]))
    assert texts.cosine(["win a prize", "win a prize", "go home"]).toarray()[0, 1] == pytest.approx(1)


def test_copies_of_copies_are_one_group():
    groups = texts.groups_of(np.array([[0, 1], [1, 3]]), 5)
    assert groups[0] == groups[1] == groups[3] and len(set(groups.tolist())) == 3


def test_numbers_case_and_spaces_do_not_make_a_message_new():
    assert texts.normalised("Call  0800 NOW") == texts.normalised("call 0900 now")


def test_a_split_is_disjoint_stratified_and_sixty_fifteen_twentyfive():
    labels = np.repeat([0, 1], [900, 100])
    parts = texts.split(labels, seed=3)
    assert sorted(np.concatenate(parts)) == list(range(1000))
    assert [len(part) for part in parts] == [600, 150, 250]
    assert [int(labels[part].sum()) for part in parts] == [60, 15, 25]


def test_copies_are_of_spam_and_carry_its_label():
    lines, labels = ["ham", "ok", "k", "no", "win", "buy"], np.array([0, 0, 0, 0, 1, 1])
    bank = {"win": ["w1n"], "buy": ["b", "B"]}
    level, marks = spam.with_copies(lines, labels, bank, np.random.default_rng(0))
    assert Counter(marks.tolist()) == {0: 4, 1: 4} and level[:6] == lines
    assert sorted(level[6:]) == ["b", "w1n"] and marks[6:].tolist() == [1, 1]
    own, marks = spam.with_copies(lines, labels, bank, np.random.default_rng(0), level=False)
    assert len(own) == 8 and marks.sum() == 4


def test_undersampling_keeps_all_spam_and_drops_twins_first():
    lines = ["win now", "see you at home", "see you at home!", "see you at home ok", "lunch tomorrow maybe", "buy it"]
    labels = np.array([1, 0, 0, 0, 0, 1])
    kept, marks = copies.undersample_alike(lines, labels)
    assert marks.sum() == 2 and len(kept) == 4 and "lunch tomorrow maybe" in kept
    kept, marks = texts.undersample(lines, labels, np.random.default_rng(0))
    assert marks.sum() == 2 and len(kept) == 4


def numbered_messages():
    """Messages that can be told apart by a word of their own."""
    messages = load_messages("stand-in")
    made = np.array([f"{text} number{place}x" for place, text in enumerate(messages.texts[:400])], dtype=object)
    return made, messages.labels[:400]


def test_no_message_of_validation_or_test_enters_a_fit(monkeypatch):
    words, labels = numbered_messages()
    bank = {text: [text + " again"] for text in words[labels == 1]}
    fitted, plain = [], TfidfVectorizer.fit_transform

    def spy(self, raw, *rest):
        fitted.extend(raw)
        return plain(self, raw, *rest)

    monkeypatch.setattr(TfidfVectorizer, "fit_transform", spy)
    train, val, test = texts.split(labels, 0)
    for technique, copied in (("baseline", None), ("class weights", None), ("random oversampling", None),
                              ("made up", bank), ("TF-IDF substitution", None)):
        spam.run_linear(technique, words, labels, copied, 0, "stand-in")
    for technique in ("baseline", "random undersampling", "near-duplicate undersampling"):
        copies.run(technique, words, labels, 0, "stand-in")
    seen = {word for text in fitted for word in text.lower().split() if word.startswith("number")}
    assert seen >= {f"number{place}x" for place in train}
    assert not seen & {f"number{place}x" for place in [*val, *test]}


def only_right(where, good):
    """A stand-in for `texts.fit_linear`: with C = `good` it is right on the messages of `where`, else nowhere."""
    def fit_linear(train, targets, strength=1.0, **options):
        return lambda others: np.array([(1.0 if strength == good and text in where else -1.0) * where.get(text, 1)
                                        for text in others])
    return fit_linear


@pytest.mark.parametrize("good", [1.0, 100.0, 10000.0])
def test_c_and_the_threshold_are_chosen_on_validation_and_not_on_test(monkeypatch, good):
    words, labels = numbered_messages()
    _, val, test = texts.split(labels, 0)
    signs = {text: 1 if label else -1 for text, label in zip(words, labels, strict=True)}
    on = {part: {words[row]: signs[words[row]] for row in rows} for part, rows in (("val", val), ("test", test))}
    monkeypatch.setattr(texts, "fit_linear", only_right(on["val"], good))
    table, _ = spam.run_linear("baseline", words, labels, None, 0, "stand-in")
    assert results.values(table, "baseline", "C").tolist() == [good]
    monkeypatch.setattr(texts, "fit_linear", only_right(on["test"], good))
    table, _ = spam.run_linear("baseline", words, labels, None, 0, "stand-in")
    chosen = results.values(table, "baseline", "C").tolist()
    assert chosen == [texts.STRENGTHS[0]], "nothing does better on validation, so the first C stays"


def test_a_linear_run_records_what_the_figure_of_c_shows():
    words, labels = numbered_messages()
    table, scores = spam.run_linear("baseline", words, labels, None, 0, "stand-in")
    by_strength = [results.values(table, "baseline", "F1 by C", label=place)[0] for place in range(5)]
    best = texts.STRENGTHS.index(results.values(table, "baseline", "C")[0])
    assert results.values(table, "baseline", "F1")[0] == pytest.approx(by_strength[best])
    assert results.values(table, "baseline", "F1, C = 1")[0] == pytest.approx(by_strength[0])
    gain = by_strength[best] - by_strength[0]
    assert results.values(table, "baseline", "tuned minus C = 1")[0] == pytest.approx(gain)
    assert results.values(table, "baseline", results.OVERLAP)[0] == pytest.approx(25 / 60)
    assert len(scores) == 100


def test_logit_adjustment_moves_the_line_and_not_the_order():
    words, labels = numbered_messages()
    tables = {name: spam.run_linear(name, words, labels, None, 0, "stand-in")[0]
              for name in ("baseline", "logit adjustment")}
    by = {name: {metric: results.values(table, name, metric)[0] for metric in ("PR-AUC", "recall", "precision")}
          for name, table in tables.items()}
    assert by["baseline"]["PR-AUC"] == by["logit adjustment"]["PR-AUC"]
    assert by["logit adjustment"]["recall"] >= by["baseline"]["recall"]
    _, scores = spam.run_linear("baseline", words, labels, None, 0, "stand-in")
    train, _, test = texts.split(labels, 0)
    odds = np.log(labels[train].sum() / (1 - labels[train]).sum())
    recall = ((scores > odds) & (labels[test] == 1)).sum() / labels[test].sum()
    assert by["logit adjustment"]["recall"] == pytest.approx(recall)


def test_techniques_end_at_level_classes_by_what_they_are_named_after():
    originals, labels = ["ham"] * 8 + ["win now", "buy it"], np.array([0] * 8 + [1] * 2)
    bank = {"win now": ["w1n now"], "buy it": ["buy 1t"]}
    assert spam.training_set("baseline", originals, labels, None, 0) == (originals, labels)
    for technique, copied, wanted in (("random oversampling", None, {"win now", "buy it"}),
                                      ("a bank", bank, {"w1n now", "buy 1t"})):
        sample, marks = spam.training_set(technique, originals, labels, copied, 0)
        assert Counter(marks.tolist()) == {0: 8, 1: 8}
        assert set(sample[10:]) == wanted


def test_twins_in_and_twins_out_are_as_many_and_only_one_holds_twins():
    labels = np.tile([0, 0, 1, 1], 60)
    groups = np.where(np.arange(240) < 40, np.arange(240) // 2, np.arange(240))  # twenty pairs, the rest alone
    train, val, test = texts.split(labels, 0)
    others = np.concatenate([val, test])
    both = copies.with_and_without_twins(labels, groups, train, others, np.random.default_rng(0))
    crossing = {name: int(np.isin(groups[rows], groups[others]).sum()) for name, rows in both.items()}
    assert crossing["twins in"] == int(np.isin(groups[train], groups[others]).sum()) > 0
    assert crossing["twins out"] == 0
    counts = [np.bincount(labels[rows]).tolist() for rows in both.values()]
    assert counts[0] == counts[1]
    assert set(both["twins in"]) | set(both["twins out"]) == set(train)


def test_the_leak_is_measured_on_the_test_messages_and_counts_their_twins():
    words, labels = numbered_messages()
    groups = np.arange(400)
    train, _, test = texts.split(labels, 0)
    spammy = [next(row for row in rows if labels[row] == 1) for rows in (train, test)]
    groups[spammy[0]] = groups[spammy[1]]  # one pair across the split
    table, count, share = copies.leak(words, labels, groups, 0, "stand-in")
    assert count == 1
    assert share == pytest.approx(1 / labels[test].sum())
    assert set(table.protocol) == {"leak"}
    recall = {name: results.values(table, "twins out", name, protocol="leak")[0]
              for name in ("recall", "recall of twins", "recall of the others")}
    assert recall["recall of twins"] in (0, 1), "there is one"
    assert recall["recall"] == pytest.approx(share * recall["recall of twins"]
                                             + (1 - share) * recall["recall of the others"])


def test_near_duplicates_are_found_by_runs_or_by_words():
    same = ["Call 0800 111 now to claim your prize", "call 0900 222 now to claim your prize!",
            "your prize to claim call 0800 111 now", "see you at the house at five"]
    groups = texts.near_duplicates(same)
    assert groups[0] == groups[1] == groups[2] != groups[3]
    assert texts.first_of_each(groups).tolist() == [0, 3]


def test_a_sketch_finds_a_message_that_shares_most_runs():
    text = "call now to claim your free prize of one thousand pounds"
    one, near, far = map(copies.sketch, (text, text + "!", "see you at home at five then"))
    assert one.jaccard(near) > 0.7 > 0.2 > one.jaccard(far)


# what a network trains on

def test_a_network_sees_the_split_by_numbers_and_copies_of_training_spam_alone():
    words, labels = numbered_messages()
    bank = {text: ["a copy"] for text in words[labels == 1]}
    plain, level = (spam.as_dataset(words, labels, copied, "stand-in", 0) for copied in (None, bank))
    train, val, test = texts.split(labels, 0)
    dictionary = spam.dictionary_of(words[train])
    for part, rows in ((plain.train, train), (plain.val, val), (plain.test, test), (level.val, val),
                       (level.test, test)):
        assert torch.equal(part.inputs, spam.numbered(words[rows], dictionary))
        assert part.labels.tolist() == labels[rows].tolist()
    assert torch.bincount(level.train.labels).tolist() == [int((labels[train] == 0).sum())] * 2


def test_a_dictionary_counted_after_the_copies_knows_every_word_of_the_spam():
    words, labels = numbered_messages()
    bank = {text: [text] for text in words}
    (before, ham), (after, _) = (spam.unknown(words, labels, bank, 0, later) for later in (False, True))
    assert before > 0 == after
    assert ham == 0, "here; digits are normalised, so that every word of ham occurs twice"


@pytest.mark.parametrize("technique", ["baseline", "random oversampling", "random undersampling", "EDA",
                                       "EDA, fitted afterwards"])
def test_the_source_protocol_fits_before_and_copies_once(monkeypatch, technique):
    words, labels = numbered_messages()
    bank = {text: [text + " inventedword"] for text in words[labels == 1]}
    fitted, plain = [], TfidfVectorizer.fit
    monkeypatch.setattr(TfidfVectorizer, "fit", lambda self, raw: fitted.append(list(raw)) or plain(self, raw))
    table = spam.run_source(technique, words, labels, {"EDA": bank}, 0, "stand-in")
    spam_to_train = round(0.75 * int(labels.sum()))
    share = {"baseline": spam_to_train / 300, "random oversampling": 0.5, "random undersampling": 0.5}.get(
        technique, 2 * spam_to_train / (300 + spam_to_train))
    found = {metric: results.values(table, technique, metric, protocol="source")[0]
             for metric in ("spam share", "words dropped", results.OVERLAP)}
    assert found["spam share"] == pytest.approx(share, abs=0.01)
    assert (found["words dropped"] > 0) == technique.startswith("EDA")
    assert found[results.OVERLAP] == pytest.approx(1 / 3)
    assert [len(raw) > 300 for raw in fitted] == [False, *[True] * technique.endswith("afterwards")]


# what a page tells of copies, and which translator there is

def test_how_much_is_kept_and_how_much_is_new_by_hand():
    bank = {"win the big prize": ["win the huge prize", "win the big przie"]}
    kept, new = spam.kept_and_new(bank, known={"huge"})
    assert kept == pytest.approx(3 / 4)
    assert new == pytest.approx(1 / 2)


@pytest.mark.parametrize(("weights", "program", "listed", "found"), [
    (True, None, "", "MarianMT"), (False, "/bin/apertium", "eng-spa\nspa-eng\n", "Apertium"),
    (False, "/bin/apertium", "eng-spa\n", None), (False, None, "eng-spa\nspa-eng\n", None)])
def test_a_translator_is_what_the_machine_has_both_ways(monkeypatch, weights, program, listed, found):
    monkeypatch.setattr(spam, "weights_here", lambda *names: weights)
    monkeypatch.setattr(shutil, "which", lambda name: program)
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: SimpleNamespace(stdout=listed))
    assert spam.translator() == found


def test_weights_are_here_only_if_all_are(monkeypatch):
    monkeypatch.setattr(spam, "try_to_load_from_cache", lambda name, file: "path" if name == "one" else None)
    assert spam.weights_here("one")
    assert not spam.weights_here("one", "other")


def test_networks_translate_there_and_back_in_batches(monkeypatch):
    import transformers

    class Tokenizer:
        def __call__(self, rows, **options):
            assert len(rows) <= 32
            return {"rows": rows}

        def batch_decode(self, rows, **options):
            return rows

    class Model:
        def __init__(self, name):
            self.way = name[-5:]

        def eval(self):
            return self

        def generate(self, rows, **options):
            return [f"{row}>{self.way}" for row in rows]

    loaded = []
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda name, **options: Tokenizer())
    for kind in (transformers.AutoModelForSeq2SeqLM, transformers.AutoModelForMaskedLM):
        monkeypatch.setattr(kind, "from_pretrained", lambda name, **options: loaded.append(options) or Model(name))
    made = spam.marian([f"m{place}" for place in range(40)])
    assert made == [f"m{place}>en-de>de-en" for place in range(40)]
    spam.contextual_augmenter(download=True)
    assert [options["local_files_only"] for options in loaded] == [True, True, False]


@pytest.fixture
def page(monkeypatch):
    """The names that the chapter's cells have made when its functions are called."""
    words, labels = numbered_messages()
    monkeypatch.setenv("BOOK_WORKERS", "1")
    for name, value in {"words_once": words, "labels_once": labels, "messages": SimpleNamespace(name="stand-in"),
                        "SEEDS": [3], "STEPS": 2, "RATES": [0.004], "COPIES": 1, "wordnet": False,
                        "banks": {"one": {}}}.items():
        monkeypatch.setattr(spam, name, value, raising=False)
    return words, labels


def test_networks_are_recorded_as_rivals_and_not_as_techniques(page):
    words, labels = page
    recipes = {"network": Recipe(model=spam.Words, optimizer=torch.optim.Adam)}
    table = spam.run_networks(recipes, {text: ["a copy"] for text in words[labels == 1]})
    assert table.protocol.unique().tolist() == ["network"]
    found = {metric: results.values(table, "network", metric, protocol="network")[3]
             for metric in ("PR-AUC", "F1", results.OVERLAP, "learning rate")}
    assert found["learning rate"] == 0.004
    assert found[results.OVERLAP] == pytest.approx(25 / 60)


def test_the_message_that_is_shown_is_fit_to_print_in_every_version(page, monkeypatch):
    text = "Free prize for our customers, call now"
    for copy, fit_to_print in (("Free prise", True), ("naked prize", False)):
        monkeypatch.setattr(spam, "banks", {"one": {text: [copy]}})
        assert spam.presentable(text) == fit_to_print
    monkeypatch.setattr(spam, "banks", {"one": {"see you at home": ["see you"]}})
    assert not spam.presentable("see you at home")


def test_an_exercise_judges_edas_strength_on_validation(page, monkeypatch):
    _, labels = page
    strengths, judged, plain = [], [], spam.average_precision_score
    monkeypatch.setattr(spam, "eda", lambda text, rng, alpha, copies: strengths.append(alpha) or [text])
    monkeypatch.setattr(spam, "average_precision_score", lambda marks, scores: (
        judged.append(marks) or plain(marks, scores)))
    assert 0 <= spam.strength_on_validation(0.3) <= 1
    assert set(strengths) == {0.3}
    assert judged[0].tolist() == labels[texts.split(labels, 0)[1]].tolist()


# ---------------------------------------------------------------- metrics


def test_recall_at_a_precision_by_hand():
    scores, labels = np.array([5.0, 4.0, 3.0, 2.0, 1.0]), np.array([1, 1, 0, 1, 0])
    assert texts.recall_at(scores, labels, 1.0) == pytest.approx(2 / 3)
    assert texts.recall_at(scores, labels, 0.75) == 1


def test_the_threshold_with_the_best_f1_by_hand():
    scores, labels = np.array([5.0, 4.0, 3.0, 2.0]), np.array([1, 1, 0, 0])
    cut = texts.best_threshold(scores, labels)
    assert ((scores > cut) == [True, True, False, False]).all()


def test_the_metrics_of_the_rare_class_move_with_the_line_and_its_order_does_not():
    scores, labels = np.array([3.0, 2.0, 1.0, -1.0, -2.0]), np.array([1, 0, 1, 1, 0])
    low, high = texts.rare_metrics(scores, labels), texts.rare_metrics(scores, labels, 1.5)
    assert (low["precision"], low["recall"]) == pytest.approx((2 / 3, 2 / 3))
    assert (high["precision"], high["recall"]) == pytest.approx((1 / 2, 1 / 3))
    assert low["PR-AUC"] == high["PR-AUC"]
    both = texts.score(scores, labels, [4, 1], 1.5)
    assert both["balanced accuracy"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert all(np.ndim(value) == 0 for value in both.values())


def test_a_stronger_penalty_makes_less_sure_and_weights_raise_the_rare_class():
    words, labels = numbered_messages()
    strict, loose, weighted = (texts.fit_linear(words, labels, strength, **options)(words) for strength, options in
                               ((0.01, {}), (100.0, {}), (0.01, {"class_weight": "balanced"})))
    assert strict.std() < loose.std()
    assert weighted.mean() > strict.mean()


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


@pytest.mark.parametrize("objective", ["mixup_words", "mixup_sentences"])
def test_mixup_mixes_the_labels_with_the_words(objective):
    """The loss of a mix is the mixed loss: at a partner's share of one half, an uninformed network pays for both."""
    seen = {}

    def loss(logits, targets, run):
        seen.update(targets=targets)
        return F.cross_entropy(logits, targets)

    torch.manual_seed(0)
    run = SimpleNamespace(rng=np.random.default_rng(0), generator=torch.Generator().manual_seed(1),
                          class_counts=torch.ones(2), model=spam.TextCNN(2, 20).eval(),
                          recipe=SimpleNamespace(loss=loss))
    numbers, labels = torch.randint(2, 20, (6, 8)), torch.tensor([0, 1, 0, 1, 0, 1])
    share = np.random.default_rng(0).beta(1, 1)
    partner = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    assert bool((labels != labels[partner]).any())
    getattr(spam, objective)(run, numbers, labels)
    assert torch.allclose(seen["targets"][:, 1], share * labels + (1 - share) * labels[partner].float(), atol=1e-6)


def test_the_network_tells_a_word_that_marks_a_class():
    lines = [*["win a prize now"] * 40, *["see you at home"] * 40]
    dictionary = spam.dictionary_of(lines)
    part = Split(spam.numbered(lines, dictionary, length=8), torch.tensor([1] * 40 + [0] * 40))
    for objective in ({}, {"objective": spam.mixup_words}, {"objective": spam.mixup_sentences}):
        recipe = Recipe(model=lambda classes: spam.TextCNN(classes, len(dictionary) + 2),
                        lr=0.01, optimizer=torch.optim.Adam, **objective)
        trained = fit(recipe, Dataset("made up", ("ham", "spam"), part, part, part), steps=40, batch_size=16)
        assert (trained.predict(part).argmax(1) == part.labels).all()


def test_rare_words_and_long_messages_fit_the_row():
    dictionary = spam.dictionary_of(["a big win", "big win"])
    assert set(dictionary) == {"big", "win"} and min(dictionary.values()) == 2
    rows = spam.numbered(["big unheard win big", ""], dictionary, length=3).tolist()
    assert rows == [[dictionary["big"], 1, dictionary["win"]], [0, 0, 0]]


# ---------------------------------------------------------------- what readers see


def test_a_message_with_a_script_is_shown_as_text():
    shown = texts.table_of_words({"message": ["<script>alert(1)</script> & more"]}).data
    assert "<script>" not in shown and "&lt;script&gt;" in shown
