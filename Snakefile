# What runs when. One rule a step; `make book` calls it, and so may you:
#   snakemake --workflow-profile book/_ext/snakemake --config profile=smoke
# On a cluster the same file runs with `--executor slurm` or `--executor kubernetes`, and `--config spread=True`: each
# seed of a chapter is then a job that fills the store of runs, and the chapter reads from it.

import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir, "book/_ext")))
import catalogue

PROFILE = config.get("profile", "book")
CHAPTERS = catalogue.chosen(config.get("chapters"))
READY = [c for c in CHAPTERS if c not in config.get("failed", "").split(",")]  # pages are built without what failed
SPREAD = str(config.get("spread", False)) == "True"
BUILD = catalogue.build_folder().relative_to(catalogue.ROOT).as_posix()
SOURCES = [catalogue.source(c).relative_to(catalogue.ROOT).as_posix() for c in catalogue.in_order()]
PAGES = sorted(str(p) for p in Path("book").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
BESIDE = sorted(str(p) for p in Path("build/arithmetic").glob(f"*/results/{PROFILE}/*.json"))


def notebook(chapter, profile=PROFILE):
    return f"{BUILD}/notebooks/{profile}/{chapter}.ipynb"


def results(chapter, profile=PROFILE):
    return f"{BUILD}/results/{profile}/{chapter.replace('/', '-')}"


def filled(wildcards, seeds=None):
    """Marks of the seeds whose runs are in the store. The first goes ahead of the others: it does what all share."""
    if not SPREAD:
        return []
    seeds = seeds or catalogue.parameters(wildcards.profile, f"{wildcards.part}/{wildcards.name}")["SEEDS"]
    return [f"{BUILD}/filled/{wildcards.profile}/{wildcards.part}/{wildcards.name}/{seed}" for seed in seeds]


def first_filled(wildcards):
    first = catalogue.parameters(wildcards.profile, f"{wildcards.part}/{wildcards.name}")["SEEDS"][0]
    return [] if int(wildcards.seed) == first else filled(wildcards, [first])


def lanes():
    """How many chapters run at once. Where seeds are jobs it is Snakemake's affair, and a chapter has little to do."""
    return 1 if SPREAD else catalogue.side_by_side(workflow.cores, PROFILE, len(CHAPTERS))


wildcard_constraints:
    profile="[a-z]+",
    part="[a-z0-9_]+",
    name="[a-z0-9_]+",
    seed="[0-9]+",


localrules:
    all,
    stage,
    html,


# Every executed chapter is asked for by name, not only the pages: a chapter that failed must fail again.
# Another arithmetic leaves results beside the book's, and no pages.
rule all:
    input:
        [notebook(chapter) for chapter in READY],
        "build/html/index.html" if BUILD == "build" else [],


# `key` is what a run depends on, by content: the chapter's code without its prose, helpers, the lock, the parameters.
# (The data sets are in it through their checksums, which stand in helpers.)
rule execute:
    input:
        filled,
    output:
        notebook=f"{BUILD}/notebooks/{{profile}}/{{part}}/{{name}}.ipynb",
        table=f"{BUILD}/results/{{profile}}/{{part}}-{{name}}.csv",
        manifest=f"{BUILD}/results/{{profile}}/{{part}}-{{name}}.json",
    params:
        key=lambda w: catalogue.key(f"{w.part}/{w.name}", w.profile),
    threads: lambda wildcards: 1 if SPREAD else workflow.cores // lanes()
    priority: lambda wildcards: catalogue.turn(f"{wildcards.part}/{wildcards.name}", lanes())
    resources:
        mem_mb=lambda wildcards, threads: 2000 + 2000 * threads,
    log:
        f"{BUILD}/logs/{{profile}}/{{part}}-{{name}}.log",
    shell:
        "BOOK_PROFILE={wildcards.profile} BOOK_WORKERS={threads} OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 "
        "{sys.executable:q} book/_ext/bookmaker.py execute {wildcards.part}/{wildcards.name} "
        "--profile {wildcards.profile} --output {output.notebook} --log {log}"


rule fill:
    input:
        first_filled,
    output:
        temp(touch(f"{BUILD}/filled/{{profile}}/{{part}}/{{name}}/{{seed}}")),
    params:
        key=lambda w: catalogue.key(f"{w.part}/{w.name}", w.profile),
    resources:
        mem_mb=4000,
    log:
        f"{BUILD}/logs/{{profile}}/seeds/{{part}}-{{name}}-{{seed}}.log",
    shell:
        "BOOK_PROFILE={wildcards.profile} BOOK_WORKERS={threads} OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 "
        "{sys.executable:q} book/_ext/bookmaker.py fill {wildcards.part}/{wildcards.name} {wildcards.seed} "
        "--profile {wildcards.profile} --log {log}"


# The folder that jupyter-book reads: it mirrors the repository, with the executed notebooks in their places.
rule stage:
    input:
        [notebook(chapter) for chapter in READY],
        [results(chapter) + ".json" for chapter in READY],
        [results(chapter) + ".csv" for chapter in READY],
        ["_config.yml", "_toc.yml", *PAGES, *SOURCES, *BESIDE],
    output:
        "build/stage.json",
    params:
        profile=PROFILE,
        chapters=",".join(CHAPTERS),
        ready=",".join(READY),
        reasons=[catalogue.digest(catalogue.reason(c, PROFILE)) for c in CHAPTERS if c not in READY],
    log:
        f"build/logs/{PROFILE}/stage.log",
    shell:
        "{sys.executable:q} book/_ext/bookmaker.py stage --profile {params.profile} --output {output} >{log} 2>&1"


# Built in a clean folder, so that no page outlives its chapter; a warning is an error.
rule html:
    input:
        "build/stage.json",
    output:
        "build/html/index.html",
    log:
        f"build/logs/{PROFILE}/html.log",
    shell:
        "{sys.executable:q} book/_ext/bookmaker.py html --log {log}"
