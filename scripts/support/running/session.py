"""One guest on one model: start both, listen to the guest, end both."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..building.setup import SERVER_PACKAGE, Prepared
from ..errors import Misused, Refused
from ..judging import driver_checker, guest_log
from ..judging.checks import check
from ..progress import Progress
from . import caches, console, control, model, monitor, patience, scratch
from .processes import Processes, end_with
from .vm import GUEST_CPUS, GUEST_MEMORY, Machine

GUEST_LIMIT_SECONDS = 180
EXPIRED_STATUS = 124
"""Exit status at the time limit, as timeout(1) has it."""
USAGE_STATUS = 2
"""Exit status of a program whose command line is wrong."""
LAST_LINES = 20
KERNEL_LOG = re.compile(rf'{console.MARK}(?:\d+ )?{{"kernel_log"')
"""Behind this message comes what `dmesg -r` prints, to the next message."""
GUARD_SECONDS = 20
"""How much later `timeout` ends QEMU, should we not have done it at the limit."""
ENDING_SECONDS = 5
"""How long the server may go on when QEMU has left."""
DEFAULT_VRAM, DEFAULT_VISIBLE = "1G", "512M"
DOORS = ["vhost-user", "vfio-user"]
"""How a guest meets the GPU: as a virtio device, or as a PCI function. The first is the default."""
SEEDED = ("--vram-seed", "1")
"""VRAM begins as a known pattern: what was never written is not by chance zero.
It then takes as much of the host's memory as it has; otherwise it is sparse."""


@dataclass(frozen=True)
class Guest:
    """What a run asks for."""

    action: str
    door: str = DOORS[0]
    vram: str = DEFAULT_VRAM
    visible: str = DEFAULT_VISIBLE
    chip: str | None = None
    """The server's own choice where it is not said."""
    boots: int = 1
    """How often the guest is to come up: more than one where it reboots."""
    kexec: bool = False
    """Whether it is to have a kernel that it gives the machine to, in a crash perhaps."""
    hotplug: bool = False
    """Whether the GPU comes only when the guest asks for it."""
    server_options: Sequence[str] = SEEDED
    gpus: int = 1
    """How many GPUs, all alike."""
    ram: str = GUEST_MEMORY
    cpus: int = GUEST_CPUS
    cpu: str | None = None
    kernel_arguments: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    """QEMU's options that must come before the GPU's."""
    more_qemu: Sequence[str] = ()
    """The user's own options for QEMU."""
    cores: tuple[int | None, int | None] = (None, None)
    """The host's cores that QEMU and the server stay on; None is any."""
    limit_seconds: int = GUEST_LIMIT_SECONDS
    """How long the guest may take from QEMU's start to its end; see `patience` for what counts."""
    checker: driver_checker.Request | None = None
    """What judges the guest's driver, if anything does."""
    caches: str | None = None
    """What of its CPUs' caches is followed for that: `caches.STORES`, or `caches.LOADS` as well."""

    def skips(self) -> list[str]:
        """Why checks may be skipped: what this GPU does not have."""
        return ["this GPU has no invisible VRAM"] if self.vram == self.visible else []


@dataclass
class Outcome:
    """What came of a run."""

    transcript: console.Transcript
    checks: list[dict[str, Any]]
    model: dict[str, Any]
    """What the model said when it was asked last (see `model.look`)."""
    seconds: dict[str, float]
    expired: bool
    """Whether the guest was stopped at its time limit."""
    findings: list[guest_log.Finding]
    """What the guest's kernel reported about itself."""
    last_lines: list[str]
    """The console's end, where the guest did not come to its own."""
    script: dict[str, Any] | None = None
    """Of a user's script: name, whether started, exit status (None: it never ended), output."""
    drm_errors: list[str] = field(default_factory=list)
    """What DRM and its drivers logged as an error."""
    driver_checker: list[dict[str, Any]] = field(default_factory=list)
    """What the driver checker says of each GPU."""

    @property
    def ok(self) -> bool:
        """Whether there were checks and every one holds, but for those skipped as announced."""
        return bool(self.checks) and not any(is_bad(told) for told in self.checks)

    @property
    def exit_status(self) -> int:
        """A user's script's own where that is not 0; else whether all checks passed.

        Where only the driver checker complains, it is a status of its own.
        """
        if self.expired:
            return EXPIRED_STATUS
        status = self.script["status"] if self.script else 0
        if status or self.ok:
            return int(status or 0)
        bad = {told["name"] for told in self.checks if is_bad(told)}
        return driver_checker.STATUS if bad == {driver_checker.NAME} else 1


def run(progress: Progress, prepared: Prepared, guest: Guest, logs: Path) -> Outcome:
    """Run a guest to its end; it is judged by its own checks and by how all ended."""
    logs.mkdir(parents=True, exist_ok=True)
    answers: dict[str, Any] = {}
    expired: list[patience.Clock] = []
    plugged: list[str] = []
    with sockets() as paths, Processes() as processes:
        guest, followed = with_caches(prepared, guest, paths)
        board = board_of(prepared.server, guest, paths)
        gpu = json.loads(board[-1]) if guest.hotplug else {}
        if guest.hotplug:
            board = board_of(prepared.server, guest, paths, "--hotplug")
            board += monitor.options(paths.monitor)
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
                stdout=subprocess.PIPE, stderr=errors,
                limit_seconds=guest.limit_seconds * patience.AT_MOST + GUARD_SECONDS,
                core=guest.cores[0], stdin=subprocess.PIPE,
            )
            # QEMU lives on without a server, with a guest that waits for its GPU.
            end_with(process, server)

            def on_message(kind: str) -> None:
                progress.detail(kind)
                if kind == "plug":
                    plugged.append(monitor.execute(paths.monitor, "device_add", gpu))
                if kind == "done" or (kind == "panic" and not guest.kexec):
                    answers.update(model.look(paths.control, guest.gpus))
                    go_on(process)
                if guest.boots > 1 and is_over(transcript, guest.boots):
                    process.terminate()

            def on_limit(clock: patience.Clock) -> None:
                expired.append(clock)
                answers.update(model.look(paths.control, guest.gpus))
                process.terminate()

            assert process.stdout
            with patience.limit(guest.limit_seconds, [process.pid, server.pid], on_limit):
                console.follow(process.stdout, log, transcript, on_message)
                status = process.wait()
        server_status = patience.wait(server, ENDING_SECONDS)
        told = driver_checker.read(paths.reports) if guest.checker else []
    server_ended = server_status == (driver_checker.STATUS if driver_checker.reports(told) else 0)
    stopped = guest.boots > 1 or bool(expired) or not server_ended
    ended = {0, 143, -15} if stopped else {0}
    checks = [judged_skip(one, guest) for one in transcript.all("check")]
    checks += [check("QEMU adds the GPU", not problem, problem) for problem in plugged]
    checks += kernel_log(transcript, prepared.accel == "tcg")
    checks += endings(transcript, guest.boots, any(is_bad(one) for one in checks))
    for clock in expired:
        checks.append(check("time limit", False, limit_detail(guest.limit_seconds, clock)))
    checks.append(check("QEMU ended normally", status in ended, qemu_ending(status, logs)))
    server_detail = f"exit status {server_status}"
    checks.append(check("server ended normally", server_ended, server_detail))
    if guest.checker:
        checks.append(driver_checker.judge(guest.checker, told, guest.gpus))
    if followed:
        checks.append(caches.judge(followed, told))
    return Outcome(
        transcript, checks, answers, phases(transcript), bool(expired),
        findings=guest_log.findings(transcript.lines, prepared.accel == "tcg"),
        last_lines=[] if transcript.all("done") else transcript.lines[-LAST_LINES:],
        driver_checker=told,
    )


def limit_detail(seconds: int, clock: patience.Clock) -> str:
    """What it says of a guest that was stopped; what a busy host took from it did not count."""
    passed = round(clock.by_the_clock)
    busy = f" ({passed} s by the clock: the host was busy)" if passed > seconds + 1 else ""
    return f"stopped after {seconds} s{busy}"


def interactive(prepared: Prepared, guest: Guest, logs: Path) -> int:
    """A guest on the user's terminal; returns QEMU's exit status."""
    logs.mkdir(parents=True, exist_ok=True)
    with sockets() as paths, Processes() as processes:
        guest, followed = with_caches(prepared, guest, paths)
        if followed and followed.why_not:
            print(f"CPU caches are not watched: {followed.why_not}", file=sys.stderr)
        board = board_of(prepared.server, guest, paths)
        server = start_server(processes, prepared, guest, paths, logs)
        print(f"ask the model: {prepared.server} query {paths.control} help", file=sys.stderr)
        machine = machine_for(prepared, guest, paths, board, terminal=True)
        process = processes.start(
            machine.command(), environment=prepared.qemu.environment,
            stdout=None, stderr=None, terminal=True,
        )
        end_with(process, server)
        return process.wait()


def with_caches(
    prepared: Prepared, guest: Guest, paths: "Sockets"
) -> tuple[Guest, caches.Followed | None]:
    """The guest with what follows its CPUs' caches, and what that is; None: it was not asked for."""
    if not guest.caches:
        return guest, None
    followed = caches.follow(prepared, guest.caches, guest.ram, paths.gpu.parent)
    return replace(
        guest, server_options=[*guest.server_options, *followed.server],
        more_qemu=[*followed.qemu, *guest.more_qemu],
    ), followed


@dataclass(frozen=True)
class Sockets:
    """The model's unix sockets: the first GPU's door, and questions about the model."""

    gpu: Path
    control: Path
    monitor: Path = Path("monitor")
    """QEMU's own, where it has one."""
    reports: Path = Path("reports")
    """Where the driver checker's reports go."""

    def gpus(self, count: int) -> list[Path]:
        """The door of each of several GPUs."""
        return [self.gpu, *(self.gpu.with_name(f"{self.gpu.name}{n}") for n in range(1, count))]


@contextmanager
def sockets() -> Iterator[Sockets]:
    """Paths for the two sockets in a directory that goes away."""
    with scratch.directory() as directory:
        yield Sockets(directory / "gpu", directory / "control", directory / "monitor", directory / "reports")


def server_command(server: Path, guest: Guest, paths: Sockets) -> list[str]:
    """The model's server as this guest wants it."""
    chip = ["--chip", guest.chip] if guest.chip else []
    doors = [word for path in paths.gpus(guest.gpus) for word in (f"--{guest.door}", str(path))]
    # The guest asks through it, too: of several GPUs it says which one.
    questions = ["--gpu-control", f"0={paths.control}"] if guest.gpus == 1 else [
        "--control", str(paths.control)
    ]
    return [
        str(server), "serve", *doors, *questions,
        "--vram", guest.vram, "--visible", guest.visible, *chip,
        *(guest.checker.options(paths.reports) if guest.checker else ()),
        *guest.server_options,
    ]


def board_of(server: Path, guest: Guest, paths: Sockets, *more: str) -> list[str]:
    """QEMU's options for the GPU, from the server itself, which refuses what cannot be."""
    command = server_command(server, guest, paths)
    command += ["--print-qemu-args", "--guest-ram", guest.ram, *more]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if run.returncode == 0 and run.stdout.startswith("-"):
        return shlex.split(run.stdout)
    said = run.stderr.partition("\n\n")[0].strip().removeprefix("error: ")
    # Its help, which is no refusal, is not for a run.
    refusal = Refused if run.returncode not in {0, USAGE_STATUS} else Misused
    raise refusal(said or f"{SERVER_PACKAGE} serve {shlex.join(guest.server_options)}: no options")


def check_board(server: Path, guest: Guest) -> None:
    """Refuse a GPU that cannot be."""
    nowhere = Sockets(Path("gpu"), Path("control"))
    board_of(server, guest, nowhere)


def start_server(
    processes: Processes, prepared: Prepared, guest: Guest, paths: "Sockets", logs: Path
) -> "subprocess.Popen[str]":
    """The model's server, taking connections."""
    log = logs / "server.log"
    with open(log, "w", encoding="utf-8") as handle:
        server = processes.start(
            server_command(prepared.server, guest, paths), stdout=handle, stderr=subprocess.STDOUT,
            core=guest.cores[1],
        )
    control.wait_until_listening(paths.control, server, log)
    return server


def machine_for(
    prepared: Prepared, guest: Guest, paths: "Sockets", board: list[str], terminal: bool = False
) -> Machine:
    """The virtual machine of a guest with the GPU in it."""
    initramfs = prepared.kexec_initramfs if guest.kexec else prepared.initramfs
    assert initramfs
    return Machine(
        qemu=prepared.qemu, vmlinux=prepared.kernel.vmlinux, initramfs=initramfs,
        action=guest.action, accel=prepared.accel,
        board=board, control_socket=paths.control,
        reboots=guest.boots > 1, interactive=terminal,
        cpus=guest.cpus, cpu=guest.cpu, more=guest.more_qemu, arguments=guest.kernel_arguments, devices=guest.devices,
    )


def go_on(process: "subprocess.Popen[str]") -> None:
    """Let a guest end that waits until the model has been asked (see guest/own)."""
    assert process.stdin
    try:
        process.stdin.write("\n")
        process.stdin.flush()
    except OSError:
        pass  # it has ended


def is_over(transcript: console.Transcript, boots: int) -> bool:
    """Whether a guest that reboots has done its last round, or reboots for no good reason."""
    return len(transcript.all("done")) >= boots or len(transcript.all("boot")) > boots


def kernel_log(transcript: console.Transcript, emulated: bool) -> list[dict[str, Any]]:
    """What the guest's kernel said, where /init has printed its log: a check for each boot."""
    checks = []
    log: list[str] | None = None
    for line in transcript.lines:
        if log is None:
            log = [] if KERNEL_LOG.search(line) else None
        elif console.MARK in line:
            judgement = guest_log.judge_levels(log, emulated)
            checks.append(check("kernel log", not judgement.complaints, judgement.detail()))
            log = None
        else:
            log.append(line)
    return checks


def endings(
    transcript: console.Transcript, boots: int, failed: bool = False
) -> list[dict[str, Any]]:
    """Whether the guest came to its end, and nothing it said was lost.

    A program of the guest that fails says which check it was.
    """
    done = transcript.all("done")
    broken = transcript.broken
    detail = f"{len(done)} of {boots} rounds done"
    explained = failed or all(body.get("ok") is True for body in done)
    if not explained:
        detail += "; a program of the guest failed, but none of its checks"
    return [
        check("guest came to its end", len(done) == boots and explained, detail),
        check("every message was whole", not broken, broken[0] if broken else "no line was torn"),
    ]


def is_bad(told: dict[str, Any]) -> bool:
    """Whether a check failed, was not run, or was skipped and nobody had announced it."""
    return told.get("ok") is not True and not told.get("announced")


def mark(told: dict[str, Any]) -> str:
    """How a check ended, in a word for a column."""
    if "not_run" in told:
        return "----"
    if "skipped" in told:
        return "skip"
    return "ok" if told.get("ok") is True else "FAIL"


def judged_skip(told: dict[str, Any], guest: Guest) -> dict[str, Any]:
    """A guest's check; one that was skipped is announced where this GPU cannot have it."""
    reason = str(told.get("skipped", ""))
    if reason and any(reason.startswith(known) for known in guest.skips()):
        return {**told, "announced": True}
    return told


def qemu_ending(status: int, logs: Path) -> str:
    """What QEMU's exit status means, with its last complaint."""
    said = (logs / "qemu.log").read_text("utf-8", errors="replace").splitlines()
    return f"exit status {status}" + (f": {said[-1]}" if said and status else "")


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
