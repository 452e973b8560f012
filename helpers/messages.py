"""Short messages, spam among them, and the language data that augmenting them needs."""

from __future__ import annotations

import functools
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from helpers.files import DamagedData, Resource, announce, cache_folder, data_folders, fetch, resolve


@dataclass(frozen=True)
class Messages:
    """Short messages and whether they are spam.

    Attributes
    ----------
    name : str
        As it stands in the results; a stand-in's name begins with ``"stand-in"``.
    texts : tuple of str
    labels : numpy.ndarray
        Shape (N,), ``int64``: 1 is spam.
    """

    name: str
    texts: tuple[str, ...]
    labels: np.ndarray


def _unzip(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read("SMSSpamCollection")


_MESSAGES = Resource(
    "SMSSpam/SMSSpamCollection", "7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
    ("https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
     "https://archive.ics.uci.edu/ml/machine-learning-databases/00228/smsspamcollection.zip"), _unzip)


def load_messages(data: str = "auto") -> Messages:
    """Load the SMS Spam Collection: 5,574 messages, 747 of them spam.

    Almeida, Gómez Hidalgo and Yamakami, "Contributions to the study of SMS spam filtering", DocEng 2011.

    Parameters
    ----------
    data : {"auto", "real", "stand-in"}

    Returns
    -------
    Messages

    Examples
    --------
    >>> messages = load_messages("stand-in")
    >>> len(messages.texts), int(messages.labels.sum())
    (1500, 201)
    """
    messages = resolve(data, _load_sms, _load_made_up_messages)
    if messages.name.startswith("stand-in"):
        announce("the SMS Spam Collection", "made-up messages")
    return messages


@functools.cache
def _load_sms() -> Messages:
    lines = fetch(_MESSAGES).read_text(encoding="utf-8").rstrip("\n").split("\n")
    labels, texts = zip(*(line.split("\t", 1) for line in lines), strict=True)
    return Messages("SMS Spam", texts, np.array([label == "spam" for label in labels], dtype=np.int64))


_HAM = (
    "{hi} {name}, are u coming {when}?", "{hi}! {tail} call me {when}", "im {late} n stuck at {place}, {tail}",
    "cant talk now, at {place}. txt u {when}", "did {name} get the {thing}? need it {when}", "ok {tail}",
    "happy bday {name}!! c u {when} at {place}", "pls bring the {thing} {when}, {tail}",
    "lol {name} is so {late} {tail}", "mum says {name} won a {prize} at {place} lol",
    "can u call {name} about the {thing}? its free {when}", "meeting moved to {when}, {place}. reply if ok",
    "{name} forgot the {thing} again {tail}")
_SPAM = (
    "WINNER! You have won a {prize}. Call {number} now to claim. {small}",
    "Call {number} for half price {prize} {when}", "FREE {prize} for our customers! Txt {word} to {short}. {small}",
    "URGENT {name}, your {prize} is waiting. Reply {word} or call {number}. {small}",
    "Your account has {prize} waiting, visit {place}",
    "Hi {name}, want to chat {when}? Txt {word} to {short}. {small}", "{hi} its {name}, got the {thing}, ring {number}")
_SLOTS = {slot: words.split("|") for slot, words in {
    "hi": "hey|hiya|yo|hi|heya mate|gm|alrite", "name": "Sam|Priya|Tom|Wei|Ana|Joe|Mei|Ola",
    "when": "2nite|tmrw|l8r|in 5 min|at 6|on sat|after class|now|b4 lunch|this wk",
    "late": "knackered|l8|sleepy|skint|bored|busy|hungry", "tail": "lol|haha|ttyl|x|k?|omg|:)|thx|np|😀|cya",
    "place": "work|the gym|uni|home|the pub|town|the shop|lib",
    "thing": "keys|notes|tickets|charger|book|bill|pics|phone", "word": "WIN|YES|CLAIM|GO|PLAY|HOT",
    "prize": "£500 prize|cruise|new mobile|ringtone|£100 voucher|holiday for 2|camera phone|gift card",
    "small": "T&Cs apply|16+ only|Std txt rate|To stop txt STOP|150p/msg",
}.items()}


@functools.cache
def _load_made_up_messages(size: int = 1500) -> Messages:
    """Messages from templates: slang, near-duplicates that differ in a number, some told twice, some hard to tell."""
    rng = np.random.default_rng(0)
    labels = rng.permutation((np.arange(size) < round(size * 747 / 5574)).astype(np.int64))

    def message(spam: int) -> str:
        chosen = {slot: str(rng.choice(words)) for slot, words in _SLOTS.items()}
        numbers = {"number": f"09{rng.integers(10**8):08d}", "short": str(rng.integers(80000, 90000))}
        parts = [str(rng.choice(_SPAM if spam else _HAM))]
        if not spam:
            parts += [str(rng.choice(_HAM)) for _ in range(rng.integers(3))]
        return " ".join(parts).format(**chosen, **numbers)

    texts: list[str] = []
    for place, label in enumerate(labels):
        earlier = np.flatnonzero(labels[:place] == label)
        again = len(earlier) > 0 and rng.random() < 0.08
        texts.append(texts[int(rng.choice(earlier))] if again else message(label))
    return Messages("stand-in for SMS Spam", tuple(texts), labels)


_LANGUAGE_DATA = {"wordnet": "corpora", "averaged_perceptron_tagger_eng": "taggers"}
_SYNSETS = {"noun": 82115, "verb": 13767, "adj": 18156, "adv": 3621}  # Princeton, wnstats(7WN) of WordNet 3.0


def find_nltk_data(timeout: float = 10) -> Path | None:
    """Find WordNet and the English tagger for nltk, or have nltk download them; tells nltk where they are.

    Looks in ``$BOOK_DATA/nltk_data``, in ``$NLTK_DATA`` and in the user's cache folder, where a download goes.

    Returns
    -------
    pathlib.Path or None
        The folder, or None where there is neither a copy nor a network.

    Raises
    ------
    DamagedData
        If what is found is not WordNet 3.0, or the tagger does not tag.
    """
    import nltk

    cached = cache_folder() / "nltk_data"
    elsewhere = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    folders = [folder / "nltk_data" for folder in data_folders()[:-1]] + [*elsewhere, cached]
    found = next(filter(_has_language_data, folders), None)
    if found is None and _download_language_data(cached, timeout):
        found = cached
    if found is not None and str(found) not in nltk.data.path:
        nltk.data.path.insert(0, str(found))
    if found is not None:
        _check_language_data(found)
    return found


@functools.cache
def _check_language_data(folder: Path) -> None:
    """What is there is told by what it does: WordNet 3.0 has its published number of synsets, the tagger tags."""
    import nltk
    from nltk.corpus import wordnet

    try:
        synsets = {kind: sum(not line.startswith("  ") for line in wordnet.open(f"data.{kind}")) for kind in _SYNSETS}
        tags = [tag for _, tag in nltk.pos_tag(["She", "bought", "the", "red", "car"])]
    except Exception as error:  # a reader of damaged files may fail in any way
        raise DamagedData(f"{folder}: WordNet or the English tagger cannot be read ({type(error).__name__}: {error})"
                          "; delete the folder, or point BOOK_DATA elsewhere") from error
    if synsets != _SYNSETS or tags != ["PRP", "VBD", "DT", "JJ", "NN"]:
        raise DamagedData(f"{folder}: not WordNet 3.0 and its tagger (synsets {synsets}, published {_SYNSETS}; tags "
                          f"{tags}); delete the folder, or point BOOK_DATA elsewhere")


def _has_language_data(folder: Path) -> bool:
    return all((folder / kind / name).is_dir() or (folder / kind / f"{name}.zip").is_file()
               for name, kind in _LANGUAGE_DATA.items())


def _download_language_data(folder: Path, timeout: float) -> bool:
    import socket

    import nltk
    from filelock import FileLock

    before = socket.getdefaulttimeout()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".download.lock"):
            socket.setdefaulttimeout(timeout)  # nltk has no timeout of its own
            return _has_language_data(folder) or (
                all(nltk.download(name, download_dir=str(folder), quiet=True) for name in _LANGUAGE_DATA)
                and _has_language_data(folder))
    except (OSError, ValueError):  # a read-only folder, no network, an answer that is no index
        return False
    finally:
        socket.setdefaulttimeout(before)
