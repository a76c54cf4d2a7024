"""Kernel modules as files: found by name, decompressed, ordered for insmod."""

import lzma
import re
import subprocess
from pathlib import Path

from .errors import Refused

SUFFIX = re.compile(r"\.ko(\.xz|\.zst)?$")


def collect(tree: Path, names: list[str], into: Path, zstd: list[str]) -> None:
    """Copy the named modules of a module tree and what they depend on into `into`.

    The file `modules` in `into` lists them in the order of insmod. A module
    that the kernel has built in needs no file.
    """
    index = {SUFFIX.sub("", p.name).replace("-", "_"): p for p in tree.rglob("*.ko*")}
    builtin = builtin_names(tree)
    order: list[str] = []

    def add(name: str) -> None:
        if name in order or name in builtin:
            return
        if name not in index:
            raise Refused(f"no module {name} below {tree}: a kernel with DRM is needed")
        data = decompressed(index[name], zstd)
        for needed in depends(data):
            add(needed)
        (into / f"{name}.ko").write_bytes(data)
        order.append(name)

    for name in names:
        add(name)
    (into / "modules").write_text("".join(f"{name}.ko\n" for name in order), "utf-8")


def collected(directory: Path) -> list[Path]:
    """What `collect` put into a directory, in the order of insmod."""
    return [directory / line for line in (directory / "modules").read_text("utf-8").split()]


def builtin_names(tree: Path) -> set[str]:
    """The modules that are part of the kernel image, from modules.builtin files."""
    names = set()
    for listing in tree.rglob("modules.builtin"):
        for line in listing.read_text("utf-8").splitlines():
            names.add(SUFFIX.sub("", Path(line).name).replace("-", "_"))
    return names


def decompressed(path: Path, zstd: list[str]) -> bytes:
    """A module's bytes, whatever it is packed with."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return subprocess.run(zstd, input=data, capture_output=True, check=True).stdout
    return data


def depends(data: bytes) -> list[str]:
    """The names in a module's `depends=` record (in its .modinfo section)."""
    match = re.search(rb"\0depends=([^\0]*)\0", data)
    names = match.group(1).decode("ascii", "replace") if match else ""
    return [name.replace("-", "_") for name in names.split(",") if name]
