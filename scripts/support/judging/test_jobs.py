"""What runs in virtual machines: several at once, none lost, none left behind."""

import os
import tempfile
import time
import unittest
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from support.building import module
from support.errors import Refused
from support.judging import bring_up, jobs, lifecycle, mistakes, suite
from support.judging.jobs import Job
from support.judging.results import Result
from support.progress import Progress, Silent

PREPARED: Any = SimpleNamespace(
    versions={"kernel": "6.12"},
    kernel=SimpleNamespace(
        origin="stable", release="6.12", vmlinux=Path("/k/vmlinux"), needs=[Path("/k/m/drm.ko")]
    ),
)


class Run(unittest.TestCase):
    """Jobs, each in a process of its own."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory(prefix="presil-test-")
        self.addCleanup(scratch.cleanup)
        self.logs = Path(scratch.name)

    def run_all(self, *wanted: Job, limit: int = 2) -> list[Result]:
        """Their results."""
        return jobs.run(Silent(), wanted, PREPARED, self.logs, limit)

    def meeting(self, name: str, other: str, also: str = "") -> Job:
        """A job that ends only when the other has begun: two of them must run at once."""
        def meet(_: object, directory: Path) -> list[Result]:
            (directory.parent.parent / f"{name}-is-here").touch()
            while not (directory.parent.parent / f"{other}-is-here").exists():
                time.sleep(0.01)  # the suite's own time limit ends a job that waits for ever
            return [Result("s", name, also)]

        return Job(name, meet)

    def test_jobs_run_at_once_and_their_results_are_in_their_order(self) -> None:
        rows = self.run_all(self.meeting("a", "b"), self.meeting("b", "a", "it is wrong"))
        self.assertEqual([(row.name, row.problem) for row in rows], [("a", ""), ("b", "it is wrong")])

    def test_a_job_says_how_long_it_took(self) -> None:
        def sleep(_: object, __: Path) -> list[Result]:
            time.sleep(0.02)
            return [Result("s", "a")]

        (row,) = self.run_all(Job("a", sleep))
        self.assertGreaterEqual(row.seconds, 0.02)

    def test_no_more_than_allowed_run_at_once_and_long_ones_begin_first(self) -> None:
        order = self.logs / "order"

        def noted(name: str) -> Job:
            def note(_: object, directory: Path) -> list[Result]:
                for word in ("begins", "ends"):
                    with open(order, "a", encoding="ascii") as file:
                        file.write(f"{name} {word}\n")
                return [Result("s", name)]

            return Job(name, note, long=name == "b")

        shown = []

        class Seen(Silent):
            """Keeps which jobs were running."""

            def detail(self, text: str) -> None:
                shown.append(text)

        jobs.run(Seen(), [noted("a"), noted("b"), noted("c")], PREPARED, self.logs, 1)
        self.assertEqual(shown, ["0 of 3; b", "1 of 3; a", "2 of 3; c"])
        self.assertEqual(order.read_text("ascii").splitlines(),
                         [f"{name} {word}" for name in "bac" for word in ("begins", "ends")])

    def test_job_without_a_result_fails_whatever_it_did(self) -> None:
        def refused(*_: object) -> list[Result]:
            raise Refused("no such thing")

        def full(*_: object) -> list[Result]:
            raise OSError(28, "No space left on device", "console.log")

        rows = self.run_all(
            Job("dies", lambda *_: os._exit(0)), Job("says nothing", lambda *_: []),
            Job("is refused", refused), Job("finds no room", full),
            Job("passes", lambda *_: [Result("s", "passes")]),
        )
        self.assertEqual([row.name for row in rows if not row.problem], ["passes"])
        self.assertEqual(len(rows), 5)
        for row, said in zip(rows, ["ended without", "no result", "no such thing", "console.log: No space"]):
            self.assertIn(said, row.problem)

    def test_what_has_to_be_built_before_fails_those_that_need_it(self) -> None:
        asked = []

        def setup(*_: object) -> None:
            asked.append("setup")
            raise Refused("it does not build")

        good = [Result("s", "b")]
        needy = [Job(name, lambda *_: good, setup=setup) for name in "ac"]
        rows = self.run_all(needy[0], Job("b", lambda *_: good), needy[1])
        self.assertEqual([row.problem for row in rows],
                         ["it does not build", "", "it does not build"])
        self.assertEqual(asked, ["setup"])

    def test_jobs_end_with_who_started_them(self) -> None:
        def ends(_: object, directory: Path) -> list[Result]:
            try:
                (directory / "began").touch()
                while True:
                    time.sleep(1)
            finally:
                (directory / "ended").touch()

        class Stopped(Progress):
            """A Ctrl-C when both have begun."""

            def detail(self, text: str) -> None:
                while len(list(logs.glob("*/*/began"))) < 2 and "a, b" in text:
                    time.sleep(0.01)
                if "a, b" in text:
                    raise KeyboardInterrupt

        logs = self.logs
        from support.running.processes import stop_on_signals
        stop_on_signals()
        with redirect_stderr(StringIO()), self.assertRaises(KeyboardInterrupt):
            jobs.run(Stopped(), [Job("a", ends), Job("b", ends)], PREPARED, logs, 2)
        self.assertEqual(len(list(logs.glob("*/*/ended"))), 2)

    def test_as_many_at_once_as_there_are_cores_and_memory_and_always_one(self) -> None:
        for kilobytes, cores, wanted in [(64 << 20, 2, 2), (7 << 20, 8, 2), (1 << 20, 8, 1)]:
            file = self.logs / "meminfo"
            file.write_text(f"MemTotal: 9 kB\nMemAvailable:   {kilobytes} kB\n", "ascii")
            with (
                mock.patch.object(jobs, "MEMINFO", file),
                mock.patch.object(os, "sched_getaffinity", return_value=set(range(cores))),
            ):
                self.assertEqual(jobs.at_once(), wanted)


class Names(unittest.TestCase):
    """What --list shows and --case looks for."""

    def test_every_job_has_a_name_and_a_directory_of_its_own(self) -> None:
        names = [job.name for part in (suite, lifecycle, bring_up, mistakes) for job in part.jobs()]
        self.assertEqual(len(names), len({"".join(filter(str.isalnum, name)) for name in names}))
        self.assertIn("own driver: a module that oopses is called out", names)
        self.assertIn("scripts/run: Ctrl-C ends everything that was started", names)

    def test_other_kernels_run_what_a_kernel_can_change(self) -> None:
        again = {job.name for part in (suite, lifecycle, bring_up, mistakes) for job in part.jobs()
                 if not job.once}
        for door in ("vhost-user", "vfio-user"):
            for case in ("demo", "selftest", "driver reloaded 20 times"):
                self.assertIn(f"{door}: {case}", again)
        for case in ("vfio-user: removal, resets and sleep, idle and in use",
                     "vfio-user: behind a virtual IOMMU", "vhost-user: init_on_alloc=0",
                     "vhost-user: retbleed=unret", "vhost-user: retbleed=stuff",
                     "vhost-user: reboot, then everything again",
                     "own driver: a PCI driver written from docs/ gets its first fence"):
            self.assertIn(case, again)

    def test_planted_oops_warning_and_hang_are_found_on_a_guest(self) -> None:
        shown = {trial.name: (trial.status, trial.shows) for trial in bring_up.trials()}
        for name, status, words in [
            ("a module that oopses is called out", 1, "oops: BUG"),
            ("a module that WARNs is called out", 1, "warning: WARNING"),
            ("a script that hangs is stopped at the limit, a stuck task called out", 124, "hung task"),
        ]:
            self.assertEqual(shown[name][0], status)
            self.assertIn(words, shown[name][1])

    def test_trial_is_called_with_the_files_that_it_names(self) -> None:
        trials = {trial.name: trial for trial in bring_up.trials()}
        with tempfile.TemporaryDirectory(prefix="presil-test-") as name:
            directory = Path(name)
            built = module.target_directory() / "kmod/6.12/pci-module"
            for trial in trials.values():
                if "{foreign}" not in trial.arguments:
                    words = bring_up.command(trial, PREPARED, directory)
                    self.assertFalse([word for word in words if "{" in word], trial.name)
            own = trials["own kernel image, and a driver's module by name from its tree"]
            words = bring_up.command(own, PREPARED, directory)
            self.assertNotIn("--kernel", words)
            for path in ("/k/vmlinux", "/k/m", str(built / "e3k_first_fence.ko")):
                self.assertIn(path, words)
            hangs = next(trial for trial in trials.values() if "waiting" in trial.script)
            words = bring_up.command(hangs, PREPARED, directory)
            script = words[words.index("--guest-exec") + 1]
            self.assertIn("echo waiting", Path(script).read_text("utf-8"))
            defect = next(trial for trial in trials.values() if "--defect" in trial.arguments)
            words = bring_up.command(defect, PREPARED, directory)
            self.assertEqual(words[words.index("--"):], ["--", "--defect", "copies"])
            self.assertEqual(words[words.index("--kernel") + 1], "stable")


if __name__ == "__main__":
    unittest.main()
