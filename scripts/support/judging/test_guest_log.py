"""Reports of the guest's kernel are found whole, and nothing else is taken for one."""

import unittest

from support.judging import guest_log


def stamped(*texts: str) -> list[str]:
    """Kernel lines as the console has them."""
    return [f"[    1.{n:06}] {text}" for n, text in enumerate(texts)]


class Findings(unittest.TestCase):
    """The texts are those of Linux 6.12 and 7.3."""

    def kinds(self, *lines: str) -> list[str]:
        """What is found in these kernel lines."""
        return [finding.kind for finding in guest_log.findings(stamped(*lines))]

    def test_every_kind_is_known(self) -> None:
        for kind, line in [
            ("oops", "BUG: kernel NULL pointer dereference, address: 0000000000000000"),
            ("oops", "Oops: general protection fault, kernel NULL pointer dereference: 0000"),
            ("oops", "kernel BUG at mm/slub.c:1"),
            ("oops", "BUG: scheduling while atomic: insmod/88/0x00000002"),
            ("warning", "WARNING: CPU: 1 PID: 134 at a.c:36 f+0xbf/0xff0 [a]"),
            ("warning", "WARNING: a.c:36 at f+0xbf/0xff0 [a], CPU#1: insmod/134"),
            ("warning", "WARNING: possible circular locking dependency detected"),
            ("hung task", "INFO: task stuck:135 blocked for more than 30 seconds."),
            ("lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:88]"),
            ("lockup", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"),
            ("lost interrupt", "irq 11: nobody cared (try booting with the \"irqpoll\" option)"),
            ("sanitizer", "BUG: KASAN: slab-use-after-free in f+0x1/0x2"),
            ("sanitizer", "UBSAN: array-index-out-of-bounds in a.c:1:2"),
            ("failed probe", "gpu: probe of 0000:01:00.0 failed with error -5"),
            ("panic", "Kernel panic - not syncing: Fatal exception"),
        ]:
            self.assertEqual(self.kinds(line), [kind], line)

    def test_what_a_driver_or_a_program_says_is_no_report(self) -> None:
        self.assertEqual(self.kinds("mygpu 0000:01:00.0: WARNING: slow", "a: BUG: b"), [])
        self.assertEqual(guest_log.findings(["WARNING: at a.c:1", "Oops: hello"]), [])

    def test_oops_is_one_report_to_the_end_of_its_trace(self) -> None:
        lines = stamped(
            "BUG: kernel NULL pointer dereference, address: 0", "Oops: Oops: 0002 [#1]",
            "Call Trace:", "---[ end trace 0000000000000000 ]---", "next",
        )
        found = guest_log.findings(lines)
        self.assertEqual([finding.lines for finding in found], [lines[:4]])
        self.assertEqual(found[0].line, "BUG: kernel NULL pointer dereference, address: 0")

    def test_words_given_to_warn_stand_above_its_line_and_belong_to_it(self) -> None:
        lines = stamped("before", "------------[ cut here ]------------", "too many fences",
                        "WARNING: CPU: 0 PID: 1 at a.c:1", " </TASK>", "after")
        self.assertEqual(guest_log.findings(lines)[0].lines, lines[1:5])

    def test_failed_probe_is_told_with_the_drivers_last_words(self) -> None:
        lines = stamped("other: text", "gpu 0000:01:00.0: error -EIO: the copy is wrong",
                        "gpu 0000:01:00.0: probe with driver gpu failed with error -5", "after")
        found = guest_log.findings(lines)
        self.assertEqual([(f.kind, f.lines) for f in found], [("failed probe", lines[1:3])])

    def test_panic_after_an_oops_without_end_is_a_report_of_its_own(self) -> None:
        self.assertEqual(self.kinds("BUG: unable to handle page fault", "Call Trace:",
                                    "Kernel panic - not syncing: Fatal exception"),
                         ["oops", "panic"])

    def test_slow_host_is_no_report_but_a_processor_that_stays_stuck_is(self) -> None:
        stuck = "watchdog: BUG: soft lockup - CPU#0 stuck for {}s! [a:1]"
        for seconds, emulated, kinds in [(22, True, []), (22, False, ["lockup"]),
                                         (67, True, ["lockup"])]:
            lines = stamped(stuck.format(seconds), "Call Trace:", " </TASK>")
            found = guest_log.findings(lines, emulated)
            self.assertEqual([finding.kind for finding in found], kinds, (seconds, emulated))

    def test_report_that_a_program_prints_again_is_one(self) -> None:
        line = stamped("WARNING: at a.c:1")[0]
        self.assertEqual(len(guest_log.findings([line, "x", line])), 1)

    def test_kernels_lines_that_a_program_prints_are_the_programs(self) -> None:
        first, second = stamped("gpu: ready", "gpu: fence")
        self.assertEqual(guest_log.program_words([second, first, "bye"], before=[first]),
                         [first, "bye"])

    def test_kernel_line_within_a_programs_line_is_found(self) -> None:
        line = "progress: 10[    1.500000][  T88] WARNING: CPU: 0 at a.c:1"
        self.assertEqual([f.kind for f in guest_log.findings([line])], ["warning"])
        self.assertEqual(guest_log.program_words([line]), ["progress: 10"])


class Levels(unittest.TestCase):
    """What `dmesg -r` prints is judged by its levels."""

    def judged(self, *lines: str) -> guest_log.Judgement:
        """The judgement of these lines, each with its level, on an emulated processor."""
        raw = [f"<{line[0]}>[    1.{n:06}] {line[2:]}" for n, line in enumerate(lines)]
        return guest_log.judge_levels(raw, emulated=True)

    def test_warnings_and_worse_are_complaints(self) -> None:
        for level in "01234":
            self.assertEqual(self.judged(f"{level} gpu: bad").complaints, ["gpu: bad"])
        for level in "567":
            self.assertEqual(self.judged(f"{level} gpu: good").complaints, [])
        # A facility that is not the kernel's: what a program wrote to /dev/kmsg.
        self.assertEqual(guest_log.judge_levels(["<12>[    1.000000] a"], True).complaints,
                         ["a"])

    def test_what_a_check_provokes_is_no_complaint_from_there_on(self) -> None:
        result = self.judged("3 gpu: page fault", '6 presilctl: provokes "page fault"',
                             "3 gpu: page fault of x", "3 gpu: hang")
        self.assertEqual(result.complaints, ["gpu: page fault", "gpu: hang"])

    def test_boot_and_taints_are_not_the_drivers(self) -> None:
        result = self.judged("4 early: bad", f"6 {guest_log.BOOT_ENDS}",
                             "4 presil: loading out-of-tree module taints kernel.",
                             "5 presil: module verification failed: a")
        self.assertEqual(result.complaints, [])

    def test_what_says_only_that_time_ran_is_told_and_fails_nothing(self) -> None:
        said = ["hrtimer: interrupt took 12345678 ns",
                "perf: interrupt took too long (3139 > 3138), lowering",
                "clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable",
                "workqueue: drm_fb_helper_damage_work hogged CPU for >10000us 4 times",
                "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:88]"]
        for words in said:
            result = self.judged(f"4 {words}", "4 gpu: bad")
            self.assertEqual(result.slow, [words])
            self.assertIn("the host was slow", result.detail())
            if not words.startswith("watchdog"):
                self.assertEqual(result.complaints, ["gpu: bad"])

    def test_what_a_driver_says_of_interrupts_is_a_complaint(self) -> None:
        words = "presil 0000:01:00.0: hrtimer: interrupt took 1 ns"
        self.assertEqual(self.judged(f"4 {words}").complaints, [words])

    def test_oops_beside_a_slow_host_is_found(self) -> None:
        result = self.judged("4 hrtimer: interrupt took 5000000 ns", "1 BUG: kernel NULL pointer",
                             "4 WARNING: at a.c:1")
        self.assertEqual(result.complaints, ["BUG: kernel NULL pointer", "WARNING: at a.c:1"])


if __name__ == "__main__":
    unittest.main()
