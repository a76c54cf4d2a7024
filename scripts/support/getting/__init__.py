"""Getting things: Debian's packages, the kernel, QEMU, a compiler, and what the host must have."""
