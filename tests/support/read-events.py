"""Every number of RUN/metrics.jsonl is in RUN's TensorBoard event files, once, at its step, and nothing else is.
Reads them with the tensorboard package as its own server does; exit status 77 where it is not installed."""
import json
import math
import struct
import sys

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    print("python3 has no tensorboard")
    sys.exit(77)


def as_float(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def numbers(record):
    """(tag, value) of each number of a record."""
    for group, value in record.items():
        if group in ("step", "time_ms"):
            continue
        fields = value if isinstance(value, dict) else {None: value}
        for name, inner in fields.items():
            tag = "/".join([record["stage"], group] + ([name] if name else []))
            items = inner if isinstance(inner, list) else [inner]
            for i, item in enumerate(items):
                if item is None or (isinstance(item, (int, float)) and not isinstance(item, bool)):
                    yield tag + (f"/{i}" if isinstance(inner, list) else ""), math.nan if item is None else item


run = sys.argv[1]
wanted = {}
for line in open(f"{run}/metrics.jsonl", encoding="utf-8"):
    record = json.loads(line)
    for tag, value in numbers(record):
        wanted.setdefault(tag, []).append((record["step"], value, record["time_ms"] / 1e3))
events = EventAccumulator(run, size_guidance={"scalars": 0}, purge_orphaned_data=True)
events.Reload()
bad = []
tags = set(events.Tags()["scalars"])
if tags != set(wanted):
    bad.append(f"tags that differ: {sorted(tags ^ set(wanted))[:6]}")
n = 0
for tag in sorted(tags & set(wanted)):
    found = events.Scalars(tag)
    if [e.step for e in found] != [s for s, _, _ in wanted[tag]]:
        bad.append(f"{tag}: steps {[e.step for e in found][:20]}, not {[s for s, _, _ in wanted[tag]][:20]}")
        continue
    for e, (step, value, time_s) in zip(found, wanted[tag]):
        n += 1
        same = math.isnan(e.value) if math.isnan(value) else abs(e.value - as_float(value)) <= 2e-7 * abs(value)
        if not same or abs(e.wall_time - time_s) > 2e-3:
            bad.append(f"{tag} step {step}: {e.value} at {e.wall_time}, not {value} at {time_s}")
if n < 100:
    bad.append(f"only {n} numbers were compared")
print("\n".join(bad[:12]) if bad else f"{n} numbers")
sys.exit(bool(bad))
