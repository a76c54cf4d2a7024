"""The guest's initramfs: busybox, the driver and what it needs, presilctl, an init."""

import subprocess
import tempfile
from pathlib import Path

from . import commands, cpio
from .errors import Refused
from .kernel import Kernel
from .module import target_directory
from .progress import Progress

INIT = Path(__file__).with_name("guest") / "init"
TOOL = "presilctl"
TOOL_TARGET = "x86_64-unknown-linux-gnu"
MOUNT_POINTS = ["dev", "proc", "sys", "tmp", "root"]


def build_tool(progress: Progress) -> Path:
    """Compile presilctl so that it needs no file of the guest."""
    # Without an explicit target the flag would reach procedural macros, which cannot be static.
    environment = {"CARGO_ENCODED_RUSTFLAGS": "-Ctarget-feature=+crt-static"}
    target = target_directory() / "guest"
    arguments = [
        "build", "--release", "--package", TOOL,
        "--target", TOOL_TARGET, "--target-dir", str(target),
    ]
    commands.cargo(arguments, TOOL, progress.detail, environment=environment)
    return target / TOOL_TARGET / "release" / TOOL


def write(to: Path, kernel: Kernel, busybox: Path, module: Path | None, tool: Path | None) -> None:
    """Write the initramfs; a guest that only boots has neither module nor tool."""
    archive = cpio.Archive()
    for directory in MOUNT_POINTS:
        archive.directory(directory)
    archive.file("init", INIT.read_bytes(), executable=True)
    archive.file("bin/busybox", busybox.read_bytes(), executable=True)
    for applet in applets(busybox):
        archive.link(f"bin/{applet}", "busybox")
    modules = [*kernel.needs, *([module] if module else [])]
    for path in modules:
        archive.file(f"modules/{path.name}", stripped(path))
    archive.file("modules/order", "".join(f"{path.name}\n" for path in modules).encode())
    if tool:
        archive.file(f"bin/{TOOL}", stripped(tool), executable=True)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(archive.finish())


def applets(busybox: Path) -> list[str]:
    """The names that this busybox answers to."""
    run = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    return [name for name in run.stdout.split() if name != "busybox"]


def stripped(path: Path) -> bytes:
    """An ELF file without its debug sections: they only cost boot time."""
    with tempfile.NamedTemporaryFile(prefix="presil-strip-") as small:
        command = ["strip", "--strip-debug", "-o", small.name, str(path)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise Refused(f"strip {path} failed: {run.stderr.strip()}")
        return Path(small.name).read_bytes()
