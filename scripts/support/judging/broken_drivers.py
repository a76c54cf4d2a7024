"""Faults of a driver, one at a time in a copy of ours: which check notices each."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import commands
from ..building import module
from ..cache import REPO, cache_root
from ..errors import Refused
from ..progress import Progress
from . import driver_checker

WORK = "broken-drivers"
IGNORED = {".git", ".cache", "target", "__pycache__"}
IN_PROCESS = ["cargo", "test", "--package", "vidmm"]
SHOWN = 4
"""How many of the checks that notice a fault are named."""
FAILED_TEST = re.compile(r"^test (\S+) \.\.\. FAILED$", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """A textual edit that makes the driver wrong, and what must notice it."""

    name: str
    what: str
    file: str
    old: str
    new: str
    noticed_by: tuple[str, ...]
    """The checks, or tests, that must fail, by the beginning of their names; empty where nothing
    can notice it yet, as docs/bring-your-driver.md says."""
    options: tuple[str, ...] = ()
    """More options for scripts/run."""
    in_process: bool = False
    """Noticed without a virtual machine, by the tests of the driver's logic."""


RING = "guest-driver/vidmm/src/engine/ring.rs"
GART = "guest-driver/vidmm/src/bo/gart.rs"
BUFFERS = "guest-driver/vidmm/src/adapter/buffers.rs"
PAGES = "guest-driver/kmod/pages.c"

NOTHING = Fault("nothing", "the driver as it is", "", "", "", ())

FAULTS = [
    Fault(
        "fence-before-work", "the fence is written before the work", RING,
        "            work(out);\n            out.fence(at, fence, false);\n"
        "            out.fence(echo, fence, true);\n",
        "            out.fence(at, fence, false);\n            out.fence(echo, fence, true);\n"
        "            work(out);\n",
        ("fill is there when its fence comes", "work, fence and Indicators in the ring"),
    ),
    Fault(
        "no-indicator-behind", "no Indicator stands behind the work", RING,
        "            out.indicator(CspCommand::INFO_OFF, KERNEL_PROCESS);\n", "",
        ("work, fence and Indicators in the ring",),
    ),
    Fault(
        "no-invalidation-at-unbind", "the TLBs keep what is unbound", GART,
        "|_| self.dummy_pte);\n        os.write_barrier();\n"
        "        os.access(&mut chip.invalidate(va, count * PAGE_SIZE))",
        "|_| self.dummy_pte);\n        os.write_barrier();\n"
        "        let _ = chip;\n        Ok(())",
        ("no TLB holds a page that was given back",),
    ),
    Fault(
        "no-invalidation-at-bind", "the TLBs keep what was there before", GART,
        "        result?;\n        os.access(&mut chip.invalidate(va, count * PAGE_SIZE))",
        "        result?;\n        let _ = chip;\n        Ok(())",
        ("fill RAM beside RAM in use",),
    ),
    Fault(
        "unmapped-while-bound", "RAM is unmapped for DMA, and the page tables still lead to it",
        BUFFERS, "            self.gart.unbind(&*self.memory.os, chip, va, count)?;\n",
        "            let _ = (chip, va, count);\n",
        ("driver checker (20001",), options=("--door", "vfio-user", "--iommu"),
    ),
    Fault(
        "unmapped-before-the-invalidation",
        "RAM is unbound and unmapped for DMA, and the TLBs are not told",
        GART, "|_| self.dummy_pte);\n        os.write_barrier();\n"
        "        os.access(&mut chip.invalidate(va, count * PAGE_SIZE))",
        "|_| self.dummy_pte);\n        os.write_barrier();\n"
        "        let _ = chip;\n        Ok(())",
        ("driver checker (20002",), options=("--door", "vfio-user", "--iommu"),
    ),
    Fault(
        "freed-before-its-fence", "memory is given back before its fence", BUFFERS,
        " || last_use > self.ring0.timeline.completed()", " || last_use == u64::MAX",
        ("copy from RAM that is freed meanwhile",),
    ),
    Fault(
        "pages-not-zeroed", "RAM pages are not zeroed", PAGES,
        " | __GFP_ZERO", "",
        ("RAM pages that are used again begin as zeros",),
        # Debian's kernels zero every page by themselves.
        options=("--append", "init_on_alloc=0"),
    ),
    Fault(
        "no-write-combining", "unsnooped pages are not write-combined", PAGES,
        "pages->write_combined = write_combined;",
        "pages->write_combined = write_combined = false;",
        ("unsnooped RAM is write-combined, snooped RAM is not", "driver checker"),
        options=("--check-caches=loads",),
    ),
    Fault(
        "everything-snooped", "unsnooped RAM is bound as snooped", BUFFERS,
        "let snoop = segment == SegmentId::PcieSnoop;", "let snoop = true;",
        ("first touch binds unsnooped RAM",),
    ),
    Fault(
        "no-barrier", "no write barrier before the doorbell", RING,
        "        os.write_barrier();\n", "",
        ("tests::",), in_process=True,
    ),
    Fault(
        "no-barrier-in-the-kernel", "the kernel's write barrier does nothing",
        "guest-driver/kmod/rust_glue.c", "\twmb();\n", "", (),
    ),
]


def named(names: list[str]) -> list[Fault]:
    """The faults of these names, or all; refuses a name that there is not."""
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        raise Refused(f"no fault is called {', '.join(sorted(unknown))} (--list names them all)")
    return [fault for fault in FAULTS if not names or fault.name in names]


def edited(text: str, fault: Fault) -> str:
    """A source with the fault in it; refuses where the place is not there exactly once."""
    count = text.count(fault.old)
    if count != 1:
        raise Refused(f"{fault.file}: the place of the fault {fault.name} is there {count} times")
    return text.replace(fault.old, fault.new)


def sources(root: Path) -> Iterator[Path]:
    """The files of a checkout, relative to it."""
    for directory, below, files in os.walk(root):
        below[:] = [name for name in below if name not in IGNORED]
        for name in files:
            yield (Path(directory) / name).relative_to(root)


def refresh(tree: Path, root: Path = REPO) -> None:
    """Make `tree` a copy of the checkout. What is alike is not touched: it is built already."""
    wanted = set(sources(root))
    for path in wanted:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        module.copy_if_changed((root / path).read_bytes(), tree / path)
        shutil.copymode(root / path, tree / path)
    for path in set(sources(tree)) - wanted:
        (tree / path).unlink()


def failures(tree: Path, fault: Fault, door: str, progress: Progress) -> list[str]:
    """What fails with the fault in the copy: names of checks, or of tests."""
    work = tree.parent
    environment = {
        "CARGO_TARGET_DIR": str(work / "target"), "PRESIL_CACHE": str(cache_root()),
    }
    if fault.in_process:
        run = commands.run(
            IN_PROCESS, cwd=tree, environment=environment, on_line=progress.detail
        )
        return explained(FAILED_TEST.findall(run.output), run)
    logs = work / fault.name
    run = commands.run(
        ["scripts/run", "--door", door, *fault.options, "--keep-logs", logs],
        cwd=tree, environment=environment, on_line=progress.detail,
    )
    try:
        report = json.loads((logs / "report.json").read_text("utf-8"))
    except FileNotFoundError:
        report = {"checks": []}
    return explained(names(report), run)


def names(report: dict[str, Any]) -> list[str]:
    """The checks that failed; first the driver checker's, with the rules that found something."""
    failed = [str(told["name"]) for told in report["checks"] if told.get("ok") is not True]
    found = driver_checker.reports(report.get("driver_checker", []))
    rules = sorted({str(one["rule"]) for one in found})
    if not rules:
        return failed
    judged = f"{driver_checker.NAME} ({' '.join(rules)})"
    return [judged, *(name for name in failed if name != driver_checker.NAME)]


def explained(failed: list[str], run: commands.Result) -> list[str]:
    """The failures; refuses a run that came to no verdict of its own."""
    if run.status != 0 and not failed:
        raise Refused(f"no check failed, but the run did: {commands.last_line(run.output)}")
    return failed


def verdict(fault: Fault, failed: list[str]) -> tuple[bool, str]:
    """Whether the fault was noticed by what has to notice it, and that in words."""
    more = f" and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    by = ", ".join(failed[:SHOWN]) + more if failed else "nothing"
    if not fault.noticed_by:
        return not failed, f"noticed by {by}"
    missed = [
        wanted for wanted in fault.noticed_by
        if not any(name.startswith(wanted) for name in failed)
    ]
    return not missed, f"noticed by {by}" + "".join(f"; not by {wanted}" for wanted in missed)


def run(progress: Progress, faults: list[Fault], door: str) -> bool:
    """Break the driver in one way after another, behind this door. True if all is noticed as it should be."""
    work = module.target_directory() / WORK
    tree = work / "tree"
    with progress.phase("copy", "a copy of the checkout"):
        refresh(tree)
    good = True
    for fault in [NOTHING, *faults]:
        original = tree / fault.file
        text = original.read_text("utf-8") if fault.file else ""
        with progress.phase(fault.name, fault.what):
            try:
                if fault.file:
                    original.write_text(edited(text, fault), "utf-8")
                failed = failures(tree, fault, door, progress)
            finally:
                if fault.file:
                    original.write_text(text, "utf-8")
        noticed, words = verdict(fault, failed)
        good &= noticed
        print(f"  {'ok  ' if noticed else 'FAIL'}  {fault.name}: {words}", flush=True)
        if fault is NOTHING and not noticed:
            raise Refused("the driver without a fault does not pass: nothing can be told")
    return good
