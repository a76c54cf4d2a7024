"""The guest's initramfs: busybox, the driver and what it needs, our programs, an init."""

import subprocess
import tempfile
from pathlib import Path

from .. import commands
from ..errors import Refused, writing
from ..getting.kernel import Kernel
from ..progress import Progress
from . import cpio
from .module import target_directory

GUEST = Path(__file__).with_name("guest")
TOOL = "presilctl"
TOOLS = [TOOL, "presil-bare"]
TOOL_TARGET = "x86_64-unknown-linux-gnu"
MOUNT_POINTS = ["dev", "proc", "sys", "tmp", "root"]


def build_tools(progress: Progress) -> list[Path]:
    """Compile the guest's programs so that they need no file of the guest."""
    # Without an explicit target the flag would reach procedural macros, which cannot be static.
    environment = {"CARGO_ENCODED_RUSTFLAGS": "-Ctarget-feature=+crt-static"}
    target = target_directory() / "guest"
    arguments = [
        "build", "--release", *(word for tool in TOOLS for word in ("--package", tool)),
        "--target", TOOL_TARGET, "--target-dir", str(target),
    ]
    commands.cargo(arguments, TOOL, progress.detail, environment=environment)
    return [target / TOOL_TARGET / "release" / tool for tool in TOOLS]


def write(
    to: Path, kernel: Kernel, busybox: Path, module: Path | None, tools: list[Path]
) -> None:
    """Write the initramfs; a guest that only boots has neither module nor tools."""
    archive = base(busybox)
    modules = [*kernel.needs, *([module] if module else [])]
    for path in modules:
        archive.file(f"modules/{path.name}", stripped(path.read_bytes(), path.name))
    archive.file("modules/order", "".join(f"{path.name}\n" for path in modules).encode())
    for tool in tools:
        archive.file(f"bin/{tool.name}", stripped(tool.read_bytes(), tool.name), executable=True)
    with writing(to):
        to.write_bytes(archive.finish())


def add_kernel(to: Path, initramfs: Path, image: bytes) -> None:
    """Write an initramfs that has a kernel in it, too: a kernel reads one archive after the other."""
    archive = cpio.Archive()
    archive.file("kexec/vmlinuz", image)
    with writing(to):
        to.write_bytes(initramfs.read_bytes() + archive.finish())


def base(busybox: Path) -> cpio.Archive:
    """What every guest has: /init, busybox and places to mount at."""
    archive = cpio.Archive()
    for directory in MOUNT_POINTS:
        archive.directory(directory)
    archive.file("init", (GUEST / "init").read_bytes(), executable=True)
    archive.file("own", (GUEST / "own").read_bytes())
    archive.file("bin/ask-model", (GUEST / "ask-model").read_bytes(), executable=True)
    archive.file("bin/busybox", busybox.read_bytes(), executable=True)
    for applet in applets(busybox):
        archive.link(f"bin/{applet}", "busybox")
    return archive


def applets(busybox: Path) -> list[str]:
    """The names that this busybox answers to."""
    run = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    return [name for name in run.stdout.split() if name != "busybox"]


def stripped(data: bytes, name: str) -> bytes:
    """An ELF file without its debug sections: they only cost boot time."""
    with tempfile.TemporaryDirectory(prefix="presil-strip-") as scratch:
        file = Path(scratch) / name
        file.write_bytes(data)
        command = ["strip", "--strip-debug", str(file)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise Refused(f"{name}: {run.stderr.strip().rpartition(': ')[2]} (strip)")
        return file.read_bytes()
