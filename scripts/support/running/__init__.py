"""Running a VM: the model's server, QEMU, the guest's console, and where a run's files are."""
