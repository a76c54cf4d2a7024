"""The snapshot of the PCI function: what counts as a change of it."""

import unittest

from support.judging import lspci

RUN = """\
01:00.0 0380: 6766:3d00
\tInterrupt: pin A routed to IRQ 24
\tRegion 1: Memory at c0000000 (64-bit, prefetchable)
\tCapabilities: [48] MSI: Enable+ Count=1/1 Maskable- 64bit+
\t\tAddress: 00000000fee01004  Data: 0021
"""


class Snapshot(unittest.TestCase):
    """docs/lspci.txt is compared with what a guest shows."""

    def test_what_firmware_and_kernel_choose_is_no_change(self) -> None:
        other = RUN.replace("IRQ 24", "IRQ 10").replace("c0000000", "80000000")
        other = other.replace("fee01004", "fee02004").replace("0021", "0022")
        self.assertEqual(lspci.settled(RUN), lspci.settled(other))

    def test_a_capability_elsewhere_is_one(self) -> None:
        self.assertNotEqual(lspci.settled(RUN), lspci.settled(RUN.replace("[48]", "[50]")))

    def test_the_snapshot_is_settled(self) -> None:
        text = lspci.SNAPSHOT.read_text("utf-8")
        self.assertEqual(lspci.settled(text), text)


if __name__ == "__main__":
    unittest.main()
