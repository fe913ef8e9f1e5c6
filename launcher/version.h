/* What this program was built with, and what it runs with. */
#ifndef LAUNCHER_VERSION_H
#define LAUNCHER_VERSION_H

#include <stdio.h>

void version_print(FILE *out);

/* Compiler, instruction sets, and of each library the version built against, the version loaded and its file.
 * mpi_built and mpi_loaded come from main, the only place here that may see MPI. */
void version_print_full(const char *mpi_built, const char *mpi_loaded, void *mpi_symbol, FILE *out);

#endif
