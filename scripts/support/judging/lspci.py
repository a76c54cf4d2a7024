"""How `lspci -vv` reads the GPU's configuration space, held against docs/lspci.txt."""

import re
import subprocess
import tempfile
from pathlib import Path

from ..cache import REPO, Cache, locked, write_atomically
from ..errors import Refused
from ..getting import loader
from ..getting.debian import RELEASE, Debian
from ..progress import Progress

PACKAGE = "pciutils"
SNAPSHOT = REPO / "docs/lspci.txt"
FOUND = REPO / "target/test/lspci.txt"
LINE_BYTES = 16
CHANGING = [
    (re.compile(r"Memory at [0-9a-f]+"), "Memory at ..."),
    (re.compile(r"Address: [0-9a-f]+  Data: [0-9a-f]+"), "Address: ...  Data: ..."),
    (re.compile(r"IRQ \d+"), "IRQ ..."),
]
"""What firmware and kernel choose."""


def difference(progress: Progress, configs: list[str]) -> str:
    """How a guest's message differs from the snapshot; empty when it does not."""
    if len(configs) != 1:
        return f"{len(configs)} messages with the configuration space, expected one"
    found = decoded(progress, bytes.fromhex(configs[0]))
    expected = SNAPSHOT.read_text("utf-8")
    if found == expected:
        return ""
    FOUND.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(FOUND, found)
    new = [line.strip() for line in found.splitlines() if line not in expected.splitlines()]
    return f"{FOUND} is not {SNAPSHOT}: {new[0] if new else 'a line is missing'}"


def decoded(progress: Progress, config: bytes) -> str:
    """What lspci says of a function at 01:00.0."""
    lines = [
        f"{at:02x}: {config[at:at + LINE_BYTES].hex(' ')}"
        for at in range(0, len(config), LINE_BYTES)
    ]
    with tempfile.NamedTemporaryFile("w", prefix="presil-lspci-", encoding="utf-8") as dump:
        dump.write("\n".join(["01:00.0 GPU", *lines, ""]))
        dump.flush()
        command = [*program(progress), "-n", "-vv", "-F", dump.name]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise Refused(f"lspci: exit status {run.returncode}: {run.stderr.strip()}")
    return settled(run.stdout)


def settled(text: str) -> str:
    """lspci's output without what changes from run to run."""
    for pattern, instead in CHANGING:
        text = pattern.sub(instead, text)
    return text.strip() + "\n"


def program(progress: Progress) -> list[str]:
    """Debian's lspci, unpacked."""
    cache = Cache(progress)
    root = cache.root / PACKAGE
    with locked(cache.root, progress):
        if cache.key_of(PACKAGE) is None:
            debian = Debian(cache)
            packages = debian.closure([PACKAGE], RELEASE)
            key = " ".join(sorted(package.spec for package in packages))
            root = cache.entry(PACKAGE, key, lambda into: debian.unpack(packages, into))
    return loader.command(root, Path(root / "usr/bin/lspci"), "lspci")
