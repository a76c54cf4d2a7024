#!/bin/sh
# The driver has bound two GPUs, each of them with its IOMMU, and each has worked.
bound=$(ls -d /sys/bus/pci/drivers/e3k_first_fence/0000:* | wc -l)
[ "$bound" = 2 ] || { echo "$bound GPUs are bound"; exit 1; }
for function in /sys/bus/pci/drivers/e3k_first_fence/0000:*; do
    [ -e "$function/iommu_group" ] || { echo "$function is behind no IOMMU"; exit 1; }
done
for gpu in 0 1; do
    ask-model gpu $gpu counters | grep -q '"copies":1\b' || { echo "GPU $gpu: no copy"; exit 1; }
done
