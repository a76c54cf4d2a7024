"""What the doors cost: which guests measure it, and their figures as tables."""

import itertools
import os
import re
from pathlib import Path
from typing import Any

from ..building.setup import Prepared
from ..cache import REPO
from ..errors import Refused
from ..progress import Progress
from ..running import session
from .render import heading

RUNS = 3
TIMES = {
    "register_read": "register read",
    "register_write": "register write",
    "kick_to_interrupt": "kick to interrupt",
}
RATES = {
    "write_mib_s": "write",
    "read_mib_s": "read",
    "copy_in_mib_s": "copy into it",
    "copy_out_mib_s": "copy out of it",
}
Cores = tuple[int | None, int | None]


def placements() -> dict[str, Cores]:
    """Where QEMU and the server run: by name their two cores of the host."""
    cores = sorted(os.sched_getaffinity(0))
    first = cores[0]
    # Two threads of one core are neither the same core nor two.
    apart = next((core for core in cores if core not in siblings(first)), None)
    if apart is None:
        raise Refused(f"the server needs a core beside QEMU's; this process has only {cores}")
    return {"same core": (first, first), "two cores": (first, apart)}


def siblings(core: int) -> set[int]:
    """The logical processors that share a core with one, itself included."""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    found = {core}
    for part in path.read_text("utf-8").strip().split(",") if path.exists() else []:
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def run(
    progress: Progress, prepared: Prepared, doors: list[str], places: dict[str, Cores], runs: int
) -> dict[str, Any]:
    """Every door and placement in turn, and that as often as wanted; the content of report.json."""
    measured = []
    guests = list(itertools.product(range(1, runs + 1), doors, places))
    for number, door, place in progress.counted(guests):
        guest = session.Guest("bench", door=door, cores=places[place])
        progress.note(f"run {number} of {runs}: {door}, {place}")
        name = re.sub(r"\W+", "-", f"{door} {place} {number}")
        figures = measure(progress, prepared, guest, REPO / "target/bench/logs" / name)
        measured.append({"door": door, "place": place, "run": number, **figures})
    return {
        "versions": prepared.versions,
        "accel": prepared.accel,
        "cpu": cpu_model(),
        "cores": {place: {"qemu": cores[0], "server": cores[1]} for place, cores in places.items()},
        "runs": measured,
    }


def measure(
    progress: Progress, prepared: Prepared, guest: session.Guest, logs: Path
) -> dict[str, Any]:
    """What one guest measured."""
    outcome = session.run(progress, prepared, guest, logs)
    figures = outcome.transcript.all("bench")
    if not outcome.ok or len(figures) != 1:
        failed = [check for check in outcome.checks if check.get("ok") is not True]
        why = "; ".join(f"{check['name']}: {check['detail']}" for check in failed)
        raise Refused(f"the guest did not measure ({why or 'no figures'}); the logs are in {logs}")
    return dict(figures[0])


def cpu_model() -> str:
    """The host's processor by its name."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    return found[1] if found else "unknown"


def as_text(result: dict[str, Any]) -> list[str]:
    """The tables for a person: of each figure the best run."""
    runs = result["runs"]
    versions = result["versions"]
    doors = list(dict.fromkeys(run["door"] for run in runs))
    out = heading("microseconds, p50 / p99 of the best run")
    out += columns([["door", "server and QEMU on", *TIMES.values()], *time_rows(runs)], left=2)
    for door in doors:
        out += heading(f"MiB/s of the best run, {door}")
        rows = rate_rows([run for run in runs if run["door"] == door])
        out += columns([["memory", *RATES.values()], *rows], left=1)
    out += ["", f"{result['cpu']}, {result['accel']}, QEMU {versions['qemu']}, kernel"
            f" {versions['kernel']}; {runs[-1]['run']} runs"]
    return out


def time_rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each door and placement."""
    keys = dict.fromkeys((run["door"], run["place"]) for run in runs)
    rows = []
    for door, place in keys:
        here = [run for run in runs if (run["door"], run["place"]) == (door, place)]
        best = [min((run[name] for run in here), key=lambda f: f["p50_ns"]) for name in TIMES]
        rows.append([door, place, *(f"{micros(f['p50_ns'])} / {micros(f['p99_ns'])}" for f in best)])
    return rows


def rate_rows(runs: list[dict[str, Any]]) -> list[list[str]]:
    """A row for each memory."""
    memories: dict[str, list[dict[str, Any]]] = {}
    for row in (row for run in runs for row in run["bandwidth"]):
        memories.setdefault(row["memory"], []).append(row)
    return [
        [memory, *(f"{max(row[name] for row in rows):,}" for name in RATES)]
        for memory, rows in memories.items()
    ]


def micros(nanoseconds: int) -> str:
    """With three digits at least."""
    return f"{nanoseconds / 1000:.{1 if nanoseconds < 100_000 else 0}f}"


def columns(rows: list[list[str]], left: int) -> list[str]:
    """Aligned columns; from the column `left` on they are numbers and stand to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
