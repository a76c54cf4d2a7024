"""Tests of the faults that scripts/broken-drivers makes, without building any."""

import tempfile
import unittest
from pathlib import Path

from support.cache import REPO
from support.errors import Refused
from support.judging import broken_drivers
from support.judging.broken_drivers import FAULTS, Fault

A = Fault("a", "", "file", "one\n", "two\n", ("copy ",))


class BrokenDrivers(unittest.TestCase):
    def test_every_fault_has_its_place_in_the_driver(self) -> None:
        for fault in FAULTS:
            with self.subTest(fault.name):
                text = (REPO / fault.file).read_text("utf-8")
                self.assertNotEqual(broken_drivers.edited(text, fault), text)

    def test_a_place_that_is_gone_or_not_the_only_one_is_refused(self) -> None:
        self.assertEqual(broken_drivers.edited("one\nx\n", A), "two\nx\n")
        for text in ("x\n", "one\none\n"):
            with self.assertRaises(Refused):
                broken_drivers.edited(text, A)

    def test_a_fault_is_noticed_by_the_check_that_has_to(self) -> None:
        for failed, good in ([], False), (["fill x"], False), (["fill x", "copy y"], True):
            self.assertEqual(broken_drivers.verdict(A, failed)[0], good, failed)

    def test_what_nothing_notices_yet_is_told_when_something_does(self) -> None:
        hidden = Fault("b", "", "file", "one", "two", ())
        self.assertTrue(broken_drivers.verdict(hidden, [])[0])
        self.assertFalse(broken_drivers.verdict(hidden, ["copy y"])[0])

    def test_the_rules_that_found_something_are_named(self) -> None:
        checks = [{"name": "copy x", "ok": False}, {"name": "fill", "ok": True},
                  {"name": "driver checker", "ok": False}]
        gpu = {"reports": [{"rule": 50002}, {"rule": 10001}, {"rule": 10001}]}
        self.assertEqual(broken_drivers.names({"checks": checks, "driver_checker": [gpu]}),
                         ["driver checker (10001 50002)", "copy x"])
        self.assertEqual(broken_drivers.names({"checks": checks[:2]}), ["copy x"])

    def test_names_that_are_not_there_are_refused(self) -> None:
        self.assertEqual(broken_drivers.named([]), FAULTS)
        self.assertEqual(broken_drivers.named([FAULTS[1].name]), FAULTS[1:2])
        with self.assertRaises(Refused):
            broken_drivers.named(["frobnicate"])

    def test_what_nobody_notices_is_in_the_documentation(self) -> None:
        text = (REPO / "docs/bring-your-driver.md").read_text("utf-8")
        _, _, section = text.partition("Not noticed yet")
        for fault in FAULTS:
            if not fault.noticed_by:
                self.assertIn(fault.name, section)

    def test_a_copy_follows_its_checkout_and_leaves_what_is_alike(self) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            root, tree = Path(scratch) / "root", Path(scratch) / "tree"
            (root / "target").mkdir(parents=True)
            (root / "target/built").write_text("no")
            for name in "abc":
                (root / name).write_text(name)
            broken_drivers.refresh(tree, root)
            before = (tree / "a").stat().st_mtime_ns
            (root / "b").write_text("new")
            (root / "c").unlink()
            broken_drivers.refresh(tree, root)
            self.assertEqual(sorted(map(str, broken_drivers.sources(tree))), ["a", "b"])
            self.assertEqual((tree / "b").read_text(), "new")
            self.assertEqual((tree / "a").stat().st_mtime_ns, before)
