#!/bin/sh
# The machine is the one that --ram, --cpus, --qemu-arg and --module asked for.
expect() { # name, found, expected
    [ "$2" = "$3" ] || { echo "$1: $2, expected $3"; exit 1; }
}

mebibytes=$(($(sed -n 's/MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
[ $mebibytes -gt 700 ] && [ $mebibytes -le 1024 ] || { echo "$mebibytes MiB"; exit 1; }
expect CPUs "$(nproc)" 3
expect "QEMU's edu device" "$(grep -l 0x11e8 /sys/bus/pci/devices/*/device | wc -l)" 1
expect fbdev_emulation "$(cat /sys/module/drm_kms_helper/parameters/fbdev_emulation)" N
