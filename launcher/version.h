/* What this program was built with, and what it runs with. */
#ifndef LAUNCHER_VERSION_H
#define LAUNCHER_VERSION_H

#include <stdio.h>

struct version_library {
    char name[24], built[64], loaded[64], file[256]; /* "-" where it cannot be told */
};
enum { VERSION_MAX_LIBRARIES = 24 };

void version_print(FILE *out);
const char *version_compiler(void); /* "gcc 12.2.0" */

/* Of each library the version built against, the version loaded and its file; out[VERSION_MAX_LIBRARIES], the
 * number is returned. mpi_symbol: a function of the MPI library, or NULL. */
int version_libraries(const char *mpi_built, const char *mpi_loaded, void *mpi_symbol,
                      struct version_library *out);

/* Compiler, instruction sets, libraries. */
void version_print_full(const char *mpi_built, const char *mpi_loaded, void *mpi_symbol, FILE *out);

#endif
