"""Progress lines, for a terminal and for a log, and the seconds of each phase."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOG_INTERVAL_SECONDS = 10.0


class Progress:
    """Says on standard error what is being done and how long it took.

    On a terminal one line is rewritten; in a log a phase is a line at its
    start, at most one line every ten seconds, and a line at its end.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._terminal = sys.stderr.isatty()
        self._label = ""
        self._last_log = 0.0

    @contextmanager
    def phase(self, name: str, label: str) -> Iterator[None]:
        """Time a phase under `name` in `seconds`; phases do not nest."""
        started = time.monotonic()
        self._label, self._last_log = label, started
        self._write(f"  {label} ...", final=not self._terminal)
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            taken = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + taken, 3)
            self._write(f"  {label}: {outcome} in {taken:.1f} s", final=True)
            self._label = ""

    def detail(self, text: str) -> None:
        """Say how far the current phase is; outside of one there is nothing to say."""
        now = time.monotonic()
        if not self._label:
            return
        if self._terminal:
            self._write(f"  {self._label}: {text}", final=False)
        elif now - self._last_log >= LOG_INTERVAL_SECONDS:
            self._last_log = now
            self._write(f"  {self._label}: {text}", final=True)

    def note(self, text: str) -> None:
        """Say a fact that stays on the screen."""
        self._write(f"  {text}", final=True)

    def _write(self, line: str, final: bool) -> None:
        if self._terminal:
            line = "\r\033[K" + line
        print(line, end="\n" if final else "", file=sys.stderr, flush=True)
