"""Small programs that set-up needs and a host may lack, from Debian.

The kernel headers' build tools want libelf, libssl and a recent glibc; the
kernel image's payload may want zstd.
"""

import shutil
from pathlib import Path

from ..cache import Cache
from . import loader
from .debian import RELEASE, Debian

PACKAGES = ["libc6", "libelf1t64", "libssl3t64", "zlib1g", "zstd"]


def ensure(cache: Cache, debian: Debian) -> Path:
    """The prefix with the tools and their libraries."""
    return cache.entry(
        "tools", " ".join(PACKAGES),
        lambda into: debian.unpack(debian.closure(PACKAGES, RELEASE), into),
        phase=("tools", "libraries for the kernel's build tools"),
    )


def zstd(prefix: Path) -> list[str]:
    """The command that decompresses zstd from standard input to standard output."""
    return [*loader.command(prefix, prefix / "usr/bin/zstd", "zstd"), "-dc"]


def any_zstd(cache: Cache, debian: Debian) -> list[str]:
    """The same, the host's own where it has one."""
    return ["zstd", "-dc"] if shutil.which("zstd") else zstd(ensure(cache, debian))
