"""scripts/run as its user meets it: interrupted in the middle, and asked for what cannot be."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..building.setup import Prepared
from ..cache import REPO
from ..running import patience
from ..running.console import MARK
from .jobs import Job, kernel_option
from .results import Result

LIMIT_SECONDS = 300


def jobs() -> list[Job]:
    """Every check as a job."""
    checks = {
        "Ctrl-C ends everything that was started": interrupted,
        "a killed server ends the run at once": server_killed,
        "an illegal VRAM size is refused with the legal list": illegal_size,
    }
    return [
        Job(f"scripts/run: {name}", partial(tried, f"scripts/run: {name}", check), once=True)
        for name, check in checks.items()
    ]


def tried(
    name: str, check: Callable[[list[str]], str], prepared: Prepared, _: Path
) -> list[Result]:
    """What was wrong with one check; nothing where it passes."""
    return [Result("scripts/run", name, check(kernel_option(prepared)))]


def interrupted(kernel: list[str]) -> str:
    """Interrupt a run as soon as its guest has come up."""
    # A shell's background job ignores Ctrl-C, and so would the run that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="presil-test-", dir="/tmp") as scratch:
        run = start(kernel, Path(scratch))
        try:
            if not guest_is_up(run, Path(scratch) / "logs/console.log"):
                return f"the guest did not come up: {ending(run)}"
            run.send_signal(signal.SIGINT)
            if patience.communicate(run, LIMIT_SECONDS) is None:
                return "it goes on after Ctrl-C"
        finally:
            run.kill()
        if run.returncode != 130:
            return f"exit status {run.returncode}, expected 130"
        left = [*map(" ".join, mentioning(scratch).values()), *map(str, Path(scratch).glob("presil-*"))]
        return f"left behind: {left}" if left else ""


def server_killed(kernel: list[str]) -> str:
    """Kill the server of a PCI function, without which QEMU and its guest would live on."""
    with tempfile.TemporaryDirectory(prefix="presil-test-", dir="/tmp") as scratch:
        run = start(kernel, Path(scratch), "--door", "vfio-user")
        try:
            if not guest_is_up(run, Path(scratch) / "logs/console.log"):
                return f"the guest did not come up: {ending(run)}"
            servers = [pid for pid, words in mentioning(scratch).items() if "serve" in words]
            for pid in servers:
                os.kill(pid, signal.SIGKILL)
            said, _ = patience.communicate(run, LIMIT_SECONDS) or ("", "")
        finally:
            run.kill()
    # At the time limit it would be 124.
    if len(servers) != 1 or run.returncode != 1 or "server ended normally" not in said:
        return f"{len(servers)} servers killed, exit status {run.returncode}"
    return ""


def illegal_size(kernel: list[str]) -> str:
    """A size that no chip and no door can have; it is refused before anything is fetched."""
    with tempfile.TemporaryDirectory(prefix="presil-test-", dir="/tmp") as scratch:
        nothing = {"PRESIL_CACHE": f"{scratch}/cache", "PRESIL_DEBIAN_MIRROR": "http://127.0.0.1:1"}
        run = start(kernel, Path(scratch), "--vram", "1000M", **nothing)
        _, errors = patience.communicate(run, LIMIT_SECONDS) or ("", "")
    if run.returncode != 2 or "1G to 15G" not in errors:
        return f"exit status {run.returncode}, said {errors.splitlines()[-1:]}"
    return ""


def start(
    kernel: list[str], scratch: Path, *arguments: str, **environment: str
) -> "subprocess.Popen[str]":
    """scripts/run with its sockets and logs in a directory of ours."""
    command = [sys.executable, str(REPO / "scripts/run"), *kernel]
    return subprocess.Popen(
        [*command, "--keep-logs", str(scratch / "logs"), *arguments],
        env={**os.environ, "TMPDIR": str(scratch), **environment}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def guest_is_up(run: "subprocess.Popen[str]", console: Path) -> bool:
    """Wait until the guest has said its first word."""
    while run.poll() is None:
        if console.exists() and MARK in console.read_text("utf-8", errors="replace"):
            return True
        try:
            run.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    return False


def ending(run: "subprocess.Popen[str]") -> str:
    """The last thing a run said."""
    _, errors = run.communicate()
    return (errors.splitlines() or [f"exit status {run.returncode}"])[-1]


def mentioning(text: str) -> dict[int, list[str]]:
    """Processes with this text in their command line, each with the words of it."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has ended
        if any(text in word for word in words):
            found[int(entry.parent.name)] = words
    return found
