"""Room on the disk: what a command needs from nothing, asked before it begins."""

import os
from pathlib import Path

from .cache import cache_root
from .errors import Refused

GIB = 1 << 30
WHOLE = (3.4, 1.2)
"""What target/ (with incremental builds) and the cache hold in GiB after the whole of scripts/test."""
QUICK = (3.0, 0.0)
"""The same without virtual machines."""
GUESTS = (0.6, 1.2)
"""The same with virtual machines alone."""
MARGIN = 0.2
"""In GiB, for logs and what is there for a moment: needed also where all is built already."""


def check(command: str, target: Path, wanted: tuple[float, float]) -> None:
    """Refuse to begin where the disk will be full before the end; `wanted` is as WHOLE.

    What is there already is not needed again; directories on one file system share its room.
    """
    needs: dict[int, float] = {}
    places: dict[int, list[Path]] = {}
    for directory, gib in zip((target, cache_root()), wanted):
        device = existing(directory).stat().st_dev
        left = max(0.0, gib - taken_bytes(directory) / GIB)
        needs[device] = needs.get(device, MARGIN) + left
        places.setdefault(device, []).append(directory)
    for device, gib in needs.items():
        free = free_bytes(places[device][0]) / GIB
        if free < gib:
            where = " and ".join(map(str, places[device]))
            raise Refused(
                f"{free:.1f} GiB of disk are free for {where}; {command} needs {gib:.1f} GiB more"
                f" ({sum(wanted):.1f} GiB in all from nothing):"
                " make room, or set CARGO_TARGET_DIR or PRESIL_CACHE to another disk"
            )


def free_bytes(path: Path) -> int:
    """Room in a directory, or in the nearest one above that is there."""
    found = os.statvfs(existing(path))
    return found.f_bavail * found.f_frsize


def existing(path: Path) -> Path:
    """A directory, or the nearest one above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def taken_bytes(directory: Path) -> int:
    """What the files below a directory take, those with several names once."""
    sizes = {}
    for place, _, files in os.walk(directory):
        for name in files:
            try:
                found = os.lstat(os.path.join(place, name))
            except OSError:
                continue  # another run has removed it
            sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(sizes.values())
