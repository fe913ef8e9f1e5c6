#!/usr/bin/env bash
# No kernel of the GPU plugin spills registers on an H100 (sm_90), says ptxas's report of the build. Skipped where
# the plugin was not built, or not for sm_90. A kernel that may spill would be named in `allowed`, with the reason.
set -u
cd "$(dirname "$0")/../.." || exit 2
allowed=''

# "kernel: what it spills" for each kernel of sm_90 that spills, and the number of kernels looked at, last.
spilling() { # log files
    awk -v allowed=" $allowed " '
        /Compiling entry function/ { name = $0; sub(/.*function ./, "", name); sub(/. for .*/, "", name); ours = /sm_90/ }
        /spill stores/ && ours {
            n++
            if (!/ 0 bytes spill stores, 0 bytes spill loads/ && !index(allowed, " " name " ")) { sub(/^ */, ""); print name ": " $0 }
        }
        END { print n + 0 }' "$@"
}

# The check itself, on a report with a fault.
report=$(mktemp)
trap 'rm -f "$report"' EXIT
cat >"$report" <<'END'
ptxas info    : Compiling entry function 'good' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'elsewhere' for 'sm_80'
    8 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Compiling entry function 'bad' for 'sm_90'
    16 bytes stack frame, 16 bytes spill stores, 8 bytes spill loads
END
[ "$(spilling "$report" | cut -d: -f1 | tr '\n' ' ')" = "bad 2 " ] || { echo "the check does not see a spill"; exit 1; }

mapfile -t logs < <(find "${GPU_OBJ:-build/none}" -name '*.cu.o.log' 2>/dev/null)
[ ${#logs[@]} -gt 0 ] || { echo "the GPU plugin is not built here"; exit 77; }
found=$(spilling "${logs[@]}")
[ "$found" != 0 ] || { echo "the GPU plugin is not built for sm_90"; exit 77; }
[[ $found != *:* ]] || { sed '$d' <<<"$found" | c++filt; exit 1; }
