"""A run's directory goes with the run, also with one that was killed."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from support.cache import REPO
from support.running import scratch

KILLED = """
import os, signal
from support.running import scratch
with scratch.directory() as name:
    print(name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Scratch(unittest.TestCase):
    """Each test has a directory of its own instead of /tmp."""

    def setUp(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="presil-test-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.base)
        patch = mock.patch.object(tempfile, "tempdir", str(self.base))
        patch.start()
        self.addCleanup(patch.stop)

    def test_directory_is_gone_after_its_block(self) -> None:
        with scratch.directory() as name:
            self.assertEqual(name.parent, self.base)
        self.assertEqual(list(self.base.iterdir()), [])

    def test_next_run_removes_what_a_killed_one_left(self) -> None:
        run = subprocess.run(
            [sys.executable, "-c", KILLED], env={"TMPDIR": str(self.base)},
            cwd=REPO / "scripts", capture_output=True, text=True, check=False,
        )
        left = Path(run.stdout.strip())
        self.assertTrue(left.is_dir())
        with scratch.directory():
            self.assertFalse(left.exists())

    def test_directory_of_a_run_that_lives_stays(self) -> None:
        with scratch.directory() as first, scratch.directory():
            self.assertTrue(first.is_dir())

    def test_long_temporary_directory_is_not_used_for_sockets(self) -> None:
        with mock.patch.object(tempfile, "tempdir", str(self.base / ("x" * 90))):
            with scratch.directory() as name:
                self.assertEqual(name.parent, Path("/tmp"))


if __name__ == "__main__":
    unittest.main()
