#!/usr/bin/env python3
"""The released program's routine for one full-batch step of the frozen stage, in PyTorch: beside `marrs_dist bench heads`.

    python3 tests/bench/heads.py [--features D] [--threads N] [--runs N]     needs torch
Prints milliseconds a step, median, with every row kept (masks by boolean indexing, as released).
"""
import argparse, statistics, time
import torch
import torch.nn.functional as F

p = argparse.ArgumentParser()
p.add_argument("--features", type=int, default=2048)
p.add_argument("--classes", type=int, default=65)
p.add_argument("--rows", type=int, nargs=3, default=(4357, 195, 4170))
p.add_argument("--threads", type=int, default=2)
p.add_argument("--runs", type=int, default=9)
o = p.parse_args()
torch.set_num_threads(o.threads)
n_s, n_t, n_u = o.rows
x_s, x_t, x_u, x_v = (F.normalize(torch.randn(n, o.features)) for n in (n_s, n_t, n_u, n_u))
y_s, y_t, y_u = (torch.randint(0, o.classes, (n,)) for n in (n_s, n_t, n_u))
keep_s, keep_u = torch.ones(n_s, dtype=torch.bool), torch.ones(n_u)
net = torch.nn.Linear(o.features, o.classes, bias=False)
sgd = torch.optim.SGD(net.parameters(), lr=30, momentum=0.9, nesterov=True)


def step():
    sgd.zero_grad()
    loss = (0.1 * F.cross_entropy(net(x_s)[keep_s], y_s[keep_s], label_smoothing=0.1)
            + 0.05 * F.cross_entropy(net(x_t), y_t, label_smoothing=0.1)
            + 0.5 * (F.cross_entropy(net(x_v), y_u, reduction="none") * keep_u).mean()
            + 0.9 * (F.cross_entropy(net(x_u), y_u, reduction="none") * keep_u).mean())
    loss.backward()
    sgd.step()


step()
times = []
for _ in range(o.runs):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(f"torch {torch.__version__}: {n_s + n_t + 2 * n_u} rows of {o.features} features, {o.classes} classes, {o.threads} threads: "
      f"{1e3 * statistics.median(times):.2f} ms a step")
