"""Building: the module, its sysroot, the guest's initramfs, and all of it for one run."""
