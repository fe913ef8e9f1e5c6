#!/usr/bin/env bash
# The table of docs/performance.md, section "Networks": this program beside PyTorch + timm. PYTHON names the interpreter.
#   tests/bench/peers.sh [--runs 5] [--rounds 1] [--only WORD] [--precision fp32|bf16] [--threads 2]
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
if ! "$python" -c 'import torch, timm' 2>/dev/null; then
    echo "needs Python with torch and timm (environment variable PYTHON names the interpreter)" >&2
    exit 77
fi
make -s all
grep -m1 'model name' /proc/cpuinfo | sed 's/.*: //'
"$python" -c 'import torch, timm; print("torch", torch.__version__, "timm", timm.__version__)'
exec "$python" tests/bench/peers.py "$@"
