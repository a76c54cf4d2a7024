"""How our commands start and end: every end that a user can cause is one line and a status."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import commands
from .cache import REPO, cache_root
from .errors import FULL, Misused, Refused
from .room import free_bytes

INTERRUPTED_STATUS = 130


def run(main: Callable[[list[str]], int]) -> NoReturn:
    """Run a command with the arguments of this process and end with its status."""
    for stream in (sys.stdout, sys.stderr):
        # A file may have a name that is no text.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED_STATUS
    except BrokenPipeError:
        # Who reads has stopped; what is still to be printed would be told as an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Refused as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        status = 2 if isinstance(refusal, Misused) else 1
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {in_words(error)}", file=sys.stderr)
        status = 1
    sys.exit(status)


def in_words(error: OSError | subprocess.CalledProcessError) -> str:
    """What failed, in one line that names the thing."""
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr or error.output or ""
        text = said if isinstance(said, str) else said.decode(errors="replace")
        return f"{error.cmd[0]} failed: {commands.last_line(text)}"
    reason = error.strerror or str(error)
    name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    room = f"; free space: {free_space()}" if error.errno in FULL else ""
    return f"{name}{reason}{room}"


def free_space() -> str:
    """How much room there is where we write."""
    places = {
        "checkout": REPO, "cache directory": cache_root(), "temporary directory": temporary(),
    }
    return ", ".join(
        f"{free_bytes(path) >> 20} MiB in the {name} {path}" for name, path in places.items()
    )


def temporary() -> Path:
    """Where temporary files go; without any place for them, where they should."""
    try:
        return Path(tempfile.gettempdir())
    except OSError:
        return Path("/tmp")
