"""The one tool around the chapters: to pair, run, lay out, build, bind, compare them, and to forecast all this.

A chapter is ``notebooks/<part>/<name>.py``; it is called ``<part>/<name>`` everywhere. Its pair, the ``.ipynb`` without
outputs, is what Colab opens. ``build`` is what `make book` calls; the rest are the steps that it, or a writer, runs.

Each room of the workshop imports only from the floors below it; ``tests/test_rooms.py`` has the map.
"""

import argparse
import sys
from pathlib import Path

import building
import catalogue
import compared
import editions
import execution
import forecast
import ledger
import pairs
import website


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    for name, what in [("pair", "write the .ipynb of each chapter"), ("check", "name the pairs that are out of step")]:
        step = steps.add_parser(name, help=what)
        step.add_argument("chapters", nargs="*", metavar="part/chapter")
    step = steps.add_parser("execute", help="run one chapter")
    step.add_argument("chapter", metavar="part/chapter")
    step.add_argument("--profile", default="book")
    step.add_argument("--output", type=Path, required=True)
    step.add_argument("--log", type=Path, required=True)
    step = steps.add_parser("fill", help="run one seed of a chapter, for the store of runs")
    step.add_argument("chapter", metavar="part/chapter")
    step.add_argument("seed", type=int)
    step.add_argument("--profile", default="book")
    step.add_argument("--log", type=Path, required=True)
    step = steps.add_parser("stage", help="lay out the folder that jupyter-book reads")
    step.add_argument("--profile", default="book")
    step.add_argument("--output", type=Path, required=True)
    step = steps.add_parser("html", help="build the pages from that folder")
    step.add_argument("--log", type=Path, required=True)
    for name, what in [("epub", "one EPUB of the pages that were staged last"), ("pdf", "one PDF of them"),
                       ("links", "ask for every address outside that they name")]:
        step = steps.add_parser(name, help=what)
        step.add_argument("--log", type=Path, required=True, help="its name is also that of the logs beside it")
    steps.add_parser("record", help=f"put what other arithmetics have judged here into book/{ledger.RECORD}")
    step = steps.add_parser("compare", help="name what two builds of the same code have recorded otherwise")
    step.add_argument("before", type=Path, help="a folder of results, say build/results/book, kept elsewhere")
    step.add_argument("after", type=Path, help="another")
    step = steps.add_parser("forecast", help="how long a build would take on so many cores, by the last one's times")
    step.add_argument("cores", nargs="*", type=int, default=[1, 2, 4, 8, 64])
    step.add_argument("--profile", default="book", help="the one that was built")
    step.add_argument("--for", dest="other", help="the one that is asked about; the same unless given")
    step = steps.add_parser("build", help="run everything; unknown options go to Snakemake")
    step.add_argument("--profile", default="book")
    step.add_argument("--cores", default="all")
    step.add_argument("--chapters", metavar="part/chapter,…", help="these alone; without it, all")
    step.add_argument("--judge", action="store_true", help="fail for a refuted claim that no chapter speaks of")
    step.add_argument("--arithmetic", help=f"compute in another way, beside: {', '.join(building.ARITHMETICS)}")
    options, extra = parser.parse_known_args(arguments)
    if extra and options.step != "build":
        parser.error(f"unrecognized arguments: {' '.join(extra)}")

    if options.step in ("pair", "check"):
        named = [str(c).removeprefix("notebooks/").removesuffix(".py") for c in options.chapters]
        changed = [file for chapter in named or catalogue.in_order()
                   for file in pairs.pair(chapter, check=options.step == "check")]
        for file in changed:
            print(f"{file}: {'out of step; run `make pair`' if options.step == 'check' else 'written'}")
        return int(bool(changed) and options.step == "check")
    if options.step == "execute":
        execution.execute(options.chapter, options.profile, options.output, options.log)
    elif options.step == "fill":
        execution.fill(options.chapter, options.profile, options.seed, options.log)
    elif options.step == "stage":
        website.stage(options.profile, options.output)
    elif options.step == "html":
        website.pages(options.log)
    elif options.step in ("epub", "pdf"):
        print(getattr(editions, options.step)(options.log))
    elif options.step == "links":
        return int(editions.links(options.log) > 0)
    elif options.step == "record":
        print(f"{ledger.put_on_record(catalogue.in_order())} claims of this checkout stand in book/{ledger.RECORD}")
    elif options.step == "compare":
        chapters, said = compared.compare(options.before, options.after)
        print("\n".join([*said, f"{chapters - len(said)} of {chapters} chapters have the same numbers."]))
        return int(bool(said))
    elif options.step == "forecast":
        print("\n".join(forecast.forecast(options.profile, options.other or options.profile, options.cores)))
    elif options.step == "build":
        return building.build(options.profile, options.cores, extra, names=options.chapters, judge=options.judge,
                              arithmetic=options.arithmetic)
    return 0


if __name__ == "__main__":
    sys.exit(main())
