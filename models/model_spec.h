/* What a network looks like: family and shape, as a configuration gives it or a preset name stands for.
 *
 * Plain data, owned by nobody, copied freely. The families and their papers:
 *   ConvNeXt      Liu et al., "A ConvNet for the 2020s", CVPR 2022
 *   Swin          Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV
 * 2021 MobileNet-V2  Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018 */
#ifndef MODELS_MODEL_SPEC_H
#define MODELS_MODEL_SPEC_H

#include "common/status.h"

#include <stdbool.h>
#include <stdint.h>

enum model_family { MODEL_CONVNEXT, MODEL_SWIN, MODEL_MOBILENETV2 };

/* Where ConvNeXt's and Swin's linear and convolution weights start; MobileNet-V2 always starts as in
 * torchvision. */
enum model_init { MODEL_INIT_TRUNC_NORMAL, MODEL_INIT_XAVIER };

enum { MODEL_MAX_STAGES = 8 };

struct model_spec {
    enum model_family family;
    char name[64];     /* preset name, or "" for a shape of its own */
    int32_t n_classes; /* K outputs of the classifier; 0: no classifier, features only */
    bool head_bias;    /* classifier with bias (default true) */
    enum model_init init;
    float drop_path; /* rate of the last block; grows linearly from 0 at the first (ConvNeXt, Swin) */
    float dropout;   /* in front of the classifier (MobileNet-V2: 0.2) */

    /* ConvNeXt: depths, dims, stem, layer_scale. Swin: depths, embed, heads, window, patch.
     * MobileNet-V2: width, strides. Fields of other families are ignored. */
    int32_t n_stages;
    int32_t depths[MODEL_MAX_STAGES];
    int32_t dims[MODEL_MAX_STAGES];  /* channels of each ConvNeXt stage */
    int32_t stem;                    /* ConvNeXt: side and stride of the stem's patches (4) */
    int32_t kernel;                  /* ConvNeXt: side of the depthwise kernel (7) */
    float layer_scale;               /* ConvNeXt: initial gamma (1e-6); 0: no layer scale */
    bool conv_mlp;                   /* timm atto..nano keep mlp.fc1.weight as (4C, C, 1, 1) */
    int32_t patch;                   /* Swin: patch side (4) */
    int32_t embed;                   /* Swin: channels of stage 0; doubles each stage */
    int32_t heads[MODEL_MAX_STAGES]; /* Swin: attention heads of each stage */
    int32_t window;                  /* Swin: window side; clipped where the map is smaller */
    float width;                     /* MobileNet-V2: width multiplier (1.0) */
    int32_t stem_stride;             /* MobileNet-V2: 2 */
    int32_t strides[7]; /* MobileNet-V2: stride of each row of the paper's table: 1,2,2,2,1,2,1 */
};

/* The family's defaults (all fields set; no preset). */
struct model_spec model_spec_default(enum model_family family);

/* Look up a preset: "convnext_atto" ... "convnext_xlarge", "swin_tiny" ... "swin_large", "mobilenet_v2", and
 * timm's full names ("convnext_xlarge.fb_in22k_ft_in1k_384", "swin_large_patch4_window12_384",
 * "mobilenetv2_100", ...). *image_out: the side the preset was trained at. STATUS_BAD_CONFIG with the nearest
 * known name otherwise. */
status_t model_spec_preset(const char *name, struct model_spec *out, int32_t *image_out);

/* Names of all presets, for help texts; returns NULL past the last. */
const char *model_spec_preset_name(int index);

/* Check the numbers (positive, heads divide channels, depths known, ...): STATUS_BAD_CONFIG names the field.
 */
status_t model_spec_check(const struct model_spec *spec);

#endif
