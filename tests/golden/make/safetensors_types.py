"""tests/golden/weights/types.safetensors: one small tensor of every type, written by the Python package.

    python tests/golden/make/safetensors_types.py        (torch, safetensors)
"""
import pathlib
import torch
from safetensors.torch import save_file

values = [0.0, 1.0, -2.5, 3.140625, 65504.0, 6e-8]
whole = [0, 1, 7, 100, 127]
tensors = {str(kind).removeprefix("torch."): torch.tensor(values, dtype=torch.float64).to(kind).reshape(2, 3)
           for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
tensors |= {str(kind).removeprefix("torch."): torch.tensor(whole, dtype=kind)
            for kind in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64)}
tensors["bool"] = torch.tensor([True, False, True])
tensors["special"] = torch.tensor([float("inf"), -float("inf"), float("nan"), -0.0], dtype=torch.float16)
tensors["scalar"] = torch.tensor(42, dtype=torch.int64)
tensors["empty"] = torch.zeros(0, 4)
tensors["too_large"] = torch.tensor([2**40])
path = pathlib.Path(__file__).parent.parent / "weights/types.safetensors"
save_file(tensors, path, metadata={"made": "by Python", "naïve": "ü"})
path.chmod(0o644)
