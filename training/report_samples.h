/* Unlabelled images with what the teachers say of them, for a report. */
#ifndef TRAINING_REPORT_SAMPLES_H
#define TRAINING_REPORT_SAMPLES_H

#include "training/report_data.h"
#include "training/settings.h"

#include <stdio.h>

enum { REPORT_N_SAMPLES = 24, REPORT_SAMPLE_SIDE = 96 };

/* Up to REPORT_N_SAMPLES images, half of them such that the teachers agree on, as HTML with the images
 * inside. The choice depends on the files alone. Writes nothing on failure: STATUS_MISSING or STATUS_BAD_DATA
 * say which of shards, list and RUN/features/teachers.h5 is not there or does not fit. */
status_t report_samples_write(FILE *out, const char *run, const struct settings *settings,
                              const struct report_data *data);

/* Evenly spread choice of at most n_wanted of the n rows with flag[row] == wanted; returns how many. */
size_t report_samples_choose(const uint8_t *flag, size_t n, uint8_t wanted, size_t n_wanted, size_t *rows);

#endif
