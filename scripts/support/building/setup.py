"""From a checkout and an empty cache to everything that a run starts."""

from dataclasses import dataclass, replace
from pathlib import Path

from .. import commands
from ..cache import Cache, locked
from ..getting import busybox, compiler, host, kernel, qemu
from ..getting.debian import Debian
from ..progress import Progress
from ..running import scratch
from . import guest_image, module, sysroot

SERVER_PACKAGE = "presil"


@dataclass(frozen=True)
class Prepared:
    """What one run needs, ready to start."""

    qemu: qemu.Qemu
    kernel: kernel.Kernel
    initramfs: Path
    server: Path
    accel: str
    versions: dict[str, str]
    kexec_initramfs: Path | None = None
    """The initramfs with the kernel in it, where a guest is to start that."""


def prepare(
    progress: Progress, which_kernel: str, parts: Path, refresh: bool = False, kexec: bool = False
) -> Prepared:
    """Fetch what is missing, build what has changed; a warm call takes seconds.

    What the caller starts is in its own directory `parts`: a build for somebody else does not
    change it.
    """
    cache = Cache(progress)
    host.check(cache.root)
    with locked(cache.root, progress):
        debian = Debian(cache, refresh)
        chosen_qemu = qemu.ensure(cache, debian, refresh)
        chosen_kernel = kernel.ensure(cache, debian, which_kernel, refresh)
        progress.note(f"kernel {chosen_kernel.release} ({chosen_kernel.origin})")
        progress.note(f"QEMU {chosen_qemu.version}")
        userland = busybox.ensure(cache, debian)
        rust_sysroot = sysroot.ensure(cache, debian)
        cc = compiler.ensure(cache, debian)
        image = kernel.boot_image(cache, debian, chosen_kernel).read_bytes() if kexec else b""
        chosen_kernel = kept_kernel(chosen_kernel, parts)
    with locked(module.target_directory(), progress):
        with progress.phase("build", "the model's server and the guest's programs"):
            server = scratch.keep(build_server(progress), parts)
            tools = guest_image.build_tools(progress)
        driver = module.build(progress, chosen_kernel, rust_sysroot, cc)
        initramfs = parts / f"initramfs-{chosen_kernel.release}.cpio"
        guest_image.write(initramfs, chosen_kernel, userland, driver, tools)
    prepared = together(chosen_qemu, chosen_kernel, initramfs, server)
    if not kexec:
        return prepared
    with_kernel = initramfs.with_suffix(".kexec.cpio")
    guest_image.add_kernel(with_kernel, initramfs, image)
    return replace(prepared, kexec_initramfs=with_kernel)


def kept_kernel(chosen: kernel.Kernel, parts: Path) -> kernel.Kernel:
    """The kernel with an image that nobody fetches or unpacks anew."""
    directory = parts / chosen.release
    directory.mkdir(exist_ok=True)
    return replace(chosen, vmlinux=scratch.keep(chosen.vmlinux, directory))


def together(
    chosen_qemu: qemu.Qemu, chosen_kernel: kernel.Kernel, initramfs: Path, server: Path
) -> Prepared:
    """The parts of a run with their versions."""
    versions = {
        "presil": checkout_version(server),
        "kernel": chosen_kernel.release,
        "qemu": chosen_qemu.version,
        "rustc": sysroot.rustc("--version").strip(),
    }
    accel = "kvm" if host.kvm_works() else "tcg"
    return Prepared(chosen_qemu, chosen_kernel, initramfs, server, accel, versions)


def server_alone(progress: Progress, parts: Path) -> Path:
    """The model's server in the caller's directory, where nothing else is built."""
    with (
        locked(module.target_directory(), progress),
        progress.phase("server", "the model's server"),
    ):
        return scratch.keep(build_server(progress), parts)


def build_server(progress: Progress) -> Path:
    """Compile the model's daemon."""
    arguments = ["build", "--release", "--package", SERVER_PACKAGE]
    commands.cargo(arguments, SERVER_PACKAGE, progress.detail)
    return module.target_directory() / "release" / SERVER_PACKAGE


def checkout_version(server: Path) -> str:
    """What the server calls its version."""
    return commands.run([server, "--version"]).output.strip() or "unknown"
