"""The guest's kernel: image, DRM modules and headers, Debian's or the user's own.

`stable` and `backports` are resolved through Debian's metapackages, once; the
answer is kept in the cache until `--refresh`. Debian's cloud kernels will not
do: only the generic one has DRM.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ..building import modules
from ..cache import Cache, write_atomically
from ..errors import Refused
from . import bzimage, loader, tools
from .debian import BACKPORTS, RELEASE, Debian

SUITES = {"stable": RELEASE, "backports": BACKPORTS}
IMAGE_PARTS = re.compile(r"linux-(image|modules|binary)-[0-9]")
HEADER_PARTS = re.compile(r"linux-(headers|kbuild)-[0-9]")
DRIVER_NEEDS = ["drm"]


@dataclass(frozen=True)
class Kernel:
    """What the guest image and the module build need of one kernel."""

    release: str
    vmlinux: Path
    needs: list[Path]
    """The modules under the driver in the order of insmod, not compressed."""
    headers: Path | None
    """What `make -C` takes to build a module; without it none can be built."""
    origin: str
    """`stable`, `backports` or `own`."""


def ensure(cache: Cache, debian: Debian, which: str, refresh: bool = False) -> Kernel:
    """The kernel `which` (a key of SUITES), or the user's own where the environment names it."""
    image, headers = os.environ.get("PRESIL_KERNEL"), os.environ.get("PRESIL_HEADERS")
    if image or headers:
        return own_kernel(cache, debian, image, headers)
    wanted = resolve(cache, debian, which, refresh)
    prefix = tools.ensure(cache, debian)
    image_dir = fetch_image(cache, debian, which, wanted["image"], tools.zstd(prefix))
    headers_dir = fetch_headers(cache, debian, which, wanted["headers"], prefix)
    trees = sorted(headers_dir.glob("usr/src/linux-headers-*-amd64"))
    if not trees:
        raise Refused(f"{headers_dir} has no usr/src/linux-headers-*-amd64")
    return Kernel(
        release=(image_dir / "release").read_text("utf-8").strip(),
        vmlinux=image_dir / "vmlinux",
        needs=modules.collected(image_dir),
        headers=trees[0],
        origin=which,
    )


def resolve(cache: Cache, debian: Debian, which: str, refresh: bool) -> dict[str, list[str]]:
    """The package specs behind the metapackages: `image` and `headers`, each name=version.

    What is in the cache whole stays; an answer of which nothing came is asked again.
    """
    answer = cache.root / f"kernel-{which}.json"
    if answer.exists() and not refresh:
        kept: dict[str, list[str]] = json.loads(answer.read_text("utf-8"))
        if cache.key_of(f"kernel-{which}") == " ".join(kept["image"]):
            return kept
    suite = SUITES[which]
    with cache.progress.phase("resolve", f"which kernel Debian {suite} has"):
        found = {
            "image": parts_of(debian, "linux-image-amd64", suite, IMAGE_PARTS),
            "headers": parts_of(debian, "linux-headers-amd64", suite, HEADER_PARTS),
        }
    write_atomically(answer, json.dumps(found, indent=1))
    return found


def parts_of(debian: Debian, meta: str, suite: str, parts: re.Pattern[str]) -> list[str]:
    """All packages below a metapackage whose names match, in the metapackage's version."""
    version = debian.candidate(meta, suite)
    found: list[str] = []
    waiting = [meta]
    while waiting:
        below = debian.depends(waiting.pop(), version)
        new = [name for name in below if parts.match(name) and name not in found]
        found += new
        waiting += new
    return [f"{name}={version}" for name in found]


def fetch_image(
    cache: Cache, debian: Debian, which: str, specs: list[str], zstd: list[str]
) -> Path:
    """A directory with vmlinux, release, and the modules the driver needs."""

    def make(into: Path) -> None:
        whole = into / "whole"
        debian.unpack(debian.packages(specs), whole)
        images = sorted(whole.rglob("vmlinuz*"))
        if not images:
            raise Refused(f"no vmlinuz in {' '.join(specs)}")
        cache.progress.detail("unpacking vmlinux")
        bzimage.extract(images[0], into / "vmlinux", zstd)
        modules.collect(whole, DRIVER_NEEDS, into, zstd)
        write_atomically(into / "release", bzimage.release(images[0].read_bytes()) + "\n")
        shutil.rmtree(whole)

    phase = ("kernel", f"kernel image and DRM modules ({which})")
    return cache.entry(f"kernel-{which}", " ".join(specs), make, phase)


def boot_image(cache: Cache, debian: Debian, chosen: Kernel) -> Path:
    """The kernel as a bzImage, which is what kexec takes."""
    if chosen.origin == "own":
        own = Path(os.environ["PRESIL_KERNEL"]).resolve()
        if bzimage.is_elf(own.read_bytes()):
            raise Refused(f"PRESIL_KERNEL={own} is an ELF file: kexec takes a bzImage")
        return own
    specs = resolve(cache, debian, chosen.origin, refresh=False)["image"]

    def make(into: Path) -> None:
        whole = into / "whole"
        debian.unpack(debian.packages(specs), whole)
        sorted(whole.rglob("vmlinuz*"))[0].rename(into / "vmlinuz")
        shutil.rmtree(whole)

    phase = ("kernel", f"kernel image for kexec ({chosen.origin})")
    return cache.entry(f"image-{chosen.origin}", " ".join(specs), make, phase) / "vmlinuz"


def debian_modules(cache: Cache, debian: Debian, which: str) -> Path:
    """All modules of a Debian kernel: for drivers that need more than the demo's."""
    specs = resolve(cache, debian, which, refresh=False)["image"]

    def make(into: Path) -> None:
        debian.unpack(debian.packages(specs), into)
        for image in into.rglob("vmlinuz*"):
            image.unlink()

    phase = ("modules", f"all modules of the kernel ({which})")
    return cache.entry(f"modules-{which}", " ".join(specs), make, phase)


def fetch_headers(
    cache: Cache, debian: Debian, which: str, specs: list[str], prefix: Path
) -> Path:
    """The unpacked headers with their absolute paths and build tools put right."""

    def make(into: Path) -> None:
        debian.unpack(debian.packages(specs), into)
        for makefile in into.glob("usr/src/linux-headers-*/Makefile"):
            text = makefile.read_text("utf-8")
            if "/usr/src/linux-headers" in text:
                makefile.write_text(text.replace("/usr/src/", f"{into}/usr/src/"), "utf-8")
        for kbuild in into.glob("usr/lib/linux-kbuild-*"):
            loader.wrap_programs(kbuild, prefix)

    phase = ("headers", f"kernel headers ({which})")
    return cache.entry(f"headers-{which}", " ".join(specs), make, phase)


def own_kernel(cache: Cache, debian: Debian, image: str | None, headers: str | None) -> Kernel:
    """The user's own kernel image and headers, checked to belong together."""
    if not image or not headers:
        given, missing = ("PRESIL_KERNEL", "PRESIL_HEADERS")[:: 1 if image else -1]
        raise Refused(f"{given} is set and {missing} is not: give both, of the same kernel")
    image_path, headers_path = Path(image).resolve(), Path(headers).resolve()
    if not image_path.is_file():
        raise Refused(f"PRESIL_KERNEL={image}: no such file; expected a bzImage or a vmlinux")
    release_file = headers_path / "include/config/kernel.release"
    if not release_file.is_file() or not (headers_path / "Module.symvers").is_file():
        raise Refused(
            f"PRESIL_HEADERS={headers}: expected a built header tree"
            " (Module.symvers and include/config/kernel.release)"
        )
    release = release_file.read_text("utf-8").strip()
    data = image_path.read_bytes()
    if bzimage.is_elf(data):
        if f"Linux version {release} ".encode() not in data:
            raise Refused(f"PRESIL_KERNEL={image} is not Linux {release}, as PRESIL_HEADERS is")
    elif bzimage.release(data) != release:
        raise Refused(f"PRESIL_KERNEL is {bzimage.release(data)}, PRESIL_HEADERS is for {release}")
    tree = own_modules(image_path, headers_path, release)
    zstd = tools.any_zstd(cache, debian)

    def make(into: Path) -> None:
        bzimage.extract(image_path, into / "vmlinux", zstd)
        modules.collect(tree, DRIVER_NEEDS, into, zstd)

    stat = image_path.stat()
    key = f"{image_path} {stat.st_size} {stat.st_mtime_ns} {release}"
    directory = cache.entry("kernel-own", key, make)
    return Kernel(release, directory / "vmlinux", modules.collected(directory), headers_path, "own")


def own_modules(image: Path, headers: Path, release: str) -> Path:
    """Where an own kernel's modules are: beside its boot directory, installed, or just built."""
    beside = image.parents[1] if len(image.parents) > 1 else image.parent
    for root in (beside, beside / "usr", Path("/")):
        tree = root / "lib/modules" / release
        if tree.is_dir():
            return tree
    return headers
