#!/usr/bin/env bash
# How much hangs on which ten images are labelled, print -> pen with one a class: DRAWS (6) draws of one image a class
# from the list with three, seed 0. Prints a row for each draw and their mean as markdown; fails where co-training
# gains less than 6 points in the mean.
# LIMIT 1800
set -u
cd "$(dirname "$0")/../.." || exit 2
. tests/support/digits-runs.sh
draws=${DRAWS:-6}

# Image number (draw + class * step) mod 3 of every class, with a step that goes with the draw: 9 different lists.
draw_list() { # draw
    awk -v draw="$1" '{ image[$2, n[$2]++] = $1 }
        END { for (c = 0; c < 10; c++) print image[c, (draw + c * int(draw / 3)) % 3], c }' \
        data/digits/labeled_target_images_pen_3.txt
}

for ((draw = 0; draw < draws; draw++)); do
    draw_list "$draw" >"$work/draw-$draw.txt"
    digits_run print 1 0 "data.target.labelled=$work/draw-$draw.txt" >/dev/null || exit 1
    mv "$work/print-1-0" "$work/draw-$draw"
done
echo "| draw | C, warm-up | S, warm-up | both, warm-up | C, co-trained | S, co-trained | both, co-trained | student |"
echo "|---|---|---|---|---|---|---|---|"
for ((draw = 0; draw < draws; draw++)); do
    awk -v draw=$((draw + 1)) '{ printf "| %d |", draw; for (i = 1; i <= 7; i++) printf " %.1f |", $i; print "" }' "$work/draw-$draw"
done
cat "$work"/draw-[0-9] | awk '
    { for (i = 1; i <= 7; i++) { sum[i] += $i; square[i] += $i * $i } }
    END {
        printf "| mean |"
        for (i = 1; i <= 7; i++) {
            mean = sum[i] / NR
            variance = NR > 1 ? (square[i] - NR * mean * mean) / (NR - 1) : 0
            printf " %.1f ± %.1f |", mean, sqrt(variance > 0 ? variance : 0)
        }
        print ""
        exit sum[6] / NR < sum[3] / NR + 6
    }'
