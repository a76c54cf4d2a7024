"""The virtual machine's command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..getting.qemu import Qemu
from . import tsc

GUEST_MEMORY = "512M"
GUEST_CPUS = 2
IOMMU = ["-machine", "kernel_irqchip=split", "-device", "intel-iommu,intremap=on,caching-mode=on"]
"""A virtual IOMMU before every GPU."""
IOMMU_ARGUMENTS = ["intel_iommu=on", "iommu.strict=1"]
"""What the kernel uses it with: what is unmapped is out of reach at once."""

ARGUMENTS = [
    "console=ttyS0", "quiet", "loglevel=3", "panic=-1", "rdinit=/init",
    # ttyS0 is the console, ttyS1 the line to the model's control socket.
    "8250.nr_uarts=2",
    # What a guest for one minute does not need, and what costs seconds to probe.
    "mitigations=off", "cryptomgr.notests", "lsm=", "audit=0", "apparmor=0", "ima=off",
    "i8042.noaux", "i8042.nokbd",
]
# Calibrations that an emulated clock makes slow or wrong.
TCG_ARGUMENTS = ["tsc=reliable", "no_timer_check", "lpj=4000000"]


def emulated() -> list[str]:
    """What the kernel of an emulated processor is told of its clocks."""
    khz = tsc.khz()
    return [*TCG_ARGUMENTS, *([f"tsc_early_khz={khz}"] if khz else [])]


@dataclass(frozen=True)
class Machine:
    """A guest: what it runs, and how it reaches the model."""

    qemu: Qemu
    vmlinux: Path
    initramfs: Path
    action: str
    """What /init does (guest/init lists the words)."""
    accel: str
    """`kvm` or `tcg`."""
    board: list[str]
    """The machine with its memory and the GPU, as `presil serve --print-qemu-args` says."""
    control_socket: Path
    """The model's control socket, the guest's /dev/ttyS1."""
    reboots: bool = False
    """Whether a reboot boots again; otherwise it ends QEMU."""
    cpus: int = GUEST_CPUS
    interactive: bool = False
    """Whether the console is the user's terminal."""
    cpu: str | None = None
    """QEMU's CPU model, where it must be a certain one."""
    arguments: list[str] = field(default_factory=list)
    """Kernel arguments to add."""
    devices: list[str] = field(default_factory=list)
    """QEMU's options that must come before the GPU's."""
    more: Sequence[str] = ()
    """The user's own options for QEMU; they come last, and so win."""

    def kernel_command_line(self) -> str:
        """What the guest's kernel is told."""
        tuned = emulated() if self.accel == "tcg" else []
        words = [*ARGUMENTS, *tuned, *self.arguments, f"presil.do={self.action}"]
        return " ".join(words)

    def command(self) -> list[str]:
        """QEMU's whole command line."""
        cpu = self.cpu or ("host" if self.accel == "kvm" else "qemu64")
        # A comma ends a value for QEMU, two are one of it.
        escaped = str(self.control_socket).replace(",", ",,")
        command = [
            *self.qemu.command, "-no-user-config", "-nodefaults", "-display", "none",
            *self.devices, *self.board, "-accel", self.accel, "-cpu", cpu, "-smp", str(self.cpus),
            "-kernel", str(self.vmlinux), "-initrd", str(self.initramfs),
            "-append", self.kernel_command_line(),
            "-serial", "mon:stdio" if self.interactive else "stdio",
            "-chardev", f"socket,id=control,path={escaped}",
            "-serial", "chardev:control",
        ]
        return [*command, *([] if self.reboots else ["-no-reboot"]), *self.more]
