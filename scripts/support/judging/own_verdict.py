"""How a guest with a user's own driver and script did, from what its console says."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

from ..running.console import MARK, Transcript
from ..running.session import Outcome
from . import fail_on, guest_log
from .checks import check

DIED_WITH_SIGNAL = 128
BOOT = re.compile(rf'{MARK}1 {{"boot"')
REASONS = 3
"""Most kernel lines that tell why a module does not load."""


def judge(
    outcome: Outcome, script: Path | None, emulated: bool = False, unwanted: Sequence[str] = ()
) -> None:
    """Add the checks of modules, script and kernel log to those that every run has.

    `unwanted` is what else is to fail the run (see fail_on.KINDS).
    """
    boots = rounds(outcome.transcript)
    each = [judge_boot(boot, script, emulated) for boot in boots]
    outcome.findings = [finding for verdict in each for finding in verdict.findings]
    outcome.drm_errors = [line for verdict in each for line in verdict.drm_errors]
    # The one that is told: the first that failed, else the last.
    ran = [verdict.script for verdict in each if verdict.script]
    outcome.script = next((one for one in ran if one["status"] != 0), ran[-1] if ran else None)
    left_running(outcome)
    checks = [
        {**one, "name": f"boot {n}: {one['name']}"} if len(boots) > 1 else one
        for n, verdict in enumerate(each, 1) for one in verdict.checks
    ]
    outcome.checks[:0] = [*checks, *fail_on.checks(outcome, unwanted)]


@dataclass
class Verdict:
    """How one boot of a guest went."""

    checks: list[dict[str, Any]]
    findings: list[guest_log.Finding]
    drm_errors: list[str]
    script: dict[str, Any] | None


def rounds(transcript: Transcript) -> list[Transcript]:
    """What was said in each boot of a guest that reboots; without any reboot, everything."""
    starts = [n for n, line in enumerate(transcript.lines) if BOOT.search(line)]
    # What firmware says before the first word belongs to the first boot.
    bounds = [0, *starts[1:], len(transcript.lines)]
    out = []
    for start, end in pairwise(bounds):
        boot = Transcript()
        for line in transcript.lines[start:end]:
            boot.add(line)
        out.append(boot)
    return out


def judge_boot(transcript: Transcript, script: Path | None, emulated: bool) -> Verdict:
    """One boot: its modules, script and kernel log."""
    # What the kernel said while it booted is not the driver's.
    lines = section(transcript.lines, "loading", "done")
    findings = guest_log.findings(lines, emulated)
    checks = module_checks(transcript)
    ran = script_result(transcript, script) if script else None
    if ran:
        checks.append(check(f"script {ran['name']}", ran["status"] == 0, script_detail(ran)))
    found = [f"{finding.kind}: {finding.line}" for finding in findings]
    slow = [said for said in guest_log.kernel_words(lines) if guest_log.is_slow_host(said, emulated)]
    detail = (found or ["no oops, WARNING or hang"])[0] + guest_log.slow_note(slow)
    checks.append(check("kernel log", not found, detail))
    return Verdict(checks, findings, guest_log.drm_errors(lines), ran)


def left_running(outcome: Outcome) -> None:
    """Leave in the model's answers what runs of GPUs that no driver has (any more)."""
    done = outcome.transcript.all("done")
    bound = done[-1].get("bound", []) if done else []
    # A virtio device is reset when its driver leaves it, and says nothing of bus mastering.
    functions = [
        state for state in outcome.model.get("running", []) if state["bus_master"] is not None
    ]
    # A function that was removed is not in the guest's list.
    outcome.model["left_running"] = [
        state for state, is_bound in zip_longest(functions, bound[:len(functions)], fillvalue=False)
        if done and not is_bound
        and (state["rings"] or state["l1_valid"] or state["bus_master"])
    ]


def module_checks(transcript: Transcript) -> list[dict[str, Any]]:
    """One check for each module that the guest began to load."""
    ended = {body["module"]: body for body in transcript.all("inserted")}
    checks = []
    for name in transcript.all("inserting"):
        detail, body = "loaded", ended.get(name)
        ok = body is not None and body["status"] == 0
        if not ok:
            part = section(transcript.lines, f'inserting":"{name}', f'inserted":{{"module":"{name}')
            detail = "; ".join([*(ending_words(body)), *reasons(part)])
        checks.append(check(f"module {name} loads", ok, detail))
    return checks


def ending_words(body: dict[str, Any] | None) -> list[str]:
    """How insmod ended, in words."""
    if body is None:
        return ["insmod did not come back"]
    if body["status"] > DIED_WITH_SIGNAL:
        return [f"insmod was killed by signal {body['status'] - DIED_WITH_SIGNAL}"]
    return [body["said"].strip() or f"insmod's exit status is {body['status']}"]


def reasons(console: list[str]) -> list[str]:
    """What the kernel said about a module that does not load: its last lines, or its report."""
    found = guest_log.findings(console)
    if found:
        return [found[0].line]
    words = guest_log.kernel_words(console)
    # insmod asks the kernel in two ways, so most is said twice.
    said = dict.fromkeys(word for word in words if word and not guest_log.is_of_any_module(word))
    return list(said)[-REASONS:]


def script_result(transcript: Transcript, script: Path) -> dict[str, Any]:
    """The script's name, exit status and output."""
    ended = transcript.all("script_ended")
    started = bool(transcript.all("script"))
    printed = section(transcript.lines, "script", "script_ended") if started else []
    before = transcript.lines[: span(transcript.lines, "script", "script_ended")[0]]
    return {
        "name": script.name,
        "started": started,
        "status": ended[0]["status"] if ended else None,
        "output": guest_log.program_words(
            (line for line in printed if MARK not in line), before
        ),
    }


def script_detail(ran: dict[str, Any]) -> str:
    """How the script ended, in words."""
    if not ran["started"]:
        return "it was not started"
    return "it did not end" if ran["status"] is None else f"exit status {ran['status']}"


def section(lines: list[str], start: str, end: str) -> list[str]:
    """The console from the message that begins `start` to the one that begins `end`.

    Without the first message nothing is cut off before, without the last nothing after.
    What stands before the last message on its line belongs to it: a program need not end its
    last line.
    """
    first, last = span(lines, start, end)
    rest = lines[last].partition(MARK)[0] if last < len(lines) else ""
    return [*lines[first:last], *([rest] if rest.strip() else [])]


def span(lines: list[str], start: str, end: str) -> tuple[int, int]:
    """The first line after the message `start`, and that of the message `end`."""
    marks = [re.compile(rf'{MARK}(?:\d+ )?{{"{kind}"') for kind in (start, end)]
    found = [next((n for n, line in enumerate(lines) if mark.search(line)), None) for mark in marks]
    first = 0 if found[0] is None else found[0] + 1
    return first, len(lines) if found[1] is None else found[1]
