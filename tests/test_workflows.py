"""The chain from a change to the published page: pinned actions, and no more rights than a job needs."""

import re
from pathlib import Path

import catalogue
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[1] / ".github/workflows"
FLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.yml")}
JOBS = [(flow, name, job) for flow, found in FLOWS.items() for name, job in found["jobs"].items()]


@pytest.mark.parametrize(("flow", "name", "job"), JOBS, ids=[f"{flow}/{name}" for flow, name, _ in JOBS])
class TestJobs:
    def test_actions_are_pinned_by_commit(self, flow, name, job):
        for step in job["steps"]:
            assert "uses" not in step or re.search(r"@[0-9a-f]{40}$", step["uses"]), step["uses"]

    def test_a_job_that_runs_our_code_may_only_read(self, flow, name, job):
        rights = {**FLOWS[flow]["permissions"], **job.get("permissions", {})}
        if any(step.get("run", "").startswith(("make", ".ci", "python", "pip")) for step in job["steps"]):
            assert set(rights.values()) == {"read"}

    def test_a_checkout_keeps_no_credentials(self, flow, name, job):
        for step in job["steps"]:
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False

    def test_a_job_ends_by_itself_on_a_named_machine(self, flow, name, job):
        assert job["timeout-minutes"] <= 350 and "latest" not in job["runs-on"]


def test_what_is_published_has_passed_and_was_judged():
    flow = FLOWS["publish"]
    assert flow[True]["workflow_run"]["workflows"] == ["ci"]  # YAML 1.1 reads the key `on` as true
    assert "success" in flow["jobs"]["build"]["if"] and flow["jobs"]["deploy"]["needs"] == "build"
    assert "make judge" in [step.get("run") for step in flow["jobs"]["build"]["steps"]]


def test_the_book_in_one_file_is_attached_and_links_are_asked_for_weekly():
    steps = FLOWS["publish"]["jobs"]["build"]["steps"]
    places = [any(line in step.get("run", "") for line in ("make judge", "make epub pdf")) for step in steps]
    assert sum(places) == 2
    assert [step["with"]["path"] for step in steps if "upload-artifact" in step.get("uses", "")] == ["build/editions"]
    assert "make links" in [step.get("run") for step in FLOWS["weekly"]["jobs"]["cold"]["steps"]]


def test_what_was_trained_is_trained_once_more_and_compared():
    """The chapters in which other libraries draw, and one whose baselines come out of the store in a whole build."""
    steps = FLOWS["weekly"]["jobs"]["cold"]["steps"]
    (step,) = [step for step in steps if "bookmaker.py compare" in step.get("run", "")]
    parts = {chapter for chapter in catalogue.in_order() if chapter.split("/")[0] in ("text", "graphs", "tables")}
    assert parts < {*catalogue.chosen(step["env"]["CHAPTERS"])}
    assert "BOOK_RUNS=off make book" in step["run"]
    assert "make links" in [other.get("run") for other in steps[:steps.index(step)]], "afterwards there are fewer pages"


def test_the_audit_is_strict_and_a_failure_is_told():
    weekly = FLOWS["weekly"]["jobs"]
    assert any("pip-audit --strict" in step.get("run", "") for step in weekly["audit"]["steps"])
    assert any(re.search(r"pip-audit==\d", step.get("run", "")) for step in weekly["audit"]["steps"])
    assert set(weekly["report"]["needs"]) == set(weekly) - {"report"}
