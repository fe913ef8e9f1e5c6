/* Parameter names in other programs' files, and the resizing of what depends on the input's size. */
#ifndef MODELS_WEIGHTS_NAMES_H
#define MODELS_WEIGHTS_NAMES_H

#include "models/model_spec.h"
#include "models/safetensors.h"

/* Who wrote a file. WEIGHTS_NATIVE: the names this program uses, timm's current ones (MobileNet-V2:
 * torchvision's). */
enum weights_dialect { WEIGHTS_NATIVE, WEIGHTS_FACEBOOK, WEIGHTS_MICROSOFT, WEIGHTS_TIMM_MOBILENETV2 };

const char *weights_dialect_name(enum weights_dialect dialect); /* for messages; static storage */

/* Tell the dialect by names that occur only there. */
enum weights_dialect weights_detect(const struct safetensors *file, enum model_family family);

/* Translate a file's name to ours. false: a buffer that is computed here and skipped in files
 * (num_batches_tracked, relative_position_index, attn_mask). Unknown names pass unchanged. out[capacity]. */
bool weights_translate(enum weights_dialect dialect, enum model_family family, const char *name, char *out,
                       size_t capacity);

/* Resize a relative position bias table (rows, heads) from square windows to windows of wh x ww, as timm
 * does: the old offsets spread over the new range in a geometric progression, then linear interpolation along
 * both axes, constant beyond the ends. STATUS_BAD_DATA where old_rows is not (2w-1)^2. out ((2wh-1)(2ww-1),
 * heads). */
status_t weights_resize_table(const float *table, int64_t old_rows, int64_t heads, int64_t wh, int64_t ww,
                              float *out);

/* Resize patch embedding kernels (n, old_h, old_w) -> (n, new_h, new_w), n = out*in, by the pseudoinverse of
 * the bicubic resize of patches, so that resized patches give the same tokens (Beyer et al., "FlexiViT", CVPR
 * 2023, section 3.4; as timm's resample_patch_embed). */
status_t weights_resize_patch(const float *kernels, int64_t n, int64_t old_h, int64_t old_w, int64_t new_h,
                              int64_t new_w, float *out);

#endif
