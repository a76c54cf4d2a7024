"""What the host must have, asked before anything is downloaded."""

import os
import platform
import re
import shutil
from pathlib import Path

from .cache import REPO
from .errors import Refused

NEEDED = {
    "cargo": "Rust 1.95 (rustup)",
    "rustc": "Rust 1.95 (rustup)",
    "cc": "build-essential",
    "gcc": "build-essential",
    "ld": "build-essential",
    "ar": "build-essential",
    "readelf": "build-essential",
    "strip": "build-essential",
    "make": "build-essential",
    "setpriv": "util-linux",
    "taskset": "util-linux",
    "timeout": "coreutils",
}
NEEDED_FOR_PACKAGES = {"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"}
NEEDED_ELSEWHERE = {"busybox": "busybox (static)", "zstd": "zstd"}
DEBIAN_RELEASES = {"12", "13"}
OWN = ["PRESIL_QEMU", "PRESIL_KERNEL", "PRESIL_HEADERS"]


def check(cache_root: Path, own_kernel: bool = False) -> None:
    """Refuse a host on which nothing of this can work; with its own kernel it needs no headers."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in {"x86_64", "amd64"}:
        raise Refused(f"this host is {platform.system()} on {machine}; x86-64 Linux is needed")
    packages = has_debian_packages()
    tools = {**NEEDED, **(NEEDED_FOR_PACKAGES if packages else NEEDED_ELSEWHERE)}
    missing = {tool: package for tool, package in tools.items() if not shutil.which(tool)}
    if missing:
        wanted = ", ".join(sorted(set(missing.values())))
        raise Refused(f"missing: {', '.join(missing)}; install: {wanted}")
    own = OWN[:1] if own_kernel else OWN
    own_missing = [name for name in own if not os.environ.get(name)]
    if not packages and own_missing:
        raise Refused(
            f"{distribution()} is not Debian 12 or 13: set {', '.join(own_missing)}"
            " to your own QEMU (11.1 or newer), bzImage with DRM, and header tree"
        )
    for path in (REPO, cache_root):
        # Kbuild splits its paths at blanks and make at colons.
        if re.search(r"[\s:]", str(path)):
            raise Refused(f"the path {str(path)!r} has a blank or a colon: Kbuild cannot take it")
        if not is_text(path):
            raise Refused(f"the path {str(path)!r} is no UTF-8: cargo cannot take it")


def is_text(path: Path) -> bool:
    """Whether a path is UTF-8."""
    return not re.search("[\udc80-\udcff]", str(path))


def has_debian_packages() -> bool:
    """Whether Debian's packages can be used: this is Debian, of a release that was tried."""
    release = os_release()
    return release.get("ID") == "debian" and release.get("VERSION_ID") in DEBIAN_RELEASES


def distribution() -> str:
    """The host's name for itself."""
    return os_release().get("PRETTY_NAME", "this distribution")


def os_release(path: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The fields of os-release; none where there is no such file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name: value.strip().strip("\"'") for name, _, value in pairs}


def kvm_works() -> bool:
    """Whether QEMU can use KVM; that /dev/kvm exists proves nothing."""
    flags = set(re.findall(r"\b(?:vmx|svm)\b", Path("/proc/cpuinfo").read_text("utf-8")))
    if not flags:
        return False
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        return False
    return True
