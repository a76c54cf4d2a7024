"""Running a program to its end, together with whatever it starts itself."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import REPO
from .errors import Refused

CARGO = {
    "CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "120",
    "CARGO_TERM_COLOR": "never",
}
"""Has cargo count crates also where it does not write to a terminal."""
BUILDING = re.compile(r"\s*Building \[[^]]*\] +(\d+)/(\d+)(: .*\S)?")
FETCHING = re.compile(r"\s*(?:Updating|Downloading|Downloaded|Blocking) ")
UNSTABLE = re.compile("warning: .*unstable feature")


@dataclass(frozen=True)
class Result:
    """How a program ended and what it said."""

    status: int
    output: str
    """Standard output."""
    errors: str
    """Standard error; empty where it was merged into the output."""


def run(
    command: Sequence[str | Path],
    *,
    cwd: Path = REPO,
    environment: dict[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    pass_fds: Iterable[int] = (),
) -> Result:
    """Run a program with nothing to read; when we are stopped, all of its processes are.

    With `on_line` standard error is merged into the output, and each line is
    handed over as it comes.
    """
    with subprocess.Popen(
        list(map(str, command)), cwd=cwd, env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
        text=True, errors="replace", pass_fds=tuple(pass_fds), start_new_session=True,
    ) as process:
        try:
            if on_line and process.stdout:
                lines = []
                for line in process.stdout:
                    lines.append(line)
                    on_line(line.strip())
                output, errors = "".join(lines), ""
            else:
                output, errors = process.communicate()
            return Result(process.wait(), output, errors)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            raise


def cargo(
    arguments: Sequence[str],
    what: str,
    on_line: Callable[[str], None],
    environment: dict[str, str] | None = None,
) -> None:
    """Run cargo in the checkout; `on_line` hears how many crates of how many are done.

    A failure shows all that the compiler said, but for what it thinks of unstable features.
    """
    def on_word(line: str) -> None:
        if found := BUILDING.match(line):
            on_line(f"{found[1]} of {found[2]} crates{found[3] or ''}")
        elif FETCHING.match(line):
            on_line(line)

    result = run(
        ["cargo", *arguments], environment={**CARGO, **(environment or {})}, on_line=on_word
    )
    if result.status != 0:
        raise Refused(f"{what} does not build:\n{complaints(result.output)}")


def complaints(output: str) -> str:
    """Cargo's output from its first error on, or from its first warning where it has none."""
    lines = [line for line in known_left_out(output.splitlines()) if not BUILDING.match(line)]
    for kind in ("error", "warning"):
        for number, line in enumerate(lines):
            if line.startswith(kind):
                return "\n".join(lines[number:])
    return "\n".join(lines)


def known_left_out(lines: list[str]) -> Iterator[str]:
    """Lines without rustc's paragraphs about features that a kernel's code needs."""
    known = False
    for line in lines:
        known = bool(line.strip()) if known else UNSTABLE.match(line) is not None
        if not known:
            yield line


def last_line(text: str) -> str:
    """The last line of a program's complaint that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
