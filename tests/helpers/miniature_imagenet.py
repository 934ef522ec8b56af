"""A miniature ImageNet of real pictures: crops of the two photographs that scikit-learn ships, in 1000 classes."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from sklearn.datasets import load_sample_images

WNIDS = [f"n{1_440_000 + 17 * number:08d}" for number in range(1000)]
VALIDATION = 1012
KAGGLE = Path("ILSVRC/Data/CLS-LOC")


@dataclass(frozen=True)
class Miniature:
    """Two folders with the same photographs: as Kaggle packs them (labels apart), and in class folders."""

    kaggle: Path
    folders: Path
    labels: tuple[int, ...]  # of the validation images, by their number from 1

    @property
    def table(self) -> str:
        rows = [
            f"ILSVRC2012_val_{number:08d},{WNIDS[label]} 1 2 30 40 {WNIDS[label]} 3 4 5 6"
            for number, label in enumerate(self.labels, 1)
        ]
        # Kaggle's rows come in no order
        return "\n".join(["ImageId,PredictionString", *reversed(rows)]) + "\n"

    def write_devkit(self, folder: Path) -> None:
        """The development kit's two files; its own numbers are not in the order of the names."""
        folder.mkdir(parents=True)
        own = np.random.RandomState(5).permutation(1000) + 1
        synsets = np.array(
            [(number, wnid, "some words") for number, wnid in zip(own, WNIDS, strict=True)]
            + [(1000 + number, f"n9{number:07d}", "not a leaf") for number in range(1, 4)],
            dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")],
        )
        savemat(folder / "meta.mat", {"synsets": synsets[:, None]}, do_compression=True)
        truth = "".join(f"{own[label]}\n" for label in self.labels)
        (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)

    def copy(self, source: Path, target: Path) -> Path:
        """A copy that may be changed: files are links, and replaced, never written into."""
        return Path(shutil.copytree(source, target, copy_function=os.link))


def photographs(count: int) -> Iterator[Image.Image]:
    """Crops of many sizes and shapes."""
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    generator = np.random.RandomState(0)
    for number in range(count):
        source = sources[number % 2]
        width, height = (int(side) for side in generator.randint(20, 70, 2))
        left, top = generator.randint(0, source.width - width), generator.randint(0, source.height - height)
        yield source.crop((left, top, left + width, top + height))


def make(root: Path) -> Miniature:
    """The two folders below ``root``."""
    # one of each class, as class folders must have, and a few more
    labels = tuple(int(label) % 1000 for label in np.random.RandomState(1).permutation(VALIDATION))
    made = Miniature(root / "kaggle", root / "folders", labels)
    pictures = photographs(1000 + VALIDATION)
    for label, wnid in enumerate(WNIDS):
        path = made.kaggle / KAGGLE / "train" / wnid / f"{wnid}_{label % 7}.JPEG"
        path.parent.mkdir(parents=True)
        picture = next(pictures)
        (picture.convert("L") if label == 3 else picture).save(path, "JPEG", quality=90)
    val = made.kaggle / KAGGLE / "val"
    val.mkdir()
    for number in range(1, VALIDATION + 1):
        next(pictures).save(val / f"ILSVRC2012_val_{number:08d}.JPEG", "JPEG", quality=90)
    (made.kaggle / KAGGLE / "test").mkdir()
    (made.kaggle / KAGGLE / "test" / "ILSVRC2012_test_00000001.JPEG").write_bytes(b"no label, not read")
    made.folders.mkdir()
    shutil.copytree(made.kaggle / KAGGLE / "train", made.folders / "train", copy_function=os.link)
    for number, label in enumerate(labels, 1):
        target = made.folders / "val" / WNIDS[label]
        target.mkdir(parents=True, exist_ok=True)
        os.link(val / f"ILSVRC2012_val_{number:08d}.JPEG", target / f"ILSVRC2012_val_{number:08d}.JPEG")
    return made
