"""Versions, listings and headers that set-up reads from other programs."""

import lzma
import struct
import tempfile
import unittest
from pathlib import Path

from support.building import module, modules, sysroot
from support.errors import Refused
from support.getting import bzimage, debian, host, qemu

NO_ZSTD: list[str] = []


class Versions(unittest.TestCase):
    """Versions compare as numbers."""

    def test_qemu_11_1_and_newer_are_enough_and_older_are_not(self) -> None:
        for good in ("11.1.0", "11.1.3 (Debian 1:11.1.3+ds-1)", "11.10.0", "12.0"):
            qemu.require(good, "QEMU")
        for old in ("7.2.0", "10.2.1", "11.0.9", "9.2", ""):
            with self.assertRaises(Refused):
                qemu.require(old, "QEMU")

    def test_program_that_is_not_qemu_is_named_in_the_refusal(self) -> None:
        with self.assertRaisesRegex(Refused, r"PRESIL_QEMU=/bin/true"):
            qemu.version_of(["/bin/true"], {}, "PRESIL_QEMU=/bin/true")
        with self.assertRaisesRegex(Refused, "cannot be run"):
            qemu.version_of(["/nonexistent/qemu"], {}, "PRESIL_QEMU=/nonexistent/qemu")

    def test_rustc_release_is_the_second_word(self) -> None:
        self.assertEqual(sysroot.release_of("rustc 1.95.0 (59807616e 2026-04-14)"), "1.95.0")
        with self.assertRaises(Refused):
            sysroot.release_of("")

    def test_kernel_rust_flags_are_one_a_line_without_comments(self) -> None:
        flags = sysroot.flags()
        self.assertIn("-Zplt=yes", flags)
        self.assertTrue(all(flag.startswith("-") and " " not in flag for flag in flags))


class AptAnswers(unittest.TestCase):
    """What apt prints becomes packages."""

    def test_print_uris_line_gives_name_version_file_and_size(self) -> None:
        line = "'http://m.example/pool/q_1.deb' qemu_1%3a11.1~bpo13+1_amd64.deb 1234 SHA256:00\n"
        package = debian.parse_uris("Reading...\n" + line)[0]
        self.assertEqual(package.spec, "qemu=1:11.1~bpo13+1")
        self.assertEqual(package.file_name, "qemu_1%3a11.1~bpo13+1_amd64.deb")
        self.assertEqual(package.size_bytes, 1234)


class OsRelease(unittest.TestCase):
    """The host's distribution."""

    def test_quotes_are_taken_off(self) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".os") as file:
            file.write('ID=debian\nVERSION_ID="12"\n\n# note\n')
            file.flush()
            fields = host.os_release(Path(file.name))
        self.assertEqual((fields["ID"], fields["VERSION_ID"]), ("debian", "12"))

    def test_absent_file_gives_no_fields(self) -> None:
        self.assertEqual(host.os_release(Path("/nonexistent")), {})


def image_with(payload: bytes) -> bytes:
    """A bzImage with a setup header of the fields that are read."""
    header = bytearray(1024)
    header[0x1F1] = 1
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", header, 0x20E, 0x300 - 0x200)
    header[0x300:0x320] = b"6.1.2-test (builder@host)".ljust(32, b"\0")
    struct.pack_into("<II", header, 0x248, 16, len(payload))
    return bytes(header) + b"x" * 16 + payload


class BzImage(unittest.TestCase):
    """The ELF kernel is found through the setup header."""

    def test_release_is_the_first_word_of_the_version_string(self) -> None:
        self.assertEqual(bzimage.release(image_with(b"")), "6.1.2-test")

    def test_xz_payload_with_a_size_after_it_unpacks(self) -> None:
        kernel = b"\x7fELF" + bytes(1000)
        packed = lzma.compress(kernel) + struct.pack("<I", len(kernel))
        found = bzimage.payload(image_with(packed))
        self.assertEqual(bzimage.decompress(found, NO_ZSTD), kernel)

    def test_what_is_no_kernel_is_refused(self) -> None:
        with self.assertRaises(Refused):
            bzimage.payload(bytes(4096))
        with self.assertRaises(Refused):
            bzimage.decompress(b"garbage", NO_ZSTD)
        with self.assertRaises(Refused):
            bzimage.decompress(lzma.compress(b"not an ELF file"), NO_ZSTD)


class Modules(unittest.TestCase):
    """Kernel modules are collected with what they need, in the order of insmod."""

    def test_dependencies_come_first_and_builtin_ones_not_at_all(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            tree, into = Path(name) / "tree", Path(name) / "into"
            tree.mkdir()
            into.mkdir()
            (tree / "drm.ko.xz").write_bytes(lzma.compress(b"\0depends=i2c-core,fb\0license=GPL\0"))
            (tree / "i2c-core.ko").write_bytes(b"\0depends=\0")
            (tree / "modules.builtin").write_text("kernel/drivers/fb.ko\n", "utf-8")
            modules.collect(tree, ["drm"], into, NO_ZSTD)
            self.assertEqual([p.name for p in modules.collected(into)], ["i2c_core.ko", "drm.ko"])
            self.assertIn(b"depends=", (into / "drm.ko").read_bytes())

    def test_missing_module_is_named(self) -> None:
        with tempfile.TemporaryDirectory() as name, self.assertRaisesRegex(Refused, "drm"):
            modules.collect(Path(name), ["drm"], Path(name), NO_ZSTD)

    def test_relocations_of_debug_sections_do_not_count(self) -> None:
        listing = (
            "Relocation section '.rela.text' at offset 0x1 contains 2 entries:\n"
            "0001  0002 R_X86_64_PLT32  0 f - 4\n"
            "0002  0002 R_X86_64_GOTPCREL  0 g - 4\n"
            "Relocation section '.rela.debug_info' at offset 0x2 contains 1 entry:\n"
            "0003  0002 R_X86_64_32  0 .debug_str + 0\n"
        )
        found = module.relocation_types(listing)
        self.assertEqual(found, {"R_X86_64_PLT32", "R_X86_64_GOTPCREL"})
        self.assertEqual(found - module.RELOCATIONS, {"R_X86_64_GOTPCREL"})


if __name__ == "__main__":
    unittest.main()
