"""Running a program to its end, together with whatever it starts itself."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import REPO
from .errors import Refused


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
    """Run cargo in the checkout; a failure shows all that the compiler said."""
    result = run(["cargo", *arguments], environment=environment, on_line=on_line)
    if result.status != 0:
        raise Refused(f"{what} does not build:\n{complaints(result.output)}")


def complaints(output: str) -> str:
    """Cargo's output from its first complaint on."""
    lines = output.splitlines()
    starts = (n for n, line in enumerate(lines) if line.startswith(("error", "warning")))
    return "\n".join(lines[next(starts, 0) :])


def last_line(text: str) -> str:
    """The last line of a program's complaint that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
