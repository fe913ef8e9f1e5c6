#!/usr/bin/env bash
# make demo: the embedded default configuration into runs/digits, and where its results lie.
set -eu
. tests/support/mpi-env.sh
unset MPIEXEC_TIMEOUT OMP_NUM_THREADS OMP_WAIT_POLICY # the program shares the cores out itself
cores=$(nproc)
ranks=${RANKS:-$((cores < 2 ? 2 : cores > 8 ? 8 : cores))}
start=()
if command -v "${MPIRUN%% *}" >/dev/null; then
    read -ra start <<<"$MPIRUN -np $ranks"
else
    echo "no ${MPIRUN%% *} here: one process does the work of both peers"
fi
echo "${start[*]} $PROGRAM"
seconds=$SECONDS
"${start[@]}" "$PROGRAM"
cat <<END
done in $((SECONDS - seconds)) s; in runs/digits:
  results.json    accuracies, confusion matrices        metrics.jsonl   losses of every step
  models/         both peers and the student            report.html     curves and pictures, where it was written
Look closer:  $PROGRAM report runs/digits;  $PROGRAM evaluate runs/digits;  begin anew: rm -r runs/digits
END
