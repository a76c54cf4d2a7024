"""Which mirror is read out of a host's apt configuration."""

import tempfile
import unittest
from pathlib import Path

from support.getting.apt_sources import choose_mirror, host_mirror, parse_deb822, parse_list

DEB822 = """\
# the archive
Types: deb deb-src
# a note between fields
URIs: http://mirror.example/debian
Suites: trixie trixie-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: http://mirror.example/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: https://vendor.example/linux/debian
Suites: trixie
Components: main
Signed-By: /etc/apt/keyrings/vendor.asc
"""


class Mirror(unittest.TestCase):
    """Only the main Debian archive is taken."""

    def test_deb822_stanza_with_comment_and_continuation_is_read_whole(self) -> None:
        first = parse_deb822(DEB822)[0]
        self.assertEqual(first.uri, "http://mirror.example/debian")
        self.assertEqual(first.suites, ["trixie", "trixie-updates"])
        self.assertEqual(first.components, ["main", "contrib"])

    def test_security_and_vendor_entries_are_passed_over(self) -> None:
        sources = list(reversed(parse_deb822(DEB822)))
        self.assertEqual(choose_mirror(sources), "http://mirror.example/debian")

    def test_disabled_stanza_is_ignored(self) -> None:
        self.assertEqual(parse_deb822(DEB822.replace("Types: deb", "Enabled: no\nTypes: deb")), [])

    def test_source_only_stanza_is_ignored(self) -> None:
        sources = parse_deb822(DEB822.replace("Types: deb deb-src", "Types: deb-src"))
        self.assertEqual(sources[0].uri, "http://mirror.example/debian-security")

    def test_one_line_entries_with_and_without_options_are_read(self) -> None:
        text = (
            "# deb http://off.example/debian bookworm main\n"
            "deb-src http://src.example/debian bookworm main\n"
            "deb cdrom:[Debian 12]/ bookworm main\n"
            "deb [arch=amd64 signed-by=/etc/v.gpg] https://v.example/apt bookworm main\n"
            "deb http://mirror.example/debian/ bookworm main non-free-firmware # comment\n"
        )
        self.assertEqual(choose_mirror(parse_list(text)), "http://mirror.example/debian/")

    def test_vendor_suite_that_only_looks_like_debian_is_passed_over(self) -> None:
        self.assertIsNone(choose_mirror(parse_list("deb http://v.example/x bookworm-pgdg main\n")))

    def test_signed_entry_wins_over_one_without_a_key(self) -> None:
        text = (
            "deb http://unsigned.example/debian trixie main\n"
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
            " http://signed.example/debian trixie main\n"
        )
        self.assertEqual(choose_mirror(parse_list(text)), "http://signed.example/debian")

    def test_files_of_both_formats_are_found_and_others_are_not(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            etc = Path(name)
            self.assertIsNone(host_mirror(etc))
            (etc / "sources.list.d").mkdir()
            (etc / "sources.list.d/old.sources.save").write_text(DEB822, "utf-8")
            self.assertIsNone(host_mirror(etc))
            (etc / "sources.list.d/debian.sources").write_text(DEB822, "utf-8")
            self.assertEqual(host_mirror(etc), "http://mirror.example/debian")


if __name__ == "__main__":
    unittest.main()
