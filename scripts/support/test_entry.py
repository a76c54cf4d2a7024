"""What a user can cause ends in one line and a status, never in a traceback."""

import errno
import io
import resource
import subprocess
import tempfile
import unittest
from contextlib import redirect_stderr
from pathlib import Path
from unittest import mock

from support import entry, errors
from support.building import modules
from support.cache import write_atomically
from support.errors import Misused, Refused
from support.getting import bzimage
from support.running import scratch, session


def ended(error: BaseException) -> tuple[int, str]:
    """Status and words of a command in which this is raised."""
    def main(_: list[str]) -> int:
        raise error

    said = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with redirect_stderr(said), mock.patch("sys.stdout", io.TextIOWrapper(io.BytesIO())):
        try:
            entry.run(main)
        except SystemExit as end:
            assert isinstance(said.buffer, io.BytesIO)
            return int(str(end.code)), said.buffer.getvalue().decode()


class Ends(unittest.TestCase):
    """How a command ends."""

    def test_status_tells_a_wrong_command_line_from_what_cannot_be_had(self) -> None:
        self.assertEqual(ended(Refused("no network")), (1, "error: no network\n"))
        self.assertEqual(ended(Misused("no such size")), (2, "error: no such size\n"))
        self.assertEqual(ended(KeyboardInterrupt()), (130, ""))

    def test_what_is_refused_of_the_command_line_is_its_misuse(self) -> None:
        with self.assertRaisesRegex(Misused, "no such file"), errors.misuse():
            raise Refused("no such file")

    def test_error_of_the_system_names_the_thing(self) -> None:
        error = PermissionError(errno.EACCES, "Permission denied", "/there")
        self.assertEqual(ended(error), (1, "error: /there: Permission denied\n"))
        failed = subprocess.CalledProcessError(1, ["strip", "x"], stderr="strip: no room\n")
        self.assertEqual(ended(failed), (1, "error: strip failed: strip: no room\n"))

    def test_full_disk_names_the_file_and_where_there_is_room(self) -> None:
        with self.assertRaises(OSError) as raised, errors.writing(Path("logs")):
            raise OSError(errno.ENOSPC, "No space left on device")
        status, said = ended(raised.exception)
        self.assertEqual(status, 1)
        self.assertRegex(said, "error: logs: No space left on device; free space: .* MiB in the")

    def test_file_that_cannot_be_written_to_its_end_is_named_and_not_there(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
            try:
                with self.assertRaises(OSError) as raised:
                    write_atomically(Path(name) / "report.json", "x" * 10000)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            self.assertIn("report.json: File too large", ended(raised.exception)[1])
            self.assertFalse((Path(name) / "report.json").exists())


class Brought(unittest.TestCase):
    """What a user brings and is not what it should be."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="presil-test-")
        self.addCleanup(place.cleanup)
        self.place = Path(place.name)

    def test_broken_compressed_module_is_named(self) -> None:
        for suffix in (".xz", ".zst"):
            path = self.place / f"gpu.ko{suffix}"
            path.write_bytes(b"not this")
            with self.assertRaisesRegex(Refused, str(path)):
                modules.decompressed(path, ["false"])

    def test_broken_kernel_image_is_refused(self) -> None:
        for payload in (b"\xfd7zXZ\0x", b"\x1f\x8bx", b"\x1f\x8b\x08\0\0\0\0\0\0\3\3"):
            with self.assertRaisesRegex(Refused, "does not unpack"):
                bzimage.decompress(payload, [])
        for image in (b"", b"\0" * 0x202 + b"HdrS", b"\0" * 0x202 + b"HdrS" + b"\0" * 0x100):
            with self.assertRaises(Refused):
                bzimage.release(image)

    def server(self, text: str) -> Path:
        """A stand-in for the model's server."""
        path = self.place / "presil"
        path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
        path.chmod(0o755)
        return path

    def test_gpu_that_cannot_be_is_a_wrong_command_line(self) -> None:
        guest = session.Guest("demo", vram="3.3G")
        for does, refusal in [
            ("echo \"error: '3.3G' is not a size\" >&2; exit 2", "^'3.3G' is not a size"),
            ("echo Run a GPU and wait for QEMU.", "--vram-seed 1: no options"),
        ]:
            with self.assertRaisesRegex(Misused, refusal):
                session.check_board(self.server(does), guest)
        with self.assertRaises(Refused) as raised:
            session.check_board(self.server("kill -SEGV $$"), guest)
        self.assertNotIsInstance(raised.exception, Misused)

    def test_sockets_are_not_where_qemu_could_not_be_told(self) -> None:
        for name in ("two\nlines", "gr\udcfcn"):
            with mock.patch.object(tempfile, "tempdir", str(self.place / name)):
                self.assertEqual(scratch.for_sockets(), Path("/tmp"))


if __name__ == "__main__":
    unittest.main()
