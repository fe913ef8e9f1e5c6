# shellcheck shell=bash
# digits-runs.sh -- source this in the repository's root: whole runs of the default configuration, their accuracies and
# tables. Each run is one mpirun of RANKS ranks (default 2) with one thread each.
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
export OMP_NUM_THREADS=1 MPIEXEC_TIMEOUT=1200
program=$PWD/build/marrs_dist
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
seeds=${SEEDS:-0 1 2}

# What PyTorch gave on the unlabelled target images, mean and standard deviation over seeds 0, 1, 2 (data/digits/README.md):
# after the warm-up convnext / swin / both, co-trained convnext / swin / both, student.
declare -A expected=(
    [print:3]="83.0±0.4 76.0±1.8 85.6±0.8 94.9±0.7 95.0±0.6 95.4±1.0 96.1±0.7"
    [print:1]="75.5±1.3 63.8±3.4 77.1±2.3 91.0±1.1 90.8±0.4 91.4±0.9 92.8±0.9"
    [scene:3]="81.5±2.8 54.8±2.1 81.2±2.3 89.9±0.8 88.8±0.1 89.9±0.6 92.0±1.0"
    [scene:1]="73.2±5.0 35.3±2.4 71.3±3.9 80.7±2.6 71.9±13.5 75.6±10.3 79.5±5.5")

# digits_run SOURCE SHOTS SEED [key=value...]: one run; its seven accuracies, in the order above, go to
# $work/SOURCE-SHOTS-SEED.
digits_run() {
    local name=$1-$2-$3 start=$SECONDS
    "${MPIRUN:-mpirun}" -np "${RANKS:-2}" "$program" configs/digits.yaml "run=$work/run" "seed=$3" \
        "data.source.shards=[$1-*.h5]" "data.source.list=labeled_source_images_$1.txt" \
        "data.target.labelled=labeled_target_images_pen_$2.txt" \
        "data.target.unlabelled=unlabeled_target_images_pen_$2.txt" log.level=warning log.report=false \
        "${@:4}" >"$work/$name.log" 2>&1 </dev/null || { echo "run $name failed:"; tail -n 20 "$work/$name.log"; return 1; }
    awk '$1 == "convnext" && NF == 4 { c = $2; cc = $3 }
        $1 == "swin" && NF == 4 { s = $2; cs = $3 }
        $1 == "ensemble" { b = $2; cb = $3 }
        $1 == "student" { print c, s, b, cc, cs, cb, $4 }' "$work/$name.log" >"$work/$name"
    rm -rf "$work/run"
    [ "$(wc -w <"$work/$name")" = 7 ] || { echo "run $name printed no table:"; cat "$work/$name.log"; return 1; }
    echo "$1 -> pen, $2 labelled a class, seed $3: $(cat "$work/$name") ($((SECONDS - start)) s)"
}

# digits_row SOURCE SHOTS: mean and standard deviation of its runs as a row of a markdown table, and what is expected.
digits_row() {
    local seed files=()
    for seed in $seeds; do files+=("$work/$1-$2-$seed"); done
    awk -v pair="$1 → pen" -v shots="$2" -v expected="${expected[$1:$2]}" '
        { for (i = 1; i <= 7; i++) { sum[i] += $i; square[i] += $i * $i } }
        END {
            split(expected, e, " ")
            printf "| %s | %s |", pair, shots
            for (i = 1; i <= 7; i++) {
                mean = sum[i] / NR
                variance = NR > 1 ? (square[i] - NR * mean * mean) / (NR - 1) : 0
                printf " %.1f ± %.1f |", mean, sqrt(variance > 0 ? variance : 0)
            }
            printf "\n| | PyTorch |"
            for (i = 1; i <= 7; i++) { sub("±", " ± ", e[i]); printf " %s |", e[i] }
            printf "\n"
        }' "${files[@]}"
}

digits_header() {
    echo "| source → target | shots | C, warm-up | S, warm-up | both, warm-up | C, co-trained | S, co-trained | both, co-trained | student |"
    echo "|---|---|---|---|---|---|---|---|---|"
}

# digits_floors: every run of print -> pen with 3 labelled images a class is above the floors of data/digits/README.md.
digits_floors() {
    local seed bad=0
    for seed in $seeds; do
        awk -v seed="$seed" '{
            if ($6 < 91) { print "seed " seed ": both peers reach " $6 ", the floor is 91"; bad = 1 }
            if ($6 < $3 + 6) { print "seed " seed ": " $6 " after " $3 " is a gain below 6"; bad = 1 }
            if ($7 < 92) { print "seed " seed ": the student reaches " $7 ", the floor is 92"; bad = 1 }
        } END { exit bad }' "$work/print-3-$seed" || bad=1
    done
    return $bad
}
