#!/usr/bin/env bash
# lists: two folders of images become the four lists; drawn by seed, class by class; what does not fit is named. And
# inspect --extract: images of a shard as the files they were.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
program=$PWD/build/marrs_dist
digits=$PWD/data/digits
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
bad=0
fault() {
    echo "$*"
    bad=1
}
expect() { # status, words in the output, arguments...
    local status want=$1 words=$2
    shift 2
    timeout 60 "$program" "$@" >said 2>&1 </dev/null
    status=$?
    { [ $status -eq "$want" ] && grep -qF -e "$words" said; } || fault "$*: status $status, wanted $want and '$words': $(cat said)"
}

expect 0 'extracted   1500 images into pictures' inspect --extract pictures "$digits/pen-000.h5"
[ "$(find pictures -name '*.png' | wc -l)" -eq 1500 ] || fault "not 1500 files"
expect 0 'pen: 1500 images' pack --root pictures --list "$digits/labeled_source_images_pen.txt" --out again/pen
for shard in "$digits/pen-000.h5" again/pen-000.h5; do h5dump -d /image/data "$shard" | tail -n +2 | sha256sum; done |
    uniq | wc -l | grep -qx 1 || fault "extracted and packed again the images differ"

# A source of classes 0, 1, 2, 10; a target with 6 of each, and more whose class nobody knows.
for class in 0 1 2 10; do
    mkdir -p "two/from/$class" "two/to/$class"
    for i in 1 2 3 4 5 6; do
        cp pictures/pen/1/00012.png "two/from/$class/$i.png"
        cp pictures/pen/1/00012.png "two/to/$class/$i.png"
    done
done
mkdir two/to/new
cp two/from/0/*.png two/to/new/
cp two/from/0/1.png two/to/
lists=(lists --root two --source from --target to)
expect 0 'out/unlabeled_target_images_to_2.txt: 11 images' "${lists[@]}" --shots 2 --validation 3 --out out
[ "$(cat out/labeled_source_images_from.txt)" = "$(for class in 0 1 10 2; do for i in 1 2 3 4 5 6; do
    echo "from/$class/$i.png $([ $class = 10 ] && echo 3 || echo $class)"; done; done)" ] ||
    fault "source list: $(cat out/labeled_source_images_from.txt)"
[ "$(cut -d' ' -f2 out/labeled_target_images_to_2.txt | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = ' 2 0; 2 1; 2 2; 2 3;' ] ||
    fault "labelled: $(cat out/labeled_target_images_to_2.txt)"
[ "$(grep -c -e ' -1$' out/unlabeled_target_images_to_2.txt)" -eq 7 ] || fault "$(cat out/unlabeled_target_images_to_2.txt)"
[ "$(cut -d' ' -f1 out/*_target_* | sort | uniq -d | wc -l)" -eq 0 ] || fault "an image is in two lists"
[ "$(sort -u out/*_target_* | wc -l)" -eq 31 ] || fault "not every target image is in a list"
expect 0 '' "${lists[@]}" --shots 2 --validation 3 --out same
diff -r out same >differences || fault "the same seed draws differently: $(cat differences)"
expect 0 '' "${lists[@]}" --shots 2 --validation 3 --seed 2 --out other
cmp -s out/labeled_target_images_to_2.txt other/labeled_target_images_to_2.txt && fault "another seed draws the same"
expect 0 '4 classes' pack --root two --list out/*_target_* --out two/to

expect 65 'two/to/0 has 6 images' "${lists[@]}" --shots 6 --out none
expect 65 'lies in no folder of its class' lists --root two --source to --target from --out none
expect 66 'two/nothing' lists --root two --source from --target nothing --out none
expect 64 'the same folder' lists --root two --source to --target to --out none
expect 64 'are needed' lists --root two
expect 64 "without '/'" lists --root . --source two/from --target to --out none
[ ! -e none ] || fault "something was written in spite of an error"

# An id that leads out of the folder is refused.
echo '../two/from/0/1.png 0' >up.txt
expect 0 '1 images' pack --root pictures --list up.txt --out up
expect 65 'is no path below a folder' inspect --extract deep/in up-000.h5
exit $bad
