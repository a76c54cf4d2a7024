#!/bin/sh
# The driver has bound the GPU and its probe has succeeded; it does so again after a removal.
driver=/sys/bus/pci/drivers/e3k_first_fence

bound() {
    set -- "$driver"/0000:*
    [ -e "$1" ] || { echo "no GPU is bound to $driver"; exit 1; }
    echo "bound: ${1##*/}"
}

bound
rmmod e3k_first_fence || exit 1
insmod /modules/e3k_first_fence.ko || exit 1
bound
