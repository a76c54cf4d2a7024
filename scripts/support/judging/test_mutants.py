"""Tests of mutants."""

import unittest

from .mutants import culprit


class Culprit(unittest.TestCase):
    """Which change a compiler's error is about."""

    TEXT = "A /*@3*/(match { 3 => { /*~3*/B/*~*/ } 4 => { /*~4*/ö/*~*/ } _ => { C } })/*@*/ D /* E */"

    def test_innermost_mark_tells(self) -> None:
        for part, expected in (
            ("A", None), ("B", 3), ("ö", 4), ("C", -3), ("D", None), ("E", None),
        ):
            at = len(self.TEXT[:self.TEXT.index(part)].encode())
            self.assertEqual(culprit(self.TEXT, at), expected, part)


if __name__ == "__main__":
    unittest.main()
