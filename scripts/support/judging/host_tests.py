"""The tests that need no virtual machine: cargo's and Python's, each one a result of its own."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ..building.module import target_directory
from ..cache import REPO
from ..errors import Refused
from .results import Result, read_junit

NEXTEST = Path(__file__).with_name("nextest.toml")
"""Has cargo-nextest write JUNIT."""
JUNIT = "nextest/default/junit.xml"
PYTHON_JUNIT = REPO / "target/test/python.xml"
PREFIX = "cargo."
BINARY = re.compile(r"\s+(?:Running (?:unittests )?(\S+) \(\S*?([^/\s]+?)(?:-[0-9a-f]{16})?\)|"
                    r"Doc-tests (\S+))$")
TEST = re.compile(r"test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored(?:, .*)?)$")
NOT_COUNTED, TOO_MANY = "not counted: ", "  TOO MANY"
COUNT = re.compile(r" \d+ +(?:\d+|inf)$")
CLOSING = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed; ")


def cargo(name: str, arguments: list[str], ignored: bool = False,
          environment: dict[str, str] | None = None) -> list[Result]:
    """The results of cargo's tests; only of those marked `ignore` where `ignored` is set."""
    if shutil.which("cargo-nextest"):
        only = ["--run-ignored", "only"] if ignored else []
        config = ["--profile", "default", "--tool-config-file", f"presil:{NEXTEST}"]
        command = ["cargo", "nextest", "run", "--no-fail-fast", *config, *arguments, *only]
        return step(name, command, target_directory() / JUNIT, PREFIX, environment)
    only = ["--", "--ignored"] if ignored else []
    return libtest(name, ["cargo", "test", "--no-fail-fast", *arguments, *only], environment)


def examples(arguments: list[str]) -> list[Result]:
    """The results of the documentation's examples, which cargo-nextest leaves out."""
    if not shutil.which("cargo-nextest"):
        return []
    return libtest("examples", ["cargo", "test", "--no-fail-fast", "--doc", *arguments])


def libtest(name: str, command: list[str],
            environment: dict[str, str] | None = None) -> list[Result]:
    """The results that `cargo test` prints."""
    lines: list[str] = []
    status = shown(name, command, environment, lines.append)
    return judged(name, status, lambda: of_libtest(lines))


def python() -> list[Result]:
    """The results of the scripts' tests."""
    command = [sys.executable, "-m", "support.judging.unittests", str(PYTHON_JUNIT)]
    return step("scripts", command, PYTHON_JUNIT, "", {"PYTHONPATH": str(REPO / "scripts")})


def instructions() -> Result:
    """Whether the model's and the memory manager's operations stay within their instructions.

    The counts are exact whatever else the host does; their limits are in
    backend/benches/instructions.rs and tests/benches/instructions.rs.
    """
    packages = ["--package", "presil", "--package", "presil-tests"]
    command = ["cargo", "bench", "--quiet", "--no-fail-fast", *packages, "--bench", "instructions"]
    lines: list[str] = []
    status = shown("instructions", command, on_line=lines.append)
    return of_instructions(lines, status)


def of_instructions(lines: list[str], status: int) -> Result:
    """What the benchmark has said, as a result."""
    result = Result("host", "instructions")
    above = [line.split("  ")[0] for line in lines if line.endswith(TOO_MANY)]
    refused = [line for line in lines if line.startswith(NOT_COUNTED)]
    counted = [line for line in lines if COUNT.search(line)]
    if above:
        result.problem = f"more instructions than their limit: {', '.join(above)}"
    elif status:
        result.problem = f"exit status {status}, see above"
    elif refused:
        result.skipped = refused[0]
    elif not counted:
        result.problem = "nothing was counted"
    return result


def step(name: str, command: list[str], junit: Path, prefix: str,
         environment: dict[str, str] | None) -> list[Result]:
    """Run what writes its results as JUnit."""
    junit.unlink(missing_ok=True)
    status = shown(name, command, environment)
    return judged(name, status, lambda: read_junit(junit, prefix))


def shown(name: str, command: list[str], environment: dict[str, str] | None = None,
          on_line: Callable[[str], None] | None = None) -> int:
    """The exit status of a step whose output is passed on; with `on_line` it is taken, too."""
    print(f"== {name}: {' '.join(command)}", flush=True)
    inherited = {**os.environ, **(environment or {})}
    if not on_line:
        return subprocess.run(command, cwd=REPO, env=inherited, check=False).returncode
    with subprocess.Popen(
        command, cwd=REPO, env=inherited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    ) as process:
        for line in process.stdout or []:
            print(line, end="", flush=True)
            on_line(line.rstrip("\n"))
        return process.wait()


def judged(name: str, status: int, read: Callable[[], list[Result]]) -> list[Result]:
    """A step's results; one more where they do not explain how it ended."""
    try:
        rows = read()
        problem = "" if rows else "no test ran"
    except Refused as refusal:
        rows, problem = [], str(refusal)
    if status and not any(row.problem for row in rows):
        problem = f"exit status {status}, see above"
    return [*rows, *([Result("host", name, problem)] if problem else [])]


def of_libtest(lines: Iterable[str]) -> list[Result]:
    """The results in what `cargo test` prints; a binary's must be as many as it counted."""
    rows: list[Result] = []
    suite, ran = "", 0
    for line in lines:
        if found := BINARY.match(line):
            suite, ran = PREFIX + (found[2] or f"{found[3]}.doc"), 0
        elif found := TEST.match(line):
            if not found[2].startswith("ignored"):
                problem = "" if found[2] == "ok" else "failed, see its output"
                rows.append(Result(suite, found[1], problem))
                ran += 1
        elif found := CLOSING.match(line):
            counted = int(found[1]) + int(found[2])
            if counted != ran:
                problem = f"{counted} tests were counted, {ran} told"
                rows.append(Result(suite, "every result was told", problem))
            # Examples that must not compile are counted by themselves.
            ran = 0
    return rows
