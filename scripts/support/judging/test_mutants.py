"""Tests of mutants."""

import subprocess
import sys
import unittest

from .mutants import culprit, ends, worked


class Culprit(unittest.TestCase):
    """Which change a compiler's error is about."""

    TEXT = "A /*@3*/(match { 3 => { /*~3*/B/*~*/ } 4 => { /*~4*/ö/*~*/ } _ => { C } })/*@*/ D /* E */"

    def test_innermost_mark_tells(self) -> None:
        for part, expected in (
            ("A", None), ("B", 3), ("ö", 4), ("C", -3), ("D", None), ("E", None),
        ):
            at = len(self.TEXT[:self.TEXT.index(part)].encode())
            self.assertEqual(culprit(self.TEXT, at), expected, part)


class Ends(unittest.TestCase):
    """What does not end is told from what a busy host lets wait."""

    def end(self, code: str, most: float | None, still: float = 60) -> tuple[bool, float]:
        """Whether a program ends, and how long it worked."""
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            try:
                return ends(process.pid, most, still), worked(process.pid)
            finally:
                process.kill()

    def test_work_counts_and_not_the_time(self) -> None:
        ended, seconds = self.end("import time; time.sleep(0.5)", 0.4)
        self.assertTrue(ended)
        self.assertLess(seconds, 0.4)
        ended, seconds = self.end("while True: pass", 0.2)
        self.assertFalse(ended)
        self.assertGreater(seconds, 0.2)

    def test_who_waits_for_ever_does_not_end(self) -> None:
        self.assertFalse(self.end("import time; time.sleep(1000)", 100, still=0.5)[0])


if __name__ == "__main__":
    unittest.main()
