"""What progress looks like: on terminals of any width, on one that cannot rewrite lines, in a log."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import unittest
from pathlib import Path
from unittest import mock

from support import commands, progress
from support.cache import REPO

WIDE = "a name that goes on and on, further than a terminal is wide, " * 4
WORK = f"""
import sys
from support.progress import Progress
progress = Progress()
for crate in progress.counted(["one", "two"]):
    with progress.phase("build", "build " + crate):
        for number in range(30):
            progress.detail(f"{{number}} of 30: {WIDE}")
            progress.detail("short\\tand \\033[31mred")
progress.note("QEMU 11.1.3")
with progress.phase("module", "{WIDE}"):
    pass
try:
    with progress.phase("guest", "guest"):
        progress.detail("x" * 40 + "booting")
        sys.stdin.readline()
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
"""
WAITING = b"booting"
"""The last word before the program waits."""
ESCAPE = re.compile(r"\033\[([0-9]*)([A-Za-z])")


class Screen:
    """As much of a terminal as progress needs; it wraps lines, also when it is made narrower."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows = [""]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        """Show what a program writes."""
        at = 0
        while at < len(text):
            if escape := ESCAPE.match(text, at):
                self._control(escape[2])
                at = escape.end()
            else:
                self._character(text[at])
                at += 1

    def _control(self, name: str) -> None:
        if name == "A":
            self.row = max(0, self.row - 1)
        elif name == "J":
            del self.rows[self.row + 1 :]
            self.rows[self.row] = self.rows[self.row][: self.column]
        else:
            raise AssertionError(f"what is ESC [ {name}?")

    def _character(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._down()
        else:
            if self.column == self.columns:
                self._down()
                self.column = 0
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + char + row[self.column + 1 :]
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")

    def resize(self, columns: int) -> None:
        """Another width; a line that is too long becomes several."""
        self.columns = columns
        self.rows = [
            row[at : at + columns] for row in self.rows for at in range(0, len(row) or 1, columns)
        ]
        self.row, self.column = len(self.rows) - 1, len(self.rows[-1])

    def lines(self) -> list[str]:
        """What is to be read."""
        return [row.rstrip() for row in self.rows if row.strip()]


def run(columns: int, later: int, term: str = "xterm") -> Screen:
    """The screen on which the work was done; it was made `later` columns wide before the end."""
    ours, theirs = pty.openpty()
    set_width(ours, columns)
    screen = Screen(columns)
    with subprocess.Popen(
        [sys.executable, "-c", WORK], cwd=REPO / "scripts", text=True, stdin=subprocess.PIPE,
        stderr=theirs, env={**os.environ, "TERM": term},
    ) as program:
        os.close(theirs)
        screen.write(read(ours, until=b"guest ..." if term == "dumb" else WAITING))
        set_width(ours, later)
        screen.resize(later)
        program.communicate("\n")
        screen.write(read(ours))
    os.close(ours)
    return screen


def set_width(terminal: int, columns: int) -> None:
    """Make a terminal so wide."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def read(terminal: int, until: bytes | None = None) -> str:
    """What was written to a terminal until this came, or until its last writer has left."""
    said = b""
    while until is None or not said.endswith(until):
        try:
            said += os.read(terminal, 1)
        except OSError:
            break
    return said.decode()


class OnATerminal(unittest.TestCase):
    """The screen is looked at."""

    def read(self, screen: Screen) -> list[str]:
        """The lines to be read, without how long everything took."""
        return [re.sub(r"in \d+\.\d s$", "in T", line) for line in screen.lines()]

    def test_every_phase_leaves_one_line_of_the_terminals_width(self) -> None:
        for columns in (60, 80, 300):
            lines = self.read(run(columns, columns))
            cut = lines.pop(3)
            self.assertEqual(lines, [
                "  1 of 2: build one: done in T", "  2 of 2: build two: done in T",
                "  QEMU 11.1.3", "  guest: failed in T",
            ])
            self.assertRegex(cut, "^  a name that .*: done in T$")
            self.assertEqual("…" in cut, columns < 300)
            self.assertLessEqual(len(cut), columns)

    def test_narrower_terminal_keeps_no_rest_of_the_line_that_was_wider(self) -> None:
        screen = run(60, 25)
        self.assertEqual(self.read(screen)[-1], "  guest: failed in T")
        self.assertFalse([line for line in screen.lines() if "xx" in line])

    def test_terminal_that_cannot_rewrite_lines_gets_whole_ones(self) -> None:
        screen = run(300, 300, term="dumb")
        self.assertEqual(self.read(screen)[:4], [
            "  1 of 2: build one ...", "  1 of 2: build one: done in T",
            "  2 of 2: build two ...", "  2 of 2: build two: done in T",
        ])


class InALog(unittest.TestCase):
    """The program's standard error is a pipe."""

    def test_log_has_whole_lines_and_no_control_characters(self) -> None:
        ran = subprocess.run(
            [sys.executable, "-c", WORK], cwd=REPO / "scripts", text=True, input="\n",
            stderr=subprocess.PIPE, check=True,
        )
        self.assertNotRegex(ran.stderr, "[\r\t\033]")
        self.assertIn(f"  {WIDE}: done in", ran.stderr)


class Fitting(unittest.TestCase):
    """Text is cut to columns, not to characters."""

    def test_wide_and_combining_characters_count_as_they_are_shown(self) -> None:
        self.assertEqual(progress.fitting("abcdef", 6), "abcdef")
        self.assertEqual(progress.fitting("abcdef", 5), "abcd…")
        self.assertEqual(progress.fitting("画像処理", 6), "画像…")
        self.assertEqual(progress.fitting("e\u0301" * 4, 4), "e\u0301" * 4)
        self.assertEqual(progress.fitting("abc", 0), "")


class Cargo(unittest.TestCase):
    """What is told of a build."""

    UNSTABLE = (
        "warning: unknown and unstable feature specified for `-Ctarget-feature`: `x`\n  |\n"
        "  = note: it is still passed through\n  = help: consider filing a feature request\n\n"
    )

    def test_crates_are_counted_and_warnings_do_not_show(self) -> None:
        shown: list[str] = []
        said = f"   Compiling a v0.1.0\n    Building [==> ] 3/111: a, b   \r{self.UNSTABLE}"
        said += "    Updating crates.io index\n"
        with tempfile.TemporaryDirectory() as place:
            cargo = Path(place) / "cargo"
            cargo.write_text(f"#!/bin/sh\ncat << 'END'\n{said}END\n", "utf-8")
            cargo.chmod(0o755)
            with mock.patch.dict(os.environ, {"PATH": f"{place}:{os.environ['PATH']}"}):
                commands.cargo(["build"], "a", shown.append)
        self.assertEqual(shown, ["3 of 111 crates: a, b", "Updating crates.io index"])

    def test_failure_shows_errors_without_unstable_features_or_counts(self) -> None:
        said = (
            f"   Compiling a v0.1.0\n{self.UNSTABLE}warning: unused\n --> a.rs\n\n"
            f"    Building [==> ] 3/111: a\n{self.UNSTABLE}error[E0308]: mismatched\n --> b.rs\n"
            f"{self.UNSTABLE}error: could not compile\n"
        )
        self.assertEqual(
            commands.complaints(said), "error[E0308]: mismatched\n --> b.rs\n\nerror: could not compile"
        )
        self.assertEqual(commands.complaints("warning: unused\nlinker died"),
                         "warning: unused\nlinker died")


if __name__ == "__main__":
    unittest.main()
