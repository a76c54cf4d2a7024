"""Where a run's report and logs go: a directory of its own, so that two at once never mix."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..cache import REPO, lock_of, locked
from ..errors import Refused
from ..progress import Progress

RUNS = REPO / "target/run"
KEPT = 10
"""How many runs' directories stay, this one's included."""
LATEST = "latest"
REPORT = "report.json"
LINKS = {LATEST: "{run}", REPORT: f"{LATEST}/{REPORT}"}
"""Names beside the directories that lead to the last run; it has no report until it has ended."""
RESULTS = [REPORT, "console.log", "server.log", "qemu.log"]


@contextmanager
def fresh(progress: Progress, runs: Path = RUNS) -> Iterator[Path]:
    """A new directory `runs`/NUMBER, to which `latest` leads; the oldest are removed."""
    with locked(runs, progress):
        numbers = sorted(int(name) for name in os.listdir(runs) if name.isdecimal())
        own = runs / str(max(numbers, default=0) + 1)
        own.mkdir()
        for name, target in LINKS.items():
            link(runs / name, target.format(run=own.name))
        for number in numbers[: -(KEPT - 1)]:
            remove(runs / str(number))
        lock = held(own)
    with lock:
        yield own


@contextmanager
def given(directory: Path) -> Iterator[Path]:
    """A directory that the user names: without what an earlier run left, and this run's alone.

    Refuses one in which another run is writing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        lock = held(directory)
    except BlockingIOError:
        raise Refused(
            f"--keep-logs {directory}: another run is writing there; give each its own directory"
        ) from None
    with lock:
        for name in RESULTS:
            (directory / name).unlink(missing_ok=True)
        yield directory


class Lock:
    """A directory that is held until the block ends, or this process does."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def held(directory: Path) -> Lock:
    """Hold a directory. Raises BlockingIOError where another process does."""
    descriptor = lock_of(directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def link(path: Path, target: str) -> None:
    """Point a symbolic link elsewhere, or put one in a file's place, at once."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(target)
    partial.replace(path)


def remove(directory: Path) -> None:
    """Remove the directory of a run that has ended."""
    try:
        with held(directory):
            shutil.rmtree(directory, ignore_errors=True)
    except BlockingIOError:
        pass  # it is still running
