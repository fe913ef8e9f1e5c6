"""The training path of one image in Python with Pillow and NumPy, one thread: the other side of images.c.

    python tests/bench/pillow_path.py FOLDER [SIDE] [SECONDS]

Decode, resize to SIDE x SIDE (384), RandAugment n=2 m=10 with cutout, normalise to float32: of every file in FOLDER, again
and again for SECONDS (5) a part. Prints images a second of processor time, of each part and of the whole path.
"""
import io
import random
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

MEAN = np.float32((0.485, 0.456, 0.406))
STD = np.float32((0.229, 0.224, 0.225))


def affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def factor(v):
    return v * 0.9 / 10 + 0.05


def signed(v):
    return v if random.random() < 0.5 else -v


OPERATIONS = (
    lambda im, v: ImageOps.autocontrast(im),
    lambda im, v: ImageEnhance.Brightness(im).enhance(factor(v)),
    lambda im, v: ImageEnhance.Color(im).enhance(factor(v)),
    lambda im, v: ImageEnhance.Contrast(im).enhance(factor(v)),
    lambda im, v: ImageOps.equalize(im),
    lambda im, v: im,
    lambda im, v: ImageOps.posterize(im, int(v * 4 / 10) + 4),
    lambda im, v: im.rotate(signed(int(v * 30 / 10))),
    lambda im, v: ImageEnhance.Sharpness(im).enhance(factor(v)),
    lambda im, v: affine(im, 1, signed(v * 0.3 / 10), 0, 0, 1, 0),
    lambda im, v: affine(im, 1, 0, 0, signed(v * 0.3 / 10), 1, 0),
    lambda im, v: ImageOps.solarize(im, 256 - int(v * 256 / 10)),
    lambda im, v: affine(im, 1, 0, int(signed(v * 0.3 / 10) * im.width), 0, 1, 0),
    lambda im, v: affine(im, 1, 0, 0, 0, 1, int(signed(v * 0.3 / 10) * im.height)),
)


def decode(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def augment(image):
    for operation in random.choices(OPERATIONS, k=2):
        v = random.randint(1, 9)
        if random.random() < 0.5:
            image = operation(image, v)
    x, y = random.uniform(0, image.width), random.uniform(0, image.height)
    left, top = int(max(0, x - 8)), int(max(0, y - 8))
    image = image.copy()
    ImageDraw.Draw(image).rectangle(
        (left, top, int(min(image.width, left + 16)), int(min(image.height, top + 16))), (127, 127, 127))
    return image


def normalise(image):
    return (np.asarray(image, np.float32) / np.float32(255) - MEAN) / STD


def rate(call, items, seconds):
    """Calls a second of processor time over the items in turn."""
    call(items[0])
    count, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        call(items[count % len(items)])
        count += 1
    return count / (time.process_time() - start)


def main():
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 384
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 5
    random.seed(1)
    files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
    decoded = [decode(data) for data in files]
    resized = [image.resize((side, side)) for image in decoded]
    parts = (
        ("decode", decode, files),
        ("resize", lambda image: image.resize((side, side)), decoded),
        ("augment", augment, resized),
        ("normalise", normalise, resized),
        ("whole", lambda data: normalise(augment(decode(data).resize((side, side)))), files),
    )
    for name, call, items in parts:
        print(f"{name}\t{rate(call, items, seconds):.1f}")


main()
