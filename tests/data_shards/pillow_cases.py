"""Files of many kinds and what Pillow makes of them, for tests/data_shards/pillow_python.c.

    python pillow_cases.py FOLDER

Writes NAME.file (encoded) and NAME.want: height, width (int32) and RGB bytes, or nothing where Pillow refuses the
file. Resizing: NAME.file is a PNG, NAME.want the result of that other size, across first.
"""
import io
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, features

warnings.simplefilter("ignore")
draw = np.random.default_rng(7)
folder = Path(sys.argv[1])


def put(name, data, image=None):
    try:
        want = np.array((image or Image.open(io.BytesIO(data))).convert("RGB"))
        text = struct.pack("<ii", *want.shape[:2]) + want.tobytes()
    except Exception:
        text = b""
    (folder / (name + ".file")).write_bytes(data)
    (folder / (name + ".want")).write_bytes(text)


def picture(height, width, channels=3):
    """Smooth with some noise, so that lossy formats have something to do."""
    y, x, c = np.mgrid[0:height, 0:width, 0:channels]
    wave = 120 + 80 * np.sin(x / 9 + c) * np.cos(y / 7 - c) + 40 * ((x // 8 + y // 8) % 2)
    return np.clip(wave + draw.normal(0, 6, wave.shape), 0, 255).astype(np.uint8)


def encode(image, kind, **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


# ---- PNG of every colour type, depth and interlacing, which Pillow reads but does not write
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(rows, depth):
    """rows: (h, w, c) samples -> scan lines with filter type 0."""
    out = b""
    for row in rows:
        flat = row.reshape(-1)
        if depth == 16:
            line = flat.astype(">u2").tobytes()
        else:
            bits = (flat[:, None] >> np.arange(depth - 1, -1, -1)) & 1
            line = np.packbits(bits.reshape(-1).astype(np.uint8)).tobytes()
        out += b"\0" + line
    return out


def png(height, width, colour, depth, interlaced, n_palette=None, transparent=None, pieces=1):
    samples = draw.integers(0, 1 << depth, (height, width, CHANNELS[colour]))
    if colour == 0 and depth == 16:
        samples = np.where(draw.integers(0, 2, samples.shape), samples % 300, samples)
    if interlaced:
        passes = [samples[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7]
        body = b"".join(packed(p, depth) for p in passes if p.size)
    else:
        body = packed(samples, depth)
    out = b"\x89PNG\r\n\x1a\n"
    out += chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced)))
    out += chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tEXt", b"Comment\0none")
    if colour == 3:
        n = n_palette or 1 << depth
        out += chunk(b"PLTE", draw.integers(0, 256, 3 * n).astype(np.uint8).tobytes())
    if transparent is not None:
        out += chunk(b"tRNS", transparent)
    body = zlib.compress(body)
    for i in range(pieces):
        out += chunk(b"IDAT", body[i * len(body) // pieces:(i + 1) * len(body) // pieces])
    return out + chunk(b"IEND", b"")


def write_pngs():
    for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)), (4, (8, 16)), (6, (8, 16))):
        for depth in depths:
            for interlaced in (False, True):
                for height, width in ((13, 21), (1, 1), (3, 5), (32, 16)):
                    name = f"png_{colour}_{depth}_{int(interlaced)}_{height}x{width}"
                    put(name, png(height, width, colour, depth, interlaced))
    put("png_short_palette", png(9, 9, 3, 8, False, n_palette=40))
    put("png_transparent_palette", png(9, 9, 3, 4, False, transparent=bytes([0, 128, 255])))
    put("png_transparent_gray", png(9, 9, 0, 8, False, transparent=struct.pack(">H", 77)))
    put("png_transparent_gray2", png(9, 9, 0, 2, False, transparent=struct.pack(">H", 1)))
    put("png_transparent_gray16", png(9, 9, 0, 16, False, transparent=struct.pack(">H", 77)))
    put("png_transparent_rgb", png(9, 9, 2, 8, False, transparent=struct.pack(">HHH", 1, 2, 3)))
    put("png_many_pieces", png(40, 30, 2, 8, False, pieces=9))


def write_jpegs():
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            for height, width in ((1, 1), (8, 8), (17, 33), (50, 75), (64, 1), (3, 100)):
                image = Image.fromarray(picture(height, width))
                options = dict(quality=int(draw.integers(20, 98)), subsampling=subsampling, progressive=progressive)
                put(f"jpeg_{subsampling}_{int(progressive)}_{height}x{width}", encode(image, "JPEG", **options))
    for progressive in (False, True):
        cmyk = Image.fromarray(picture(37, 29, 4), "CMYK")
        put(f"jpeg_cmyk_{int(progressive)}", encode(cmyk, "JPEG", progressive=progressive))
        put(f"jpeg_gray_{int(progressive)}", encode(Image.fromarray(picture(20, 31)[..., 0]), "JPEG",
                                                    progressive=progressive))
    plain = encode(Image.fromarray(picture(24, 24)), "JPEG", keep_rgb=True)
    put("jpeg_rgb", plain)
    cmyk = encode(Image.fromarray(picture(24, 40, 4), "CMYK"), "JPEG")
    put("jpeg_ycck", cmyk.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2"))
    put("jpeg_restart", encode(Image.fromarray(picture(48, 48)), "JPEG", restart_marker_blocks=2))
    put("jpeg_arithmetic_claimed", plain.replace(b"\xff\xc0", b"\xff\xc9"))
    put("jpeg_extraneous", plain[:-2] + b"\x12\x34\x56" + plain[-2:])


def write_cut_files():
    for name, data in (("baseline", encode(Image.fromarray(picture(40, 40)), "JPEG", quality=70)),
                       ("progressive", encode(Image.fromarray(picture(40, 40)), "JPEG", quality=70, progressive=True)),
                       ("png", png(20, 20, 2, 8, False)), ("png_pieces", png(20, 20, 6, 8, True, pieces=4))):
        for n in sorted(set(list(draw.integers(0, len(data), 25)) + [len(data) - i for i in range(1, 20)])):
            put(f"cut_{name}_{n}", data[:n])


def write_webps():
    if not features.check("webp"):
        return
    for alpha in (False, True):
        for lossless in (False, True):
            for height, width in ((1, 1), (33, 50)):
                image = Image.fromarray(picture(height, width, 4 if alpha else 3))
                data = encode(image, "WEBP", lossless=lossless, quality=60, exact=True)
                put(f"webp_{int(alpha)}_{int(lossless)}_{height}x{width}", data)


def write_resized():
    for i in range(300):
        top = (12, 60, 300)[i % 3]
        height, width, to_height, to_width = (int(n) for n in draw.integers(1, top, 4))
        image = Image.fromarray(draw.integers(0, 256, (height, width, 3)).astype(np.uint8))
        result = image.resize((to_width, height)).resize((to_width, to_height))
        put(f"resize_{i}", encode(image, "PNG", compress_level=0), result)


write_pngs()
write_jpegs()
write_cut_files()
write_webps()
write_resized()
