"""Kernel modules as files: found by name, decompressed, ordered for insmod."""

import lzma
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..errors import Refused

SUFFIX = re.compile(r"\.ko(\.xz|\.zst)?$")


@dataclass
class Pool:
    """Where modules are found by name: files, and the names that are part of the kernel image."""

    files: dict[str, Path]
    builtin: set[str]
    where: str
    """For the message about a module that is not there."""

    def __contains__(self, name: str) -> bool:
        return name in self.files or name in self.builtin


def pool_of(tree: Path) -> Pool:
    """All modules below a directory, such as lib/modules/VERSION or a kernel's build tree."""
    files = {name_of(path): path for path in tree.rglob("*.ko*") if SUFFIX.search(path.name)}
    return Pool(files, builtin_names(tree), f"below {tree}")


def name_of(path: Path) -> str:
    """The kernel's name for a module file."""
    return SUFFIX.sub("", path.name).replace("-", "_")


def in_order(names: list[str], pool: Pool, zstd: list[str]) -> dict[str, bytes]:
    """The named modules and what they depend on, by name in the order of insmod.

    A module that the kernel has built in needs no file.
    """
    found: dict[str, bytes] = {}

    def add(name: str, needed_by: str) -> None:
        if name in found or name in pool.builtin:
            return
        if name not in pool.files:
            raise Refused(f"no module {name} {pool.where}{needed_by}")
        data = decompressed(pool.files[name], zstd)
        for needed in depends(data):
            add(needed, f", which {name} depends on")
        found[name] = data

    for name in names:
        add(name, "")
    return found


def collect(tree: Path, names: list[str], into: Path, zstd: list[str]) -> None:
    """Copy the named modules of a module tree and what they depend on into `into`.

    The file `modules` in `into` lists them in the order of insmod.
    """
    found = in_order(names, pool_of(tree), zstd)
    for name, data in found.items():
        (into / f"{name}.ko").write_bytes(data)
    (into / "modules").write_text("".join(f"{name}.ko\n" for name in found), "utf-8")


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
    try:
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".zst":
            return subprocess.run(zstd, input=data, capture_output=True, check=True).stdout
    except (lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise Refused(f"{path} is not whole, or no {path.suffix} file") from error
    return data


def depends(data: bytes) -> list[str]:
    """The names in a module's `depends=` record."""
    return [name.replace("-", "_") for name in record(data, b"depends").split(",") if name]


def built_for(data: bytes) -> str:
    """The kernel release that a module was built for; empty where it does not say."""
    return record(data, b"vermagic").partition(" ")[0]


def record(data: bytes, name: bytes) -> str:
    """A record of a module's .modinfo section; empty where there is none."""
    match = re.search(rb"\0" + name + rb"=([^\0]*)\0", data)
    return match.group(1).decode("ascii", "replace") if match else ""
