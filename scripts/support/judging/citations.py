"""What the source cites by number must be there to be read.

"Hardware reference 4.6" is a heading of docs/hardware.md, `R-7.8` a rule of
docs/memory-management.md.
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
HEADING = re.compile(rf"^#+ ({NUMBER})\b", re.MULTILINE)
DEFINITION = re.compile(r"^- \*\*(R-\d+\.\d+)\*\*", re.MULTILINE)
OLD_WORDS = re.compile(r"\bsemantics,? (?:R-)?\d+|\bthe seeds'", re.IGNORECASE)


def problems(files: Iterable[Path] | None = None) -> list[str]:
    """What is cited and nowhere to be found, with the file that cites it."""
    sections = set(HEADING.findall(HARDWARE.read_text("utf-8")))
    rules = set(DEFINITION.findall(RULES.read_text("utf-8")))
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


def sources() -> Iterator[Path]:
    """The files that cite, this check and its test left out."""
    for tree in TREES:
        for file in sorted((REPO / tree).rglob("*")):
            ours = file.suffix in SUFFIXES and "target" not in file.parts
            if ours and not file.stem.endswith("citations"):
                yield file
