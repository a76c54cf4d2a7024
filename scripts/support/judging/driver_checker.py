"""What the model's driver checker says of a run: `scripts/run --check`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checks import check

NAME = "driver checker"
"""Its check's name."""
STATUS = 3
"""Exit status of a run, and of the server, in which nothing but the checker complains."""
DEFAULT = "warn"
OFF = "off"


@dataclass(frozen=True)
class Request:
    """What the checker is to do."""

    levels: str = DEFAULT
    """As `presil serve --check` takes them."""
    suppressions: Path | None = None
    asked: bool = False
    """Whether somebody asked for it, so that a run that shows it nothing fails."""

    def options(self, path: Path) -> list[str]:
        """The server's options."""
        known = ["--check-suppressions", str(self.suppressions)] if self.suppressions else []
        return ["--check", self.levels, "--check-report", str(path), *known]


def read(path: Path) -> list[dict[str, Any]]:
    """What the server has written of each GPU, in the order in which its QEMU left it."""
    try:
        lines = path.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def reports(told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All reports, of whatever GPU."""
    return [report for one in told for report in one["reports"]]


def with_input(told: list[dict[str, Any]]) -> set[int]:
    """The rules that had something to judge, of whatever GPU."""
    rules = [rule for one in told for rule in one["summary"]["rules"]]
    return {rule["rule"] for rule in rules if rule["checked"]}


def judge(request: Request, told: list[dict[str, Any]], gpus: int) -> dict[str, Any]:
    """The checker's own check of a run."""
    if len(told) != gpus:
        return check(NAME, False, "unknown: the server ended before it had written its reports")
    if any(one["lost"] for one in told):
        return check(NAME, False, "unknown: the model failed, and judged nothing from then on")
    if found := reports(told):
        first = found[0]
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        return check(NAME, False, f"{first['rule']}: {first['title']}{more}")
    idle_gpus = [one["gpu"] for one in told if not one["summary"]["packets"]]
    if request.asked and idle_gpus:
        return check(NAME, False, f"no work was seen: GPU {idle_gpus[0]} was given no packet")
    if len(idle_gpus) == len(told):
        return {"name": NAME, "not_run": "no work was seen", "announced": True}
    rules = told[0]["summary"]["rules"]
    idle = sum(1 for rule in rules if not rule["checked"])
    events = sum(one["summary"]["events"] for one in told)
    return check(
        NAME, True, f"no report of {len(rules)} rules, {idle} of them without input; {events} events"
    )


def lines(told: list[dict[str, Any]]) -> list[str]:
    """All it says, for a person."""
    out = []
    for one in told:
        texts = [*(report["text"] for report in one["reports"]), one["summary"]["text"]]
        gpu = [f"GPU {one['gpu']}:"] if len(told) > 1 else []
        for text in [*gpu, *texts]:
            out += ["", *(f"  {line}" for line in text.splitlines())]
    return out[1:]
