"""Changes to vidmm, one at a time: which of them no test notices."""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import commands
from ..building import module
from ..errors import Refused
from ..progress import Progress
from .broken_drivers import refresh

VIDMM = "guest-driver/vidmm"
PACKAGES = ("vidmm", "presil-tests")
"""Whose tests are asked."""
LIMIT = 4 << 30
"""Bytes that a test may allocate: some changes do so for ever."""
NOT_CONSTANT = re.compile(r"cannot call non-const [^`]*`(?:.*::)?(\w+)(?:::<.*>)?` in ")
QUICK = 1.0
"""Seconds of a processor of a test that `--quick` still runs."""
LONGEST = 10.0
"""Seconds of a processor that any tests may take, and twenty times what they take without a
change. On a busy host that is longer, so the host does not decide."""
STILL = 60.0
"""Seconds after which tests do not end that have not worked in the meantime."""
CHUNKS = (1, 4, 16, 64)
"""How many tests are run together, one after another, until one of them fails."""

Mutant = dict[str, Any]
"""A line of `cargo mutants --list --json`."""


@dataclass(frozen=True)
class Binary:
    """The tests of a crate, built."""

    program: Path
    directory: Path
    """In which they are run."""


@dataclass(frozen=True)
class Test:
    """A test, and what it costs and reaches while no change is on."""

    binary: Binary
    name: str
    seconds: float
    """Of a processor."""
    places: frozenset[int]


def listed(files: Sequence[str]) -> list[Mutant]:
    """All changes to these files of vidmm, or to all of it."""
    told = commands.run([
        "cargo", "mutants", "--list", "--json", "--config", f"{VIDMM}/mutants.toml",
        "--package", "vidmm", *(word for file in files for word in ("--file", file)),
    ])
    if told.status:
        raise Refused(f"cargo mutants: {told.errors.strip()}")
    found: list[Mutant] = json.loads(told.output)
    return found


def culprit(text: str, place: int) -> int | None:
    """The number of the change at this byte of a woven source; `None`: there is none.

    Where no single change is at fault it is that of the place, negative.
    """
    inside: list[str] = []
    at = 0
    data = text.encode()[:place].decode(errors="ignore")
    while (at := data.find("/*", at)) >= 0:
        end = data.find("*/", at)
        if end < 0:
            break
        mark = data[at + 2:end]
        if mark in ("~", "@"):
            inside.pop()
        elif mark[:1] in ("~", "@") and mark[1:].isdigit():
            inside.append(mark)
        at = end + 2
    if not inside:
        return None
    kind, number = inside[-1][0], int(inside[-1][1:])
    return number if kind == "~" else -number


class Woven:
    """A copy of the checkout in which every change is built, each behind a switch."""

    def __init__(self, work: Path, mutants: list[Mutant], progress: Progress) -> None:
        self.work, self.tree, self.mutants, self.progress = work, work / "tree", mutants, progress
        self.environment = {
            "CARGO_TARGET_DIR": str(work / "target"), "RUSTFLAGS": "--cap-lints=allow",
            "CARGO_INCREMENTAL": "1",
        }
        self.unviable: set[int] = set()
        """Indices of those that do not compile."""
        self.constant: set[str] = set()
        """Functions that constants call."""
        self.numbers: dict[int, tuple[int, int]] = {}
        """By index: the number of the change, and that of its place."""

    def build(self) -> list[Binary]:
        """Weave and compile, without what does not compile; the tests."""
        commands.cargo(["build", "--quiet", "--package", "presil-mutants"], "presil-mutants",
                       self.progress.detail)
        while True:
            self.weave()
            errors = self.errors()
            if not errors:
                return self.tests()
            self.progress.detail(f"{len(self.unviable)} changes do not compile")

    def weave(self) -> None:
        """Put the changes into the copy."""
        refresh(self.tree)
        manifest = self.tree / VIDMM / "Cargo.toml"
        text = manifest.read_text("utf-8")
        switch = '[dependencies]\npresil-mutant = { path = "../../tests/mutants/switch" }\n'
        manifest.write_text(text.replace("[dependencies]\n", switch, 1), "utf-8")
        plan = [at for at in range(len(self.mutants)) if at not in self.unviable]
        weaver = module.target_directory() / "debug/presil-mutants"
        run = subprocess.run(
            [weaver, self.tree], input=json.dumps({
                "mutants": [self.mutants[at] for at in plan], "constant": sorted(self.constant),
            }),
            capture_output=True, text=True, check=False,
        )
        if run.returncode:
            raise Refused(run.stderr.strip())
        told = json.loads(run.stdout)
        self.numbers = {
            at: (number["number"], number["first"])
            for at, number in zip(plan, told, strict=True) if number
        }

    def cargo(self, *words: str) -> list[dict[str, Any]]:
        """What cargo says of the copy, message by message."""
        run = subprocess.run(
            ["cargo", *words, "--message-format", "json"], cwd=self.tree,
            env={**os.environ, **self.environment}, capture_output=True, text=True, check=False,
        )
        messages = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
        if not messages:
            raise Refused(run.stderr.strip())
        return messages

    def errors(self) -> bool:
        """Whether something does not compile; what it is is taken out."""
        by_number = {number: at for at, (number, _) in self.numbers.items()}
        by_place: dict[int, set[int]] = {}
        for at, (_, first) in self.numbers.items():
            by_place.setdefault(first, set()).add(at)
        found, left, texts = False, list[str](), dict[str, str]()
        before = len(self.unviable) + len(self.constant)
        for told in self.cargo("check", "--package", "vidmm", "--lib", "--tests"):
            message = told.get("message")
            if told["reason"] != "compiler-message" or message["level"] != "error":
                continue
            spans = [span for span in message["spans"] if span["is_primary"]]
            found = found or bool(spans)
            for span in spans or message["spans"]:
                name = span["file_name"]
                if name not in texts:
                    texts[name] = (self.tree / name).read_text("utf-8")
                number = culprit(texts[name], span["byte_start"])
                called = NOT_CONSTANT.match(message["message"])
                if called:
                    self.constant.add(called[1])
                elif number is None:
                    left.append(message["rendered"])
                elif number > 0:
                    self.unviable.add(by_number[number])
                else:
                    self.unviable |= by_place[-number]
        if found and len(self.unviable) + len(self.constant) == before:
            raise Refused("the woven copy does not compile:\n" + "".join(left[:4]))
        return found

    def tests(self) -> list[Binary]:
        """Build the tests."""
        binaries = []
        packages = [word for package in PACKAGES for word in ("--package", package)]
        for told in self.cargo("test", "--no-run", "--tests", *packages):
            if told["reason"] == "compiler-artifact" and told.get("executable"):
                directory = Path(told["manifest_path"]).parent
                if told["profile"]["test"]:
                    binaries.append(Binary(Path(told["executable"]), directory))
            if told["reason"] == "compiler-message" and told["message"]["level"] == "error":
                raise Refused(told["message"]["rendered"])
        return binaries


def limits() -> None:
    """What a test may take; in its process."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def worked(process: int) -> float:
    """Seconds that a process has worked, also when it has ended and nobody knows yet."""
    stat = Path(f"/proc/{process}/stat").read_text("utf-8")
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def ends(process: int, most: float | None, still: float = STILL) -> bool:
    """Wait for a process, whose status stays to be asked. Whether it ends.

    It does not if it works longer than `most`, or not at all for a while.
    """
    before = -1.0
    since = time.monotonic()
    # As often as it matters: most tests end at once.
    look = 0.002
    while not os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        time.sleep(look)
        look = min(look * 1.5, 1.0)
        now = worked(process)
        if now > before:
            before, since = now, time.monotonic()
        if most is not None and (now > most or time.monotonic() - since > still):
            return False
    return True


@dataclass(frozen=True)
class Ran:
    """What became of tests."""

    good: bool | None
    """Whether all pass; `None`: they do not end."""
    seconds: float
    """How long they worked."""


def run_tests(
    binary: Binary, names: Sequence[str], asked: str, passed: Path | None, seconds: float | None
) -> Ran:
    """Run tests with a change on, for so many seconds of a processor at most."""
    with tempfile.TemporaryFile() as on, open(passed or os.devnull, "ab") as places:
        on.write(asked.encode())
        on.flush()

        def prepare() -> None:
            # Both away first: neither may stand where the other is to go.
            first, second = os.dup2(on.fileno(), 200), os.dup2(places.fileno(), 201)
            os.dup2(first, 9)
            os.dup2(second, 8)
            limits()

        process = subprocess.Popen(
            [binary.program, "--exact", "--test-threads", "1", *names], cwd=binary.directory,
            env={
                **os.environ, "CARGO_MANIFEST_DIR": str(binary.directory), "RUST_BACKTRACE": "0",
                "PROPTEST_DISABLE_FAILURE_PERSISTENCE": "true",
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=prepare, close_fds=False, start_new_session=True,
        )
        ended = ends(process.pid, seconds)
        took = worked(process.pid)
        if not ended:
            os.killpg(process.pid, 9)
        status = process.wait()
        return Ran(status == 0 if ended else None, took)


def covered(
    binaries: list[Binary], jobs: int, work: Path, most: float | None, progress: Progress
) -> list[Test]:
    """All tests, each run once by itself, with the places that it reaches.

    Without those that work longer than `most` seconds.
    """
    wanted = []
    for binary in binaries:
        told = subprocess.run(
            [binary.program, "--list", "--format", "terse"], cwd=binary.directory,
            capture_output=True, text=True, check=True,
        )
        names = [line.removesuffix(": test") for line in told.stdout.splitlines()
                 if line.endswith(": test")]
        wanted += [(binary, name) for name in names]
    done = 0

    def cover(number: int, binary: Binary, name: str) -> Test | None:
        nonlocal done
        passed = work / f"passed.{number}"
        passed.unlink(missing_ok=True)
        ran = run_tests(binary, [name], "cover", passed, most)
        data = passed.read_bytes()
        passed.unlink()
        places = {int.from_bytes(data[at:at + 4], sys.byteorder) for at in range(0, len(data), 4)}
        done += 1
        progress.detail(f"{done} of {len(wanted)} tests")
        if ran.good is None:
            return None
        if not ran.good:
            print(f"  {name}: fails in the woven copy without a change; not asked", flush=True)
            return None
        return Test(binary, name, ran.seconds, frozenset(places))

    with ThreadPoolExecutor(jobs) as pool:
        tests = pool.map(lambda numbered: cover(numbered[0], *numbered[1]), enumerate(wanted))
        return [test for test in tests if test]


def noticed_by(number: int, first: int, tests: list[Test]) -> str | None:
    """The test, or the first of the tests, that fail with this change; `None`: none does."""
    reach = sorted((test for test in tests if first in test.places), key=lambda test: test.seconds)
    at = 0
    for size in (*CHUNKS, *[256] * len(reach)):
        chunk = reach[at:at + size]
        at += size
        if not chunk:
            return None
        for binary in dict.fromkeys(test.binary for test in chunk):
            ours = [test for test in chunk if test.binary == binary]
            most = LONGEST + 20 * sum(test.seconds for test in ours)
            ran = run_tests(binary, [test.name for test in ours], str(number), None, most)
            if not ran.good:
                return ours[0].name + (" (does not end)" if ran.good is None else "")
    return None


def run(files: Sequence[str], jobs: int, quick: bool, progress: Progress) -> int:
    """Try all changes; how many no test, or no quick one, notices.

    What was noticed before is not tried again.
    """
    work = module.target_directory() / "mutants"
    work.mkdir(parents=True, exist_ok=True)
    outcomes = work / "outcomes.json"
    known: dict[str, str] = json.loads(outcomes.read_text("utf-8")) if outcomes.exists() else {}
    mutants = listed(files)
    woven = Woven(work, mutants, progress)
    with progress.phase("build", f"{len(mutants)} changes, built at once"):
        binaries = woven.build()
    with progress.phase("cover", "which test reaches what"):
        tests = covered(binaries, jobs, work, QUICK if quick else None, progress)
    left = [at for at in woven.numbers if known.get(mutants[at]["name"]) is None]
    missed: list[str] = []
    tried = 0

    def attempt(at: int) -> None:
        nonlocal tried
        name = mutants[at]["name"]
        by = noticed_by(*woven.numbers[at], tests)
        tried += 1
        if by is None:
            missed.append(name)
            print(f"  not noticed: {name}", flush=True)
        else:
            known[name] = by
        progress.detail(f"{tried} of {len(left)}, {len(missed)} not noticed")
        if tried % 50 == 0:
            outcomes.write_text(json.dumps(known), "utf-8")

    with progress.phase("mutants", f"{len(left)} changes"), ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(attempt, left):
            pass
    outcomes.write_text(json.dumps(known), "utf-8")
    alone = len(mutants) - len(woven.unviable) - len(woven.numbers)
    (work / "missed.txt").write_text("".join(f"{name}\n" for name in sorted(missed)), "utf-8")
    print(
        f"{len(mutants)} changes: {len(woven.numbers) - len(missed)} noticed, {len(missed)} not "
        f"(target/mutants/missed.txt), {len(woven.unviable)} do not compile, {alone} not tried "
        "(in constants, patterns, fields left out: scripts/mutants --one-by-one)", flush=True,
    )
    return len(missed)
