#!/bin/sh
# The driver checker is silent while all is done right; then every mistake is made.
parameters=/sys/module/e3k_mistakes/parameters
echo right > $parameters/make || exit 1
ask-model reports | grep -q '"reports":\[\]' || { echo "found what is right"; exit 1; }
echo wrong > $parameters/make || exit 1
while read -r mistake; do echo "mistake $mistake"; done < $parameters/list
