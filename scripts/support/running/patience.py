"""Time limits that a busy host does not use up.

What runs in a virtual machine takes longer where other programs want the same
processors, and is no worse for it. The kernel counts for each thread how long it was ready
to run and did not (`/proc/PID/task/TID/schedstat`, second number, in nanoseconds). That
time does not count here; the time in which a program runs, or sleeps as a hanging one does,
counts.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
TICK_SECONDS = 1.0
AT_MOST = 10
"""So many times its limit by the clock ends everything."""
NANOSECONDS = 1e-9

Thread = tuple[int, int]
"""Process id and thread id."""


class Clock:
    """Seconds that count for processes and all that they have started.

    An interval counts without the time that the most hindered of their threads waited for a
    processor. Where the kernel does not tell, it counts whole.
    """

    def __init__(
        self, roots: list[int], proc: Path = PROC, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._roots, self._proc, self._now = roots, proc, now
        self._delays = self._read()
        self._last = self._started = now()
        self.seconds = 0.0
        """What counts, up to the last tick."""

    @property
    def by_the_clock(self) -> float:
        """All seconds up to the last tick."""
        return self._last - self._started

    def tick(self) -> float:
        """Look again; returns the seconds that count. Wants to be called often."""
        delays, moment = self._read(), self._now()
        waited = (delay - self._delays.get(thread, 0) for thread, delay in delays.items())
        hindered = max(waited, default=0) * NANOSECONDS
        self.seconds += max(0.0, moment - self._last - hindered)
        self._delays, self._last = delays, moment
        return self.seconds

    def is_over(self, limit: float) -> bool:
        """Tick; whether as much as `limit` has counted, or far more has passed."""
        return self.tick() >= limit or self.by_the_clock >= limit * AT_MOST

    def _read(self) -> dict[Thread, int]:
        """How long each thread has ever waited, in nanoseconds."""
        delays = {}
        for process in descendants(self._roots, self._proc):
            for path in self._proc.glob(f"{process}/task/*/schedstat"):
                words = words_of(path)
                if len(words) > 1:
                    delays[process, int(path.parent.name)] = int(words[1])
        return delays


def descendants(roots: list[int], proc: Path) -> set[int]:
    """Processes with all that they, and those, have started."""
    children: dict[int, list[int]] = {}
    for path in proc.glob("[0-9]*/stat"):
        # The name, in parentheses, may have any character; state and parent follow it.
        words = words_of(path, behind=")")
        if len(words) > 1:
            children.setdefault(int(words[1]), []).append(int(path.parent.name))
    found: set[int] = set()
    left = list(roots)
    while left:
        process = left.pop()
        if process not in found:
            found.add(process)
            left += children.get(process, [])
    return found


def words_of(path: Path, behind: str = "") -> list[str]:
    """The words of a file of /proc; none where its process has ended."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return []
    return (text.rpartition(behind)[2] if behind else text).split()


@contextmanager
def limit(seconds: float, roots: list[int], on_limit: Callable[[Clock], None]) -> Iterator[None]:
    """Call `on_limit`, from another thread, unless the block ends before its time has come."""
    over = threading.Event()
    clock = Clock(roots)

    def watch() -> None:
        while not over.wait(min(TICK_SECONDS, seconds)):
            if clock.is_over(seconds):
                on_limit(clock)
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def wait(process: "subprocess.Popen[str]", seconds: float) -> int | None:
    """The status of a process that should end by itself; None at the limit."""
    clock = Clock([process.pid])
    while True:
        try:
            return process.wait(min(TICK_SECONDS, seconds))
        except subprocess.TimeoutExpired:
            if clock.is_over(seconds):
                return None


def communicate(process: "subprocess.Popen[str]", seconds: float) -> tuple[str, str] | None:
    """What a process says until it ends, on both streams; None at the limit, when it is killed."""
    clock = Clock([process.pid])
    while True:
        try:
            return process.communicate(timeout=min(TICK_SECONDS, seconds))
        except subprocess.TimeoutExpired:
            if clock.is_over(seconds):
                process.kill()
                return None
