"""What the cache keeps and what it makes again."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

from .cache import Cache
from .progress import Progress


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


if __name__ == "__main__":
    unittest.main()
