"""A directory of one run for its sockets and small files, gone when the run is."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "presil-run-"
LOCK = "lock"
"""Held by the run that a directory belongs to, and by nobody once that was killed."""
SOCKET_PATH_LIMIT = 90
"""A unix socket's path has 107 bytes."""


@contextmanager
def directory() -> Iterator[Path]:
    """A new directory whose path is short enough for sockets.

    Those that killed runs have left are removed on the way.
    """
    base = tempfile.gettempdir()
    if len(base) > SOCKET_PATH_LIMIT - len(f"/{PREFIX}xxxxxxxx/control"):
        base = "/tmp"
    remove_left_behind(Path(base))
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=base) as name:
        with open(Path(name) / LOCK, "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name)


def remove_left_behind(base: Path) -> None:
    """Remove the directories of runs that are no more; another user's stay."""
    for left in base.glob(f"{PREFIX}*"):
        try:
            with open(left / LOCK, "r+", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue  # it is in use, just being made, or not ours
