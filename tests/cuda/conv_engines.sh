#!/usr/bin/env bash
# Convolutions by each engine, and by the faster of them, against the golden files; products with timed algorithms too.
# LIMIT 180
set -u
cd "$(dirname "$0")/../.." || exit 2
golden=$OBJ/tests/models/golden_ops
if [ -z "${MARRS_CUDA_TWIN:-}" ] || [ ! -x "$golden" ]; then
    echo "the GPU plugin was not built"
    exit 77
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

by() { # what the log must name, settings...
    local want=$1
    shift
    env "$@" OPS=conv2d "$golden" >"$log" 2>&1 || { tail -n 20 "$log"; exit 1; }
    grep -q "$want" "$log" || { echo "with $*: the log does not name $want"; exit 1; }
}
by "GPU: depthwise convolution .*: cuDNN's engine" MARRS_CONV_ENGINE=cudnn DEBUG_LOG=1
by "GPU: dense convolution .* ms (ours .* ms)" AUTOTUNE=1 DEBUG_LOG=1
by "GPU: cuda.autotune timed [1-9][0-9]* matrix products, .* and [1-9][0-9]* convolutions" AUTOTUNE=1
grep -q "GPU: dense" "$log" && { echo "choices are logged at level info"; exit 1; }
env MARRS_CONV_ENGINE=ours DEBUG_LOG=1 OPS=conv2d "$golden" 2>&1 | grep -q "cuDNN's" && { echo "ours is not ours alone"; exit 1; }
exit 0
