/* ConvNeXt (Liu et al., "A ConvNet for the 2020s", CVPR 2022), parameters named as timm names them.
 *
 *   stem        conv k x k / k, LayerNorm
 *   stage i>0   LayerNorm, conv 2x2 / 2
 *   block       y = x + drop_path(gamma * fc2(gelu(fc1(LayerNorm(depthwise 7x7(x))))))
 *   features    LayerNorm(mean over the map)
 *   classifier  linear
 * LayerNorm's epsilon is 1e-6 throughout. */
#include "models/graph.h"

static const float EPS = 1e-6f;

static int32_t block(struct graph *g, int32_t x, float drop_path) {
    const struct model_spec *spec = g->spec;
    graph_block_begin(g);
    int32_t gamma = spec->layer_scale > 0 && x != NONE ? graph_vector(g, "gamma", g->values[x].c) : NONE;
    int32_t y = graph_depthwise(g, x, "conv_dw", spec->kernel, 1, true);
    y = graph_layernorm(g, y, "norm", EPS);
    y = graph_mlp(g, y, "mlp", gamma, x, graph_drop_path(g, drop_path));
    graph_block_end(g);
    return y;
}

void convnext_build(struct graph *g) {
    const struct model_spec *spec = g->spec;
    int32_t n_blocks = 0, number = 0;
    for (int i = 0; i < spec->n_stages; i++) n_blocks += spec->depths[i];

    /* Layer numbers are timm's for layer-wise decay: blocks count from 1, a downsampling belongs to the block
     * behind it. */
    graph_scope(g, 0, "stem.");
    int32_t x = graph_conv(g, g->input, "0", spec->dims[0], spec->stem, spec->stem, 0, true);
    x = graph_name(g, graph_layernorm(g, x, "1", EPS), "stem");
    for (int i = 0; i < spec->n_stages; i++) {
        if (i > 0) {
            graph_scope(g, number + 1, "stages.%d.downsample.", i);
            x = graph_layernorm(g, x, "0", EPS);
            x = graph_conv(g, x, "1", spec->dims[i], 2, 2, 0, true);
            graph_name(g, x, "stages.%d.downsample", i);
        }
        for (int j = 0; j < spec->depths[i]; j++, number++) {
            graph_scope(g, number + 1, "stages.%d.blocks.%d.", i, j);
            x = block(g, x, n_blocks > 1 ? spec->drop_path * (float)number / (float)(n_blocks - 1) : 0);
            graph_name(g, x, "stages.%d.blocks.%d", i, j);
        }
    }
    graph_scope(g, number + 1, "head.");
    x = graph_name(g, graph_average_pool(g, x), "head.global_pool");
    graph_head(g, graph_layernorm(g, x, "norm", EPS), "fc");
}
