"""python3 -m support.judging.unittests FILE: the scripts' tests, their results also as JUnit XML in FILE."""

import sys
import time
import unittest
from pathlib import Path
from typing import Any

from .results import Result, Results

SCRIPTS = Path(__file__).resolve().parents[2]


class Recorder(unittest.TextTestResult):
    """Shows results as unittest does, and keeps them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.rows: list[Result] = []
        self._started = 0.0

    def startTest(self, test: unittest.TestCase) -> None:
        """A test begins; it passes unless something is said of it."""
        super().startTest(test)
        self._started = time.monotonic()
        self._row(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        """A test has ended."""
        super().stopTest(test)
        self._row(test).seconds = time.monotonic() - self._started

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        """An assertion does not hold."""
        super().addFailure(test, err)
        self._fail(test, err)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """Something else was raised; also where a class or a module is made ready."""
        super().addError(test, err)
        self._fail(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        """A part of a test has ended."""
        super().addSubTest(test, subtest, err)
        if err:
            self._fail(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        """A test was left out."""
        super().addSkip(test, reason)
        self._row(test).skipped = reason or "no reason given"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        """A test that should fail did not."""
        super().addUnexpectedSuccess(test)
        self._row(test).problem = "passed, and is marked to fail"

    def _fail(self, test: unittest.TestCase, err: Any) -> None:
        row = self._row(test)
        row.problem = row.problem or f"{err[0].__name__}: {err[1]}"

    def _row(self, test: unittest.TestCase) -> Result:
        """The result of a test, made at its first need."""
        suite, _, name = test.id().rpartition(".")
        for row in reversed(self.rows):
            if (row.suite, row.name) == (f"python.{suite}", name):
                return row
        self.rows.append(Result(f"python.{suite}", name))
        return self.rows[-1]


def run(tests: unittest.TestSuite, file: Path, stream: Any = None) -> bool:
    """Run tests and write FILE; whether all passed."""
    ran = unittest.TextTestRunner(stream, resultclass=Recorder, buffer=True).run(tests)
    assert isinstance(ran, Recorder)
    Results(ran.rows).write_junit(file)
    return ran.wasSuccessful()


if __name__ == "__main__":
    found = unittest.defaultTestLoader.discover(str(SCRIPTS))
    sys.exit(0 if run(found, Path(sys.argv[1])) else 1)
