"""Messages are picked out of the guest's console; the report shows them."""

import io
import unittest

from support.reporting import render
from support.running.console import Transcript, follow


class Console(unittest.TestCase):
    """The console is a log with messages in it."""

    def follow(self, *lines: str) -> tuple[Transcript, list[str], str]:
        """A transcript of these lines, the kinds reported, and the log."""
        transcript, kinds, log = Transcript(), list[str](), io.StringIO()
        follow(lines, log, transcript, kinds.append)
        return transcript, kinds, log.getvalue()

    def test_messages_are_taken_and_all_lines_are_logged(self) -> None:
        transcript, kinds, log = self.follow(
            "[    1.0] hello\r\n", '@presil {"check":{"name":"a","ok":true}}\r\n', "bye\n"
        )
        self.assertEqual(kinds, ["check"])
        self.assertEqual(transcript.all("check"), [{"name": "a", "ok": True}])
        self.assertEqual(len(log.splitlines()), 3)

    def test_message_after_other_text_on_its_line_is_found(self) -> None:
        transcript, _, _ = self.follow('login: @presil {"done":{"ok":true}}\n')
        self.assertEqual(transcript.all("done"), [{"ok": True}])

    def test_missing_number_is_noticed_and_a_repeated_one_is_no_second_message(self) -> None:
        transcript, kinds, _ = self.follow(
            '@presil 1 {"boot":{}}', '@presil 2 {"a":1}', '[    1.0] @presil 2 {"a":1}',
            '@presil 4 {"done":{}}', '@presil 1 {"boot":{}}', '@presil 2 {"done":{}}',
        )
        self.assertEqual(kinds, ["boot", "a", "done", "boot", "done"])
        self.assertEqual(transcript.broken, ["messages 3 to 3 are missing before done (4)"])

    def test_message_that_the_kernel_prints_behind_is_whole(self) -> None:
        transcript, kinds, _ = self.follow('@presil 1 {"boot":{}}[    1.500000] a: b')
        self.assertEqual((kinds, transcript.broken), (["boot"], []))

    def test_kernel_line_at_any_byte_loses_nothing_unnoticed(self) -> None:
        said = ['@presil 1 {"boot":{}}', '@presil 2 {"check":{"name":"a","ok":false}}', "ok",
                '@presil 3 {"done":{"ok":true}}']
        text = "".join(f"{line}\r\n" for line in said)
        whole = {"boot": [{}], "check": [{"name": "a", "ok": False}], "done": [{"ok": True}]}
        for at in range(len(text)):
            torn = f"{text[:at]}[    3.000001] gpu: hello\r\n{text[at:]}"
            transcript, _, _ = self.follow(*torn.splitlines())
            told = transcript.messages == whole
            lost = bool(transcript.broken) or not transcript.all("done")
            self.assertTrue(told or lost, f"at {at}: {transcript.messages}")

    def test_torn_message_is_kept_as_broken_and_is_no_message(self) -> None:
        transcript, kinds, _ = self.follow('@presil {"done":{"ok[  3.1] oops\n', "@presil 3\n",
                                           "@presil {}\n")
        self.assertEqual(kinds, [])
        self.assertEqual(len(transcript.broken), 3)


class Render(unittest.TestCase):
    """Plain data reads well."""

    def test_size_uses_the_largest_unit_that_divides(self) -> None:
        sizes = [render.size(n) for n in (0, 1023, 4096, 0x2000_0000, 3 << 30)]
        self.assertEqual(sizes, ["0 bytes", "1023 bytes", "4 KiB", "512 MiB", "3 GiB"])

    def test_large_odd_size_is_rounded(self) -> None:
        self.assertEqual(render.size(486383616), "463.9 MiB")

    def test_name_and_place_come_first_whatever_the_order_they_came_in(self) -> None:
        row = {"bytes": 4096, "end": 8192, "name": "local", "start": 4096}
        self.assertEqual(list(render.ordered(row)), ["name", "start", "end", "bytes"])

    def test_fields_tell_sizes_and_addresses_by_name(self) -> None:
        self.assertEqual(render.scalar("table_bytes", 8192), "8 KiB")
        self.assertEqual(render.scalar("gpu_phys", 8192), "0x2000")
        self.assertEqual(render.scalar("entries", 131072), "131,072")

    def test_records_of_one_kind_become_a_table(self) -> None:
        rows = [{"name": "local", "start": 0}, {"name": "pcie", "start": 4096}]
        self.assertEqual(render.lines(rows), [
            "name    start",
            "local     0x0",
            "pcie   0x1000",
        ])

    def test_nested_record_stands_below_its_name(self) -> None:
        self.assertEqual(render.lines({"a": 1, "b": {"c": True}}),
                         ["a  1", "b", "  c  yes"])


if __name__ == "__main__":
    unittest.main()
