"""A disk that will not do is told before anything begins, and one that will is no complaint."""

import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from support import room
from support.errors import Refused


class Check(unittest.TestCase):
    """What is asked before a command begins."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="presil-test-")
        self.addCleanup(scratch.cleanup)
        self.target = Path(scratch.name) / "target"
        cache = mock.patch.dict(os.environ, {"PRESIL_CACHE": f"{scratch.name}/cache"})
        cache.start()
        self.addCleanup(cache.stop)

    def check(self, free_gib: float, taken_gib: float = 0.0) -> None:
        """Ask for 3 GiB of target and 1 of cache."""
        def taken(directory: Path) -> int:
            return int(taken_gib * room.GIB) if directory == self.target else 0

        with (
            mock.patch.object(room, "free_bytes", return_value=int(free_gib * room.GIB)),
            mock.patch.object(room, "taken_bytes", taken),
        ):
            room.check("scripts/test", self.target, (3.0, 1.0))

    def test_too_little_is_refused_with_what_is_there_and_what_is_needed(self) -> None:
        with self.assertRaisesRegex(Refused, r"2\.5 GiB of disk are free for .*/target and .*/cache;"
                                             r" scripts/test needs 4\.2 GiB more \(4\.0 GiB in all"):
            self.check(2.5)
        self.check(4.3)

    def test_what_is_there_already_is_not_needed_again(self) -> None:
        self.check(1.5, taken_gib=3.0)
        self.check(1.5, taken_gib=20.0)
        with self.assertRaisesRegex(Refused, "needs 1.2 GiB more"):
            self.check(1.0, taken_gib=3.0)

    def test_files_count_by_the_blocks_they_take_and_once(self) -> None:
        self.target.mkdir()
        self.assertEqual(room.taken_bytes(self.target), 0)
        (self.target / "a").write_bytes(bytes(1 << 20))
        (self.target / "b").hardlink_to(self.target / "a")
        with open(self.target / "sparse", "wb") as sparse:
            sparse.truncate(room.GIB)
        self.assertAlmostEqual(room.taken_bytes(self.target), 1 << 20, delta=1 << 16)
        self.assertEqual(room.taken_bytes(self.target / "nowhere"), 0)


if __name__ == "__main__":
    unittest.main()
