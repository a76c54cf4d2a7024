"""The whole-stack tests in virtual machines: which guests, and how each is judged."""

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..building.setup import Prepared
from ..progress import Silent
from ..running import session, vm
from ..running.console import Transcript
from ..running.session import Guest
from . import driver_checker, lspci
from .jobs import Job
from .results import Result

TAP_LINE = re.compile(r"^(not ok|ok) (\d+)\b(?: - )?(.*?)(?: # (SKIP|skip)\b\s*(.*))?$")
TAP_PLAN = re.compile(r"^1\.\.(\d+)")


@dataclass(frozen=True)
class Case:
    """One guest, and what must come of it."""

    name: str
    guest: Guest
    fails: tuple[str, ...] = ()
    """Checks that must fail, by the beginning of their names, and no others: a negative control."""
    tap: bool = False
    """Whether the guest prints TAP whose lines count as tests."""
    counted: str = ""
    """What the door must have counted: the way that the driver went."""
    lspci: bool = False
    """Whether the guest tells its configuration space, which is held against the snapshot."""
    once: bool = False
    """Whether it shows something of the model, a door or our checks that no other kernel changes."""
    checked: str = driver_checker.DEFAULT
    """What the driver checker judges, as `--check` says it; nothing where checks must fail."""
    least_ranges: int = 0
    """How often QEMU must lend memory, at least: that a virtual IOMMU is in use shows in it."""
    has_input: tuple[int, ...] = ()
    """Rules of the driver checker that must have had something to judge."""


def cases() -> list[Case]:
    """Every case, for any kernel."""
    def defective(name: str) -> Guest:
        return Guest("demo", server_options=[*session.SEEDED, "--defect", name])

    def mitigated(cpu: str, mitigation: str) -> Guest:
        return Guest("demo", cpu=cpu, kernel_arguments=["mitigations=auto", mitigation])

    return [
        *(case for door in session.DOORS for case in on_any_door(door)),
        *on_the_pci_function(),
        Case("the register cannot say this VRAM size", Guest("demo", vram="1280M", visible="1G"),
             once=True),
        Case("reboot, then everything again", Guest("reboot", boots=2)),
        Case("kexec while the GPU works", Guest("kexec", kexec=True)),
        Case("what scripts/bench measures can be measured", Guest("bench"), counted="doorbells",
             once=True),
        # Debian's kernels zero every page; the driver must do it without them.
        Case("init_on_alloc=0", Guest("demo", kernel_arguments=["init_on_alloc=0"])),
        Case("retbleed=unret", mitigated("EPYC-Rome", "retbleed=unret")),
        Case("retbleed=stuff", mitigated("Skylake-Server-v1", "retbleed=stuff")),
        Case("a model that ignores copies is noticed", defective("copies"), fails=("copy ",),
             once=True),
        # New VRAM is cleared by fills, and the scattered pages are filled.
        Case("a model that ignores fills is noticed", defective("fills"),
             fails=("fill ", "fresh VRAM reads zero", "GPU and CPU find the same scattered pages"),
             once=True),
        # Ignored invalidations and segments let the GPU write to memory that is the guest
        # kernel's by then; tests/ has those controls, where nothing else can break.
    ]


def on_any_door(door: str) -> list[Case]:
    """What holds of a GPU however the guest reaches it."""
    return [
        Case("demo", Guest("demo", door)),
        Case("selftest", Guest("selftest", door), tap=True),
        Case("2 GiB of VRAM, half of it visible", Guest("demo", door, vram="2G", visible="1G")),
        Case("all VRAM visible", Guest("demo", door, vram="1G", visible="1G"), once=True),
        Case("driver reloaded 20 times", Guest("reload", door)),
    ]


def on_the_pci_function() -> list[Case]:
    """What only a PCI function has: removal, resets, sleep, INTx; and a guest without driver."""
    door = "vfio-user"
    stale = [*session.SEEDED, "--defect", "invalidations"]
    # Every page that the driver maps is a range of its own at the door then.
    behind_iommu = {"devices": vm.IOMMU, "kernel_arguments": vm.IOMMU_ARGUMENTS}
    return [
        Case("removal, resets and sleep, idle and in use",
             # A check clears a page-table entry beside the driver.
             Guest("function", door, limit_seconds=300, kernel_arguments=["iomem=relaxed"]),
             # One of them takes bus mastering away under work.
             lspci=True, checked="warn,70016=off"),
        *(Case(f"a job at fault is its client's affair, --on-fault {policy}",
               Guest("faults", door, kernel_arguments=["iomem=relaxed"],
                     server_options=[*session.SEEDED, "--on-fault", policy]), once=True)
          for policy in ("halt", "retry")),
        Case("behind a virtual IOMMU", Guest("selftest", door, **behind_iommu), tap=True,
             # Without these, that nothing was unmapped too early would say nothing.
             least_ranges=2000, has_input=(20001, 20003)),
        Case("pci=nomsi", Guest("intx", door, kernel_arguments=["pci=nomsi"]), once=True),
        Case("10 reboots, then everything again",
             Guest("reboot", door, boots=11, limit_seconds=600), once=True),
        # QEMU reserves what ends at 2^40 where an AMD CPU has 40 address bits, as its own
        # without KVM has; there firmware puts the port's room, and Linux does not use it.
        Case("a GPU that comes by device_add",
             Guest("hotplug", door, hotplug=True, cpu="qemu64,vendor=GenuineIntel"), once=True),
        Case("kexec and a crash while the GPU works",
             Guest("kexec", door, kexec=True, kernel_arguments=["crashkernel=224M"]),
             # A kernel that crashes in its interrupt handler never looks.
             checked="warn,70006=off"),
        # It takes bus mastering from a ring that is to fetch.
        Case("without a driver", Guest("bare", door), checked="warn,60005=off,70016=off"),
        # Without a driver all pages that the GPU ever saw are one program's.
        Case("a model that ignores invalidations is noticed",
             Guest("bare", door, server_options=stale), fails=("a page is mapped anew",),
             once=True),
    ]


def jobs() -> list[Job]:
    """Every case as a job."""
    return [
        Job(full_name(case), partial(tried, case),
            long=case.guest.limit_seconds > session.GUEST_LIMIT_SECONDS, once=case.once)
        for case in cases()
    ]


def full_name(case: Case) -> str:
    """A case's name with its door."""
    return f"{case.guest.door}: {case.name}"


def tried(case: Case, prepared: Prepared, directory: Path) -> list[Result]:
    """What came of a case, and of each of its guest's tests where those count."""
    suite, progress = prepared.versions["kernel"], Silent()
    # What is broken on purpose may look like a driver's mistake.
    judged = None if case.fails else driver_checker.Request(case.checked, asked=True)
    guest = replace(case.guest, checker=judged)
    outcome = session.run(progress, prepared, guest, directory)
    problem = judge(case, outcome)
    if case.lspci and not problem:
        problem = lspci.difference(progress, outcome.transcript.all("config"))
    if problem:
        problem += f" (logs in {directory})"
    results = [Result(suite, full_name(case), problem)]
    if case.tap:
        text = (directory / "console.log").read_text("utf-8")
        results += tap_results(f"{suite}.{case.guest.door}", text)
    return results


def judge(case: Case, outcome: session.Outcome) -> str:
    """Why the case failed; empty when it passed."""
    bad = [check for check in outcome.checks if session.is_bad(check)]
    if case.counted and not outcome.model.get("device", {}).get("door", {}).get(case.counted):
        return f"the door counted no {case.counted}"
    if not case.fails:
        if not outcome.checks:
            return f"no check was made; messages: {kinds(outcome.transcript)}"
        problems = [f"{check.get('name')}: {check.get('detail')}" for check in bad]
        lent = outcome.model.get("device", {}).get("door", {}).get("dma_maps", 0)
        if lent < case.least_ranges:
            problems.append(f"{lent} ranges were lent, expected {case.least_ranges} or more")
        idle = set(case.has_input) - driver_checker.with_input(outcome.driver_checker)
        problems += [f"rule {rule} of the driver checker had no input" for rule in sorted(idle)]
        return "; ".join(problems)
    # What came behind a GPU that hangs was not run: that is no second failure.
    names = [str(check.get("name")) for check in bad if "not_run" not in check]
    missed = [want for want in case.fails if not any(name.startswith(want) for name in names)]
    unwanted = [name for name in names if not name.startswith(case.fails)]
    if missed or unwanted:
        return f"{missed} did not fail as they must; others failed: {unwanted}"
    return ""


def kinds(transcript: Transcript) -> str:
    """What the guest said at all."""
    return ", ".join(transcript.messages) or "none"


def tap_results(suite: str, text: str) -> list[Result]:
    """A guest's TAP as results; a missing or broken plan is a failure."""
    results = []
    planned = None
    for line in text.splitlines():
        if plan := TAP_PLAN.match(line):
            planned = int(plan[1])
        elif found := TAP_LINE.match(line):
            problem = "" if found[1] == "ok" else "not ok"
            skipped = (found[5] or "no reason given") if found[4] else ""
            results.append(Result(f"{suite}.selftest", found[3], problem, skipped))
    if planned != len(results):
        problem = f"{planned} tests planned, {len(results)} reported"
        results.append(Result(f"{suite}.selftest", "plan", problem))
    return results
