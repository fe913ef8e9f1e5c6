/* Python packages as oracles: optional, so a test that wants one returns 77 (skipped) where it is missing. */
#ifndef TESTS_SUPPORT_PYTHON_H
#define TESTS_SUPPORT_PYTHON_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Run Python code (environment variable PYTHON, else python3); true where it ends with 0. `code` holds no
 * double quotes. */
static inline bool python_runs(const char *code) {
    const char *python = getenv("PYTHON");
    char command[8192];
    const int n = snprintf(command, sizeof command, "%s -c \"%s\"", python ? python : "python3", code);
    return n > 0 && (size_t)n < sizeof command && system(command) == 0;
}

/* Are these modules there ("torch, timm")? Says so on standard output where not. */
static inline bool python_has(const char *modules) {
    const char *python = getenv("PYTHON");
    char command[512];
    snprintf(command, sizeof command, "%s -c 'import %s' 2>/dev/null", python ? python : "python3", modules);
    if (system(command) == 0) return true;
    printf("needs Python with %s (environment variable PYTHON names the interpreter)\n", modules);
    return false;
}

#endif
