"""Running programs of an unpacked prefix with the prefix's own C library.

Debian's current programs want a newer glibc than an older host has, so they
are started through the loader that was unpacked beside them.
"""

import os
import shlex
from pathlib import Path

LIBRARIES = "usr/lib/x86_64-linux-gnu"
LOADER = f"{LIBRARIES}/ld-linux-x86-64.so.2"


def command(prefix: Path, program: Path, argv0: str) -> list[str]:
    """The command line that runs `program` with the libraries of `prefix`."""
    loader = str(prefix / LOADER)
    return [loader, "--library-path", str(prefix / LIBRARIES), "--argv0", argv0, str(program)]


def wrap_programs(root: Path, prefix: Path) -> None:
    """Turn every ELF program below `root` into a script that uses the prefix's loader."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink() or not path.is_file() or not os.access(path, os.X_OK):
            continue
        with open(path, "rb") as handle:
            if handle.read(4) != b"\x7fELF":
                continue
        real = path.with_name(path.name + ".elf")
        path.rename(real)
        words = command(prefix, real, "ARGV0")
        line = shlex.join(words).replace("ARGV0", '"$0"')
        path.write_text(f'#!/bin/sh\nexec {line} "$@"\n', encoding="utf-8")
        path.chmod(0o755)
