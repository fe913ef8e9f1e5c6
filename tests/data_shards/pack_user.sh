#!/usr/bin/env bash
# Packing as a new user would try it: spaces and UTF-8 in names, an empty file, a text named .jpg, a truncated file, a
# missing one; exit codes and messages; the same bytes under mpirun; h5dump reads the result; inspect finds damage.
# LIMIT 90
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/mpi-env.sh
. tests/support/mpi-env.sh
program=$PWD/${PROGRAM:-build/marrs_dist}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 2

fail() {
    echo "$*"
    cat out
    exit 1
}
expect() { # exit status, words that the output must have, command...
    local status=$1 words=$2
    shift 2
    timeout 30 "$@" >out 2>&1
    local got=$?
    [ $got = "$status" ] || fail "exit status $got, expected $status: $*"
    grep -qF -- "$words" out || fail "output lacks '$words': $*"
}
has() { grep -qF -- "$1" out || fail "output lacks '$1'"; }

png=iVBORw0KGgoAAAANSUhEUgAAAAYAAAAECAIAAAAiZtkUAAAAHUlEQVR4nGM8IWfDgAqYGBgYLB4eQRZixK4KDQAA32IEKOAzBkEAAAAASUVORK5CYII=
jpeg=/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAEAAYDASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAWEAEBAQAAAAAAAAAAAAAAAAAAASH/xAAVAQEBAAAAAAAAAAAAAAAAAAADBf/EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEAAhEDEQA/AIroA1h//9k=
root="my pictures"
mkdir -p "$root/Katzen süß" "$root/dogs" "$root/dogs/folder.png"
base64 -d <<<"$png" >"$root/Katzen süß/Bild 1.png"
base64 -d <<<"$jpeg" >"$root/dogs/a.jpg"
base64 -d <<<"$png" >"$root/dogs/png with a wrong name.jpg"
: >"$root/dogs/empty.png"
echo "not an image at all" >"$root/dogs/text.jpg"
base64 -d <<<"$jpeg" | head -c 270 >"$root/dogs/cut.jpg"
base64 -d <<<"$png" | head -c 70 >"$root/dogs/cut.png"
printf '%s\r\n' "Katzen süß/Bild 1.png 0" "dogs/a.jpg 1" "dogs/empty.png 1" "" "dogs/text.jpg 1" >all.txt
printf '%s\n' "dogs/cut.jpg 1" "dogs/cut.png 1" "dogs/missing file.png 1" "dogs/folder.png 1" "dogs/a.jpg 1" \
    "dogs/png with a wrong name.jpg 1" >more.txt

# unreadable images are listed with their reasons, the others are packed
expect 0 "3 images" "$program" pack --root "$root" --list all.txt more.txt --out "sh ards/my set"
has "not packed: 6"
for reason in "dogs/empty.png: the file is empty" "dogs/text.jpg: " "dogs/cut.jpg: " "dogs/cut.png: " \
    "dogs/missing file.png: no such file" "dogs/folder.png: not a file"; do
    has "not packed: $reason"
done
shard="sh ards/my set-000.h5"
[ -f "$shard" ] || fail "no shard $shard"
expect 0 "verified" "$program" inspect "$shard"
has "Katzen süß"
has "JPEG 1"
has "PNG 2"
[ "$(find "sh ards" -type f | wc -l)" = 1 ] || fail "files were left behind"

# the same with every image decoded; strictly; nothing readable; wrong names
expect 0 "not packed: 6" "$program" pack --root "$root" --list all.txt more.txt --out decoded --check decode
cmp -s decoded-000.h5 "$shard" && fail "the domain should differ by prefix"
expect 65 "6 of 9 images could not be packed" "$program" pack --root "$root" --list all.txt more.txt --out strict --strict
expect 65 "is --root right?" "$program" pack --root "$root/dogs" --list all.txt --out none
[ ! -e none-000.h5 ] || fail "a shard without images"
expect 66 "no such folder" "$program" pack --root "no such folder" --list all.txt --out x
expect 66 "no such list" "$program" pack --root "$root" --list "no such list" --out x
echo "dogs/a.jpg one" >bad.txt
expect 65 "bad.txt:1: the label is not an integer" "$program" pack --root "$root" --list bad.txt --out x
echo "dogs/a.jpg 0" >other.txt
expect 65 "other.txt:1: dogs/a.jpg has class 0 here, but 1 in all.txt:2" \
    "$program" pack --root "$root" --list all.txt other.txt --out x
expect 64 "--root DIR, --list FILE... and --out PREFIX" "$program" pack --root "$root"
expect 64 "--shards takes an integer" "$program" pack --root "$root" --list all.txt --out x --shards 0
expect 64 "--shards" "$program" pack --root "$root" --list all.txt --out x --shard 2
expect 73 "" "$program" pack --root "$root" --list all.txt --out /proc/x

# several shards: the same bytes on one rank and on two; an overlap of lists is reported, a left-over shard named
for i in $(seq 1 20); do
    cp "$root/Katzen süß/Bild 1.png" "$root/dogs/$i.png"
    echo "dogs/$i.png 1"
done >unlabeled_target_images_D_3.txt
head -n 5 unlabeled_target_images_D_3.txt >validation_target_images_D_3.txt
lists="unlabeled_target_images_D_3.txt validation_target_images_D_3.txt"
# shellcheck disable=SC2086
expect 0 "5 of the 5 images of validation_target_images_D_3.txt are also in unlabeled_target_images_D_3.txt" \
    "$program" pack --root "$root" --list $lists --out one --shards 3 --domain D
mkdir two
# shellcheck disable=SC2086
expect 0 "20 images" \
    "${MPIRUN:-mpirun}" -np 2 "$program" pack --root "$root" --list $lists --out two/one --shards 3 --domain D
for s in 0 1 2; do cmp -s one-00$s.h5 two/one-00$s.h5 || fail "shard $s differs under mpirun"; done
# shellcheck disable=SC2086
expect 0 "one-002.h5 is not of this packing" "$program" pack --root "$root" --list $lists --out one --shards 2 --domain D
expect 0 "raw: 2 images" "$program" pack --root "$root" --list all.txt --out raw --raw 7
expect 0 "encoding    raw" "$program" inspect raw-000.h5

# damage is found
cp "$shard" damaged.h5
size=$(stat -c %s damaged.h5)
printf '\xff\xff\xff' | dd of=damaged.h5 bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
expect 65 "damaged.h5" "$program" inspect damaged.h5
head -c $((size / 2)) "$shard" >half.h5
expect 65 "half.h5" "$program" inspect half.h5
expect 65 "not a kind of file" "$program" inspect all.txt
expect 66 "nowhere.h5" "$program" inspect nowhere.h5

# other programs read it
if command -v h5dump >/dev/null; then
    expect 0 "(0): 0, 1, 1" h5dump -d /label "$shard"
    expect 0 '"marrs-shard"' h5dump -a /format "$shard"
fi
exit 0
