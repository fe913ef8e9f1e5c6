#include "training/schedule.h"

#include <math.h>

double schedule_rate(const struct schedule_settings *schedule, double lr, int64_t step, int64_t n_steps) {
    double shape = 1;
    switch (schedule->name) {
    case SCHEDULE_CONSTANT:
        break;
    case SCHEDULE_COSINE:
        shape = n_steps > 0 ? 0.5 * (1 + cos(M_PI * (double)step / (double)n_steps)) : 1;
        break;
    case SCHEDULE_INVERSE:
        shape = pow(1 + schedule->gamma * (double)step, -schedule->power);
        break;
    }
    if (step + 1 < schedule->ramp) shape *= (double)(step + 1) / (double)schedule->ramp;
    return lr * shape;
}
