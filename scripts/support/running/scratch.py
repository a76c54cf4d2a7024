"""A directory of one run for its sockets and files, gone when the run is."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "presil-run-"
UNLOCKED = "presil-new-"
"""A directory that has no lock yet is not taken for one that was left behind."""
LOCK = "lock"
"""Held by the run that a directory belongs to, and by nobody once that was killed."""
SOCKET_PATH_LIMIT = 90
"""A unix socket's path has 107 bytes."""


@contextmanager
def directory(base: Path | None = None) -> Iterator[Path]:
    """A new directory below `base`, by default below TMPDIR; its path has room for sockets there.

    Those that killed runs have left are removed on the way.
    """
    parent = base or for_sockets()
    parent.mkdir(parents=True, exist_ok=True)
    remove_left_behind(parent)
    made = Path(tempfile.mkdtemp(prefix=UNLOCKED, dir=parent))
    with open(made / LOCK, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        name = made.rename(parent / f"{PREFIX}{made.name.removeprefix(UNLOCKED)}")
        try:
            yield name
        finally:
            shutil.rmtree(name, ignore_errors=True)


def for_sockets() -> Path:
    """TMPDIR, or /tmp where QEMU could not be told the sockets' paths, or they would be too long."""
    base = Path(tempfile.gettempdir())
    room = SOCKET_PATH_LIMIT - len(f"/{PREFIX}xxxxxxxx/control")
    good = str(base).isprintable() and len(os.fsencode(base)) <= room
    return base if good else Path("/tmp")


def remove_left_behind(base: Path) -> None:
    """Remove the directories of runs that are no more; another user's stay."""
    for left in base.glob(f"{PREFIX}*"):
        try:
            with open(left / LOCK, "r+", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            continue  # it is in use, or not ours


def keep(file: Path, into: Path) -> Path:
    """The file in the directory of a run, where no later build or download changes it.

    Those replace files, so a second name keeps the old one; where there can be none, a copy does.
    """
    kept = into / file.name
    try:
        kept.unlink(missing_ok=True)
        os.link(file, kept)
    except OSError:
        shutil.copy2(file, kept)
    return kept
