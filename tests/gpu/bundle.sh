#!/usr/bin/env bash
# Put everything that the checks on a GPU need into one folder and one archive of it.
#   OBJ=build/obj-... PLUGIN=build/libmarrs_cuda.so bundle.sh FOLDER TEST...
# Every shared library that the programs need comes along, but libc's own and the driver's and CUDA's, which the
# other machine has; programs are stripped. Open MPI finds its parts by OPAL_PREFIX.
set -eu
folder=$1
shift
rm -rf "$folder"
mkdir -p "$folder/bin" "$folder/lib" "$folder/tests" "$folder/data"

put() { # program, target: without what only a debugger needs
    mkdir -p "$(dirname "$2")"
    strip -g -o "$2" "$1"
}

put build/marrs_dist "$folder/bin/marrs_dist"
put "$PLUGIN" "$folder/lib/libmarrs_cuda.so"
for test in "$@"; do put "$OBJ/tests/$test" "$folder/tests/$test"; done

# Open MPI, where it is Debian's: the run-time's programs, components and messages.
mpi=$(readlink -f "$(command -v mpirun)")
put "$mpi" "$folder/bin/mpirun"
put "$(command -v orted)" "$folder/bin/orted"
components=$(dirname "$(find /usr/lib -path '*openmpi3/mca_pml_ob1.so' | head -n 1)")
target=$folder${components#/usr} # OPAL_PREFIX stands for /usr
mkdir -p "$target" "$folder/share/openmpi"
cp "$components"/mca_*.so "$target/"
rm -f "$target"/*{ucx,ofi,openib,usnic,portals,psm,cma,knem,fs_,fcoll,fbtl,sharedfp,io_,monitoring,java}*.so
cp -R /usr/share/openmpi/. "$folder/share/openmpi/"

# The closure of shared libraries.
system='^(linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libresolv|libcuda|libcudart|libcublas.*|libnccl|libcudnn.*|libnvrtc.*)\.so'
find "$folder/bin" "$folder/lib" "$folder/tests" -type f \( -name '*.so' -o -perm -u+x \) -print0 | xargs -0 ldd 2>/dev/null |
    awk '$3 ~ /^\// { print $1, $3 }' | sort -u | while read -r name file; do
    [[ $name =~ $system ]] || [ -e "$folder/lib/$name" ] || put "$(readlink -f "$file")" "$folder/lib/$name"
done

mkdir -p "$folder/data/digits"
cp data/digits/*.txt data/digits/{print,pen}-*.h5 "$folder/data/digits/"
cp -R configs "$folder/configs"
mkdir -p "$folder/golden/nets" # a network of each kind: the others are for size's sake left out
cp -R tests/golden/{ops.h5,optim.h5} "$folder/golden/"
cp -R tests/golden/nets/{convnext_64x96,swin_pad_48x40,mobilenetv2_train_w010_48x64,mobilenetv2_eval_w010_64} "$folder/golden/nets/"
cp tests/gpu/check-gpu.sh "$folder/check-gpu.sh"
{
    git rev-parse HEAD 2>/dev/null || echo unknown
    date -u +%Y-%m-%d
} >"$folder/build.txt"
tar -C "$(dirname "$folder")" -c "$(basename "$folder")" | xz -T0 -5 >"$folder.tar.xz"
n=$(stat -c %s "$folder.tar.xz")
echo "$folder.tar.xz: $((n / 1000000)) MB"
[ "$n" -lt 40000000 ] || { echo "larger than 40 MB" >&2; exit 1; }
