"""What the guest says on its console: messages for us among an ordinary log.

A message is `@presil NUMBER {"kind": body}`. The kernel prints where it likes,
also in the middle of one: a torn message is no JSON any more, and one whose mark
is torn leaves a gap in the numbers. A number that was there before is a repetition
(a script that prints the kernel's log) and no second message. What a user's own
script prints has no number.
"""

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

MARK = "@presil "
NUMBERED = re.compile(r"(\d+) (.*)")
KERNEL = re.compile(r"\s*\[ *\d+\.\d+\]")
"""What may follow a message on its line: the kernel did not wait for the line's end."""
PANIC = "Kernel panic - not syncing"


@dataclass
class Transcript:
    """The guest's messages by kind, in their order, and when the first of a kind came."""

    messages: dict[str, list[Any]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    """Seconds since the transcript's start, one for each message."""
    broken: list[str] = field(default_factory=list)
    """What tells that a message was lost: marked lines that are none, gaps in the numbers."""
    last_number: int = 0
    """The newest message of this boot."""
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
        numbered = NUMBERED.match(text)
        try:
            kind, body = parse(numbered[2] if numbered else text)
        except ValueError:
            self.broken.append(line)
            return None
        if numbered and not self._is_next(int(numbered[1]), kind):
            return None
        return self._keep(kind, body)

    def _is_next(self, number: int, kind: str) -> bool:
        """Whether a message with this number is new; notes those that are missing before it."""
        if number == 1 and kind == "boot":
            self.last_number = 0
        if number <= self.last_number:
            return False
        if number != self.last_number + 1:
            missing = f"{self.last_number + 1} to {number - 1}"
            self.broken.append(f"messages {missing} are missing before {kind} ({number})")
        self.last_number = number
        return True

    def _keep(self, kind: str, body: Any) -> str:
        self.messages.setdefault(kind, []).append(body)
        self.times.setdefault(kind, []).append(time.monotonic() - self.started)
        return kind


def parse(text: str) -> tuple[str, Any]:
    """Kind and body of a message.

    Raises ValueError where the text is none.
    """
    message, end = json.JSONDecoder().raw_decode(text)
    rest = text[end:]
    if rest.strip() and not KERNEL.match(rest):
        raise ValueError(rest)
    if not isinstance(message, dict) or len(message) != 1:
        raise ValueError(text)
    ((kind, body),) = message.items()
    return kind, body


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
