"""How the VM suite judges a guest, and how a guest's checks are counted."""

import unittest
from typing import Any

from support.judging import suite
from support.judging.results import Result, Results
from support.reporting import report
from support.running import session
from support.running.console import Transcript


def check(name: str, **fields: Any) -> dict[str, Any]:
    """A check as a guest tells it."""
    return {"name": name, "detail": "", **fields}


def outcome(*checks: dict[str, Any]) -> session.Outcome:
    """What came of a guest with these checks."""
    return session.Outcome(Transcript(), list(checks), {}, {}, False, findings=[], last_lines=[])


GOOD = check("a", ok=True)
BAD = check("copy VRAM", ok=False)


class Judge(unittest.TestCase):
    """One case of the suite."""

    def judged(self, *checks: dict[str, Any], fails: tuple[str, ...] = ()) -> str:
        """Why a case with these checks failed."""
        return suite.judge(suite.Case("x", session.Guest("demo"), fails), outcome(*checks))

    def test_guest_without_any_check_fails(self) -> None:
        self.assertIn("no check was made", self.judged())

    def test_what_was_not_run_or_skipped_unannounced_is_no_pass(self) -> None:
        self.assertEqual(self.judged(GOOD), "")
        for fields in [{"ok": False}, {"not_run": "it hangs"}, {"skipped": "no reason"}]:
            self.assertIn("b: ", self.judged(GOOD, check("b", **fields)))

    def test_negative_control_fails_where_it_says_and_nowhere_else(self) -> None:
        fails = ("copy ",)
        self.assertEqual(self.judged(GOOD, BAD, fails=fails), "")
        self.assertEqual(self.judged(BAD, check("b", not_run="it hangs"), fails=fails), "")
        self.assertIn("['copy '] did not fail", self.judged(GOOD, fails=fails))
        self.assertIn("others failed: ['kernel log']",
                      self.judged(BAD, check("kernel log", ok=False), fails=fails))

    def test_virtual_iommu_that_was_not_used_fails(self) -> None:
        case = suite.Case("x", session.Guest("demo"), least_ranges=2000)
        for ranges, problem in [(2000, ""), (19, "19 ranges were lent, expected 2000 or more")]:
            seen = outcome(GOOD)
            seen.model["device"] = {"door": {"dma_maps": ranges}}
            self.assertEqual(suite.judge(case, seen), problem)

    def test_rule_without_input_fails_where_it_must_have_some(self) -> None:
        case = suite.Case("x", session.Guest("demo"), has_input=(20001,))
        for checked, problem in [(1, ""), (0, "rule 20001 of the driver checker had no input")]:
            seen = outcome(GOOD)
            rules = [{"rule": 20001, "checked": checked}, {"rule": 20002, "checked": 0}]
            seen.driver_checker = [{"summary": {"rules": rules}}]
            self.assertEqual(suite.judge(case, seen), problem)

    def test_gpu_that_hangs_at_once_is_no_negative_control(self) -> None:
        hangs = [check("tables", ok=False), check("copy VRAM", not_run="it hangs")]
        self.assertNotEqual(self.judged(*hangs, fails=("copy ",)), "")


class Count(unittest.TestCase):
    """What a run's last line says."""

    def test_skip_is_announced_only_where_the_gpu_lacks_it(self) -> None:
        told = check("b", skipped="this GPU has no invisible VRAM")
        whole = session.Guest("demo", vram="1G", visible="1G")
        self.assertFalse(session.is_bad(session.judged_skip(told, whole)))
        self.assertTrue(session.is_bad(session.judged_skip(told, session.Guest("demo"))))
        other = check("b", skipped="there is no line to the model (--model)")
        self.assertTrue(session.is_bad(session.judged_skip(other, whole)))

    def test_every_way_to_end_is_counted(self) -> None:
        self.assertEqual(report.verdict_line([GOOD, GOOD]), "2 checks passed, 0 failed")
        checks = [GOOD, BAD, check("b", not_run="-"), check("c", skipped="-", announced=True)]
        self.assertEqual(report.verdict_line(checks),
                         "1 checks passed, 1 failed, 1 not run, 1 skipped")
        self.assertIn("no known reason", report.verdict_line([check("c", skipped="-")]))

    def test_what_was_left_out_on_purpose_is_told_and_fails_nothing(self) -> None:
        results = Results([Result("host", "a")], ["virtual machines (--quick)"])
        self.assertTrue(results.is_good(skips_fail=True))
        self.assertEqual(results.closing_line(),
                         "1 passed, 0 failed, 0 skipped; left out: virtual machines (--quick)")
        results.rows.append(Result("host", "b", skipped="no cargo fmt"))
        self.assertEqual([results.is_good(fail) for fail in (False, True)], [True, False])
        self.assertFalse(Results().is_good(skips_fail=False), "nothing ran")

    def test_program_that_fails_without_a_word_fails_the_run(self) -> None:
        transcript = Transcript()
        for line in ['@presil 1 {"boot":{}}', '@presil 2 {"done":{"ok":false}}']:
            transcript.add(line)
        bad = [c["name"] for c in session.endings(transcript, 1) if session.is_bad(c)]
        self.assertEqual(bad, ["guest came to its end"])
        self.assertFalse([c for c in session.endings(transcript, 1, True) if session.is_bad(c)])


if __name__ == "__main__":
    unittest.main()
