"""Sections and rules that the source cites can be read."""

import unittest

from support.judging import citations

SECTIONS = {"4", "4.6", "10.1"}
RULES = {"R-7.8"}


class Citations(unittest.TestCase):
    """What is cited, and what of it is there."""

    def test_everything_the_tree_cites_is_there(self) -> None:
        self.assertEqual(citations.problems(), [])

    def test_the_tree_cites_much(self) -> None:
        texts = [citations.MARK.sub(" ", f.read_text("utf-8")) for f in citations.sources()]
        self.assertGreater(sum(len(citations.SECTION.findall(t)) for t in texts), 150)
        self.assertGreater(sum(len(citations.RULE.findall(t)) for t in texts), 50)

    def test_a_section_that_is_not_there_is_told(self) -> None:
        for text, wrong in {
            "(hardware reference 4.6)": [],
            "Hardware reference 4, 10.1 and 4.6.": [],
            "hardware reference 4.9": ["4.9"],
            "/// as hardware\n    /// reference 4.6 and\n    /// 4.8 say": ["4.8"],
            "the reference's bit positions (4.6 to 4.7)": ["4.7"],
            "by the reference (10.2)": ["10.2"],
            "a reference of 12 bytes": [],
        }.items():
            with self.subTest(text):
                said = citations.missing(text, SECTIONS, RULES)
                self.assertEqual([s.split(":")[0].split()[-1] for s in said], wrong)

    def test_a_rule_that_is_not_there_is_told(self) -> None:
        self.assertEqual(citations.missing("(R-7.8)", SECTIONS, RULES), [])
        self.assertEqual(len(citations.missing("(R-7.8, R-7.80)", SECTIONS, RULES)), 1)
        self.assertEqual(len(citations.missing("(semantics 7.7)", SECTIONS, RULES)), 1)


if __name__ == "__main__":
    unittest.main()
