# What runs when. One rule a step; `make book` calls it, and so may you:
#   snakemake --workflow-profile book/_ext/snakemake --config profile=smoke
# On a cluster the same file runs with `--executor slurm` or `--executor kubernetes`.

import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir, "book/_ext")))
import bookmaker

PROFILE = config.get("profile", "book")
CHAPTERS = bookmaker.in_order()
PAGES = sorted(str(p) for p in Path("book").rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def notebook(chapter, profile=PROFILE):
    return f"build/notebooks/{profile}/{chapter}.ipynb"


def results(chapter, profile=PROFILE):
    return f"build/results/{profile}/{chapter.replace('/', '-')}"


def tables_read(wildcards):
    """A chapter of the part `synthesis` reads the tables of all other chapters, so they come first."""
    if wildcards.part != "synthesis":
        return []
    return [results(c, wildcards.profile) + ".csv" for c in CHAPTERS if not c.startswith("synthesis/")]


wildcard_constraints:
    profile="[a-z]+",
    part="[a-z0-9_]+",
    name="[a-z0-9_]+",


# Every executed chapter is asked for by name, not only the pages: a chapter that failed must fail again.
rule all:
    input:
        [notebook(chapter) for chapter in CHAPTERS],
        "build/html/index.html",


# `key` is what a run depends on, by content: the chapter, helpers, the lock, the profile's parameters.
# (The data sets are in it through their checksums, which stand in helpers.) Quick runs share the cores, long ones take all.
rule execute:
    input:
        source="notebooks/{part}/{name}.py",
        tables=tables_read,
    output:
        notebook="build/notebooks/{profile}/{part}/{name}.ipynb",
        table="build/results/{profile}/{part}-{name}.csv",
        manifest="build/results/{profile}/{part}-{name}.json",
    params:
        key=lambda w: bookmaker.key(f"{w.part}/{w.name}", w.profile),
    threads: max(1, workflow.cores // len(CHAPTERS)) if PROFILE == "smoke" else workflow.cores
    log:
        "build/logs/{profile}/{part}-{name}.log",
    shell:
        "BOOK_PROFILE={wildcards.profile} BOOK_WORKERS={threads} OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 "
        "{sys.executable} book/_ext/bookmaker.py execute {wildcards.part}/{wildcards.name} "
        "--profile {wildcards.profile} --output {output.notebook} --log {log}"


# The folder that jupyter-book reads: it mirrors the repository, with the executed notebooks in their places.
rule stage:
    input:
        [notebook(chapter) for chapter in CHAPTERS],
        [results(chapter) + ".json" for chapter in CHAPTERS],
        [results(chapter) + ".csv" for chapter in CHAPTERS],
        ["_config.yml", "_toc.yml", *PAGES],
    output:
        "build/stage.json",
    params:
        profile=PROFILE,
    log:
        f"build/logs/{PROFILE}/stage.log",
    shell:
        "{sys.executable} book/_ext/bookmaker.py stage --profile {params.profile} --output {output} >{log} 2>&1"


# Built in a clean folder, so that no page outlives its chapter; a warning is an error.
rule html:
    input:
        "build/stage.json",
    output:
        "build/html/index.html",
    log:
        f"build/logs/{PROFILE}/html.log",
    shell:
        "{sys.executable} book/_ext/bookmaker.py html --log {log}"
