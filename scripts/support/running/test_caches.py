"""Tests of QEMU's cache plugin, its parts called in this process, and of who asks for it."""

import argparse
import contextlib
import ctypes
import io
import re
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any

from ..getting.qemu import Qemu
from . import caches, run_options

NO_REGISTER = 31
OTHER, CLFLUSH, CLWB, WBINVD, NON_TEMPORAL, MAPPINGS, WRMSR = range(7)


class Operand(ctypes.Structure):
    """`struct operand` of decode.h."""

    _fields_ = [
        ("base", ctypes.c_uint8), ("index", ctypes.c_uint8), ("scale", ctypes.c_uint8),
        ("segment", ctypes.c_char), ("displacement", ctypes.c_int32),
        ("relative", ctypes.c_uint8), ("short_address", ctypes.c_uint8),
    ]


def layout(name: str) -> int:
    """A number of layout.h."""
    found = re.search(rf"\b{name}(?: =)? (\w+?)(?:ull|,|$)", (caches.SOURCES / "layout.h").read_text("utf-8"), re.M)
    assert found, name
    return int(found[1], 0)


class Prepared:
    """As much of what a run has as is looked at."""

    def __init__(self, accel: str = "tcg", version: str = "11.1.3", command: tuple[str, ...] = ("true",)) -> None:
        self.accel = accel
        self.versions = {"qemu": version}
        self.qemu = Qemu(list(command), {}, version)


class PluginTest(unittest.TestCase):
    """The plugin's parts that need no QEMU."""

    library: ctypes.CDLL
    directory: tempfile.TemporaryDirectory[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = tempfile.TemporaryDirectory(prefix="presil-test-")
        library = Path(cls.directory.name) / "parts.so"
        # Without -fvisibility=hidden: the tests call what QEMU does not.
        command = [word for word in caches.COMPILER if not word.startswith("-fvisibility")]
        sources = [str(caches.SOURCES / name) for name in ("decode.c", "lines.c")]
        subprocess.run([*command, "-Wall", "-Wextra", "-Werror", "-o", str(library), *sources], check=True)
        cls.library = ctypes.CDLL(str(library))
        cls.library.lines_open.restype = ctypes.c_bool
        for name in ("store", "load", "store_combined", "store_past"):
            getattr(cls.library, f"lines_{name}").argtypes = [ctypes.c_uint64, ctypes.c_uint]
        for name in ("flush", "write_back"):
            getattr(cls.library, f"lines_{name}").argtypes = [ctypes.c_uint64]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.directory.cleanup()

    def decoded(self, code: str) -> tuple[int, Operand]:
        """What an instruction, in hexadecimal, is taken for."""
        operand = Operand()
        raw = bytes.fromhex(code)
        return self.library.decode(raw, ctypes.c_size_t(len(raw)), ctypes.byref(operand)), operand

    def test_instructions_that_matter_are_known_and_no_others(self) -> None:
        for code, kind in {
            "0fae38": CLFLUSH, "66 0fae38": CLFLUSH, "66 0fae30": CLWB, "0fae f8": OTHER,  # sfence
            "0fae30": OTHER, "f3 0fae38": OTHER, "0fae f0": OTHER,  # xsaveopt, clrssbsy-like, mfence
            "0f09": WBINVD, "0f08": WBINVD, "f3 0f09": WBINVD,
            "480fc306": NON_TEMPORAL, "660fe706": NON_TEMPORAL, "0f2b06": NON_TEMPORAL,
            "c5f8e706": NON_TEMPORAL, "c4e17de706": NON_TEMPORAL, "c5fd6f06": OTHER,
            "0f22d8": MAPPINGS, "0f013f": MAPPINGS, "0f01f8": OTHER, "660f388206": MAPPINGS,  # swapgs
            "0f30": WRMSR, "488907": OTHER, "90": OTHER, "0f": OTHER, "": OTHER, "66": OTHER,
        }.items():
            self.assertEqual(self.decoded(code)[0], kind, code)

    def test_operands_of_flushes_are_what_the_manual_says(self) -> None:
        for code, wanted in {
            "0fae38": (0, NO_REGISTER, 0, b"\0", 0, 0),  # [rax]
            "410fae38": (8, NO_REGISTER, 0, b"\0", 0, 0),  # [r8]
            "0fae7f10": (7, NO_REGISTER, 0, b"\0", 16, 0),  # [rdi+16]
            "0fae7ff0": (7, NO_REGISTER, 0, b"\0", -16, 0),
            "0faebf00010000": (7, NO_REGISTER, 0, b"\0", 256, 0),
            "0fae3c24": (4, NO_REGISTER, 0, b"\0", 0, 0),  # [rsp]
            "420fae3ce0": (0, 12, 3, b"\0", 0, 0),  # [rax+r12*8]
            "0fae3c0510000000": (NO_REGISTER, 0, 0, b"\0", 16, 0),  # [rax*1+16]
            "0fae3d10000000": (NO_REGISTER, NO_REGISTER, 0, b"\0", 16, 1),  # [rip+16]
            "650fae38": (0, NO_REGISTER, 0, b"g", 0, 0),
        }.items():
            kind, o = self.decoded(code)
            got = (o.base, o.index, o.scale, o.segment or b"\0", o.displacement, o.relative)
            self.assertEqual((kind, got), (CLFLUSH, wanted), code)
        for short in ("0fae3c", "0fae7f", "0faebf0001", "0fae"):
            self.assertEqual(self.decoded(short)[0], OTHER, short)

    def opened(self, name: str, lines: int = 64, magic: int | None = None) -> Path:
        """A file as the server makes it, which the plugin has opened."""
        file = Path(self.directory.name) / name
        with open(file, "wb") as out:
            out.truncate(layout("LINES") + lines * 17)
            out.write(struct.pack("=QQ", layout("MAGIC") if magic is None else magic, lines))
        return file

    def masks(self, file: Path, line: int) -> tuple[int, int, int]:
        """Dirty and old bytes of a line, and its bits."""
        raw = file.read_bytes()
        first = layout("LINES") + line * 16
        dirty, old = struct.unpack_from("=QQ", raw, first)
        return dirty, old, raw[layout("LINES") + 64 * 16 + line]

    def mark_old(self, file: Path, line: int, mask: int) -> None:
        """As the server does when the GPU writes."""
        with open(file, "r+b") as out:
            out.seek(layout("LINES") + line * 16 + 8)
            out.write(struct.pack("=Q", mask))

    def test_stores_loads_and_flushes_leave_what_caches_do(self) -> None:
        file = self.opened("lines")
        self.assertTrue(self.library.lines_open(str(file).encode(), True))
        held, mixed = layout("LINE_HELD"), layout("LINE_MIXED")
        calls: list[tuple[str, tuple[int, ...], tuple[int, int, int]]] = [
            ("store", (64 + 8, 8), (0xff00, 0, held)),
            ("store", (64 + 56, 8), (0xff << 56 | 0xff00, 0, held)),
            ("store_past", (64 + 8, 4), (0xff << 56 | 0xf000, 0, held)),
            ("store_combined", (64, 4), (0xff << 56 | 0xf000, 0, held | mixed)),
            ("write_back", (64 + 5,), (0, 0, held | mixed)),
            ("flush", (64 + 5,), (0, 0, mixed)),
            ("store_combined", (64, 4), (0, 0, 0)),
            ("load", (64, 8), (0, 0, held)),
            ("store", (64, 65), (0, 0, held)),  # no access is longer than a line
            ("store", (64 * 64, 8), (0, 0, held)),  # beyond RAM
            ("store", (2**64 - 8, 8), (0, 0, held)),
        ]
        for name, arguments, wanted in calls:
            getattr(self.library, f"lines_{name}")(*arguments)
            self.assertEqual(self.masks(file, 1), wanted, name)
        self.library.lines_store(64 * 63 + 32, 32)
        self.library.lines_flush_all()
        self.assertEqual(self.masks(file, 63), (0, 0, 0))
        self.assertEqual(self.masks(file, 1), (0, 0, 0))

    def test_a_load_of_an_old_line_is_told_once(self) -> None:
        file = self.opened("loads")
        self.assertTrue(self.library.lines_open(str(file).encode(), True))
        self.library.lines_load(128, 8)
        self.mark_old(file, 2, 0xf0)
        self.library.lines_load(128, 4)  # beside
        self.library.lines_load(132, 2)
        self.library.lines_load(134, 2)
        raw = file.read_bytes()
        self.assertEqual(struct.unpack_from("=Q", raw, layout("HEADER_LOADS")), (1,))
        self.assertEqual(struct.unpack_from("=QQQ", raw, layout("LOADS")), (1, 132 << 8 | 2, 0))
        self.mark_old(file, 2, 0xf0)
        self.library.lines_store(132, 4)  # the CPU's own is newer
        self.library.lines_load(132, 4)
        self.assertEqual(struct.unpack_from("=Q", file.read_bytes(), layout("HEADER_LOADS")), (1,))

    def test_a_file_that_is_not_the_servers_is_refused(self) -> None:
        for file in (self.opened("magic", magic=7), self.opened("none", lines=0), Path("/nonexistent")):
            self.assertFalse(self.library.lines_open(str(file).encode(), False), file)
        other = self.opened("size")
        with open(other, "r+b") as out:
            out.truncate(layout("LINES") + 63 * 17)
        self.assertFalse(self.library.lines_open(str(other).encode(), False))
        self.library.lines_store(0, 8)  # follows nothing, and lives


class FollowTest(unittest.TestCase):
    """Who is not followed, and the word that is said of it."""

    def follow(self, **what: Any) -> caches.Followed:
        """What comes of it."""
        with tempfile.TemporaryDirectory(prefix="presil-test-") as name:
            prepared: Any = Prepared(**what)
            return caches.follow(prepared, caches.LOADS, "1G", Path(name))

    def test_what_cannot_be_followed_is_said_and_the_run_goes_on(self) -> None:
        for what, words in [
            ({"accel": "kvm"}, "KVM runs the guest's CPUs"),
            ({"version": "11.2.0"}, "the plugin is for QEMU 11.1, this is 11.2.0"),
            ({"command": ("sh", "-c", "echo no plugins here >&2; exit 1", "sh")}, "no plugins here"),
            ({"command": ("/nonexistent/qemu",)}, "cannot be asked"),
        ]:
            followed = self.follow(**what)
            self.assertEqual((list(followed.server), list(followed.qemu)), ([], []), what)
            self.assertIn(words, followed.why_not)
            check = caches.judge(followed, [])
            self.assertTrue(check["announced"] and words in check["not_run"], check)

    def test_who_is_followed_is_told_to_server_and_qemu(self) -> None:
        followed = self.follow()
        self.assertEqual(followed.why_not, "")
        self.assertEqual(followed.server[2:], ["--check-caches-ram", "1G"])
        self.assertRegex(followed.qemu[1], r"cache-plugin\.so,lines=.*/lines,loads=on$")

    def test_a_plugin_that_told_nothing_fails_the_run(self) -> None:
        missed = {"what": caches.NOTHING_FOLLOWED, "why": ""}
        for unwatched, ok in [([], True), ([missed], False)]:
            told = [{"gpu": 0, "summary": {"unwatched": unwatched}}]
            self.assertEqual(caches.judge(caches.Followed(), told)["ok"], ok)
        self.assertFalse(caches.judge(caches.Followed(), [])["ok"])

    def test_the_option_needs_the_checker_and_no_iommu(self) -> None:
        def parsed(*words: str) -> argparse.Namespace:
            return run_options.parse(list(words))

        self.assertEqual(run_options.guest(parsed("--check-caches")).caches, caches.STORES)
        self.assertEqual(run_options.guest(parsed("--check-caches=loads")).caches, caches.LOADS)
        self.assertIsNone(run_options.guest(parsed()).caches)
        for words in (["--check", "off"], ["--iommu", "--door", "vfio-user"]):
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                parsed("--check-caches", *words)


if __name__ == "__main__":
    unittest.main()
