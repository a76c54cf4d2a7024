"""What runs in virtual machines: jobs of one name each, as many at once as the host can bear."""

import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from ..building.setup import Prepared
from ..entry import in_words
from ..errors import Refused
from ..getting.kernel import SUITES
from ..progress import Progress
from .results import Result

GUEST_BYTES = 3 << 30
"""What the largest guest of the suite takes of the host's memory, with its VRAM."""
MEMINFO = Path("/proc/meminfo")
FORK = multiprocessing.get_context("fork")

Setup = Callable[[Progress, Prepared], None]


@dataclass(frozen=True)
class Job:
    """One thing to try on a kernel."""

    name: str
    """What is shown, and what `--case` looks for."""
    run: Callable[[Prepared, Path], list[Result]]
    """Gets the directory for its logs. It has a process of its own."""
    long: bool = False
    """Whether it takes far longer than most: those begin first, so that none is alone at the end."""
    once: bool = False
    """Whether one kernel says all that there is to say."""
    setup: Setup | None = None
    """What has to be built before, once for all jobs that name it."""


@dataclass
class Running:
    """A job that has begun."""

    job: Job
    process: BaseProcess
    answer: Connection
    started: float = field(default_factory=time.monotonic)


def kernel_option(prepared: Prepared) -> list[str]:
    """What makes scripts/run take the same kernel; the user's own is in the environment."""
    origin = prepared.kernel.origin
    return ["--kernel", origin] if origin in SUITES else []


def at_once() -> int:
    """How many guests this host can bear: one for each core, as far as there is memory."""
    told = re.search(r"^MemAvailable: +(\d+) kB$", MEMINFO.read_text("ascii"), re.MULTILINE)
    guests = int(told[1]) * 1024 // GUEST_BYTES if told else 1
    return max(1, min(len(os.sched_getaffinity(0)), guests))


def run(
    progress: Progress, jobs: Iterable[Job], prepared: Prepared, logs: Path, limit: int
) -> list[Result]:
    """The results of all jobs, in the order of the jobs; at most `limit` run at a time."""
    jobs = list(jobs)
    suite = prepared.versions["kernel"]
    missing = {setup: problem_of(setup, progress, prepared) for setup in setups(jobs)}
    results = {
        job.name: [Result(suite, job.name, missing[job.setup])]
        for job in jobs if job.setup and missing[job.setup]
    }
    ready = [job for job in jobs if job.name not in results]
    waiting = sorted(ready, key=lambda job: not job.long)
    total, done, running = len(ready), 0, list[Running]()
    with progress.phase("guests", f"virtual machines, {limit} at a time"):
        try:
            while waiting or running:
                while waiting and len(running) < limit:
                    running.append(start(waiting.pop(0), prepared, logs))
                progress.detail(f"{done} of {total}; " + ", ".join(r.job.name for r in running))
                for answered in wait([one.answer for one in running]):
                    one = next(one for one in running if one.answer is answered)
                    running.remove(one)
                    done += 1
                    rows = results[one.job.name] = answer_of(one)
                    problems = [row.problem for row in rows if row.problem]
                    ending = f"FAILED, {'; '.join(problems)}" if problems else "ok"
                    taken = time.monotonic() - one.started
                    progress.note(f"{done} of {total}: {one.job.name}: {ending} ({taken:.1f} s)")
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.join()
    return [row for job in jobs for row in results[job.name]]


def setups(jobs: list[Job]) -> list[Setup]:
    """What has to be built before, each once."""
    return list(dict.fromkeys(job.setup for job in jobs if job.setup))


def problem_of(setup: Setup, progress: Progress, prepared: Prepared) -> str:
    """Why it could not be built; empty where it could."""
    try:
        setup(progress, prepared)
    except Refused as refusal:
        return str(refusal)
    return ""


def start(job: Job, prepared: Prepared, logs: Path) -> Running:
    """Begin a job in a process of its own, which ends with all that it has started."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=work, args=(job, prepared, logs, theirs), name=job.name)
    process.start()
    theirs.close()
    return Running(job, process, ours)


def work(job: Job, prepared: Prepared, logs: Path, answer: Connection) -> None:
    """Do a job and say what came of it."""
    # A Ctrl-C at the terminal reaches all; whoever started us ends us then, by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    suite = prepared.versions["kernel"]
    directory = logs / suite / re.sub(r"\W+", "-", job.name)
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        rows = job.run(prepared, directory)
    except Refused as refusal:
        rows = [Result(suite, job.name, f"{refusal} (logs in {directory})")]
    except OSError as error:
        rows = [Result(suite, job.name, f"{in_words(error)} (logs in {directory})")]
    if rows:
        rows[0] = replace(rows[0], seconds=round(time.monotonic() - started, 3))
    answer.send(rows)


def answer_of(one: Running) -> list[Result]:
    """What a job has said; that it said nothing is a failure."""
    try:
        rows: list[Result] = one.answer.recv()
        problem = "" if rows else "it had no result"
    except EOFError:
        rows, problem = [], "its process ended without a result"
    one.process.join()
    return rows or [Result("virtual machines", one.job.name, problem)]
