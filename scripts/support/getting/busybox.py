"""The guest's small userland: a static busybox, Debian's or the host's own."""

import shutil
import subprocess
from pathlib import Path

from ..cache import Cache
from ..errors import Refused
from . import host
from .debian import RELEASE, Debian

PACKAGE = "busybox-static"


def ensure(cache: Cache, debian: Debian) -> Path:
    """The busybox program, which needs nothing but a kernel."""
    if not host.has_debian_packages():
        return of_host()

    def make(into: Path) -> None:
        version = debian.candidate(PACKAGE, RELEASE)
        debian.unpack(debian.packages([f"{PACKAGE}={version}"]), into)

    root = cache.entry("busybox", PACKAGE, make, ("busybox", "busybox for the guest"))
    for program in ["usr/bin/busybox", "bin/busybox"]:
        if (root / program).exists():
            return root / program
    raise Refused(f"{root} has no busybox: remove the directory and run again")


def of_host() -> Path:
    """The host's busybox, where Debian's cannot be fetched."""
    program = shutil.which("busybox")
    if not program:
        raise Refused("no busybox for the guest: install a static busybox")
    command = ["readelf", "--program-headers", "--wide", program]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "INTERP" in listing:
        raise Refused(f"{program} needs shared libraries: install a static busybox")
    return Path(program)
