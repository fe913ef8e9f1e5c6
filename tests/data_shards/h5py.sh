#!/usr/bin/env bash
# Shards and other programs: h5py reads ours; a shard that h5py wrote (new format version, no checksums beyond the fixed
# ones, no seal) is read, and wild values in it are named. Skipped where python3 ($PYTHON) has no h5py.
# LIMIT 60
set -u
cd "$(dirname "$0")/../.." || exit 2
python=${PYTHON:-python3}
"$python" -c 'import h5py, numpy' 2>/dev/null || { echo "$python has no h5py"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
program=$PWD/build/marrs_dist
shard=data/digits/pen-000.h5

"$python" - "$shard" "$work" <<'EOP' || exit 1
import sys, h5py, numpy as np
source, work = sys.argv[1:]
with h5py.File(source) as f:
    assert f.attrs["format"] == "marrs-shard" and f.attrs["version"] == 1 and f.attrs["domain"] == "pen"
    offset, data = f["image/offset"][:], f["image/data"][:]
    assert len(offset) == 1501 and offset[-1] == len(data) and f["label"].shape == (1500,)
    assert data[offset[7]:offset[7] + 4].tobytes() == b"\x89PNG"
    o = f["id/offset"][:]
    assert f["id/data"][o[1]:o[2]].tobytes() == b"pen/0/00001.png"
    def write(name, change=None, **options):
        with h5py.File(f"{work}/{name}.h5", "w", **options) as g:
            for key in ("domain", "encoding", "format", "version"):
                g.attrs[key] = f.attrs[key]
            for key in ("image/data", "image/offset", "image/hash", "label", "id/data", "id/offset", "class/data",
                        "class/offset"):
                values = f[key][:]
                if change and change[0] == key:
                    values[change[1]] = change[2]
                g.create_dataset(key, data=values, chunks=(64,) if name == "chunked" and key == "label" else None)
    write("new", libver="latest")
    write("old")
    write("offset", ("image/offset", 700, 2**63))
    write("label", ("label", 12, 10))
    write("hash", ("image/hash", 3, 1))
    write("chunked")
EOP

expect() { # exit status, words, file
    timeout 30 "$program" inspect "$work/$3.h5" >"$work/out" 2>&1
    local status=$?
    if [ $status != "$1" ] || ! grep -qF -- "$2" "$work/out"; then
        echo "inspect $3: status $status, wanted $1 and '$2'"
        cat "$work/out"
        exit 1
    fi
}
expect 0 "verified    all 1500 image checksums" new
expect 0 "headers not sealed" old
expect 65 "image/offset row 700" offset
expect 65 "label row 12: class 10" label
expect 65 "image/data row 3 (pen/0/00003.png) is damaged" hash
expect 65 "dataset label is not stored contiguously" chunked
