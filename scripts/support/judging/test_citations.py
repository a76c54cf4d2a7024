"""Sections and rules that the source cites can be read, and rules have tests."""

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

    def test_every_rule_has_a_test_or_a_reason(self) -> None:
        self.assertEqual(citations.untested(), [])

    def test_a_rule_without_a_test_and_without_a_reason_is_told(self) -> None:
        page = ("- **R-1.1** It is.\n- **R-1.2** It stays.\n\n| Rule | What | Why |\n|---|---|---|\n"
                "| R-1.2 | | the compiler sees to it |\n| R-1.3 | It goes. | not built yet |\n")
        self.assertEqual(citations.readable_rules(page), {"R-1.1", "R-1.2", "R-1.3"})
        for quoted, more, wrong in [
            ({"R-1.1"}, "", []),
            (set(), "", ["R-1.1: no test"]),
            ({"R-1.1", "R-1.2"}, "", ["R-1.2: a test quotes it"]),
            ({"R-1.1", "R-1.3"}, "", ["R-1.3: a test quotes it"]),
            ({"R-1.1"}, "| R-1.4 | It ends. | |\n", ["R-1.4: its line"]),
            ({"R-1.1"}, "| R-1.4 | | not built yet |\n", ["R-1.4: its line"]),
            ({"R-1.1"}, "- **R-1.1** Again.\n", ["R-1.1: said twice"]),
        ]:
            with self.subTest(quoted=quoted, more=more):
                said = citations.untested(page + more, quoted)
                self.assertEqual([s[:len(w)] for s, w in zip(said, wrong, strict=True)], wrong)

    def test_who_quotes_a_rule(self) -> None:
        one = "#[test]\nfn zeros_come_first_r_7_8_r_10_3() {}\n// R-7.\n// R-1.2: no\n"
        self.assertEqual(citations.quoted_by(one), {"R-7.8", "R-10.3", "R-1.2"})
        own = "/// R-1.1\nfn f() {}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn g_r_1_2() {}\n}\n"
        for text, parts, quoted in [
            (own, ("src", "one.rs"), {"R-1.2"}),
            (own, ("src", "tests", "one.rs"), {"R-1.1", "R-1.2"}),
            ("/// R-1.1\nfn a_machine() {}\n", ("src", "tests", "machine.rs"), set()),
            ("/// R-1.1\nfn f() {}\n", ("src", "one.rs"), set()),
        ]:
            with self.subTest(parts=parts, text=text):
                self.assertEqual(citations.quoted_by(citations.test_text(text, parts)), quoted)


if __name__ == "__main__":
    unittest.main()
