"""Tests of what is said of a driver that makes mistakes on purpose."""

import unittest
from typing import Any

from support.judging import mistakes

RULES = list(range(60001, 60001 + mistakes.LEAST))
SAID = [f"mistake {rule} 1 number {rule}" for rule in RULES]


def told(rules: list[int], **counts: int) -> list[dict[str, Any]]:
    """What the checker says that found each of these rules once, or as `r60001=2` says."""
    summary = [{"rule": rule, "found": counts.get(f"r{rule}", 1)} for rule in rules]
    return [{"reports": [{"rule": rule} for rule in rules],
             "summary": {"rules": [*summary, {"rule": 70001, "found": 0}]}}]


class Mistakes(unittest.TestCase):
    """Each is found by its rule alone."""

    def test_what_is_found_as_it_was_made_is_right(self) -> None:
        self.assertEqual(mistakes.judge(["noise", *SAID], told(RULES)), "")

    def test_one_that_is_not_found_or_too_often_is_named(self) -> None:
        for checker in (told(RULES[1:]), told(RULES, r60001=2)):
            self.assertIn("number 60001: rule 60001", mistakes.judge(SAID, checker))

    def test_what_nobody_did_is_told(self) -> None:
        self.assertIn("{70002: 1}", mistakes.judge(SAID, told([*RULES, 70002])))

    def test_another_order_is_no_proof(self) -> None:
        self.assertIn("another order", mistakes.judge(SAID, told(RULES[::-1])))

    def test_too_few_or_one_rule_twice_is_no_proof(self) -> None:
        for said in ([], SAID[1:], [*SAID[1:], SAID[1]], [*SAID, SAID[0]]):
            self.assertIn("were made", mistakes.judge(said, told(RULES)))

    def test_the_failed_tests_of_junit_are_found_by_name(self) -> None:
        text = ('<testsuites><testsuite><testcase classname="a" name="good"/>'
                '<testcase name="driver checker"><failure message="x"/></testcase></testsuite></testsuites>')
        self.assertEqual(mistakes.failed(text), ["driver checker"])


if __name__ == "__main__":
    unittest.main()
