"""What --fail-on finds in a run, and what it takes for an answer."""

import unittest
from typing import Any

from support.errors import Refused
from support.judging import fail_on
from support.running import model
from support.running.console import Transcript
from support.running.session import Outcome

CLEAN: dict[str, Any] = {
    "device": {"refused_accesses": 0}, "undeclared": [], "misuse": [], "faults": [],
    "ring_errors": [], "unmet_waits": [], "left_running": [], "unanswered": [],
}
RUNNING = {"rings": [], "l1_valid": [], "bus_master": True}
BAD: dict[str, dict[str, Any]] = {
    "faults": {"faults": [{"text": "fault: here"}, {"text": "fault: there"}]},
    "ring-errors": {"ring_errors": [{"text": "ring 0 halted"}]},
    "unmet-waits": {"unmet_waits": [{"text": "a wait"}]},
    "misuse": {
        "misuse": [{"register": "MEM_READY", "offset": 0xD370, "kind": "read_only", "count": 2}]
    },
    "undeclared": {
        "undeclared": [{"block": "display", "start": 0, "words": 1, "reads": 2, "writes": 0}]
    },
    "left-running": {"left_running": [RUNNING]},
}


def outcome(answers: dict[str, Any], drm_errors: list[str] | None = None) -> Outcome:
    """A run of which the model says this."""
    return Outcome(
        Transcript(), [], answers, {}, False, findings=[], last_lines=[],
        drm_errors=drm_errors or [],
    )


class FailOn(unittest.TestCase):
    """One check for each kind that was asked for."""

    def failed(self, run: Outcome, *kinds: str) -> list[str]:
        """The kinds that fail a run."""
        checks = fail_on.checks(run, kinds)
        return [kind for kind, check in zip(kinds, checks, strict=True) if not check["ok"]]

    def test_each_kind_fails_for_what_it_names_and_for_nothing_else(self) -> None:
        every = list(fail_on.KINDS)
        self.assertEqual(self.failed(outcome(CLEAN), *every), [])
        for kind, answers in BAD.items():
            self.assertEqual(self.failed(outcome({**CLEAN, **answers}), *every), [kind])
        self.assertEqual(self.failed(outcome(CLEAN, ["[drm] *ERROR* x"]), *every), ["drm-errors"])
        self.assertEqual({*BAD, "drm-errors"}, {*every})

    def test_what_was_found_is_told(self) -> None:
        run = outcome({**CLEAN, **BAD["faults"], **BAD["misuse"]})
        details = [check["detail"] for check in fail_on.checks(run, ["faults", "misuse"])]
        self.assertEqual(details[0], "fault: here, and 1 more")
        self.assertEqual(
            details[1], "MEM_READY (0xd370) written, but read-only: the write is lost, 2 times"
        )

    def test_refused_accesses_are_misuse(self) -> None:
        answers = {**CLEAN, "device": {"refused_accesses": 3}}
        self.assertEqual(self.failed(outcome(answers), "misuse", "faults"), ["misuse"])

    def test_that_bus_mastering_is_off_is_nothing_left(self) -> None:
        ring = {"ring": 0, "head": 0, "tail": 0}
        state = {"rings": [ring], "l1_valid": [], "bus_master": False}
        told = fail_on.checks(outcome({**CLEAN, "left_running": [state]}), ["left-running"])[0]
        self.assertEqual(told["detail"], "ring 0 is started: Head 0x0, Tail 0x0")

    def test_a_model_that_did_not_answer_passes_nothing(self) -> None:
        lost = {**CLEAN, "unanswered": ["control socket, 'faults': timed out"]}
        for answers in ({}, lost):
            self.assertEqual(self.failed(outcome(answers), "faults", "misuse"),
                             ["faults", "misuse"])

    def test_kinds_are_names_with_commas_and_all_is_every_one(self) -> None:
        self.assertEqual(fail_on.parse(["misuse,faults", "faults"]), ["faults", "misuse"])
        self.assertEqual(fail_on.parse(["all"]), list(fail_on.KINDS))
        for wrong in ("fault", "faults,", ""):
            with self.assertRaisesRegex(Refused, "expected faults, ring-errors"):
                fail_on.parse([wrong])


class SeveralGpus(unittest.TestCase):
    """The answers of several GPUs as one."""

    def test_numbers_are_added_and_records_say_which_gpu_they_are_of(self) -> None:
        answers = {"device": {"copies": 2, "door": {"msi": 1}}, "faults": [{"text": "fault: x"}],
                   "unanswered": ["no"]}
        both = model.together([answers, {**answers, "unanswered": []}])
        self.assertEqual(both["device"], {"copies": 4, "door": {"msi": 2}})
        self.assertEqual(both["faults"], [{"gpu": 0, "text": "GPU 0: fault: x"},
                                          {"gpu": 1, "text": "GPU 1: fault: x"}])
        self.assertEqual(both["unanswered"], ["GPU 0: no"])


if __name__ == "__main__":
    unittest.main()
