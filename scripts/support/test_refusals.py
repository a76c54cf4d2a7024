"""What our commands refuse before they build anything: one line, an exit status, no traceback."""

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

    def refusal(self, *arguments: str | bytes, status: int = 1, **environment: str) -> str:
        """The error line of a run that must be refused."""
        return self.refusal_of("run", *arguments, status=status, **environment)

    def refusal_of(
        self, name: str, *arguments: str | bytes, status: int, stdout: int = subprocess.PIPE,
        **environment: str,
    ) -> str:
        """The error line of one of our commands that must be refused."""
        private = {"PRESIL_CACHE": str(self.scratch / "cache")}
        run = subprocess.run(
            [sys.executable, REPO / "scripts" / name, *arguments],
            env={**os.environ, **private, **environment}, stdin=subprocess.DEVNULL,
            stdout=stdout, stderr=subprocess.PIPE, text=True, errors="replace", check=False,
            timeout=120,
        )
        self.assertEqual(run.returncode, status, run.stderr)
        self.assertNotIn("Traceback", run.stderr)
        errors = [line for line in run.stderr.splitlines() if "error: " in line]
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
            error = self.refusal(option, "nowhere/x.ko", "--", "--chip", "2020", status=2)
            self.assertEqual(error, f"error: {option} nowhere/x.ko: no such file")
        script = self.program("hello")
        error = self.refusal("--guest-exec", script, "--modules", "nowhere", status=2)
        self.assertEqual(error, "error: --modules nowhere: no such directory")

    def test_half_of_a_users_kernel_is_refused(self) -> None:
        qemu = self.program("QEMU emulator version 11.1.3")
        error = self.refusal(PRESIL_QEMU=qemu, PRESIL_KERNEL="/nonexistent/bzImage")
        self.assertIn("PRESIL_HEADERS", error)

    def path_with(self, **programs: str) -> str:
        """A PATH on which these programs, shell scripts, come first."""
        place = self.scratch / "bin"
        place.mkdir()
        for name, text in programs.items():
            (place / name).write_text(f"#!/bin/sh\n{text}\n", "utf-8")
            (place / name).chmod(0o755)
        return f"{place}:{os.environ['PATH']}"

    def test_rust_that_is_too_old_is_told_before_anything_is_fetched(self) -> None:
        old = "rustc 1.85.0 (4d91de4e4 2025-02-17) (built from a source tarball)"
        path = self.path_with(rustc=f"echo '{old}'", cargo="echo built >&2; exit 1")
        for name in ("run", "test", "bench"):
            error = self.refusal_of(name, status=1, PATH=path, PRESIL_DEBIAN_MIRROR=NOBODY_LISTENS)
            self.assertRegex(error, "/bin/rustc is rustc 1.85.0, 1.95 or newer .* install rustup")

    def test_rust_that_does_not_run_and_a_compiler_without_libc_are_told(self) -> None:
        path = self.path_with(rustc="exit 1")
        self.assertIn("exit status 1; get Rust by rustup", self.refusal(PATH=path))
        (self.scratch / "bin/rustc").unlink()
        broken = "echo 'ld: cannot find Scrt1.o: No such file' >&2; exit 1"
        (self.scratch / "bin/cc").write_text(f"#!/bin/sh\n{broken}\n", "utf-8")
        (self.scratch / "bin/cc").chmod(0o755)
        error = self.refusal(PATH=path)
        self.assertIn("Scrt1.o: No such file; install: build-essential", error)

    def test_wrong_command_lines_end_with_2(self) -> None:
        for name, *arguments in (
            ["run", "--no-such"], ["run", "--timeout", "0"], ["run", "--modules", "nowhere"],
            ["run", "--guest-file", "nowhere"], ["bench", "--runs", "0"], ["bench", "--doo", "x"],
            ["test", "--case", "("], ["test", "--case", "no such"], ["test", "--kernel", "x"],
            ["test", "--quick", "--case", "demo"],
        ):
            with self.subTest(name, arguments=arguments):
                self.refusal_of(name, *arguments, status=2)

    def test_fuzz_takes_a_target_that_is_there_and_seconds(self) -> None:
        for arguments in ([], ["ring"], ["ring", "1s"], ["ring", "0"], ["nowhere", "1"]):
            run = subprocess.run(
                [REPO / "scripts/fuzz", *arguments], capture_output=True, text=True, check=False
            )
            self.assertEqual((run.returncode, run.stdout), (2, ""), arguments)
            self.assertIn("scripts/fuzz TARGET SECONDS", run.stderr)

    def test_mutants_takes_files_of_vidmm(self) -> None:
        for argument in ("README.md", "guest-driver/vidmm/src/no_such.rs"):
            run = subprocess.run(
                [REPO / "scripts/mutants", argument], capture_output=True, text=True, check=False
            )
            self.assertEqual((run.returncode, run.stdout), (2, ""), argument)
            self.assertIn(f"{argument}: no file of guest-driver/vidmm/src", run.stderr)

    def test_places_that_cannot_be_are_named(self) -> None:
        nowhere = "/dev/null/here"
        for error in (
            self.refusal(PRESIL_CACHE=nowhere),
            self.refusal(CARGO_TARGET_DIR=nowhere),
            self.refusal("--keep-logs", nowhere),
        ):
            self.assertIn(nowhere, error)
            self.assertIn("Not a directory", error)

    def test_full_standard_output_is_told(self) -> None:
        with open("/dev/full", "w", encoding="ascii") as full:
            error = self.refusal_of("test", "--list", status=1, stdout=full.fileno())
        self.assertRegex(error, "No space left on device; free space: .* MiB in the checkout")

    def test_reader_that_stops_early_is_no_traceback(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        run = subprocess.run(
            [sys.executable, REPO / "scripts/test", "--list"], stdout=writing,
            stderr=subprocess.PIPE, text=True, check=False,
        )
        os.close(writing)
        self.assertEqual((run.returncode, run.stderr), (1, ""))

    def test_names_that_are_no_text_are_told(self) -> None:
        error = self.refusal("--module", b"gr\xfcn.ko", status=2)
        self.assertEqual(error, "error: --module gr\\udcfcn.ko: no such file")
        cache = os.fsdecode(os.fsencode(self.scratch) + b"/gr\xfcn")
        self.assertIn("is no UTF-8", self.refusal(PRESIL_CACHE=cache))


if __name__ == "__main__":
    unittest.main()
