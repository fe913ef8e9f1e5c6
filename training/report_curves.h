/* The sections of a report's page that show how a stage went. */
#ifndef TRAINING_REPORT_CURVES_H
#define TRAINING_REPORT_CURVES_H

#include "training/report_data.h"

#include <stdio.h>

/* <section> with the curves of one stage ("heads", "cotrain", "distil") under `title`: losses by term of
 * every peer, validation accuracy, what is kept and agreed on, gradient norm, learning rate, throughput,
 * waits. Charts without any value are left out. */
void report_put_curves(FILE *out, const struct report_data *data, const char *stage, const char *title);

/* <section> with the steps that were skipped for NaN or Inf; nothing where none was. */
void report_put_skipped(FILE *out, const struct report_data *data);

#endif
