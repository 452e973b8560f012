"""The whole build: what has changed is run, one build at a time; at the end, where the book is and what failed."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import catalogue
import checks
import kept
import ledger
import progress
import recorded
import stopping
from catalogue import Trouble

# Other ways to compute on the same machine, narrower than what a recent processor offers.
ARITHMETICS = {"avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "BOOK_BF16": "off"}}


@contextlib.contextmanager
def alone(folder: Path):
    """One build at a time in a checkout. The system drops the lock with its last process, so it is never stale."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another build is at work in this checkout; waiting for it to end.", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle


def forget_stand_ins(profile: str, chapters: list[str]) -> None:
    """A chapter that ran on a stand-in runs again once there are other data files than it saw."""
    for chapter in chapters:
        manifest = catalogue.results_path(chapter, profile, ".json")
        seen = catalogue.build_folder() / "run" / profile / chapter / "data-seen"
        if (manifest.is_file() and seen.is_file() and catalogue.parameters(profile, chapter).get("DATA") != "stand-in"
                and json.loads(manifest.read_text(encoding="utf-8")).get("data") != "real"
                and seen.read_text(encoding="utf-8") != catalogue.data_seen()):
            (catalogue.executed(chapter, profile)).unlink(missing_ok=True)


def fingerprint(profile: str, chapters: list[str]) -> str:
    """What a finished build rests on, by content, and what it left, by size and time: the same again, nothing to do."""
    folder = catalogue.build_folder()
    rest = [catalogue.ROOT / name for name in ("Snakefile", "_config.yml", "_toc.yml")]
    rest += [path for path in (catalogue.ROOT / "book").rglob("*")
             if path.is_file() and "__pycache__" not in path.parts]
    rest += [catalogue.source(chapter) for chapter in catalogue.in_order()]
    made = [folder / "stage.json", folder / "html" / "index.html", *beside(profile)]
    made += [catalogue.executed(chapter, profile) for chapter in chapters]
    made += [catalogue.results_path(chapter, profile, suffix) for chapter in chapters for suffix in (".csv", ".json")]
    facts = [profile, [catalogue.key(chapter, profile) for chapter in chapters],
             [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(rest)],
             [(path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None for path in made]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def beside(profile: str) -> list[Path]:
    """The records of other arithmetics, which the ledger sets beside the book's."""
    return sorted((catalogue.ROOT / "build" / "arithmetic").glob(f"*/results/{profile}/*.json"))


def take_arithmetic(name: str | None) -> None:
    """Let everything that this build starts compute so, and keep its results apart."""
    if name is None:
        return
    if name not in ARITHMETICS:
        raise Trouble(f"unknown arithmetic {name!r}; known: {', '.join(ARITHMETICS)}")
    os.environ.update(ARITHMETICS[name], BOOK_ARITHMETIC=name)


def snakemake(profile: str, cores: str, extra: list[str], settings: dict[str, list[str]], lock, talk) -> int:
    """Run Snakemake; what it says goes to the log, what the steps say to the screen."""
    spread = any(option.startswith("--executor") for option in extra)  # where a seed is a job of its own
    command = [sys.executable, "-m", "snakemake", "--snakefile", "Snakefile", "--workflow-profile",
               "book/_ext/snakemake", *([] if spread and cores == "all" else ["--cores", cores]), *extra, "--config",
               f"profile={profile}", f"spread={spread}"]
    command += [f"{name}={','.join(chapters)}" for name, chapters in settings.items() if chapters]
    progress.forget()
    with subprocess.Popen(command, cwd=catalogue.ROOT, stdout=subprocess.PIPE, stderr=talk, text=True, encoding="utf-8",
                          pass_fds=[lock.fileno()], start_new_session=True) as process, stopping.passed_on(process):
        return progress.follow(process, news=progress.News(profile) if elsewhere(extra) else list)


def elsewhere(options: list[str]) -> bool:
    """Whether jobs run on other machines: what they say does not reach this screen, and their processors are others."""
    return any(option.startswith("--executor") for option in options) and "local" not in options


def failures(profile: str, chapters: list[str]) -> list[str]:
    """The chapters that began to run in this build, and did not end well."""
    return [chapter for chapter in chapters if not catalogue.executed(chapter, profile).is_file()
            and (catalogue.logs(profile) / f"{catalogue.flat(chapter)}.log").is_file()]


def build(profile: str, cores: str = "all", extra: list[str] = (), *, names: str | None = None,
          judge: bool = False, arithmetic: str | None = None) -> int:
    """Run Snakemake, unless it would find nothing to do; at the end say where the book is, and show what failed.

    A chapter that fails costs the others nothing: a second pass builds the pages without it.
    """
    checks.before_anything_runs(profile)
    take_arithmetic(arithmetic)
    chapters = catalogue.chosen(names)
    logs, state = catalogue.logs(profile), catalogue.build_folder() / "state.json"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "runs.log").unlink(missing_ok=True)
    failed: list[str] = []
    partly = any(target.startswith("build/") for target in extra)
    with alone(catalogue.ROOT / "build") as lock, (logs / "snakemake.txt").open("w", encoding="utf-8") as talk:
        forget_stand_ins(profile, chapters)
        for chapter in failures(profile, catalogue.in_order()):  # of an earlier build
            (logs / f"{catalogue.flat(chapter)}.log").unlink()
        if not extra and state.is_file() and state.read_text(encoding="utf-8") == fingerprint(profile, chapters):
            code = 0
            print("Nothing has changed since the last build.")
        else:
            settings = {"chapters": chapters if names else []}
            due = [] if elsewhere(extra) else [c for c in chapters if not catalogue.is_current(c, profile)]
            kept.fetch(due, profile)
            code = snakemake(profile, cores, extra, settings, lock, talk)
            while code and not partly and (more := [c for c in failures(profile, chapters) if c not in failed]):
                failed += more
                code = snakemake(profile, cores, extra, {**settings, "failed": failed}, lock, talk)
            kept.keep(due, profile)
            failed = failures(profile, chapters)
            if not (code or failed or extra or trouble()):  # an option of Snakemake's may have run a part of it
                state.write_text(fingerprint(profile, chapters), encoding="utf-8")
    say_what_was_not_kept(profile)
    if partly:
        return code and show_failures(profile, chapters, code)
    if not code:
        say_where(profile, chapters)
    held = code or say_what_held(profile, chapters, judge)
    return show_failures(profile, chapters, code or 1) if code or failed or trouble() else held


def trouble() -> dict[str, str]:
    """By chapter: what kept it from being shown, though it ran."""
    staged = catalogue.build_folder() / "stage.json"
    return json.loads(staged.read_text(encoding="utf-8"))["failed"] if staged.is_file() else {}


def say_where(profile: str, chapters: list[str]) -> None:
    """Where the book is, and what it stands on."""
    door = catalogue.build_folder() / "html" / "index.html"
    if not door.is_file():
        return
    facts = [recorded.facts(chapter, profile) for chapter in chapters if chapter in recorded.there(profile)]
    stand_ins = sum(fact.get("data") != "real" for fact in facts)
    if stand_ins:
        print(f"\n{stand_ins} of {len(facts)} chapters ran on stand-in data, and say so. For the real data, "
              "connect to the network or set BOOK_DATA; then `make clean` and build again.")
    print(f"\nThe book ({profile} profile, {len(chapters)} chapter{'' if len(chapters) == 1 else 's'}): {door}")


def say_what_held(profile: str, chapters: list[str], judge: bool) -> int:
    """Count the claims that did not hold here; a publisher's run (`judge`) fails for what no chapter speaks of."""
    chapters = [chapter for chapter in chapters if chapter in recorded.there(profile)]
    claims = ledger.entries(profile, chapters)
    refuted, judged = ledger.having(claims, "refuted"), [c for c in claims if c["status"] in ledger.JUDGED]
    if refuted:
        known = sum(bool(claim.get("acknowledged")) for claim in refuted)
        said = f", {known} of them as their chapters say" if known else ""
        print(f"\n{len(refuted)} of {len(judged)} claims did not hold on this machine{said}:\n"
              + ledger.listing(refuted))
    if fragile := [claim for claim in claims if claim["fragile"]]:
        print(f"\nFragile, for another arithmetic judges otherwise:\n{ledger.listing(fragile)}")
    if not judge:
        return 0
    wrong = {what: found for what, found in ledger.objections(claims).items() if found}
    made_up = [chapter for chapter in chapters if recorded.facts(chapter, profile).get("data") != "real"]
    if made_up:
        print(f"\nerror: no judgement without the real data: {', '.join(made_up)}")
    for what, found in wrong.items():
        print(f"\nerror: {what}:\n{ledger.listing(found)}")
    return int(bool(wrong or made_up))


def say_what_was_not_kept(profile: str) -> None:
    """What the store of runs had to tell, each line once."""
    told = catalogue.logs(profile) / "runs.log"
    for line in dict.fromkeys(told.read_text(encoding="utf-8").splitlines() if told.is_file() else []):
        print(f"note: {line}")


def show_failures(profile: str, chapters: list[str], code: int) -> int:
    """Print the log of each step that failed, so that its traceback is the last thing on the screen."""
    logs, folder = catalogue.logs(profile), catalogue.build_folder()
    for chapter, reason in trouble().items():
        print(f"\n======== {chapter}\n{reason}")
    steps = {"stage": folder / "stage.json", "html": folder / "html" / "index.html"}
    steps |= {catalogue.flat(chapter): catalogue.executed(chapter, profile) for chapter in chapters}
    failed = [path for name, result in steps.items()
              if not result.is_file() and (path := logs / f"{name}.log").is_file() and path.stat().st_size]
    for path in failed or ([] if trouble() else [logs / "snakemake.txt"]):
        print(f"\n======== {path}\n{catalogue.plain(path.read_text(encoding='utf-8')).rstrip()}", flush=True)
    if (left := shutil.disk_usage(folder).free) < 2**20:  # then the logs above may be cut short, too
        print(f"\nNo space left on device: {left // 1024} kB are free for {folder}. Make room; the same command "
              "goes on from there.", flush=True)
    return code
