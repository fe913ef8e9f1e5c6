#!/usr/bin/env python3
"""Networks here beside PyTorch + timm (and OpenVINO where it is installed), work by work, on this machine.

    python tests/bench/peers.py [--runs 5] [--rounds 1] [--only WORD] [--precision fp32|bf16] [--threads 2]
    python tests/bench/peers.py --threads 1 --cpu-time        on a machine where other work runs

Prints the table of docs/performance.md. Each measurement is a process of its own (so that peak memory is its own) under a time
limit; ours and theirs take turns, so that both see the same machine. images/s: median of --runs steps after one that is
not counted; of several rounds the median. PyTorch: eager, channels_last, fused AdamW, autocast for bf16. Weights and inputs are
random, no drop-path and no dropout on either side.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

TABLE = [  # what, our preset, timm's name, side, batch
    ("train", "convnext_tiny", "convnext_tiny", 224, 8),
    ("train", "swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224", 224, 8),
    ("train", "mobilenet_v2", "mobilenetv2_100", 224, 16),
    ("features", "convnext_xlarge", "convnext_xlarge", 384, 2),
    ("features", "swin_large_patch4_window12_384", "swin_large_patch4_window12_384", 384, 2),
    ("features", "mobilenet_v2", "mobilenetv2_100", 224, 16),
]
CLASSES = 65


def median_s(call, runs, now=time.perf_counter):
    call()
    times = []
    for _ in range(runs):
        start = now()
        call()
        times.append(now() - start)
    return statistics.median(times)


def torch_step(opt, net, torch):
    """A call that does one training step or one inference of `net`."""
    net = net.to(memory_format=torch.channels_last)
    x = torch.randn(opt.batch, 3, opt.image, opt.image).to(memory_format=torch.channels_last)
    autocast = lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=opt.precision == "bf16")
    if opt.what == "features":
        net.eval()

        def infer():
            with torch.inference_mode(), autocast():
                net(x)
        return infer
    labels = torch.randint(0, CLASSES, (opt.batch,))
    net.train()
    adamw = torch.optim.AdamW(net.parameters(), 1e-4, fused=True)

    def train():
        with autocast():
            loss = torch.nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        adamw.step()
        adamw.zero_grad()
    return train


def openvino_step(opt, net, torch):
    import openvino
    x = torch.randn(opt.batch, 3, opt.image, opt.image)
    compiled = openvino.Core().compile_model(openvino.convert_model(net.eval(), example_input=x), "CPU", {
        "INFERENCE_PRECISION_HINT": "f32" if opt.precision == "fp32" else "bf16",
        "INFERENCE_NUM_THREADS": opt.threads, "PERFORMANCE_HINT": "LATENCY"})
    request, data = compiled.create_infer_request(), x.numpy()
    return lambda: request.infer({0: data})


def measure(opt):
    """One measurement of another engine, as a line of JSON."""
    import resource
    import timm
    import torch
    torch.set_num_threads(opt.threads)
    torch.manual_seed(0)
    net = timm.create_model(opt.model, num_classes=CLASSES if opt.what == "train" else 0)
    step = (openvino_step if opt.engine == "openvino" else torch_step)(opt, net, torch)
    seconds = median_s(step, opt.runs, time.process_time if opt.cpu_time else time.perf_counter)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"images_per_s": opt.batch / seconds, "peak_mib": peak}), flush=True)


def run(command, opt):
    """images/s and peak MiB of a command that prints a line of JSON, or None past the limit or on failure."""
    env = dict(os.environ, OMP_NUM_THREADS=str(opt.threads))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=opt.limit, env=env)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, json.JSONDecodeError):
        return None


def commands(opt, row, precision):
    what, ours, theirs, image, batch = row
    shared = ["--image", str(image), "--batch", str(batch), "--precision", precision, "--runs", str(opt.runs), "--threads", str(opt.threads), *(["--cpu-time"] if opt.cpu_time else [])]
    other = [sys.executable, __file__, "--what", what, "--model", theirs, *shared]
    engines = {"ours": [opt.program, "bench", "model", "--model", ours, "--json", *shared, *(["--train"] if what == "train" else [])],
               "torch": [*other, "--engine", "torch"]}
    if what == "features" and opt.openvino:
        engines["openvino"] = [*other, "--engine", "openvino"]
    return engines


def show(value, form):
    return "-" if value is None else form % value


def table(opt):
    try:
        import openvino
        opt.openvino = bool(openvino)
    except ImportError:
        opt.openvino = False
    print("| work | precision | here, images/s | PyTorch | ratio | OpenVINO | peak MiB here | PyTorch |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for row in TABLE:
        label = f"{row[1]} {row[3]}, batch {row[4]}, {row[0]}"
        for precision in [opt.precision] if opt.precision else ["fp32", "bf16"]:
            if opt.only not in label:
                continue
            results = {}
            for _ in range(opt.rounds):
                for engine, command in commands(opt, row, precision).items():
                    results.setdefault(engine, []).append(run(command, opt))
            def of(engine, key):
                values = [r[key] for r in results.get(engine, []) if r]
                return statistics.median(values) if values else None
            ours, torch_s = of("ours", "images_per_s"), of("torch", "images_per_s")
            ratio = ours / torch_s if ours and torch_s else None
            print(f"| {label} | {precision} | {show(ours, '%.2f')} | {show(torch_s, '%.2f')} | {show(ratio, '%.2f')} | "
                  f"{show(of('openvino', 'images_per_s'), '%.2f')} | {show(of('ours', 'peak_mib'), '%.0f')} | "
                  f"{show(of('torch', 'peak_mib'), '%.0f')} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--only", default="")
    p.add_argument("--precision", choices=("fp32", "bf16"))
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--cpu-time", action="store_true", help="processor time; with --threads 1, for a busy machine")
    p.add_argument("--limit", type=float, default=300, help="seconds a measurement may take")
    p.add_argument("--program", default="build/marrs_dist")
    for name in ("--engine", "--what", "--model"):  # one measurement of another engine: called by the table
        p.add_argument(name, help=argparse.SUPPRESS)
    p.add_argument("--image", type=int, default=224, help=argparse.SUPPRESS)
    p.add_argument("--batch", type=int, default=8, help=argparse.SUPPRESS)
    opt = p.parse_args()
    measure(opt) if opt.engine else table(opt)


if __name__ == "__main__":
    main()
