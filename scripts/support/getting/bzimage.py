"""The ELF kernel inside a bzImage: QEMU boots it 1.2 s sooner (by PVH)."""

import gzip
import lzma
import struct
import subprocess
import zlib
from pathlib import Path

from ..errors import Refused

ELF_MAGIC = b"\x7fELF"
BOOT_MAGIC_OFFSET = 0x202
SETUP_SECTORS_OFFSET = 0x1F1
PAYLOAD_OFFSET = 0x248
VERSION_OFFSET = 0x20E
HEADER_END = 0x250


def is_elf(image: bytes) -> bool:
    """Whether the image is an ELF kernel already."""
    return image[:4] == ELF_MAGIC


def check(image: bytes) -> None:
    """Refuse what is not a bzImage."""
    header = image[:HEADER_END]
    if len(header) < HEADER_END or header[BOOT_MAGIC_OFFSET:][:4] != b"HdrS":
        raise Refused("the kernel image is neither an ELF file nor a bzImage (no HdrS at 0x202)")


def release(image: bytes) -> str:
    """The kernel release that a bzImage's setup header names, such as `6.12.1-amd64`."""
    check(image)
    start = struct.unpack_from("<H", image, VERSION_OFFSET)[0] + 512
    words = image[start:].partition(b"\0")[0].decode("ascii", "replace").split()
    if not words:
        raise Refused("the kernel image's header names no version")
    return words[0]


def payload(image: bytes) -> bytes:
    """The compressed kernel, found through the setup header (boot protocol 2.08)."""
    check(image)
    sectors = image[SETUP_SECTORS_OFFSET] or 4
    offset, length = struct.unpack_from("<II", image, PAYLOAD_OFFSET)
    start = (sectors + 1) * 512 + offset
    return image[start : start + length]


def extract(image: Path, vmlinux: Path, zstd: list[str]) -> None:
    """Write the ELF kernel of `image`; `zstd` is a command that decompresses."""
    data = image.read_bytes()
    vmlinux.write_bytes(data if is_elf(data) else decompress(payload(data), zstd))


def decompress(data: bytes, zstd: list[str]) -> bytes:
    """Decompress by the magic of the format: zstd, xz or gzip."""
    try:
        kernel = unpacked(data, zstd)
    except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Refused(f"the kernel's payload does not unpack: {error}") from error
    if not is_elf(kernel):
        raise Refused("the kernel's payload does not unpack to an ELF file")
    return kernel


def unpacked(data: bytes, zstd: list[str]) -> bytes:
    """What a payload unpacks to."""
    if data[:4] == b"\x28\xb5\x2f\xfd":
        # The payload ends with its unpacked size, which zstd takes for a broken frame:
        # what counts is that an ELF file came out.
        run = subprocess.run(zstd, input=data[:-4], capture_output=True, check=False)
        return run.stdout
    if data[:6] == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor().decompress(data)
    if data[:2] == b"\x1f\x8b":
        return gzip.decompress(data[:-4])
    raise Refused(f"the kernel's payload begins {data[:6].hex()}: not zstd, xz or gzip")
