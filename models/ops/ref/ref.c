#define real float
#include "models/ops/ref/loops.h"

const struct ops ops_ref = {.name = "ref", REF_SLOTS};
