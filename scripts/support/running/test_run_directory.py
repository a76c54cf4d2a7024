"""Every run has its own directory, and the last one's is found under a name that stays."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support.cache import REPO
from support.errors import Refused
from support.progress import Progress
from support.running import run_directory, scratch

REPORTS = """
import sys
from pathlib import Path
from support.running import run_directory
from support.progress import Progress
with run_directory.fresh(Progress(), Path(sys.argv[1])) as own:
    print(own, flush=True)
    sys.stdin.readline()
    (own / "report.json").write_text(own.name)
"""


class RunDirectory(unittest.TestCase):
    """Each test has a place of its own instead of target/run."""

    def setUp(self) -> None:
        place = tempfile.TemporaryDirectory(prefix="presil-test-")
        self.addCleanup(place.cleanup)
        self.runs = Path(place.name) / "run"

    def run_once(self, report: str | None) -> Path:
        """A run that ends with this report, or without one."""
        with run_directory.fresh(Progress(), self.runs) as own:
            self.assertFalse((self.runs / "report.json").exists(), "no report of another run")
            if report is not None:
                (own / "report.json").write_text(report, "utf-8")
        return own

    def latest_report(self) -> str:
        """What a program reads that knows the name which stays."""
        return (self.runs / "report.json").read_text("utf-8")

    def test_two_runs_at_once_have_their_own_reports(self) -> None:
        def start() -> "subprocess.Popen[str]":
            return subprocess.Popen(
                [sys.executable, "-c", REPORTS, str(self.runs)], cwd=REPO / "scripts", text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )

        with start() as one, start() as two:
            assert one.stdout and two.stdout
            places = [Path(run.stdout.readline().strip()) for run in (one, two) if run.stdout]
            for run in (two, one):
                run.communicate("\n")
        self.assertEqual({place.name for place in places}, {"1", "2"})
        for place in places:
            self.assertEqual((place / "report.json").read_text("utf-8"), place.name)
        self.assertEqual(self.latest_report(), "2")

    def test_failed_run_does_not_show_the_report_of_the_one_before(self) -> None:
        self.run_once("good")
        self.assertEqual(self.latest_report(), "good")
        self.run_once(None)
        self.assertFalse((self.runs / "report.json").exists())
        self.assertEqual((self.runs / "latest").resolve().name, "2")

    def test_last_ten_are_kept_and_one_that_still_runs(self) -> None:
        with run_directory.fresh(Progress(), self.runs) as first:
            for number in range(12):
                self.run_once(str(number))
            kept = sorted(int(p.name) for p in self.runs.iterdir() if p.name.isdecimal())
            self.assertEqual(kept, [1, *range(4, 14)])
            self.assertTrue(first.is_dir())
        self.run_once("last")
        self.assertFalse(first.exists())

    def test_report_of_an_older_presil_becomes_a_link(self) -> None:
        self.runs.mkdir()
        (self.runs / "report.json").write_text("old", "utf-8")
        self.run_once("new")
        self.assertEqual(self.latest_report(), "new")

    def test_given_directory_is_one_runs_and_without_old_results(self) -> None:
        given = self.runs / "logs"
        given.mkdir(parents=True)
        for name in ("report.json", "console.log", "mine.txt"):
            (given / name).write_text("old", "utf-8")
        with run_directory.given(given):
            names = {path.name for path in given.iterdir()}
            self.assertEqual(names, {".presil-lock", "mine.txt"})
            with self.assertRaisesRegex(Refused, "another run"), run_directory.given(given):
                pass
        with run_directory.given(given):
            pass


class Kept(unittest.TestCase):
    """What a run starts is not changed by a build for another one."""

    def test_kept_file_stays_when_the_original_is_replaced(self) -> None:
        with tempfile.TemporaryDirectory(prefix="presil-test-") as name:
            original, parts = Path(name) / "vmlinux", Path(name) / "parts"
            parts.mkdir()
            original.write_text("one", "utf-8")
            kept = scratch.keep(original, parts)
            original.unlink()
            original.write_text("two", "utf-8")
            self.assertEqual(kept.read_text("utf-8"), "one")
            self.assertEqual(scratch.keep(original, parts).read_text("utf-8"), "two")


if __name__ == "__main__":
    unittest.main()
