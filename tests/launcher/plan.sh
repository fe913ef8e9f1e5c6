#!/usr/bin/env bash
# plan with rates written by hand gives the times worked out by hand; the large networks split 5 : 3; the page stands alone;
# --calibrate writes rates that plan reads again; wrong options and damaged rates end with one clear error and their code.
# LIMIT 150
set -u
cd "$(dirname "$0")/../.." || exit 2
# shellcheck source=tests/support/expect.sh
. tests/support/expect.sh
plan() { "$program" plan "$@" >"$work/out" 2>&1 || fail "plan $*: exit $?"; }
fails() { # status, pattern, arguments: with one error
    expect "$1" "$2" "$program" plan "${@:3}"
    once 'error: '
}

cat >"$work/rates" <<'END'
format: marrs-rates
version: 1
about: by hand
cores: 2
networks:
  - {name: convnext, images_per_s: 1000, update_s: 1e-3}
  - {name: swin, images_per_s: 500, update_s: 2e-3}
  - {name: student, images_per_s: 2000}
END
# 106 images a step of each peer (32 + 10 + 2 * 32): 106 + 1 ms and 212 + 2 ms
plan configs/digits.yaml --rates "$work/rates" --nodes 1 --ranks-per-node 1 --hosts 1
also '^A step of co-training: 321\.00 ms, 330\.2 images/s'
also '^distillation +300 +37\.000 +11\.1 s'
also '^warm-up +300 +129\.000 '
plan configs/digits.yaml --rates "$work/rates" --nodes 1 --ranks-per-node 2 --hosts 1
also '^A step of co-training: 214\.00 ms'
also '^Group convnext waits 107\.0 ms a step \(50 %\) for the labels of group swin, which needs 214\.0 ms .* needs 107\.0 ms'
also '^convnext +cotrain'
# two hosts for 3 ranks' worth of work: the heavier peer wants two of three ranks
plan configs/digits.yaml --rates "$work/rates" --nodes 3 --ranks-per-node 1 peers.0.ranks=2 peers.1.ranks=1 --hosts 1
also '^A split of 1 : 2 would take 1[01][0-9]\.[0-9] ms a step, this one of 2 : 1 takes 214\.0 ms'
# no rates: no times
plan configs/digits.yaml --nodes 2 --ranks-per-node 4
also '^No times without rates'

plan configs/office_home.yaml 'stages=[features,heads,cotrain,distil]' --device h100 --nodes 1 --gpus-per-node 8 \
    --images 4357,195,4170,195 --classes 65 --html "$work/page.html"
also '^5 : 3 is the best split of the ranks between the peers'
also '^Rates: goal, .*not measured'
also '^swin +heads +[0-9.]+ '
also '^features '
grep -qE 'https?://|<script|<link|url\(' "$work/page.html" && fail "the page fetches something"
[ "$(grep -o '<svg class=steps\|<figure>' "$work/page.html" | wc -l)" = 4 ] || fail "pictures of the page"
grep -q 'prefers-color-scheme:dark' "$work/page.html" || fail "no dark page"
# one host of 8 H100 at the goal's rates: 128 images of ConvNeXt-XL on 5 GPUs at 320 images/s, 26 on the fullest
awk '/^A step/ { ms = $5 } END { exit !(ms > 81 && ms < 115) }' "$work/out" || fail "step on 8 GPUs"

# the frozen stage at DomainNet's size: 70,358 x 2048 features, 126 classes
plan configs/domainnet.yaml --nodes 1 --ranks-per-node 1 --images 70358,378,18325,378 --classes 126
awk '$1 == "convnext" && $2 == "heads" { mib = $NF } END { exit !(mib > 2000 && mib < 3500) }' "$work/out" || fail "memory of heads"

# measured rates come back as they were written
small=(configs/digits.yaml cotrain.batch.source=4 cotrain.batch.labelled=3 cotrain.batch.unlabelled=4 distil.batch.source=4
    distil.batch.labelled=4 distil.batch.unlabelled=4)
"${MPIRUN:-mpirun}" -np 2 "$program" plan "${small[@]}" --calibrate "$work/measured" --seconds 0.02 >"$work/out" 2>&1 || fail "calibrate: exit $?"
for key in 'kind: "measured"' 'name: "convnext"' 'name: "swin"' 'name: "student"' 'intra: '; do
    grep -q -- "$key" "$work/measured" || fail "calibrate: no $key"
done
grep -q 'data_s: 0$' <(sed '/name: "student"/,$d' "$work/measured") && fail "calibrate: images were not read"
plan "${small[@]}" --rates "$work/measured" --nodes 1 --ranks-per-node 2
also 'Links: within a node [0-9.]+ us \+ bytes / [0-9.e+]+ GB/s; between'
"${MPIRUN:-mpirun}" -np 2 "$program" plan "${small[@]}" --rates "$work/measured" >"$work/out" 2>&1 || fail "under mpirun"
also '^A step of co-training: '
cp "$work/measured" "$work/again"
"${MPIRUN:-mpirun}" -np 2 "$program" plan "${small[@]}" --calibrate "$work/again" --links --seconds 0.02 >"$work/out" 2>&1 || fail "links"
diff <(sed '/^links/,$d' "$work/measured") <(sed '/^links/,$d' "$work/again") >"$work/out" || fail "--links changed more than links"

# what is wrong, and where
damaged() { # words, sed command
    sed -E "$2" "$work/rates" >"$work/bad"
    cmp -s "$work/rates" "$work/bad" && fail "nothing changed by $2"
    fails 78 "$1" configs/digits.yaml --rates "$work/bad" --nodes 1 --ranks-per-node 1
}
damaged 'bad:6:36: images_per_s: -1000 is not between' 's/1000/-1000/'
damaged 'bad:7:32: images_per_s: expected a number, got '"'fast'" 's/500/fast/'
damaged "unknown key networkss; nearest: networks" 's/^networks/networkss/'
damaged 'version: 1' 's/^version: 1/version: 2/'
damaged 'format is missing' '/^format/d'
damaged 'convnext appears twice' 's/swin/convnext/'
damaged 'have no network "swin"' '/swin/d'
damaged 'convnext wants either points or images_per_s' 's/images_per_s: 1000, //'
damaged 'of another network' 's/name: swin/name: swin, macs: 1e9/'
damaged 'bad:' '8d;s/2e-3\}/2e-3/'
head -c 60 /dev/urandom >"$work/bad"
fails 78 'bad:' configs/digits.yaml --rates "$work/bad" --nodes 1 --ranks-per-node 1
fails 66 'nowhere' configs/digits.yaml --rates nowhere --nodes 1 --ranks-per-node 1
fails 64 'no built-in rates of "h200"; nearest: h100' configs/digits.yaml --device h200 --nodes 1 --gpus-per-node 1
fails 64 'either --rates FILE or --device' --rates "$work/rates" --device h100 --nodes 1 --gpus-per-node 1
fails 64 '--inter takes LATENCY_US,GB_PER_S' configs/digits.yaml --rates "$work/rates" --inter 5,-1
fails 64 '--hosts takes rising numbers' configs/digits.yaml --rates "$work/rates" --hosts 2,1
fails 64 '--images takes SOURCE' configs/digits.yaml --images 1,2,3 --classes 4
fails 64 'need rates' configs/digits.yaml --html "$work/no.html"
fails 64 '--links needs two ranks' configs/digits.yaml --calibrate "$work/again" --links
fails 66 'measures this machine' configs/digits.yaml --calibrate "$work/no.rates" device=cuda
fails 64 'nearest: --rates' --rate x
if [ -e "$work/no.html" ] || [ -e "$work/no.rates" ]; then fail "written in spite of an error"; fi
exit $bad
