/* cublaslt_cpu.cpp - a stand-in for libcublasLt on the CPU. For tests.
 *
 * Matrix products over OpenBLAS in fp32, run on the stream (late, as cudart_cpu.cpp orders it) with the toolkit's own
 * header. It does what the real library is asked for here and refuses everything else, and refuses what the real
 * one refuses: leading dimensions too small, combinations of types outside its table, vectors of an epilogue that are
 * missing, the GELU matrix without a leading dimension that is a multiple of 8, algorithms used with other
 * descriptors, less aligned pointers or less workspace than they were chosen for. Two refusals are harder than the
 * real ones, so that callers' ways out are exercised: a bias epilogue on 16-bit results whose rows are no multiple of
 * 8, and work space of the second algorithm is overwritten with NaN.
 */
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
cudaError_t coc_submit(cudaStream_t stream, void *job, void (*run)(void *), void (*free)(void *));
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b,
                 int ldb, float beta, float *c, int ldc);
}

struct cublasLtContext {
    uint64_t alive;
};

namespace {
enum { BLAS_COLUMN_MAJOR = 102, BLAS_N = 111, BLAS_T = 112 };
const uint64_t ALIVE = 0x6c74616c697665;
enum { ALGO_WORKSPACE = 1 << 16 };

struct Desc { /* behind cublasLtMatmulDesc_t */
    cublasComputeType_t compute;
    cudaDataType_t scale;
    int32_t ta = CUBLAS_OP_N, tb = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void *bias = nullptr, *aux = nullptr;
    int64_t aux_ld = 0;
    int32_t sm_target = 0;
};
struct Layout {
    cudaDataType_t type;
    uint64_t rows, cols;
    int64_t ld;
};
struct Preference {
    uint64_t workspace = 0;
    uint32_t align[4] = {256, 256, 256, 256};
};
struct Algo { /* inside cublasLtMatmulAlgo_t */
    uint64_t key;
    uint64_t workspace;
    uint32_t align[4], bias_align, aux_align;
};
static_assert(sizeof(Algo) <= sizeof(cublasLtMatmulAlgo_t), "room of an algorithm");

bool complain(const char *why) {
    fprintf(stderr, "cublaslt_cpu: %s\n", why);
    return false;
}
size_t width(cudaDataType_t t) {
    return t == CUDA_R_32F ? 4 : 2;
}
uint32_t alignment(const void *p) {
    const uintptr_t a = (uintptr_t)p;
    return a == 0 ? 256 : (uint32_t)(a & -a) < 256 ? (uint32_t)(a & -a) : 256;
}
bool has(uint32_t epilogue, uint32_t bits) {
    return (epilogue & bits) == bits;
}
bool known_epilogue(uint32_t e) {
    switch (e) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB: return true;
    default: return false;
    }
}
bool with_vector(uint32_t e) {
    return e != CUBLASLT_EPILOGUE_DEFAULT && e != CUBLASLT_EPILOGUE_DGELU;
}
bool with_aux(uint32_t e) {
    return has(e, 128);
}

uint64_t fold(uint64_t h, uint64_t v) {
    return (h ^ v) * 0x100000001b3u;
}
/* Everything an algorithm was chosen for, without pointers. */
uint64_t key_of(const Desc &d, const Layout *const l[4]) {
    uint64_t h = 0xcbf29ce484222325u;
    const uint64_t v[] = {(uint64_t)d.compute, (uint64_t)d.scale, (uint64_t)d.ta, (uint64_t)d.tb, d.epilogue,
                          (uint64_t)d.aux_ld, (uint64_t)d.sm_target};
    for (uint64_t x : v) h = fold(h, x);
    for (int i = 0; i < 4; i++)
        for (uint64_t x : {(uint64_t)l[i]->type, l[i]->rows, l[i]->cols, (uint64_t)l[i]->ld}) h = fold(h, x);
    return h;
}

/* CUBLAS_STATUS_NOT_SUPPORTED or _INVALID_VALUE for what the real library does not take. */
cublasStatus_t judge(const Desc &d, const Layout *const l[4]) {
    const Layout &a = *l[0], &b = *l[1], &c = *l[2], &r = *l[3];
    for (int i = 0; i < 4; i++)
        if (l[i]->rows == 0 || l[i]->cols == 0 || l[i]->ld < (int64_t)l[i]->rows)
            return complain("a leading dimension is smaller than the rows (column-major), or a matrix is empty"),
                   CUBLAS_STATUS_INVALID_VALUE;
    const uint64_t m = d.ta == CUBLAS_OP_N ? a.rows : a.cols, k = d.ta == CUBLAS_OP_N ? a.cols : a.rows;
    const uint64_t kb = d.tb == CUBLAS_OP_N ? b.rows : b.cols, n = d.tb == CUBLAS_OP_N ? b.cols : b.rows;
    if (k != kb || m != r.rows || n != r.cols || c.rows != r.rows || c.cols != r.cols)
        return complain("the matrices' shapes do not fit together"), CUBLAS_STATUS_INVALID_VALUE;
    const bool single = a.type == CUDA_R_32F && b.type == CUDA_R_32F && r.type == CUDA_R_32F;
    const bool half = a.type == CUDA_R_16BF && b.type == CUDA_R_16BF && (r.type == CUDA_R_16BF || r.type == CUDA_R_32F);
    const bool tf32 = d.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    if (!(single || half) || c.type != r.type || d.scale != CUDA_R_32F ||
        !(d.compute == CUBLAS_COMPUTE_32F || (tf32 && single)))
        return complain("a combination of types that the library does not have"), CUBLAS_STATUS_NOT_SUPPORTED;
    if (!known_epilogue(d.epilogue)) return complain("an epilogue unknown here"), CUBLAS_STATUS_NOT_SUPPORTED;
    if (with_vector(d.epilogue) && !d.bias)
        return complain("an epilogue without its vector"), CUBLAS_STATUS_INVALID_VALUE;
    if (with_aux(d.epilogue) && (!d.aux || d.aux_ld < (int64_t)r.rows || d.aux_ld % 8))
        return complain("GELU's matrix: pointer, or leading dimension (multiple of 8, >= rows) missing"),
               CUBLAS_STATUS_INVALID_VALUE;
    if (d.epilogue != CUBLASLT_EPILOGUE_DEFAULT && width(r.type) == 2 && r.rows % 8) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- the product itself, on the stream ---- */
struct Job {
    Desc d;
    Layout l[4];
    const void *a, *b, *c;
    void *out, *workspace;
    size_t workspace_bytes;
    float alpha, beta;
};

float at(cudaDataType_t t, const void *p, size_t i) {
    if (t == CUDA_R_32F) return ((const float *)p)[i];
    return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
}
void put(cudaDataType_t t, void *p, size_t i, float v) {
    if (t == CUDA_R_32F) ((float *)p)[i] = v;
    else ((__nv_bfloat16 *)p)[i] = __float2bfloat16_rn(v);
}
std::vector<float> widen(const Layout &l, const void *p) {
    std::vector<float> f(l.rows * l.cols);
    for (size_t j = 0; j < l.cols; j++)
        for (size_t i = 0; i < l.rows; i++) f[j * l.rows + i] = at(l.type, p, j * (size_t)l.ld + i);
    return f;
}
/* The library's GELU is the tanh form. */
const float ROOT = 0.7978845608f, CUBE = 0.044715f;
float gelu(float x) {
    return 0.5f * x * (1 + tanhf(ROOT * (x + CUBE * x * x * x)));
}
float gelu_slope(float x) {
    const float t = tanhf(ROOT * (x + CUBE * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * ROOT * (1 + 3 * CUBE * x * x);
}
float epilogue(const Job &j, size_t row, size_t column, float v) {
    const Layout &r = j.l[3];
    const uint32_t e = j.d.epilogue;
    const size_t aux_at = column * (size_t)j.d.aux_ld + row;
    if (has(e, CUBLASLT_EPILOGUE_BIAS)) v += at(r.type, j.d.bias, row);
    if (has(e, CUBLASLT_EPILOGUE_GELU)) {
        if (with_aux(e)) put(r.type, j.d.aux, aux_at, v);
        return gelu(v);
    }
    return has(e, CUBLASLT_EPILOGUE_DGELU) ? v * gelu_slope(at(r.type, j.d.aux, aux_at)) : v;
}
void bias_gradient(const Job &j, const std::vector<float> &a, const std::vector<float> &b, const std::vector<float> &z) {
    const Layout &r = j.l[3];
    const uint32_t e = j.d.epilogue;
    const bool of_b = e == CUBLASLT_EPILOGUE_BGRADB, of_a = e == CUBLASLT_EPILOGUE_BGRADA;
    const Layout &s = of_a ? j.l[0] : j.l[1];
    const bool along_columns = of_a ? j.d.ta == CUBLAS_OP_N : j.d.tb != CUBLAS_OP_N; /* k runs over columns */
    const std::vector<float> &f = of_a ? a : b;
    for (size_t i = 0; i < (of_b ? r.cols : r.rows); i++) {
        double sum = 0;
        if (of_a || of_b) {
            for (size_t k = 0; k < (along_columns ? s.cols : s.rows); k++)
                sum += along_columns ? f[k * s.rows + i] : f[i * s.rows + k];
        } else {
            for (size_t c = 0; c < r.cols; c++) sum += z[c * r.rows + i];
        }
        put(r.type, j.d.bias, i, (float)sum);
    }
}
void run(void *p) {
    const Job &j = *(const Job *)p;
    const Layout &r = j.l[3];
    const std::vector<float> a = widen(j.l[0], j.a), b = widen(j.l[1], j.b);
    std::vector<float> z(r.rows * r.cols);
    const int k = (int)(j.d.ta == CUBLAS_OP_N ? j.l[0].cols : j.l[0].rows);
    cblas_sgemm(BLAS_COLUMN_MAJOR, j.d.ta == CUBLAS_OP_N ? BLAS_N : BLAS_T, j.d.tb == CUBLAS_OP_N ? BLAS_N : BLAS_T,
                (int)r.rows, (int)r.cols, k, j.alpha, a.data(), (int)j.l[0].rows, b.data(), (int)j.l[1].rows, 0.0f,
                z.data(), (int)r.rows);
    if (j.workspace) memset(j.workspace, 0xff, j.workspace_bytes);
    for (size_t c = 0; c < r.cols; c++)
        for (size_t i = 0; i < r.rows; i++) {
            float &v = z[c * r.rows + i];
            if (j.beta != 0) v += j.beta * at(j.l[2].type, j.c, c * (size_t)j.l[2].ld + i);
            v = epilogue(j, i, c, v);
            put(r.type, j.out, c * (size_t)r.ld + i, v);
        }
    const uint32_t e = j.d.epilogue;
    if (e == CUBLASLT_EPILOGUE_DGELU_BGRAD || e == CUBLASLT_EPILOGUE_BGRADA || e == CUBLASLT_EPILOGUE_BGRADB)
        bias_gradient(j, a, b, z);
}

template <class T> cublasStatus_t set(T &field, const void *buf, size_t n) {
    if (!buf || n != sizeof field) return complain("an attribute of another size"), CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&field, buf, n);
    return CUBLAS_STATUS_SUCCESS;
}
} // namespace

extern "C" {
cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    *handle = new cublasLtContext{ALIVE};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    if (!handle || handle->alive != ALIVE) return CUBLAS_STATUS_NOT_INITIALIZED;
    handle->alive = 0;
    delete handle;
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion(void) {
    return CUBLAS_VERSION;
}
const char *cublasLtGetStatusString(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "not supported (stand-in)";
    case CUBLAS_STATUS_INVALID_VALUE: return "invalid value (stand-in)";
    default: return "an error of the stand-in";
    }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale) {
    Desc *mine = new Desc;
    mine->compute = compute;
    mine->scale = scale;
    *d = (cublasLtMatmulDesc_t)mine;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) {
    delete (Desc *)d;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t p, cublasLtMatmulDescAttributes_t what,
                                              const void *buf, size_t n) {
    Desc &d = *(Desc *)p;
    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(d.ta, buf, n);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(d.tb, buf, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(d.epilogue, buf, n);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(d.bias, buf, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: return set(d.aux, buf, n);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: return set(d.aux_ld, buf, n);
    case CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET: return set(d.sm_target, buf, n);
    default: return complain("an attribute unknown here"), CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld) {
    *l = (cublasLtMatrixLayout_t) new Layout{type, rows, cols, ld};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l) {
    delete (Layout *)l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p) {
    *p = (cublasLtMatmulPreference_t) new Preference;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p) {
    delete (Preference *)p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *buf,
                                                    size_t n) {
    Preference &mine = *(Preference *)p;
    switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(mine.workspace, buf, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(mine.align[0], buf, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(mine.align[1], buf, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(mine.align[2], buf, n);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(mine.align[3], buf, n);
    default: return complain("a preference unknown here"), CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

/* Two algorithms where the work space allows the first. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *n_results) {
    if (!handle || handle->alive != ALIVE) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Desc &m = *(const Desc *)desc;
    const Preference &p = *(const Preference *)preference;
    const Layout *const l[4] = {(Layout *)a, (Layout *)b, (Layout *)c, (Layout *)d};
    *n_results = 0;
    const cublasStatus_t status = judge(m, l);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    const uint64_t sizes[2] = {ALGO_WORKSPACE, 0};
    for (uint64_t workspace : sizes) {
        if (*n_results == wanted || workspace > p.workspace) continue;
        cublasLtMatmulHeuristicResult_t &r = results[(*n_results)++];
        Algo algo = {key_of(m, l), workspace, {}, alignment(m.bias), alignment(m.aux)};
        memcpy(algo.align, p.align, sizeof algo.align);
        memset(&r, 0, sizeof r);
        memcpy(&r.algo, &algo, sizeof algo);
        r.workspaceSize = workspace;
        r.state = CUBLAS_STATUS_SUCCESS;
        r.wavesCount = 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
    if (!handle || handle->alive != ALIVE) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Desc &m = *(const Desc *)desc;
    const Layout *const l[4] = {(Layout *)a, (Layout *)b, (Layout *)c, (Layout *)d};
    const cublasStatus_t status = judge(m, l);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (!algo) return complain("no algorithm given: the real library would ask its heuristic"), CUBLAS_STATUS_INVALID_VALUE;
    Algo chosen;
    memcpy(&chosen, algo, sizeof chosen);
    if (chosen.key != key_of(m, l))
        return complain("an algorithm chosen for other descriptors"), CUBLAS_STATUS_INVALID_VALUE;
    if (chosen.workspace > workspace_bytes || (chosen.workspace > 0 && (!workspace || alignment(workspace) < 16)))
        return complain("too little work space, or not aligned to 16"), CUBLAS_STATUS_INVALID_VALUE;
    const void *const p[4] = {A, B, C, D};
    for (int i = 0; i < 4; i++)
        if (!p[i] || alignment(p[i]) < chosen.align[i] || alignment(p[i]) < width(l[i]->type))
            return complain("a matrix is missing, or less aligned than the algorithm was chosen for"),
                   CUBLAS_STATUS_INVALID_VALUE;
    if ((with_vector(m.epilogue) && alignment(m.bias) < chosen.bias_align) ||
        (with_aux(m.epilogue) && alignment(m.aux) < chosen.aux_align))
        return complain("an epilogue's vector or matrix is less aligned than when asked"), CUBLAS_STATUS_INVALID_VALUE;
    if (C == D && l[2]->ld != l[3]->ld) return complain("C in place of D with another leading dimension"), CUBLAS_STATUS_INVALID_VALUE;
    Job *job = new Job{m, {*l[0], *l[1], *l[2], *l[3]}, A, B, C, D, workspace, (size_t)chosen.workspace,
                       *(const float *)alpha, *(const float *)beta};
    return coc_submit(stream, job, run, [](void *q) { delete (Job *)q; }) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                                       : CUBLAS_STATUS_EXECUTION_FAILED;
}
}
