"""What the driver checker has to say of tests/pci-module/e3k_caches.c, and of our own driver."""

import re
from typing import Any

from . import driver_checker

READ, OLD, OVERWRITTEN, MIXED = 30020, 30021, 30022, 30023
CASE_BYTES = 0x10000
EXPECTED: dict[str, set[int]] = {
    "not-flushed": {READ},
    "flushed": set(),
    "made-combined": set(),
    "one-line-left": {READ},
    "alias-not-flushed": {READ, MIXED},
    "alias-flushed-late": {MIXED},
    "non-temporal": set(),
    "eight-bytes-more": {READ},
    "written-under-dirty": {OVERWRITTEN, OLD},
    "dirty-flushed-over": {OVERWRITTEN},
    "flushed-before-write": set(),
    "held-clean": {OLD},
    "all-written-back": set(),
}
"""By case, the rules that have to report it."""
EXACT = {
    "not-flushed": "; dirty lines in all: 960",
    "one-line-left": "the line at bus:{at:#012x}, and not flushed it",
    "eight-bytes-more": "bytes 48 to 55 of the line at bus:{at:#012x}, and not flushed it",
}
"""Words of a report of a case."""
PLACES = {"one-line-left": 0x140, "eight-bytes-more": 0xffc0}
"""Where the line is that they speak of."""


def judge(report: dict[str, Any]) -> str:
    """What is wrong with the reports of a run of all cases."""
    printed = "\n".join(report["script"]["output"])
    cases = {name: int(at, 16) for name, at in re.findall(r"([a-z-]+) at (0x[0-9a-f]+)", printed)}
    if cases.keys() != EXPECTED.keys():
        return f"the cases were {', '.join(cases)}"
    reports = driver_checker.reports(report["driver_checker"])
    left = list(reports)
    for name, at in cases.items():
        here = [one for one in reports if at <= int(one["place"].get("bus", "0"), 16) < at + CASE_BYTES]
        rules = {one["rule"] for one in here}
        if rules != EXPECTED[name]:
            return f"{name}: reported by {sorted(rules)}, expected {sorted(EXPECTED[name])}"
        words = EXACT.get(name, "").format(at=at + PLACES.get(name, 0))
        if not any(words in one["text"] for one in here or [{"text": ""}]):
            return f"{name}: no report says {words!r}"
        left = [one for one in left if one not in here]
    return f"of no case: {left[0]['text']}" if left else ""


def is_clean(report: dict[str, Any]) -> str:
    """What is wrong with a run of a driver that makes no mistake, which the rules had to judge."""
    idle = {READ, OLD, OVERWRITTEN, MIXED} - driver_checker.with_input(report["driver_checker"])
    return f"nothing to judge for {sorted(idle)}" if idle else ""
