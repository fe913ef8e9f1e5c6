"""tests/golden/schedule.tsv: rates of torch's schedulers, step by step.

    python tests/golden/make/schedule.py        (torch)
"""
import pathlib
import torch
from torch.optim import lr_scheduler as s

LR = 0.02
cases = [  # shape, ramp, gamma, power, steps
    ("constant", 0, 0, 0, 7), ("constant", 5, 0, 0, 7), ("cosine", 0, 0, 0, 20), ("cosine", 6, 0, 0, 20),
    ("inverse", 0, 1e-4, 0.75, 12), ("inverse", 3, 0.5, 2.0, 12), ("cosine", 1, 0, 0, 3),
]
rows = ["shape\tramp\tgamma\tpower\tsteps\tstep\trate"]
for shape, ramp, gamma, power, steps in cases:
    optimiser = torch.optim.SGD([torch.zeros(1, dtype=torch.float64, requires_grad=True)], lr=LR)
    parts = []
    if ramp > 1:
        parts.append(s.LinearLR(optimiser, start_factor=1 / ramp, end_factor=1, total_iters=ramp - 1))
    if shape == "cosine":
        parts.append(s.CosineAnnealingLR(optimiser, T_max=steps))
    if shape == "inverse":
        parts.append(s.MultiplicativeLR(optimiser, lambda t: ((1 + gamma * t) / (1 + gamma * (t - 1))) ** -power))
    for step in range(steps):
        rows.append(f"{shape}\t{ramp}\t{gamma}\t{power}\t{steps}\t{step}\t{optimiser.param_groups[0]['lr']:.17g}")
        optimiser.step()
        for part in parts:
            part.step()
(pathlib.Path(__file__).parent.parent / "schedule.tsv").write_text("\n".join(rows) + "\n")
