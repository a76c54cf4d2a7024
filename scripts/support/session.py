"""One guest on one model: start both, listen to the guest, end both."""

import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import console, control
from .errors import Refused
from .processes import Processes
from .progress import Progress
from .setup import SERVER_PACKAGE, Prepared
from .vm import GUEST_MEMORY, Machine

GUEST_LIMIT_SECONDS = 180
TIMEOUT_STATUS = 124
DEFAULT_VRAM, DEFAULT_VISIBLE = "1G", "512M"
DOORS = ["vhost-user", "vfio-user"]
"""How a guest meets the GPU: as a virtio device, or as a PCI function. The first is the default."""
SEEDED = ("--vram-seed", "1")
"""VRAM begins as a known pattern: what was never written is not by chance zero.
It then takes as much of the host's memory as it has; otherwise it is sparse."""
SOCKET_PATH_LIMIT = 90
"""A unix socket's path has 107 bytes."""


@dataclass(frozen=True)
class Guest:
    """What a run asks for."""

    action: str
    door: str = DOORS[0]
    vram: str = DEFAULT_VRAM
    visible: str = DEFAULT_VISIBLE
    chip: str = "10c0"
    boots: int = 1
    """How often the guest is to come up: more than one where it reboots."""
    server_options: Sequence[str] = SEEDED
    cpu: str | None = None
    kernel_arguments: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What came of a run."""

    transcript: console.Transcript
    checks: list[dict[str, Any]]
    device: dict[str, Any]
    seconds: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether there were checks and every one holds."""
        return bool(self.checks) and all(check.get("ok") is True for check in self.checks)


def run(progress: Progress, prepared: Prepared, guest: Guest, logs: Path) -> Outcome:
    """Run a guest to its end; it is judged by its own checks and by how all ended."""
    logs.mkdir(parents=True, exist_ok=True)
    device: dict[str, Any] = {}
    with sockets() as paths, Processes() as processes:
        board = board_of(prepared, guest, paths)
        server = start_server(processes, prepared, guest, paths, logs)
        with (
            progress.phase("guest", f"guest: {guest.action}"),
            open(logs / "qemu.log", "w", encoding="utf-8") as errors,
            open(logs / "console.log", "w", encoding="utf-8") as log,
        ):
            machine = machine_for(prepared, guest, paths, board)
            transcript = console.Transcript()
            process = processes.start(
                machine.command(), environment=prepared.qemu.environment,
                stdout=subprocess.PIPE, stderr=errors, limit_seconds=GUEST_LIMIT_SECONDS,
            )

            def on_message(kind: str) -> None:
                progress.detail(kind)
                if kind == "done":
                    device.update(counters(paths.control))
                if guest.boots > 1 and is_over(transcript, guest.boots):
                    process.terminate()

            assert process.stdout
            console.follow(process.stdout, log, transcript, on_message)
            status = process.wait()
        server_status = wait_for(server)
    ended = {0} if guest.boots == 1 else {0, 143, -15}
    checks = [*transcript.all("check"), *endings(transcript, guest.boots)]
    checks.append(check("QEMU ended normally", status in ended, qemu_ending(status, logs)))
    server_detail = f"exit status {server_status}"
    checks.append(check("server ended normally", server_status == 0, server_detail))
    return Outcome(transcript, checks, device, phases(transcript))


def interactive(prepared: Prepared, guest: Guest, logs: Path) -> int:
    """A guest on the user's terminal; returns QEMU's exit status."""
    logs.mkdir(parents=True, exist_ok=True)
    with sockets() as paths, Processes() as processes:
        board = board_of(prepared, guest, paths)
        start_server(processes, prepared, guest, paths, logs)
        machine = machine_for(prepared, guest, paths, board, terminal=True)
        process = processes.start(
            machine.command(), environment=prepared.qemu.environment,
            stdout=None, stderr=None, terminal=True,
        )
        return process.wait()


@dataclass(frozen=True)
class Sockets:
    """The model's two unix sockets: the GPU's door, and questions about the model."""

    gpu: Path
    control: Path


@contextmanager
def sockets() -> Iterator[Sockets]:
    """Paths for the two sockets in a short directory that goes away."""
    base = tempfile.gettempdir()
    if len(base) > SOCKET_PATH_LIMIT - len("/presil-xxxxxxxx/control"):
        base = "/tmp"
    with tempfile.TemporaryDirectory(prefix="presil-", dir=base) as directory:
        yield Sockets(Path(directory) / "gpu", Path(directory) / "control")


def server_command(prepared: Prepared, guest: Guest, paths: Sockets) -> list[str]:
    """The model's server as this guest wants it."""
    return [
        str(prepared.server), "serve",
        f"--{guest.door}", str(paths.gpu), "--control", str(paths.control),
        "--vram", guest.vram, "--visible", guest.visible, "--chip", guest.chip,
        *guest.server_options,
    ]


def board_of(prepared: Prepared, guest: Guest, paths: Sockets) -> list[str]:
    """QEMU's options for the GPU, from the server itself, which refuses what cannot be."""
    command = server_command(prepared, guest, paths)
    command += ["--print-qemu-args", "--guest-ram", GUEST_MEMORY]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        said = run.stderr.partition("\n\n")[0].strip()
        raise Refused(said.removeprefix("error: ") or f"{SERVER_PACKAGE} refuses its options")
    return shlex.split(run.stdout)


def start_server(
    processes: Processes, prepared: Prepared, guest: Guest, paths: "Sockets", logs: Path
) -> "subprocess.Popen[str]":
    """The model's server, taking connections."""
    log = logs / "server.log"
    with open(log, "w", encoding="utf-8") as handle:
        server = processes.start(
            server_command(prepared, guest, paths), stdout=handle, stderr=subprocess.STDOUT
        )
    control.wait_until_listening(paths.control, server, log)
    return server


def machine_for(
    prepared: Prepared, guest: Guest, paths: "Sockets", board: list[str], terminal: bool = False
) -> Machine:
    """The virtual machine of a guest with the GPU in it."""
    return Machine(
        qemu=prepared.qemu, vmlinux=prepared.kernel.vmlinux, initramfs=prepared.initramfs,
        action=guest.action, accel=prepared.accel,
        board=board, control_socket=paths.control,
        reboots=guest.boots > 1, interactive=terminal,
        cpu=guest.cpu, arguments=guest.kernel_arguments,
    )


def counters(path: Path) -> dict[str, Any]:
    """What the model and its door counted so far, as one record."""
    answer = control.ask(path, "counters")
    return {**answer.pop("device", {}), **answer}


def is_over(transcript: console.Transcript, boots: int) -> bool:
    """Whether a guest that reboots has done its last round, or reboots for no good reason."""
    return len(transcript.all("done")) >= boots or len(transcript.all("boot")) > boots


def wait_for(server: "subprocess.Popen[str]") -> int | None:
    """The status of a server that should end by itself, QEMU having left."""
    try:
        return server.wait(control.ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def endings(transcript: console.Transcript, boots: int) -> list[dict[str, Any]]:
    """Whether the guest came to its end, and nothing it said was lost."""
    done = transcript.all("done")
    good = len(done) == boots and all(body.get("ok") is True for body in done)
    broken = transcript.broken
    return [
        check("guest came to its end", good, f"{len(done)} of {boots} rounds done"),
        check("every message was whole", not broken, broken[0] if broken else "no line was torn"),
    ]


def check(name: str, ok: bool, detail: str) -> dict[str, Any]:
    """A check in the form that the guest's have."""
    return {"name": name, "ok": ok, "detail": detail}


def qemu_ending(status: int, logs: Path) -> str:
    """What QEMU's exit status means, with its last complaint."""
    if status == TIMEOUT_STATUS:
        return f"stopped after {GUEST_LIMIT_SECONDS} s"
    said = (logs / "qemu.log").read_text("utf-8", errors="replace").splitlines()
    return f"exit status {status}" + (f": {said[-1]}" if said else "")


def phases(transcript: console.Transcript) -> dict[str, float]:
    """Seconds from QEMU's start to /init, and from the driver's load to the end of its probe."""
    seconds = {}
    times = {kind: moments[0] for kind, moments in transcript.times.items()}
    if "boot" in times:
        seconds["boot"] = round(times["boot"], 3)
    if "loading" in times and "loaded" in times:
        seconds["driver_load"] = round(times["loaded"] - times["loading"], 3)
    if "loaded" in times and "done" in times:
        seconds["work"] = round(times["done"] - times["loaded"], 3)
    return seconds
