#!/usr/bin/env bash
# The demo for seeds 0, 1 and 2 (SEEDS): accuracies above the floors of data/digits/README.md, mean and deviation printed.
# LIMIT 1200
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/digits-runs.sh
for seed in $seeds; do digits_run print 3 "$seed" || exit 1; done
digits_header
digits_row print 3
digits_floors
