"""What the guest's kernel reported about itself, found in the console's text.

Only lines with the kernel's own timestamp count: a program may print what it
likes. Where something else was printed in between, the kernel's part of a line
begins at its timestamp.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

STAMPED = re.compile(r"\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ?(.*)")
"""A line of the kernel, with the caller where the kernel was built to name it."""
KINDS = [
    ("panic", r"Kernel panic - not syncing"),
    ("lockup", r"watchdog: .*(?:LOCKUP|lockup)|rcu: INFO: .*(?:detected|starved)"),
    ("hung task", r"INFO: task \S+ blocked for more than"),
    ("lost interrupt", r"irq \d+: nobody cared"),
    ("failed probe", r"\S+ \S+: probe with driver \S+ failed with error"
                     r"|\S+: probe of \S+ failed with error"),
    ("warning", r"WARNING: "),
    ("sanitizer", r"UBSAN: |BUG: K[A-Z]*SAN: "),
    ("oops", r"BUG: |kernel BUG at |Oops: |general protection fault|Unable to handle kernel"
             r"|invalid opcode: |divide error: |stack segment: |double fault: "),
]
HEADS = [(kind, re.compile(pattern)) for kind, pattern in KINDS]
ENDS = ("---[ end ", "</TASK>", "Disabling IRQ", "Rebooting in ")
CUT_HERE = "[ cut here ]"
MOST_ABOVE = 6
LONGEST = 80
"""Lines kept of one report: a register dump with its call trace has about 50."""


@dataclass
class Finding:
    """One report of the kernel: an oops, a WARNING, a hung task and the like."""

    kind: str
    line: str
    """Its first line, without the timestamp."""
    lines: list[str] = field(default_factory=list)
    """The whole report, as printed."""


def findings(console: Sequence[str]) -> list[Finding]:
    """All reports, in their order."""
    found = []
    position = 0
    while position < len(console):
        kind, text = judged(console[position])
        if kind:
            start, end = bounds(kind, console, position)
            found.append(Finding(kind, text, list(console[start:end])))
            position = end
        else:
            position += 1
    return found


def judged(line: str) -> tuple[str | None, str]:
    """What a line begins a report of, if it does, and the kernel's words in it."""
    stamped = STAMPED.search(line)
    text = stamped[1] if stamped else ""
    return next((kind for kind, head in HEADS if head.match(text)), None), text


def bounds(kind: str, console: Sequence[str], head: int) -> tuple[int, int]:
    """Where the report with this head line begins, and where it ends."""
    if kind == "failed probe":
        return start_of_device(console, head), head + 1
    return start_of_report(console, head), end_of_report(console, head)


def start_of_report(console: Sequence[str], head: int) -> int:
    """Where a report of the kernel starts: what WARN() was given stands above its head line."""
    above = range(head, max(head - MOST_ABOVE, 0), -1)
    return next((position - 1 for position in above if CUT_HERE in console[position - 1]), head)


def start_of_device(console: Sequence[str], head: int) -> int:
    """Where the last words of a device's driver start, which say why its probe failed."""
    device = kernel_words(console[head : head + 1])[0].partition(" probe ")[0]
    start = head
    while start > max(head - MOST_ABOVE, 0) and f"] {device} " in console[start - 1]:
        start -= 1
    return start


def end_of_report(console: Sequence[str], start: int) -> int:
    """Where the report that begins at `start` ends; an oops has several first lines."""
    for position in range(start + 1, min(start + LONGEST, len(console))):
        if any(end in console[position] for end in ENDS):
            return position + 1
        if judged(console[position])[0] not in {None, "oops"}:
            return position
    return min(start + LONGEST, len(console))


def as_json(found: list[Finding]) -> list[dict[str, Any]]:
    """Reports for report.json."""
    return [asdict(finding) for finding in found]


def kernel_words(console: Iterable[str]) -> list[str]:
    """What the kernel said, without timestamps."""
    return [stamped[1] for line in console if (stamped := STAMPED.search(line))]


def program_words(console: Iterable[str]) -> list[str]:
    """What programs printed: the console without the kernel's lines."""
    lines = (STAMPED.sub("", line) for line in console)
    return [line.rstrip() for line in lines if line.strip()]
