"""Test results: what passed, failed or was skipped, and the form in which CI systems read it."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import Refused, writing

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that an XML file cannot have, such as those that colour a terminal's text."""


@dataclass
class Result:
    """One test that ran, or could not."""

    suite: str
    name: str
    problem: str = ""
    skipped: str = ""
    seconds: float = 0.0


@dataclass
class Results:
    """All of them."""

    rows: list[Result] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What the user asked to leave out: no failure, and no skip."""

    def count(self) -> tuple[int, int, int]:
        """Passed, failed, skipped."""
        return count(self.rows)

    def closing_line(self) -> str:
        """The line that ends the suite."""
        passed, failed, skipped = self.count()
        line = f"{passed} passed, {failed} failed, {skipped} skipped"
        return line + (f"; left out: {', '.join(self.left_out)}" if self.left_out else "")

    def is_good(self, skips_fail: bool) -> bool:
        """Whether nothing failed and, where that counts as a failure, nothing was skipped."""
        passed, failed, skipped = self.count()
        return passed > 0 and not failed and not (skipped and skips_fail)

    def write_junit(self, path: Path) -> None:
        """The results as JUnit XML."""
        root = ElementTree.Element("testsuites", name="presil", **counts(self.rows))
        for name in dict.fromkeys(row.suite for row in self.rows):
            rows = [row for row in self.rows if row.suite == name]
            suite = ElementTree.SubElement(root, "testsuite", name=legal(name), **counts(rows))
            suite.extend(element(row) for row in rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path):
            ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def count(rows: list[Result]) -> tuple[int, int, int]:
    """Passed, failed, skipped."""
    failed = sum(bool(row.problem) for row in rows)
    skipped = sum(bool(row.skipped) and not row.problem for row in rows)
    return len(rows) - skipped - failed, failed, skipped


def counts(rows: list[Result]) -> dict[str, str]:
    """The same as JUnit's attributes."""
    _, failed, skipped = count(rows)
    seconds = sum(row.seconds for row in rows)
    return {
        "tests": str(len(rows)), "failures": str(failed), "errors": "0", "skipped": str(skipped),
        "time": f"{seconds:.3f}",
    }


def element(row: Result) -> ElementTree.Element:
    """A result as JUnit's testcase."""
    case = ElementTree.Element(
        "testcase", classname=legal(row.suite), name=legal(row.name), time=f"{row.seconds:.3f}"
    )
    if row.problem:
        ElementTree.SubElement(case, "failure", message=legal(row.problem))
    elif row.skipped:
        ElementTree.SubElement(case, "skipped", message=legal(row.skipped))
    return case


def legal(text: str) -> str:
    """A text without what XML cannot have."""
    return NOT_XML.sub("?", text)


def read_junit(path: Path, prefix: str = "") -> list[Result]:
    """The results in a JUnit file; their suites' names begin with `prefix`.

    Refuses a file that is not there or none: nobody knows then what ran.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise Refused(f"no test results in {path}: {error}") from error
    return [read_case(case, prefix) for case in root.iter("testcase")]


def read_case(case: ElementTree.Element, prefix: str) -> Result:
    """A testcase of somebody's JUnit."""
    result = Result(
        prefix + case.get("classname", ""), case.get("name", ""),
        seconds=float(case.get("time") or 0),
    )
    for child in case:
        said = child.get("message") or next(iter((child.text or "").strip().splitlines()), "")
        if child.tag in {"failure", "error"}:
            result.problem = said or child.tag
        elif child.tag == "skipped":
            result.skipped = said or "no reason given"
    return result
