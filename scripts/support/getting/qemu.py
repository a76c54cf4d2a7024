"""QEMU: the host's own where it is new enough, else Debian's, unpacked."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from .. import commands
from ..cache import Cache
from ..errors import Refused
from . import loader
from .debian import BACKPORTS, Debian

PROGRAM = "qemu-system-x86_64"
NEEDED = (11, 1)
"""First version whose vhost-user-test-device-pci has shared-memory regions."""
FIRMWARE = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"]


@dataclass(frozen=True)
class Qemu:
    """How to start QEMU: a command line to add to, and the environment it wants."""

    command: list[str]
    environment: dict[str, str]
    version: str


def ensure(cache: Cache, debian: Debian, refresh: bool = False) -> Qemu:
    """The QEMU to use; PRESIL_QEMU, when set, is the only candidate."""
    own = os.environ.get("PRESIL_QEMU")
    if own:
        version = version_of([own], {}, f"PRESIL_QEMU={own}")
        require(version, f"PRESIL_QEMU={own}")
        return Qemu([own], {}, version)
    installed = shutil.which(PROGRAM)
    if installed:
        version = version_of([installed], {}, installed)
        if parse_version(version) >= NEEDED:
            return Qemu([installed], {}, version)
    return unpacked(cache, debian, refresh)


def unpacked(cache: Cache, debian: Debian, refresh: bool) -> Qemu:
    """Debian's QEMU from the cache, started through its own loader."""
    name = "qemu"
    if cache.key_of(name) is None or refresh:
        with cache.progress.phase("qemu", "QEMU"):
            packages = debian.closure(["qemu-system-x86"], BACKPORTS)
            key = " ".join(sorted(package.spec for package in packages))
            cache.entry(name, key, lambda into: debian.unpack(packages, into))
    root = cache.root / name
    command = loader.command(root, root / "usr/bin" / PROGRAM, PROGRAM)
    for directory in FIRMWARE:
        command += ["-L", str(root / directory)]
    environment = {"QEMU_MODULE_DIR": str(root / loader.LIBRARIES / "qemu")}
    version = version_of(command, environment, "Debian's QEMU")
    require(version, f"QEMU of {BACKPORTS}")
    return Qemu(command, environment, version)


def require(version: str, what: str) -> None:
    """Refuse a QEMU that is too old for the device."""
    if parse_version(version) < NEEDED:
        needed = ".".join(map(str, NEEDED))
        raise Refused(f"{what} is QEMU {version}; {needed} or newer is needed")


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor of `11.1.3`; (0, 0) when there is none."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)


def version_of(command: list[str], environment: dict[str, str], what: str) -> str:
    """The version that `--version` names."""
    try:
        run = subprocess.run(
            [*command, "--version"], env={**os.environ, **environment},
            capture_output=True, text=True, check=False, timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"{what} cannot be run: {error}") from error
    match = re.search(r"QEMU emulator version (\d+\.\d+\S*)", run.stdout)
    if not match:
        answer = commands.last_line(run.stderr or run.stdout)
        raise Refused(f"{what} --version answers {answer!r}; expected QEMU's version")
    return match.group(1)
