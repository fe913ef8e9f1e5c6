#!/usr/bin/env bash
# Run the test programs: each in its own process (or under mpirun) with a time limit; silent on success.
#   OBJ=build/obj-... tests/run.sh [WORD]        only tests whose name contains WORD
# The first lines of a test say how it is run:
#   // CASES np=1,2,8        under mpirun with these numbers of ranks (default: alone, without mpirun)
#   // LIMIT 120             seconds a case (default 60)
# Scripts tests/*/*.sh (but those in support/ and long/) are tests too: exit status 0 passed, 77 skipped.
# Each case prints one line; the last line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
word=${1:-}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

report() { # name, status, seconds
    case $2 in
    0) passed=$((passed + 1)); printf 'ok      %s (%s s)\n' "$1" "$3" ;;
    77) skipped=$((skipped + 1)); printf 'skipped %s: %s\n' "$1" "$(tail -n 1 "$log")" ;;
    *)
        failed=$((failed + 1))
        [ "$2" = 124 ] && echo "ran past its limit" >>"$log"
        sed 's/^/    /' "$log" | tail -n 60
        printf 'FAILED  %s (status %s)\n' "$1" "$2"
        ;;
    esac
}

run_case() { # name, limit, command...
    local name=$1 limit=$2 start status
    shift 2
    start=$SECONDS
    timeout -k 10 "$limit" "$@" >"$log" 2>&1 </dev/null
    status=$?
    report "$name" $status $((SECONDS - start))
}

for source in tests/*/*.c tests/*/*.sh; do
    case $source in
    tests/support/* | tests/fuzz/* | tests/long/*) continue ;;
    esac
    name=${source#tests/}
    name=${name%.*}
    [[ $name == *"$word"* ]] || continue
    head=$(head -n 12 "$source")
    limit=$(sed -nE 's@^(//|#) LIMIT ([0-9]+).*@\2@p' <<<"$head")
    ranks=$(sed -nE 's@^(//|#) CASES np=([0-9,]+).*@\2@p' <<<"$head")
    limit=${limit:-60}
    [ -n "${SAN:-}" ] && limit=$((limit * 4))
    case $source in
    *.sh) run_case "$name" "$limit" bash "$source" ;;
    *)
        program=$OBJ/tests/$name
        if [ -z "$ranks" ]; then
            run_case "$name" "$limit" "$program"
        else
            for np in ${ranks//,/ }; do
                run_case "$name np=$np" "$limit" "${MPIRUN:-mpirun}" -np "$np" "$program"
            done
        fi
        ;;
    esac
done
[ $skipped -gt 0 ] && echo "$skipped skipped"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
