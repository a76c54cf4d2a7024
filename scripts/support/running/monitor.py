"""QEMU's machine protocol (QMP): one command on a monitor of its own."""

import json
import socket
from pathlib import Path
from typing import IO, Any

ANSWER_SECONDS = 60.0
"""A device that is added talks to its server first, which a busy host makes slow."""


def options(path: Path) -> list[str]:
    """QEMU's options for a monitor at this socket."""
    # A comma ends a value for QEMU, two are one of it.
    escaped = str(path).replace(",", ",,")
    return ["-qmp", f"unix:{escaped},server=on,wait=off"]


def execute(path: Path, command: str, arguments: dict[str, Any]) -> str:
    """Run a command; why it failed, empty when it did not."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            with connection.makefile("rw", encoding="utf-8") as monitor:
                monitor.readline()  # its greeting
                return answer(monitor, "qmp_capabilities", {}) or answer(monitor, command, arguments)
        except (OSError, ValueError) as error:
            return f"QEMU's monitor, {command}: {error}"


def answer(monitor: IO[str], command: str, arguments: dict[str, Any]) -> str:
    """Ask one thing on an open monitor; events are passed over."""
    monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    monitor.flush()
    while line := monitor.readline():
        said = json.loads(line)
        if "return" in said:
            return ""
        if "error" in said:
            return f"{command}: {said['error'].get('desc', said)}"
    return f"{command}: QEMU hung up"
