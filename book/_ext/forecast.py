"""How long a build would take on so many cores: the measured times of its runs, laid out anew.

A chapter is some work of its own, and queues of runs that its cores share, the longest first. On one machine as many
chapters run at once as `catalogue.side_by_side` allows, in the order of `catalogue.turn`; on a cluster all of them, and
all of their seeds, go side by side.
"""

import heapq
import json

import catalogue
import pairs


def measured(chapter: str, profile: str) -> tuple[list[list[float]], float, int] | None:
    """The seconds of each run, by queue, those of all the rest, and how many runs the store had; None if it had all.

    A book from nothing takes runs from the store too: what an earlier chapter has trained, a later one does not.
    """
    path = catalogue.run_folder(chapter, profile) / "runs.jsonl"
    if not path.is_file():
        return None
    queues, whole, stored = [], {"workers": 1, "took": 0.0}, 0
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        if "runs" in line:
            stored += line["stored"]
            queues.append([])
        elif "took" in line:
            whole = line
        else:
            queues[-1].append(line["seconds"])
    if stored and not any(queues):
        return None
    return queues, max(whole["took"] - sum(makespan(queue, whole["workers"]) for queue in queues), 0.0), stored


def makespan(seconds: list[float], cores: int) -> float:
    """When the last of these runs ends, if each free core takes the longest that waits.

    >>> makespan([3, 2, 2, 1], 2)
    4
    """
    return in_turn(sorted(seconds, reverse=True), cores)


def in_turn(seconds: list[float], lanes: int) -> float:
    """When the last of these ends, if each free lane takes the next."""
    ends = [0] * min(lanes, len(seconds))
    for one in seconds:
        heapq.heapreplace(ends, ends[0] + one)
    return max(ends, default=0)


def on_one_machine(known: dict[str, tuple[list[list[float]], float]], profile: str, cores: int) -> float:
    """Seconds for these chapters, each its queues and the seconds of its own work."""
    lanes = catalogue.side_by_side(cores, profile, len(known))
    took = {chapter: own + sum(makespan(queue, cores // lanes) for queue in queues)
            for chapter, (queues, own) in known.items()}
    order = sorted(known, key=lambda chapter: -catalogue.turn(chapter, lanes))
    return in_turn([took[chapter] for chapter in order], lanes)


def grown(chapter: str, queues: list[list[float]], profile: str, other: str) -> list[list[float]]:
    """The queues as another profile would make them: more seeds are more runs, more steps are longer ones."""
    seeds = [len(catalogue.parameters(name, chapter)["SEEDS"]) for name in (profile, other)]
    steps = [pairs.parameter(chapter, name, "STEPS") for name in (profile, other)]
    longer = steps[1] / steps[0] if steps[0] else 1  # a chapter without a network has no steps
    return [[run * longer for run in queue] * round(seeds[1] / seeds[0]) for queue in queues]


def forecast(profile: str, other: str, cores: list[int]) -> list[str]:
    """For each number of cores: minutes on one machine, how busy its cores are, minutes on a cluster."""
    found = {chapter: measured(chapter, profile) for chapter in catalogue.in_order()}
    without = [chapter for chapter, known in found.items() if known is None]
    if len(without) == len(found):
        raise catalogue.Trouble(f"the last build of the profile {profile} trained nothing, so there are no times "
                                "to lay out; build without stored runs: BOOK_RUNS=off make …, with "
                                "CHAPTERS=… for some of them")
    said = [f"measured in the profile {profile}, laid out for {other}; without {', '.join(without) or 'nothing'}",
            f"{'cores':>6} {'one machine':>14} {'busy':>6} {'cluster':>10}"]
    stored = sum(known[2] for known in found.values() if known)
    if stored:
        said.insert(1, f"{stored} runs came from the store and cost nothing here: right for a build from nothing alone")
    known = {chapter: (grown(chapter, known[0], profile, other), known[1]) for chapter, known in found.items() if known}
    work = sum(run for queues, _ in known.values() for queue in queues for run in queue)
    rest = sum(own for _, own in known.values())
    for count in cores:
        wall = on_one_machine(known, other, count)
        jobs = []
        for chapter, (queues, own) in known.items():  # a seed is a job; each does the chapter's own work again
            seeds = len(catalogue.parameters(other, chapter)["SEEDS"])
            jobs += [own + sum(map(sum, queues)) / seeds] * seeds
        last = max((own for _, own in known.values()), default=0)
        busy = (work + rest) / (wall * count) if wall else 0
        said.append(f"{count:6} {wall / 60:10.0f} min {busy:6.0%} {(makespan(jobs, count) + last) / 60:6.0f} min")
    return said
