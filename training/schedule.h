/* Rates and thresholds as pure functions of the step. */
#ifndef TRAINING_SCHEDULE_H
#define TRAINING_SCHEDULE_H

#include "training/settings.h"

/* lr * min(1, (step + 1) / ramp) * shape(step), step in [0, n_steps):
 * constant 1 · cosine 0.5 (1 + cos(pi step / n_steps)) · inverse (1 + gamma step)^(-power) (METHOD section
 * 5). */
double schedule_rate(const struct schedule_settings *schedule, double lr, int64_t step, int64_t n_steps);

#endif
