"""ImageNet (ILSVRC 2012, Russakovsky et al. 2015), read in place: as Kaggle packs it, or in class folders.

    ILSVRC/Data/CLS-LOC/train/WNID/*.JPEG      Kaggle: one folder a class,
    ILSVRC/Data/CLS-LOC/val/*.JPEG             validation images side by side, their labels in one of
    LOC_val_solution.csv                         Kaggle's table (beside ILSVRC or in its ImageSets), or
    ILSVRC2012_devkit_t12[.tar.gz]               the organisers' development kit

    train/WNID/*.JPEG  val/WNID/*.JPEG         class folders (val may be called test)

No file is moved or written. Classes are numbered in the sorted order of their WordNet identifiers; images are ordered
by class, then by file name, in both layouts: the same photographs give the same run. There is no official digest of
single photographs, so ``canonical`` is not known; ``labelled_sha256`` compares two copies, whatever their layout.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers import published
from ndrepro.training.data.readers.class_folders import NOT_USED, LeftOut, check_same_classes, class_names, images_below
from ndrepro.training.data.readers.decoding import check_whole
from ndrepro.training.data.readers.digest_cache import digests
from ndrepro.training.data.readers.images import SourceFile, read_source
from ndrepro.training.data.readers.matlab import read_mat
from ndrepro.training.data.readers.photographs import Photographs, PhotographSplit

_NAME = "imagenet"
_KAGGLE = "ILSVRC/Data/CLS-LOC"
_TABLE = "LOC_val_solution.csv"
_DEVKIT = "ILSVRC2012_devkit_t12"
# digests are the organisers', as torchvision has them
_DEVKIT_ARCHIVE = published.PublishedFile(f"{_DEVKIT}.tar.gz", (), "fa75699e90414af021442c21a62c3abf")
_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


@dataclass(frozen=True)
class _Layout:
    """``top``: what names of files are relative to; the two splits' folders; where label files may lie; the test images
    beside validation images, which are not read.
    """

    top: Path
    train: Path
    val: Path
    labels: tuple[Path, ...]
    unused: tuple[Path, ...]

    def named(self, path: Path) -> str:
        """The name of a file or folder below ``top``."""
        return path.relative_to(self.top).as_posix()


def load(root: Path, devkit: published.PublishedFile = _DEVKIT_ARCHIVE) -> Photographs:
    """The data set from wherever ``root`` has it. Raises DataError naming the folder or file, and the cure."""
    layout = _layout(root)
    classes, beside_train = class_names(layout.top, layout.named(layout.train))
    expected = DATASETS[_NAME].num_classes
    if len(classes) != expected:
        raise DataError(
            f"{layout.train}: {len(classes)} class folders, {_NAME} has {expected}",
            "unpack the whole archive: an interrupted unpacking leaves classes out",
        )
    train, among_train = _in_class_folders(layout, layout.train, classes)
    val_classes, beside_val = class_names(layout.top, layout.named(layout.val))
    label_files: tuple[SourceFile, ...] = ()
    if val_classes:
        check_same_classes(layout.val, val_classes, classes, layout.train.name)
        val, among_val = _in_class_folders(layout, layout.val, val_classes)
        reader, left_out = "class folders", beside_val + among_val
    else:
        val, label_files, reader, left_out = _flat(layout, devkit)
        strangers = sorted(set(val.values()) - set(classes))
        if strangers:
            raise DataError(
                f"{layout.val}: labels that are no class folder of {layout.train.name}: {', '.join(strangers[:5])}",
                "unpack the whole archive again",
            )
    files = digests(layout.top, [*train, *val], check_whole)
    train_split = _split(layout.top, files[: len(train)], list(train.values()), classes)
    test_split = _split(layout.top, files[len(train) :], list(val.values()), classes)
    everything = tuple(sorted((*files, *label_files), key=lambda file: file.name))
    others = map(layout.named, layout.unused)
    unused = LeftOut(tuple((name, NOT_USED) for name in others if class_names(layout.top, name)[0]))
    left_out = beside_train + among_train + left_out + unused
    return Photographs(_NAME, train_split, test_split, classes, everything, None, reader, left_out)


def _layout(root: Path) -> _Layout:
    for prefix in (_KAGGLE, f"{_NAME}/{_KAGGLE}", "Data/CLS-LOC", ".", _NAME):
        base = (root / prefix).resolve()
        splits = [base / name for name in ("val", "test") if (base / name).is_dir()]
        if (base / "train").is_dir() and splits:
            # above ILSVRC, where there is one, so that names do not depend on where root points
            top = base.parents[2] if base.parts[-3:] == tuple(_KAGGLE.split("/")) else base
            sets = top / "ILSVRC" / "ImageSets"
            places = (top, top / "ILSVRC", sets, sets / "CLS-LOC", base)
            return _Layout(top, base / "train", splits[0], tuple(dict.fromkeys(places)), tuple(splits[1:]))
    raise DataError(
        f"{root}: neither {_KAGGLE}/train and val nor train/CLASS and val/CLASS are there",
        "unpack Kaggle's imagenet-object-localization-challenge.zip there as it is, or name a folder of class folders, "
        "with --data FOLDER (make run … DATA=FOLDER); it cannot be downloaded without an account",
    )


def _in_class_folders(layout: _Layout, folder: Path, classes: Sequence[str]) -> tuple[dict[str, str], LeftOut]:
    """File name -> class, of every image below ``folder``, by class and then by name; and what else is there."""
    found: dict[str, str] = {}
    left_out = LeftOut()
    for label in classes:
        names, others = images_below(layout.top, f"{layout.named(folder)}/{label}")
        if not names:
            raise DataError(f"{folder / label}: no image", "unpack the whole archive again")
        found.update(dict.fromkeys(names, label))
        left_out += others
    return found, left_out


def _flat(
    layout: _Layout, devkit: published.PublishedFile
) -> tuple[dict[str, str], tuple[SourceFile, ...], str, LeftOut]:
    """Validation images side by side: name -> class, in order; the files of labels; the reader; what is left out."""
    where, labels, sources, reader = _labels(layout, devkit)
    images, left_out = images_below(layout.top, layout.named(layout.val))
    names = {Path(name).stem: name for name in images}
    without, absent = sorted(set(names) - set(labels)), sorted(set(labels) - set(names))
    if without or absent:
        raise DataError(
            f"{where}: labels of {len(labels)} images, {layout.val} has {len(names)}; without a label: "
            f"{', '.join(without[:3]) or 'none'}; not there: {', '.join(absent[:3]) or 'none'}",
            "use the label file that belongs to these images",
        )
    files = (_TABLE, f"{_DEVKIT}/data/{_TRUTH}", f"data/{_TRUTH}", _TRUTH, devkit.name)
    others = [place / file for place in layout.labels for file in files if (place / file).is_file()]
    ordered = sorted(names, key=lambda stem: (labels[stem], names[stem]))
    unused = LeftOut(tuple((layout.named(each), "labels that are not used") for each in others if each != where))
    return {names[stem]: labels[stem] for stem in ordered}, sources, f"{reader}, flat val", left_out + unused


def _labels(
    layout: _Layout, devkit: published.PublishedFile
) -> tuple[Path, dict[str, str], tuple[SourceFile, ...], str]:
    """Where labels were found; image name without suffix -> class; the files; what they are."""
    for place in layout.labels:
        if (place / _TABLE).is_file():
            content, source = read_source(place / _TABLE, layout.named(place / _TABLE))
            return place / _TABLE, _from_table(place / _TABLE, content), (source,), f"Kaggle's {_TABLE}"
        for folder in (place / _DEVKIT / "data", place / "data", place):
            if (folder / _TRUTH).is_file() and (folder / _META).is_file():
                read = [read_source(folder / name, layout.named(folder / name)) for name in (_TRUTH, _META)]
                labels = _from_devkit(folder, *(content for content, _ in read))
                return folder / _TRUTH, labels, tuple(source for _, source in read), "development kit"
        if (archive := place / devkit.name).is_file():
            members = [f"{_DEVKIT}/data/{name}" for name in (_TRUTH, _META)]
            read_archive = published.read_tar(archive, devkit, dict.fromkeys(members, ""))
            labels = _from_devkit(archive, *(read_archive.contents[name] for name in members))
            return archive, labels, (read_archive.source,), "development kit"
    raise DataError(
        f"{layout.val}: images side by side, and their labels are nowhere in {', '.join(map(str, layout.labels[:4]))}",
        f"put {_TABLE} (Kaggle) or {_DEVKIT}.tar.gz (image-net.org) beside ILSVRC",
    )


def _from_table(path: Path, content: bytes) -> dict[str, str]:
    """Rows of ``ImageId,PredictionString``; a prediction is the class, then a box, perhaps more of them."""
    labels: dict[str, str] = {}
    for line, row in enumerate(csv.reader(io.StringIO(content.decode("utf-8", "replace"))), 1):
        if line == 1 and row[:1] == ["ImageId"]:
            continue
        words = row[1].split() if len(row) == 2 else []
        if not words:
            raise DataError(
                f"{path}: line {line}: {','.join(row)[:60]!r}, expected IMAGE,CLASS and a box",
                "take it from Kaggle's archive afresh",
            )
        if labels.setdefault(row[0], words[0]) != words[0]:
            raise DataError(
                f"{path}: line {line}: another class for {row[0][:60]}", "take it from Kaggle's archive afresh"
            )
    return labels


def _from_devkit(where: Path, truth: bytes, meta: bytes) -> dict[str, str]:
    """Line i has the number, in the kit's own order, of the class of validation image i."""
    synsets = read_mat(where / _META, meta, simplified=True).get("synsets")
    if not isinstance(synsets, list) or not all(
        isinstance(row, dict) and {"ILSVRC2012_ID", "WNID"} <= row.keys() for row in synsets
    ):
        raise DataError(f"{where / _META}: no table of synsets", "take it from the development kit afresh")
    classes = {int(np.asarray(row["ILSVRC2012_ID"]).item()): str(row["WNID"]) for row in synsets}
    labels: dict[str, str] = {}
    for line, text in enumerate(truth.decode("ascii", "replace").split(), 1):
        if not text.isdecimal() or int(text) not in classes:
            raise DataError(
                f"{where / _TRUTH}: line {line}: {text[:20]!r}, expected the number of a class",
                "take it from the development kit afresh",
            )
        labels[f"ILSVRC2012_val_{line:08d}"] = classes[int(text)]
    return labels


def _split(top: Path, files: Sequence[SourceFile], names: Sequence[str], classes: tuple[str, ...]) -> PhotographSplit:
    number = {name: label for label, name in enumerate(classes)}
    return PhotographSplit(top, tuple(files), np.array([number[name] for name in names], dtype=np.int64))
