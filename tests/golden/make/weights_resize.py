"""tests/golden/weights/resize.safetensors: position tables and patch embeddings as timm resizes them.

    python tests/golden/make/weights_resize.py        (torch, timm, safetensors)

Tensors `table.<w>.<wh>x<ww>.{in,out}`: square window w to wh x ww. `patch.<h>x<w>.<nh>x<nw>.{in,out}`.
"""
import pathlib
import torch
from safetensors.torch import save_file
from timm.layers import resample_patch_embed, resize_rel_pos_bias_table

torch.manual_seed(0)
tensors = {}
for old, (wh, ww) in [(7, (12, 12)), (12, (7, 7)), (4, (8, 8)), (8, (4, 4)), (7, (8, 6)), (2, (3, 3)), (1, (4, 4)), (7, (1, 1)), (3, (16, 2))]:
    table = torch.randn((2 * old - 1) ** 2, 3)
    shape = ((2 * wh - 1) * (2 * ww - 1), 3)
    name = f"table.{old}.{wh}x{ww}"
    tensors[name + ".in"] = table
    tensors[name + ".out"] = resize_rel_pos_bias_table(table, new_window_size=(wh, ww), new_bias_shape=shape).float().contiguous()
for (h, w), (nh, nw) in [((4, 4), (2, 2)), ((2, 2), (4, 4)), ((4, 4), (8, 8)), ((16, 16), (14, 14)), ((4, 4), (3, 5)), ((4, 4), (1, 1))]:
    kernels = torch.randn(2, 3, h, w)
    name = f"patch.{h}x{w}.{nh}x{nw}"
    tensors[name + ".in"] = kernels
    tensors[name + ".out"] = resample_patch_embed(kernels, [nh, nw]).contiguous()
path = pathlib.Path(__file__).parent.parent / "weights/resize.safetensors"
save_file(tensors, path)
path.chmod(0o644)
