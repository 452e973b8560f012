# %% [markdown]
# # Metrics and thresholds: what to measure, and the free remedy

# %% [markdown]
# ## At a glance
#
# <div class="admonition note">
# <p class="admonition-title">At a glance</p>
#
# **Question.** Which numbers can you believe when a class is rare, and how far does a threshold alone take you?
#
# **Data.** Three published tables with a rare class: mammography, thyroid and cover.
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
import numpy as np
import pandas as pd
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler
from matplotlib import pyplot as plt
from scipy import optimize, stats
from sklearn import metrics as sk
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    StratifiedShuffleSplit,
    TunedThresholdClassifierCV,
    train_test_split,
)

from helpers import plots
from helpers.claims import Check, better, between, claim, equivalent
from helpers.metrics import expected_calibration_error, g_mean, holm, t_interval, wilson
from helpers.records import record
from helpers.results import difference, is_real, mean, summary, tidy, values
from helpers.runs import parallel
from helpers.tables import load_table
from helpers.widgets import Widget, counts, lines, slider

# %% tags=["parameters"]
SEEDS = [100, 101, 102, 103, 104, 105, 106, 107, 108, 109]
STEPS = 60
DATA = "auto"

# %% [markdown]
# ## Accuracy says yes to everything
#
# Start with a case that needs no data: one rare sample in 10,001. A **confusion matrix** of two classes has four cells, and
# every metric of this page is made of them: rare samples found (*true positives*, TP) and missed (FN), common ones left alone
# (TN) and wrongly reported (*false alarms*, FP).

# %%
def by_hand(tp, fp, fn, tn, cost=10):
    """Metrics of two classes, from the four cells; a missed rare sample costs `cost` alarms."""
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    precision, f1 = tp / np.maximum(tp + fp, 1e-12), 2 * tp / (2 * tp + fp + fn)
    f1_common = 2 * tn / (2 * tn + fp + fn)
    spread = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {"accuracy": (tp + tn) / (tp + fp + fn + tn), "recall": recall,
            "specificity": specificity, "precision": precision, "F1": f1,
            "macro F1": (f1 + f1_common) / 2, "balanced accuracy": (recall + specificity) / 2,
            "G-mean": np.sqrt(recall * specificity), "worst class": np.minimum(recall, specificity),
            "MCC": (tp * tn - fp * fn) / np.maximum(spread, 1e-12),
            "cost": (fp + cost * fn) / (fp + tn)}


extremes = pd.DataFrame({"calls all common": by_hand(0, 0, 1, 10_000),
                         "finds 90 %, with 1 % false alarms": by_hand(0.9, 100, 0.1, 9_900)})
extremes.round(5).T

# %% [markdown]
# The one that finds nothing has the better accuracy. And of the alarms that the other raises, fewer than one in a hundred is
# right. Neither number is wrong; they answer other questions. Which one is yours depends on what an error costs.

# %% [markdown]
# ## Three tables
#
# From [ADBench](../../book/references.md#han2022) we take *mammography* (is a spot a calcification?), *thyroid* (is the gland
# overactive?) and *cover* (is the tree a cottonwood?), of which 20,000 rows are enough. Each row is a sample, each column a
# number.
#
# Look at the copies first. One point of mammography stands in the table thousands of times. If copies of a row are in training and
# in test, the test asks what the training has told. So we keep **one row of each**, and split what is left: three fifths to
# train, one fifth to validate, one fifth to test, both classes in proportion.

# %%
def load(name, data):
    """One row of each point; a large table is cut to 20,000 rows, the same for every seed."""
    return load_table(name, data).distinct().sample(20_000, seed=0)


NAMES = ("mammography", "thyroid", "cover")
pd.DataFrame({name: {"rows, published": len(load_table(name, DATA)),
                     "most copies of a row": np.bincount(load_table(name, DATA).groups).max(),
                     "rows, used": len(table := load(name, DATA)), "columns": table.X.shape[1],
                     "rare": (rare := int(table.y.sum())),
                     "common for one rare": round(len(table) / rare - 1),
                     "rare in a test part": int(table.y[table.split(0).test].sum())}
              for name in NAMES}).T

# %% [markdown]
# The model is the same throughout: boosted trees, the usual choice for tables. Leaves and rounds were chosen for the plain model, by
# the validation rows of three other draws. Here are all metrics of one split of mammography, by hand and by the library's call. A prediction is "rare" where
# its probability exceeds one half.

# %%
def model(steps, **options):
    """Boosted trees: `steps` rounds of small trees."""
    return HistGradientBoostingClassifier(max_iter=steps, max_leaf_nodes=7, early_stopping=False,
                                          random_state=0, **options)


table = load("mammography", DATA)
parts = table.split(seed=0)
fitted = model(STEPS).fit(table.X[parts.train], table.y[parts.train])
truth, score = table.y[parts.test], fitted.predict_proba(table.X[parts.test])[:, 1]
found = score > 0.5
(tn, fp), (fn, tp) = sk.confusion_matrix(truth, found)
library = {"accuracy": sk.accuracy_score(truth, found), "recall": sk.recall_score(truth, found),
           "specificity": sk.recall_score(truth, found, pos_label=0),
           "precision": sk.precision_score(truth, found), "F1": sk.f1_score(truth, found),
           "macro F1": sk.f1_score(truth, found, average="macro"),
           "balanced accuracy": sk.balanced_accuracy_score(truth, found),
           "G-mean": g_mean(sk.recall_score(truth, found, average=None)),
           "worst class": sk.recall_score(truth, found, average=None).min(),
           "MCC": sk.matthews_corrcoef(truth, found)}
pd.DataFrame({"by hand": by_hand(tp, fp, fn, tn), "by the library": library}).dropna().round(4).T

# %% [markdown]
# Two more need no threshold. **ROC-AUC** is the chance that a rare sample scores higher than a common one; **PR-AUC** (computed as
# *average precision*) is the mean precision over the thresholds at which another rare sample is found. A working point between
# them is *recall at a precision*: how much you find if four alarms in five have to be right.

# %%
precision, recall, _ = sk.precision_recall_curve(truth, score)
{"ROC-AUC": round(float(sk.roc_auc_score(truth, score)), 3),
 "PR-AUC": round(float(sk.average_precision_score(truth, score)), 3),
 "recall at a precision of 0.8": round(float(recall[precision >= 0.8].max()), 3)}

# %% [markdown]
# ### What moves when only the prior moves
#
# Hold the classifier fixed, here at a threshold of .05 so that it finds most of the rare, and let the rare class get rarer in the
# *test set* alone. No prediction changes; the common samples only count more. What does each metric do?

# %%
def at_ratio(truth, score, decision, ratio):
    """Metrics of fixed predictions, if there were `ratio` common samples for one rare one."""
    weight = np.where(truth == 1, 1 / (truth == 1).sum(), ratio / (truth == 0).sum())
    cells = sk.confusion_matrix(truth, decision, sample_weight=weight)
    return by_hand(cells[1, 1], cells[0, 1], cells[1, 0], cells[0, 0]) | {
        "ROC-AUC": sk.roc_auc_score(truth, score, sample_weight=weight),
        "PR-AUC": sk.average_precision_score(truth, score, sample_weight=weight)}


RATIOS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)
moved = pd.DataFrame({ratio: at_ratio(truth, score, score > 0.05, ratio) for ratio in RATIOS}).T

# %% tags=["hide-input"] mystnb={"image": {"alt": "Metrics of one fixed classifier against the ratio in the test set. ROC-AUC, balanced accuracy, G-mean and recall are flat; PR-AUC falls far, and F1, MCC and precision to almost nothing."}}
figure, axes = plt.subplots(1, 2, sharey=True)
for ax, names in zip(axes, (("ROC-AUC", "balanced accuracy", "G-mean", "recall"),
                            ("PR-AUC", "MCC", "F1", "precision")), strict=True):
    for name, ink in zip(names, ("#0072B2", "#009E73", "#E69F00", "#CC79A7"), strict=True):
        ax.plot(RATIOS, moved[name], "o-", color=ink, markersize=4, label=name)
    ax.set(xscale="log", xlabel="common test samples for one rare", ylim=(0, 1.02))
    ax.legend(fontsize=8, loc="lower left")
for ax, title in zip(axes, ("made of recalls: flat", "with precision: fall"), strict=True):
    ax.set(title=title)

# %% [markdown]
# What is made of recalls within the classes does not see the prior. What holds a precision sees little else. So a PR-AUC or an F1
# cannot be compared between two test sets with different shares of the rare class, and ROC-AUC looks the same on a test set in which
# nearly every alarm is false. Report one of each kind, and the share of the rare class.

# %% [markdown]
# ## How much a test set can say
#
# **Few positives.** A recall is a proportion, and its uncertainty comes from the rare samples in the *test* set alone. This is
# the Wilson interval of a recall near seven in eight:

# %%
pd.DataFrame({f"{hits} of {trials}": dict(zip(["from", "to"], wilson(hits, trials), strict=True))
              for hits, trials in ((14, 16), (45, 51), (175, 200), (875, 1000))}).T.round(2)

# %% [markdown]
# **Seeds are not splits.** Two things can differ between runs: the draw of the data, and chance in the training. This book's image
# chapters draw a new tail for each seed from one pool (the largest class is nearly the same images every time, the rare ones hardly
# overlap) and test on the same, large test set; their intervals are over draws from that pool. Here every seed *splits one table
# anew*: training sets overlap, and one run's test rows are another's training rows. The results hang together, and the usual
# interval is too narrow. Nadeau and Bengio (2003) replace its $1/n$ by $1/n + n_\text{test}/n_\text{train}$.
#
# Is that so? In the world of the [last chapter](is_it_the_ratio.ipynb) the true value is known. Draw a table of 1,000 points, 50 of
# them rare, split it ten times, and see how often an interval that promises 95 % holds the truth.

# %%
def covered(seed, rare=50, common=950, distance=2, splits=10):
    """Whether the plain and the corrected interval hold the true balanced accuracy."""
    rng, prior = np.random.default_rng(seed), rare / (rare + common)
    X, y = rng.normal(size=(rare + common, 2)), np.repeat([1, 0], [rare, common])
    X[:, 0] += distance * y
    measured, true = [], []
    for train, test in StratifiedShuffleSplit(splits, test_size=0.2, random_state=seed).split(X, y):
        line = LogisticRegression(C=np.inf).fit(X[train], y[train])
        found = line.predict_proba(X[test])[:, 1] > prior
        measured.append(sk.balanced_accuracy_score(y[test], found))
        slope, bias = line.coef_[0], line.intercept_[0] - np.log(prior / (1 - prior))
        reach = np.array([slope[0] * distance + bias, -bias]) / np.linalg.norm(slope)
        true.append(stats.norm.cdf(reach).mean())
    gap = np.array(measured) - np.array(true)
    return [low <= 0 <= high for _, low, high in (t_interval(gap), t_interval(gap, overlap=0.25))]


held = np.array(parallel(covered, [(1000 * SEEDS[0] + table,) for table in range(20 * len(SEEDS))]))
{"plain intervals that hold the truth": f"{held[:, 0].mean():.0%}",
 "corrected ones": f"{held[:, 1].mean():.0%}"}

# %% tags=["remove-input"]
claim("Over splits of one table, fewer than nine in ten plain 95 % intervals hold the truth, "
      "and more than nine in ten of the corrected ones.",
      Check(bool(held[:, 0].mean() < 0.9 < held[:, 1].mean()), f"{len(held)} tables: plain "
            f"{held[:, 0].mean():.0%}, corrected {held[:, 1].mean():.0%}"))

# %% [markdown]
# Wherever this book's splits overlap, its intervals are the corrected ones. They have a floor: more splits of the same table do not
# buy more certainty. This is the half-width of a 95 % interval, in standard deviations between runs:

# %%
COUNTS = (3, 5, 10, 20, 100)
wide = {count: stats.t.ppf(0.975, count - 1) for count in COUNTS}
pd.DataFrame({"fresh draws": {count: wide[count] * np.sqrt(1 / count) for count in COUNTS},
              "splits of one table (3:1)": {count: wide[count] * np.sqrt(1 / count + 1 / 3)
                                            for count in COUNTS}}).round(2).T

# %% [markdown]
# With five fresh draws, runs that scatter by a point leave a half-width of more than a point. So five can show a difference of two
# points, and they can **not** show that two techniques are equal within a point, unless the paired differences scatter by much less
# than a point. Four rules follow, and every claim in this book keeps them:
#
# - differences are **paired**: technique minus reference on the *same* seed, so that a hard split does not count against either;
# - "better" means that the whole interval of the difference lies above zero (or above the margin that is named);
# - "as good as" means **equivalence**: the whole interval lies within ± a margin. An interval that holds zero shows nothing;
# - where many techniques are compared, their p-values are adjusted for the number
#   ([Holm, 1979](../../book/references.md#holm1979)): in figures a filled dot is clear after that, and
#   [*What we claimed*](../../book/claims.md) prints each claim's adjusted p beside the interval that judges it.

# %% [markdown]
# ## A threshold is a choice
#
# A model that gives honest probabilities leaves one decision to you: from which probability on do you act? With the prior $\pi$ of
# the rare class, the best threshold for
#
# | aim | threshold |
# |---|---|
# | accuracy | $1/2$ |
# | cost, a miss as dear as $k$ false alarms ([Elkan, 2001](../../book/references.md#elkan2001)) | $1/(1+k)$ |
# | balanced accuracy | $\pi$ |
# | F1 ([Lipton et al., 2014](../../book/references.md#lipton2014)) | half of the best F1 |
#
# Move the threshold yourself, on the test rows of the split above. At one half the model reports little and is mostly right. Go down
# to the prior, and balanced accuracy is near its top, while most reports are false alarms. F1 wants something in between.

# %% tags=["hide-input"]
prior = table.y[parts.train].mean()
named = {0.5: "one half", prior: "the prior", 1 / 11: "1/11, for cost"}
marks = np.sort(np.append(1 / (1 + np.exp(-np.linspace(-6, 3, 37))), list(named)))
reported = score[:, None] > marks
tp, fp = (reported[truth == label].sum(0) for label in (1, 0))
fn, tn = (truth == 1).sum() - tp, (truth == 0).sum() - fp
cells = by_hand(tp, fp, fn, tn)
precise = np.where(tp + fp > 0, cells["precision"], np.nan)
Widget("A threshold on mammography",
       [slider("threshold", [f"{mark:.3f}" + (f" ({named[mark]})" if mark in named else "")
                             for mark in marks], start=list(marks).index(0.5))],
       [counts("samples", ["rare", "common"], ["reported", "left alone"],
               np.moveaxis([[tp, fn], [fp, tn]], 2, 0)),
        lines("precision against recall", cells["recall"], {"precision": precise},
              xlabel="recall", limits=(0, 1)),
        lines("against the threshold", np.log10(marks),
              {name: cells[name] for name in ("balanced accuracy", "F1", "accuracy")},
              xlabel="threshold, logarithmic", limits=(0, 1),
              ticks=[(np.log10(tick), f"{tick:g}") for tick in (0.01, 0.1, 0.5)])],
       {f"{name} (%)": 100 * cells[name] for name in ("recall", "precision", "F1",
                                                      "balanced accuracy")},
       "Mammography, the test rows of one split. To choose a threshold, look at validation rows.")

# %% [markdown]
# The third line of the table *is* the second: balanced accuracy makes a miss as dear as there are common samples for a rare one. And it is
# **logit adjustment** with two classes. With more classes there is no single threshold, but the same subtraction: predict the class
# with the largest $z_c - \tau \log \pi_c$. [Posterior recalibration](../../book/references.md#tian2020), which looks different,
# is the same again, as you can see on random logits:

# %%
def recalibrate(posterior, prior, tau):
    """Posterior recalibration towards equal classes: p^(1 − τ) (p / π)^τ, as probabilities."""
    moved = posterior ** (1 - tau) * (posterior / prior) ** tau
    return moved / moved.sum(1, keepdims=True)


logits = np.random.default_rng(0).normal(size=(1000, 5))
prior = np.array([0.6, 0.3, 0.07, 0.02, 0.01])
softmax = torch.from_numpy(logits).softmax(1).numpy()
adjusted = torch.from_numpy(logits - 0.7 * np.log(prior)).softmax(1).numpy()
f"largest difference: {np.abs(recalibrate(softmax, prior, 0.7) - adjusted).max():.0e}"

# %% [markdown]
# Where probabilities are not honest, the threshold is chosen on data: the validation rows, or the training rows in
# cross-validation, which `TunedThresholdClassifierCV` does. Never the test rows, and never the scores of rows that the model was
# fitted to.

# %%
def best_threshold(truth, score, metric):
    """The threshold with the highest value of a metric, half-way between two scores."""
    order = np.argsort(-score)
    tp, fp = np.cumsum(truth[order]), np.cumsum(1 - truth[order])
    cells = by_hand(tp, fp, tp[-1] - tp, fp[-1] - fp)
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    place = ends[np.argmax(cells[metric][ends])]
    return (score[order][place] + (score[order][place + 1] if place + 1 < len(score) else 0)) / 2


def train_all(name, data, steps, seed):
    """Validation and test scores of the model, fitted in four ways to one split."""
    table = load(name, data)
    parts = table.split(seed)
    X, y = table.X[parts.train], table.y[parts.train]
    ways = {"baseline": (model(steps), X, y),
            "class weights": (model(steps, class_weight="balanced"), X, y)}
    for way, sampler in (("random oversampling", RandomOverSampler),
                         ("random undersampling", RandomUnderSampler)):
        ways[way] = model(steps), *sampler(random_state=seed).fit_resample(X, y)
    scores = {way: [fitted.predict_proba(table.X[rows])[:, 1] for rows in parts[1:]]
              for way, (untrained, inputs, labels) in ways.items()
              for fitted in [untrained.fit(inputs, labels)]}
    tuned = TunedThresholdClassifierCV(model(steps), scoring="balanced_accuracy", cv=5,
                                       random_state=seed).fit(X, y)
    return {"scores": scores, "val": table.y[parts.val], "test": table.y[parts.test],
            "prior": float(y.mean()), "cross-validated": float(tuned.best_threshold_),
            "overlap": len(parts.test) / len(parts.train)}


# %% [markdown]
# ## The comparison
#
# Three retrainings against five thresholds on the plain model. All share the splits of a seed, the model and its rounds.
#
# - *class weights*, *random oversampling*, *random undersampling*: trained on a balanced problem, threshold one half;
# - *logit adjustment*: the plain model, threshold at the training prior;
# - *tuned on validation* and *tuned in cross-validation* (its default: a hundred thresholds, evenly spaced): the plain model,
#   threshold with the best balanced accuracy there;
# - *tuned for F1* on validation, and *threshold for cost*, 1/11, where a miss costs ten alarms.

# %%
def decide(run):
    """Score and threshold of every technique of one split."""
    val, plain = (run["scores"]["baseline"][place] for place in (0, 1))
    return {"baseline": (plain, 0.5),
            **{way: (score, 0.5) for way, (_, score) in run["scores"].items() if way != "baseline"},
            "logit adjustment": (plain, run["prior"]),
            "tuned on validation": (plain, best_threshold(run["val"], val, "balanced accuracy")),
            "tuned in cross-validation": (plain, run["cross-validated"]),
            "tuned for F1": (plain, best_threshold(run["val"], val, "F1")),
            "threshold for cost": (plain, 1 / 11)}


jobs = [(name, DATA, STEPS, seed) for name in NAMES for seed in SEEDS]
runs = dict(zip(jobs, parallel(train_all, jobs), strict=True))

# %% tags=["hide-input"]
def measure(run, score, threshold):
    """All metrics of one technique on the test rows, for the results table."""
    truth, found = run["test"], (score > threshold).astype(int)
    (tn, fp), (fn, tp) = sk.confusion_matrix(truth, found)
    cells = by_hand(tp, fp, fn, tn)
    return {name: cells[name] for name in ("accuracy", "balanced accuracy", "F1", "macro F1",
                                           "G-mean", "MCC", "precision", "cost")} | {
        "recall": np.array([cells["specificity"], cells["recall"]]),
        "worst-class recall": cells["worst class"], "threshold": threshold,
        "PR-AUC": sk.average_precision_score(truth, score),
        "ROC-AUC": sk.roc_auc_score(truth, score),
        "Brier score": sk.brier_score_loss(truth, score),
        "ECE": expected_calibration_error(np.stack([1 - score, score], 1), truth),
        "test to train": run["overlap"]}


results = pd.concat([
    tidy(load(name, data).name, technique, seed, measure(run, score, threshold))
    for (name, data, _, seed), run in runs.items()
    for technique, (score, threshold) in decide(run).items()], ignore_index=True)

prior_moved = pd.concat([
    tidy(load(name, data).name, f"test at 1:{ratio}", seed, {
        metric: at_ratio(run["test"], score, score > 0.5, ratio)[metric]
        for metric in ("ROC-AUC", "PR-AUC")} | {"test to train": run["overlap"]})
    for (name, data, _, seed), run in runs.items() if name == "mammography"
    for score in [run["scores"]["baseline"][1]] for ratio in (1, 1000)], ignore_index=True)

# %%
COLUMNS = ["balanced accuracy", "worst-class recall", "macro F1", "F1", "MCC", "PR-AUC", "ECE"]
summary(results, COLUMNS, dataset="mammography")

# %% [markdown]
# Look at how far to the left the baseline and the threshold tuned for F1 lie, and how close the others are to zero, which is logit
# adjustment. A filled dot is clear of zero after Holm's correction, a hollow one is not.

# %% mystnb={"image": {"alt": "Paired differences in balanced accuracy to logit adjustment on mammography. The baseline and the threshold tuned for F1 lie far to the left; the retrainings and the thresholds tuned for balanced accuracy lie near zero."}}
plots.gaps(results, "logit adjustment", dataset="mammography")

# %% tags=["remove-input"]
claim("On mammography, moving the threshold lifts balanced accuracy by more than five points, "
      "without any training.",
      better(results, "logit adjustment", "baseline", by=0.05, dataset="mammography"))

# %% tags=["remove-input"]
RETRAINED = ("class weights", "random oversampling", "random undersampling")
check = Check(True, "margin of three points")
for name in NAMES:
    for technique in RETRAINED:
        check &= better(results, "logit adjustment", technique, by=-0.03, dataset=name)
claim("And no retraining on balanced data is better by three points or more, on any of the three "
      "tables.", check)

# %% [markdown]
# The margin is as wide as it is because the test parts hold few rare samples: on thyroid, one missed sample more is a
# difference of more than two points. The other two tables:

# %%
pd.concat({name: summary(results, ["balanced accuracy", "F1", "PR-AUC"], dataset=name)
           for name in ("thyroid", "cover")}, axis=1)

# %% [markdown]
# *cover* is the rarest of the three, and not the hardest. Once more: [it is not the ratio](is_it_the_ratio.ipynb).

# %% tags=["remove-input"]
easy, hard = (mean(results, "baseline", "balanced accuracy", dataset=name)
              for name in ("cover", "mammography"))
claim("The rarest class of the three is not the worst found: on cover, the baseline is better by "
      "more than five points than on mammography.",
      Check(bool(easy.low - hard.high > 0.05), f"cover {easy:%}, mammography {hard:%}",
            is_real(results)))

# %% [markdown]
# And the two kinds of curve, once more over all splits: the plain model of mammography, tested at 1:1 and at 1:1,000.

# %%
summary(prior_moved, ["ROC-AUC", "PR-AUC"])

# %% tags=["remove-input"]
claim("From 1:1 to 1:1,000 in the test set, PR-AUC loses more than thirty points, and ROC-AUC "
      "nothing.",
      better(prior_moved, "test at 1:1", "test at 1:1000", "PR-AUC", by=0.3)
      & equivalent(prior_moved, "test at 1:1", "test at 1:1000", "ROC-AUC", within=1e-6))

# %% [markdown]
# ### How many comparisons?
#
# Each technique against logit adjustment on mammography: the paired difference, its p-value, and the p-value adjusted for their
# number.

# %% tags=["hide-input"]
others = [name for name in results.technique.unique() if name != "logit adjustment"]
gaps = {name: difference(results, name, "logit adjustment", "balanced accuracy",
                         dataset="mammography") for name in others}
alone = [gap.p for gap in gaps.values()]
shown = {name: [f"{p:.3f}" if p >= 0.001 else "below 0.001" for p in found]
         for name, found in (("p", alone), ("p, Holm", holm(alone)))}
pd.DataFrame({"minus logit adjustment": [f"{gap:+%}" for gap in gaps.values()], **shown},
             index=others)

# %% [markdown]
# ### No threshold is best for everything
#
# Balanced accuracy and F1 ask for different thresholds, so a technique that is "better" on one is often worse on the other, with
# the very same model.

# %% tags=["remove-input"]
claim("Tuned for F1, the plain model gains more than two points of F1 over logit adjustment.",
      better(results, "tuned for F1", "logit adjustment", "F1", by=0.02, dataset="mammography"))

# %% [markdown]
# What it pays stands in the column of balanced accuracy. (The cost is in false alarms, for a hundred common samples.)

# %%
THRESHOLDS = ("baseline", "logit adjustment", "tuned on validation", "tuned in cross-validation",
              "tuned for F1", "threshold for cost")
table = summary(results, ["threshold", "balanced accuracy", "F1", "precision", "cost"],
                dataset="mammography")
table.loc[list(THRESHOLDS)]

# %% [markdown]
# ## Probabilities after resampling
#
# A model that was trained on balanced data believes that every second sample is rare. If a share $\beta$ of the common samples
# was kept, a probability $p_s$ from the sampled world is one of
#
# $$p = \frac{\beta\,p_s}{\beta\,p_s - p_s + 1}$$
#
# in the real one ([Dal Pozzolo et al., 2015](../../book/references.md#dalpozzolo2015)). With one in a hundred kept, an even
# chance becomes:

# %%
def back_to_prior(p, kept):
    """Probabilities of a model that was trained on a share of the common samples."""
    return kept * p / (kept * p - p + 1)


def temperature(logits, truth):
    """The temperature that fits best (Guo et al., 2017)."""
    loss = lambda log_t: sk.log_loss(truth, 1 / (1 + np.exp(-logits / np.exp(log_t))))  # noqa: E731
    return np.exp(optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)


float(round(back_to_prior(0.5, 0.01), 4))

# %% [markdown]
# Two repairs that use validation rows stand beside it: *temperature scaling* divides all log odds by one number
# ([Guo et al., 2017](../../book/references.md#guo2017)), *Platt scaling* fits a slope and a shift.
#
# The usual calibration error (ECE) looks at the confidence in the *predicted* class, and mixes the two classes. Of a rare class it
# is better to ask directly: where the model says 10 %, are 10 % rare?

# %%
def rare_calibration_error(p, truth, bins=15):
    """Mean gap between predicted and true share of the rare class, over equal bins of p."""
    member = np.minimum((p * bins).astype(int), bins - 1)
    return float(np.abs(np.bincount(member, p - truth, minlength=bins)).sum() / len(p))


def log_odds(p):
    """Log odds of a probability, kept finite."""
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return np.log(p / (1 - p))


def repaired(run):
    """Test scores of the undersampled model, raw and repaired, beside the plain model's."""
    (val, test), kept = run["scores"]["random undersampling"], run["prior"] / (1 - run["prior"])
    heat = temperature(log_odds(val), run["val"])
    platt = LogisticRegression(C=np.inf).fit(log_odds(val)[:, None], run["val"])
    return {"plain model": run["scores"]["baseline"][1], "undersampled": test,
            "by the formula": back_to_prior(test, kept),
            "by temperature": 1 / (1 + np.exp(-log_odds(test) / heat)),
            "by Platt's two numbers": platt.predict_proba(log_odds(test)[:, None])[:, 1]}


calibrated = pd.concat([
    tidy(load(name, data).name, f"{way} (calibration)", seed, {
        "calibration error, rare": rare_calibration_error(score, run["test"]),
        "ECE": expected_calibration_error(np.stack([1 - score, score], 1), run["test"]),
        "Brier score": sk.brier_score_loss(run["test"], score), "mean score": score.mean(),
        "test to train": run["overlap"]})
    for (name, data, _, seed), run in runs.items() if name == "mammography"
    for way, score in repaired(run).items()], ignore_index=True)
summary(calibrated, ["calibration error, rare", "ECE", "Brier score", "mean score"])

# %% [markdown]
# In a reliability diagram a calibrated model lies on the diagonal. Here are all splits together; look at the undersampled model
# before and after.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Reliability diagram of mammography. The undersampled model lies far below the diagonal: where it says 80 per cent, about one sample in ten is rare. Repaired by the formula it lies near the diagonal, as the plain model does; temperature scaling leaves it far below."}}
figure, ax = plt.subplots(figsize=(5.6, 4.6))
pooled = [(repaired(run), run["test"]) for (name, *_), run in runs.items() if name == "mammography"]
edges = np.linspace(0, 1, 9)
for way, ink in (("plain model", "#555555"), ("undersampled", "#009E73"),
                 ("by the formula", "#D55E00"), ("by temperature", "#56B4E9")):
    score = np.concatenate([scores[way] for scores, _ in pooled])
    truth = np.concatenate([labels for _, labels in pooled])
    member = np.clip(np.digitize(score, edges) - 1, 0, 7)
    filled = [place for place in range(8) if (member == place).sum() >= 20]
    ax.plot([score[member == place].mean() for place in filled],
            [truth[member == place].mean() for place in filled], "o-", color=ink, markersize=4,
            label=way)
ax.plot([0, 1], [0, 1], ":", color="#333", linewidth=1)
ax.set(xlabel="mean predicted probability of the rare class", ylabel="share that is rare",
       xlim=(0, 1), ylim=(0, 1))
ax.legend(fontsize=8)

# %% tags=["remove-input"]
claim("Undersampling ruins the probabilities: they are off by more than ten points. The formula "
      "brings that below three.",
      between(calibrated, "undersampled (calibration)", "calibration error, rare", low=0.1)
      & between(calibrated, "by the formula (calibration)", "calibration error, rare", high=0.03))

# %% tags=["remove-input"]
claim("Temperature scaling does not: it stretches the log odds, and what is wrong is a shift.",
      between(calibrated, "by temperature (calibration)", "calibration error, rare", low=0.09))

# %% [markdown]
# Even repaired, the undersampled model has lost something: it threw away nearly all common samples.

# %% tags=["remove-input"]
claim("Undersampling costs PR-AUC, which no later correction returns.",
      better(results, "baseline", "random undersampling", "PR-AUC", dataset="mammography"))

# %% [markdown]
# ## When the prior moves
#
# You train where the class is rare, and deploy where one sample in three is of it. If only the prior moves, every probability can be
# corrected by the ratio of the priors. And the new prior need not be known: [Saerens et al.
# (2002)](../../book/references.md#saerens2002) estimate it from *unlabelled* samples of the new place. Start with the old prior;
# correct the probabilities; take their mean as the new prior; repeat.

# %%
def shift_prior(p, old, new):
    """Probabilities of the rare class under another prior."""
    rare, common = p * new / old, (1 - p) * (1 - new) / (1 - old)
    return rare / (rare + common)


def estimate_prior(p, old, rounds=200):
    """The prior of unlabelled samples, by expectation–maximisation (Saerens et al., 2002)."""
    new = old
    for _ in range(rounds):
        new = float(shift_prior(p, old, new).mean())
    return new


def deploy(run, seed, share=1 / 3):
    """Error rate on test rows of which a third is rare, by what is known of the new prior."""
    rng, (rare, common) = np.random.default_rng(seed), (np.flatnonzero(run["test"] == label)
                                                        for label in (1, 0))
    rows = np.concatenate([rare, rng.choice(common, round(len(rare) * (1 / share - 1)))])
    p, truth, guess = run["scores"]["baseline"][1][rows], run["test"][rows], run["prior"]
    estimate = estimate_prior(p, guess)
    return {f"by the {name} prior": {
        "error rate": float(((shift_prior(p, guess, new) > 0.5) != truth).mean()), "prior": new,
        "test to train": run["overlap"]}
        for name, new in (("old", guess), ("estimated", estimate), ("known", share))}


deployed = pd.concat([
    tidy(load(name, data).name, way, seed, numbers) for (name, data, _, seed), run in runs.items()
    if name == "mammography" for way, numbers in deploy(run, seed).items()], ignore_index=True)
summary(deployed, ["error rate", "prior"])

# %% tags=["remove-input"]
claim("The estimated prior cuts the error rate, and is as good as the true one within two points.",
      better(deployed, "by the old prior", "by the estimated prior", "error rate")
      & equivalent(deployed, "by the estimated prior", "by the known prior", "error rate",
                   within=0.02))

# %% [markdown]
# This works because the classes themselves look as before. If the rare samples of the new place are of another *kind*, no prior
# describes the change.

# %% [markdown]
# ## Copies across the split
#
# What if the copies had stayed in mammography? Split by rows, one point trains and tests. Fit the plain model to such a split, and
# test it twice: on all test rows, and on those that are **not** among the training rows.

# %%
def with_copies(data, steps, seed):
    """False alarms and accuracy on a split by rows: on all test rows, and on the new ones."""
    table = load_table("mammography", data)
    train, test = train_test_split(np.arange(len(table)), test_size=0.2, stratify=table.y,
                                   random_state=seed)
    alarm = model(steps).fit(table.X[train], table.y[train]).predict(table.X) == 1
    new = test[~np.isin(table.groups[test], table.groups[train])]
    return {way: {"false alarms": float(alarm[rows][table.y[rows] == 0].mean()),
                  "accuracy": float((alarm == table.y)[rows].mean()),
                  "share of the test rows": len(rows) / len(test),
                  "test to train": len(test) / len(train)}
            for way, rows in (("all test rows", test), ("new rows", new))}


jobs = [(DATA, STEPS, seed) for seed in SEEDS]
copies = pd.concat([tidy(load("mammography", DATA).name, way, seed, numbers)
                    for (*_, seed), found in zip(jobs, parallel(with_copies, jobs), strict=True)
                    for way, numbers in found.items()], ignore_index=True)
summary(copies, ["share of the test rows", "false alarms", "accuracy"])

# %% tags=["remove-input"]
claim("With the copies left in, false alarms look fewer than they are.",
      better(copies, "new rows", "all test rows", "false alarms"))

# %% [markdown]
# The model has learned the copied point by heart, and every copy in the test set is a common sample that cannot raise an alarm.

# %% [markdown]
# ## When this does not help
#
# **A threshold cannot rank.** It chooses a point on the curve that the model has. Where PR-AUC is low, every point is bad, and only
# more samples, better features or another model help.
#
# **A threshold that is tuned on few positives is a guess.** Thyroid's validation part holds few rare rows. The tuned threshold
# scatters with them; the prior does not:

# %%
pd.DataFrame({name: [f"{value:.3f}" for value in
                     values(results, name, "threshold", dataset="thyroid")]
              for name in ("tuned on validation", "tuned in cross-validation", "logit adjustment")},
             index=pd.Index(SEEDS, name="seed")).T

# %% [markdown]
# **The prior is a threshold for probabilities only.** Where the scores are none (AdaBoost, a margin, a model trained on balanced
# data), tune it, or calibrate first.
#
# **Metrics hide the victim.** Balanced accuracy is a mean. Look at the recall of each class, with the number of test samples beside
# it; many of this book's tables have a column for the worst class for that reason.

# %% [markdown]
# ## Published and reproduced
#
# | statement | source | here |
# |---|---|---|
# | One rare sample in 10,001: never finding it gives 99.99 % accuracy | articles on imbalance | [first table](#accuracy-says-yes-to-everything) |
# | With recall .9 and 1 % false alarms, precision is below 1 % at 1:10,000 | the same | the same |
# | ROC curves look too good when negatives abound | [Saito and Rehmsmeier, 2015](../../book/references.md#saito2015) | [the prior moves](#what-moves-when-only-the-prior-moves) |
# | $\beta = .01$ turns .5 into .0099 | [Dal Pozzolo et al., 2015](../../book/references.md#dalpozzolo2015) | [after resampling](#probabilities-after-resampling) |
# | EM finds the new prior without labels | [Saerens et al., 2002](../../book/references.md#saerens2002) | [when the prior moves](#when-the-prior-moves) |
# | One temperature calibrates a network | [Guo et al., 2017](../../book/references.md#guo2017) | not after resampling: a shift needs a shift |
#
# And an example of what few positives do to a printed table: a textbook compares models on sixteen test nodes of the rarest
# class ([the chapter on the page network](../graphs/page_network.ipynb#published-and-reproduced) repeats it). Its recalls are 12, 11
# and 6 of 16. With their Wilson intervals:

# %%
pd.DataFrame({model_name: dict(zip(["recall", "from", "to"], (hits / 16, *wilson(hits, 16)),
                                   strict=True))
              for model_name, hits in (("GCN", 12), ("MLP", 11), ("XGBoost", 6))}).T.round(2)

# %% [markdown]
# The first two cannot be told apart.

# %% [markdown]
# ## Try it
#
# **1.** How many rare test samples do you need so that a recall of 0.9 is known to ± 5 points?

# %% tags=["solution", "hide-cell"]
def half_width(trials):
    low, high = wilson(round(0.9 * trials), trials)
    return (high - low) / 2


next(trials for trials in range(10, 1000, 10) if half_width(trials) <= 0.05)

# %% [markdown]
# **2.** Between the plain threshold ($\tau = 0$) and logit adjustment ($\tau = 1$) lies $\tau = 1/2$. What do balanced accuracy and F1
# say to it? (The threshold of two classes is $\pi^\tau / (\pi^\tau + (1 - \pi)^\tau)$.)

# %% tags=["solution", "hide-cell"]
score, truth, prior = (runs["mammography", DATA, STEPS, SEEDS[0]][key]
                       for key in ("scores", "test", "prior"))
taus = {tau: measure({"test": truth, "overlap": 1 / 3}, score["baseline"][1],
                     prior ** tau / (prior ** tau + (1 - prior) ** tau))
        for tau in (0, 0.25, 0.5, 0.75, 1)}
pd.DataFrame({f"τ = {tau}": {name: found[name] for name in ("threshold", "balanced accuracy", "F1")}
              for tau, found in taus.items()}).round(3)

# %% [markdown]
# **3.** *Random oversampling* distorts the probabilities too. Does the same formula repair it?

# %% tags=["solution", "hide-cell"]
run = runs["mammography", DATA, STEPS, SEEDS[0]]
p, kept = run["scores"]["random oversampling"][1], run["prior"] / (1 - run["prior"])
{name: round(float(sk.brier_score_loss(run["test"], score)), 4)
 for name, score in {"oversampled": p, "by the formula": back_to_prior(p, kept),
                     "plain model": run["scores"]["baseline"][1]}.items()}

# %% [markdown]
# ## What to remember
#
# Say what an error costs, and choose the threshold for it. Count the positives of your test set. Compare on the same splits, and
# do not take a wide interval for equality. And before you retrain anything, move the threshold.

# %%
gained = difference(results, "logit adjustment", "baseline", "balanced accuracy",
                    dataset="mammography")
best = max(RETRAINED, key=lambda name: mean(results, name, "balanced accuracy",
                                            dataset="mammography").mean)
retrained = difference(results, best, "logit adjustment", "balanced accuracy",
                       dataset="mammography")
verdict = (f"On mammography, moving the threshold of a plain model lifts balanced accuracy by "
           f"{gained:%} points; the best retraining ({best}) adds {retrained:+%} to that.")
record("foundations/metrics_and_thresholds",
       pd.concat([results, prior_moved, calibrated, deployed, copies], ignore_index=True),
       verdict=verdict, seeds=SEEDS, steps=STEPS, data_hash=load("mammography", DATA).digest)
