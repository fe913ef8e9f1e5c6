#!/usr/bin/env bash
# The tutorial, as a new user would type it: every command of docs/tutorial.md, in its order, in a home of its own.
# LIMIT 2400
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
unset MPIEXEC_TIMEOUT OMP_NUM_THREADS OMP_WAIT_POLICY MAKEFLAGS MAKELEVEL
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work
# shellcheck disable=SC2016 # backquotes of Markdown
sed -n '/^```sh$/,/^```$/{/^```/!p}' docs/tutorial.md >"$work/tutorial.sh"
[ "$(wc -l <"$work/tutorial.sh")" -gt 60 ] || { echo "no commands found in docs/tutorial.md"; exit 1; }
bash -eu "$work/tutorial.sh" >"$work/log" 2>&1 || { tail -n 60 "$work/log"; echo "the tutorial failed"; exit 1; }

# What the page shows of the lists is what they are.
sed -n '/^lists\/.*images$/p' docs/tutorial.md >"$work/wanted"
[ -s "$work/wanted" ] || { echo "the page shows no lists"; exit 1; }
grep -E '^lists/.*images$' "$work/log" | cmp -s - "$work/wanted" || { echo "the lists differ from the page's:"; grep '^lists/' "$work/log"; exit 1; }

# The answers: names are those of the folders, and most are right (new/CLASS-NUMBER.png).
cd "$work/adapt" || exit 1
for file in runs/pen/report.html student.onnx answers.csv; do
    [ -s "$file" ] || { echo "no $file"; exit 1; }
done
awk -F, 'NR > 1 { n++; right += substr($1, 1, 1) == $3 }
    END { printf "%d of %d answers right\n", right, n; exit !(n > 1000 && right > 0.85 * n) }' answers.csv
