/* Counter-based random numbers (Philox4x32-10 of Random123; Salmon et al., SC 2011).
 *
 * A draw is a pure function of what it is for, never of a rank, a thread or a clock, so batches, views and
 * drop-path are the same on any number of ranks and after any resume, and there is no state to save. */
#ifndef COMMON_RNG_H
#define COMMON_RNG_H

#include <stdint.h>

/* What a draw is for. Append only: the numbers are part of what makes a run repeatable. */
enum rng_purpose {
    RNG_INIT = 1,      /* initial weights; item = index of the parameter */
    RNG_SHUFFLE = 2,   /* order of an epoch; step = epoch */
    RNG_VIEW = 3,      /* crop and flip of a view */
    RNG_AUGMENT = 4,   /* RandAugment and cutout */
    RNG_DROP_PATH = 5, /* item = image, step = step; sub = block */
    RNG_DROPOUT = 6,
    RNG_TEST = 7,
};

/* Everything a draw depends on besides its number in the sequence. */
struct rng_key {
    uint64_t seed;
    uint8_t stage;   /* which stage of training (enum stage of training/settings.h), 0 outside */
    uint8_t peer;    /* index of the peer; 255: shared by all peers */
    uint8_t purpose; /* enum rng_purpose */
    uint8_t sub;     /* free: view, block, ... */
    uint32_t step;   /* step or epoch */
    uint32_t item;   /* image or parameter */
};

/* A sequence of draws under one key. Cheap to make, 48 bytes, no clean-up. */
struct rng {
    struct rng_key key;
    uint32_t block;  /* number of the next block of four words */
    uint32_t n_left; /* unused words in `words` */
    uint32_t words[4];
};

/* The four words of block `block` under `key`. */
void rng_block(const struct rng_key *key, uint32_t block, uint32_t out[4]);

struct rng rng_start(struct rng_key key);

uint32_t rng_u32(struct rng *rng);

/* Uniform integer in [0, n), unbiased (multiply and reject); n >= 1. */
uint32_t rng_below(struct rng *rng, uint32_t n);

/* Uniform in [0, 1): 24 and 53 bits. */
float rng_float(struct rng *rng);
double rng_double(struct rng *rng);

/* Standard normal (Box-Muller, one value a call, two words used). */
double rng_normal(struct rng *rng);

#endif
