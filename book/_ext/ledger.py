"""The ledger of claims, from the manifests: for the page *What we claimed*, and for the last lines of a build."""

import csv
import json

import catalogue
import recorded
from catalogue import escape

JUDGED = ("held", "refuted")
RECORD = "other_arithmetics.csv"


# ---------------------------------------------------------------- reading

def entries(profile: str, chapters: list[str]) -> list[dict]:
    """Every claim of these chapters, each with its chapter, and whether another arithmetic judges it otherwise."""
    beside = elsewhere(profile, chapters)
    found = []
    for chapter in chapters:
        for claim in recorded.facts(chapter, profile).get("claims", []):
            others = beside.get((chapter, claim["sentence"]), {})
            differ = [name for name, status in others.items() if {status, claim["status"]} == set(JUDGED)]
            found.append({"chapter": chapter, **claim, "arithmetics": list(others), "fragile": differ})
    return found


def elsewhere(profile: str, chapters: list[str]) -> dict[tuple[str, str], dict[str, str]]:
    """By chapter and sentence: each other arithmetic's judgement.

    From this checkout, where it ran the chapter as it is now; else, for the book's seeds, the one on record.
    """
    found = {}
    for row in [*(on_record() if profile == "book" else []), *judged_here(profile, chapters)]:
        found.setdefault((row["chapter"], row["sentence"]), {})[row["arithmetic"]] = row["status"]
    return found


def judged_here(profile: str, chapters: list[str]) -> list[dict]:
    """What other arithmetics have judged in this checkout, of the chapters as they are now."""
    found = []
    for folder in sorted((catalogue.ROOT / "build" / "arithmetic").glob("*")):
        for chapter in chapters:
            noted = folder / "run" / profile / chapter / "key"
            manifest = folder / "results" / profile / f"{catalogue.flat(chapter)}.json"
            if not (noted.is_file() and manifest.is_file() and noted.read_text() == catalogue.key(chapter, profile)):
                continue
            facts = json.loads(manifest.read_text(encoding="utf-8"))
            found += [{"arithmetic": folder.name, "date": str(facts.get("date", ""))[:10], "chapter": chapter,
                       "sentence": claim["sentence"], "status": claim["status"]}
                      for claim in facts.get("claims", []) if claim["status"] in JUDGED]
    return found


def on_record() -> list[dict]:
    """The judgements of other arithmetics that the repository holds: to make them takes as long as the book."""
    path = catalogue.ROOT / "book" / RECORD
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def put_on_record(chapters: list[str]) -> int:
    """Write what other arithmetics have judged in this checkout into the record; other chapters of the book keep rows.

    Returns how many claims are new or judged again.
    """
    new = judged_here("book", chapters)
    again = {(row["arithmetic"], row["chapter"]) for row in new}
    rows = [row for row in on_record()
            if (row["arithmetic"], row["chapter"]) not in again and row["chapter"] in chapters] + new
    rows.sort(key=lambda row: (row["arithmetic"], chapters.index(row["chapter"])))
    with (catalogue.ROOT / "book" / RECORD).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["arithmetic", "date", "chapter", "sentence", "status"], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return len(new)


def having(claims: list[dict], status: str) -> list[dict]:
    return [claim for claim in claims if claim["status"] == status]


def by_chance(claims: list[dict]) -> tuple[int, float]:
    """How many judged claims rest on a test of a difference, and how many would hold if nothing made any difference.

    Each is read off one side of a 95 % interval, so it is one in forty.
    """
    tested = len(tests(claims, "difference"))
    return tested, tested / 40


def tests(claims: list[dict], kind: str) -> list[dict]:
    """The judged claims that rest on a p-value of this kind: difference or equality."""
    return [claim for claim in claims
            if claim["status"] in JUDGED and claim.get("p") is not None and claim.get("kind", "difference") == kind]


def objections(claims: list[dict]) -> dict[str, list[dict]]:
    """What the publisher's run does not let pass: refutations nobody speaks of, and acknowledgements that are stale."""
    return {"refuted, and the chapter does not say so (claim(…, refuted=…))":
            [claim for claim in having(claims, "refuted") if not claim.get("acknowledged")],
            "acknowledged as refuted, but held":
            [claim for claim in having(claims, "held") if claim.get("acknowledged")]}


def listing(claims: list[dict]) -> str:
    """For the screen."""
    return "\n".join(f"  {claim['chapter']}: {claim['sentence']}\n    {claim['detail']}" for claim in claims)


# ---------------------------------------------------------------- the page

def page(profile: str, chapters: list[str]) -> str:
    """All that takes the place of the mark ``<!-- made: claims -->``."""
    claims = entries(profile, chapters)
    return "\n\n".join(part for part in [totals(claims), first_judgement(), *(
        f"## {recorded.short(chapter)}\n\n{table(chapter, [c for c in claims if c['chapter'] == chapter])}"
        for chapter in chapters if any(claim["chapter"] == chapter for claim in claims))] if part)


def counted(number: int, one: str, more: str = "") -> str:
    return f"{number} {one if number == 1 else more or one + 's'}"


def totals(claims: list[dict]) -> str:
    """What became of all claims together, in words."""
    held, refuted, rest = (having(claims, status) for status in ("held", "refuted", "not judged"))
    if not (held or refuted):
        return (f"*This build judges nothing: its {counted(len(claims), 'claim')} "
                f"{'was' if len(claims) == 1 else 'were'} made without the book's seeds or without the real data. "
                "`make book` judges them.*")
    tested, chance = by_chance(claims)
    firm = sum(claim.get("p_holm") is not None and claim["p_holm"] < 0.05 for claim in held)
    known = sum(bool(claim.get("acknowledged")) for claim in refuted)
    said = [f"Of {counted(len(held) + len(refuted), 'claim')}, **{len(held)} held and {len(refuted)} "
            f"{'was' if len(refuted) == 1 else 'were'} refuted**."]
    if refuted:
        said.append(f"{'All' if known == len(refuted) else known or 'None'} of the refuted "
                    f"{'is' if known == 1 else 'are'} acknowledged in the chapter.")
    if tested:
        equal = len(tests(claims, "equality"))
        said.append(f"{tested} of the judged claims rest on a test of a difference, {equal or 'none'} on one of an "
                    f"equality. If no technique made any difference, about {chance:.0f} of the former would have held "
                    f"by chance alone. {firm} of all that held stay significant at 5 % when all tests of their chapter "
                    "are counted (Holm).")
    if rest:
        said.append(f"{counted(len(rest), 'claim was', 'claims were')} not judged.")
    if compared := [claim for claim in held + refuted if claim["arithmetics"]]:
        fragile = [claim for claim in compared if claim["fragile"]]
        names = ", ".join(sorted({name for claim in compared for name in claim["arithmetics"]}))
        said.append(f"{len(compared)} were judged in another arithmetic too ({escape(names)}): "
                    f"{len(fragile) or 'none'} of them came out otherwise, and {'is' if len(fragile) == 1 else 'are'} "
                    "marked fragile.")
    return " ".join(said)


def table(chapter: str, claims: list[dict]) -> str:
    """The claims of one chapter."""
    rows = [[f'{escape(claim["sentence"])}<small>{escape(remark(claim))}</small>', state(claim), *numbers(claim)]
            for claim in claims]
    head = ["Claim", "Status", "Difference or value", "95 % interval", "Seeds, or tables", "p (Holm)"]
    return (f"{recorded.link(chapter, 'To the chapter')}\n\n"
            + recorded.wide(f"Claims of {recorded.short(chapter)}", head, rows, kind="claims"))


def remark(claim: dict) -> str:
    return claim.get("acknowledged") or claim["detail"]


def state(claim: dict) -> str:
    """The status in its colour, and a word where another arithmetic judges otherwise."""
    kind = claim["status"].replace(" ", "")
    fragile = ' <span class="status status-fragile">fragile</span>' if claim["fragile"] else ""
    return f'<span class="status status-{kind}">{escape(claim["status"])}</span>{fragile}'


def numbers(claim: dict) -> list[str]:
    """Difference with its sign, or a value that is none; interval, seeds and p; a dash for each that is not there."""
    gap, n, p = claim.get("difference"), claim.get("n"), claim.get("p_holm")
    sign = "z" if claim.get("kind") == "value" else "+z"
    mean, low, high = (f"{100 * value:{sign}.1f}".replace("-", "−") for value in gap or [0, 0, 0])
    return [mean if gap else "–", f"{low} to {high}" if gap else "–", str(n or "–"),
            "–" if p is None else "&lt; .001" if p < 0.001 else f"{p:.3f}".lstrip("0")]


# ---------------------------------------------------------------- the first judgement

def first_judgement() -> str:
    """All claims as they stood before they were judged on seeds that nobody had seen: how many survived, and which.

    Nothing while ``book/first_judgement.csv`` (columns chapter, sentence, status, detail) is not there.
    """
    path = catalogue.ROOT / "book" / "first_judgement.csv"
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", newline="") as file:
        claims = list(csv.DictReader(file))
    if not claims or not {"chapter", "sentence", "status", "detail"} <= set(claims[0]):
        raise catalogue.Trouble("book/first_judgement.csv needs the columns chapter, sentence, status, detail")
    held, refuted = having(claims, "held"), having(claims, "refuted")
    chapters = len({claim["chapter"] for claim in claims})
    rows = [[f'{escape(claim["sentence"])}<small>{escape(claim["detail"])}</small>',
             recorded.link(claim["chapter"], recorded.short(claim["chapter"]))] for claim in refuted]
    fell = recorded.wide("Claims that the new seeds refuted", ["Claim", "Chapter"], rows, kind="claims")
    return ("## The first judgement\n\nEvery claim of the first edition was written, and checked, on the same seeds. "
            f"Before anything else changed, {len(claims)} claims, those of {chapters} of its nine chapters, were "
            "judged once on seeds that nobody had looked at, none of them reworded: "
            f"**{len(held)} held, {len(refuted)} "
            f"{'was' if len(refuted) == 1 else 'were'} refuted**."
            + (f"\n\n<details><summary>Those that fell</summary>\n{fell}</details>" if refuted else ""))
