# %% [markdown]
# # Copies: a test that has seen the answers

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** The rare class is sent in bulk. What is a test worth when its messages have twins in training, and what do near-duplicates teach about undersampling?
#
# **Data.** The SMS Spam Collection: 5,574 short messages, 747 of them spam, many of them copies.
#
# **Time.** <span class="minutes">A few minutes on a CPU</span> for everything on this page.
#
# **Verdict.** <span class="verdict">computed by the last cell</span>
#
# </div>

# %% tags=["bootstrap", "remove-cell"]
try:
    import helpers  # noqa: F401
except ModuleNotFoundError:
    import subprocess
    import sys

    subprocess.run([sys.executable, "-m", "pip", "install", "-q",
                    "git+https://github.com/YOUR-ACCOUNT/learning-from-imbalanced-data"],
                   check=True)

# %% tags=["hide-input"]
import time
import zlib

import numpy as np
import pandas as pd
import torch
from datasketch import MinHash, MinHashLSH

from helpers import plots, texts
from helpers.claims import better, claim
from helpers.datasets import Dataset, Split
from helpers.messages import load_messages
from helpers.records import fingerprint, record
from helpers.results import OVERLAP, difference, differences, summary, tidy
from helpers.runs import parallel

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]
STEPS = 0
DATA = "auto"

# %% [markdown]
# ## Thirteen in a hundred
#
# A text message is short, full of slang, and spam is the rare class: a good place to look at imbalance in text. The collection
# ([Almeida et al., 2011](../../book/references.md#almeida2011)) is small enough to read, and it has a fault that many
# collections have.

# %%
messages = load_messages(DATA)
words, labels = np.array(messages.texts, dtype=object), messages.labels
lengths = np.array([len(text.split()) for text in words])
pd.Series({"messages": len(words), "spam": int(labels.sum()),
           "spam (%)": round(100 * labels.mean(), 1),
           "words, median ham": int(np.median(lengths[labels == 0])),
           "words, median spam": int(np.median(lengths[labels == 1]))},
          name=messages.name, dtype=object).to_frame()

# %% [markdown]
# Some of each. Messages are strangers' words: the table escapes them, and leaves out those that a page should not quote.

# %%
texts.table_of_words({kind: words[labels == label][texts.quotable(words[labels == label])[:3]]
                      for label, kind in enumerate(("ham", "spam"))})

# %% [markdown]
# ## Find the copies
#
# Spam is sent in bulk. The same message stands in the collection many times, with another phone number in each. If one copy lands in
# the training split and another in the test split, the test asks for memory, not for skill.
#
# Two messages are [near-duplicates](../../book/glossary.md) here if, with digits and case ignored, they share most of their
# runs of five characters,
# or nearly all of their weighted words:
#
# $$J(A, B) = \frac{|A \cap B|}{|A \cup B|} \ge 0.7 \qquad\text{or}\qquad \cos(a, b) = \frac{a^\top b}{\|a\|\,\|b\|} \ge 0.9 .$$
#
# The first is Jaccard's coefficient ([Broder, 1997](../../book/references.md#broder1997), uses it for web pages), the second is
# the cosine of [TF-IDF](../../book/glossary.md) vectors. By hand, for two short messages:

# %%
pair = ["win a prize now", "win a prize today"]
runs = [{text[start:start + 5] for start in range(len(text) - 4)} for text in pair]
(f"{len(runs[0] & runs[1])} runs shared of {len(runs[0] | runs[1])}: "
 f"{len(runs[0] & runs[1]) / len(runs[0] | runs[1]):.2f}, as the helper has it: "
 f"{texts.jaccard(pair).data[0]:.2f}")

# %% [markdown]
# All pairs at once come out of one sparse matrix product, the runs of all messages times its transpose; at five thousand
# messages that takes seconds. For millions, see exercise 1.
# What is linked to what is linked belongs to one group. How many messages are more than the first of their group?

# %%
plain = [texts.normalised(text) for text in words]
by_runs = texts.pairs_above(texts.jaccard(plain), 0.7)
by_words = texts.pairs_above(texts.cosine(plain), 0.9)
found = {"exact": np.unique(words, return_inverse=True)[1],
         "Jaccard": texts.groups_of(by_runs, len(words)),
         "cosine": texts.groups_of(by_words, len(words)),
         "either": texts.groups_of(np.hstack([by_runs, by_words]), len(words))}
groups = found["either"]
pd.DataFrame({name: [sum(labels == label) - len(np.unique(numbers[labels == label]))
                     for label in (0, 1)]
              for name, numbers in found.items()}, index=["surplus ham", "surplus spam"])

# %% [markdown]
# Exact comparison misses much of the spam that the other two find. Here are pairs that are not equal, and are the same message:

# %% tags=["hide-input"]
differ = [(a, b) for a, b in np.hstack([by_runs, by_words]).T
          if plain[a] != plain[b] and labels[a] == 1 and {a, b} <= set(np.flatnonzero(labels))]
printable = {groups[a]: (a, b) for a, b in differ if len(texts.quotable(words[[a, b]])) == 2}
printable = list(printable.values())[:2]
texts.table_of_words({"one": [words[a] for a, _ in printable],
                      "another": [words[b] for _, b in printable]})

# %% [markdown]
# ## The comparison
#
# ### What the leak is worth
#
# Split the collection as it is, 60 % to train, 15 % to validate, 25 % to test, and train twice: once with the twins of
# validation and test messages left in the training split, once with
# them taken out. The first model gives up as many other messages of the same class, so both train on the same number. The model is
# TF-IDF and logistic regression; its penalty is chosen on validation from five values.

# %%
def with_and_without_twins(labels, groups, train, others, rng):
    """Training rows with the twins of `others` and without; of each class the same number."""
    crossing, given_up = np.isin(groups[train], groups[others]), []
    for label in (0, 1):
        count = int((crossing & (labels[train] == label)).sum())
        given_up.append(rng.choice(np.flatnonzero(~crossing & (labels[train] == label)), count,
                                   replace=False))
    return {"twins in": np.delete(train, np.concatenate(given_up)), "twins out": train[~crossing]}


def leak(words, labels, groups, seed, dataset):
    """Results with twins left in and taken out; how many test messages, and test spam, have one."""
    train, val, test = texts.split(labels, seed)
    rows, twins = [], np.isin(groups[test], groups[train])
    both = with_and_without_twins(labels, groups, train, np.concatenate([val, test]),
                                  np.random.default_rng(seed))
    for name, kept in both.items():
        models, best, _ = texts.tuned_linear((words[kept], labels[kept]),
                                               (words[val], labels[val]))
        scores, spam = models[best](words[test]), labels[test] == 1
        found = texts.score(scores, labels[test], np.bincount(labels[kept]))
        rows.append(tidy(dataset, name, seed, found | {
            "recall of twins": float((scores[spam & twins] > 0).mean()),
            "recall of the others": float((scores[spam & ~twins] > 0).mean()),
            "C": best, OVERLAP: len(test) / len(kept)}, protocol="leak"))
    return pd.concat(rows), int(twins.sum()), float(twins[labels[test] == 1].mean())


leaks = parallel(leak, [(words, labels, groups, seed, f"{messages.name}, copies left in")
                        for seed in SEEDS])
leaked = pd.concat([table for table, *_ in leaks], ignore_index=True)
print(f"test messages with a twin in training: {np.mean([count for _, count, _ in leaks]):.0f} of "
      f"{-(-len(words) // 4)}, and {np.mean([share for *_, share in leaks]):.0%} of the spam there")
LEAK = ["recall of twins", "recall of the others", "F1", "PR-AUC", "recall at 99 % precision"]
summary(leaked, LEAK, protocol="leak")

# %% [markdown]
# *Twins* are the test's spam messages that have a near-duplicate in the training split before any is taken out; the *others*
# have none. In paired differences, corrected for the overlap of the splits ([Nadeau and Bengio,
# 2003](../../book/references.md#nadeau2003)):

# %%
differences(leaked, "twins out", LEAK, protocol="leak")

# %% tags=["remove-input"]
claim("Spam that has a twin in training is found more often for it: that is memory, not skill.",
      better(leaked, "twins in", "twins out", "recall of twins", protocol="leak"))

# %% [markdown]
# Now compare the *others* in the table: there the model with the twins has no advantage to show, for it gave up other messages
# for them. The total mixes both kinds, and says little of the second, which is what a new campaign looks like.

# %% [markdown]
# ### Undersampling: throw away at random, or what resembles most?
#
# From here on, one message stands for each group, as in [the next chapter](augmentation.ipynb).

# %%
first = texts.first_of_each(groups)
words_once, labels_once = words[first], labels[first]
{"messages": len(first), "spam": int(labels_once.sum()),
 "spam (%)": round(100 * float(labels_once.mean()), 1)}

# %% [markdown]
# [Undersampling](../../book/glossary.md) levels the classes by leaving out ham. Likeness can choose which: a message that
# resembles another says little new, so it goes first. The near-duplicates are gone already, so the rule works on weaker likeness.

# %%
def undersample_alike(words, labels):
    """All spam and as many ham messages; ham that resembles other ham goes first."""
    ham = np.flatnonzero(labels == 0)
    closest = texts.cosine([texts.normalised(words[place]) for place in ham])
    highest = np.zeros(len(ham))
    # each with the ones before it, so that one of a pair stays
    np.maximum.at(highest, closest.col, closest.data)
    kept = np.sort(np.concatenate([ham[np.argsort(highest, kind="stable")[:int(labels.sum())]],
                                   np.flatnonzero(labels == 1)]))
    return [words[place] for place in kept], labels[kept]


toy = ["see you at home", "see you at home!", "lunch maybe?", "ok", "win now", "buy it"]
undersample_alike(toy, np.array([0, 0, 0, 0, 1, 1]))[0]

# %% [markdown]
# All rows below are tested on the same messages, with the penalty chosen on validation for each. Against plain training stand
# both ways to throw ham away, and, beside them, what throws nothing away: weights, and *logit adjustment*, the baseline with its
# threshold at the prior (and the baseline's penalty). PR-AUC and the recall at 99 % precision do not depend on where the line is
# drawn; F1 does.

# %%
def run(technique, words, labels, seed, dataset):
    """One technique on one split: rows of the results."""
    train, val, test = texts.split(labels, seed)
    started, counts = time.process_time(), np.bincount(labels[train])
    sample, targets = list(words[train]), labels[train]
    if technique == "random undersampling":
        sample, targets = texts.undersample(sample, targets, np.random.default_rng(seed))
    elif technique == "near-duplicate undersampling":
        sample, targets = undersample_alike(sample, targets)
    options = {"class_weight": "balanced"} if technique == "class weights" else {}
    models, best, _ = texts.tuned_linear((sample, targets), (words[val], labels[val]), **options)
    cut = float(np.log(counts[1] / counts[0])) if technique == "logit adjustment" else 0.0
    found = texts.score(models[best](words[test]), labels[test], counts, cut)
    return tidy(dataset, technique, seed, found | {
        "C": best, OVERLAP: len(test) / len(train), "seconds": time.process_time() - started})


TECHNIQUES = ["baseline", "logit adjustment", "class weights", "random undersampling",
              "near-duplicate undersampling"]
fair = pd.concat(parallel(run, [(technique, words_once, labels_once, seed, messages.name)
                                for technique in TECHNIQUES for seed in SEEDS]),
                 ignore_index=True)
summary(fair, ["recall", "F1", "PR-AUC", "recall at 99 % precision", "ECE"])

# %% [markdown]
# Look at how far left throwing away leads, and whether choosing helps. A filled dot is clear of zero after Holm's correction, a
# hollow one is not.

# %% mystnb={"image": {"alt": "Paired differences in PR-AUC of the spam class to the baseline, with corrected intervals: both kinds of undersampling lie below the baseline."}}
plots.gaps(fair[fair.technique != "logit adjustment"], "baseline", "PR-AUC");

# %% tags=["remove-input"]
claim("Throwing ham away costs PR-AUC, at random and by likeness.",
      better(fair, "baseline", "random undersampling", "PR-AUC")
      & better(fair, "baseline", "near-duplicate undersampling", "PR-AUC"))

# %% [markdown]
# Does it help to choose what goes?

# %% tags=["hide-input"]
choosing = difference(fair, "near-duplicate undersampling", "random undersampling", "PR-AUC")
f"by likeness minus at random, PR-AUC: {choosing:+%} points"

# %% [markdown]
# ## When this does not help
#
# **When the twins are the task.** A filter in service *does* meet copies of what it has seen, and catches them. A test with
# twins measures that mix, if the mix is the one that
# it will meet. What it does not measure is the next campaign.
#
# **When likeness is not sameness.** Two people who write "ok" are no copies of each other. The rule above takes out short ham
# too. What is lost is how often such messages come; the test counts kinds of message, not traffic.
#
# ## Published and reproduced
#
# The published experiment on these messages leaves the copies in ([E25](../../book/errata.md#e25)). Its table is reproduced,
# copies and all, in
# [the next chapter](augmentation.ipynb#published-and-reproduced).
#
# ## Try it
#
# **1.** All pairs of five thousand messages fit into one product. For millions they do not. Find the near-duplicates with
# MinHash and banding (`datasketch`), and
# count how many of the pairs above it finds.

# %% tags=["solution", "hide-cell"]
def sketch(text, size=5):
    """A MinHash of a message's character runs."""
    signature = MinHash(num_perm=64, seed=0)
    signature.update_batch([text[start:start + size].encode()
                            for start in range(max(len(text) - size + 1, 1))])
    return signature


some = np.unique(by_runs[:, :200])
index = MinHashLSH(threshold=0.7, num_perm=64)
sketches = {int(place): sketch(plain[place]) for place in some}
for place, signature in sketches.items():
    index.insert(place, signature)
wanted = [(a, b) for a, b in by_runs.T.tolist() if a in sketches and b in sketches]
f"found {np.mean([b in index.query(sketches[a]) for a, b in wanted]):.0%} of {len(wanted)} pairs"

# %% [markdown]
# **2.** How much of the leak is exact copies? Call only those twins, and run `leak` on one split.

# %% tags=["solution", "hide-cell"]
exact, count, share = leak(words, labels, found["exact"], SEEDS[0], messages.name)
(f"{count} test messages have an exact copy in training; F1 with them minus without, on one "
 f"split: {difference(exact, 'twins in', 'twins out', 'F1', protocol='leak'):+%}")

# %% [markdown]
# **3.** Split by *group* instead, so that no group is on two sides (`sklearn.model_selection.StratifiedGroupKFold`). Why is
# this better than taking the copies out, and when is it worse?

# %% tags=["solution", "hide-cell"]
print("It keeps all messages, so a message that is sent often counts often, in training and in the "
      "test.\nIt is worse where one large group makes up most of a fold: then the test is about "
      "one message.")

# %% [markdown]
# ## What to remember
#
# Look for copies before you split, and not for exact ones only. A test score is about new messages only if the messages are new.
# Leaving out common samples cost PR-AUC here, at random and by likeness. The cell below writes this chapter's results, from which
# the first page of the book is made.

# %% tags=["hide-input"]
results = pd.concat([fair, leaked], ignore_index=True)
flattered = {metric: difference(leaked, "twins in", "twins out", metric, protocol="leak")
             for metric in ("recall of twins", "F1")}
lost = difference(fair, "near-duplicate undersampling", "baseline", "PR-AUC")
copied = 100 * np.mean([share for *_, share in leaks])
verdict = (f"{copied:.0f} % of the test's spam has a twin in "
           f"training; left there, it changes the recall of that spam by "
           f"{flattered['recall of twins']:+%} points, and F1 over all by {flattered['F1']:+%}. "
           f"Leaving out ham that resembles other ham changes PR-AUC by {lost:+%}; that is "
           f"{choosing:+%} against leaving it out at random.")
parts = [Split(torch.tensor([zlib.crc32(text.encode()) for text in words_once[rows]]),
               torch.as_tensor(labels_once[rows])) for rows in texts.split(labels_once, SEEDS[0])]
record("text/copies", results, verdict=verdict, seeds=SEEDS, steps=STEPS,
       data_hash=fingerprint(Dataset(messages.name, ("ham", "spam"), *parts)))
