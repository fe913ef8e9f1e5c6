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

/* One line: name, built, loaded, file that holds `symbol`. */
static void line(FILE *out, const char *name, const char *built, const char *loaded, void *symbol) {
    Dl_info info;
    const char *file = symbol && dladdr(symbol, &info) && info.dli_fname ? info.dli_fname : "-";
    fprintf(out, "  %-14s %-22s %-22s %s\n", name, built, loaded, file);
}

static const char *join(char *text, size_t n_bytes, unsigned a, unsigned b, unsigned c) {
    snprintf(text, n_bytes, "%u.%u.%u", a, b, c);
    return text;
}

static void storage_lines(FILE *out) {
    char built[32], loaded[32];
    unsigned a = 0, b = 0, c = 0;
    H5get_libversion(&a, &b, &c);
    line(out, "HDF5", join(built, sizeof built, H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE),
         join(loaded, sizeof loaded, a, b, c), (void *)H5get_libversion);
    line(out, "libyaml", "-", yaml_get_version_string(), (void *)yaml_get_version_string);
    line(out, "jansson", JANSSON_VERSION, jansson_version_str(), (void *)jansson_version_str);
    line(out, "libjpeg-turbo", TEXT(LIBJPEG_TURBO_VERSION), "-", (void *)jpeg_std_error);
    line(out, "libpng", PNG_LIBPNG_VER_STRING, png_get_libpng_ver(NULL), (void *)png_get_libpng_ver);
#ifdef HAVE_WEBP
    const int webp = WebPGetDecoderVersion();
    line(out, "libwebp", "-",
         join(loaded, sizeof loaded, (unsigned)webp >> 16, (unsigned)webp >> 8 & 255, (unsigned)webp & 255),
         (void *)WebPGetDecoderVersion);
#else
    line(out, "libwebp", "not built in", "-", NULL);
#endif
    const unsigned xxh = XXH_versionNumber();
    line(out, "xxHash", join(built, sizeof built, XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE),
         join(loaded, sizeof loaded, xxh / 10000, xxh / 100 % 100, xxh % 100), (void *)XXH_versionNumber);
}

static void compute_lines(FILE *out) {
    char built[32], loaded[32], blas[128];
    const dnnl_version_t *dnnl = dnnl_version();
    line(out, "oneDNN", join(built, sizeof built, DNNL_VERSION_MAJOR, DNNL_VERSION_MINOR, DNNL_VERSION_PATCH),
         join(loaded, sizeof loaded, (unsigned)dnnl->major, (unsigned)dnnl->minor, (unsigned)dnnl->patch),
         (void *)dnnl_version);
    snprintf(blas, sizeof blas, "%s", openblas_get_config());
    blas[strcspn(blas, " ")] = '\0';
    if (strcmp(blas, "OpenBLAS") == 0) snprintf(blas, sizeof blas, "%.20s", openblas_get_config() + 9);
    line(out, "OpenBLAS", "-", blas, (void *)openblas_get_config);
    snprintf(built, sizeof built, "%d", _OPENMP);
    line(out, "OpenMP", built, "-", (void *)omp_get_max_threads);
    const unsigned hwloc = hwloc_get_api_version();
    line(out, "hwloc",
         join(built, sizeof built, HWLOC_API_VERSION >> 16, HWLOC_API_VERSION >> 8 & 255,
              HWLOC_API_VERSION & 255),
         join(loaded, sizeof loaded, hwloc >> 16, hwloc >> 8 & 255, hwloc & 255),
         (void *)hwloc_get_api_version);
}

void version_print_full(const char *mpi_built, const char *mpi_loaded, void *mpi_symbol, FILE *out) {
    version_print(out);
    fprintf(out, "compiler: %s %s\n",
#ifdef __clang__
            "clang",
#else
            "gcc",
#endif
            __VERSION__);
    fprintf(out, "instruction set in use: %s\n", simd_isa_name(simd_isa()));
    fprintf(out, "  %-14s %-22s %-22s %s\n", "library", "built against", "loaded", "file");
    line(out, "MPI", mpi_built, mpi_loaded, mpi_symbol);
    storage_lines(out);
    compute_lines(out);
}
