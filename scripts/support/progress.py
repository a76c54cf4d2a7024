"""Progress lines, for a terminal and for a log, and the seconds of each phase."""

import os
import sys
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

LOG_INTERVAL_SECONDS = 10.0
USUAL_COLUMNS = 80
"""Of a terminal that does not say how wide it is."""
CUT = "…"
START, UP, CLEAR = "\r", "\033[A", "\033[J"
"""To the start of the line; a line up; nothing from here to the screen's end."""
Item = TypeVar("Item")


class Progress:
    """Says on standard error what is being done and how long it took.

    On a terminal one line is rewritten, never longer than the terminal is wide
    at the moment; in a log, and on a terminal that cannot rewrite lines, a phase
    is a line at its start, at most one line every ten seconds, and a line at its end.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._label = ""
        self._count = ""
        self._last_log = 0.0
        self._shown = 0
        """Columns of the line that is to be rewritten."""

    @contextmanager
    def phase(self, name: str, label: str) -> Iterator[None]:
        """Time a phase under `name` in `seconds`; phases do not nest."""
        started = time.monotonic()
        self._label, self._last_log = f"{self._count}{label}", started
        self._write(self._label, " ...", final=not self._terminal)
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            taken = time.monotonic() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + taken, 3)
            self._write(self._label, f": {outcome} in {taken:.1f} s", final=True)
            self._label = ""

    def counted(self, items: Sequence[Item]) -> Iterator[Item]:
        """The items one by one; each one's phases say which of how many it is."""
        try:
            for number, item in enumerate(items, 1):
                self._count = f"{number} of {len(items)}: "
                yield item
        finally:
            self._count = ""

    def detail(self, text: str) -> None:
        """Say how far the current phase is; outside of one there is nothing to say."""
        now = time.monotonic()
        if not self._label or not text:
            return
        if self._terminal:
            self._write(f"{self._label}: {text}", "", final=False)
        elif now - self._last_log >= LOG_INTERVAL_SECONDS:
            self._last_log = now
            self._write(f"{self._label}: {text}", "", final=True)

    def note(self, text: str) -> None:
        """Say a fact that stays on the screen, whole."""
        print(f"{self._cleared()}  {text}", file=sys.stderr, flush=True)

    def _write(self, text: str, ending: str, final: bool) -> None:
        """A line; where it is too long for the terminal, `text` is cut and `ending` is not."""
        text = printable(text)
        if self._terminal:
            # The last column stays free: a terminal may go on to the next line behind it.
            text = fitting(text, columns() - len(ending) - 3)
        line = f"  {text}{ending}"
        print(f"{self._cleared()}{line}", end="\n" if final else "", file=sys.stderr, flush=True)
        self._shown = 0 if final else width(line)

    def _cleared(self) -> str:
        """What takes the line away that is to be rewritten."""
        if not self._terminal:
            return ""
        # A terminal that was made narrower since has broken the line into several.
        rows = max(0, self._shown - 1) // columns()
        self._shown = 0
        return START + UP * rows + CLEAR


class Silent(Progress):
    """Seconds alone: what is shown is the caller's."""

    def note(self, text: str) -> None:
        """Nothing."""

    def _write(self, text: str, ending: str, final: bool) -> None:
        """Nothing."""


def columns() -> int:
    """How wide the terminal is now."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or USUAL_COLUMNS
    except OSError:
        return USUAL_COLUMNS


def printable(text: str) -> str:
    """A text without what would move the cursor."""
    return "".join(char if char.isprintable() else " " for char in text)


def width(text: str) -> int:
    """The columns that a printable text takes."""
    return sum(map(char_width, text))


def char_width(char: str) -> int:
    """The columns of a character: a combining one has none, many of East Asia two."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fitting(text: str, room: int) -> str:
    """A text cut to so many columns, its cut marked."""
    if width(text) <= room:
        return text
    kept, left = "", room - width(CUT)
    for char in text:
        left -= char_width(char)
        if left < 0:
            break
        kept += char
    return kept + CUT if room > 0 else ""
