"""Results are counted, written as JUnit and read from what test runners write."""

import tempfile
import unittest
from pathlib import Path
from typing import Any

from support.errors import Refused
from support.judging import host_tests, unittests
from support.judging.results import Result, Results, read_junit
from support.reporting import junit
from support.running import session
from support.running.console import Transcript

NEXTEST = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2" failures="1" errors="0">
  <testsuite name="vidmm" tests="2">
    <testcase name="bo::tests::a" classname="vidmm" time="0.004"/>
    <testcase name="bo::tests::b" classname="vidmm" time="1.500">
      <failure message="thread &apos;b&apos; panicked at bo.rs:3" type="test failure">more</failure>
      <system-out>x</system-out>
    </testcase>
  </testsuite>
</testsuites>
"""
CARGO_TEST = """\
   Compiling vidmm v0.1.0 (/here/vidmm)
     Running unittests src/lib.rs (target/debug/deps/vidmm-0123456789abcdef)

running 3 tests
test bo::tests::a ... ok
test bo::tests::slow ... ignored, takes minutes
test bo::tests::b - should panic ... FAILED

failures:
    bo::tests::b

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/cli.rs (/elsewhere/deps/cli-fedcba9876543210)

running 1 test
test help ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.11s

   Doc-tests vidmm

running 1 test
test src/lib.rs - zones (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s
"""


def short(rows: list[Result]) -> list[tuple[str, str, bool]]:
    """Suite, name and whether it failed."""
    return [(row.suite, row.name, bool(row.problem)) for row in rows]


class Files(unittest.TestCase):
    """What is written and read."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="presil-test-")
        self.addCleanup(place.cleanup)
        self.file = Path(place.name) / "new/results.xml"

    def test_written_results_read_back_also_with_what_xml_cannot_have(self) -> None:
        rows = [Result("a", "one", seconds=1.5), Result("b", "two", problem="\x1b[1mred\0 <&\udcff"),
                Result("a", "three", skipped="no GPU")]
        Results(rows).write_junit(self.file)
        self.assertEqual(read_junit(self.file), [
            rows[0], rows[2], Result("b", "two", problem="?[1mred? <&?"),
        ])

    def test_nextests_results_are_read(self) -> None:
        self.file.parent.mkdir()
        self.file.write_text(NEXTEST, "utf-8")
        self.assertEqual(read_junit(self.file, "cargo."), [
            Result("cargo.vidmm", "bo::tests::a", seconds=0.004),
            Result("cargo.vidmm", "bo::tests::b", "thread 'b' panicked at bo.rs:3", seconds=1.5),
        ])

    def test_results_that_are_not_there_are_no_pass(self) -> None:
        with self.assertRaises(Refused):
            read_junit(self.file)
        bad = [Result("a", "b", problem="x")]
        for status, rows, problems in [(0, [], 1), (1, [Result("a", "b")], 1), (1, bad, 1),
                                       (0, [Result("a", "b")], 0)]:
            judged = host_tests.judged("tests", status, lambda rows=rows: rows)
            self.assertEqual(Results(judged).count()[1], problems)
        unread = host_tests.judged("tests", 0, lambda: read_junit(self.file))
        self.assertIn("no test results", unread[0].problem)

    def test_run_that_is_refused_is_in_its_junit_and_no_older_one(self) -> None:
        Results([Result("a", "old")]).write_junit(self.file)
        with self.assertRaises(Refused), junit.told(self.file):
            raise Refused("no network")
        self.assertEqual(short(read_junit(self.file)), [("scripts/run", "set-up", True)])
        with self.assertRaises(KeyboardInterrupt), junit.told(self.file):
            raise KeyboardInterrupt
        self.assertFalse(self.file.exists())


class CargoTest(unittest.TestCase):
    """What cargo's own runner prints."""

    def test_every_test_is_a_result_and_an_ignored_one_is_none(self) -> None:
        self.assertEqual(short(host_tests.of_libtest(CARGO_TEST.splitlines())), [
            ("cargo.vidmm", "bo::tests::a", False),
            ("cargo.vidmm", "bo::tests::b", True),
            ("cargo.cli", "help", False),
            ("cargo.vidmm.doc", "src/lib.rs - zones (line 3)", False),
        ])

    def test_line_that_a_program_tore_is_missed(self) -> None:
        torn = CARGO_TEST.replace("test help ... ok", "test help ... hello\nok")
        failed = [row for row in host_tests.of_libtest(torn.splitlines()) if row.problem]
        self.assertEqual(failed[1].problem, "1 tests were counted, 0 told")

    def test_examples_that_must_not_compile_are_counted_by_themselves(self) -> None:
        examples = '''   Doc-tests vidmm
running 1 test
test src/lib.rs - zones (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out

running 1 test
test src/sync.rs - lock (line 9) - compile fail ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out
'''
        rows = host_tests.of_libtest(examples.splitlines())
        self.assertEqual([row.problem for row in rows], ["", ""])


class Instructions(unittest.TestCase):
    """What the benchmark that counts instructions prints."""

    COUNTS = ["operation                       instructions  limit",
              "read TTBR                                 99    300",
              "translation, walk                        366    inf"]
    ABOVE = "write TTBR                               301    300  TOO MANY"

    def test_count_above_its_limit_is_named(self) -> None:
        self.assertEqual(host_tests.of_instructions(self.COUNTS, 0).problem, "")
        above = host_tests.of_instructions([*self.COUNTS, self.ABOVE], 101)
        self.assertEqual(above.problem, "more instructions than their limit: write TTBR")
        self.assertTrue(host_tests.of_instructions([self.ABOVE], 0).problem)

    def test_host_that_lets_nothing_be_counted_says_so(self) -> None:
        refused = host_tests.of_instructions(["not counted: ptrace is refused"], 0)
        self.assertEqual((refused.problem, refused.skipped), ("", "not counted: ptrace is refused"))

    def test_benchmark_that_ends_early_or_counts_nothing_has_failed(self) -> None:
        self.assertIn("101", host_tests.of_instructions(self.COUNTS, 101).problem)
        self.assertTrue(host_tests.of_instructions(self.COUNTS[:1], 0).problem)


class Python(unittest.TestCase):
    """The scripts' own tests, run as scripts/test runs them."""

    def test_every_test_is_a_result(self) -> None:
        class Sample(unittest.TestCase):
            def test_good(self) -> None:
                pass

            def test_parts(self) -> None:
                for number in range(3):
                    with self.subTest(number=number):
                        self.assertNotEqual(number, 1)

            def test_raises(self) -> None:
                raise OSError("no")

            @unittest.skip("not here")
            def test_skipped(self) -> None:
                pass

            @unittest.expectedFailure
            def test_unexpected(self) -> None:
                pass

        with tempfile.TemporaryDirectory(prefix="presil-test-") as place:
            file = Path(place) / "results.xml"
            tests = unittest.defaultTestLoader.loadTestsFromTestCase(Sample)
            with open("/dev/null", "w", encoding="ascii") as nowhere:
                self.assertFalse(unittests.run(tests, file, nowhere))
            rows = {row.name: row for row in read_junit(file)}
        self.assertEqual({name for name, row in rows.items() if row.problem},
                         {"test_parts", "test_raises", "test_unexpected"})
        self.assertEqual(rows["test_raises"].problem, "OSError: no")
        self.assertEqual(rows["test_skipped"].skipped, "not here")
        self.assertEqual(len(rows), 5)
        self.assertTrue(rows["test_good"].suite.endswith(".Sample"))


class Run(unittest.TestCase):
    """The checks of scripts/run."""

    def result(self, **fields: Any) -> Result:
        """A check as a result."""
        return junit.of_check("s", {"name": "a", "detail": "d", **fields})

    def test_check_is_a_result_with_its_detail(self) -> None:
        self.assertEqual(self.result(ok=True), Result("s", "a"))
        self.assertEqual(self.result(ok=False), Result("s", "a", problem="d"))
        not_run = Result("s", "a", skipped="not run: it hangs")
        self.assertEqual(self.result(not_run="it hangs"), not_run)
        skipped = Result("s", "a", skipped="small")
        self.assertEqual(self.result(skipped="small", announced=True), skipped)
        self.assertEqual(self.result(skipped="why"), Result("s", "a", problem="d"))

    def test_run_that_fails_has_a_failed_result_whatever_its_checks_say(self) -> None:
        from support.building.setup import Prepared

        prepared = Prepared(None, None, Path(), Path(), "kvm", {"kernel": "6.12"})  # type: ignore[arg-type]
        guest = session.Guest("demo")
        for checks, expired, failed in [
            ([{"name": "a", "ok": True}], False, 0), ([{"name": "a", "ok": True}], True, 1),
            ([{"name": "a", "not_run": "-"}], False, 1), ([], False, 1),
            ([{"name": "a", "ok": False}], False, 1),
        ]:
            outcome = session.Outcome(
                Transcript(), checks, {}, {}, expired, findings=[], last_lines=[]
            )
            self.assertEqual(junit.of_run(prepared, guest, outcome).count()[1], failed)


if __name__ == "__main__":
    unittest.main()
