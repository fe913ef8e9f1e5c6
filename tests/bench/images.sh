#!/usr/bin/env bash
# Images a second a core, side by side: this program, Pillow, and libjpeg-turbo's djpeg for decoding alone.
#   PYTHON=python3 tests/bench/images.sh [ROUNDS] [SECONDS]
# Needs Python with Pillow, NumPy and h5py, and djpeg (libjpeg-turbo-progs). Prints medians over the rounds (5) and their
# ratio; every round runs all of them in turn, for SECONDS (1) a part.
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-5} seconds=${2:-1} python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make -s bench-programs
# shellcheck disable=SC2016 # make is to expand it
objects=$(make -s --eval='print-objects:;@echo $(OBJ)' print-objects)
"$python" tests/bench/make_jpegs.py "$work/small"
"$python" tests/bench/make_jpegs.py "$work/large" 1 4000 3000
for ((i = 0; i < rounds; i++)); do
    "$objects/tests/bench/images" "$work/small" 384 "$seconds" >>"$work/ours"
    OMP_NUM_THREADS=1 "$python" tests/bench/pillow_path.py "$work/small" 384 "$seconds" >>"$work/pillow"
    "$objects/tests/bench/images" "$work/large" 384 "$seconds" | sed -n 's/^decode/djpeg/p' >>"$work/ours"
    TIMEFORMAT=%U
    { time for _ in 1 2 3 4 5; do djpeg -outfile /dev/null "$work/large/0000.jpg"; done; } 2>"$work/time"
    awk '{ printf "djpeg\t%.2f\n", 5 / $1 }' "$work/time" >>"$work/pillow"
done
median() { awk -v part="$2" '$1 == part { print $2 }' "$1" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
printf '%-34s %10s %10s %7s\n' 'images a second of processor time' ours other ratio
for part in decode resize augment normalise whole djpeg; do
    name="$part, 500x375 to 384, Pillow"
    [ "$part" = djpeg ] && name='decode, 4000x3000, djpeg'
    ours=$(median "$work/ours" "$part") other=$(median "$work/pillow" "$part")
    printf '%-34s %10s %10s %7.2f\n' "$name" "$ours" "$other" "$(awk "BEGIN { print $ours / $other }")"
done
