"""The frequency of the host's time stamp counter, with which an emulated processor counts.

A guest's kernel that measures it on a busy host may be wrong by a factor of 40, and then
its clock runs that much too fast, and all that it waits for comes too late.
"""

import ctypes
import mmap
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

READ = bytes.fromhex("0f31 48c1e220 4809d0 c3")
"""rdtsc; shl rdx, 32; or rax, rdx; ret"""
WINDOW_NS = 50_000_000
CLOSE_NS = 20_000
"""A reading of counter and clock together is good if it took no longer,"""
MOST_READINGS = 1000
"""or if it is the best of so many."""


@contextmanager
def counter() -> Iterator[Callable[[], int] | None]:
    """What reads the counter; None where that cannot be."""
    if platform.machine() != "x86_64":
        yield None
        return
    rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=rights)
    except OSError:  # a host that forbids memory which is written and executed
        yield None
        return
    page.write(READ)
    # It refers to the page, which lives as long.
    start = ctypes.c_char.from_buffer(page)
    yield ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))
    del start


def together(read: Callable[[], int]) -> tuple[int, int]:
    """The counter, and the clock in nanoseconds at the same time."""
    best = (MOST_READINGS * WINDOW_NS, 0, 0)
    for _ in range(MOST_READINGS):
        before = time.monotonic_ns()
        ticks = read()
        after = time.monotonic_ns()
        best = min(best, (after - before, ticks, (before + after) // 2))
        if best[0] <= CLOSE_NS:
            break
    return best[1:]


@cache
def khz() -> int | None:
    """Measured in 50 ms, to a per mille also on a busy host; None where it cannot be read."""
    with counter() as read:
        if read is None:
            return None
        ticks, began = together(read)
        time.sleep(WINDOW_NS / 1e9)
        more, ended = together(read)
    return round((more - ticks) * 1_000_000 / (ended - began))
