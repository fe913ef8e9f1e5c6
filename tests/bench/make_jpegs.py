"""JPEG files for measuring: pieces of the golden photographs, enlarged, with grain.

    python tests/bench/make_jpegs.py FOLDER [COUNT] [WIDTH] [HEIGHT] [QUALITY]

Default 16 files of 500 x 375 pixels, quality 90, 4:2:0: about 55 kB each.
"""
import sys
from pathlib import Path

import h5py
import numpy as np
from PIL import Image

folder = Path(sys.argv[1])
count, width, height, quality = (int(v) for v in (sys.argv[2:6] + ["16", "500", "375", "90"][len(sys.argv) - 2:]))
folder.mkdir(parents=True, exist_ok=True)
draw = np.random.default_rng(1)
golden = h5py.File(Path(__file__).parent.parent / "golden/images.h5")
photos = [Image.fromarray(golden[f"sources/{name}/rgb"][:]) for name in ("photo_420", "photo_444_progressive")]
for i in range(count):
    photo = photos[i % 2]
    left, top = (int(draw.integers(0, n // 4)) for n in photo.size)
    piece = photo.crop((left, top, left + photo.width * 3 // 4, top + photo.height * 3 // 4)).resize((width, height))
    grain = np.asarray(piece, np.float32) + draw.normal(0, 5, (height, width, 1))
    image = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))
    image.save(folder / f"{i:04}.jpg", quality=quality, subsampling=2)
