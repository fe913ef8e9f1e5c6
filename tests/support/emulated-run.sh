# shellcheck shell=bash
# emulated-run.sh -- source this behind short-run.sh: networks and lists so small that a run on emulated GPUs takes
# seconds. The test is skipped where the GPU plugin's twin was not built.
if [ -z "${MARRS_CUDA_TWIN:-}" ]; then
    echo "the GPU plugin's twin was not built"
    exit 77
fi
# shellcheck disable=SC2154 # $work is short-run.sh's
for split in unlabelled validation; do
    head -n 12 "data/digits/${split/unlabelled/unlabeled}_target_images_pen_3.txt" >"$work/$split.txt"
done
# shellcheck disable=SC2034 # for whoever sources this
small=("data.target.unlabelled=$work/unlabelled.txt" "data.target.validation=$work/validation.txt" precision=fp32
    "peers.convnext.model={family: convnext, stem: 4, depths: [1, 1], dims: [8, 16], kernel: 7}"
    "peers.swin.model={family: swin, patch: 4, embed: 16, depths: [1, 1], heads: [1, 2], window: 4}"
    "distil.student.model={family: mobilenetv2, width: 0.1, stem_stride: 2, strides: [1, 1, 2, 2, 1, 2, 1]}" cotrain.warmup.steps=3 cotrain.steps=4 cotrain.evaluate_every=4
    "cotrain.batch={source: 8, labelled: 8, unlabelled: 8}" distil.steps=2 distil.evaluate_every=2
    "distil.batch={source: 8, labelled: 8, unlabelled: 8}")
# Eight ranks under a sanitizer: fewer steps of each kind.
# shellcheck disable=SC2034
[ -n "${SAN:-}" ] && small+=(cotrain.warmup.steps=2 cotrain.steps=2 cotrain.evaluate_every=2)
true
