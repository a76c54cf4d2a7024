"""What went wrong in a run is shown, cut to what a person reads."""

import unittest
from typing import Any

from support.reporting import trouble


def report(**fields: Any) -> dict[str, Any]:
    """A report in which nothing went wrong but these fields."""
    empty: dict[str, Any] = {name: [] for name in trouble.HISTORIES}
    for name in (*trouble.OF_REGISTERS, "left_running", "drm_errors", "kernel_log", "last_lines"):
        empty[name] = []
    return {**empty, **fields}


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

    def test_misused_registers_are_named_the_most_misused_first(self) -> None:
        def row(register: str, offset: int, kind: str, count: int) -> dict[str, Any]:
            return {"register": register, "offset": offset, "kind": kind, "count": count}

        shown = trouble.lines(report(misuse=[
            row("MEM_READY", 0xD370, "read_only", 1), row("MMU_MODE", 0x49004, "width", 7),
        ]))
        self.assertRegex(shown[-2], r"^  MMU_MODE +0x49004 +7  accessed in another width")
        self.assertRegex(shown[-1], r"^  MEM_READY +0xd370 +1  written, but read-only")
        # The table's head is no record.
        shown = trouble.lines(report(misuse=[row("TTBR", 4 * n, "reserved", 1) for n in range(12)]))
        self.assertEqual(shown[-1], "  (2 more in report.json)")

    def test_what_runs_without_a_driver_is_told_with_bus_mastering(self) -> None:
        ring = {"ring": 7, "head": 0x40, "tail": 0x80}
        state = {"rings": [ring], "l1_valid": [0, 3], "bus_master": False}
        self.assertEqual(trouble.lines(report(left_running=[state]))[-3:], [
            "  ring 7 is started: Head 0x40, Tail 0x80",
            "  L1 page-table registers are valid of the process ids 0, 3",
            "  bus master is off",
        ])

    def test_words_that_are_used_most_are_told_with_their_blocks(self) -> None:
        word = {"block": "display", "offset": 0x8220, "reads": 1200, "writes": 1}
        shown = trouble.words(report(most_read=[word]))
        self.assertEqual(shown[1], "  the words with most reads:")
        self.assertRegex(shown[-1], r"^  display  0x08220 +1,200$")

    def test_errors_of_drm_are_shown(self) -> None:
        self.assertEqual(trouble.lines(report(drm_errors=["[drm] *ERROR* a"]))[-1],
                         "  [drm] *ERROR* a")

    def test_last_lines_of_a_guest_that_hangs_are_shown(self) -> None:
        self.assertEqual(trouble.lines(report(last_lines=["waiting"]))[-1], "  waiting")

    def test_long_output_of_a_script_is_cut_at_its_beginning(self) -> None:
        ran = {"name": "t.sh", "output": [str(n) for n in range(100)]}
        shown = trouble.script(ran)
        self.assertEqual(shown[-1], "  99")
        self.assertIn("40 lines before", shown[3])


if __name__ == "__main__":
    unittest.main()
