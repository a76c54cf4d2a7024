"""Tests of the driver checker's verdict about a run."""

import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

from ..running import session
from ..running.console import Transcript
from . import checks, driver_checker


def told(reports: int = 0, packets: int = 5, checked: int = 3) -> dict[str, Any]:
    """What the server writes of a GPU."""
    return {
        "gpu": 0, "lost": False,
        "reports": [
            {"rule": 60001 + n, "title": "a thing", "text": f"presil[{60001 + n}] a thing"}
            for n in range(reports)
        ],
        "summary": {
            "packets": packets, "events": 7, "rules": [{"rule": 60001, "checked": checked}],
            "text": "driver checker: 1 rules armed",
        },
    }


def outcome(made: list[dict[str, Any]], status: int | None = None) -> session.Outcome:
    """A run with these checks, and perhaps a script that ended so."""
    script = None if status is None else {"status": status}
    return session.Outcome(Transcript(), made, {}, {}, False, [], [], script)


class DriverCheckerTest(unittest.TestCase):
    """Reports, their absence, and what makes that absence worth nothing."""

    def test_a_report_fails_the_run_with_a_status_of_its_own(self) -> None:
        request = driver_checker.Request()
        check = driver_checker.judge(request, [told(reports=2)], 1)
        self.assertEqual(check["detail"], "60001: a thing, and 1 more")
        good = checks.check("something", True, "")
        bad = checks.check("something", False, "")
        self.assertEqual(outcome([good, check]).exit_status, 3)
        self.assertEqual(outcome([bad, check]).exit_status, 1)
        self.assertEqual(outcome([good, check], status=7).exit_status, 7)
        self.assertEqual(outcome([good, check], status=0).exit_status, 3)

    def test_no_report_is_worth_something_only_where_there_was_work(self) -> None:
        default, asked = driver_checker.Request(), driver_checker.Request(asked=True)
        for request in (default, asked):
            self.assertTrue(driver_checker.judge(request, [told()], 1)["ok"])
        idle = [told(packets=0)]
        self.assertFalse(driver_checker.judge(asked, idle, 1)["ok"])
        self.assertFalse(driver_checker.judge(asked, [told(), *idle], 2)["ok"])
        self.assertTrue(driver_checker.judge(default, [told(), *idle], 2)["ok"])
        check = driver_checker.judge(default, idle, 1)
        self.assertEqual(session.mark(check), "----")
        self.assertFalse(session.is_bad(check))

    def test_a_server_that_wrote_nothing_or_not_of_each_gpu_fails_the_run(self) -> None:
        request = driver_checker.Request()
        self.assertFalse(driver_checker.judge(request, [], 1)["ok"])
        self.assertFalse(driver_checker.judge(request, [told()], 2)["ok"])
        self.assertFalse(driver_checker.judge(request, [{**told(), "lost": True}], 1)["ok"])
        with tempfile.TemporaryDirectory() as directory:
            reports = Path(directory) / "reports"
            self.assertEqual(driver_checker.read(reports), [])
            reports.write_text(json.dumps(told()) + "\n", "utf-8")
            self.assertEqual(driver_checker.read(reports), [told()])
            reports.write_text(json.dumps(told())[:-4], "utf-8")
            self.assertEqual(driver_checker.read(reports), [])

    def test_the_text_has_every_report_and_what_was_looked_at(self) -> None:
        lines = driver_checker.lines([told(reports=2), {**told(), "gpu": 1}])
        text = "\n".join(lines)
        for part in ("presil[60001]", "presil[60002]", "1 rules armed", "GPU 1:"):
            self.assertIn(part, text)
        self.assertTrue(all(line == "" or line.startswith("  ") for line in lines))

    def test_rules_without_input_are_counted(self) -> None:
        check = driver_checker.judge(driver_checker.Request(), [told(checked=0)], 1)
        self.assertIn("1 of them without input", check["detail"])
