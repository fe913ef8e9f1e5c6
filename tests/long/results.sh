#!/usr/bin/env bash
# All runs of docs/results.md: two sources, one and three labelled images a class, seeds 0, 1, 2 (SEEDS); prints the
# tables as markdown, and writes them into the document where its name is given:  tests/long/results.sh docs/results.md
# LIMIT 3600
set -u
cd "$(dirname "$0")/../.." || exit 2
document=${1:+$(realpath "$1")}
. tests/support/digits-runs.sh
pairs=${PAIRS:-print:3 print:1 scene:3 scene:1}
for pair in $pairs; do
    for seed in $seeds; do digits_run "${pair%:*}" "${pair#*:}" "$seed" || exit 1; done
done
{
    digits_header
    for pair in $pairs; do digits_row "${pair%:*}" "${pair#*:}"; done
} >"$work/table.md"
cat "$work/table.md"
if [ -n "$document" ]; then
    awk -v table="$work/table.md" '
        /<!-- end of the table -->/ { inside = 0 }
        !inside { print }
        /<!-- tests\/long\/results.sh -->/ { inside = 1; while ((getline line <table) > 0) print line }
    ' "$document" >"$work/document.md" && cp "$work/document.md" "$document"
fi
[[ " $pairs " == *" print:3 "* ]] || exit 0
digits_floors
