"""The initramfs is a newc archive that other tools would read."""

import tempfile
import unittest
from pathlib import Path

from support.building import guest_image
from support.building.cpio import Archive

HEADER_BYTES = 110


def entries(data: bytes) -> list[tuple[str, int, bytes]]:
    """Name, mode and content of each entry, read by the format's description."""
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while True:
        assert data[at : at + 6] == b"070701", f"no magic at {at}"
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + HEADER_BYTES : at + HEADER_BYTES + name_size - 1].decode()
        start = (at + HEADER_BYTES + name_size + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, data[start : start + size]))
        at = (start + size + 3) // 4 * 4


class Cpio(unittest.TestCase):
    """What goes in comes out."""

    def test_contents_survive_at_every_alignment(self) -> None:
        archive = Archive()
        for size in range(9):
            archive.file("f" * (size + 1), bytes(range(size)))
        read = {name: data for name, _, data in entries(archive.finish())}
        self.assertEqual(read, {"f" * (size + 1): bytes(range(size)) for size in range(9)})

    def test_directories_come_before_what_is_in_them_and_once(self) -> None:
        archive = Archive()
        archive.file("a/b/one", b"1")
        archive.link("a/b/two", "one")
        names = [name for name, _, _ in entries(archive.finish())]
        self.assertEqual(names, ["a", "a/b", "a/b/one", "a/b/two"])

    def test_modes_tell_directory_program_file_and_link_apart(self) -> None:
        archive = Archive()
        archive.file("d/program", b"", executable=True)
        archive.file("d/file", b"")
        archive.link("d/link", "file")
        modes = [mode for _, mode, _ in entries(archive.finish())]
        self.assertEqual(modes, [0o040755, 0o100755, 0o100644, 0o120777])


class Guests(unittest.TestCase):
    """What every guest has."""

    def test_every_guest_can_ask_the_model(self) -> None:
        with tempfile.TemporaryDirectory(prefix="presil-test-") as scratch:
            userland = Path(scratch) / "busybox"
            userland.write_text("#!/bin/sh\necho stty\n", "utf-8")
            userland.chmod(0o755)
            image = guest_image.base(userland).finish()
        asks = [entry for entry in entries(image) if entry[0] == "bin/ask-model"]
        self.assertEqual([content for _, _, content in asks],
                         [(guest_image.GUEST / "ask-model").read_bytes()])
        self.assertEqual(asks[0][1] & 0o111, 0o111)


if __name__ == "__main__":
    unittest.main()
