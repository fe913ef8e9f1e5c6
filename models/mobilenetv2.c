/* MobileNet-V2 (Sandler et al., CVPR 2018, table 2), parameters named as torchvision names them.
 *
 *   features.0      conv 3x3, BatchNorm, ReLU6
 *   features.1..17  inverted residuals: [1x1 to t*C, BatchNorm, ReLU6,] depthwise 3x3, BatchNorm, ReLU6,
 *                   1x1, BatchNorm, + x where the shape stays
 *   features.18     1x1 to 1280, BatchNorm, ReLU6
 *   features        mean over the map
 *   classifier      dropout, linear */
#include "models/graph.h"

#include <math.h>

/* t: expansion, c: channels out, n: repeats; the strides come from the spec (the paper's: 1,2,2,2,1,2,1) */
static const struct {
    int32_t t, c, n;
} ROWS[7] = {{1, 16, 1}, {6, 24, 2}, {6, 32, 3}, {6, 64, 4}, {6, 96, 3}, {6, 160, 3}, {6, 320, 1}};

/* Nearest multiple of 8, but never more than a tenth below the wish. */
static int64_t channels(double width, int32_t c) {
    const double wish = width * c;
    int64_t rounded = (int64_t)(wish + 4) / 8 * 8;
    if (rounded < 8) rounded = 8;
    return rounded < 0.9 * wish ? rounded + 8 : rounded;
}

static int32_t inverted_residual(struct graph *g, int32_t x, int32_t expansion, int64_t cout,
                                 int32_t stride) {
    if (x == NONE) return NONE;
    const int64_t cin = g->values[x].c;
    const bool expand = expansion != 1, residual = stride == 1 && cin == cout;
    graph_block_begin(g);
    int32_t y = x;
    if (expand) {
        y = graph_pointwise(g, y, "conv.0.0", cin * expansion);
        y = graph_batchnorm(g, y, "conv.0.1", true, NONE);
    }
    y = graph_depthwise(g, y, expand ? "conv.1.0" : "conv.0.0", 3, stride, false);
    y = graph_batchnorm(g, y, expand ? "conv.1.1" : "conv.0.1", true, NONE);
    y = graph_pointwise(g, y, expand ? "conv.2" : "conv.1", cout);
    y = graph_batchnorm(g, y, expand ? "conv.3" : "conv.2", false, residual ? x : NONE);
    graph_block_end(g);
    return y;
}

void mobilenetv2_build(struct graph *g) {
    const struct model_spec *spec = g->spec;
    const double width = round(spec->width * 1e6) / 1e6; /* 0.35 as it was meant, not as fp32 holds it */
    int32_t number = 0;

    graph_scope(g, number, "features.0.");
    int32_t x = graph_conv(g, g->input, "0", channels(width, 32), 3, spec->stem_stride, 1, false);
    x = graph_batchnorm(g, x, "1", true, NONE);
    for (int row = 0; row < 7; row++) {
        for (int i = 0; i < ROWS[row].n; i++) {
            number++;
            graph_scope(g, number, "features.%d.", number);
            x = inverted_residual(g, x, ROWS[row].t, channels(width, ROWS[row].c),
                                  i == 0 ? spec->strides[row] : 1);
            graph_name(g, x, "features.%d", number);
        }
    }
    number++;
    graph_scope(g, number, "features.%d.", number);
    x = graph_pointwise(g, x, "0", channels(width > 1 ? width : 1.0, 1280));
    x = graph_batchnorm(g, x, "1", true, NONE);
    graph_name(g, x, "features.%d", number);
    x = graph_average_pool(g, x);
    graph_scope(g, number + 1, "classifier.");
    graph_head(g, x, "1");
}
