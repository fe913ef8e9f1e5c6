/* How often two classifiers trained on bf16 features predict what they predict when trained on fp32 features:
 * the frozen stage's rounds of labelling and full-batch steps on synthetic classes of Office-Home's size.
 * Peers C and S label for each other. Prints the time and the share of unlabelled rows with equal predictions
 * of their sum. With `rounded` the second training is in fp32 too, on features rounded to bf16: what the
 * features' rounding alone does.
 *
 *     heads_agreement [outer 30] [inner 400] [threads 2] [spread 8.5] [rounded]     (12,000 steps a peer) */
#include "common/clock.h"
#include "common/memory.h"
#include "common/rng.h"
#include "models/ops/bf16.h"
#include "tests/support/test.h"
#include "training/head.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { CLASSES = 65, N_PEERS = 2 };

static const int64_t n_rows[HEAD_N_INPUTS] = {4357, 195, 4170, 4170};

struct data {
    int64_t d;
    float *rows[HEAD_N_INPUTS];
};

static int32_t true_class(int input, int64_t row) { /* a view has the class of its image */
    return (int32_t)(input == HEAD_LABELLED ? row % CLASSES : row * 31 % CLASSES);
}

/* Unit rows about a centre of their class; the target's centres lie off the source's, strong views off their
 * row. */
static void make_rows(struct data *x, int64_t d, uint32_t seed, float spread) {
    x->d = d;
    const float noise = spread / sqrtf((float)d);
    float *centre = memory_zeroed((size_t)(2 * CLASSES * d), sizeof *centre);
    assert_non_null(centre);
    struct rng rng = rng_start((struct rng_key){.seed = seed, .purpose = RNG_TEST, .item = 99});
    for (int64_t i = 0; i < CLASSES * d; i++) centre[i] = (float)rng_normal(&rng) / sqrtf((float)d);
    for (int64_t i = 0; i < CLASSES * d; i++)
        centre[CLASSES * d + i] = centre[i] + 0.7f * (float)rng_normal(&rng) / sqrtf((float)d);
    for (int input = 0; input < HEAD_N_INPUTS; input++) {
        float *rows = x->rows[input] = memory_zeroed((size_t)(n_rows[input] * d), sizeof *rows);
        assert_non_null(rows);
        for (int64_t i = 0; i < n_rows[input]; i++) {
            float *row = rows + i * d, norm = 0;
            const float *from = input == HEAD_STRONG
                                    ? x->rows[HEAD_UNLABELLED] + i * d
                                    : centre + ((input != HEAD_SOURCE) * CLASSES + true_class(input, i)) * d;
            for (int64_t j = 0; j < d; j++) {
                row[j] = from[j] + (input == HEAD_STRONG ? 0.3f : 1.0f) * noise * (float)rng_normal(&rng);
                norm += row[j] * row[j];
            }
            for (int64_t j = 0; j < d; j++) row[j] /= sqrtf(norm);
        }
    }
    free(centre);
}

static void round_rows(struct data *x) {
    for (int input = 0; input < HEAD_N_INPUTS; input++)
        for (int64_t i = 0; i < n_rows[input] * x->d; i++)
            x->rows[input][i] = bf16_to_f32(bf16_from_f32(x->rows[input][i]));
}

static struct head *new_head(struct backend *be, struct comm *alone, const struct data *x,
                             enum dtype precision) {
    int32_t *labels[2];
    struct head_options o = {.ops = &ops_cpu,
                             .be = be,
                             .group = alone,
                             .n_classes = CLASSES,
                             .d = x->d,
                             .precision = precision,
                             .lr = 30,
                             .momentum = 0.9,
                             .nesterov = true};
    for (int i = 0; i < HEAD_N_INPUTS; i++) {
        o.rows[i] = x->rows[i];
        o.n_local[i] = o.n_global[i] = n_rows[i];
    }
    for (int i = 0; i < 2; i++) {
        o.labels[i] = labels[i] = memory_zeroed((size_t)n_rows[i], sizeof(int32_t));
        for (int64_t r = 0; r < n_rows[i]; r++) labels[i][r] = true_class(i, r);
    }
    struct head *head;
    assert_ok(head_new(&o, &head));
    free(labels[0]);
    free(labels[1]);
    float *w = memory_zeroed((size_t)(CLASSES * x->d), sizeof *w);
    struct rng rng = rng_start((struct rng_key){.seed = 5, .purpose = RNG_TEST});
    for (int64_t i = 0; i < CLASSES * x->d; i++) w[i] = 0.01f * (float)rng_normal(&rng);
    assert_ok(head_set_weights(head, w));
    free(w);
    return head;
}

/* sum (n_u,K) of the peers' final probabilities. */
static void train(struct comm *alone, const struct data *x, enum dtype precision, int outer, int inner,
                  int threads, float *sum) {
    struct backend *be;
    struct head *head[N_PEERS];
    struct pseudo_label *own[N_PEERS];
    const int64_t n_u = n_rows[HEAD_UNLABELLED];
    assert_ok(cpu_backend_open(threads, &be));
    for (int p = 0; p < N_PEERS; p++) {
        head[p] = new_head(be, alone, &x[p], precision);
        own[p] = memory_zeroed((size_t)n_u, sizeof *own[p]);
        assert_ok(head_select_init(head[p], 0.5, 0.5));
        for (int i = 0; i < inner; i++) assert_ok(head_step(head[p], NULL));
    }
    for (int o = 0; o < outer; o++) {
        for (int p = 0; p < N_PEERS; p++) assert_ok(head_label(head[p], 0.5, own[p]));
        for (int p = 0; p < N_PEERS; p++) {
            assert_ok(head_select(head[p], &(struct head_selection){.weight = {0.1, 0.05, 0.5, 0.9},
                                                                    .smoothing = 0.1,
                                                                    .tau = 0.5,
                                                                    .own = own[p],
                                                                    .other = own[1 - p]}));
            for (int i = 0; i < inner; i++) assert_ok(head_step(head[p], NULL));
        }
    }
    float *probabilities = memory_zeroed((size_t)(n_u * CLASSES), sizeof *probabilities);
    for (int p = 0; p < N_PEERS; p++) {
        assert_ok(head_predict(head[p], x[p].rows[HEAD_UNLABELLED], n_u, probabilities));
        for (int64_t i = 0; i < n_u * CLASSES; i++) sum[i] += probabilities[i];
        head_free(head[p]);
        free(own[p]);
    }
    free(probabilities);
    cpu_backend_close(be);
}

static int32_t best(const float *x) {
    int32_t b = 0;
    for (int32_t j = 1; j < CLASSES; j++) b = x[j] > x[b] ? j : b;
    return b;
}

int main(int argc, char **argv) {
    const int outer = argc > 1 ? atoi(argv[1]) : 30, inner = argc > 2 ? atoi(argv[2]) : 400,
              threads = argc > 3 ? atoi(argv[3]) : 2;
    const float spread = argc > 4 ? strtof(argv[4], NULL) : 8.5f;
    const bool rounded = argc > 5;
    struct comm *alone;
    struct data x[N_PEERS];
    const int64_t n_u = n_rows[HEAD_UNLABELLED];
    float *sum[2];
    assert_ok(comm_start_alone(&alone));
    make_rows(&x[0], 2048, 1, spread);
    make_rows(&x[1], 1536, 2, spread);
    for (int i = 0; i < 2; i++) {
        const double start_s = clock_now_s();
        sum[i] = memory_zeroed((size_t)(n_u * CLASSES), sizeof(float));
        for (int p = 0; i && rounded && p < N_PEERS; p++) round_rows(&x[p]);
        train(alone, x, i == 0 || rounded ? DTYPE_F32 : DTYPE_BF16, outer, inner, threads, sum[i]);
        int64_t right = 0;
        for (int64_t r = 0; r < n_u; r++)
            right += best(sum[i] + r * CLASSES) == true_class(HEAD_UNLABELLED, r);
        printf("%s: %d steps a peer after %d of initial training, %.1f s, %.2f %% right\n",
               i == 0    ? "fp32"
               : rounded ? "fp32 on rounded features"
                         : "bf16",
               outer * inner, inner, clock_now_s() - start_s, 100.0 * (double)right / (double)n_u);
        fflush(stdout);
    }
    int64_t same = 0;
    for (int64_t r = 0; r < n_u; r++) same += best(sum[0] + r * CLASSES) == best(sum[1] + r * CLASSES);
    printf("equal predictions: %lld of %lld rows, %.2f %%\n", (long long)same, (long long)n_u,
           100.0 * (double)same / (double)n_u);
    comm_finish(&alone);
    for (int i = 0; i < 2; i++) free(sum[i]);
    for (int p = 0; p < N_PEERS; p++)
        for (int i = 0; i < HEAD_N_INPUTS; i++) free(x[p].rows[i]);
    return 0;
}
