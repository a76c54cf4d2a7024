"""Tests of time limits that a busy host does not use up, with a /proc of our own."""

import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from support.running import patience
from support.running.patience import Clock


class Fake:
    """A /proc and a clock."""

    def __init__(self, root: str) -> None:
        self.proc = Path(root)
        self.moment = 100.0

    def process(self, process: int, parent: int, name: str = "qemu") -> None:
        directory = self.proc / str(process)
        directory.mkdir()
        (directory / "stat").write_text(f"{process} ({name}) S {parent} 0 0\n")

    def thread(self, process: int, thread: int, waited: float) -> None:
        directory = self.proc / f"{process}/task/{thread}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "schedstat").write_text(f"12345 {int(waited * 1e9)} 7\n")

    def clock(self, *roots: int) -> Clock:
        return Clock(list(roots), self.proc, lambda: self.moment)


class Patience(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.fake = Fake(scratch.name)
        self.fake.process(10, 1, "timeout")
        self.fake.process(11, 10, "a ) b (")
        self.fake.process(20, 1)
        for process in (10, 11, 20):
            self.fake.thread(process, process, 5.0)

    def test_who_runs_or_sleeps_uses_its_time(self) -> None:
        clock = self.fake.clock(10)
        self.fake.moment += 3
        self.assertAlmostEqual(clock.tick(), 3)

    def test_who_waits_for_a_processor_does_not(self) -> None:
        clock = self.fake.clock(10)
        self.fake.moment += 3
        self.fake.thread(11, 11, 7.0)  # a child, two seconds more
        self.assertAlmostEqual(clock.tick(), 1)
        self.fake.moment += 3
        self.assertAlmostEqual(clock.tick(), 4)

    def test_the_most_hindered_thread_counts_once(self) -> None:
        clock = self.fake.clock(10, 20)
        self.fake.moment += 3
        for process, thread, waited in ((11, 11, 6.0), (20, 20, 7.0), (20, 21, 1.5)):
            self.fake.thread(process, thread, waited)
        self.assertAlmostEqual(clock.tick(), 1)

    def test_a_stranger_does_not_count(self) -> None:
        clock = self.fake.clock(10)
        self.fake.moment += 3
        self.fake.thread(20, 20, 50.0)
        self.assertAlmostEqual(clock.tick(), 3)

    def test_more_waiting_than_time_is_no_time(self) -> None:
        clock = self.fake.clock(10)
        self.fake.moment += 1
        self.fake.thread(11, 11, 9.0)
        self.assertEqual(clock.tick(), 0)

    def test_a_kernel_that_does_not_tell_lets_all_time_count(self) -> None:
        for path in self.fake.proc.glob("*/task/*/schedstat"):
            path.unlink()
        clock = self.fake.clock(10)
        self.fake.moment += 3
        self.assertAlmostEqual(clock.tick(), 3)

    def test_there_is_an_end_also_for_who_only_waits(self) -> None:
        clock = self.fake.clock(10)
        for step in range(1, 10 * patience.AT_MOST + 1):
            self.fake.moment += 1
            self.fake.thread(11, 11, 5.0 + step)
            self.assertEqual(clock.is_over(10), step == 10 * patience.AT_MOST)
        self.assertEqual(clock.seconds, 0)

    def test_a_program_that_hangs_is_found(self) -> None:
        for code in ("import time; time.sleep(1000)", "while True: pass"):
            with subprocess.Popen([sys.executable, "-c", code], text=True) as process:
                self.assertIsNone(patience.wait(process, 0.2))
                self.assertIsNone(patience.communicate(process, 0.2))
            self.assertEqual(process.returncode, -9)

    def test_what_a_program_says_comes_whole(self) -> None:
        code = "import time; print('one', flush=True); time.sleep(0.2); print('two')"
        with subprocess.Popen(
            [sys.executable, "-c", code], text=True, stdout=subprocess.PIPE
        ) as process:
            self.assertEqual(patience.communicate(process, 1000), ("one\ntwo\n", None))

    def test_a_block_that_ends_in_time_is_left_alone(self) -> None:
        called = threading.Event()
        with patience.limit(1000, [], lambda _clock: called.set()):
            pass
        self.assertFalse(called.is_set())
        with patience.limit(0.01, [], lambda _clock: called.set()):
            called.wait()
