# shellcheck shell=bash disable=SC2034 # variables for whoever sources this
# expect.sh -- source this from a test in the repository's root:  . tests/support/expect.sh
# Commands as a user types them: how they end and what they say. A folder $work, removed at the end, with the last
# command's output in $work/out. A test goes on after a failure, to tell all of them, and ends with: exit $bad
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
program=$PWD/build/marrs_dist
mpirun=${MPIRUN:-mpirun}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
: >"$work/out"

fail() { # what
    echo "$*; the last output:"
    cat "$work/out"
    bad=1
}

expect() { # status, pattern (extended) of the output, command...
    local status want=$1 pattern=$2
    shift 2
    timeout 60 "$@" >"$work/out" 2>&1 </dev/null
    status=$?
    if [ $status -ne "$want" ] || ! grep -qE -- "$pattern" "$work/out"; then
        fail "$*: status $status, wanted $want and '$pattern'"
    fi
}

also() { grep -qE -- "$1" "$work/out" || fail "no '$1'"; } # pattern of the last output

once() { # words that must stand exactly once in the last output
    local n
    n=$(grep -cF -- "$1" "$work/out")
    [ "$n" -eq 1 ] || fail "'$1' appears $n times"
}
