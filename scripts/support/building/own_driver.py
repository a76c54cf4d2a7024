"""A user's own kernel, modules and script as a guest: `scripts/run --module` and its like."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..cache import Cache, locked
from ..errors import Refused, writing
from ..getting import busybox, bzimage, host, kernel, qemu, tools
from ..getting.debian import Debian
from ..progress import Progress
from . import guest_image, modules, setup

NEXT_PARAMETER = re.compile(r",(?=[A-Za-z_][\w.-]*=)")
"""A comma before `name=`: others are part of a parameter's value."""
SIGNED = b"~Module signature appended~\n"
SCRIPT = "guest-exec"
HOME = "root"
SHORTEST_HANG_SECONDS = 5
ARGUMENTS = [
    # Every kernel line is known by its timestamp, and none of ours is dropped.
    "printk.time=1", "printk.devkmsg=on",
    # A panic stays long enough for the model to be asked what it has seen.
    "panic=5",
]


@dataclass(frozen=True)
class Module:
    """A module to load: a file, or a name in the module tree."""

    name: str
    file: Path | None
    parameters: str


@dataclass(frozen=True)
class Request:
    """What the user brings; all of it may be missing, but not at once."""

    modules: list[Module]
    script: Path | None
    files: list[tuple[Path, str]]
    """Files for the guest, and where they go."""
    image: Path | None
    tree: Path | None


def parse_module(text: str) -> Module:
    """`FILE.ko` or `NAME`, each with `,parameter=value` as often as wanted."""
    name, *parameters = NEXT_PARAMETER.split(text)
    path = Path(name)
    if not modules.SUFFIX.search(path.name) and len(path.parts) == 1:
        return Module(name.replace("-", "_"), None, " ".join(parameters))
    return Module(modules.name_of(path), existing(path, "--module"), " ".join(parameters))


def parse_file(text: str) -> tuple[Path, str]:
    """`FILE` or `FILE:PATH`: a file, and its absolute path in the guest (default: /root)."""
    name, _, to = text.partition(":")
    path = existing(Path(name), "--guest-file")
    if to and not to.startswith("/"):
        raise Refused(f"--guest-file {text}: {to} is not an absolute path")
    return path, to.strip("/") or f"{HOME}/{path.name}"


def parse_script(path: Path) -> Path:
    """What the guest is to run: a shell script, or a program that needs no libraries."""
    existing(path, "--guest-exec")
    with open(path, "rb") as file:
        first = file.readline(256)
    interpreter = re.match(rb"#!\s*(\S+)(?:\s+(\S+))?", first)
    if interpreter:
        words = [word.decode(errors="replace") for word in interpreter.groups() if word]
        wanted = words[-1] if words[0].endswith("/env") else words[0]
        if Path(wanted).name not in {"sh", "ash"}:
            raise Refused(f"--guest-exec {path} wants {wanted}: the guest has busybox's sh only")
    return path


def existing(path: Path, option: str) -> Path:
    """A file that is there."""
    if not path.is_file():
        raise Refused(f"{option} {path}: no such file")
    return path


def kernel_arguments(limit_seconds: int) -> list[str]:
    """What the guest's kernel is told; a task that is stuck is called out before the time limit."""
    hung = max(SHORTEST_HANG_SECONDS, limit_seconds // 4)
    return [*ARGUMENTS, f"sysctl.kernel.hung_task_timeout_secs={hung}"]


def prepare(
    progress: Progress, request: Request, which: str, refresh: bool, parts: Path
) -> setup.Prepared:
    """Fetch and build what the request needs; our driver is not part of it."""
    cache = Cache(progress)
    host.check(cache.root, own_kernel=bool(request.image))
    with locked(cache.root, progress):
        debian = Debian(cache, refresh)
        chosen_qemu = qemu.ensure(cache, debian, refresh)
        chosen = own_image(request.image) if request.image else kernel.ensure(
            cache, debian, which, refresh
        )
        progress.note(f"kernel {chosen.release} ({chosen.origin})")
        progress.note(f"QEMU {chosen_qemu.version}")
        userland = busybox.ensure(cache, debian)
        files = module_files(cache, debian, request, chosen)
        chosen = setup.kept_kernel(chosen, parts)
    for name, data in files.items():
        # Where symbols have versions the kernel compares these, and takes such a module.
        if modules.built_for(data) not in {chosen.release, ""}:
            built_for = modules.built_for(data)
            progress.note(f"note: {name} was built for {built_for}, the guest is {chosen.release}")
    server = setup.server_alone(progress, parts)
    initramfs = parts / "initramfs.cpio"
    with writing(initramfs):
        initramfs.write_bytes(archive(request, userland, files))
    return setup.together(chosen_qemu, chosen, initramfs, server)


def own_image(image: Path) -> kernel.Kernel:
    """The user's kernel as it is: QEMU boots a bzImage, and an ELF file with a PVH note."""
    data = image.read_bytes()
    if bzimage.is_elf(data):
        found = re.search(rb"Linux version (\S+) \(", data)
        release = found[1].decode("ascii", "replace") if found else "unknown"
    else:
        release = bzimage.release(data)
    return kernel.Kernel(release, image.resolve(), needs=[], headers=None, origin="own")


def module_files(
    cache: Cache, debian: Debian, request: Request, chosen: kernel.Kernel
) -> dict[str, bytes]:
    """The request's modules and what they depend on, by name in the order of insmod."""
    given = {module.name: module.file for module in request.modules if module.file}
    names = [module.name for module in request.modules]
    if not names:
        return {}
    unpack = tools.any_zstd(cache, debian)
    wanted = {name for name in names if name not in given}
    for path in given.values():
        wanted.update(modules.depends(modules.decompressed(path, unpack)))
    pool = pool_for(cache, debian, request, chosen, wanted - set(given))
    pool.files |= given
    return modules.in_order(names, pool, unpack)


def pool_for(
    cache: Cache, debian: Debian, request: Request, chosen: kernel.Kernel, wanted: set[str]
) -> modules.Pool:
    """Where modules that are not given as files come from; it has those wanted, if it can be."""
    if request.tree:
        return modules.pool_of(request.tree)
    where = f"for {chosen.release}: give its lib/modules/{chosen.release} as --modules"
    pool = modules.Pool({modules.name_of(path): path for path in chosen.needs}, set(), where)
    if chosen.origin in kernel.SUITES and not all(name in pool for name in wanted):
        return modules.pool_of(kernel.debian_modules(cache, debian, chosen.origin))
    return pool


def packed(name: str, data: bytes) -> bytes:
    """A module as the guest gets it. A signature is one of the file as it is."""
    return data if data.endswith(SIGNED) else guest_image.stripped(data, f"{name}.ko")


def archive(request: Request, userland: Path, files: dict[str, bytes]) -> bytes:
    """The initramfs."""
    parameters = {module.name: module.parameters for module in request.modules}
    image = guest_image.base(userland)
    for name, data in files.items():
        image.file(f"modules/{name}.ko", packed(name, data))
    order = [f"{name}.ko {parameters.get(name, '')}".rstrip() + "\n" for name in files]
    image.file("modules/order", os.fsencode("".join(order)))
    if request.script:
        image.file(SCRIPT, request.script.read_bytes(), executable=True)
    for path, to in request.files:
        image.file(to, path.read_bytes(), executable=path.stat().st_mode & 0o100 != 0)
    return image.finish()
