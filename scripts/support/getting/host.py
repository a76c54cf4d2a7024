"""What the host must have, asked before anything is downloaded."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

from .. import commands
from ..cache import REPO
from ..errors import Refused

RUST = "rustup"
NEEDED = {
    "cargo": RUST,
    "rustc": RUST,
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
GET_RUST = (
    "get Rust by rustup, which takes the version that rust-toolchain.toml names:"
    " `apt install rustup` on Debian 13, https://rustup.rs elsewhere"
)
DEBIAN_RELEASES = {"12", "13"}
OWN = ["PRESIL_QEMU", "PRESIL_KERNEL", "PRESIL_HEADERS"]


def check(cache_root: Path, own_kernel: bool = False) -> None:
    """Refuse a host on which nothing of this can work; with its own kernel it needs no headers."""
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in {"x86_64", "amd64"}:
        raise Refused(f"this host is {platform.system()} on {machine}; x86-64 Linux is needed")
    packages = has_debian_packages()
    check_toolchain(NEEDED_FOR_PACKAGES if packages else NEEDED_ELSEWHERE)
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


def check_toolchain(more: dict[str, str] | None = None) -> None:
    """Refuse a host that cannot build, or lacks one of `more`: programs, each with its package."""
    tools = {**NEEDED, **(more or {})}
    missing = {tool: package for tool, package in tools.items() if not shutil.which(tool)}
    if missing:
        wanted = ", ".join(sorted(set(missing.values())))
        how = f"; {GET_RUST}" if RUST in missing.values() else ""
        raise Refused(f"missing: {', '.join(missing)}; install: {wanted}{how}")
    check_rust()
    check_compiler()


def check_rust() -> None:
    """Refuse a Rust that is too old. rustup may fetch the right one here, and says so."""
    command = ["rustc", "--version"]
    run = subprocess.run(command, cwd=REPO, stdout=subprocess.PIPE, text=True, check=False)
    found = re.match(r"rustc (\d+)\.(\d+)\S*", run.stdout)
    if run.returncode != 0 or not found:
        raise Refused(f"rustc --version fails, with exit status {run.returncode}; {GET_RUST}")
    needed = rust_version()
    if (int(found[1]), int(found[2])) < needed:
        wanted = ".".join(map(str, needed))
        raise Refused(
            f"{shutil.which('rustc')} is {found[0]}, {wanted} or newer is needed; {GET_RUST}"
        )


def rust_version() -> tuple[int, int]:
    """The oldest Rust that will do, as Cargo.toml says."""
    manifest = tomllib.loads((REPO / "Cargo.toml").read_text("utf-8"))
    major, minor, *_ = manifest["workspace"]["package"]["rust-version"].split(".")
    return int(major), int(minor)


def check_compiler() -> None:
    """Refuse a C compiler that cannot make a program, as without libc's files."""
    with tempfile.TemporaryDirectory(prefix="presil-cc-") as scratch:
        run = subprocess.run(
            ["cc", "-x", "c", "-", "-o", f"{scratch}/program"], capture_output=True, text=True,
            errors="replace", input="int main(void) { return 0; }\n", check=False,
        )
    if run.returncode != 0:
        said = commands.last_line(run.stderr)
        raise Refused(f"cc cannot build a program: {said}; install: build-essential")


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
