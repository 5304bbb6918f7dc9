"""Draws the training concepts of this pack in black on white, in four further sets: `derived/mono-*.tar.gz`.

    npm pack @iconify-json/fluent-emoji-high-contrast@1.2.6 @iconify-json/emojione-monotone@1.2.1 @fontsource/noto-emoji@5.3.2
    for p in *.tgz; do mkdir -p "icons/${p%-*}" && tar xzf "$p" -C "icons/${p%-*}" --strip-components=1; done
    apt-get download fonts-symbola=2.60-1.1 && dpkg -x fonts-symbola_*.deb icons/symbola
    pip install resvg-py==0.5.0 pillow==13.0.0 numpy
    python assets/data/emoji/mono.py icons

Icons of Fluent are matched by their code points, those of EmojiOne where their name is CLDR's, glyphs of the fonts by
the one code point that is the concept. What is left out is as in `more.py`: nothing here shows a held-out drawing, nor
is it of a set whose coloured sibling is held out; flags are left out, too.
"""

import json
import pathlib
import re
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from more import HERE, drawings, is_for_validation, rendered, written

# A set's siblings among the pack's own styles.
SIBLINGS = {
    "fluent-mono": {"fluent-flat", "fluent-3d"},
    "emojione-mono": {"emojione"},
    "noto-mono": {"noto"},
    "symbola": set(),
}
SIZE, MARGIN = 64, 4


def points(hexcode):
    """Code points of a concept, without the selector of its coloured form."""
    return [int(part, 16) for part in hexcode.split("-") if part != "FE0F"]


def icons(package):
    """An icon set and the names of its icons by code points."""
    by_points = {}
    for code, name in json.loads((package / "chars.json").read_text()).items():
        by_points.setdefault(tuple(points(code.upper())), name)
    return json.loads((package / "icons.json").read_text()), by_points


def glyph(font, character):
    """A glyph, as large as fits, in the middle; nothing where the font has none."""
    left, top, right, bottom = font.getbbox(character)
    if right <= left or bottom <= top:
        return None
    large = Image.new("L", (right - left, bottom - top), 255)
    ImageDraw.Draw(large).text((-left, -top), character, font=font, fill=0)
    scale = (SIZE - 2 * MARGIN) / max(large.size)
    small = large.resize([max(1, round(side * scale)) for side in large.size], Image.LANCZOS)
    picture = Image.new("L", (SIZE, SIZE), 255)
    picture.paste(small, ((SIZE - small.width) // 2, (SIZE - small.height) // 2))
    return picture.convert("RGB")


def fonts(paths):
    """Fonts with what they draw for a character they have not."""
    for path in paths:
        font = ImageFont.truetype(str(path), 256)
        missing = glyph(font, "\U0010fffd")
        yield font, missing and missing.tobytes()


def drawn(faces, character):
    for font, missing in faces:
        picture = glyph(font, character)
        if picture and picture.tobytes() != missing and np.asarray(picture).min() < 64:
            return picture
    return None


def main(packages):
    packages = pathlib.Path(packages)
    train = list(drawings("train-*.tar.gz"))
    held = [d for d in train if is_for_validation(d[0])] + list(drawings("test_*.tar.gz"))
    held_styles = {(about["hexcode"], about["style"]) for _, about, _ in held}
    held_codes = np.array([about["hexcode"] for _, about, _ in held])
    held_pixels = np.stack([picture for _, _, picture in held]).reshape(len(held), -1)
    concepts = {about["hexcode"]: about for _, about, _ in train if about["group"] != "flags"}

    fluent, fluent_names = icons(packages / "iconify-json-fluent-emoji-high-contrast")
    emojione, _ = icons(packages / "iconify-json-emojione-monotone")
    noto = list(fonts(sorted((packages / "fontsource-noto-emoji/files").glob("*-400-normal.woff"))))
    symbola = list(fonts((packages / "symbola").rglob("Symbola*.ttf")))

    def pictures(code, about):
        """(style, picture) of all sets that have the concept."""
        name = fluent_names.get(tuple(points(code)))
        if name in fluent["icons"]:
            yield "fluent-mono", rendered(fluent, name)
        slug = re.sub(r"[^a-z0-9]+", "-", about["caption"].lower()).strip("-")
        if slug in emojione["icons"]:
            yield "emojione-mono", rendered(emojione, slug)
        if len(points(code)) == 1:
            for style, faces in (("noto-mono", noto), ("symbola", symbola)):
                picture = drawn(faces, chr(points(code)[0]))
                if picture:
                    yield style, picture

    kept, left_out, seen = [], {"sibling": 0, "near": 0, "same": 0}, set()
    for code, about in concepts.items():
        for style, picture in pictures(code, about):
            if any((code, other) in held_styles for other in SIBLINGS[style]):
                left_out["sibling"] += 1
                continue
            pixels = np.asarray(picture, np.float32).reshape(-1) / 255
            errors = ((held_pixels - pixels) ** 2).mean(1)
            if (errors < np.where(held_codes == code, 0.01, 0.003)).any():
                left_out["near"] += 1
                continue
            if picture.tobytes() in seen:
                left_out["same"] += 1
                continue
            seen.add(picture.tobytes())
            kept.append((f"{code.lower()}_{style}", {**about, "style": style}, picture))
    written(kept, "mono")
    styles = {style: sum(about["style"] == style for _, about, _ in kept) for style in SIBLINGS}
    print(len(kept), styles, "left out:", left_out)


if __name__ == "__main__":
    main(*sys.argv[1:])
