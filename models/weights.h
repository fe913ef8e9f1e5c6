/* Weights files: loading pretrained or trained weights into a net, and saving them.
 *
 * A file is safetensors of fp32, fp16 or bf16, named as timm names the parameters now, or as Facebook's
 * ConvNeXt, Microsoft's Swin, older timm, torchvision's or timm's MobileNet-V2 do; the dialect is recognised.
 * Position tables of another window and patch embeddings of another patch size are resized as timm resizes
 * them. Not collective. */
#ifndef MODELS_WEIGHTS_H
#define MODELS_WEIGHTS_H

#include "models/net.h"

/* What becomes of the classifier. */
enum weights_head {
    WEIGHTS_HEAD_LOAD,    /* must be there and fit (a net without classifier: the file's is left out) */
    WEIGHTS_HEAD_IF_FITS, /* loaded where it fits, else the net's stays as it is: fine-tuning */
    WEIGHTS_HEAD_SKIP     /* the net's stays as it is */
};

struct weights_report {
    const char *dialect; /* "timm", "Facebook's ConvNeXt", ...: static */
    int32_t n_loaded;    /* parameters and buffers taken from the file */
    int32_t n_resized;   /* of them, resized to this net's window or patch */
    int32_t n_ignored;   /* tensors of the file that are recomputed here or belong to a classifier left out */
    bool head_loaded;
};

/* Load `path` into the parameters and buffers of the net and renew its bf16 shadow. report may be NULL.
 * Errors: STATUS_MISSING; STATUS_BAD_DATA where the file is damaged, a tensor holds NaN or infinity, or names
 * and shapes do not fit: all missing, extra and mis-shaped names are listed (the first few of each, and how
 * many) and nothing is loaded. */
status_t weights_load(struct net *net, const char *path, enum weights_head head,
                      struct weights_report *report);

/* Replace `path` by the net's weights as fp32 under timm's names (MobileNet-V2: torchvision's). params: the
 * flat buffer to save instead of net_params() (backend memory; an average of the weights), NULL:
 * net_params(). metadata: n_metadata pairs key, value beside {"format": "pt", "model": preset}. */
status_t weights_save(struct net *net, const float *params, const char *const *metadata, int32_t n_metadata,
                      const char *path);

/* Hash of what a weights file holds (safetensors_hash): features computed with one file are not those of
 * another. */
status_t weights_file_hash(const char *path, uint64_t *out);

#endif
