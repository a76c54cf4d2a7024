"""The model's control socket: a line with a question, a line of JSON back."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from ..errors import Refused
from . import patience

ANSWER_SECONDS = 30.0
"""An answer takes milliseconds; on a host that is very busy, seconds."""
START_SECONDS = 30.0
RETRY_SECONDS = 0.01


def ask(path: Path, question: str) -> Any:
    """The model's answer, as JSON gives it; `{"error": ...}` where it refuses."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(question.encode() + b"\n")
            with connection.makefile("r", encoding="utf-8") as answers:
                return json.loads(answers.readline())
        except (OSError, ValueError) as error:
            return {"error": f"control socket, {question!r}: {error}"}


def wait_until_listening(path: Path, server: subprocess.Popen[str], log: Path) -> None:
    """Return when the server takes connections; its death or half a minute ends the wait."""
    clock = patience.Clock([server.pid])
    while not clock.is_over(START_SECONDS):
        with socket.socket(socket.AF_UNIX) as connection:
            if connection.connect_ex(str(path)) == 0:
                return
        if died(server):
            lines = log.read_text("utf-8", errors="replace").splitlines()
            reason = lines[-1] if lines else f"exit status {server.returncode}"
            raise Refused(f"the model's server did not start: {reason}")
    raise Refused(f"the model's server does not listen on {path} after {START_SECONDS:.0f} s")


def died(server: subprocess.Popen[str]) -> bool:
    """Whether the server ends within the time to the next try."""
    try:
        server.wait(RETRY_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True
