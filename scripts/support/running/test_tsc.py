"""Tests of the frequency that an emulated guest is told."""

import unittest

from . import tsc, vm

measure = tsc.khz.__wrapped__
"""Anew each time."""


class TscTest(unittest.TestCase):
    """It is measured, and the same each time, however busy the host is."""

    def test_measured_twice_it_is_the_same(self) -> None:
        first, second = measure(), measure()
        if first is None or second is None:
            self.skipTest("this host's counter cannot be read")
        self.assertLess(abs(first - second), first / 100)
        self.assertIn(first, range(100_000, 20_000_000))

    def test_a_reading_is_of_counter_and_clock_at_the_same_time(self) -> None:
        slow = iter([10, 20])
        ticks, at = tsc.together(lambda: next(slow, 30))
        self.assertIn(ticks, {10, 20, 30})
        self.assertGreater(at, 0)

    def test_a_guest_with_an_emulated_processor_is_told_it_and_need_not_measure(self) -> None:
        told = [word for word in vm.emulated() if word.startswith("tsc_early_khz=")]
        khz = tsc.khz()
        self.assertEqual(told, [f"tsc_early_khz={khz}"] if khz else [])


if __name__ == "__main__":
    unittest.main()
