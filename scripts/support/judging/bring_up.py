"""scripts/run with a user's own driver, as a user calls it: what passes, and what must not."""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from ..building import module
from ..building.setup import Prepared
from ..cache import REPO, Cache, locked
from ..errors import Refused
from ..getting import compiler
from ..getting.debian import Debian
from ..progress import Progress
from ..running import model, patience, session

SOURCES = REPO / "tests/pci-module"
LIMIT_SECONDS = 300
LATE_SECONDS = 3.0
BAD_PACKET = 0xA000_0000
"""No packet has the opcode 10."""


@dataclass(frozen=True)
class Trial:
    """One call of scripts/run."""

    name: str
    arguments: list[str]
    status: int
    shows: str
    """A pattern that the report must have."""
    always: bool = False
    """Whether it is worth the time on every kernel."""


def trials(built: Path, scratch: Path, prepared: Prepared) -> list[Trial]:
    """All calls; `built` has the test modules."""
    gpu, bad = str(built / "e3k_first_fence.ko"), str(built / "misbehave.ko")
    bound = ["--guest-exec", str(SOURCES / "first_fence.sh")]
    tree = prepared.kernel.needs[0].parent
    return [
        Trial("a PCI driver written from docs/ gets its first fence",
              ["--module", gpu, *bound,
               "--fail-on", "faults,ring-errors,unmet-waits,left-running,drm-errors"], 0,
              r"(?s)ok +script first_fence.sh.*ok +no left running", always=True),
        Trial("own kernel image, and a driver's module by name from its tree",
              ["--kernel-image", str(prepared.kernel.vmlinux), "--modules", str(tree),
               "--module", "drm", "--module", gpu, *bound], 0, r"ok +module drm.ko", always=True),
        Trial("a driver that checks its data notices lost copies",
              ["--module", gpu, *bound, "--", "--defect", "copies"], 1, r"the copy is wrong"),
        Trial("a halted ring is shown with its dword",
              ["--module", f"{gpu},first_dword={BAD_PACKET}"], 1,
              rf"ring 0 halted at offset 0x0, dword {BAD_PACKET:#010x}"),
        Trial("a module that oopses is called out",
              ["--module", f"{bad},how=oops"], 1, r"FAIL +kernel log: oops: BUG: kernel NULL"),
        Trial("a module that WARNs is called out",
              ["--module", f"{bad},how=warn"], 1, r"FAIL +kernel log: warning: WARNING: "),
        Trial("a module of another kernel is refused in a clear line",
              ["--module", str(of_another_kernel(Path(bad), scratch))], 1,
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
              ["--module", f"{gpu},leave_running=1", "--fail-on", "left-running,drm-errors",
               "--guest-exec",
               script(scratch, "echo '<3>[drm] *ERROR* planted' > /dev/kmsg; rmmod e3k_first_fence")],
              1, r"(?s)FAIL +no left running: ring 0 is started: Head (0x\w+), Tail \1"
                 r".*FAIL +no drm errors: .*planted"
                 r".*left running: no driver has the GPU.*\n  bus master is off\n"),
        Trial("RAM, CPUs, options of QEMU and reboots are what was asked for",
              ["--ram", "1G", "--cpus", "3", "--qemu-arg", "-device edu", "--reboots", "1",
               "--module", "drm_kms_helper,fbdev_emulation=0",
               "--guest-exec", str(SOURCES / "machine.sh")], 0,
              r"ok +boot 1: script machine.sh: [^\0]*ok +boot 2: script machine.sh: "),
        Trial("two GPUs behind a virtual IOMMU, each with a driver",
              ["--module", gpu, "--gpus", "2", "--iommu", "--fail-on", "all",
               "--guest-exec", str(SOURCES / "two.sh")], 0,
              r"(?s)ok +no misuse: none.* copies +2\n"),
        Trial("a script's exit status is the run's, on the other door too",
              ["--door", "vhost-user", "--guest-exec", script(scratch, "exit 3")], 3,
              r"FAIL +script script.sh: exit status 3"),
        Trial("a panic is told, and what the model had seen until then",
              ["--module", gpu, "--append", "sysrq_always_enabled",
               "--guest-exec", script(scratch, "echo c > /proc/sysrq-trigger")], 1,
              r"(?s)FAIL +kernel log: panic: Kernel panic.* copies +1\n"),
        Trial("a script that hangs is stopped at the limit, a stuck task called out",
              ["--module", f"{bad},how=hang", "--timeout", "40",
               "--append", "sysctl.kernel.hung_task_timeout_secs=5", "--guest-exec",
               script(scratch, "while :; do echo waiting; sleep 1; done")], 124,
              r"(?s)FAIL +kernel log: hung task: .*last lines of the guest's console.*  waiting"),
    ]


def build(progress: Progress, prepared: Prepared) -> Path:
    """The directory with the test modules for a kernel."""
    cache = Cache(progress)
    with locked(cache.root, progress):
        cc = compiler.ensure(cache, Debian(cache))
    with locked(module.target_directory(), progress):
        return module.build_plain(progress, prepared.kernel, SOURCES, cc)


def script(scratch: Path, text: str) -> str:
    """A script with this text, in a directory of its own."""
    path = scratch / re.sub(r"\W+", "-", text) / "script.sh"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    return str(path)


def of_another_kernel(path: Path, scratch: Path) -> Path:
    """A module with another version magic, as one built for another configuration has it.

    Where symbols have versions the kernel does not compare its own number.
    """
    changed = scratch / "other" / path.name
    changed.parent.mkdir(parents=True, exist_ok=True)
    changed.write_bytes(re.sub(rb"(\0vermagic=\S+) SMP ", rb"\1 PMS ", path.read_bytes()))
    return changed


def checks(
    progress: Progress, prepared: Prepared, scratch: Path, first: bool
) -> list[tuple[str, str]]:
    """Names, each with what was wrong; on any kernel but the first only what is worth it."""
    try:
        built = build(progress, prepared)
    except Refused as refusal:
        return [("modules of tests/pci-module build", str(refusal))]
    worth_it = [trial for trial in trials(built, scratch, prepared) if first or trial.always]
    results = []
    for trial in progress.counted(worth_it):
        with progress.phase("own driver", trial.name):
            results.append((trial.name, tried(trial, prepared.kernel.origin, scratch)))
    if first:
        results.append(("a guest is not gone before the model was asked, however slow the host",
                        asked_late(progress, prepared, scratch)))
    return results


def asked_late(progress: Progress, prepared: Prepared, scratch: Path) -> str:
    """Ask the model long after the guest has said that it is done."""

    def look(path: Path, gpus: int) -> dict[str, Any]:
        time.sleep(LATE_SECONDS)  # a guest that did not wait has left by then
        return answers(path, gpus)

    answers = model.look
    with mock.patch.object(model, "look", look):
        outcome = session.run(progress, prepared, session.Guest("boot"), scratch / "late")
    unanswered = outcome.model.get("unanswered", ["it was not asked"])
    return "; ".join([*unanswered, *(c["name"] for c in outcome.checks if session.is_bad(c))])


def tried(trial: Trial, kernel: str, scratch: Path) -> str:
    """What was wrong with one trial."""
    logs = scratch / re.sub(r"\W+", "-", trial.name)
    which = [] if "--kernel-image" in trial.arguments else ["--kernel", kernel]
    command = [str(REPO / "scripts/run"), *which, "--keep-logs", str(logs), *trial.arguments]
    with subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as run:
        said = patience.communicate(run, LIMIT_SECONDS)
    if said is None:
        return f"did not end within {LIMIT_SECONDS} s (logs in {logs})"
    output, errors = said
    if run.returncode != trial.status:
        last = (errors.splitlines() or [""])[-1]
        return f"exit status {run.returncode}, expected {trial.status}: {last} (logs in {logs})"
    told = json.loads((logs / "report.json").read_text("utf-8"))["exit_status"]
    if told != trial.status:
        return f"report.json says exit status {told}, expected {trial.status} (logs in {logs})"
    if not re.search(trial.shows, output):
        return f"the report does not have {trial.shows!r} (logs in {logs})"
    return ""
