"""Starting programs that never outlive us."""

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

GRACE_SECONDS = 3.0
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL", "--"]


def stop_on_signals() -> None:
    """Make SIGTERM and SIGHUP unwind like Ctrl-C, so that `Processes` can end its own."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


class Processes:
    """The programs of one run; leaving the block ends them, the last started first.

    Each is a session of its own (a Ctrl-C at the terminal reaches only us) and
    is killed by the kernel should we be killed. Start them from the main
    thread: the kernel means the thread that started them.
    """

    def __init__(self) -> None:
        self._running: list[tuple[subprocess.Popen[str], bool]] = []

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process, own_session in reversed(self._running):
            end(process, own_session)

    def start(
        self,
        command: Sequence[str | Path],
        *,
        stdout: int | IO[str] | None,
        stderr: int | IO[str] | None,
        environment: dict[str, str] | None = None,
        limit_seconds: int | None = None,
        terminal: bool = False,
        core: int | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a program; `limit_seconds` guards it with `timeout` (exit status 124).

        With `terminal` it keeps our terminal and reads from it; with `core` it
        runs on no other of the host's.
        """
        guard = [*DIES_WITH_US, "timeout", "--foreground", "--kill-after=2", str(limit_seconds)]
        place = ["taskset", "--cpu-list", str(core)] if core is not None else []
        process = subprocess.Popen(
            [*(guard if limit_seconds else []), *DIES_WITH_US, *place, *map(str, command)],
            stdin=None if terminal else stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(environment or {})},
            text=True,
            errors="replace",
            start_new_session=not terminal,
        )
        self._running.append((process, not terminal))
        return process


def end_with(process: "subprocess.Popen[str]", other: "subprocess.Popen[str]") -> threading.Thread:
    """Ask `process` to end as soon as `other` has ended with anything but exit status 0.

    `other` is left for its starter to wait for. The thread that watches is returned.
    """

    def watch() -> None:
        try:
            ended = os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            return  # it has been waited for
        if ended and (ended.si_code != os.CLD_EXITED or ended.si_status != 0):
            process.terminate()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    return watcher


def end(process: subprocess.Popen[str], own_session: bool) -> None:
    """Ask a program to end, then make it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        if own_session:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
