"""What went wrong in a run is shown, cut to what a person reads."""

import unittest
from typing import Any

from support import trouble


def report(**fields: Any) -> dict[str, Any]:
    """A report in which nothing went wrong but these fields."""
    empty: dict[str, Any] = {name: [] for name in trouble.HISTORIES}
    return {"kernel_log": [], "last_lines": [], **empty, **fields}


class Trouble(unittest.TestCase):
    """The sections of a report."""

    def test_good_run_has_none(self) -> None:
        self.assertEqual(trouble.lines(report()), [])
        self.assertEqual(trouble.script(None), [])

    def test_records_of_the_model_are_told_by_their_sentences(self) -> None:
        records = [{"ring": 0, "text": f"halted {n}"} for n in range(12)]
        shown = trouble.lines(report(ring_errors=records))
        self.assertIn("ring errors", shown[1])
        self.assertIn("  halted 0", shown)
        self.assertNotIn("  halted 10", shown)
        self.assertEqual(shown[-1], "  (2 more in report.json)")

    def test_first_reports_of_the_kernel_are_shown_and_the_others_counted(self) -> None:
        findings = [{"kind": "oops", "line": "", "lines": [f"BUG {n}"]} for n in range(5)]
        shown = trouble.lines(report(kernel_log=findings))
        self.assertIn("  BUG 2", shown)
        self.assertNotIn("  BUG 3", shown)
        self.assertIn("2 more reports", shown[-1])

    def test_last_lines_of_a_guest_that_hangs_are_shown(self) -> None:
        self.assertEqual(trouble.lines(report(last_lines=["waiting"]))[-1], "  waiting")

    def test_long_output_of_a_script_is_cut_at_its_beginning(self) -> None:
        ran = {"name": "t.sh", "output": [str(n) for n in range(100)]}
        shown = trouble.script(ran)
        self.assertEqual(shown[-1], "  99")
        self.assertIn("40 lines before", shown[3])


if __name__ == "__main__":
    unittest.main()
