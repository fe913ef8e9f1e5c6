#include "launcher/version.h"

#include "common/simd.h"

#include <dlfcn.h>
#include <dnnl.h>
#include <hdf5.h>
#include <hwloc.h>
#include <jansson.h>
#include <stddef.h>
#include <jpeglib.h>
#include <omp.h>
#include <png.h>
#include <string.h>
#include <xxhash.h>
#include <yaml.h>
#ifdef HAVE_WEBP
#include <webp/decode.h>
#endif

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

char *openblas_get_config(void);

void version_print(FILE *out) {
    fprintf(out, "marrs_dist %s\nBSD 3-Clause licence. There is no warranty.\n", MARRS_VERSION);
}

struct list {
    struct version_library *items; /* [VERSION_MAX_LIBRARIES] */
    int n;
};

/* One entry: name, built, loaded, file that holds `symbol`. */
static void add(struct list *list, const char *name, const char *built, const char *loaded, void *symbol) {
    Dl_info info;
    if (list->n == VERSION_MAX_LIBRARIES) return;
    struct version_library *library = &list->items[list->n++];
    const char *file = symbol && dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : "-";
    snprintf(library->name, sizeof library->name, "%s", name);
    snprintf(library->built, sizeof library->built, "%s", built);
    snprintf(library->loaded, sizeof library->loaded, "%s", loaded);
    snprintf(library->file, sizeof library->file, "%s", file);
}

static const char *join(char *text, size_t n_bytes, unsigned a, unsigned b, unsigned c) {
    snprintf(text, n_bytes, "%u.%u.%u", a, b, c);
    return text;
}

static void add_storage(struct list *list) {
    char built[32], loaded[32];
    unsigned a = 0, b = 0, c = 0;
    H5get_libversion(&a, &b, &c);
    add(list, "HDF5", join(built, sizeof built, H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE),
        join(loaded, sizeof loaded, a, b, c), (void *)H5get_libversion);
    add(list, "libyaml", "-", yaml_get_version_string(), (void *)yaml_get_version_string);
    add(list, "jansson", JANSSON_VERSION, jansson_version_str(), (void *)jansson_version_str);
    add(list, "libjpeg-turbo", TEXT(LIBJPEG_TURBO_VERSION), "-", (void *)jpeg_std_error);
    add(list, "libpng", PNG_LIBPNG_VER_STRING, png_get_libpng_ver(NULL), (void *)png_get_libpng_ver);
#ifdef HAVE_WEBP
    const int webp = WebPGetDecoderVersion();
    add(list, "libwebp", "-",
        join(loaded, sizeof loaded, (unsigned)webp >> 16, (unsigned)webp >> 8 & 255, (unsigned)webp & 255),
        (void *)WebPGetDecoderVersion);
#else
    add(list, "libwebp", "not built in", "-", NULL);
#endif
    const unsigned xxh = XXH_versionNumber();
    add(list, "xxHash", join(built, sizeof built, XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE),
        join(loaded, sizeof loaded, xxh / 10000, xxh / 100 % 100, xxh % 100), (void *)XXH_versionNumber);
}

static void add_compute(struct list *list) {
    char built[32], loaded[32], blas[128];
    const dnnl_version_t *dnnl = dnnl_version();
    add(list, "oneDNN", join(built, sizeof built, DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH),
        join(loaded, sizeof loaded, (unsigned)dnnl->major, (unsigned)dnnl->minor, (unsigned)dnnl->patch),
        (void *)dnnl_version);
    snprintf(blas, sizeof blas, "%s", openblas_get_config());
    blas[strcspn(blas, " ")] = '\0';
    if (strcmp(blas, "OpenBLAS") == 0) snprintf(blas, sizeof blas, "%.20s", openblas_get_config() + 9);
    add(list, "OpenBLAS", "-", blas, (void *)openblas_get_config);
    snprintf(built, sizeof built, "%d", _OPENMP);
    add(list, "OpenMP", built, "-", (void *)omp_get_max_threads);
    const unsigned hwloc = hwloc_get_api_version();
    add(list, "hwloc",
        join(built, sizeof built, HWLOC_API_VERSION >> 16, HWLOC_API_VERSION >> 8 & 255,
             HWLOC_API_VERSION & 255),
        join(loaded, sizeof loaded, hwloc >> 16, hwloc >> 8 & 255, hwloc & 255),
        (void *)hwloc_get_api_version);
}

int version_libraries(const char *mpi_built, const char *mpi_loaded, void *mpi_symbol,
                      struct version_library *out) {
    struct list list = {.items = out};
    add(&list, "MPI", mpi_built, mpi_loaded, mpi_symbol);
    add_storage(&list);
    add_compute(&list);
    return list.n;
}

const char *version_compiler(void) {
#ifdef __clang__
    return "clang " __VERSION__;
#else
    return "gcc " __VERSION__;
#endif
}

void version_print_full(const char *mpi_built, const char *mpi_loaded, void *mpi_symbol, FILE *out) {
    struct version_library libraries[VERSION_MAX_LIBRARIES];
    const int n = version_libraries(mpi_built, mpi_loaded, mpi_symbol, libraries);
    version_print(out);
    fprintf(out, "compiler: %s\n", version_compiler());
    fprintf(out, "instruction set in use: %s\n", simd_isa_name(simd_isa()));
    fprintf(out, "  %-14s %-22s %-22s %s\n", "library", "built against", "loaded", "file");
    for (int i = 0; i < n; i++)
        fprintf(out, "  %-14s %-22s %-22s %s\n", libraries[i].name, libraries[i].built, libraries[i].loaded,
                libraries[i].file);
}
