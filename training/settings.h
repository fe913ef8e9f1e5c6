/* The whole configuration of a run, typed.
 *
 * Filled by the configuration reader (launcher/config.h) from one table of keys (launcher/config_schema.c),
 * which holds every key's type, range, default and help; docs/configuration.md is made from that table. This
 * header only gives the values their places. Names and defaults are METHOD's; "auto" is kept as 0 (or as the
 * AUTO enumerator) and is resolved by whoever uses the value.
 *
 * Every string and every string_list is owned by the struct; settings_free() releases them. Empty strings are
 * "", never NULL. Paths of inputs are absolute after reading; `run` is as the user wrote it. */
#ifndef TRAINING_SETTINGS_H
#define TRAINING_SETTINGS_H

#include "models/model_spec.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SETTINGS_MAX_PEERS = 8,
    SETTINGS_MAX_NUMBERS = 16,
};

struct number_list {
    int32_t n;
    double items[SETTINGS_MAX_NUMBERS];
};

struct integer_list {
    int32_t n;
    int64_t items[SETTINGS_MAX_NUMBERS];
};

struct string_list {
    int32_t n;
    char **items; /* owned, each too */
};

enum device_choice { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA, DEVICE_CUDA_EMULATED };
enum precision_choice { PRECISION_AUTO, PRECISION_FP32, PRECISION_BF16 };

/* Also the `stage` of struct rng_key: append only. */
enum stage { STAGE_NONE, STAGE_FEATURES, STAGE_HEADS, STAGE_COTRAIN, STAGE_DISTIL, STAGE_EVALUATE };

/* In the order they run; each at most once. */
struct stage_list {
    int32_t n;
    enum stage items[4];
};

enum view_choice {
    VIEW_CHOICE_NONE,       /* resize straight to SxS */
    VIEW_CHOICE_PERSPECTIVE /* pad to a square with black, then resize */
};

/* Feature-level diversity (METHOD section 3; section 4 step 2). */
enum coral_choice {
    CORAL_NONE,
    CORAL_DEEP,  /* heads: closed form; cotrain: Deep CORAL loss */
    CORAL_CLOSED /* heads: closed form; cotrain: nothing */
};

enum optimizer_choice { OPTIMIZER_ADAMW, OPTIMIZER_SGD };
enum schedule_choice { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_INVERSE };
enum select_choice {
    SELECT_BEST,
    SELECT_LAST
}; /* weights kept: best validation accuracy, or those of the last step */
enum label_choice {
    LABELS_FROM_PEER, /* the method: pseudo-labels of the co-training term come from the other peer */
    LABELS_OWN        /* ablation: each peer takes its own labels, nothing is exchanged */
};
enum batch_norm_choice { BATCH_NORM_PAPER, BATCH_NORM_JOINT };
enum recompute_choice { RECOMPUTE_NONE, RECOMPUTE_BLOCKS };
enum on_full_choice { ON_FULL_CONTINUE, ON_FULL_STOP };
enum log_level_choice { LOG_CHOICE_ERROR, LOG_CHOICE_WARNING, LOG_CHOICE_INFO, LOG_CHOICE_DEBUG };

/* A network as the configuration names it: a preset, or a shape of its own. Unset numbers are 0, unset lists
 * empty. */
struct model_settings {
    char *preset;             /* "" for a shape of its own */
    enum model_family family; /* only where preset is "" */
    struct integer_list depths, dims, heads, strides;
    int64_t stem, kernel, patch, embed, window, stem_stride;
    double width;
    bool conv_mlp;
    struct model_spec spec; /* the answer: preset or family's defaults with the numbers above put in; its
                               n_classes is 0 here, the stage sets it */
};

struct optimizer_settings {
    enum optimizer_choice name;
    double lr;
    struct number_list betas; /* AdamW: exactly two */
    double eps;
    double momentum; /* SGD */
    bool nesterov;
    double weight_decay;
    bool no_decay_norms;   /* no decay on norms, biases, layer scale and position tables */
    double layer_decay;    /* rate of layer i: lr * layer_decay^(n - 1 - i) */
    double backbone_scale; /* rate of everything but the classifier: lr times this */
    double clip;           /* largest global gradient norm; 0: no clipping */
};

/* lr(step) = lr * min(1, (step + 1) / ramp) * shape(step):
 * constant 1; cosine 0.5 (1 + cos(pi step / steps)); inverse (1 + gamma step)^(-power). */
struct schedule_settings {
    enum schedule_choice name;
    int64_t ramp; /* steps of linear rise; 0: none */
    double gamma, power;
};

struct source_settings {
    struct string_list shards; /* files or glob patterns */
    char *list;
};

struct target_settings {
    struct string_list shards;
    char *labelled, *unlabelled, *validation;
};

struct data_settings {
    char *folder; /* in front of the relative paths below */
    struct source_settings source;
    struct target_settings target;
    int64_t workers;    /* decoding threads a rank; 0: auto, the cores of the rank minus one, at least 1 */
    int64_t read_ahead; /* batches made ready ahead of need */
    int64_t cache_mb;   /* decoded or resized images kept in memory, MiB a rank; 0: none */
    bool verify;        /* check every image's hash when it is first read */
};

struct peer_settings {
    char *name; /* names files: letters, digits, '-', '_' */
    struct model_settings model;
    int64_t image; /* side S in pixels; 0: auto, what the preset was trained at */
    char *weights; /* safetensors; "": start from `init` */
    enum view_choice view;
    enum coral_choice coral;
    int64_t ranks; /* 0: auto, in proportion to the cost of an image */
    enum model_init init;
    double drop_path;
    double layer_scale; /* NAN: auto, the model's own */
    bool head_bias;
    int64_t freeze; /* leading stages, with the stem, that are not trained */
};

/* The strong view, the same for all peers (METHOD section 6). n = 0 and cutout = 0: a plain resize. */
struct strong_settings {
    int64_t n, m;   /* operations drawn; levels are uniform in 1..m-1 */
    int64_t cutout; /* side of the grey square less one (16: 17x17); 0: none */
};

struct features_settings {
    char *folder; /* where features files lie; "": features/ of the run */
    int64_t batch;
    enum precision_choice precision;
};

struct weight_settings {
    double source, labelled, consistency, cotraining, coral;
};

struct coral_settings {
    double ridge;
    bool centre_strong; /* false: the strong view is left as it is (the paper) */
};

struct heads_init_settings {
    int64_t steps;
    double source, labelled; /* weights of the two terms */
};

struct exchange_settings {
    int64_t every; /* heads: inner steps between two exchanges; cotrain: always 1 */
    enum label_choice labels;
};

/* METHOD section 2. */
struct heads_settings {
    struct heads_init_settings init;
    int64_t outer, inner;
    struct optimizer_settings optimizer;
    struct weight_settings weight; /* coral unused */
    double smoothing;
    struct number_list tau; /* thresholds for equal parts of the outer iterations: [0.9, 0.8, 0.7] */
    double tau_source;
    int64_t evaluate_every; /* outer iterations: after those whose number is a multiple, but 0 */
    struct exchange_settings exchange;
    struct coral_settings coral;
    bool normalise;                  /* L2-normalise every row */
    enum precision_choice precision; /* of the features in the matrix products */
};

struct batch_settings {
    int64_t source, labelled, unlabelled; /* images of the global batch */
};

struct warmup_settings {
    int64_t steps;
    double lr;
    struct schedule_settings schedule;
    double source, labelled; /* weights of the two terms */
};

/* METHOD section 4. */
struct cotrain_settings {
    struct warmup_settings warmup;
    int64_t steps;
    struct batch_settings batch;
    struct optimizer_settings optimizer; /* of the warm-up too, but for lr; made afresh after it */
    struct schedule_settings schedule;
    struct weight_settings weight;
    double smoothing;
    struct number_list tau; /* thresholds for equal parts of `steps` */
    double tau_source;
    int64_t evaluate_every; /* steps */
    enum select_choice select;
    double ema;         /* decay of the averaged weights; 0: none */
    int64_t accumulate; /* micro-batches a step */
    struct exchange_settings exchange;
    int64_t max_skipped; /* steps with NaN or Inf in a row that end the run */
};

struct student_settings {
    struct model_settings model;
    int64_t image;  /* side of the crop; 0: auto, what the preset was trained at */
    int64_t resize; /* side of the resize before the crop; 0: auto, 8/7 of image (256 for 224) */
    bool flip;
    double dropout; /* before the classifier */
    char *weights;
};

/* METHOD section 5. */
struct distil_settings {
    struct student_settings student;
    int64_t steps;
    struct batch_settings batch;
    double weight_source, weight_labelled, weight_unlabelled;
    double tau; /* a row is kept where teachers agree and all are above */
    enum batch_norm_choice batch_norm;
    struct optimizer_settings optimizer;
    struct schedule_settings schedule;
    double temperature;     /* 0: hard labels */
    int64_t evaluate_every; /* steps */
    enum select_choice select;
    int64_t max_skipped;
};

struct evaluate_settings {
    int64_t batch; /* images a rank */
};

struct checkpoint_settings {
    int64_t every; /* steps; 0: only when stopped */
    int64_t keep;
    enum on_full_choice on_full;
};

struct comm_settings {
    double bucket_mb;     /* gradient buckets, MiB */
    bool shard_optimizer; /* ZeRO-1 over the group */
    double deadline_s, startup_deadline_s;
};

struct cuda_settings {
    bool graph;    /* capture the step */
    bool autotune; /* the fastest of several ways of computing the same, by the clock */
};

struct log_settings {
    enum log_level_choice level;
    double every_s;        /* progress; NAN: auto, 1 s on a terminal, 60 s in a file */
    int64_t metrics_every; /* steps between two lines of metrics.jsonl */
    int64_t ranks_every;   /* lines of which one has the times of every rank; 0: none */
    bool tensorboard;
    char *prometheus; /* textfile for node_exporter; "": none */
    bool report;      /* write report.html at the end */
};

struct settings {
    char *run;
    char *variant; /* of the method, for tables; nothing is computed from it */
    int64_t seed;
    enum device_choice device;
    enum precision_choice precision;
    struct stage_list stages;
    enum recompute_choice recompute;
    struct data_settings data;
    int32_t n_peers;
    struct peer_settings peers[SETTINGS_MAX_PEERS];
    struct strong_settings strong;
    struct features_settings features;
    struct heads_settings heads;
    struct cotrain_settings cotrain;
    struct distil_settings distil;
    struct evaluate_settings evaluate;
    struct checkpoint_settings checkpoint;
    struct comm_settings comm;
    struct cuda_settings cuda;
    struct log_settings log;
};

/* Release all strings and lists; leaves *settings zeroed. Accepts a zeroed struct and NULL. */
void settings_free(struct settings *settings);

bool settings_has_stage(const struct settings *settings, enum stage stage);

/* "features", "heads", "cotrain", "distil", "evaluate"; "none". */
const char *stage_name(enum stage stage);

/* The threshold in force: tau->items for equal parts of `n_steps`; step in [0, n_steps). With three
 * thresholds and 30 outer iterations they change at 10 and 20. */
double settings_tau(const struct number_list *tau, int64_t step, int64_t n_steps);

/* Label smoothing caps what was learnt with labels at 1 - eps + eps/K: largest confidence to expect. A
 * threshold at or above it keeps only broken outputs; the stages warn once K is known. */
double settings_confidence_cap(double smoothing, int32_t n_classes);

/* Warn (rank 0) for each stage of `settings` whose thresholds lie at or above that cap; returns how many do.
 */
int settings_warn_thresholds(const struct settings *settings, int32_t n_classes);

#endif
