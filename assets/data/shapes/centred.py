"""Training shapes that stand in the middle and are neither small nor large: `derived/centred.jsonl`.

    pip install pillow numpy
    python assets/data/shapes/centred.py

A shape that may stand anywhere says little of how to paint one that is asked for without a place; these say where. The
lines are those of `train_captions.jsonl` for every picture whose figure has its middle within `NEAR` pixels of the
picture's and sides of `SIDES` pixels.
"""

import io
import json
import pathlib
import tarfile

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent
NEAR = 5
SIDES = range(26, 43)


def box(picture):
    """First and last row and column of what has not the ground's colour, that of the top left corner."""
    far = np.abs(picture.astype(int) - picture[0, 0]).sum(axis=2) > 60
    rows, columns = np.flatnonzero(far.any(axis=1)), np.flatnonzero(far.any(axis=0))
    return [(side[0], side[-1] + 1) for side in (rows, columns)]


def is_centred(picture):
    return all(
        abs(low + high - length) <= 2 * NEAR and high - low in SIDES
        for (low, high), length in zip(box(picture), picture.shape)
    )


def main():
    with tarfile.open(HERE / "train_images.tar.gz") as tar:
        pictures = {pathlib.PurePath(m.name).name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}
    lines = []
    for line in open(HERE / "train_captions.jsonl"):
        picture = np.asarray(Image.open(io.BytesIO(pictures[json.loads(line)["image"]])).convert("RGB"))
        if is_centred(picture):
            lines.append(line)
    (HERE / "derived" / "centred.jsonl").write_text("".join(lines))
    print(f"{len(lines)} pictures")


if __name__ == "__main__":
    main()
