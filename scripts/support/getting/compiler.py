"""The C compiler for the kernel module.

Debian's kernels are built with gcc 14 and need gcc 12 at least (mitigation of
straight-line speculation). The host's compiler is used where it will do.
"""

import re
import shutil
import subprocess
from pathlib import Path

from ..cache import Cache
from . import loader
from .debian import RELEASE, Debian

CANDIDATES = ["gcc-14", "gcc", "gcc-13", "gcc-12"]
OLDEST = 12
KERNELS_OWN = 14
PRIVATE = "gcc-14"

# gcc 14 invented the option; older ones align functions well enough with the other.
OLD_GCC_SCRIPT = """\
#!/bin/sh
for argument do
    shift
    case $argument in
        -fmin-function-alignment=*) argument=-falign-functions=${{argument#*=}} ;;
    esac
    set -- "$@" "$argument"
done
exec {compiler} "$@"
"""


def ensure(cache: Cache, debian: Debian) -> str:
    """What to give `make` as CC."""
    for candidate in CANDIDATES:
        major = major_version(candidate)
        if major >= KERNELS_OWN:
            return candidate
        if major >= OLDEST:
            return str(old_gcc(cache, candidate))
    return str(private_gcc(cache, debian))


def major_version(compiler: str) -> int:
    """The major version of a gcc; 0 where there is none or it is another compiler."""
    if not shutil.which(compiler):
        return 0
    run = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"\S*gcc\S* \(.*\) (\d+)\.", run.stdout)
    return int(match.group(1)) if match else 0


def old_gcc(cache: Cache, compiler: str) -> Path:
    """A script that translates the option which a gcc before 14 does not know."""

    def make(into: Path) -> None:
        script = into / "gcc"
        script.write_text(OLD_GCC_SCRIPT.format(compiler=compiler), "utf-8")
        script.chmod(0o755)

    return cache.entry("gcc-wrapper", compiler, make) / "gcc"


def private_gcc(cache: Cache, debian: Debian) -> Path:
    """Debian's gcc 14, unpacked and started through its own loader."""

    def make(into: Path) -> None:
        debian.unpack(debian.closure([PRIVATE], RELEASE), into)
        loader.wrap_programs(into / "usr/bin", into)
        loader.wrap_programs(into / "usr/libexec", into)

    phase = ("gcc", "gcc 14 for the kernel module")
    return cache.entry(PRIVATE, PRIVATE, make, phase) / "usr/bin" / PRIVATE
