"""Draws the training concepts of this pack in further styles: `derived/more-*.tar.gz`.

    npm pack @iconify-json/noto-v1@1.2.5 @iconify-json/fxemoji@1.2.2 @iconify-json/streamline-emojis@1.2.4
    for p in *.tgz; do mkdir -p "icons/${p%-*}" && tar xzf "$p" -C "icons/${p%-*}" --strip-components=1; done
    pip install resvg-py==0.5.0 pillow==13.0.0 numpy
    python assets/data/emoji/more.py icons

`derived/icons.tsv` says which icon shows which concept: hexcode, style, name of the icon. Icons were
matched by name: CLDR's, Unicode's and the usual shortcodes, each of one concept alone; those of
fxemoji by the code points that its repository names its files by. Nothing of a concept outside of
train is in it. Left out here is what would show a held-out drawing to whoever trains on this:

* an icon of the set that a style grew out of, where that style's drawing of the concept is held out
  (a test, or the validation part by the rule of `../README.md`);
* an icon nearer than a mean squared error of 0.01 to a held-out drawing of its concept, or than
  0.003 to one of any other.
"""

import glob
import gzip
import hashlib
import io
import json
import pathlib
import sys
import tarfile

import numpy as np
import resvg_py
from PIL import Image

HERE = pathlib.Path(__file__).parent
SETS = {"noto-v1": "iconify-json-noto-v1", "fxemoji": "iconify-json-fxemoji", "streamline": "iconify-json-streamline-emojis"}
# What a set's drawings became in the pack's own styles.
GREW_INTO = {"noto-v1": {"noto"}}
PER_SHARD = 1000


def drawings(pattern):
    """(key, description, picture) of every drawing in tars."""
    for path in sorted(glob.glob(str(HERE / pattern))):
        with tarfile.open(path) as tar:
            members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
        for name in members:
            if name.endswith(".json"):
                key = name[:-5]
                picture = Image.open(io.BytesIO(members[key + ".webp"])).convert("RGB")
                yield key, json.loads(members[name]), np.asarray(picture, np.float32) / 255


def is_for_validation(key):
    return hashlib.sha256(key.encode()).digest()[0] < 8


def rendered(icons, name):
    """An icon on white, in the middle of 64 x 64."""
    icon = icons["icons"][name]
    w, h = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {w} {h}" width="64" height="64">{icon["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=64, height=64, background="white"))
    return Image.open(io.BytesIO(png)).convert("RGB")


def written(kept, name):
    """Samples, in an order of their own, in shards."""
    kept.sort(key=lambda sample: hashlib.sha256(sample[0].encode()).digest())
    for old in glob.glob(str(HERE / f"derived/{name}-*.tar.gz")):
        pathlib.Path(old).unlink()
    for shard in range(0, len(kept), PER_SHARD):
        path = HERE / f"derived/{name}-{shard // PER_SHARD:04}.tar.gz"
        with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as packed, tarfile.open(
            fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT
        ) as tar:
            for key, about, picture in kept[shard : shard + PER_SHARD]:
                webp = io.BytesIO()
                picture.save(webp, "WEBP", lossless=True, quality=100, method=6)
                about = json.dumps(about, ensure_ascii=False).encode()
                for kind, data in (("webp", webp.getvalue()), ("json", about)):
                    member = tarfile.TarInfo(f"{key}.{kind}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def main(packages):
    train = list(drawings("train-*.tar.gz"))
    held = [d for d in train if is_for_validation(d[0])]
    held += list(drawings("test_*.tar.gz"))
    concepts = {}
    for _, about, _ in train:
        concepts.setdefault(about["hexcode"], about)
    held_styles = {(about["hexcode"], about["style"]) for _, about, _ in held}
    held_codes = np.array([about["hexcode"] for _, about, _ in held])
    held_pixels = np.stack([picture for _, _, picture in held]).reshape(len(held), -1)
    sets = {
        style: json.loads((pathlib.Path(packages) / folder / "icons.json").read_text())
        for style, folder in SETS.items()
    }

    kept, left_out, seen = [], {"grew": 0, "near": 0, "same": 0}, set()
    for line in (HERE / "derived/icons.tsv").read_text().splitlines():
        code, style, name = line.split("\t")
        about = concepts[code]
        assert about["group"] != "flags", line
        if any((code, other) in held_styles for other in GREW_INTO.get(style, ())):
            left_out["grew"] += 1
            continue
        picture = rendered(sets[style], name)
        pixels = np.asarray(picture, np.float32).reshape(-1) / 255
        errors = ((held_pixels - pixels) ** 2).mean(1)
        if (errors < np.where(held_codes == code, 0.01, 0.003)).any():
            left_out["near"] += 1
            continue
        same = picture.tobytes()
        if same in seen:
            left_out["same"] += 1
            continue
        seen.add(same)
        key = f"{code.lower()}_{style}"
        number = 1 + sum(other == key or other.startswith(key + "-") for other, *_ in kept)
        key += f"-{number}" if number > 1 else ""
        kept.append((key, {**about, "style": style}, picture))

    written(kept, "more")
    styles = {style: sum(about["style"] == style for _, about, _ in kept) for style in SETS}
    print(len(kept), styles, "left out:", left_out)


if __name__ == "__main__":
    main(*sys.argv[1:])
