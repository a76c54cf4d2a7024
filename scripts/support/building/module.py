"""Building the guest's kernel module: a C shim and one Rust object in one .ko."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .. import commands
from ..cache import REPO, write_atomically
from ..errors import Refused
from ..getting.kernel import Kernel
from ..progress import Progress
from . import sysroot

PACKAGE = "presil-kmod"
ARCHIVE = "libpresil_kmod.a"
OBJECT_PREFIX = "presil_kmod-"
MODULE = "presil.ko"
SOURCES = REPO / "guest-driver/kmod"
RUST_OBJECT = "rustcore.prebuilt"
"""Where Kbuild finds the Rust object; its own rule copies it to rustcore.o."""
RELOCATIONS = {
    "R_X86_64_64", "R_X86_64_32", "R_X86_64_32S", "R_X86_64_PC32", "R_X86_64_PC64", "R_X86_64_PLT32",
}
"""What the kernel's module loader applies (arch/x86/kernel/module.c)."""


def target_directory() -> Path:
    """Cargo's target directory of the checkout."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target").resolve()


def build(progress: Progress, kernel: Kernel, rust_sysroot: Path, compiler: str) -> Path:
    """The module for one kernel; a second build with nothing changed takes seconds."""
    work = target_directory() / "kmod" / kernel.release
    work.mkdir(parents=True, exist_ok=True)
    with progress.phase("module", f"kernel module for {kernel.release}"):
        archive = build_rust(progress, rust_sysroot)
        copy_if_changed(rust_object(archive), work / RUST_OBJECT)
        for source in [SOURCES / "Kbuild", *SOURCES.glob("*.[ch]")]:
            copy_if_changed(source.read_bytes(), work / source.name)
        make(progress, kernel, work, compiler)
        check_relocations(work / MODULE)
        return work / MODULE


def build_plain(progress: Progress, kernel: Kernel, sources: Path, compiler: str) -> Path:
    """The directory with the modules of a directory of C sources, built for one kernel."""
    work = target_directory() / "kmod" / kernel.release / sources.name
    work.mkdir(parents=True, exist_ok=True)
    with progress.phase("module", f"{sources.name} for {kernel.release}"):
        for source in [sources / "Kbuild", *sources.glob("*.[ch]")]:
            copy_if_changed(source.read_bytes(), work / source.name)
        make(progress, kernel, work, compiler)
    return work


def build_rust(progress: Progress, rust_sysroot: Path) -> Path:
    """Compile the Rust half to a static library, for no operating system."""
    target = target_directory() / "kmod" / "rust"
    flags = [f"--sysroot={rust_sysroot}", *sysroot.flags()]
    environment = {**sysroot.ENVIRONMENT, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(flags)}
    arguments = [
        "build", "--package", PACKAGE, "--profile", "kernel",
        "--target", sysroot.TARGET, "--target-dir", str(target),
    ]
    what = "the kernel module's Rust half"
    commands.cargo(arguments, what, progress.detail, environment=environment)
    return target / sysroot.TARGET / "kernel" / ARCHIVE


def rust_object(archive: Path) -> bytes:
    """The one object of the crate in its static library; what else is there stays out."""
    listing = subprocess.run(["ar", "t", archive], capture_output=True, text=True, check=True)
    members = [name for name in listing.stdout.split() if name.startswith(OBJECT_PREFIX)]
    if len(members) != 1:
        raise Refused(f"{archive} holds {len(members)} objects of {PACKAGE}; expected one")
    command = ["ar", "p", str(archive), members[0]]
    return subprocess.run(command, capture_output=True, check=True).stdout


def make(progress: Progress, kernel: Kernel, work: Path, compiler: str) -> None:
    """Run Kbuild and judge what it said."""
    # BTF for modules wants a vmlinux with BTF beside the headers.
    command = [
        "make", "-C", str(kernel.headers), f"M={work}", f"CC={compiler}",
        "CONFIG_DEBUG_INFO_BTF_MODULES=", f"-j{os.cpu_count() or 1}", "modules",
    ]
    # A make that started us has flags which are not meant for this one.
    run = commands.run(command, environment={"MAKEFLAGS": ""}, on_line=progress.detail)
    write_atomically(work / "build.log", run.output)
    complaints = [line for line in run.output.splitlines() if "objtool:" in line]
    if run.status != 0 or complaints:
        # A second make would not run objtool on what is already built.
        log = keep_log_only(work, run.output)
        reason = complaints[0] if complaints else first_complaint(run.output)
        raise Refused(f"the kernel module for {kernel.release} does not build ({log}): {reason}")


def keep_log_only(work: Path, text: str) -> Path:
    """Throw a failed build away, all but what was printed."""
    shutil.rmtree(work)
    work.mkdir()
    log = work / "build.log"
    log.write_text(text, "utf-8")
    return log


def check_relocations(module: Path) -> None:
    """Refuse a module that would build and then fail to load."""
    command = ["readelf", "--relocs", "--wide", str(module)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    unknown = relocation_types(run.stdout) - RELOCATIONS
    if unknown:
        raise Refused(f"{module} has relocations that the kernel does not apply: {sorted(unknown)}")


def relocation_types(listing: str) -> set[str]:
    """The types in readelf's listing, without those of debug sections: these are not loaded."""
    types = set()
    loaded = False
    for line in listing.splitlines():
        if line.startswith("Relocation section"):
            loaded = "'.rela.debug" not in line
        elif loaded:
            types |= set(re.findall(r"\bR_X86_64_\w+", line))
    return types


def copy_if_changed(data: bytes, to: Path) -> None:
    """Write a file only when it differs, so that make sees what changed."""
    if not to.exists() or to.read_bytes() != data:
        to.write_bytes(data)


def first_complaint(text: str) -> str:
    """The first line of make's output that names an error."""
    errors = [line for line in text.splitlines() if re.search(r"error:|ERROR:|\*\*\*", line)]
    return errors[0] if errors else commands.last_line(text)
