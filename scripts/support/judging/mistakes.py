"""A driver in a guest makes one mistake after another: the checker finds each by its rule alone."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from ..building.setup import Prepared
from . import bring_up, driver_checker
from .bring_up import PREFIX, SOURCES, Trial
from .jobs import Job
from .results import Result

NAME = f"{PREFIX}every mistake is found by its rule, and nothing in what is right"
LEAST = 40
"""Rules that are shown to find something in a guest, at least."""
MADE = re.compile(r"mistake (\d{5}) (\d+) (.+)")
"""What the script says of a mistake that was made: rule, how often it finds it, name."""


def trial(junit: Path) -> Trial:
    """The call of scripts/run: nothing is wrong in it but what the checker finds."""
    arguments = ["--module", "{mistakes}", "--guest-exec", str(SOURCES / "mistakes.sh"),
                 "--check", driver_checker.DEFAULT, "--junit", str(junit)]
    return Trial(NAME, arguments, driver_checker.STATUS, r"FAIL +driver checker: 10001: ")


def jobs() -> list[Job]:
    """The one guest, as a job."""
    return [Job(NAME, job, once=True, setup=bring_up.build)]


def job(prepared: Prepared, directory: Path) -> list[Result]:
    """What came of it."""
    junit = directory / "junit.xml"
    problem = bring_up.tried(trial(junit), prepared, directory)
    if not problem:
        told = json.loads((directory / "report.json").read_text("utf-8"))
        problem = judge(told["script"]["output"], told["driver_checker"])
    if not problem and failed(junit.read_text("utf-8")) != [driver_checker.NAME]:
        problem = f"JUnit has other failures than the one of `{driver_checker.NAME}`"
    return [Result(bring_up.suite(prepared), NAME, problem)]


def failed(junit: str) -> list[str]:
    """The names of the tests that failed, by JUnit's XML."""
    cases = ElementTree.fromstring(junit).iter("testcase")
    return [case.get("name", "") for case in cases if case.find("failure") is not None]


def judge(said: list[str], told: list[dict[str, Any]]) -> str:
    """Whether each mistake, in the order in which they were made, was found by its rule alone."""
    made = [found for line in said if (found := MADE.fullmatch(line))]
    rules = [int(one[1]) for one in made]
    if len(set(rules)) < LEAST or len(set(rules)) != len(rules):
        return f"{len(rules)} mistakes of {len(set(rules))} rules were made, expected {LEAST} or more"
    counts = {
        rule["rule"]: rule["found"]
        for one in told for rule in one["summary"]["rules"] if rule["found"]
    }
    for rule, count, name in ((int(one[1]), int(one[2]), one[3]) for one in made):
        if counts.pop(rule, 0) != count:
            return f"{name}: rule {rule} did not find it {count} times, or found something else, too"
    if counts:
        return f"found what nobody did: {counts}"
    order = list(dict.fromkeys(report["rule"] for report in driver_checker.reports(told)))
    return "" if order == rules else f"found in another order than made: {order}"
