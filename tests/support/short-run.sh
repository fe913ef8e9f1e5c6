# shellcheck shell=bash
# short-run.sh -- source this from a test in the repository's root:  . tests/support/short-run.sh
# The default configuration cut down to some seconds, a folder $work that is removed at the end, and what the tests of
# whole runs have in common. Lists are thinned out, so that evaluation does not take longer than training.
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
program=$PWD/build/marrs_dist
launch=${MPIRUN:-mpirun}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

for split in unlabeled:8 validation:4; do
    awk "NR % ${split#*:} == 1" "data/digits/${split%:*}_target_images_pen_3.txt" >"$work/${split%:*}.txt"
done
# Thresholds so low that pseudo-labels are kept although hardly anything has been learnt.
short=(configs/digits.yaml "data.target.unlabelled=$work/unlabeled.txt" "data.target.validation=$work/validation.txt"
    cotrain.warmup.steps=8 cotrain.warmup.schedule.ramp=4 cotrain.steps=12 cotrain.schedule.ramp=4
    cotrain.evaluate_every=6 "cotrain.tau=[0.2,0.15,0.12]" cotrain.tau_source=0.15 distil.steps=6 distil.evaluate_every=4
    distil.tau=0.15 distil.optimizer.lr=3e-4 checkpoint.every=0 log.level=warning log.report=false)
# The paper's frozen mode, as short.
# shellcheck disable=SC2034 # for whoever sources this
frozen=("stages=[features,heads]" heads.init.steps=10 heads.outer=4 heads.inner=5 heads.exchange.every=5
    heads.evaluate_every=2 heads.optimizer.lr=1 "heads.tau=[0.2,0.15]" heads.tau_source=0.15)

fail() { # what
    echo "$*"
    failures=$((failures + 1))
}

records() { # DIR: how many records its metrics hold
    if [ -e "$work/$1/metrics.jsonl" ]; then wc -l <"$work/$1/metrics.jsonl"; else echo 0; fi
}

# train DIR RANKS key=value...: one run in $work/DIR, its output in $work/DIR.log; the program's status. RANKS 0: without
# mpirun.
train() {
    local dir=$1 ranks=$2 start=("$launch" -np "$2")
    shift 2
    [ "$ranks" = 0 ] && start=()
    timeout "${TRAIN_LIMIT:-300}" "${start[@]}" "$program" "${short[@]}" "run=$work/$dir" "$@" >"$work/$dir.log" 2>&1 </dev/null
}

# must_train: as train, and a failure of the test where it does not end well.
must_train() {
    train "$@" && return
    local status=$?
    fail "run $1 on $2 ranks ended with status $status:"
    tail -n 15 "$work/$1.log"
    return 1
}

# expect STATUS TEXT DIR RANKS key=value...: the run ends with that status and says TEXT (an extended expression) once.
expect() {
    local status=$1 text=$2 got
    shift 2
    train "$@"
    got=$?
    [ "$got" = "$status" ] || { fail "run $1: status $got, not $status:"; tail -n 15 "$work/$1.log"; }
    got=$(grep -cE -- "$text" "$work/$1.log")
    [ "$got" = 1 ] || { fail "run $1: $got lines say '$text', not 1:"; tail -n 15 "$work/$1.log"; }
}

# sed: takes what is told of single ranks, times all of it, out of metrics.jsonl.
no_ranks='s/"(slowest_[a-z]+":[^,}]*|ranks":\{[^}]*\}),?//g'

# Every number of metrics.jsonl but times and bytes, one a line: "stage.step.phase.model.name value".
flat_metrics() { # FILE
    sed -E "$no_ranks" "$1" | tr -d '"' | awk '{
        n = split(substr($0, 2, length($0) - 2), item, ",")
        head = group = ""
        for (i = 1; i <= n; i++) {
            text = item[i]
            if (match(text, /:{/)) { group = substr(text, 1, RSTART - 1) "."; text = substr(text, RSTART + 2) }
            closes = sub(/}$/, "", text)
            split(text, part, ":")
            if (part[1] ~ /^(stage|step|phase)$/) head = head part[2] "."
            else if (part[1] !~ /_ms$|_per_s$|_bytes$/) print head group part[1], part[2]
            if (closes) group = ""
        }
    }'
}

# same_losses DIR DIR: every loss, share and accuracy agrees to 1e-4 (relative, or 1e-6 absolute), gradient norms to 1e-3.
# The student's batch norm under AdamW enlarges rounding about fivefold a step: so does its allowance, from the second
# step on and up to 2e-2, and its later gradient norms and accuracies are left out.
same_losses() {
    flat_metrics "$work/$1/metrics.jsonl" >"$work/first.txt"
    flat_metrics "$work/$2/metrics.jsonl" >"$work/second.txt"
    [ "$(wc -l <"$work/first.txt")" -ge "${LEAST_NUMBERS:-50}" ] || { fail "run $1: only $(wc -l <"$work/first.txt") numbers"; return 1; }
    paste -d ' ' "$work/first.txt" "$work/second.txt" | awk -v a="$1" -v b="$2" '
        function size(x) { return x < 0 ? -x : x }
        $1 != $3 { printf "runs %s and %s: %s has no partner (%s)\n", a, b, $1, $3; bad = 1; exit }
        {
            split($1, part, ".")
            student = part[1] == "distil" && part[2] > 1
            if (student && $1 ~ /gradient_norm|validation/) next
            limit = $1 ~ /gradient_norm/ ? 1e-3 : 1e-4
            if (student) limit *= 5 ^ (part[2] - 1)
            if (part[1] == "distil" && part[2] == 1 && $1 ~ /gradient_norm/) limit = 1e-2
            if (limit > 2e-2) limit = 2e-2
            larger = size($2) > size($4) ? size($2) : size($4)
            if ($2 == $4 || size($2 - $4) <= limit * larger || size($2 - $4) <= 1e-6) next
            if (bad++ < 8) printf "runs %s and %s: %s is %s and %s (%.1e)\n", a, b, $1, $2, $4, size($2 - $4) / larger
        }
        END { exit bad > 0 }' || failures=$((failures + 1))
}

# same_run DIR DIR: metrics (but times), results and models are the same bits.
same_run() {
    local file name
    for name in "$1" "$2"; do
        sed -E "$no_ranks"';s/,?"[a-z_]*(_ms|_per_s)":[^,}]*//g' "$work/$name/metrics.jsonl" >"$work/$name.metrics"
    done
    cmp "$work/$1.metrics" "$work/$2.metrics" || fail "runs $1 and $2: metrics.jsonl differ"
    cmp "$work/$1/results.json" "$work/$2/results.json" || fail "runs $1 and $2: results.json differ"
    for file in "$work/$1"/models/*.safetensors; do
        cmp "$file" "$work/$2/models/${file##*/}" || fail "runs $1 and $2: ${file##*/} differ"
    done
}

# done_testing: the test's status.
done_testing() {
    [ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
    exit 0
}
