/* RUN/report.html: one page that stands alone (inline SVG and images, no script, nothing fetched). */
#ifndef TRAINING_REPORT_HTML_H
#define TRAINING_REPORT_HTML_H

#include "training/settings.h"

#include "common/status.h"

#include <stdio.h>

struct report_data;

/* Read what the directory settings->run has, and replace its report.html. `version` of the program that
 * writes. Stages that have not run leave their sections out and are named. Not collective: one rank. */
status_t report_write_page(const struct settings *settings, const char *version);

/* The page itself, from data that was read. */
void report_put_page(FILE *out, const struct settings *settings, const char *version,
                     const struct report_data *data);

#endif
