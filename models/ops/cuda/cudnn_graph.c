#include "models/ops/cuda/cudnn_graph.h"

#include "common/memory.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __has_include(<cudnn_graph.h>)
#include <cudnn_graph.h>

typedef cudnnBackendDescriptor_t descriptor;
enum { MAX_ENGINES = 64, UID_X = 'x', UID_W = 'w', UID_Y = 'y' };

/* The functions used; named as in the library. */
#define CUDNN_FUNCTIONS(X)                                                                                   \
    X(cudnnGetVersion)                                                                                       \
    X(cudnnGetErrorString)                                                                                   \
    X(cudnnGetLastErrorString)                                                                               \
    X(cudnnCreate)                                                                                           \
    X(cudnnDestroy)                                                                                          \
    X(cudnnSetStream)                                                                                        \
    X(cudnnBackendCreateDescriptor)                                                                          \
    X(cudnnBackendDestroyDescriptor)                                                                         \
    X(cudnnBackendSetAttribute)                                                                              \
    X(cudnnBackendGetAttribute)                                                                              \
    X(cudnnBackendFinalize)                                                                                  \
    X(cudnnBackendExecute)

struct cudnn {
    void *library;
    cudnnHandle_t handle; /* NULL: plans only */
    descriptor device;    /* NULL with a handle */
#define X(name) __typeof__(&(name)) name;
    CUDNN_FUNCTIONS(X)
#undef X
};

struct cudnn_plan {
    descriptor plan;
    int64_t workspace, engine;
};

/* Descriptors of one graph while it is built, freed together. */
struct build {
    struct cudnn *lib;
    descriptor all[16];
    int n;
};

static status_t check(const struct cudnn *lib, cudnnStatus_t s, const char *what) {
    char text[512] = "";
    if (s == CUDNN_STATUS_SUCCESS) return STATUS_OK;
    lib->cudnnGetLastErrorString(text, sizeof text);
    return FAIL(STATUS_INTERNAL, "cuDNN: %s: %s: %.300s", what, lib->cudnnGetErrorString(s), text);
}
#define TRY_DNN(lib, call) TRY(check((lib), (lib)->call, #call))

/* ---- opening ---- */

static status_t open_library(const char *name, void **library) {
    const char *home = getenv("CUDNN_HOME"), *const folders[] = {"lib", "lib64"};
    CHECK(*name, STATUS_MISSING, "no cuDNN in this build");
    *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    for (int i = 0; i < 2 && !*library && home; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s/%s", home, folders[i], name);
        *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    CHECK(*library, STATUS_MISSING, "cuDNN cannot be opened: %.300s (CUDNN_HOME says where it is)",
          dlerror());
    return STATUS_OK;
}

static status_t find_functions(struct cudnn *lib) {
#define X(name)                                                                                              \
    *(void **)&lib->name = dlsym(lib->library, #name);                                                       \
    CHECK(lib->name, STATUS_MISSING, "cuDNN: this library has no " #name ", version 9 is needed");
    CUDNN_FUNCTIONS(X)
#undef X
    return STATUS_OK;
}

static status_t describe_device(struct cudnn *lib, const char *json) {
    TRY_DNN(lib, cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &lib->device));
    TRY_DNN(lib, cudnnBackendSetAttribute(lib->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                          CUDNN_TYPE_CHAR, (int64_t)strlen(json), json));
    TRY_DNN(lib, cudnnBackendFinalize(lib->device));
    return STATUS_OK;
}

static status_t open_all(struct cudnn *lib, const char *name, void *stream, const char *device_json) {
    TRY(open_library(name, &lib->library));
    TRY(find_functions(lib));
    if (device_json) return describe_device(lib, device_json);
    TRY_DNN(lib, cudnnCreate(&lib->handle));
    TRY_DNN(lib, cudnnSetStream(lib->handle, stream));
    return STATUS_OK;
}

status_t cudnn_open(const char *name, void *stream, const char *device_json, struct cudnn **out) {
    struct cudnn *lib = memory_zeroed(1, sizeof *lib);
    CHECK(lib, STATUS_NO_MEMORY, "out of memory for cuDNN");
    const status_t status = open_all(lib, name, stream, device_json);
    if (status != STATUS_OK) {
        cudnn_close(lib);
        return status;
    }
    *out = lib;
    return STATUS_OK;
}

void cudnn_close(struct cudnn *lib) {
    if (!lib) return;
    if (lib->device) lib->cudnnBackendDestroyDescriptor(lib->device);
    if (lib->handle) lib->cudnnDestroy(lib->handle);
    if (lib->library) dlclose(lib->library);
    free(lib);
}

size_t cudnn_version(const struct cudnn *lib) {
    return lib->cudnnGetVersion();
}

/* ---- descriptors ---- */

static status_t create(struct build *g, cudnnBackendDescriptorType_t type, descriptor *out) {
    CHECK(g->n < (int)ARRAY_LENGTH(g->all), STATUS_INTERNAL, "cuDNN: a graph of too many descriptors");
    TRY_DNN(g->lib, cudnnBackendCreateDescriptor(type, out));
    g->all[g->n++] = *out;
    return STATUS_OK;
}

static void destroy(struct build *g) {
    for (int i = g->n - 1; i >= 0; i--) g->lib->cudnnBackendDestroyDescriptor(g->all[i]);
}

struct attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t n;
    const void *value;
};

static status_t set_all(struct cudnn *lib, descriptor d, const struct attribute *attributes, size_t n) {
    for (size_t i = 0; i < n; i++)
        TRY_DNN(lib, cudnnBackendSetAttribute(d, attributes[i].name, attributes[i].type, attributes[i].n,
                                              attributes[i].value));
    TRY_DNN(lib, cudnnBackendFinalize(d));
    return STATUS_OK;
}
#define SET_ALL(lib, d, ...)                                                                                 \
    set_all((lib), (d), (const struct attribute[]){__VA_ARGS__},                                             \
            sizeof((const struct attribute[]){__VA_ARGS__}) / sizeof(struct attribute))

/* Dimensions N C H W as cuDNN names them, memory N H W C. */
static status_t tensor(struct build *g, int64_t uid, enum dtype dtype, int64_t n, int64_t c, int64_t h,
                       int64_t w, descriptor *out) {
    const cudnnDataType_t type = dtype == DTYPE_F32 ? CUDNN_DATA_FLOAT : CUDNN_DATA_BFLOAT16;
    const int64_t dims[4] = {n, c, h, w}, strides[4] = {h * w * c, 1, w * c, c}, alignment = 16;
    TRY(create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    return SET_ALL(g->lib, *out, {CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type},
                   {CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims},
                   {CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides},
                   {CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid},
                   {CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &alignment});
}

static status_t convolution(struct build *g, const struct conv_shape *s, descriptor *out) {
    const int64_t two = 2, pad[2] = {s->pad, s->pad}, ones[2] = {1, 1}, stride[2] = {s->stride, s->stride};
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    TRY(create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, out));
    return SET_ALL(g->lib, *out, {CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two},
                   {CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute},
                   {CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode},
                   {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad},
                   {CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad},
                   {CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, ones},
                   {CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride});
}

/* Kind of the operation and names of its attributes: x, w, y, convolution, alpha, beta. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
} PASSES[] = {
    [CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CONV_DX] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                 CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CONV_DW] = {
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
        CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA}};

static status_t build_graph(struct build *g, const struct conv_shape *s, descriptor *out) {
    const int64_t ho = (s->h + 2 * s->pad - s->k) / s->stride + 1,
                  wo = (s->w + 2 * s->pad - s->k) / s->stride + 1;
    const float one = 1.0f, zero = 0.0f;
    descriptor x, w, y, conv, operation;
    TRY(tensor(g, UID_X, s->dtype, s->n, s->cin, s->h, s->w, &x));
    TRY(tensor(g, UID_W, s->dtype, s->cout, s->depthwise ? 1 : s->cin, s->k, s->k, &w));
    TRY(tensor(g, UID_Y, s->dtype, s->n, s->cout, ho, wo, &y));
    TRY(convolution(g, s, &conv));
    TRY(create(g, PASSES[s->pass].type, &operation));
    TRY(SET_ALL(g->lib, operation, {PASSES[s->pass].x, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &x},
                {PASSES[s->pass].w, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &w},
                {PASSES[s->pass].y, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &y},
                {PASSES[s->pass].convolution, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &conv},
                {PASSES[s->pass].alpha, CUDNN_TYPE_FLOAT, 1, &one},
                {PASSES[s->pass].beta, CUDNN_TYPE_FLOAT, 1, &zero}));
    TRY(create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, out));
    if (g->lib->handle)
        return SET_ALL(g->lib, *out,
                       {CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->lib->handle},
                       {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &operation});
    return SET_ALL(g->lib, *out,
                   {CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &operation});
}

/* ---- plans ---- */

static status_t ask(struct build *g, descriptor operations, descriptor *heuristic) {
    const cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    TRY(create(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, heuristic));
    const struct attribute graph = {CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                    &operations},
                           how = {CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode};
    if (!g->lib->device) return SET_ALL(g->lib, *heuristic, graph, how);
    return SET_ALL(g->lib, *heuristic, graph, how,
                   {CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &g->lib->device});
}

/* Number of the engine, and whether its results are the same bits in every run. */
static bool engine_of(struct cudnn *lib, descriptor config, int64_t *number) {
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    descriptor engine = NULL;
    int64_t n = 0, n_notes = 0;
    bool same = false;
    if (lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS)
        return false;
    if (lib->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &n, &engine) == CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n,
                                      number) == CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                      CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n_notes,
                                      notes) == CUDNN_STATUS_SUCCESS) {
        same = true;
        for (int64_t i = 0; i < n_notes; i++)
            same = same && notes[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    }
    lib->cudnnBackendDestroyDescriptor(engine);
    return same;
}

/* The plan of an engine; NULL where the engine turns out not to do it, or wants more work space. */
static struct cudnn_plan *finalise(struct cudnn *lib, descriptor config, size_t workspace_max) {
    const cudnnBackendAttributeName_t where =
        lib->device ? CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP : CUDNN_ATTR_EXECUTION_PLAN_HANDLE;
    const void *device = lib->device ? (const void *)&lib->device : (const void *)&lib->handle;
    struct cudnn_plan *plan = memory_zeroed(1, sizeof *plan);
    int64_t n;
    if (!plan) return NULL;
    if (engine_of(lib, config, &plan->engine) &&
        lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan->plan) ==
            CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendSetAttribute(plan->plan, where,
                                      lib->device ? CUDNN_TYPE_BACKEND_DESCRIPTOR : CUDNN_TYPE_HANDLE, 1,
                                      device) == CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendSetAttribute(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config) == CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendFinalize(plan->plan) == CUDNN_STATUS_SUCCESS &&
        lib->cudnnBackendGetAttribute(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64,
                                      1, &n, &plan->workspace) == CUDNN_STATUS_SUCCESS &&
        (uint64_t)plan->workspace <= workspace_max)
        return plan;
    cudnn_plan_free(lib, plan);
    return NULL;
}

static status_t collect(struct build *g, descriptor heuristic, size_t workspace_max, int n_max,
                        struct cudnn_plan **plans, int *n) {
    struct cudnn *lib = g->lib;
    descriptor config[MAX_ENGINES] = {NULL};
    int64_t got = 0;
    int created = 0;
    cudnnStatus_t s = CUDNN_STATUS_SUCCESS;
    while (created < MAX_ENGINES && s == CUDNN_STATUS_SUCCESS) {
        s = lib->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[created]);
        created += s == CUDNN_STATUS_SUCCESS;
    }
    if (s == CUDNN_STATUS_SUCCESS)
        s = lib->cudnnBackendGetAttribute(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_ENGINES, &got, config);
    for (int64_t i = 0; i < got && i < MAX_ENGINES && s == CUDNN_STATUS_SUCCESS && *n < n_max; i++) {
        plans[*n] = finalise(lib, config[i], workspace_max);
        *n += plans[*n] != NULL;
    }
    for (int i = 0; i < created; i++) lib->cudnnBackendDestroyDescriptor(config[i]);
    return check(lib, s, "engines of a convolution");
}

status_t cudnn_plans(struct cudnn *lib, const struct conv_shape *shape, size_t workspace_max, int n_max,
                     struct cudnn_plan **plans, int *n) {
    struct build g = {.lib = lib};
    descriptor operations, heuristic;
    *n = 0;
    status_t status = build_graph(&g, shape, &operations);
    if (status == STATUS_OK) status = ask(&g, operations, &heuristic);
    if (status == STATUS_OK) status = collect(&g, heuristic, workspace_max, n_max, plans, n);
    destroy(&g);
    return status;
}

void cudnn_plan_free(struct cudnn *lib, struct cudnn_plan *plan) {
    if (!plan) return;
    if (plan->plan) lib->cudnnBackendDestroyDescriptor(plan->plan);
    free(plan);
}

size_t cudnn_plan_workspace(const struct cudnn_plan *plan) {
    return (size_t)plan->workspace;
}
int64_t cudnn_plan_engine(const struct cudnn_plan *plan) {
    return plan->engine;
}

status_t cudnn_plan_run(struct cudnn *lib, const struct cudnn_plan *plan, const void *x, const void *w,
                        const void *y, void *workspace) {
    const int64_t uids[3] = {UID_X, UID_W, UID_Y};
    const void *pointers[3] = {x, w, y};
    struct build g = {.lib = lib};
    descriptor pack;
    status_t status = create(&g, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status == STATUS_OK)
        status = SET_ALL(lib, pack, {CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uids},
                         {CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, pointers},
                         {CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace});
    if (status == STATUS_OK)
        status = check(lib, lib->cudnnBackendExecute(lib->handle, plan->plan, pack), "a convolution");
    destroy(&g);
    return status;
}

#else /* built without cuDNN's headers */

status_t cudnn_open(const char *name, void *stream, const char *device_json, struct cudnn **out) {
    (void)name, (void)stream, (void)device_json, (void)out;
    return FAIL(STATUS_MISSING, "built without cuDNN's headers (CUDNN_HOME)");
}
void cudnn_close(struct cudnn *lib) {
    (void)lib;
}
size_t cudnn_version(const struct cudnn *lib) {
    (void)lib;
    return 0;
}
status_t cudnn_plans(struct cudnn *lib, const struct conv_shape *shape, size_t workspace_max, int n_max,
                     struct cudnn_plan **plans, int *n) {
    (void)lib, (void)shape, (void)workspace_max, (void)n_max, (void)plans;
    *n = 0;
    return STATUS_OK;
}
void cudnn_plan_free(struct cudnn *lib, struct cudnn_plan *plan) {
    (void)lib, (void)plan;
}
size_t cudnn_plan_workspace(const struct cudnn_plan *plan) {
    (void)plan;
    return 0;
}
int64_t cudnn_plan_engine(const struct cudnn_plan *plan) {
    (void)plan;
    return -1;
}
status_t cudnn_plan_run(struct cudnn *lib, const struct cudnn_plan *plan, const void *x, const void *w,
                        const void *y, void *workspace) {
    (void)lib, (void)plan, (void)x, (void)w, (void)y, (void)workspace;
    return FAIL(STATUS_INTERNAL, "built without cuDNN");
}
#endif
