#!/usr/bin/env bash
# The one direction of dependency: launcher -> training -> {models, comm, data_shards} -> common.
# Prints each include that points elsewhere; exit status 1 when there is one.
set -u
cd "$(dirname "$0")/.." || exit 2
bad=0
may() { # folder, folders it may include from
    local folder=$1 hits
    shift
    hits=$(grep -rnE '^#include "' "$folder" --include='*.[ch]' --include='*.cu' |
        grep -vE "#include \"($(IFS='|'; echo "$*"))/")
    [ -z "$hits" ] && return
    printf '%s\n' "$hits" | sed "s|^|layer broken: |"
    bad=1
}
calls() { # what, pattern, files that may have it, folders searched...
    local what=$1 pattern=$2 allowed=$3 hits
    shift 3
    hits=$(grep -rnE "$pattern" "$@" --include='*.[ch]' | grep -vE "^($allowed)")
    [ -z "$hits" ] && return
    printf '%s\n' "$hits" | sed "s|^|$what outside its place: |"
    bad=1
}
may common common
may models models common
may comm comm common
may data_shards data_shards common
may training training models comm data_shards common
may launcher launcher training models comm data_shards common
calls 'MPI call' '\bMPI_[A-Z][a-z]|include <mpi\.h>' 'comm/|launcher/main\.c' common models data_shards training launcher
calls 'HDF5 call' '\bH5[A-Z]+[a-z]|include <hdf5\.h>' 'data_shards/|launcher/version' common models comm training launcher
calls 'exit' '\b(exit|_exit|abort|quick_exit)\(' 'launcher/main\.c|comm/' common models comm data_shards training launcher
exit $bad
