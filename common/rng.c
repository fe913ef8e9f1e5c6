#include "common/rng.h"

#include <math.h>
#include <Random123/philox.h>

void rng_block(const struct rng_key *key, uint32_t block, uint32_t out[4]) {
    const philox4x32_key_t k = {{(uint32_t)key->seed, (uint32_t)(key->seed >> 32)}};
    const philox4x32_ctr_t c = {
        {block, key->item, key->step,
         (uint32_t)key->stage << 24 | (uint32_t)key->peer << 16 | (uint32_t)key->purpose << 8 | key->sub}};
    const philox4x32_ctr_t r = philox4x32(c, k);
    for (int i = 0; i < 4; i++) out[i] = r.v[i];
}

struct rng rng_start(struct rng_key key) {
    return (struct rng){.key = key, .block = 0, .n_left = 0, .words = {0, 0, 0, 0}};
}

uint32_t rng_u32(struct rng *rng) {
    if (rng->n_left == 0) {
        rng_block(&rng->key, rng->block++, rng->words);
        rng->n_left = 4;
    }
    return rng->words[4 - rng->n_left--];
}

uint32_t rng_below(struct rng *rng, uint32_t n) {
    /* Lemire, "Fast random integer generation in an interval" (2019) */
    uint64_t product = (uint64_t)rng_u32(rng) * n;
    if ((uint32_t)product < n) {
        const uint32_t floor = (0u - n) % n;
        while ((uint32_t)product < floor) product = (uint64_t)rng_u32(rng) * n;
    }
    return (uint32_t)(product >> 32);
}

float rng_float(struct rng *rng) {
    return (float)(rng_u32(rng) >> 8) * 0x1p-24f;
}

double rng_double(struct rng *rng) {
    const uint64_t high = rng_u32(rng), low = rng_u32(rng);
    return (double)((high << 32 | low) >> 11) * 0x1p-53;
}

double rng_normal(struct rng *rng) {
    const double u = ((double)rng_u32(rng) + 0.5) * 0x1p-32, v = (double)rng_u32(rng) * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}
