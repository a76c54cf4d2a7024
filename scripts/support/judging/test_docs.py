"""Commands in the documentation are found and taken apart."""

import unittest

from support.judging import docs


class Commands(unittest.TestCase):
    """What is held against the programs' help."""

    def test_options_behind_two_dashes_are_those_of_the_server(self) -> None:
        page = "```console\n$ scripts/run --vram 1G \\\n    --shell -- --defect copies # why\n```\n"
        self.assertEqual(docs.commands(page), [
            ["scripts/run", "--vram", "1G", "--shell"],
            ["presil", "serve", "--defect", "copies"],
        ])

    def test_other_programs_and_other_blocks_do_not_count(self) -> None:
        page = "```console\n$ make --jobs && A=1 presil chips\n```\n```\nscripts/run --no\n```\n"
        self.assertEqual(docs.commands(page), [["presil", "chips"]])


if __name__ == "__main__":
    unittest.main()
