"""The guest's CPU caches: a plugin of QEMU's follows them for the driver checker."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import commands
from ..building.setup import Prepared
from ..cache import REPO
from ..getting import qemu
from ..judging.checks import check

SOURCES = REPO / "backend/cache-plugin"
COMPILER = ["cc", "-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"]
VERSION = (11, 1)
"""The QEMU whose plugin interface the plugin declares."""
NAME = "CPU caches"
STORES, LOADS = "stores", "loads"
"""What may be followed: stores and flushes, or loads as well."""
NOTHING_FOLLOWED = "CPU caches of unsnooped memory"
"""What the checker says that it did not watch where no plugin came."""
PROBE_SECONDS = 30
Options = Sequence[str]


@dataclass(frozen=True)
class Followed:
    """What follows a guest's caches, or why nothing does."""

    server: Options = ()
    """More options for the model's server."""
    qemu: Options = ()
    """More options for QEMU."""
    why_not: str = ""


def follow(prepared: Prepared, what: str, ram: str, directory: Path) -> Followed:
    """Build the plugin in a directory of the run, and see whether this QEMU takes it.

    A QEMU that does not would end at once: it is asked before.
    """
    if prepared.accel != "tcg":
        return Followed(why_not="KVM runs the guest's CPUs, and nobody sees what they store")
    version = prepared.versions["qemu"]
    if qemu.parse_version(version) != VERSION:
        wanted = ".".join(map(str, VERSION))
        return Followed(why_not=f"the plugin is for QEMU {wanted}, this is {version}")
    plugin, lines = directory / "cache-plugin.so", directory / "lines"
    problem = build(plugin) or refused(prepared.qemu, plugin)
    if problem:
        return Followed(why_not=problem)
    loads = ",loads=on" if what == LOADS else ""
    return Followed(
        ["--check-caches", str(lines), "--check-caches-ram", ram],
        ["-plugin", f"{escaped(plugin)},lines={escaped(lines)}{loads}"],
    )


def escaped(path: Path) -> str:
    """A path as a value among QEMU's options."""
    return str(path).replace(",", ",,")


def build(plugin: Path) -> str:
    """Compile the plugin; returns what was wrong."""
    command = [*COMPILER, "-o", str(plugin), *map(str, sorted(SOURCES.glob("*.c")))]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"no C compiler for the plugin: {error}"
    return f"the plugin cannot be built: {commands.last_line(run.stderr)}" if run.returncode else ""


def refused(program: qemu.Qemu, plugin: Path) -> str:
    """Why a QEMU does not take the plugin, if so."""
    command = [
        *program.command, "-machine", "none", "-accel", "tcg", "-nodefaults", "-display", "none",
        "-monitor", "stdio", "-plugin", escaped(plugin),
    ]
    try:
        run = subprocess.run(
            command, env={**os.environ, **program.environment}, input="quit\n", capture_output=True, text=True,
            errors="replace", check=False, timeout=PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"QEMU cannot be asked whether it takes the plugin: {error}"
    return f"QEMU takes no plugin: {commands.last_line(run.stderr)}" if run.returncode else ""


def judge(followed: Followed, told: list[dict[str, Any]]) -> dict[str, Any]:
    """The check of a run that was to follow them: what it was worth."""
    if followed.why_not:
        return {"name": NAME, "not_run": f"not watched: {followed.why_not}", "announced": True}
    missed = [
        one["gpu"] for one in told
        if any(it["what"] == NOTHING_FOLLOWED for it in one["summary"]["unwatched"])
    ]
    ok = bool(told) and not missed
    detail = "followed" if ok else "not watched: QEMU's plugin told the model nothing"
    return check(NAME, ok, detail)
