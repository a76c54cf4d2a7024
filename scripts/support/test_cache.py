"""What the cache keeps and what it makes again."""

import os
import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from support.cache import Cache, locked
from support.errors import Refused
from support.progress import Progress


NOBODY = 65534


@contextmanager
def somebody_else() -> Iterator[None]:
    """As a user who owns nothing here; root would be stopped by no permission."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if before == 0:
            os.seteuid(before)


@contextmanager
def read_only(root: Path) -> Iterator[None]:
    """A tree of directories into which nobody may write."""
    directories = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for path in directories:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in directories:
            path.chmod(0o755)


class TestCache(unittest.TestCase):
    """Entries with a file that holds their own path."""

    def entry(self, root: Path, key: str) -> str:
        """The entry `tool` of the cache at `root`; says for which path it was made."""
        with mock.patch.dict("os.environ", {"PRESIL_CACHE": str(root)}):
            cache = Cache(Progress())

        def make(into: Path) -> None:
            (into / "path").write_text(f"{key} {into}", "utf-8")

        return (cache.entry("tool", key, make) / "path").read_text("utf-8")

    def test_an_entry_is_made_once_for_its_key(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch).resolve() / "cache"
            self.assertEqual(self.entry(root, "a"), f"a {root}/tool")
            (root / "tool/path").write_text("kept", "utf-8")
            self.assertEqual(self.entry(root, "a"), "kept")
            self.assertEqual(self.entry(root, "b"), f"b {root}/tool")

    def test_an_entry_of_a_cache_that_was_moved_is_made_again(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            old, new = Path(scratch).resolve() / "old", Path(scratch).resolve() / "new"
            self.entry(old, "a")
            old.rename(new)
            self.assertEqual(self.entry(new, "a"), f"a {new}/tool")

    def test_warm_cache_of_another_user_works_and_what_it_lacks_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            Path(scratch).chmod(0o755)
            root = Path(scratch).resolve() / "cache"
            for locked_before in (False, True):
                self.entry(root, "a")
                with read_only(root), somebody_else():
                    with locked(root, Progress()):
                        self.assertEqual(self.entry(root, "a"), f"a {root}/tool")
                    with self.assertRaisesRegex(Refused, f"{root}/tool.*PRESIL_CACHE names"):
                        self.entry(root, "b")
                if not locked_before:
                    with locked(root, Progress()):
                        pass


if __name__ == "__main__":
    unittest.main()
