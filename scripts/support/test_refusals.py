"""What scripts/run refuses before it builds anything: one line, exit status 1, nothing left behind."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support.cache import REPO

NOBODY_LISTENS = "http://127.0.0.1:1/debian"


class Refusals(unittest.TestCase):
    """Each case runs the command as a user would."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="presil-test-")
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)

    def refusal(self, *arguments: str, **environment: str) -> str:
        """The error line of a run that must be refused."""
        run = subprocess.run(
            [sys.executable, REPO / "scripts/run", *arguments],
            env={**os.environ, "PRESIL_CACHE": str(self.scratch / "cache"), **environment},
            capture_output=True, text=True, check=False, timeout=120,
        )
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertNotIn("Traceback", run.stderr)
        errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, run.stderr)
        return errors[0]

    def program(self, text: str) -> str:
        """A stand-in for a program that prints `text`."""
        path = self.scratch / "program"
        path.write_text(f"#!/bin/sh\necho '{text}'\n", "utf-8")
        path.chmod(0o755)
        return str(path)

    def test_a_qemu_that_is_too_old_is_named_with_the_version_that_is_needed(self) -> None:
        old = self.program("QEMU emulator version 10.0.2 (Debian)")
        error = self.refusal(PRESIL_QEMU=old)
        self.assertIn("10.0.2", error)
        self.assertIn("11.1", error)

    def test_a_qemu_that_is_none_is_refused(self) -> None:
        error = self.refusal(PRESIL_QEMU=self.program("hello"))
        self.assertIn("PRESIL_QEMU", error)

    def test_an_unreachable_mirror_is_one_clear_line(self) -> None:
        error = self.refusal(PRESIL_DEBIAN_MIRROR=NOBODY_LISTENS)
        self.assertIn(NOBODY_LISTENS, error)

    def test_a_cache_path_that_kbuild_cannot_take_is_refused(self) -> None:
        error = self.refusal(PRESIL_CACHE=str(self.scratch / "with blank"))
        self.assertIn("blank", error)

    def test_what_a_user_brings_and_is_not_there_is_named_with_its_option(self) -> None:
        for option in ("--module", "--guest-exec", "--kernel-image"):
            error = self.refusal(option, "nowhere/x.ko", "--", "--chip", "2020")
            self.assertEqual(error, f"error: {option} nowhere/x.ko: no such file")
        script = self.program("hello")
        error = self.refusal("--guest-exec", script, "--modules", "nowhere")
        self.assertEqual(error, "error: --modules nowhere: no such directory")

    def test_half_of_a_users_kernel_is_refused(self) -> None:
        qemu = self.program("QEMU emulator version 11.1.3")
        error = self.refusal(PRESIL_QEMU=qemu, PRESIL_KERNEL="/nonexistent/bzImage")
        self.assertIn("PRESIL_HEADERS", error)


if __name__ == "__main__":
    unittest.main()
