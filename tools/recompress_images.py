"""Copies a folder of JPEG images with every image compressed once more, to measure what compression costs a network.

    python tools/recompress_images.py DATA OUT QUALITY

DATA holds JPEG images in folders of any depth; OUT is made, with the same names. QUALITY is libjpeg's, 1 to 95, with
chroma at half the resolution, as most programs write it. The same library writes the same bytes each time, so that
anyone can make the copies whose digests the manifests of ``studies/jpeg_quality.toml`` hold.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image


def recompressed(content: bytes, quality: int) -> bytes:
    """The JPEG file ``content`` decoded and encoded again."""
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        out = io.BytesIO()
        image.convert("RGB").save(out, "JPEG", quality=quality, subsampling="4:2:0")
    return out.getvalue()


def main() -> None:
    """Copy what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("quality", type=int, choices=range(1, 96), metavar="QUALITY")
    asked = parser.parse_args()
    images = sorted(path for path in asked.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not images:
        parser.error(f"{asked.data} has no JPEG images")
    if asked.out.exists():
        parser.error(f"{asked.out} exists already")
    for path in images:
        copy = asked.out / path.relative_to(asked.data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(recompressed(path.read_bytes(), asked.quality))
    print(f"{len(images)} images in {asked.out}")


if __name__ == "__main__":
    main()
