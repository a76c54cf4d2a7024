"""The result of a run: text for a person, report.json for a program."""

import json
from pathlib import Path
from typing import Any

from ..building.setup import Prepared
from ..cache import write_atomically
from ..judging import driver_checker, guest_log
from ..running import defects, session
from ..running.session import Guest, Outcome
from . import render, trouble
from .render import heading

FIRST_EVENT = "flags"
EVENT_WIDTH = len("before the first touch")
OF_ONE_PROCESS = {"process_id", "register_addr"}


def as_json(
    prepared: Prepared, guest: Guest, outcome: Outcome, seconds: dict[str, float]
) -> dict[str, Any]:
    """The content of report.json."""
    return {
        "ok": outcome.ok,
        "exit_status": outcome.exit_status,
        "versions": prepared.versions,
        "door": guest.door,
        "accel": prepared.accel,
        "defects": defects.asked(guest.server_options),
        "seconds": {**seconds, **outcome.seconds},
        "vidmm_init": outcome.transcript.all("step"),
        "story": outcome.transcript.all("story"),
        "script": outcome.script,
        "checks": outcome.checks,
        "kernel_log": guest_log.as_json(outcome.findings),
        "last_lines": outcome.last_lines,
        "drm_errors": outcome.drm_errors,
        "device": {},
        **{of_registers: [] for of_registers in trouble.OF_REGISTERS},
        "left_running": [],
        "driver_checker": outcome.driver_checker,
        **{history: [] for history in trouble.HISTORIES},
        **outcome.model,
    }


def write(path: Path, report: dict[str, Any]) -> None:
    """Write report.json, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(report, indent=2) + "\n")


def as_text(report: dict[str, Any]) -> str:
    """The report for a person."""
    out = heading("vidmm_init") if report["vidmm_init"] else []
    for step in report["vidmm_init"]:
        out += step_lines(step)
    if report["story"]:
        out += heading("allocation: flags, place, bus, manager, resource, buffer object, fault, bind")
        out += [line for event in report["story"] for line in event_lines(event)]
    out += trouble.script(report["script"])
    out += heading("checks")
    out += [check_line(check) for check in report["checks"]]
    out += trouble.lines(report)
    if report["driver_checker"]:
        out += heading("the driver checker")
        out += driver_checker.lines(report["driver_checker"])
    out += heading("the model counted")
    out += render.lines(report["device"], 2)
    if report["undeclared"]:
        out += heading("registers that the model does not have: they store, nothing more")
        out += render.lines(report["undeclared"], 2)
        out += trouble.words(report)
    out += heading("run")
    out += render.lines({**report["versions"], "door": report["door"], "accel": report["accel"]}, 2)
    out += ["  " + ", ".join(f"{name} {took:.1f} s" for name, took in report["seconds"].items())]
    out += [""]
    if report["defects"]:
        out += [f"The GPU was broken on purpose: {', '.join(report['defects'])}."]
    return "\n".join([*out, verdict_line(report["checks"])])


def step_lines(step: dict[str, Any]) -> list[str]:
    """One step of vidmm_init: its title and its figures."""
    figures = {
        name: by_process(value) if isinstance(value, list) else value
        for name, value in step.items()
        if name not in {"step", "title"}
    }
    return [f"  {step.get('step', '-')}. {step.get('title', '')}", *render.lines(figures, 5)]


def event_lines(event: dict[str, Any]) -> list[str]:
    """One event of an allocation's story on one line; its first event stands apart."""
    title = event.get("event")
    words = [
        render.scalar(name, value) if name == title
        else f"{render.label(name)} {render.scalar(name, value)}"
        for name, value in sorted(event.items(), key=lambda field: field[0] != title)
        if name != "event"
    ]
    line = f"  {title or '':<{EVENT_WIDTH}}  {', '.join(words)}"
    return ["", line] if title == FIRST_EVENT else [line]


def by_process(rows: list[Any]) -> list[Any]:
    """Rows of a bank with one row for all process ids that hold the same.

    The 16 banks of L1 registers are alike where all processes share a zone;
    report.json has every register.
    """
    if not all(isinstance(row, dict) and "process_id" in row for row in rows):
        return rows
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        key = tuple(value for name, value in row.items() if name not in OF_ONE_PROCESS)
        alike.setdefault(key, []).append(row)
    return [{**same[0], "process_id": id_range(same)} for same in alike.values()]


def id_range(rows: list[dict[str, Any]]) -> str:
    """The process ids of rows: `0-15`, or a list where they are not consecutive."""
    ids = sorted(row["process_id"] for row in rows)
    if len(ids) > 1 and ids == list(range(ids[0], ids[-1] + 1)):
        return f"{ids[0]}-{ids[-1]}"
    return ",".join(map(str, ids))


def check_line(check: dict[str, Any]) -> str:
    """One check on one line."""
    return f"  {session.mark(check):4}  {check.get('name')}: {check.get('detail', '')}"


def verdict_line(checks: list[dict[str, Any]]) -> str:
    """How many checks ended how; what did not happen is said only where it is not nothing."""
    marks = [session.mark(check) for check in checks]
    counts = {"ok": "passed", "FAIL": "failed", "----": "not run", "skip": "skipped"}
    words = [
        f"{marks.count(mark)} {word}" for mark, word in counts.items()
        if mark in {"ok", "FAIL"} or mark in marks
    ]
    unannounced = [c for c in checks if session.mark(c) == "skip" and session.is_bad(c)]
    more = "; skipped for no known reason, which fails the run" if unannounced else ""
    return ", ".join([words[0].replace(" ", " checks ", 1), *words[1:]]) + more
