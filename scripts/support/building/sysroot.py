"""libcore and liballoc for kernel use, built by plain rustc as kernels do.

The target's own libraries are compiled with other flags (red zone, code model,
mitigations), so the module gets a private sysroot, kept per rustc and flags.
"""

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from .. import commands
from ..cache import Cache
from ..errors import Refused
from ..getting.debian import Debian

TARGET = "x86_64-unknown-none"
FLAGS_FILE = Path(__file__).with_name("kernel.rustflags")
EDITION = "2024"
ENVIRONMENT = {"RUSTC_BOOTSTRAP": "1"}
"""Without it a stable rustc refuses the -Z flags."""

COMPILER_BUILTINS = """\
#![feature(compiler_builtins)]
#![compiler_builtins]
#![no_builtins]
#![no_std]
#![allow(internal_features)]
"""


def flags() -> list[str]:
    """The rustc flags of all kernel code, from their one file."""
    lines = FLAGS_FILE.read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def ensure(cache: Cache, debian: Debian) -> Path:
    """The sysroot for the checkout's rustc; about 20 s the first time."""
    version = rustc("--version").strip()
    digest = hashlib.sha256("\n".join([version, *flags()]).encode()).hexdigest()[:12]
    name = f"sysroot-{release_of(version)}-{digest}"

    def make(into: Path) -> None:
        build(find_library(cache, debian, version), into, cache.progress.detail)

    return cache.entry(
        name, digest, make,
        phase=("sysroot", f"libcore and liballoc for the kernel ({version})"),
    )


def build(library: Path, into: Path, on_crate: Callable[[str], None]) -> None:
    """Compile core, a stub compiler_builtins and alloc into a sysroot."""
    out = into / "lib/rustlib" / TARGET / "lib"
    out.mkdir(parents=True)
    stub = into / "compiler_builtins.rs"
    stub.write_text(COMPILER_BUILTINS, encoding="utf-8")
    sources: dict[str, list[str | Path]] = {
        "core": [library / "core/src/lib.rs", "--cfg", "no_fp_fmt_parse"],
        "compiler_builtins": [stub],
        "alloc": [library / "alloc/src/lib.rs"],
    }
    for number, (crate, arguments) in enumerate(sources.items(), 1):
        on_crate(f"{number} of {len(sources)}: {crate}")
        command = [
            "rustc", "--target", TARGET, "--sysroot=/dev/null", "-L", out, "--out-dir", out,
            "--crate-type", "rlib", "--crate-name", crate, "--edition", EDITION,
            "-Copt-level=2", "-Ccodegen-units=1", "--cap-lints", "allow", *flags(), *arguments,
        ]
        run = commands.run(command, environment=ENVIRONMENT)
        if run.status != 0:
            raise Refused(f"building {crate} for the kernel failed: {first_error(run.errors)}")


def find_library(cache: Cache, debian: Debian, version: str) -> Path:
    """The standard library's source, of exactly this rustc."""
    library = Path(rustc("--print", "sysroot").strip()) / "lib/rustlib/src/rust/library"
    if (library / "core/src/lib.rs").exists():
        return library
    if shutil.which("rustup"):
        cache.progress.detail("rustup component add rust-src")
        commands.run(["rustup", "component", "add", "rust-src"])
        if (library / "core/src/lib.rs").exists():
            return library
    return debian_library(cache, debian, release_of(version))


def debian_library(cache: Cache, debian: Debian, release: str) -> Path:
    """The source from Debian's rust-src package of exactly this release."""
    name = f"rust-src-{release}"
    matching = [v for v in debian.versions("rust-src") if re.match(rf"{re.escape(release)}\+", v)]
    if not matching:
        raise Refused(
            f"no source of Rust's standard library {release}: the toolchain has none and Debian"
            f" has no rust-src {release}; run `rustup component add rust-src` in the checkout"
        )
    packages = debian.packages([f"rust-src={matching[0]}"])
    root = cache.entry(name, matching[0], lambda into: debian.unpack(packages, into))
    found = sorted(root.glob("usr/src/rustc-*/library"))
    if not found:
        raise Refused(f"Debian's rust-src {matching[0]} has no usr/src/rustc-*/library")
    return found[0]


def rustc(*arguments: str) -> str:
    """What the checkout's rustc answers."""
    run = commands.run(["rustc", *arguments])
    if run.status != 0:
        raise Refused(f"rustc {' '.join(arguments)} failed: {commands.last_line(run.errors)}")
    return run.output


def release_of(version: str) -> str:
    """`1.95.0` out of `rustc 1.95.0 (59807616e 2026-04-14)`."""
    words = version.split()
    if len(words) < 2:
        raise Refused(f"rustc --version says {version!r}; expected `rustc X.Y.Z (...)`")
    return words[1]


def first_error(text: str) -> str:
    """The first error line of a compiler's output."""
    errors = [line for line in text.splitlines() if line.startswith("error")]
    return errors[0] if errors else commands.last_line(text)
