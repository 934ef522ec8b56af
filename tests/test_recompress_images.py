"""Images compressed once more: the same bytes each time, fewer of them, and never over what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

TOOL = Path(__file__).resolve().parents[1] / "tools" / "recompress_images.py"


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True)


def test_every_image_is_copied_smaller_and_alike_each_time(tmp_path: Path) -> None:
    pixels = np.random.RandomState(0).randint(0, 256, (32, 32, 3), dtype=np.uint8)
    image = tmp_path / "data" / "train" / "cat" / "0001.jpg"
    image.parent.mkdir(parents=True)
    Image.fromarray(pixels).save(image, quality=75)
    sizes = []
    for quality in (75, 30):
        copies = [tmp_path / f"{quality}-{time}" for time in range(2)]
        assert [call(tmp_path / "data", copy, quality).stdout for copy in copies] == [
            f"1 images in {c}\n" for c in copies
        ]
        first, again = (copy / "train" / "cat" / "0001.jpg" for copy in copies)
        assert first.read_bytes() == again.read_bytes()
        sizes.append(first.stat().st_size)
    assert sizes[1] < sizes[0]
    refused = call(tmp_path / "data", tmp_path / "75-0", 75)
    assert refused.returncode == 2 and "exists already" in refused.stderr
