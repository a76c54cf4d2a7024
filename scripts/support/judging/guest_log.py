"""What the guest's kernel reported about itself, found in the console's text.

Only lines with the kernel's own timestamp count: a program may print what it
likes. Where something else was printed in between, the kernel's part of a line
begins at its timestamp.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

LEVELLED = re.compile(r"<(\d+)>(?=\[)")
"""What `dmesg -r` puts before the timestamp: facility and level."""
WARNING_LEVEL = 4
PROVOKED = re.compile(r'presilctl: provokes "([^"]+)"')
"""What a check says before it causes what the driver rightly complains of."""
BOOT_ENDS = "presil: the boot ends here"
DRM_ERROR = "*ERROR*"
TAINTS = ("loading out-of-tree module taints kernel", "module verification failed")
"""What any module built outside the kernel's tree causes."""
SLOW = re.compile(
    r"hrtimer: interrupt took \d+ ns"
    r"|perf: interrupt took too long"
    r"|(?:INFO: )?NMI handler .* took too long"
    r"|workqueue: .* hogged CPU"
    r"|clocksource: (?!\S+: mask|Switched to)|timekeeping watchdog"
    r"|tsc: Marking TSC unstable|TSC found unstable|sched_clock: Marking unstable"
)
"""What says only that time ran: the host was busy. A driver cannot cause it in a guest."""
CLOCKS = re.compile(
    r"tsc: Refined TSC clocksource calibration|clocksource: (?:\S+: mask|Switched to)"
)
"""What any kernel says of its clocks, a second after its beginning: perhaps while a module loads."""
STUCK = re.compile(r"watchdog: BUG: soft lockup - CPU#\d+ stuck for (\d+)s")
STUCK_SECONDS_UNDER_TCG = 60
"""A shorter soft lockup of an emulated processor is the host's. One that lasts is told again
and again, with more seconds each time."""
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


def is_slow_host(words: str, emulated: bool) -> bool:
    """Whether the kernel's words say only that the host was slow."""
    stuck = STUCK.match(words)
    if stuck:
        return emulated and int(stuck[1]) < STUCK_SECONDS_UNDER_TCG
    return bool(SLOW.match(words))


def is_of_any_module(words: str) -> bool:
    """Whether the kernel's words come whatever module is loaded, and however that ends."""
    return any(taint in words for taint in TAINTS) or bool(CLOCKS.match(words))


def slow_note(slow: Sequence[str]) -> str:
    """What a check of the kernel's log adds where the host was slow."""
    return f"; the host was slow: {slow[0]}" if slow else ""


@dataclass
class Finding:
    """One report of the kernel: an oops, a WARNING, a hung task and the like."""

    kind: str
    line: str
    """Its first line, without the timestamp."""
    lines: list[str] = field(default_factory=list)
    """The whole report, as printed."""


@dataclass
class Judgement:
    """What a part of the kernel's log amounts to."""

    complaints: list[str] = field(default_factory=list)
    """The kernel's words at the level of a warning or worse."""
    slow: list[str] = field(default_factory=list)
    """Those that only say that the host was slow."""

    def detail(self) -> str:
        """In a line."""
        first = next(iter(self.complaints), "nothing at warning level but the taint lines")
        return first + slow_note(self.slow)


def judge_levels(log: Sequence[str], emulated: bool) -> Judgement:
    """Judge what `dmesg -r` printed, from the end of the boot on."""
    start = next((n for n, line in enumerate(log) if BOOT_ENDS in line), -1)
    log = log[start + 1 :]
    result = Judgement()
    wanted = list[str]()
    position = 0
    while position < len(log):
        level = LEVELLED.search(log[position])
        kind, words = judged(log[position])
        if is_slow_host(words, emulated):
            result.slow.append(words)
            position = bounds(kind, log, position)[1] if kind else position + 1
            continue
        wanted += PROVOKED.findall(words)
        if level and int(level[1]) & 7 <= WARNING_LEVEL:
            if not any(text in words for text in (*TAINTS, *wanted)):
                result.complaints.append(words)
        position += 1
    return result


def findings(console: Sequence[str], emulated: bool = False) -> list[Finding]:
    """All reports, in their order, but for those that say only that the host was slow.

    A line that has been there before is no second one: a program printed the kernel's log.
    """
    found = []
    position = 0
    seen = set[str]()
    while position < len(console):
        kind, text = judged(console[position])
        if kind and stamp_and_words(console[position]) not in seen:
            start, end = bounds(kind, console, position)
            if not is_slow_host(text, emulated):
                found.append(Finding(kind, text, list(console[start:end])))
        else:
            end = position + 1
        seen.update(stamp_and_words(line) for line in console[position:end])
        position = end
    return found


def stamp_and_words(line: str) -> str:
    """A kernel line without what stands before it on its line."""
    stamped = STAMPED.search(line)
    return stamped[0] if stamped else ""


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


def drm_errors(console: Iterable[str]) -> list[str]:
    """What DRM and its drivers logged with drm_err() and its like, each line once."""
    return list(dict.fromkeys(words for words in kernel_words(console) if DRM_ERROR in words))


def as_json(found: list[Finding]) -> list[dict[str, Any]]:
    """Reports for report.json."""
    return [asdict(finding) for finding in found]


def kernel_words(console: Iterable[str]) -> list[str]:
    """What the kernel said, without timestamps."""
    return [stamped[1] for line in console if (stamped := STAMPED.search(line))]


def program_words(console: Iterable[str], before: Iterable[str] = ()) -> list[str]:
    """What programs printed: the console without the kernel's lines.

    The kernel prints a line once: one that was there already, here or in the console
    `before`, is a program's (`dmesg | grep …`).
    """
    seen = {stamp_and_words(line) for line in before} - {""}
    words = []
    for line in console:
        kernel = stamp_and_words(line)
        if kernel not in seen:
            line = STAMPED.sub("", line)
            seen.update({kernel} - {""})
        if line.strip():
            words.append(line.rstrip())
    return words
