#include "launcher/config_schema.h"

#include <string.h>

#define AT(field)   offsetof(struct settings, field)
#define PEER(field) offsetof(struct peer_settings, field)
#define BIG         9e15 /* every integer up to here is exact in a double */

#define STRING(p, at, def, text)                                                                             \
    { .path = p, .type = CONFIG_STRING, .offset = at, .fallback = def, .help = text }
#define NEEDED(p, at, text)                                                                                  \
    { .path = p, .type = CONFIG_STRING, .offset = at, .required = true, .help = text }
#define INPUT(p, at, def, needed, text)                                                                      \
    {                                                                                                        \
        .path = p, .type = CONFIG_STRING, .offset = at, .fallback = def, .required = needed,                 \
        .is_input_path = true, .help = text                                                                  \
    }
#define FILES(p, at, text)                                                                                   \
    {                                                                                                        \
        .path = p, .type = CONFIG_STRINGS, .offset = at, .required = true, .is_input_path = true,            \
        .min_items = 1, .max_items = 100000, .help = text                                                    \
    }
#define BOOL(p, at, def, text)                                                                               \
    { .path = p, .type = CONFIG_BOOL, .offset = at, .fallback = def, .help = text }
#define INTEGER(p, at, lo, hi, def, text)                                                                    \
    { .path = p, .type = CONFIG_INTEGER, .offset = at, .min = lo, .max = hi, .fallback = def, .help = text }
#define INTEGER_AUTO(p, at, lo, hi, text)                                                                    \
    {                                                                                                        \
        .path = p, .type = CONFIG_INTEGER, .offset = at, .min = lo, .max = hi, .fallback = "auto",           \
        .has_auto = true, .help = text                                                                       \
    }
#define NUMBER(p, at, lo, hi, def, text)                                                                     \
    { .path = p, .type = CONFIG_NUMBER, .offset = at, .min = lo, .max = hi, .fallback = def, .help = text }
#define WORD(p, at, list, def, text)                                                                         \
    { .path = p, .type = CONFIG_WORD, .offset = at, .words = list, .fallback = def, .help = text }
#define NUMBERS(p, at, lo, hi, least, most, def, text)                                                       \
    {                                                                                                        \
        .path = p, .type = CONFIG_NUMBERS, .offset = at, .min = lo, .max = hi, .min_items = least,           \
        .max_items = most, .fallback = def, .help = text                                                     \
    }

/* Keys of a shape of its own: unset unless given. */
#define SHAPE_INTEGER(p, at, lo, hi, whose, text)                                                            \
    { .path = p, .type = CONFIG_INTEGER, .offset = at, .min = lo, .max = hi, .families = whose, .help = text }
#define SHAPE_INTEGERS(p, at, lo, hi, least, most, whose, text)                                              \
    {                                                                                                        \
        .path = p, .type = CONFIG_INTEGERS, .offset = at, .min = lo, .max = hi, .min_items = least,          \
        .max_items = most, .families = whose, .help = text                                                   \
    }
#define SHAPE(prefix, where, base)                                                                           \
    {.path = prefix ".family",                                                                               \
     .type = CONFIG_WORD,                                                                                    \
     .offset = where(base.family),                                                                           \
     .words = "convnext|swin|mobilenetv2",                                                                   \
     .families = ~0u,                                                                                        \
     .help = "family of a shape of its own"},                                                                \
        SHAPE_INTEGERS(prefix ".depths", where(base.depths), 1, 64, 1, MODEL_MAX_STAGES,                     \
                       CONFIG_CONVNEXT | CONFIG_SWIN, "blocks of each stage"),                               \
        SHAPE_INTEGERS(prefix ".dims", where(base.dims), 1, 16384, 1, MODEL_MAX_STAGES, CONFIG_CONVNEXT,     \
                       "channels of each stage"),                                                            \
        SHAPE_INTEGER(prefix ".stem", where(base.stem), 1, 64, CONFIG_CONVNEXT,                              \
                      "side of the stem's patches, and its stride (4)"),                                     \
        SHAPE_INTEGER(prefix ".kernel", where(base.kernel), 3, 31, CONFIG_CONVNEXT,                          \
                      "side of the depthwise kernel (7)"),                                                   \
        {.path = prefix ".conv_mlp",                                                                         \
         .type = CONFIG_BOOL,                                                                                \
         .offset = where(base.conv_mlp),                                                                     \
         .families = CONFIG_CONVNEXT,                                                                        \
         .help = "weights keep the pointwise layers as 1x1 convolutions, as timm's atto to nano do"},        \
        SHAPE_INTEGER(prefix ".patch", where(base.patch), 1, 64, CONFIG_SWIN, "side of a patch (4)"),        \
        SHAPE_INTEGER(prefix ".embed", where(base.embed), 1, 16384, CONFIG_SWIN,                             \
                      "channels of the first stage; each next one doubles"),                                 \
        SHAPE_INTEGERS(prefix ".heads", where(base.heads), 1, 1024, 1, MODEL_MAX_STAGES, CONFIG_SWIN,        \
                       "attention heads of each stage"),                                                     \
        SHAPE_INTEGER(prefix ".window", where(base.window), 1, 64, CONFIG_SWIN, "side of a window (7)"),     \
        {.path = prefix ".width",                                                                            \
         .type = CONFIG_NUMBER,                                                                              \
         .offset = where(base.width),                                                                        \
         .min = 0.05,                                                                                        \
         .max = 16,                                                                                          \
         .families = CONFIG_MOBILENETV2,                                                                     \
         .help = "width multiplier (1.0)"},                                                                  \
        SHAPE_INTEGER(prefix ".stem_stride", where(base.stem_stride), 1, 4, CONFIG_MOBILENETV2,              \
                      "stride of the first convolution (2)"),                                                \
        SHAPE_INTEGERS(prefix ".strides", where(base.strides), 1, 4, 7, 7, CONFIG_MOBILENETV2,               \
                       "stride of each row of the paper's table (1,2,2,2,1,2,1)")

#define OPTIMIZER(prefix, base, def_name, def_lr, def_decay, def_no_decay, def_scale, def_clip)              \
    WORD(prefix ".name", AT(base.name), "adamw|sgd", def_name, "update rule"),                               \
        NUMBER(prefix ".lr", AT(base.lr), 0, 1e6, def_lr, "learning rate"),                                  \
        NUMBERS(prefix ".betas", AT(base.betas), 0, 0.999999999, 2, 2, "[0.9, 0.999]",                       \
                "AdamW: decay of the two moments"),                                                          \
        NUMBER(prefix ".eps", AT(base.eps), 0, 1, "1e-08", "AdamW: added to the root of the second moment"), \
        NUMBER(prefix ".momentum", AT(base.momentum), 0, 0.999999999, "0.9", "SGD: momentum"),               \
        BOOL(prefix ".nesterov", AT(base.nesterov), "true", "SGD: Nesterov momentum"),                       \
        NUMBER(prefix ".weight_decay", AT(base.weight_decay), 0, 100, def_decay,                             \
               "decay of the weights (AdamW: decoupled)"),                                                   \
        BOOL(prefix ".no_decay_norms", AT(base.no_decay_norms), def_no_decay,                                \
             "no decay on norms, biases, layer scale and position tables"),                                  \
        NUMBER(prefix ".layer_decay", AT(base.layer_decay), 0.01, 1, "1",                                    \
               "the rate falls by this factor from each layer to the one before it"),                        \
        NUMBER(prefix ".backbone_scale", AT(base.backbone_scale), 0, 1000, def_scale,                        \
               "rate of all but the classifier, as a factor"),                                               \
        NUMBER(prefix ".clip", AT(base.clip), 0, 1e9, def_clip,                                              \
               "largest global gradient norm; 0: no clipping")

#define SCHEDULE(prefix, base, def_name, def_ramp)                                                           \
    WORD(prefix ".name", AT(base.name), "constant|cosine|inverse", def_name,                                 \
         "course of the rate: constant, cosine to 0, or (1 + gamma*step)^-power"),                           \
        INTEGER(prefix ".ramp", AT(base.ramp), 0, BIG, def_ramp,                                             \
                "steps in which the rate rises linearly at the start"),                                      \
        NUMBER(prefix ".gamma", AT(base.gamma), 0, 1e6, "0.0001", "of inverse"),                             \
        NUMBER(prefix ".power", AT(base.power), 0, 100, "0.75", "of inverse")

/* clang-format off */
const struct config_key config_keys[] = {
    NEEDED("run", AT(run), "the run's directory; never overwritten, resumed (relative to the current directory)"),
    STRING("variant", AT(variant), "", "what sets this run apart, as a row in tables over many runs (sweeps set it); nothing is computed from it"),
    INTEGER("seed", AT(seed), 0, BIG, "1", "all random draws depend on it and on what they are for"),
    WORD("device", AT(device), "auto|cpu|cuda|cuda-emulated", "auto", "where to compute; auto takes GPUs where there are any (cuda-emulated: tests only)"),
    WORD("precision", AT(precision), "auto|fp32|bf16", "auto", "of activations and matrix products; master weights are always fp32"),
    {.path = "stages", .type = CONFIG_STAGES, .offset = AT(stages), .words = "features|heads|cotrain|distil", .min_items = 1, .max_items = 4,
     .fallback = "[cotrain, distil]", .help = "stages in their order; [features, heads, distil] is the paper's frozen mode"},
    WORD("recompute", AT(recompute), "none|blocks", "none", "blocks: keep only the inputs of blocks and compute them again in backward, to save memory"),

    INPUT("data.folder", AT(data.folder), "", false, "in front of the relative paths of this section; itself relative to the configuration's folder"),
    FILES("data.source.shards", AT(data.source.shards), "shards of the source domain: files or patterns (print-*.h5)"),
    INPUT("data.source.list", AT(data.source.list), NULL, true, "list of labelled source images"),
    FILES("data.target.shards", AT(data.target.shards), "shards of the target domain"),
    INPUT("data.target.labelled", AT(data.target.labelled), NULL, true, "list of the few labelled target images"),
    INPUT("data.target.unlabelled", AT(data.target.unlabelled), NULL, true, "list of unlabelled target images"),
    INPUT("data.target.validation", AT(data.target.validation), NULL, true, "list of labelled target images for choosing weights"),
    INTEGER_AUTO("data.workers", AT(data.workers), 1, 1024, "decoding threads a rank; auto: its cores minus one, at least 1"),
    INTEGER("data.read_ahead", AT(data.read_ahead), 1, 1024, "4", "batches made ready ahead of need"),
    INTEGER("data.cache_mb", AT(data.cache_mb), 0, BIG, "1024", "MiB a rank for images kept decoded; 0: none"),
    BOOL("data.verify", AT(data.verify), "true", "check every image's hash when it is first read"),

    {.path = "peers[].name", .type = CONFIG_STRING, .offset = PEER(name), .required = true, .help = "name of the peer and of its files: letters, digits, '-', '_'"},
    {.path = "peers[].model", .type = CONFIG_STRING, .offset = PEER(model.preset), .required = true, .help = "preset as timm names it (convnext_xlarge), or a shape of its own: {family: convnext, depths: [2, 2], dims: [48, 96]}"},
    SHAPE("peers[].model", PEER, model),
    INTEGER_AUTO("peers[].image", PEER(image), 8, 4096, "side in pixels; auto: what the preset was trained at"),
    INPUT("peers[].weights", PEER(weights), "", false, "safetensors file to start from; none: initialised as `init` says"),
    WORD("peers[].view", PEER(view), "none|perspective", "none", "own view: none resizes straight to a square, perspective pads to a square first"),
    WORD("peers[].coral", PEER(coral), "none|deep|closed", "none", "feature alignment; deep: closed form in heads and the Deep CORAL loss in cotrain; closed: in heads only"),
    INTEGER_AUTO("peers[].ranks", PEER(ranks), 1, 65536, "ranks of the peer's group; auto: in proportion to the cost of an image"),
    WORD("peers[].init", PEER(init), "trunc_normal|xavier", "trunc_normal", "how weights start: the papers' normal of 0.02, or Xavier uniform for narrow networks from scratch"),
    NUMBER("peers[].drop_path", PEER(drop_path), 0, 0.95, "0", "rate of the last block, growing linearly from 0"),
    {.path = "peers[].layer_scale", .type = CONFIG_NUMBER, .offset = PEER(layer_scale), .max = 100, .has_auto = true, .fallback = "auto", .help = "initial layer scale of ConvNeXt; auto: the model's own (1e-6); 0: none"},
    BOOL("peers[].head_bias", PEER(head_bias), "true", "the classifier has a bias"),
    INTEGER("peers[].freeze", PEER(freeze), 0, MODEL_MAX_STAGES, "0", "leading stages, with the stem, that are not trained"),

    INTEGER("strong.n", AT(strong.n), 0, 16, "2", "RandAugment operations drawn"),
    INTEGER("strong.m", AT(strong.m), 2, 10, "10", "levels are drawn from 1 to m - 1"),
    INTEGER("strong.cutout", AT(strong.cutout), 0, 4096, "16", "side of the grey square less one; 0: none"),

    STRING("features.folder", AT(features.folder), "", "where features files lie, for several runs to share; none: features/ of the run"),
    INTEGER("features.batch", AT(features.batch), 1, 65536, "24", "images a rank in one pass"),
    WORD("features.precision", AT(features.precision), "auto|fp32|bf16", "auto", "auto: as the top-level precision"),

    INTEGER("heads.init.steps", AT(heads.init.steps), 0, BIG, "400", "steps of initial training on the labelled rows"),
    NUMBER("heads.init.source", AT(heads.init.source), 0, 1e6, "0.4", "weight of the source term there"),
    NUMBER("heads.init.labelled", AT(heads.init.labelled), 0, 1e6, "0.2", "weight of the labelled target term there"),
    INTEGER("heads.outer", AT(heads.outer), 0, BIG, "30", "outer iterations"),
    INTEGER("heads.inner", AT(heads.inner), 1, BIG, "400", "full-batch steps of each"),
    OPTIMIZER("heads.optimizer", heads.optimizer, "sgd", "30", "0", "true", "1", "0"),
    NUMBER("heads.weight.source", AT(heads.weight.source), 0, 1e6, "0.1", "weight of the kept source rows"),
    NUMBER("heads.weight.labelled", AT(heads.weight.labelled), 0, 1e6, "0.05", "weight of the labelled target rows"),
    NUMBER("heads.weight.consistency", AT(heads.weight.consistency), 0, 1e6, "0.5", "weight of the strong view with own labels"),
    NUMBER("heads.weight.cotraining", AT(heads.weight.cotraining), 0, 1e6, "0.9", "weight of the own view with the other peer's labels"),
    NUMBER("heads.smoothing", AT(heads.smoothing), 0, 0.999, "0.1", "label smoothing (0.1 DomainNet, 0.001 Office-Home and Office-31)"),
    NUMBERS("heads.tau", AT(heads.tau), 0, 1, 1, SETTINGS_MAX_NUMBERS, "[0.9, 0.8, 0.7]", "confidence thresholds for equal parts of the outer iterations"),
    NUMBER("heads.tau_source", AT(heads.tau_source), 0, 1, "0.8", "source rows count where the own confidence is above"),
    INTEGER("heads.evaluate_every", AT(heads.evaluate_every), 1, BIG, "5", "outer iterations between two evaluations"),
    INTEGER("heads.exchange.every", AT(heads.exchange.every), 1, BIG, "400", "inner steps between two exchanges of pseudo-labels (400: the paper, 1: each step)"),
    WORD("heads.exchange.labels", AT(heads.exchange.labels), "peer|own", "peer", "whose labels the co-training term takes; own: an ablation without exchange"),
    NUMBER("heads.coral.ridge", AT(heads.coral.ridge), 0, 1e6, "0.01", "added to the diagonal of both covariances"),
    BOOL("heads.coral.centre_strong", AT(heads.coral.centre_strong), "false", "centre the strong view too (false: the paper)"),
    BOOL("heads.normalise", AT(heads.normalise), "true", "L2-normalise every feature row"),
    WORD("heads.precision", AT(heads.precision), "auto|fp32|bf16", "auto", "of the features in the matrix products; auto: as the top-level precision"),

    INTEGER("cotrain.warmup.steps", AT(cotrain.warmup.steps), 0, BIG, "300", "supervised steps before co-training"),
    NUMBER("cotrain.warmup.lr", AT(cotrain.warmup.lr), 0, 1e6, "5e-05", "learning rate of the warm-up"),
    SCHEDULE("cotrain.warmup.schedule", cotrain.warmup.schedule, "constant", "20"),
    NUMBER("cotrain.warmup.weight.source", AT(cotrain.warmup.source), 0, 1e6, "0.4", "weight of the source term in the warm-up"),
    NUMBER("cotrain.warmup.weight.labelled", AT(cotrain.warmup.labelled), 0, 1e6, "0.2", "weight of the labelled target term in the warm-up"),
    INTEGER("cotrain.steps", AT(cotrain.steps), 0, BIG, "3000", "steps of co-training"),
    INTEGER("cotrain.batch.source", AT(cotrain.batch.source), 1, 1048576, "32", "source images of the global batch"),
    INTEGER("cotrain.batch.labelled", AT(cotrain.batch.labelled), 1, 1048576, "32", "labelled target images of the global batch"),
    INTEGER("cotrain.batch.unlabelled", AT(cotrain.batch.unlabelled), 1, 1048576, "32", "unlabelled target images of the global batch"),
    OPTIMIZER("cotrain.optimizer", cotrain.optimizer, "adamw", "5e-05", "0.05", "true", "1", "1"),
    SCHEDULE("cotrain.schedule", cotrain.schedule, "cosine", "20"),
    NUMBER("cotrain.weight.source", AT(cotrain.weight.source), 0, 1e6, "0.5", "weight of the kept source images"),
    NUMBER("cotrain.weight.labelled", AT(cotrain.weight.labelled), 0, 1e6, "0.5", "weight of the labelled target images"),
    NUMBER("cotrain.weight.consistency", AT(cotrain.weight.consistency), 0, 1e6, "0.5", "weight of the strong view with own labels"),
    NUMBER("cotrain.weight.cotraining", AT(cotrain.weight.cotraining), 0, 1e6, "0.9", "weight of the own view with the other peer's labels"),
    NUMBER("cotrain.weight.coral", AT(cotrain.weight.coral), 0, 1e6, "1", "weight of the Deep CORAL loss, for peers with coral: deep"),
    NUMBER("cotrain.smoothing", AT(cotrain.smoothing), 0, 0.999, "0.02", "label smoothing of the supervised terms"),
    NUMBERS("cotrain.tau", AT(cotrain.tau), 0, 1, 1, SETTINGS_MAX_NUMBERS, "[0.95, 0.9, 0.85]", "confidence thresholds for equal parts of the steps"),
    NUMBER("cotrain.tau_source", AT(cotrain.tau_source), 0, 1, "0.8", "source images count where the own confidence is above"),
    INTEGER("cotrain.evaluate_every", AT(cotrain.evaluate_every), 1, BIG, "500", "steps between two evaluations"),
    WORD("cotrain.select", AT(cotrain.select), "best|last", "best", "weights kept: best on validation (ties: the later), or the last"),
    NUMBER("cotrain.ema", AT(cotrain.ema), 0, 0.999999, "0", "decay of a moving average of the weights; 0: none"),
    INTEGER("cotrain.accumulate", AT(cotrain.accumulate), 1, 65536, "1", "parts in which a step's batch is computed, to save memory"),
    WORD("cotrain.exchange.labels", AT(cotrain.exchange.labels), "peer|own", "peer", "whose labels the co-training term takes; own: an ablation without exchange"),
    INTEGER("cotrain.max_skipped", AT(cotrain.max_skipped), 0, BIG, "20", "steps in a row that may be skipped for NaN or Inf"),

    {.path = "distil.student.model", .type = CONFIG_STRING, .offset = AT(distil.student.model.preset), .fallback = "mobilenet_v2", .help = "preset or a shape of its own, as for peers"},
    SHAPE("distil.student.model", AT, distil.student.model),
    INTEGER_AUTO("distil.student.image", AT(distil.student.image), 8, 4096, "side of the crop; auto: what the preset was trained at"),
    INTEGER_AUTO("distil.student.resize", AT(distil.student.resize), 8, 8192, "side of the resize before the crop; auto: 8/7 of image"),
    BOOL("distil.student.flip", AT(distil.student.flip), "true", "random horizontal flip in training"),
    NUMBER("distil.student.dropout", AT(distil.student.dropout), 0, 0.95, "0.2", "before the classifier"),
    INPUT("distil.student.weights", AT(distil.student.weights), "", false, "safetensors file to start from"),
    INTEGER("distil.steps", AT(distil.steps), 0, BIG, "11000", "steps (11000 DomainNet, 3100 Office-Home and Office-31)"),
    INTEGER("distil.batch.source", AT(distil.batch.source), 1, 1048576, "24", "source images of the global batch"),
    INTEGER("distil.batch.labelled", AT(distil.batch.labelled), 1, 1048576, "24", "labelled target images of the global batch"),
    INTEGER("distil.batch.unlabelled", AT(distil.batch.unlabelled), 1, 1048576, "48", "unlabelled target images of the global batch"),
    NUMBER("distil.weight.source", AT(distil.weight_source), 0, 1e6, "0.1", "weight of the source term"),
    NUMBER("distil.weight.labelled", AT(distil.weight_labelled), 0, 1e6, "0.05", "weight of the labelled target term"),
    NUMBER("distil.weight.unlabelled", AT(distil.weight_unlabelled), 0, 1e6, "0.9", "weight of the unlabelled rows kept"),
    NUMBER("distil.tau", AT(distil.tau), 0, 1, "0.7", "a row is kept where the teachers agree and all are above"),
    WORD("distil.batch_norm", AT(distil.batch_norm), "paper|joint", "paper", "paper: labelled and kept unlabelled rows are two forwards a step; joint: one over all rows"),
    OPTIMIZER("distil.optimizer", distil.optimizer, "sgd", "0.01", "0.0005", "false", "0.1", "0"),
    SCHEDULE("distil.schedule", distil.schedule, "inverse", "0"),
    NUMBER("distil.temperature", AT(distil.temperature), 0, 1000, "0", "soft targets with this temperature; 0: hard labels"),
    INTEGER("distil.evaluate_every", AT(distil.evaluate_every), 1, BIG, "500", "steps between two evaluations"),
    WORD("distil.select", AT(distil.select), "best|last", "best", "weights kept: best on validation (ties: the earlier), or the last"),
    INTEGER("distil.max_skipped", AT(distil.max_skipped), 0, BIG, "20", "steps in a row that may be skipped for NaN or Inf"),

    INTEGER("evaluate.batch", AT(evaluate.batch), 1, 65536, "64", "images a rank in one pass"),

    INTEGER("checkpoint.every", AT(checkpoint.every), 0, BIG, "500", "steps between two checkpoints; 0: only when stopped"),
    INTEGER("checkpoint.keep", AT(checkpoint.keep), 1, 1000, "2", "checkpoints kept"),
    WORD("checkpoint.on_full", AT(checkpoint.on_full), "continue|stop", "continue", "when the disk is full: train on without the checkpoint, or stop"),

    NUMBER("comm.bucket_mb", AT(comm.bucket_mb), 0.0001, 65536, "25", "MiB of a gradient bucket"),
    BOOL("comm.shard_optimizer", AT(comm.shard_optimizer), "false", "share the optimiser's state out over the group (ZeRO-1)"),
    NUMBER("comm.deadline_s", AT(comm.deadline_s), 0.1, 1e6, "300", "seconds after which a wait for other ranks ends the job"),
    NUMBER("comm.startup_deadline_s", AT(comm.startup_deadline_s), 0.1, 1e6, "120", "the same for the first connections"),

    BOOL("cuda.graph", AT(cuda.graph), "true", "capture a step as a CUDA graph"),
    BOOL("cuda.autotune", AT(cuda.autotune), "false", "time cuBLASLt's algorithms, and cuDNN against our convolutions, once for each shape, and keep the fastest; false: the same choice, so the same bits, in every run"),

    WORD("log.level", AT(log.level), "error|warning|info|debug", "info", "least urgent records shown"),
    {.path = "log.every_s", .type = CONFIG_NUMBER, .offset = AT(log.every_s), .max = 1e6, .has_auto = true, .fallback = "auto", .help = "seconds between two progress lines; auto: 1 on a terminal, 60 otherwise"},
    INTEGER("log.metrics_every", AT(log.metrics_every), 1, BIG, "1", "steps between two lines of metrics.jsonl"),
    INTEGER("log.ranks_every", AT(log.ranks_every), 0, BIG, "20", "of how many of these lines one has the times of every rank and names the slowest; 0: none"),
    BOOL("log.tensorboard", AT(log.tensorboard), "true", "TensorBoard event files beside metrics.jsonl: tensorboard --logdir RUN"),
    STRING("log.prometheus", AT(log.prometheus), "", "text file (DIR/NAME.prom) for the textfile collector of Prometheus' node_exporter; none: not written"),
    BOOL("log.report", AT(log.report), "true", "write report.html at the end"),
};
/* clang-format on */

const int config_n_keys = (int)(sizeof config_keys / sizeof config_keys[0]);
_Static_assert(sizeof config_keys / sizeof config_keys[0] <= CONFIG_MAX_KEYS, "raise CONFIG_MAX_KEYS");

static const struct {
    const char *path, *help;
} sections[] = {
    {"data", "images and lists"},
    {"peers", "the co-trained networks, a list of 1 to 8"},
    {"strong", "the strong view (RandAugment and cutout), the same for all peers"},
    {"features", "stage: features of the frozen backbones"},
    {"heads", "stage: linear heads co-trained on frozen features (the paper)"},
    {"cotrain", "stage: end-to-end co-training with an exchange at every step"},
    {"distil", "stage: one student from the peers' agreement"},
    {"evaluate", "accuracies"},
    {"checkpoint", "saved state"},
    {"comm", "communication between ranks"},
    {"cuda", "GPUs"},
    {"log", "what is shown and written"},
};

const char *config_section_help(const char *path) {
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        if (strcmp(sections[i].path, path) == 0) return sections[i].help;
    return NULL;
}
