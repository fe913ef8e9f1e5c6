#!/usr/bin/env bash
# lists: two folders of images become the four lists; drawn by seed, class by class; what does not fit is named. And
# inspect --extract: images of a shard as the files they were.
# LIMIT 120
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/expect.sh
. tests/support/expect.sh
digits=$PWD/data/digits
cd "$work" || exit 2
says() { expect "$1" "$2" "$program" "${@:3}"; } # status, pattern, arguments

says 0 'extracted   1500 images into pictures' inspect --extract pictures "$digits/pen-000.h5"
[ "$(find pictures -name '*.png' | wc -l)" -eq 1500 ] || fail "not 1500 files"
says 0 'pen: 1500 images' pack --root pictures --list "$digits/labeled_source_images_pen.txt" --out again/pen
for shard in "$digits/pen-000.h5" again/pen-000.h5; do h5dump -d /image/data "$shard" | tail -n +2 | sha256sum; done |
    uniq | wc -l | grep -qx 1 || fail "extracted and packed again the images differ"

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
says 0 'drawn/unlabeled_target_images_to_2.txt: 11 images' "${lists[@]}" --shots 2 --validation 3 --out drawn
[ "$(cat drawn/labeled_source_images_from.txt)" = "$(for class in 0 1 10 2; do for i in 1 2 3 4 5 6; do
    echo "from/$class/$i.png $([ $class = 10 ] && echo 3 || echo $class)"; done; done)" ] ||
    fail "source list: $(cat drawn/labeled_source_images_from.txt)"
[ "$(cut -d' ' -f2 drawn/labeled_target_images_to_2.txt | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = ' 2 0; 2 1; 2 2; 2 3;' ] ||
    fail "labelled: $(cat drawn/labeled_target_images_to_2.txt)"
[ "$(grep -c -e ' -1$' drawn/unlabeled_target_images_to_2.txt)" -eq 7 ] || fail "$(cat drawn/unlabeled_target_images_to_2.txt)"
[ "$(cut -d' ' -f1 drawn/*_target_* | sort | uniq -d | wc -l)" -eq 0 ] || fail "an image is in two lists"
[ "$(sort -u drawn/*_target_* | wc -l)" -eq 31 ] || fail "not every target image is in a list"
says 0 '' "${lists[@]}" --shots 2 --validation 3 --out same
diff -r drawn same >differences || fail "the same seed draws differently: $(cat differences)"
says 0 '' "${lists[@]}" --shots 2 --validation 3 --seed 2 --out other
cmp -s drawn/labeled_target_images_to_2.txt other/labeled_target_images_to_2.txt && fail "another seed draws the same"
says 0 '4 classes' pack --root two --list drawn/*_target_* --out two/to

says 65 'two/to/0 has 6 images' "${lists[@]}" --shots 6 --out none
says 65 'lies in no folder of its class' lists --root two --source to --target from --out none
says 66 'two/nothing' lists --root two --source from --target nothing --out none
says 64 'the same folder' lists --root two --source to --target to --out none
says 64 'are needed' lists --root two
says 64 "without '/'" lists --root . --source two/from --target to --out none
[ ! -e none ] || fail "something was written in spite of an error"

# An id that leads out of the folder is refused.
echo '../two/from/0/1.png 0' >up.txt
says 0 '1 images' pack --root pictures --list up.txt --out up
says 65 'is no path below a folder' inspect --extract deep/in up-000.h5
exit $bad
