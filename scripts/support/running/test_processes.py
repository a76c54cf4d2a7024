"""Programs that end when another does."""

import subprocess
import unittest

from support.running.processes import Processes, end_with

LONG = ["sleep", "1000"]
PATIENCE_SECONDS = 60


class EndWith(unittest.TestCase):
    """QEMU and its server."""

    def start(self, processes: Processes, *command: str) -> "subprocess.Popen[str]":
        """A program that says nothing."""
        return processes.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def test_killed_server_ends_qemu(self) -> None:
        with Processes() as processes:
            server, qemu = self.start(processes, *LONG), self.start(processes, *LONG)
            watcher = end_with(qemu, server)
            server.kill()
            watcher.join(PATIENCE_SECONDS)
            self.assertEqual(qemu.wait(PATIENCE_SECONDS), -15)
            self.assertEqual(server.wait(PATIENCE_SECONDS), -9)

    def test_server_that_failed_ends_qemu_and_one_that_is_done_does_not(self) -> None:
        for server, ended in [("false", True), ("true", False)]:
            with Processes() as processes:
                qemu = self.start(processes, *LONG)
                watcher = end_with(qemu, self.start(processes, server))
                watcher.join(PATIENCE_SECONDS)
                self.assertFalse(watcher.is_alive())
                if ended:
                    self.assertEqual(qemu.wait(PATIENCE_SECONDS), -15)
                else:
                    self.assertIsNone(qemu.poll())
