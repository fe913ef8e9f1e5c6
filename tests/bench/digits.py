#!/usr/bin/env python3
"""One co-training step of the digits demo in PyTorch and timm, both peers one after the other: beside
`marrs_dist stages=[cotrain]`. Random pictures, ready in memory: no decoding and no views on this side.

    python3 tests/bench/digits.py [--threads 2] [--steps 30]        needs torch and timm
Prints images a second through both peers, counted as metrics.jsonl counts them (106 a step), median over steps.
"""
import argparse, statistics, time
import torch
import torch.nn as nn
import torch.nn.functional as F
from timm.models.convnext import ConvNeXtStage
from timm.layers import LayerNorm, LayerNorm2d
from timm.models.swin_transformer import SwinTransformer

p = argparse.ArgumentParser()
p.add_argument("--threads", type=int, default=2)
p.add_argument("--steps", type=int, default=30)
o = p.parse_args()
torch.set_num_threads(o.threads)


class ConvNeXt(nn.Module):
    def __init__(self, dims=(48, 96), depths=(2, 2), classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, dims[0], 4, 4), LayerNorm2d(dims[0]))
        stages, before = [], dims[0]
        for i, (d, n) in enumerate(zip(dims, depths)):
            stages.append(ConvNeXtStage(before, d, stride=2 if i else 1, depth=n, ls_init_value=1.0,
                                        norm_layer=LayerNorm2d, norm_layer_cl=LayerNorm))
            before = d
        self.stages, self.norm, self.fc = nn.Sequential(*stages), nn.LayerNorm(before, eps=1e-6), nn.Linear(before, classes)

    def features(self, x):
        return self.norm(self.stages(self.stem(x)).mean((2, 3)))


class Swin(SwinTransformer):
    def __init__(self):
        super().__init__(img_size=32, patch_size=4, window_size=4, embed_dim=48, depths=[2, 2], num_heads=[3, 6], num_classes=10,
                         drop_path_rate=0.0)
        self.fc = nn.Linear(96, 10)

    def features(self, x):
        return self.forward_features(x).mean((1, 2))


peers = [ConvNeXt().to(memory_format=torch.channels_last), Swin().to(memory_format=torch.channels_last)]
adam = [torch.optim.AdamW(net.parameters(), 1e-3, weight_decay=0.05, fused=True) for net in peers]
x = {n: torch.randn(b, 3, 32, 32).to(memory_format=torch.channels_last) for n, b in (("s", 32), ("t", 10), ("u", 32), ("v", 32))}
y_s, y_t = torch.randint(0, 10, (32,)), torch.randint(0, 10, (10,))


def covariance(f):
    f = f - f.mean(0)
    return f.T @ f / (len(f) - 1)


def step():
    f, z, pick = [], [], []
    for net in peers:
        f.append({n: net.features(a) for n, a in x.items()})
        z.append({n: net.fc(a) for n, a in f[-1].items()})
        pick.append(z[-1]["u"].detach().softmax(1).max(1))
    for i, net in enumerate(peers):
        own, other = pick[i], pick[1 - i]
        loss = (0.5 * F.cross_entropy(z[i]["s"], y_s, label_smoothing=0.02) + 0.5 * F.cross_entropy(z[i]["t"], y_t, label_smoothing=0.02)
                + 0.5 * (F.cross_entropy(z[i]["v"], own[1], reduction="none") * (own[0] > 0.1)).mean()
                + 0.9 * (F.cross_entropy(z[i]["u"], other[1], reduction="none") * (other[0] > 0.1)).mean())
        if i == 1:
            loss = loss + (covariance(torch.cat([f[i]["s"], f[i]["t"]])) - covariance(f[i]["u"])).square().sum() / (4 * 96 ** 2)
        adam[i].zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam[i].step()


for _ in range(3):
    step()
times, cpu = [], []
for _ in range(o.steps):
    start, busy = time.perf_counter(), time.process_time()
    step()
    times.append(time.perf_counter() - start)
    cpu.append(time.process_time() - busy)
print(f"torch {torch.__version__}, {o.threads} threads: {106 / statistics.median(times):.0f} images/s in co-training (best step "
      f"{106 / min(times):.0f}); {106 / statistics.median(cpu):.0f} a second of processor time")
