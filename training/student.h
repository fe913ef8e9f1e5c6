/* What the student looks like: one place for the stage that trains it and for those who use it. */
#ifndef TRAINING_STUDENT_H
#define TRAINING_STUDENT_H

#include "training/run.h"

struct student_shape {
    struct model_spec spec;                 /* classes and dropout put in */
    struct view_spec train_view, eval_view; /* METHOD.md section 5 */
};

status_t student_describe(const struct run *run, struct student_shape *out);

#endif
