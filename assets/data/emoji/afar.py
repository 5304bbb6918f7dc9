"""Tells each training concept of this pack from afar: `derived/afar.jsonl`, the colours of eight by eight cells in words.

    pip install pillow numpy
    python assets/data/emoji/afar.py

One drawing stands for all styles of a concept: Twemoji's, the plainest, or where that is held out or missing the first
of the other styles' in the order below. The words are those of `[[data]] sketch = 8` (`crates/data/src/sketch.rs`), to
the last one; `crates/data/tests/it/sketches.rs` holds them against each other.
"""

import glob
import hashlib
import io
import json
import pathlib
import tarfile

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
STYLES = ["twemoji", "fluent-flat", "noto", "emojione", "fluent-3d"]
SIDE = 8
COLORS = {
    "white": (255, 255, 255),
    "black": (40, 40, 40),
    "gray": (150, 155, 160),
    "red": (210, 50, 60),
    "yellow": (250, 200, 80),
    "green": (92, 145, 59),
    "blue": (59, 136, 195),
    "brown": (140, 95, 60),
    "teal": (130, 200, 220),
}


def is_for_validation(key):
    return hashlib.sha256(key.encode()).digest()[0] < 8


def word(cell):
    """The colour nearest to the mean of the cell's pixels."""
    mean = [int(channel.sum()) // channel.size for channel in cell.reshape(-1, 3).T.astype(np.int64)]
    far = lambda color: sum(seen * (a - b) ** 2 for seen, a, b in zip((9, 12, 6), color, mean))
    return min(COLORS, key=lambda name: far(COLORS[name]))


def sketch(picture):
    height, width, _ = picture.shape
    along = lambda at, pixels: slice(at * pixels // SIDE, (at + 1) * pixels // SIDE)
    rows = range(SIDE)
    return " ".join(word(picture[along(y, height), along(x, width)]) for y in rows for x in rows)


def main():
    drawings = {}
    for path in sorted(glob.glob(str(HERE / "train-*.tar.gz"))):
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        for name in members:
            key = name[:-5]
            if name.endswith(".json") and not is_for_validation(key):
                about = json.loads(members[name])
                drawings.setdefault(about["caption"], {})[about["style"]] = members[key + ".webp"]
    with open(HERE / "derived" / "afar.jsonl", "w") as out:
        for caption, styles in sorted(drawings.items()):
            webp = next(styles[style] for style in STYLES if style in styles)
            picture = np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))
            line = {"caption": caption, "afar": sketch(picture)}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
