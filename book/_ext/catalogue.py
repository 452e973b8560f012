"""What there is: the root, the chapters in their order, profiles, keys, where things lie; text made safe for a page."""

import functools
import hashlib
import io
import json
import os
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # pages are made with the helpers of this checkout
STOPPED = "was stopped before it could say why"  # the log of a step that is under way, or was killed
ADDRESS = re.compile(r'(?<=git\+)[^"\s]*')


class Trouble(SystemExit):
    """What a writer or reader can mend: printed as one line, without a traceback."""

    def __init__(self, message: str):
        super().__init__(f"error: {message}")


def read_yaml(path: Path) -> dict:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.MarkedYAMLError as error:
        raise Trouble(f"{path.relative_to(ROOT)}, line {error.problem_mark.line + 1}: this is not YAML "
                      f"({error.problem}); look at the indentation") from None


def data_seen() -> str:
    """A digest of the names and sizes of the data files that the chapters could have read."""
    import platformdirs

    folders = [os.environ.get("BOOK_DATA"), platformdirs.user_cache_dir("learning-from-imbalanced-data")]
    files = [(str(path.relative_to(folder)), path.stat().st_size) for folder in folders if folder
             for path in sorted(Path(folder).rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def in_order() -> list[str]:
    """The chapters, in the order of ``_toc.yml``."""
    toc = read_yaml(ROOT / "_toc.yml")
    pages = [page["file"] for part in [toc, *toc.get("parts", [])] for page in part.get("chapters", [])]
    chapters = [page.removeprefix("notebooks/") for page in pages if page.startswith("notebooks/")]
    for chapter in chapters:
        if not source(chapter).is_file():
            raise Trouble(f"_toc.yml names notebooks/{chapter}, but there is no notebooks/{chapter}.py")
    return chapters


def chosen(names: str | None) -> list[str]:
    """The chapters that a build is about: those named, in the book's order, or all."""
    wanted = [name.removeprefix("notebooks/").removesuffix(".py") for name in re.split(r"[\s,]+", names or "") if name]
    strange = [name for name in wanted if name not in in_order()]
    if strange:
        raise Trouble(f"{strange[0]} is no chapter; known: {', '.join(in_order())}")
    return [chapter for chapter in in_order() if chapter in wanted or not wanted]


def side_by_side(cores: int, profile: str, chapters: int) -> int:
    """How many chapters run at once. Two cores each: the work of its own would keep more of them waiting.

    Quick runs take one; where there is a GPU, one chapter has it to itself.

    >>> side_by_side(8, "book", chapters=25), side_by_side(8, "book", chapters=1), side_by_side(8, "smoke", chapters=25)
    (4, 1, 8)
    """
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return 1
    return max(1, min(chapters, cores // (1 if profile == "smoke" else 2)))


def turn(chapter: str, lanes: int) -> int:
    """Where a chapter stands among those that wait, the higher the sooner.

    One by one they follow the book. Side by side the end of the book goes first: its chapters are long, and whatever is
    long and late keeps cores waiting.
    """
    place = in_order().index(chapter)
    return place if lanes > 1 else -place


def source(chapter: str) -> Path:
    return ROOT / "notebooks" / f"{chapter}.py"


def text(chapter: str) -> str:
    return source(chapter).read_text(encoding="utf-8")


def build_folder() -> Path:
    """Where everything that is made goes. Chapters find it in ``$BOOK_BUILD``; another arithmetic has its own in it."""
    other = os.environ.get("BOOK_ARITHMETIC")
    return ROOT / "build" / "arithmetic" / other if other else ROOT / "build"


def runs() -> Path | None:
    """Where runs are kept, one place for every arithmetic; None where ``BOOK_RUNS=off``."""
    told = os.environ.get("BOOK_RUNS") or ROOT / "build" / "runs"
    return None if told == "off" else Path(told).expanduser().absolute()


def logs(profile: str) -> Path:
    return build_folder() / "logs" / profile


def executed(chapter: str, profile: str) -> Path:
    """Where the executed notebook lies."""
    return build_folder() / "notebooks" / profile / f"{chapter}.ipynb"


def run_folder(chapter: str, profile: str) -> Path:
    """Where the chapter runs, and leaves what a later build wants to know of that run."""
    return build_folder() / "run" / profile / chapter


def is_current(chapter: str, profile: str) -> bool:
    """Whether the executed notebook is of the code, the parameters and the helpers of today."""
    noted = run_folder(chapter, profile) / "key"
    return executed(chapter, profile).is_file() and noted.is_file() and noted.read_text() == key(chapter, profile)


def reason(chapter: str, profile: str) -> str:
    """What the log of a chapter's run says: why it failed, if it did."""
    log = logs(profile) / f"{flat(chapter)}.log"
    return log.read_text(encoding="utf-8") if log.is_file() else ""


def flat(chapter: str) -> str:
    """A chapter's name as the name of a file."""
    return chapter.replace("/", "-")


def results_path(chapter: str, profile: str, suffix: str) -> Path:
    return build_folder() / "results" / profile / f"{flat(chapter)}{suffix}"


def address() -> str:
    """The repository's address, which is typed in ``_config.yml`` and nowhere else."""
    return read_yaml(ROOT / "_config.yml")["repository"]["url"].rstrip("/")


def spread(seeds) -> list[int]:
    """Seeds as a profile writes them, one by one or as a range.

    >>> spread("100-104"), spread(7), spread([0, 2])
    ([100, 101, 102, 103, 104], [7], [0, 2])
    """
    if match := re.fullmatch(r"(\d+)-(\d+)", str(seeds)):
        seeds = range(int(match[1]), int(match[2]) + 1)
    seeds = list(seeds) if isinstance(seeds, list | range) else [seeds]
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"{seeds} are no seeds; write 7, 100-104 or [0, 2], each seed once")
    return seeds


def parameters(profile: str, chapter: str) -> dict:
    """What papermill sets: the seeds of the chapter's part, then the profile's lines for this chapter.

    What a profile does not say stays as it is in the chapter's own cell.
    """
    path = ROOT / "notebooks" / "profiles" / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise Trouble(f"unknown profile {profile!r}; known: {known}")
    lines, where = read_yaml(path), path.relative_to(ROOT)
    seeds = lines.pop("seeds", None)
    if not isinstance(seeds, dict) or "default" not in seeds or any("/" in part for part in seeds):
        raise Trouble(f"{where} needs seeds: a `default`, and a line for each part that takes others")
    strange = [name for name in lines if not source(name).is_file()]
    if strange:
        raise Trouble(f"{where} has lines for {strange[0]}, which is no chapter")
    chosen = {"SEEDS": seeds.get(chapter.split("/")[0], seeds["default"]), **(lines.get(chapter) or {})}
    try:
        return {**chosen, "SEEDS": spread(chosen["SEEDS"])}
    except ValueError as error:
        raise Trouble(f"{where}, {chapter}: {error}") from None


@functools.cache
def _shared_key() -> bytes:
    files = sorted(p for p in (ROOT / "helpers").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    digest = hashlib.sha256()
    for path in [*files, ROOT / "requirements.lock"]:
        if path.is_file():
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


def code(text: str) -> list[str]:
    """A chapter's code, token by token: without prose, comments, blank lines and what only its page shows.

    Where one cell ends and the next begins is code; so is the tag ``parameters``. The repository's address is none.

    >>> code("# %%\\nx = 1  # one") == code("# %% [markdown]\\n# Prose.\\n\\n# %% tags=['hide-input']\\nx  =  1\\n")
    True
    >>> code("# %%\\nx = 1\\n# %%\\nx") == code("# %%\\nx = 1\\nx")
    False
    """
    found = []
    lines = io.StringIO(ADDRESS.sub("", text).rstrip("\n") + "\n")
    for token in tokenize.generate_tokens(lines.readline):
        if token.type == tokenize.COMMENT and re.match(r"# %%(?! \[markdown\])", token.string):
            found.append("# %% parameters" if re.search(r"[\"']parameters[\"']", token.string) else "# %%")
        elif token.type not in (tokenize.COMMENT, tokenize.NL):
            found.append(token.string)
    return found


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _code_of(chapter: str) -> list[str]:
    try:
        return code(text(chapter))
    except (tokenize.TokenError, SyntaxError):  # it will fail, and say where
        return [text(chapter)]


def key(chapter: str, profile: str) -> str:
    """What an execution depends on, by content: its code and that of chapters it names, parameters, helpers, lock."""
    what = _code_of(chapter)
    loaded = [_code_of(other) for other in in_order() if other != chapter and f'"{other}"' in what]
    facts = json.dumps([what, loaded, parameters(profile, chapter)], sort_keys=True)
    return hashlib.sha256(b"\0".join([facts.encode(), _shared_key()])).hexdigest()[:16]


def escape(text: object) -> str:
    """Text that neither HTML nor Markdown reads as markup, whatever a data set or a manifest holds."""
    return re.sub(r"[&<>\"'\\`*_{}\[\]$~|#^:]", lambda match: f"&#{ord(match[0])};", " ".join(str(text).split()))


def plain(text: str) -> str:
    """Without terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
