"""The guest's small userland: Debian's static busybox."""

from pathlib import Path

from .cache import Cache
from .debian import RELEASE, Debian
from .errors import Refused


def ensure(cache: Cache, debian: Debian) -> Path:
    """The busybox program, which needs nothing but a kernel."""
    name, key = "busybox", "busybox-static"
    if cache.key_of(name) != key:
        with cache.progress.phase("busybox", "busybox for the guest"):
            version = debian.candidate("busybox-static", RELEASE)
            packages = debian.packages([f"busybox-static={version}"])
            cache.entry(name, key, lambda into: debian.unpack(packages, into))
    for program in ["usr/bin/busybox", "bin/busybox"]:
        if (cache.root / name / program).exists():
            return cache.root / name / program
    raise Refused(f"{cache.root / name} has no busybox: remove the directory and run again")
