/* Fields of a CSV file. */
#ifndef COMMON_CSV_H
#define COMMON_CSV_H

#include <stdio.h>

/* Writes a text field, quoted where it must be (RFC 4180); not the comma behind it. */
void csv_put_text(FILE *out, const char *text);

#endif
