/* Swin Transformer (Liu et al., ICCV 2021), parameters named as timm names them.
 *
 *   patch_embed  conv p x p / p, LayerNorm
 *   stage i>0    patch merging: gather 2x2 -> 4C, LayerNorm, linear to 2C without bias
 *   block        x1 = x + drop_path(proj(attention(qkv(LayerNorm(x)))))   windows, shifted in every second
 * block y  = x1 + drop_path(fc2(gelu(fc1(LayerNorm(x1))))) features     mean over the map of LayerNorm(x)
 *   classifier   linear
 * LayerNorm's epsilon is 1e-5 throughout. */
#include "models/graph.h"

static const float EPS = 1e-5f;

static int32_t block(struct graph *g, int32_t x, int32_t heads, bool shift, float drop_path) {
    const int64_t channels = x == NONE ? 0 : g->values[x].c;
    graph_block_begin(g);
    int32_t y = graph_layernorm(g, x, "norm1", EPS);
    y = graph_window_attention(g, y, "attn", heads, g->spec->window, shift);
    x = graph_linear(g, y, "attn.proj", channels, true, x, graph_drop_path(g, drop_path));
    y = graph_layernorm(g, x, "norm2", EPS);
    y = graph_mlp(g, y, "mlp", NONE, x, graph_drop_path(g, drop_path));
    graph_block_end(g);
    return y;
}

void swin_build(struct graph *g) {
    const struct model_spec *spec = g->spec;
    int32_t n_blocks = 0, number = 0;
    for (int i = 0; i < spec->n_stages; i++) n_blocks += spec->depths[i];

    /* Layer numbers are timm's for layer-wise decay: blocks count from 1, a merging belongs to the block
     * behind it, the last norm to the last block. */
    graph_scope(g, 0, "patch_embed.");
    int32_t x = graph_conv(g, g->input, "proj", spec->embed, spec->patch, spec->patch, 0, true);
    x = graph_name(g, graph_layernorm(g, x, "norm", EPS), "patch_embed");
    for (int i = 0; i < spec->n_stages; i++) {
        if (i > 0) {
            graph_scope(g, number + 1, "layers.%d.downsample.", i);
            x = graph_layernorm(g, graph_patch_merge(g, x), "norm", EPS);
            x = graph_linear(g, x, "reduction", (int64_t)spec->embed << i, false, NONE, NONE);
            graph_name(g, x, "layers.%d.downsample", i);
        }
        for (int j = 0; j < spec->depths[i]; j++, number++) {
            graph_scope(g, number + 1, "layers.%d.blocks.%d.", i, j);
            float rate = n_blocks > 1 ? spec->drop_path * (float)number / (float)(n_blocks - 1) : 0;
            x = block(g, x, spec->heads[i], j % 2 == 1, rate);
            graph_name(g, x, "layers.%d.blocks.%d", i, j);
        }
    }
    graph_scope(g, number, "%s", "");
    x = graph_name(g, graph_layernorm(g, x, "norm", EPS), "norm");
    x = graph_average_pool(g, x);
    graph_scope(g, number + 1, "head.");
    graph_head(g, x, "fc");
}
