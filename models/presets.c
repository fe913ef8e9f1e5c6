/* Presets and the check of shapes: see model_spec.h. */
#include "models/model_spec.h"

#include "common/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct preset {
    const char *name;
    enum model_family family;
    int32_t depths[4], dims[4]; /* dims: ConvNeXt's channels, Swin's heads */
    int32_t embed, window, image;
    float width;
    bool conv_mlp;
};

static const struct preset PRESETS[] = {
    {"convnext_atto", MODEL_CONVNEXT, {2, 2, 6, 2}, {40, 80, 160, 320}, .image = 224, .conv_mlp = true},
    {"convnext_femto", MODEL_CONVNEXT, {2, 2, 6, 2}, {48, 96, 192, 384}, .image = 224, .conv_mlp = true},
    {"convnext_pico", MODEL_CONVNEXT, {2, 2, 6, 2}, {64, 128, 256, 512}, .image = 224, .conv_mlp = true},
    {"convnext_nano", MODEL_CONVNEXT, {2, 2, 8, 2}, {80, 160, 320, 640}, .image = 224, .conv_mlp = true},
    {"convnext_tiny", MODEL_CONVNEXT, {3, 3, 9, 3}, {96, 192, 384, 768}, .image = 224},
    {"convnext_small", MODEL_CONVNEXT, {3, 3, 27, 3}, {96, 192, 384, 768}, .image = 224},
    {"convnext_base", MODEL_CONVNEXT, {3, 3, 27, 3}, {128, 256, 512, 1024}, .image = 224},
    {"convnext_large", MODEL_CONVNEXT, {3, 3, 27, 3}, {192, 384, 768, 1536}, .image = 224},
    {"convnext_xlarge", MODEL_CONVNEXT, {3, 3, 27, 3}, {256, 512, 1024, 2048}, .image = 224},
    {"swin_tiny_patch4_window7_224",
     MODEL_SWIN,
     {2, 2, 6, 2},
     {3, 6, 12, 24},
     .embed = 96,
     .window = 7,
     .image = 224},
    {"swin_small_patch4_window7_224",
     MODEL_SWIN,
     {2, 2, 18, 2},
     {3, 6, 12, 24},
     .embed = 96,
     .window = 7,
     .image = 224},
    {"swin_base_patch4_window7_224",
     MODEL_SWIN,
     {2, 2, 18, 2},
     {4, 8, 16, 32},
     .embed = 128,
     .window = 7,
     .image = 224},
    {"swin_base_patch4_window12_384",
     MODEL_SWIN,
     {2, 2, 18, 2},
     {4, 8, 16, 32},
     .embed = 128,
     .window = 12,
     .image = 384},
    {"swin_large_patch4_window7_224",
     MODEL_SWIN,
     {2, 2, 18, 2},
     {6, 12, 24, 48},
     .embed = 192,
     .window = 7,
     .image = 224},
    {"swin_large_patch4_window12_384",
     MODEL_SWIN,
     {2, 2, 18, 2},
     {6, 12, 24, 48},
     .embed = 192,
     .window = 12,
     .image = 384},
    {"mobilenet_v2", MODEL_MOBILENETV2, .width = 1.0f, .image = 224},
    {"mobilenetv2_035", MODEL_MOBILENETV2, .width = 0.35f, .image = 224},
    {"mobilenetv2_050", MODEL_MOBILENETV2, .width = 0.5f, .image = 224},
    {"mobilenetv2_075", MODEL_MOBILENETV2, .width = 0.75f, .image = 224},
    {"mobilenetv2_100", MODEL_MOBILENETV2, .width = 1.0f, .image = 224},
    {"mobilenetv2_140", MODEL_MOBILENETV2, .width = 1.4f, .image = 224},
};

/* Short names for what the papers call T, S, B and L. */
static const struct {
    const char *name, *meant;
} SHORT_NAMES[] = {
    {"swin_tiny", "swin_tiny_patch4_window7_224"},
    {"swin_small", "swin_small_patch4_window7_224"},
    {"swin_base", "swin_base_patch4_window7_224"},
    {"swin_large", "swin_large_patch4_window7_224"},
};

struct model_spec model_spec_default(enum model_family family) {
    struct model_spec spec = {.family = family,
                              .n_classes = 1000,
                              .head_bias = true,
                              .init = MODEL_INIT_TRUNC_NORMAL,
                              .stem = 4,
                              .kernel = 7,
                              .layer_scale = 1e-6f,
                              .patch = 4,
                              .window = 7,
                              .width = 1.0f,
                              .stem_stride = 2,
                              .strides = {1, 2, 2, 2, 1, 2, 1}};
    const struct preset *tiny = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(PRESETS); i++)
        if (strcmp(PRESETS[i].name, "convnext_tiny") == 0 || PRESETS[i].embed == 96)
            if (!tiny && PRESETS[i].family == family) tiny = &PRESETS[i];
    if (family == MODEL_MOBILENETV2) spec.dropout = 0.2f;
    if (family == MODEL_SWIN) spec.drop_path = 0.1f;
    if (!tiny) return spec;
    spec.n_stages = 4;
    spec.embed = tiny->embed;
    for (int i = 0; i < 4; i++) {
        spec.depths[i] = tiny->depths[i];
        *(family == MODEL_SWIN ? &spec.heads[i] : &spec.dims[i]) = tiny->dims[i];
    }
    return spec;
}

/* ---- looking a name up ---- */

/* What timm's tag (behind the dot) and the older suffixes say: classes and side. */
static void read_tag(const char *tag, int32_t *n_classes, int32_t *image) {
    if (!strstr(tag, "_ft_in1k") && !strstr(tag, "in22ft1k")) {
        if (strstr(tag, "in22k")) *n_classes = 21841;
        if (strstr(tag, "in12k")) *n_classes = 11821;
    }
    if (strstr(tag, "384")) *image = 384;
    if (strstr(tag, "320")) *image = 320;
}

/* timm before 0.8 had suffixes where tags are now. */
static bool is_old_suffix(const char *rest) {
    static const char *const SUFFIXES[] = {"_in22k", "_in22ft1k", "_384_in22ft1k"};
    for (size_t i = 0; i < ARRAY_LENGTH(SUFFIXES); i++)
        if (strcmp(rest, SUFFIXES[i]) == 0) return true;
    return false;
}

/* The rest of `name` behind the preset's name (a tag, an old suffix or ""), NULL where it is another preset.
 */
static const char *rest_of(const char *name, const char *preset) {
    const size_t n = strlen(preset);
    if (strncmp(name, preset, n) != 0) return NULL;
    const char *rest = name + n;
    return *rest == '\0' || (*rest == '.' && rest[1]) || is_old_suffix(rest) ? rest : NULL;
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* Number of letters to change, add or take away (Levenshtein), for names up to 63 letters. */
static int edit_distance(const char *a, const char *b) {
    int row[64];
    const int n = smaller((int)strlen(b), 63);
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 1; j <= n; j++) {
            const int up = row[j];
            row[j] = smaller(smaller(row[j - 1], up) + 1, diagonal + (a[i] != b[j - 1]));
            diagonal = up;
        }
    }
    return row[n];
}

static const char *nearest_name(const char *name) {
    const char *nearest = "", *candidate;
    int least = 1 << 30;
    for (int i = 0; (candidate = model_spec_preset_name(i)); i++) {
        const int distance = edit_distance(name, candidate);
        if (distance < least) least = distance, nearest = candidate;
    }
    return nearest;
}

static void fill(const struct preset *preset, struct model_spec *spec) {
    *spec = model_spec_default(preset->family);
    spec->conv_mlp = preset->conv_mlp;
    if (preset->family == MODEL_MOBILENETV2) {
        spec->width = preset->width;
        return;
    }
    for (int i = 0; i < 4; i++) {
        spec->depths[i] = preset->depths[i];
        *(preset->family == MODEL_SWIN ? &spec->heads[i] : &spec->dims[i]) = preset->dims[i];
    }
    if (preset->family == MODEL_SWIN) {
        spec->embed = preset->embed;
        spec->window = preset->window;
    }
}

status_t model_spec_preset(const char *name, struct model_spec *out, int32_t *image_out) {
    char full[128];
    snprintf(full, sizeof full, "%s", name);
    for (size_t i = 0; i < ARRAY_LENGTH(SHORT_NAMES); i++) {
        const char *rest = rest_of(name, SHORT_NAMES[i].name);
        if (rest) snprintf(full, sizeof full, "%s%s", SHORT_NAMES[i].meant, rest);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(PRESETS); i++) {
        const char *rest = rest_of(full, PRESETS[i].name);
        if (!rest) continue;
        fill(&PRESETS[i], out);
        *image_out = PRESETS[i].image;
        read_tag(rest, &out->n_classes, image_out);
        snprintf(out->name, sizeof out->name, "%s", name);
        return STATUS_OK;
    }
    return FAIL(STATUS_BAD_CONFIG, "no network is called '%.80s'; did you mean '%s'?", name,
                nearest_name(name));
}

const char *model_spec_preset_name(int index) {
    const int n_short = (int)ARRAY_LENGTH(SHORT_NAMES), n = (int)ARRAY_LENGTH(PRESETS);
    if (index < 0 || index >= n + n_short) return NULL;
    return index < n ? PRESETS[index].name : SHORT_NAMES[index - n].name;
}

/* ---- checks ---- */

#define IN_RANGE(value, low, high, what)                                                                     \
    CHECK((value) >= (low) && (value) <= (high), STATUS_BAD_CONFIG,                                          \
          "model: %s is %g, must be within %g and %g", what, (double)(value), (double)(low), (double)(high))

static status_t check_stages(const struct model_spec *spec) {
    IN_RANGE(spec->n_stages, 1, MODEL_MAX_STAGES, "the number of stages (depths)");
    for (int i = 0; i < spec->n_stages; i++) IN_RANGE(spec->depths[i], 1, 1000, "an entry of depths");
    return STATUS_OK;
}

static status_t check_convnext(const struct model_spec *spec) {
    TRY(check_stages(spec));
    for (int i = 0; i < spec->n_stages; i++) IN_RANGE(spec->dims[i], 1, 65536, "an entry of dims");
    IN_RANGE(spec->stem, 1, 64, "stem");
    IN_RANGE(spec->kernel, 1, 63, "kernel");
    CHECK(spec->kernel % 2 == 1, STATUS_BAD_CONFIG, "model: kernel is %d, must be odd", spec->kernel);
    IN_RANGE(spec->layer_scale, 0, 100, "layer_scale");
    return STATUS_OK;
}

static status_t check_swin(const struct model_spec *spec) {
    TRY(check_stages(spec));
    IN_RANGE(spec->patch, 1, 64, "patch");
    IN_RANGE(spec->window, 1, 64, "window");
    IN_RANGE(spec->embed, 1, 65536, "embed");
    for (int i = 0; i < spec->n_stages; i++) {
        const int32_t channels = spec->embed << i;
        IN_RANGE(spec->heads[i], 1, 1024, "an entry of heads");
        CHECK(channels % spec->heads[i] == 0, STATUS_BAD_CONFIG,
              "model: %d heads do not divide the %d channels of stage %d", spec->heads[i], channels, i);
    }
    return STATUS_OK;
}

static status_t check_mobilenetv2(const struct model_spec *spec) {
    IN_RANGE(spec->width, 0.01, 32, "width");
    IN_RANGE(spec->stem_stride, 1, 4, "stem_stride");
    for (int i = 0; i < 7; i++) IN_RANGE(spec->strides[i], 1, 4, "an entry of strides");
    return STATUS_OK;
}

status_t model_spec_check(const struct model_spec *spec) {
    IN_RANGE(spec->n_classes, 0, 10000000, "the number of classes");
    IN_RANGE(spec->drop_path, 0, 0.99, "drop_path");
    IN_RANGE(spec->dropout, 0, 0.99, "dropout");
    switch (spec->family) {
    case MODEL_CONVNEXT:
        return check_convnext(spec);
    case MODEL_SWIN:
        return check_swin(spec);
    case MODEL_MOBILENETV2:
        return check_mobilenetv2(spec);
    }
    return FAIL(STATUS_BAD_CONFIG, "model: unknown family");
}
