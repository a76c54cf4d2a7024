"""Of several runs the tables have, for each figure, the one that did best."""

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from support.errors import Refused
from support.reporting import bench

NAMES = ("register_read", "register_write", "kick_to_interrupt")


def run(place: str, p50: int, p99: int, write: int) -> dict[str, Any]:
    """What one guest measured, all times and all rates alike."""
    time = {"samples": 1, "min_ns": 0, "p50_ns": p50, "p99_ns": p99}
    row = {"memory": "visible VRAM", **dict.fromkeys(bench.RATES, write)}
    figures = dict.fromkeys(NAMES, time)
    return {"door": "vfio-user", "place": place, **figures, "bandwidth": [row]}


class Tables(unittest.TestCase):
    """The tables of scripts/bench."""

    def test_times_are_those_of_the_run_with_the_lowest_median(self) -> None:
        runs = [run("same core", 9000, 10_000, 1), run("same core", 8000, 250_400, 1),
                run("two cores", 7000, 7100, 1)]
        self.assertEqual(bench.time_rows(runs), [
            ["vfio-user", "same core", *["8.0 / 250"] * 3],
            ["vfio-user", "two cores", *["7.0 / 7.1"] * 3],
        ])

    def test_rates_are_the_highest_wherever_the_server_ran(self) -> None:
        runs = [run("same core", 1, 1, 3000), run("two cores", 1, 1, 2000)]
        self.assertEqual(bench.rate_rows(runs), [["visible VRAM", *["3,000"] * 4]])


class Placements(unittest.TestCase):
    """The host's cores that are used."""

    def test_two_cores_are_not_two_threads_of_one(self) -> None:
        with host({0, 1, 2, 3}):
            self.assertEqual(bench.placements(), {"same core": (0, 0), "two cores": (0, 2)})

    def test_one_core_alone_is_refused(self) -> None:
        with host({2, 3}), self.assertRaises(Refused):
            bench.placements()


@contextmanager
def host(cores: set[int]) -> Iterator[None]:
    """A host of cores with two threads each, of which we may use these."""
    with (
        mock.patch("os.sched_getaffinity", return_value=cores),
        mock.patch.object(bench, "siblings", lambda core: {core & ~1, core | 1}),
    ):
        yield


if __name__ == "__main__":
    unittest.main()
