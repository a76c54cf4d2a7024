#!/bin/sh
# Without a driver: a word that the model does not have is read, and a register that is
# read-only is written.
function=/sys/bus/pci/devices/0000:01:00.0
read -r bar0 _ < $function/resource
echo 1 > $function/enable
for _ in 1 2 3; do
    devmem $((bar0 + 0x33000)) 32 > /dev/null
done
devmem $((bar0 + 0xD370)) 32 0x1
