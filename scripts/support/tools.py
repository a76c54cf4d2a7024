"""Small programs that set-up needs and a host may lack, from Debian.

The kernel headers' build tools want libelf, libssl and a recent glibc; the
kernel image's payload may want zstd.
"""

from pathlib import Path

from . import loader
from .cache import Cache
from .debian import RELEASE, Debian

PACKAGES = ["libc6", "libelf1t64", "libssl3t64", "zlib1g", "zstd"]


def ensure(cache: Cache, debian: Debian) -> Path:
    """The prefix with the tools and their libraries."""
    name, key = "tools", " ".join(PACKAGES)
    if cache.key_of(name) == key:
        return cache.root / name
    with cache.progress.phase("tools", "libraries for the kernel's build tools"):
        packages = debian.closure(PACKAGES, RELEASE)
        return cache.entry(name, key, lambda into: debian.unpack(packages, into))


def zstd(prefix: Path) -> list[str]:
    """The command that decompresses zstd from standard input to standard output."""
    return [*loader.command(prefix, prefix / "usr/bin/zstd", "zstd"), "-dc"]
