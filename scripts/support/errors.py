"""The errors that set-up and run report to the user."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT}
OF_WRITING = {*FULL, errno.EFBIG, errno.EIO}
"""Errors of writing a file, which do not say by themselves which one."""


class Refused(Exception):
    """Something the user can put right.

    The message is one line: it names the thing, the value found and what was
    expected. Entry points print it after `error:` and exit with status 1.
    """


class Misused(Refused):
    """The same of the command line itself: exit status 2."""


@contextmanager
def misuse() -> Iterator[None]:
    """What is refused in the block is so for what the command line says."""
    try:
        yield
    except Misused:
        raise
    except Refused as refusal:
        raise Misused(str(refusal)) from refusal


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A file, or a directory of files, that the block writes: an error names it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in OF_WRITING:
            error.filename = str(path)
        raise
