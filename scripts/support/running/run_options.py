"""The command line of scripts/run."""

import argparse
import re
import shlex
import textwrap
from collections.abc import Callable
from pathlib import Path

from ..building import own_driver
from ..errors import Refused
from ..getting.kernel import SUITES
from ..judging import driver_checker, fail_on
from . import caches, defects, session, vm

MOST_CPUS = 64
MOST_GPUS = 8
MOST_REBOOTS = 1000
OWN_DOOR = "vfio-user"
"""Drivers for the chip expect a PCI function."""

DESCRIPTION = """\
Boots a Linux guest on the GPU model and reports. Without further options the
guest loads presil's own driver and performs the demo (vidmm_init, allocation,
page fault, GART bind, GPU fills and copies checked byte by byte). With
--module, --guest-exec or --kernel-image it runs your driver instead, on our
kernel or yours, and presil's driver stays out.

The first run fetches QEMU, a Debian kernel and its headers without root into
the cache directory and builds everything: some minutes. Later runs take seconds
and need no network.
"""

EPILOG = """\
the model:
  What follows -- goes to `presil serve` (see its --help): --chip 2020,
  --strict-utlb, --on-fault halt, --vram-seed 7 and others.

the driver checker:
  The model tells what silicon would punish a driver for later or elsewhere: TLBs
  that were not told, memory given away too early, fences before their work. Each
  rule has a number: `presil explain 10001`, docs/rules/. See docs/checker.md.

the guest of your own driver:
  Modules are loaded in their order, each after what it depends on. Then SCRIPT
  runs in /root, with busybox's commands and `ask-model QUESTION`, which asks the
  model what `presil query` asks. An oops, a WARNING, a failed probe, a hung task
  and the like in the guest's kernel log is called out and fails the run.

what --fail-on knows:
{kinds}

exit status:
  0 if every check passed; the script's own where that is not 0; 1 if a check
  failed or something cannot be had; 2 for a wrong command line; 3 if nothing but
  the driver checker complains; 124 at the time limit; 130 after Ctrl-C.

environment:
  PRESIL_CACHE          where downloads are kept (default: .cache in the checkout)
  PRESIL_DEBIAN_MIRROR  the Debian mirror (default: the one in /etc/apt)
  PRESIL_QEMU           your own qemu-system-x86_64, 11.1 or newer
  PRESIL_KERNEL         your own kernel, a bzImage or vmlinux with DRM (with PRESIL_HEADERS)
  PRESIL_HEADERS        its header tree, as `make -C` takes it (with PRESIL_KERNEL)

files:
  target/run/latest/       of the last run: report.json, the report for programs, and
                           console.log, server.log, qemu.log; the last ten are kept
  target/run/report.json   the last run's report, once that run has ended

examples:
  scripts/run                              the demo on Debian stable's kernel
  scripts/run --kernel backports           ... on the backports kernel
  scripts/run --vram 4G --visible 1G       another memory size
  scripts/run --shell                      an interactive guest, driver loaded
  scripts/run --module mygpu.ko,debug=1 --guest-exec test.sh
                                           your driver, built for Debian's kernel
  scripts/run --module drm_kms_helper,fbdev_emulation=0 --module mygpu.ko
                                           with a parameter for a module of the kernel
  scripts/run --module mygpu.ko --guest-exec test.sh --gpus 2 --iommu --ram 2G
                                           two GPUs behind an IOMMU, and more RAM
  scripts/run --kernel-image bzImage --modules lib/modules/6.15.0 --module mygpu
                                           your kernel and a driver of its tree
  scripts/run --module mygpu.ko --guest-exec test.sh --check warn,6=off
                                           without the checker's rules of rings
  scripts/run --module mygpu.ko --guest-exec test.sh --check-caches=loads
                                           and with the guest's CPU caches in view
  scripts/run --module mygpu.ko --shell    ... loaded, and you at the console
  scripts/run --module mygpu.ko --guest-exec test.sh --defect copies
                                           does your test notice lost copies?
"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; `serve_options` is what follows `--`."""
    ours, serve_options = split(arguments)
    parser = argparse.ArgumentParser(
        prog="scripts/run", description=DESCRIPTION, epilog=EPILOG.format(kinds=kinds()),
        allow_abbrev=False,
        usage="scripts/run [options] [-- options of presil serve]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_machine(parser)
    add_own(parser)
    add_checker(parser)
    add_run(parser)
    options = parser.parse_args(ours)
    broken = [word for names in options.defect for word in ("--defect", names)]
    options.serve_options = [*serve_options, *broken]
    check_together(parser, options)
    return options


def check_together(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse what does not go together; the door is chosen where the user did not."""
    for option, value in {"--modules": options.tree, "--guest-file": options.guest_file}.items():
        if value and not is_own(options):
            parser.error(f"{option}: give a --module, a --guest-exec or a --kernel-image too")
    if options.fail_on and not is_own(options):
        parser.error("--fail-on: the demo causes what it can; give a driver or script of your own")
    try:
        options.unwanted = fail_on.parse(options.fail_on)
    except Refused as refusal:
        parser.error(str(refusal))
    for option, value in {"--junit": options.junit, "--fail-on": options.fail_on}.items():
        if value and (options.shell or options.setup_only):
            parser.error(f"{option}: with --shell and --setup-only nothing is checked")
    options.door = options.door or (OWN_DOOR if is_own(options) else session.DOORS[0])
    if options.iommu and options.door != OWN_DOOR:
        parser.error(f"--iommu: needs --door {OWN_DOOR}")
    if options.check_caches and options.check == driver_checker.OFF:
        parser.error("--check-caches: needs the driver checker, which --check off leaves out")
    if options.check_caches and options.iommu:
        parser.error("--check-caches: knows the GPU's addresses only without --iommu")
    if options.gpus > 1 and not is_own(options):
        parser.error("--gpus: the demo uses one; give a driver or script of your own")
    if options.reboots and (options.shell or options.setup_only):
        parser.error("--reboots: with --shell and --setup-only nothing reboots")


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before the first `--`, and what after it."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def add_machine(parser: argparse.ArgumentParser) -> None:
    """What the guest and its GPU are."""
    group = parser.add_argument_group("the machine")
    kernel = group.add_mutually_exclusive_group()
    kernel.add_argument("--kernel", choices=sorted(SUITES, reverse=True), default="stable",
                        help="which Debian kernel the guest runs (default: stable)")
    kernel.add_argument("--kernel-image", type=Path, metavar="FILE", dest="image",
                        help="your own kernel, a bzImage or a vmlinux with a PVH note")
    group.add_argument("--append", action="append", default=[], metavar="ARGS",
                       help="more arguments for the guest's kernel")
    group.add_argument("--ram", type=size, default=vm.GUEST_MEMORY, metavar="SIZE",
                       help=f"the guest's RAM (default: {vm.GUEST_MEMORY})")
    group.add_argument("--cpus", type=number(1, MOST_CPUS), default=vm.GUEST_CPUS, metavar="N",
                       help=f"the guest's CPUs, 1 to {MOST_CPUS} (default: {vm.GUEST_CPUS})")
    group.add_argument("--iommu", action="store_true",
                       help="a virtual IOMMU before the GPU, in strict mode (PCI function only)")
    group.add_argument("--gpus", type=number(1, MOST_GPUS), default=1, metavar="N",
                       help=f"GPUs, all alike, 1 to {MOST_GPUS} (your own driver only; default: 1)")
    group.add_argument("--qemu-arg", type=words, action="extend", default=[], metavar="ARG",
                       help="more options for QEMU, as in --qemu-arg '-device edu'; may be repeated")
    group.add_argument("--door", choices=session.DOORS,
                       help="how the guest meets the GPU: as a virtio device (default for the"
                       " demo) or as a PCI function (default for your own driver)")
    group.add_argument("--defect", action="append", default=[], metavar="NAME[,NAME]...",
                       help="break the GPU on purpose, to see that tests notice (`presil serve"
                       " --defect help` lists how); may be repeated")
    group.add_argument("--vram", type=size, default=session.DEFAULT_VRAM, metavar="SIZE",
                       help="the GPU's memory (default: 1G)")
    group.add_argument("--visible", type=size, default=session.DEFAULT_VISIBLE, metavar="SIZE",
                       help="how much of it the CPU can see, a power of two (default: 512M)")


def add_own(parser: argparse.ArgumentParser) -> None:
    """What the user brings."""
    group = parser.add_argument_group("your own driver")
    group.add_argument("--module", action="append", default=[], metavar="FILE.ko[,PARAM=VALUE]...",
                       help="load this module, or the one of this name in the tree of --modules;"
                       " may be repeated")
    group.add_argument("--guest-exec", type=Path, metavar="SCRIPT", dest="script",
                       help="then run this shell script, or static program, in the guest")
    group.add_argument("--guest-file", action="append", default=[], metavar="FILE[:PATH]",
                       help="put a file into the guest (default: into /root); may be repeated")
    group.add_argument("--modules", type=Path, metavar="DIR", dest="tree",
                       help="your kernel's lib/modules/VERSION or build tree: what modules"
                       " depend on is taken from there")
    group.add_argument("--fail-on", action="append", default=[], metavar="KIND[,KIND]...",
                       help="fail the run also where the model or the kernel's log has one of"
                       " these (below), or all; without it they are told only")


def add_checker(parser: argparse.ArgumentParser) -> None:
    """Who judges the driver."""
    group = parser.add_argument_group("the driver checker")
    group.add_argument("--check", metavar="LEVELS",
                       help="off, warn, or fault (which makes the access fault that is to blame), by"
                       " group and rule too, as in warn,6=off,10001=fault; a run that gives the"
                       f" GPU nothing to do then fails (default: {driver_checker.DEFAULT})")
    group.add_argument("--check-suppressions", type=Path, metavar="FILE",
                       help="findings that are known, one a line: RULE [KEY=VALUE ...] # REASON")
    group.add_argument("--check-caches", nargs="?", const=caches.STORES, metavar="loads",
                       choices=[caches.STORES, caches.LOADS],
                       help="judge unsnooped memory by what the guest's CPU caches hold: its stores"
                       " and flushes, with =loads what it reads, too. Emulated CPUs only: where KVM"
                       " runs the guest the report says that nobody watched. The guest takes up to"
                       " three times as long, with loads six times")


def kinds() -> str:
    """The kinds of --fail-on for the help text."""
    width = max(map(len, fail_on.KINDS))
    indent = " " * (width + 4)
    out = [
        textwrap.fill(text, 80, initial_indent=f"  {kind:<{width}}  ", subsequent_indent=indent)
        for kind, text in fail_on.KINDS.items()
    ]
    return "\n".join(out)


def add_run(parser: argparse.ArgumentParser) -> None:
    """How the run goes."""
    group = parser.add_argument_group("the run")
    group.add_argument("--shell", action="store_true",
                       help="an interactive guest with the driver loaded instead of the demo")
    group.add_argument("--reboots", type=number(0, MOST_REBOOTS), default=0, metavar="N",
                       help="reboot the guest N times, and do everything again each time")
    group.add_argument("--timeout", type=seconds, default=session.GUEST_LIMIT_SECONDS,
                       metavar="SECONDS",
                       help="stop a guest that takes longer; what a busy host takes from it does not"
                       " count"
                       f" (default: {session.GUEST_LIMIT_SECONDS})")
    group.add_argument("--keep-logs", type=Path, metavar="DIR",
                       help="put the report and the logs of console, server and QEMU into DIR")
    group.add_argument("--junit", type=Path, metavar="FILE",
                       help="write every check as JUnit XML, which CI systems read")
    group.add_argument("--setup-only", action="store_true",
                       help="fetch and build everything, start nothing")
    group.add_argument("--refresh", action="store_true",
                       help="ask the mirror for a newer kernel and QEMU")


def number(least: int, most: int) -> Callable[[str], int]:
    """What reads a whole number in these bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"{text!r}: expected a whole number from {least} to {most}"
            )
        return int(text)

    return read


def size(text: str) -> str:
    """A size as the model reads it, which knows which sizes there are."""
    if not re.fullmatch(r"[0-9]+(?:[KMGT](?:iB)?|B)?", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size, as in 512M or 4G")
    return text


def words(text: str) -> list[str]:
    """Options for QEMU, split as a shell does it."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def seconds(text: str) -> int:
    """A time limit."""
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole seconds, from 1 on")
    return int(text)


def is_own(options: argparse.Namespace) -> bool:
    """Whether the guest runs what the user brings, and not the demo."""
    return bool(options.module or options.script or options.image)


def request(options: argparse.Namespace) -> own_driver.Request | None:
    """What the user brings, if anything; refuses what is not there."""
    if not is_own(options):
        return None
    if options.tree and not options.tree.is_dir():
        raise Refused(f"--modules {options.tree}: no such directory")
    return own_driver.Request(
        modules=[own_driver.parse_module(text) for text in options.module],
        script=own_driver.parse_script(options.script) if options.script else None,
        files=[own_driver.parse_file(text) for text in options.guest_file],
        image=own_driver.existing(options.image, "--kernel-image") if options.image else None,
        tree=options.tree,
    )


def action(options: argparse.Namespace) -> str:
    """What the guest does, in a word of guest/init."""
    end = "shell" if options.shell else "reboot" if options.reboots else ""
    if is_own(options):
        return f"own-{end}" if end else "own"
    return end or "demo"


def guest(options: argparse.Namespace) -> session.Guest:
    """The guest that was asked for."""
    own = is_own(options)
    serve = options.serve_options
    default = options.vram == session.DEFAULT_VRAM and options.gpus == 1
    filled = default and "--vram-seed" not in serve
    return session.Guest(
        action(options), door=options.door, vram=options.vram, visible=options.visible,
        server_options=[*(session.SEEDED if filled else ()), *serve],
        kernel_arguments=[
            *(own_driver.kernel_arguments(options.timeout) if own else []),
            *(vm.IOMMU_ARGUMENTS if options.iommu else []), *options.append,
        ],
        devices=vm.IOMMU if options.iommu else [], more_qemu=options.qemu_arg,
        ram=options.ram, cpus=options.cpus, gpus=options.gpus, boots=options.reboots + 1,
        limit_seconds=options.timeout, checker=checker(options), caches=options.check_caches,
    )


def checker(options: argparse.Namespace) -> driver_checker.Request | None:
    """What judges the driver: with a GPU that is broken on purpose only what is asked for."""
    if options.check == driver_checker.OFF:
        return None
    if not (options.check or options.check_caches) and defects.asked(options.serve_options):
        return None
    if options.check_suppressions:
        own_driver.existing(options.check_suppressions, "--check-suppressions")
    return driver_checker.Request(
        options.check or driver_checker.DEFAULT, options.check_suppressions, bool(options.check)
    )


def is_special(options: argparse.Namespace) -> bool:
    """Whether GPU or RAM are others than the default ones, so that the model may refuse them."""
    shape = (options.vram, options.visible, options.ram, options.gpus)
    default = (session.DEFAULT_VRAM, session.DEFAULT_VISIBLE, vm.GUEST_MEMORY, 1)
    return shape != default or bool(options.serve_options or options.check)
