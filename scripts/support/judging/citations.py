"""What the source cites by number must be there to be read, and a rule needs a test.

"Hardware reference 4.6" is a heading of docs/hardware.md, `R-7.8` a rule of
docs/memory-management.md. A test quotes a rule in its text or in its name
(`..._r_7_8`); why no test does is said in the table at the end of that page.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..cache import REPO

HARDWARE = REPO / "docs" / "hardware.md"
RULES = REPO / "docs" / "memory-management.md"
TREES = ("backend", "device", "docs", "fuzz", "guest-driver", "scripts", "tests", "values")
SUFFIXES = {".rs", ".c", ".h", ".py", ".md", ".toml"}

# A comment's mark at the beginning of a line, behind which a sentence goes on.
MARK = re.compile(r"\n[ \t]*(?://[/!]?|\*|#)?[ \t]*")
NUMBER = r"\d+(?:\.\d+)*"
SECTION = re.compile(
    rf"reference(?:'s \w+(?: \w+)?)?,? \(?({NUMBER}(?:(?:,| and| to|, and) {NUMBER})*)",
    re.IGNORECASE,
)
RULE = re.compile(r"\bR-\d+\.\d+\b")
IN_A_NAME = re.compile(r"_r_(\d+)_(\d+)(?=_|\b)")
HEADING = re.compile(rf"^#+ ({NUMBER})\b", re.MULTILINE)
DEFINITION = re.compile(r"^- \*\*(R-\d+\.\d+)\*\*", re.MULTILINE)
ROW = re.compile(r"^\| (R-\d+\.\d+) \|([^|]*)\|([^|]*)\|$", re.MULTILINE)
# The end of a file of Rust that has its tests with it.
OWN_TESTS = re.compile(r"^#\[cfg\(test\)\]\nmod tests \{", re.MULTILINE)
IS_A_TEST = re.compile(r"#\[test\]|\bproptest! \{")
OLD_WORDS = re.compile(r"\bsemantics,? (?:R-)?\d+|\bthe seeds'", re.IGNORECASE)


def problems(files: Iterable[Path] | None = None) -> list[str]:
    """What is cited and nowhere to be found, with the file that cites it."""
    sections = set(HEADING.findall(HARDWARE.read_text("utf-8")))
    rules = readable_rules(RULES.read_text("utf-8"))
    found = []
    for file in sources() if files is None else files:
        name = file.relative_to(REPO) if file.is_relative_to(REPO) else file
        for wrong in missing(file.read_text("utf-8"), sections, rules):
            found.append(f"{name}: {wrong}")
    return found


def missing(text: str, sections: set[str], rules: set[str]) -> list[str]:
    """What one file cites that is neither a section nor a rule."""
    flat = MARK.sub(" ", text)
    found = [
        f"hardware reference {number}: docs/hardware.md has no such section"
        for cited in SECTION.findall(flat)
        for number in re.findall(NUMBER, cited) if number not in sections
    ]
    found += [
        f"{rule}: docs/memory-management.md has no such rule"
        for rule in RULE.findall(flat) if rule not in rules
    ]
    found += [f"`{words}` names no page that a reader has" for words in OLD_WORDS.findall(flat)]
    return found


def readable_rules(page: str) -> set[str]:
    """The rules that a page says, in its text or in the table of those without a test."""
    return {*DEFINITION.findall(page), *(rule for rule, _, _ in ROW.findall(page))}


def untested(page: str | None = None, quoted: set[str] | None = None) -> list[str]:
    """The rules that have neither a test nor a reason in the table, and what is wrong with it."""
    page = RULES.read_text("utf-8") if page is None else page
    quoted = quoted_rules() if quoted is None else quoted
    said = DEFINITION.findall(page)
    rows = ROW.findall(page)
    excused = [rule for rule, _, _ in rows]
    found = [f"{rule}: no test quotes it, and the table gives no reason"
             for rule in said if rule not in quoted and rule not in excused]
    found += [f"{rule}: a test quotes it, so it has no place in the table"
              for rule in excused if rule in quoted]
    found += [f"{rule}: its line in the table says nothing of what it is or why"
              for rule, what, why in rows if not (why.strip() and (rule in said or what.strip()))]
    found += [f"{rule}: said twice" for rules in (said, excused)
              for rule in sorted({rule for rule in rules if rules.count(rule) > 1})]
    return found


def quoted_rules() -> set[str]:
    """The rules that tests quote."""
    return {rule for file in sources() if file.suffix == ".rs"
            for rule in quoted_by(test_text(file.read_text("utf-8"), file.parts))}


def test_text(text: str, parts: Iterable[str]) -> str:
    """What of a file of Rust is tests; `parts` are those of its path."""
    own = OWN_TESTS.search(text)
    text = text if {"tests", "tests.rs"} & set(parts) else text[own.start():] if own else ""
    return text if IS_A_TEST.search(text) else ""


def quoted_by(text: str) -> set[str]:
    """The rules in a text, by number or in a name."""
    names = {f"R-{major}.{minor}" for major, minor in IN_A_NAME.findall(text)}
    return names | set(RULE.findall(MARK.sub(" ", text)))


def sources() -> Iterator[Path]:
    """The files that cite, this check and its test left out."""
    for tree in TREES:
        for file in sorted((REPO / tree).rglob("*")):
            ours = file.suffix in SUFFIXES and "target" not in file.parts
            if ours and not file.stem.endswith("citations"):
                yield file
