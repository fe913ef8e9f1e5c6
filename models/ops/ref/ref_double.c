#define real double
#include "models/ops/ref/loops.h"

const struct ops ops_ref_double = {.name = "ref in double", REF_SLOTS};
