#include "training/student.h"

static int32_t image_side(const struct student_settings *s) {
    struct model_spec spec;
    int32_t side;
    if (s->image > 0) return (int32_t)s->image;
    return s->model.preset[0] && model_spec_preset(s->model.preset, &spec, &side) == STATUS_OK ? side : 224;
}

status_t student_describe(const struct run *run, struct student_shape *out) {
    const struct student_settings *s = &run->settings->distil.student;
    const int32_t side = image_side(s);
    struct student_shape shape = {.spec = s->model.spec,
                                  .train_view = view_spec_default(VIEW_STUDENT_TRAIN, side),
                                  .eval_view = view_spec_default(VIEW_STUDENT_EVAL, side)};
    shape.spec.n_classes = run->data.n_classes;
    shape.spec.head_bias = true;
    shape.spec.dropout = (float)s->dropout;
    if (s->resize > 0) shape.train_view.resize_side = shape.eval_view.resize_side = (int32_t)s->resize;
    shape.train_view.flip = s->flip;
    TRY(model_spec_check(&shape.spec));
    TRY(view_spec_check(&shape.train_view));
    TRY(view_spec_check(&shape.eval_view));
    *out = shape;
    return STATUS_OK;
}
