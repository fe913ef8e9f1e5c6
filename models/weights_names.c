/* Other programs' parameter names.
 *   ConvNeXt      Facebook's release: downsample_layers, dwconv, pwconv
 *   Swin          Microsoft's release and timm before 0.9: downsample at the end of a stage, head without fc
 *   MobileNet-V2  timm's mobilenetv2_100 (ours are torchvision's) */
#include "models/weights_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *weights_dialect_name(enum weights_dialect dialect) {
    static const char *const names[] = {"timm", "Facebook's ConvNeXt", "Microsoft's Swin or an older timm",
                                        "timm's MobileNet-V2"};
    return names[dialect];
}

enum weights_dialect weights_detect(const struct safetensors *file, enum model_family family) {
    switch (family) {
    case MODEL_CONVNEXT:
        return safetensors_find(file, "downsample_layers.0.0.weight") ? WEIGHTS_FACEBOOK : WEIGHTS_NATIVE;
    case MODEL_SWIN:
        return safetensors_find(file, "layers.0.downsample.reduction.weight") ? WEIGHTS_MICROSOFT
                                                                              : WEIGHTS_NATIVE;
    case MODEL_MOBILENETV2:
        return safetensors_find(file, "conv_stem.weight") ? WEIGHTS_TIMM_MOBILENETV2 : WEIGHTS_NATIVE;
    }
    return WEIGHTS_NATIVE;
}

/* The rest of `text` after `prefix`; NULL where it does not begin so. */
static const char *after(const char *text, const char *prefix) {
    const size_t n = strlen(prefix);
    return strncmp(text, prefix, n) ? NULL : text + n;
}

/* Read "12." off the front of *text. */
static bool take_number(const char **text, long *out) {
    char *end;
    if (**text < '0' || **text > '9') return false;
    *out = strtol(*text, &end, 10);
    if (*end != '.' || end - *text > 4) return false;
    *text = end + 1;
    return true;
}

static void convnext_from_facebook(const char *name, char *out, size_t capacity) {
    static const char *const parts[][2] = {
        {"dwconv.", "conv_dw."}, {"pwconv1.", "mlp.fc1."}, {"pwconv2.", "mlp.fc2."}};
    long stage, block;
    const char *rest;
    if ((rest = after(name, "downsample_layers.")) && take_number(&rest, &stage)) {
        if (stage)
            snprintf(out, capacity, "stages.%ld.downsample.%s", stage, rest);
        else
            snprintf(out, capacity, "stem.%s", rest);
    } else if ((rest = after(name, "stages.")) && take_number(&rest, &stage) && take_number(&rest, &block)) {
        const char *part = "";
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            const char *leaf = after(rest, parts[i][0]);
            if (!leaf) continue;
            part = parts[i][1], rest = leaf;
            break;
        }
        snprintf(out, capacity, "stages.%ld.blocks.%ld.%s%s", stage, block, part, rest);
    } else if ((rest = after(name, "norm."))) {
        snprintf(out, capacity, "head.norm.%s", rest);
    } else if ((rest = after(name, "head."))) {
        snprintf(out, capacity, "head.fc.%s", rest);
    } else {
        snprintf(out, capacity, "%s", name);
    }
}

static void swin_from_microsoft(const char *name, char *out, size_t capacity) {
    long stage;
    const char *rest = after(name, "layers."), *leaf;
    if (rest && take_number(&rest, &stage) && (leaf = after(rest, "downsample.")))
        snprintf(out, capacity, "layers.%ld.downsample.%s", stage + 1, leaf);
    else if ((rest = after(name, "head.")) && !after(rest, "fc."))
        snprintf(out, capacity, "head.fc.%s", rest);
    else
        snprintf(out, capacity, "%s", name);
}

/* blocks.STAGE.BLOCK.PART.LEAF -> features.INDEX.conv.PLACE.LEAF; false: not such a name. */
static bool mobilenetv2_block(const char *name, char *out, size_t capacity) {
    static const long depths[7] = {1, 2, 3, 4, 3, 3, 1}; /* rows of the paper's table 2 */
    static const char *const first[][2] = {
        {"conv_dw.", "0.0."}, {"bn1.", "0.1."}, {"conv_pw.", "1."}, {"bn2.", "2."}};
    static const char *const other[][2] = {{"conv_pw.", "0.0."}, {"bn1.", "0.1."},    {"conv_dw.", "1.0."},
                                           {"bn2.", "1.1."},     {"conv_pwl.", "2."}, {"bn3.", "3."}};
    long stage, block;
    const char *rest = after(name, "blocks.");
    if (!rest || !take_number(&rest, &stage) || stage > 6 || !take_number(&rest, &block)) return false;
    long index = 1 + block;
    for (long i = 0; i < stage; i++) index += depths[i];
    const char *const(*parts)[2] = stage ? other : first;
    for (int i = 0; i < (stage ? 6 : 4); i++) {
        const char *leaf = after(rest, parts[i][0]);
        if (!leaf) continue;
        snprintf(out, capacity, "features.%ld.conv.%s%s", index, parts[i][1], leaf);
        return true;
    }
    return false;
}

static void mobilenetv2_from_timm(const char *name, char *out, size_t capacity) {
    static const char *const parts[][2] = {{"conv_stem.", "features.0.0."},
                                           {"bn1.", "features.0.1."},
                                           {"conv_head.", "features.18.0."},
                                           {"bn2.", "features.18.1."},
                                           {"classifier.", "classifier.1."}};
    if (mobilenetv2_block(name, out, capacity)) return;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *leaf = after(name, parts[i][0]);
        if (!leaf) continue;
        snprintf(out, capacity, "%s%s", parts[i][1], leaf);
        return;
    }
    snprintf(out, capacity, "%s", name);
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), n_end = strlen(end);
    return n >= n_end && !strcmp(text + n - n_end, end);
}

bool weights_translate(enum weights_dialect dialect, enum model_family family, const char *name, char *out,
                       size_t capacity) {
    if (ends_with(name, "num_batches_tracked") || ends_with(name, "relative_position_index") ||
        ends_with(name, "attn_mask"))
        return false;
    switch (dialect) {
    case WEIGHTS_FACEBOOK:
        convnext_from_facebook(name, out, capacity);
        break;
    case WEIGHTS_MICROSOFT:
        swin_from_microsoft(name, out, capacity);
        break;
    case WEIGHTS_TIMM_MOBILENETV2:
        mobilenetv2_from_timm(name, out, capacity);
        break;
    case WEIGHTS_NATIVE: {
        /* A Swin of one stage has no downsampling to tell the layouts apart by. */
        const char *rest = family == MODEL_SWIN ? after(name, "head.") : NULL;
        snprintf(out, capacity, "%s%s", rest && !after(rest, "fc.") ? "head.fc." : "",
                 rest && !after(rest, "fc.") ? rest : name);
        break;
    }
    }
    return true;
}
