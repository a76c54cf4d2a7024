"""The cache directory: what was downloaded or built once and is kept."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from .errors import Refused, writing
from .progress import Progress

REPO = Path(__file__).resolve().parents[2]
STAMP = ".done"
READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}
OWN_CACHE = "PRESIL_CACHE names a directory of your own"


def cache_root() -> Path:
    """The directory that holds what is kept."""
    return Path(os.environ.get("PRESIL_CACHE") or REPO / ".cache").resolve()


class Cache:
    """`$PRESIL_CACHE`, or `.cache` in the checkout."""

    def __init__(self, progress: Progress) -> None:
        self.root = cache_root()
        self.progress = progress
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"cache directory {self.root}: {error.strerror}; {OWN_CACHE}") from error

    def entry(
        self, name: str, key: str, make: Callable[[Path], None],
        phase: tuple[str, str] | None = None,
    ) -> Path:
        """The directory `name`, made by `make` unless it is there for `key`.

        `phase` is the phase of the progress that making it is, with its label.
        `make` gets the final, empty directory (what it makes may hold its own
        path). The stamp is written last, by a rename: a directory without the
        stamp, with another key in it, or of a cache that was moved, is thrown
        away and made again.
        """
        directory = self.root / name
        if self.key_of(name) == key:
            return directory
        try:
            if directory.exists():
                shutil.rmtree(directory)
            directory.mkdir(parents=True)
        except OSError as error:
            raise Refused(
                f"the cache has no {directory} of this version, and making it failed:"
                f" {error.strerror}; {OWN_CACHE}"
            ) from error
        with self.progress.phase(*phase) if phase else nullcontext():
            make(directory)
        stamp = {"key": key, "path": str(directory)}
        write_atomically(directory / STAMP, json.dumps(stamp))
        return directory

    def key_of(self, name: str) -> str | None:
        """The key under which the directory `name` was completed here, if it was."""
        directory = self.root / name
        try:
            stamp = json.loads((directory / STAMP).read_text("utf-8"))
            here = stamp.get("path", str(directory)) == str(directory)
            return str(stamp["key"]) if here else None
        except (OSError, ValueError, KeyError):
            return None


@contextmanager
def locked(directory: Path, progress: Progress) -> Iterator[None]:
    """Hold a directory alone; a second run waits for the first."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = lock_of(directory)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note(f"waiting for another run that is using {directory}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def lock_of(directory: Path) -> int:
    """The descriptor of a directory's lock, which also somebody who may only read can hold."""
    file = directory / ".presil-lock"
    try:
        # NFS wants a descriptor for writing.
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    return os.open(file if file.exists() else directory, os.O_RDONLY)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file that is either whole or absent after a crash."""
    partial = path.with_name(path.name + ".partial")
    data = content.encode() if isinstance(content, str) else content
    with writing(path), open(partial, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)
