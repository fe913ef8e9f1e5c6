#include "models/ops/cuda/gemm_plan.h"

#include "common/log.h"
#include "common/memory.h"
#include "models/ops/cuda/rows.h"
#include "models/ops/cuda/timing.h"

#include <string.h>

enum { N_BUCKETS = 256, N_CANDIDATES = 8 };

/* What tells one plan from another. Compared as bytes: made from zeroed memory. */
struct gemm_key {
    int64_t m, n, k, lda, ldb, ldd;
    int32_t dtype, d_dtype, transpose_a, transpose_b, with_bias;
    uint32_t align[5]; /* of cuBLASLt's A, B, C, D and of the bias, bytes */
};

struct gemm_plan {
    struct gemm_key key;
    struct gemm_plan *next;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t layout[4]; /* cuBLASLt's A, B, C, D */
    cublasLtMatmulAlgo_t algo;
    bool refused; /* no algorithm with this epilogue: the bias is added by a kernel of ours */
};

struct gemm_plans {
    struct gemm_plan *bucket[N_BUCKETS];
    int64_t n_plans, n_raced, n_changed; /* changed: a race was not won by the first */
};

static status_t lt_check(cublasStatus_t lt, const char *what) {
    CHECK(lt == CUBLAS_STATUS_SUCCESS, STATUS_INTERNAL, "GPU: %s failed: %s", what,
          cublasLtGetStatusString(lt));
    return STATUS_OK;
}
#define TRY_LT(call) TRY(lt_check((call), #call))

/* ---- keys ---- */

/* The largest power of two up to 256 that divides the address. */
static uint32_t alignment_of(const void *p) {
    const uintptr_t low = (uintptr_t)p & (~(uintptr_t)p + 1);
    return low == 0 || low > 256 ? 256 : (uint32_t)low;
}

static void key_of(const struct gemm_call *g, struct gemm_key *key) {
    memset(key, 0, sizeof *key);
    key->m = g->m, key->n = g->n, key->k = g->k;
    key->lda = g->lda, key->ldb = g->ldb, key->ldd = g->ldd;
    key->dtype = g->dtype, key->d_dtype = g->d_dtype;
    key->transpose_a = g->transpose_a, key->transpose_b = g->transpose_b;
    key->with_bias = g->bias != NULL;
    const void *const operands[5] = {g->b, g->a, g->c ? g->c : g->d, g->d, g->bias};
    for (int i = 0; i < 5; i++) key->align[i] = alignment_of(operands[i]);
}

static unsigned bucket_of(const struct gemm_key *key) {
    const unsigned char *bytes = (const unsigned char *)key;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof *key; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return (unsigned)(hash >> 32) % N_BUCKETS;
}

/* ---- making a plan ---- */

/* Row-major D = op(A) op(B) is column-major D^T = op(B)^T op(A)^T over the same memory: cuBLASLt's A is our
 * B, its rows are our columns, and what is stored transposed for us is "T" for it. */
static status_t make_descriptors(struct gemm_plan *plan, const struct gemm_call *g) {
    const cudaDataType in = g->dtype == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
    const cudaDataType out = g->d_dtype == DTYPE_F32 ? CUDA_R_32F : CUDA_R_16BF;
    const int32_t ta = g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                  tb = g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    const uint32_t epilogue = g->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    const uint64_t m = (uint64_t)g->n, n = (uint64_t)g->m, k = (uint64_t)g->k;
    TRY_LT(cublasLtMatmulDescCreate(&plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    TRY_LT(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
    TRY_LT(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
    TRY_LT(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                          sizeof epilogue));
    TRY_LT(cublasLtMatrixLayoutCreate(&plan->layout[0], in, g->transpose_b ? k : m, g->transpose_b ? m : k,
                                      g->ldb));
    TRY_LT(cublasLtMatrixLayoutCreate(&plan->layout[1], in, g->transpose_a ? n : k, g->transpose_a ? k : n,
                                      g->lda));
    TRY_LT(cublasLtMatrixLayoutCreate(&plan->layout[2], out, m, n, g->ldd));
    TRY_LT(cublasLtMatrixLayoutCreate(&plan->layout[3], out, m, n, g->ldd));
    return STATUS_OK;
}

static status_t set_bias(const struct gemm_plan *plan, const void *bias) {
    TRY_LT(cublasLtMatmulDescSetAttribute(plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
    return STATUS_OK;
}

static status_t ask_heuristic(struct backend *be, const struct gemm_plan *plan,
                              cublasLtMatmulHeuristicResult_t found[N_CANDIDATES], int *n_found) {
    static const cublasLtMatmulPreferenceAttributes_t align[4] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint64_t workspace = GEMM_WORKSPACE;
    cublasLtMatmulPreference_t p;
    TRY_LT(cublasLtMatmulPreferenceCreate(&p));
    cublasStatus_t lt = cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                             &workspace, sizeof workspace);
    for (int i = 0; i < 4 && lt == CUBLAS_STATUS_SUCCESS; i++)
        lt =
            cublasLtMatmulPreferenceSetAttribute(p, align[i], &plan->key.align[i], sizeof plan->key.align[i]);
    *n_found = 0;
    if (lt == CUBLAS_STATUS_SUCCESS) {
        lt =
            cublasLtMatmulAlgoGetHeuristic(be->lt, plan->desc, plan->layout[0], plan->layout[1],
                                           plan->layout[2], plan->layout[3], p, N_CANDIDATES, found, n_found);
        if (lt == CUBLAS_STATUS_NOT_SUPPORTED) lt = CUBLAS_STATUS_SUCCESS, *n_found = 0;
    }
    cublasLtMatmulPreferenceDestroy(p);
    return lt_check(lt, "cublasLtMatmulAlgoGetHeuristic");
}

static status_t multiply(struct backend *be, const struct gemm_plan *plan, const struct gemm_call *g, void *d,
                         const cublasLtMatmulAlgo_t *algo) {
    const void *c = g->c ? g->c : g->d;
    TRY_LT(cublasLtMatmul(be->lt, plan->desc, &g->alpha, g->b, plan->layout[0], g->a, plan->layout[1],
                          &g->beta, c, plan->layout[2], d, plan->layout[3], algo, be->gemm_workspace,
                          GEMM_WORKSPACE, be->stream));
    return STATUS_OK;
}

/* A product to time, into a result that is thrown away. */
struct candidate {
    const struct gemm_plan *plan;
    const struct gemm_call *g;
    void *d;
    const cublasLtMatmulAlgo_t *algo;
};

static status_t enqueue_candidate(struct backend *be, void *context) {
    const struct candidate *c = context;
    return multiply(be, c->plan, c->g, c->d, c->algo);
}

static status_t race(struct backend *be, const struct gemm_plan *plan, const struct gemm_call *g,
                     const cublasLtMatmulHeuristicResult_t *found, int n_found, int *best) {
    struct candidate c = {.plan = plan, .g = g};
    float best_ms = 0.0f;
    status_t status = STATUS_OK;
    TRY_CUDA(cudaMalloc(&c.d, (size_t)(g->m * g->ldd) * dtype_bytes(g->d_dtype)));
    for (int i = 0; i < n_found; i++) {
        float ms;
        c.algo = &found[i].algo;
        TRY_TO(end, device_time(be, enqueue_candidate, &c, &ms));
        if (i == 0 || ms < best_ms) *best = i, best_ms = ms;
    }
    be->plans->n_raced++;
    be->plans->n_changed += *best > 0;
    log_local(LOG_DEBUG, "GPU: product %lldx%lldx%lld: algorithm %d of %d, %.3f ms", (long long)g->m,
              (long long)g->n, (long long)g->k, *best + 1, n_found, (double)best_ms);
end:
    cudaFree(c.d);
    return status;
}

static status_t choose_algorithm(struct backend *be, struct gemm_plan *plan, const struct gemm_call *g) {
    cublasLtMatmulHeuristicResult_t found[N_CANDIDATES];
    int n_found, best = 0;
    if (g->bias) TRY(set_bias(plan, g->bias));
    TRY(ask_heuristic(be, plan, found, &n_found));
    plan->refused = n_found == 0 && g->bias;
    if (plan->refused) return STATUS_OK;
    CHECK(n_found > 0, STATUS_INTERNAL, "GPU: cuBLASLt has no algorithm for a product of %lldx%lldx%lld",
          (long long)g->m, (long long)g->n, (long long)g->k);
    if (be->autotune && n_found > 1)
        TRY(race(be, plan, g, found, n_found, &best));
    else
        log_local(LOG_DEBUG,
                  "GPU: product %lldx%lldx%lld: the first of %d algorithms, %.1f MiB of work space",
                  (long long)g->m, (long long)g->n, (long long)g->k, n_found,
                  (double)found[0].workspaceSize / (1 << 20));
    plan->algo = found[best].algo;
    return STATUS_OK;
}

static void plan_free(struct gemm_plan *plan) {
    for (int i = 0; i < 4; i++)
        if (plan->layout[i]) cublasLtMatrixLayoutDestroy(plan->layout[i]);
    if (plan->desc) cublasLtMatmulDescDestroy(plan->desc);
    free(plan);
}

/* The plan of this call, made if it is the first of its kind. */
static status_t plan_of(struct backend *be, const struct gemm_call *g, struct gemm_plan **out) {
    struct gemm_key key;
    key_of(g, &key);
    if (!be->plans) be->plans = memory_zeroed(1, sizeof *be->plans);
    CHECK(be->plans, STATUS_NO_MEMORY, "out of memory for plans of matrix products");
    struct gemm_plan **bucket = &be->plans->bucket[bucket_of(&key)];
    for (struct gemm_plan *p = *bucket; p; p = p->next) {
        if (memcmp(&p->key, &key, sizeof key) == 0) {
            *out = p;
            return STATUS_OK;
        }
    }
    struct gemm_plan *plan = memory_zeroed(1, sizeof *plan);
    CHECK(plan, STATUS_NO_MEMORY, "out of memory for a plan of a matrix product");
    plan->key = key;
    status_t status = make_descriptors(plan, g);
    if (status == STATUS_OK) status = choose_algorithm(be, plan, g);
    if (status != STATUS_OK) {
        plan_free(plan);
        return status;
    }
    plan->next = *bucket;
    *bucket = plan;
    be->plans->n_plans++;
    *out = plan;
    return STATUS_OK;
}

/* ---- running ---- */

static status_t run_plan(struct backend *be, const struct gemm_call *g, struct gemm_plan *plan) {
    if (g->bias) TRY(set_bias(plan, g->bias));
    return multiply(be, plan, g, g->d, &plan->algo);
}

status_t gemm_planned(struct backend *be, const struct gemm_call *g) {
    struct gemm_plan *plan;
    TRY(plan_of(be, g, &plan));
    if (!plan->refused) return run_plan(be, g, plan);
    struct gemm_call plain = *g;
    plain.bias = NULL;
    TRY(gemm_planned(be, &plain));
    return rows_add_bias(be, g->d_dtype, g->d, g->ldd, g->m, g->n, g->bias);
}

int64_t gemm_plans_made(const struct backend *be) {
    return be->plans ? be->plans->n_plans : 0;
}

int64_t gemm_plans_raced(const struct backend *be, int64_t *n_raced) {
    *n_raced = be->plans ? be->plans->n_raced : 0;
    return be->plans ? be->plans->n_changed : 0;
}

void gemm_plans_free(struct gemm_plans *plans) {
    if (!plans) return;
    for (int i = 0; i < N_BUCKETS; i++) {
        for (struct gemm_plan *p = plans->bucket[i]; p;) {
            struct gemm_plan *next = p->next;
            plan_free(p);
            p = next;
        }
    }
    free(plans);
}
