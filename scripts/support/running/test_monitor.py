"""What QEMU's monitor answers, and what comes of it."""

import io
import json
import unittest
from typing import Any

from . import monitor


class Answers(unittest.TestCase):
    """One command on an open monitor."""

    def said(self, *lines: dict[str, Any]) -> str:
        """What comes of these lines."""
        text = "".join(json.dumps(line) + "\n" for line in lines)

        class Both(io.StringIO):
            def write(self, _: str) -> int:
                return 0

        return monitor.answer(Both(text), "device_add", {"id": "gpu"})

    def test_events_come_before_the_answer(self) -> None:
        self.assertEqual(self.said({"event": "RTC_CHANGE"}, {"return": {}}), "")

    def test_a_refusal_is_told_in_qemus_words(self) -> None:
        refusal = self.said({"error": {"class": "GenericError", "desc": "no bus"}})
        self.assertEqual(refusal, "device_add: no bus")

    def test_an_end_is_no_answer(self) -> None:
        self.assertEqual(self.said(), "device_add: QEMU hung up")
