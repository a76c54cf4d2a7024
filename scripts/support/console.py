"""What the guest says on its console: messages for us among an ordinary log."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

MARK = "@presil "
PANIC = "Kernel panic - not syncing"


@dataclass
class Transcript:
    """The guest's messages by kind, in their order, and when the first of a kind came."""

    messages: dict[str, list[Any]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    """Seconds since the transcript's start, one for each message."""
    broken: list[str] = field(default_factory=list)
    """Marked lines that are not one JSON object: something else wrote in between."""
    lines: list[str] = field(default_factory=list)
    """Everything, messages included."""
    started: float = field(default_factory=time.monotonic)

    def all(self, kind: str) -> list[Any]:
        """The bodies of all messages of a kind."""
        return self.messages.get(kind, [])

    def add(self, line: str) -> str | None:
        """Take a console line; the kind of message in it, or None when it is ordinary log.

        The kernel's last words are a message of the kind `panic`.
        """
        self.lines.append(line)
        _, mark, text = line.partition(MARK)
        if not mark:
            return self._keep("panic", line) if PANIC in line else None
        try:
            message = json.loads(text)
            kind, body = next(iter(message.items()))
            kind = str(kind)
        except (ValueError, AttributeError, StopIteration):
            self.broken.append(line)
            return None
        return self._keep(kind, body)

    def _keep(self, kind: str, body: Any) -> str:
        self.messages.setdefault(kind, []).append(body)
        self.times.setdefault(kind, []).append(time.monotonic() - self.started)
        return kind


def follow(
    lines: Iterable[str], log: IO[str], transcript: Transcript, on_message: Callable[[str], None]
) -> None:
    """Read a console to its end; every line goes to the log, every message to `on_message`."""
    for line in lines:
        text = line.rstrip("\r\n")
        print(text, file=log, flush=True)
        kind = transcript.add(text)
        if kind:
            on_message(kind)
