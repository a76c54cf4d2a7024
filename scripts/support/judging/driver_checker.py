"""What the model's driver checker says of a run: `scripts/run --check`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

    def options(self, reports: Path) -> list[str]:
        """The server's options."""
        known = ["--check-suppressions", str(self.suppressions)] if self.suppressions else []
        return ["--check", self.levels, "--check-report", str(reports), *known]


def read(reports: Path) -> list[dict[str, Any]]:
    """What the server has written of each GPU, in the order in which its QEMU left it."""
    try:
        lines = reports.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (FileNotFoundError, json.JSONDecodeError):
        return []


def judge(request: Request, told: list[dict[str, Any]], gpus: int) -> dict[str, Any]:
    """The checker's own check of a run."""
    if len(told) != gpus:
        return verdict(False, "unknown: the server ended before it had written its reports")
    if any(one["lost"] for one in told):
        return verdict(False, "unknown: the model failed, and judged nothing from then on")
    reports = [report for one in told for report in one["reports"]]
    if reports:
        first = reports[0]
        more = f", and {len(reports) - 1} more" if len(reports) > 1 else ""
        return verdict(False, f"{first['rule']}: {first['title']}{more}")
    idle_gpus = [one["gpu"] for one in told if not one["summary"]["packets"]]
    if request.asked and idle_gpus:
        return verdict(False, f"no work was seen: GPU {idle_gpus[0]} was given no packet")
    if len(idle_gpus) == len(told):
        return {"name": NAME, "not_run": "no work was seen", "announced": True}
    rules = told[0]["summary"]["rules"]
    idle = sum(1 for rule in rules if not rule["checked"])
    events = sum(one["summary"]["events"] for one in told)
    return verdict(
        True, f"no report of {len(rules)} rules, {idle} of them without input; {events} events"
    )


def verdict(ok: bool, detail: str) -> dict[str, Any]:
    """A check in the form that the guest's have."""
    return {"name": NAME, "ok": ok, "detail": detail}


def lines(told: list[dict[str, Any]]) -> list[str]:
    """All it says, for a person."""
    out = []
    for one in told:
        texts = [*(report["text"] for report in one["reports"]), one["summary"]["text"]]
        gpu = [f"GPU {one['gpu']}:"] if len(told) > 1 else []
        for text in [*gpu, *texts]:
            out += ["", *(f"  {line}" for line in text.splitlines())]
    return out[1:]
