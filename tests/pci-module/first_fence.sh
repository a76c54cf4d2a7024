#!/bin/sh
# The driver has bound the GPU and its probe has succeeded; it does so again after a removal.
driver=/sys/bus/pci/drivers/e3k_first_fence

bound() {
    set -- "$driver"/0000:*
    [ -e "$1" ] || { echo "no GPU is bound to $driver"; exit 1; }
    echo "bound: ${1##*/}"
}

# What the model has done, by its own count.
counted() {
    ask-model counters | grep -q "\"$1\":$2\b" || { echo "the model did not count $2 $1"; exit 1; }
}

bound
counted copies 1
rmmod e3k_first_fence || exit 1
insmod /modules/e3k_first_fence.ko || exit 1
bound
counted copies 2
counted faults 0
