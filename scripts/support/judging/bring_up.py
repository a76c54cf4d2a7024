"""scripts/run with a user's own driver, as a user calls it: what passes, and what must not."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from ..building import module
from ..building.setup import Prepared
from ..cache import REPO, Cache, locked
from ..getting import compiler
from ..getting.debian import Debian
from ..progress import Progress, Silent
from ..running import model, patience, session
from . import cache_cases
from .jobs import Job, kernel_option
from .results import Result

SOURCES = REPO / "tests/pci-module"
LIMIT_SECONDS = 300
LATE_SECONDS = 3.0
BAD_PACKET = 0xA000_0000
"""No packet has the opcode 10."""
PREFIX = "own driver: "


@dataclass(frozen=True)
class Trial:
    """One call of scripts/run."""

    name: str
    arguments: list[str]
    """Words like `{gpu}` stand for what `places` knows."""
    status: int
    shows: str
    """A pattern that the report must have."""
    script: str = ""
    """What the guest is to run, in a file of its own."""
    always: bool = False
    """Whether it is worth the time on every kernel."""
    long: bool = False
    """Whether it takes far longer than the others."""
    emulated: bool = False
    """Whether QEMU must emulate the CPUs for it."""
    judged: Callable[[dict[str, Any]], str] = lambda report: ""
    """What else is wrong with report.json."""


def trials() -> list[Trial]:
    """All calls."""
    bound = ["--guest-exec", str(SOURCES / "first_fence.sh")]
    return [
        Trial("a PCI driver written from docs/ gets its first fence",
              ["--module", "{gpu}", *bound,
               "--fail-on", "faults,ring-errors,unmet-waits,left-running,drm-errors"], 0,
              r"(?s)ok +script first_fence.sh.*ok +no left running", always=True),
        Trial("own kernel image, and a driver's module by name from its tree",
              ["--kernel-image", "{image}", "--modules", "{tree}",
               "--module", "drm", "--module", "{gpu}", *bound], 0, r"ok +module drm.ko", always=True),
        Trial("a driver that checks its data notices lost copies",
              ["--module", "{gpu}", *bound, "--", "--defect", "copies"], 1, r"the copy is wrong"),
        Trial("a halted ring is shown with its dword",
              ["--module", f"{{gpu}},first_dword={BAD_PACKET}"], 1,
              rf"ring 0 halted at offset 0x0, dword {BAD_PACKET:#010x}"),
        Trial("a module that oopses is called out",
              ["--module", "{bad},how=oops"], 1, r"FAIL +kernel log: oops: BUG: kernel NULL"),
        Trial("a module that WARNs is called out",
              ["--module", "{bad},how=warn"], 1, r"FAIL +kernel log: warning: WARNING: "),
        Trial("a module of another kernel is refused in a clear line",
              ["--module", "{foreign}"], 1,
              r"FAIL +module misbehave.ko loads: .*version magic '.*' should be '"),
        Trial("what is used beyond the model is summed up by block, without any module",
              ["--guest-exec", str(SOURCES / "undeclared.sh")], 0,
              r"block +start +words +reads +writes\n +display, from 0x33000 +0x33000 +1 +1 +1\n"),
        Trial("misuse is named by its register, and fails the run where it must not be",
              ["--guest-exec", str(SOURCES / "misused.sh"), "--fail-on", "misuse,ring-errors"], 1,
              r"(?s)ok +script misused.sh.*FAIL +no misuse: MEM_READY \(0xd370\) .* 1 times"
              r".*MEM_READY +0xd370 +1 +written, but read-only"
              r".*words with most reads:\n +block +offset +reads\n +display, from 0x33000 "
              r"+0x33000 +3\n"),
        Trial("a driver that leaves its ring running is noticed, and so is what DRM complains of",
              ["--module", "{gpu},leave_running=1", "--fail-on", "left-running,drm-errors"],
              1, r"(?s)FAIL +no left running: ring 0 is started: Head (0x\w+), Tail \1"
                 r".*FAIL +no drm errors: .*planted"
                 r".*left running: no driver has the GPU.*\n  bus master is off\n",
              script="echo '<3>[drm] *ERROR* planted' > /dev/kmsg; rmmod e3k_first_fence"),
        Trial("RAM, CPUs, options of QEMU and reboots are what was asked for",
              ["--ram", "1G", "--cpus", "3", "--qemu-arg", "-device edu", "--reboots", "1",
               "--module", "drm_kms_helper,fbdev_emulation=0",
               "--guest-exec", str(SOURCES / "machine.sh")], 0,
              r"ok +boot 1: script machine.sh: [^\0]*ok +boot 2: script machine.sh: "),
        Trial("two GPUs behind a virtual IOMMU, each with a driver",
              ["--module", "{gpu}", "--gpus", "2", "--iommu", "--fail-on", "all",
               "--guest-exec", str(SOURCES / "two.sh")], 0,
              r"(?s)ok +no misuse: none.* copies +2\n"),
        Trial("what is right and wrong with CPU caches is told apart",
              ["--module", "{caches}", "--guest-exec", str(SOURCES / "caches.sh"),
               "--check-caches=loads"], 3, r"ok +CPU caches: followed",
              emulated=True, judged=cache_cases.judge),
        *(Trial(f"presil's driver leaves no line in a CPU's cache, {door}",
                ["--door", door, "--check-caches=loads"], 0, r"ok +CPU caches: followed",
                emulated=True, judged=cache_cases.is_clean) for door in session.DOORS),
        Trial("a script's exit status is the run's, on the other door too",
              ["--door", "vhost-user"], 3, r"FAIL +script script.sh: exit status 3",
              script="exit 3"),
        Trial("a panic is told, and what the model had seen until then",
              ["--module", "{gpu}", "--append", "sysrq_always_enabled"], 1,
              r"(?s)FAIL +kernel log: panic: Kernel panic.* copies +1\n",
              script="echo c > /proc/sysrq-trigger"),
        Trial("a script that hangs is stopped at the limit, a stuck task called out",
              ["--module", "{bad},how=hang", "--timeout", "40",
               "--append", "sysctl.kernel.hung_task_timeout_secs=5"], 124,
              r"(?s)FAIL +kernel log: hung task: .*last lines of the guest's console.*  waiting",
              script="while :; do echo waiting; sleep 1; done", long=True),
    ]


def jobs() -> list[Job]:
    """Every trial as a job."""
    late = f"{PREFIX}a guest is not gone before the model was asked, however slow the host"
    return [
        *(Job(PREFIX + trial.name, partial(job, trial), trial.long, not trial.always, build)
          for trial in trials()),
        Job(late, partial(asked_late, late), once=True),
    ]


def modules(prepared: Prepared) -> Path:
    """Where the test modules for a kernel are built."""
    return module.target_directory() / "kmod" / prepared.kernel.release / SOURCES.name


def build(progress: Progress, prepared: Prepared) -> None:
    """Build the test modules for a kernel."""
    cache = Cache(progress)
    with locked(cache.root, progress):
        cc = compiler.ensure(cache, Debian(cache))
    with locked(module.target_directory(), progress):
        module.build_plain(progress, prepared.kernel, SOURCES, cc)


def job(trial: Trial, prepared: Prepared, directory: Path) -> list[Result]:
    """What came of a trial."""
    if trial.emulated and prepared.accel != "tcg":
        reason = "KVM runs the guest's CPUs: nobody follows their caches"
        return [Result(suite(prepared), PREFIX + trial.name, skipped=reason)]
    return [Result(suite(prepared), PREFIX + trial.name, tried(trial, prepared, directory))]


def suite(prepared: Prepared) -> str:
    """What the results belong to."""
    return f"{prepared.versions['kernel']}.own-driver"


def command(trial: Trial, prepared: Prepared, directory: Path) -> list[str]:
    """The whole call, with the files that it names."""
    built = modules(prepared)
    places = {
        "{gpu}": built / "e3k_first_fence.ko", "{bad}": built / "misbehave.ko",
        "{caches}": built / "e3k_caches.ko",
        "{mistakes}": built / "e3k_mistakes.ko",
        "{image}": prepared.kernel.vmlinux, "{tree}": prepared.kernel.needs[0].parent,
        "{foreign}": directory / "other/misbehave.ko",
    }
    if "{foreign}" in trial.arguments:
        of_another_kernel(places["{bad}"], places["{foreign}"])
    # Options first: what follows "--" among the arguments is the server's.
    words = ["--keep-logs", str(directory)]
    if "--kernel-image" not in trial.arguments:
        words += kernel_option(prepared)
    if trial.script:
        file = directory / "files/script.sh"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{trial.script}\n", "utf-8")
        words += ["--guest-exec", str(file)]
    words += trial.arguments
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    return [sys.executable, str(REPO / "scripts/run"), *words]


def of_another_kernel(path: Path, changed: Path) -> None:
    """A module with another version magic, as one built for another configuration has it.

    Where symbols have versions the kernel does not compare its own number.
    """
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_bytes(re.sub(rb"(\0vermagic=\S+) SMP ", rb"\1 PMS ", path.read_bytes()))


def asked_late(name: str, prepared: Prepared, directory: Path) -> list[Result]:
    """Ask the model long after the guest has said that it is done."""

    def look(path: Path, gpus: int) -> dict[str, Any]:
        time.sleep(LATE_SECONDS)  # a guest that did not wait has left by then
        return answers(path, gpus)

    answers = model.look
    with mock.patch.object(model, "look", look):
        outcome = session.run(Silent(), prepared, session.Guest("boot"), directory)
    unanswered = outcome.model.get("unanswered", ["it was not asked"])
    bad = [told["name"] for told in outcome.checks if session.is_bad(told)]
    return [Result(suite(prepared), name, "; ".join([*unanswered, *bad]))]


def tried(trial: Trial, prepared: Prepared, directory: Path) -> str:
    """What was wrong with one trial."""
    with subprocess.Popen(
        command(trial, prepared, directory), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as run:
        try:
            said = patience.communicate(run, LIMIT_SECONDS)
        except BaseException:
            run.terminate()
            raise
    where = f"(logs in {directory})"
    if said is None:
        return f"did not end within {LIMIT_SECONDS} s {where}"
    output, errors = said
    if run.returncode != trial.status:
        last = (errors.splitlines() or [""])[-1]
        return f"exit status {run.returncode}, expected {trial.status}: {last} {where}"
    report = json.loads((directory / "report.json").read_text("utf-8"))
    told = report["exit_status"]
    if told != trial.status:
        return f"report.json says exit status {told}, expected {trial.status} {where}"
    if not re.search(trial.shows, output):
        return f"the report does not have {trial.shows!r} {where}"
    problem = trial.judged(report)
    return f"{problem} {where}" if problem else ""
