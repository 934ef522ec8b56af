"""A folder that Hugging Face's ``datasets`` wrote with ``save_to_disk``, read without that library.

    FOLDER/dataset_dict.json                    the names of the splits: train, and test or else validation
    FOLDER/train/state.json                     the names of the split's Arrow files, in order
    FOLDER/train/dataset_info.json              its features: what each column is
    FOLDER/train/data-00000-of-00001.arrow      its rows

Images are the one column of the feature Image, whose encoded files are in the rows, or of Array2D or Array3D of uint8;
labels are the one column of ClassLabel. Other columns are not read. Nothing outside of the folder is opened, whatever
paths it names: an image that is there by its path alone is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ndrepro.protocol import extras
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.own import SAVED_DATASET
from ndrepro.training.data.own_data.arrow_stream import read_columns
from ndrepro.training.data.readers.images import SourceFile
from provenance.errors import CanonicalError
from provenance.formats.bounded_read import DOCUMENT_BYTES, read_bounded
from provenance.formats.canonical_json import parse

if TYPE_CHECKING:
    import pyarrow

TEST_SPLITS = ("test", "validation")
_STATE, _INFO = "state.json", "dataset_info.json"
_ARROW_FILE = re.compile(r"[A-Za-z0-9][\w.-]*\.arrow", re.ASCII)
_MOST_FILES, _MOST_BYTES, _MOST_CLASSES = 100_000, 1 << 32, 100_000
_ONE_EACH = "keep one column of images and one of labels: remove_columns, then save_to_disk"


@dataclass(frozen=True)
class SavedSplit:
    """The rows of a split: encoded files of images, or pixels uint8 (N, …); labels int64 (N,); the files read, and the
    names of columns that are not used.
    """

    folder: Path
    images: tuple[bytes, ...] | np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    files: tuple[SourceFile, ...]
    unused: tuple[str, ...]


@dataclass(frozen=True)
class SavedDataset:
    """Both splits, the file that lists them, and the names of splits that are not used."""

    train: SavedSplit
    test: SavedSplit
    listing: SourceFile
    unused: tuple[str, ...]


@dataclass(frozen=True)
class _Columns:
    """Which columns hold images and labels; ``shape`` of arrays, None where images are encoded files."""

    images: str
    labels: str
    shape: tuple[int, ...] | None
    classes: tuple[str, ...]
    unused: tuple[str, ...]


def is_saved(root: Path) -> bool:
    """Whether ``datasets`` wrote the folder: a DatasetDict, or a Dataset without splits."""
    return (root / SAVED_DATASET).is_file() or (root / _STATE).is_file()


def read_saved(root: Path) -> SavedDataset:
    """Both splits of the folder. Raises DataError naming file and column, MissingExtra without pyarrow."""
    extras.require("pyarrow")
    if not (root / SAVED_DATASET).is_file():
        raise DataError(
            f"{root}: a Dataset without splits, expected a DatasetDict with train and test",
            "save both: dataset.train_test_split(test_size=0.2, seed=0).save_to_disk(FOLDER)",
        )
    document, listing = _document(root, SAVED_DATASET)
    names = [name for name in _list(document.get("splits")) if isinstance(name, str)]
    test = next((name for name in TEST_SPLITS if name in names), None)
    if "train" not in names or test is None:
        raise DataError(
            f"{root}: splits {', '.join(names[:8]) or 'none'}, expected train and test",
            "save a DatasetDict with these two, or with train and validation",
        )
    splits = [_split(root, name) for name in ("train", test)]
    if splits[0].classes != splits[1].classes:
        raise DataError(f"{root}: train and {test} name other classes", "cast both to the same ClassLabel")
    unused = tuple(name for name in names if name not in ("train", test))
    return SavedDataset(splits[0], splits[1], listing, unused)


def _split(root: Path, name: str) -> SavedSplit:
    state, state_file = _document(root, f"{name}/{_STATE}")
    info, info_file = _document(root, f"{name}/{_INFO}")
    columns = _columns(root / name / _INFO, info.get("features"))
    images: list[Any] = []
    labels, files = [], [state_file, info_file]
    for file in _arrow_files(root / name / _STATE, state):
        content, source = _read(root, f"{name}/{file}", _MOST_BYTES)
        files.append(source)
        where = root / name / file
        for pictures, numbers in read_columns(where, content, (columns.images, columns.labels)):
            labels.append(_labels(where, columns, numbers))
            if columns.shape is None:
                images += _encoded(where, columns.images, pictures)
            else:
                images.append(_pixels(where, columns, pictures))
    if not sum(map(len, labels)):
        raise DataError(f"{root / name}: it holds no image", "save a split that has rows")
    found = tuple(images) if columns.shape is None else np.concatenate(images)
    return SavedSplit(root / name, found, np.concatenate(labels), columns.classes, tuple(files), columns.unused)


def _columns(path: Path, features: object) -> _Columns:
    """The two columns, by their features. Raises DataError listing what is there."""
    kinds = {
        name: str(about.get("_type"))
        for name, about in (features.items() if isinstance(features, Mapping) else ())
        if isinstance(about, Mapping)
    }
    pictures = [name for name, kind in kinds.items() if kind in ("Image", "Array2D", "Array3D")]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    listed = ", ".join(f"{name} ({kind})" for name, kind in list(kinds.items())[:8]) or "none"
    if len(pictures) != 1:
        raise DataError(f"{path}: {len(pictures)} columns of images among {listed}, expected one", _ONE_EACH)
    if not labels:
        cure = "name the classes: cast_column(NAME, ClassLabel(names=[…])) or class_encode_column(NAME), then save"
        raise DataError(f"{path}: no column of ClassLabel among {listed}", cure)
    if len(labels) > 1:
        raise DataError(f"{path}: {len(labels)} columns of labels: {', '.join(labels[:8])}, expected one", _ONE_EACH)
    assert isinstance(features, Mapping)
    used = (pictures[0], labels[0])
    classes = tuple(map(str, _list(features[labels[0]].get("names"))))
    if not 0 < len(classes) <= _MOST_CLASSES:
        raise DataError(f"{path}: {labels[0]} names {len(classes)} classes", "cast it to ClassLabel(names=[…])")
    shape = _shape(path, pictures[0], features[pictures[0]])
    return _Columns(pictures[0], labels[0], shape, classes, tuple(name for name in features if name not in used))


def _shape(path: Path, name: str, about: Mapping[str, Any]) -> tuple[int, ...] | None:
    """The shape that arrays of a column have; None for encoded images."""
    if about["_type"] == "Image":
        return None
    shape = tuple(_list(about.get("shape")))
    if about.get("dtype") != "uint8" or not all(isinstance(extent, int) and 0 < extent < 1 << 16 for extent in shape):
        raise DataError(
            f"{path}: {name} is {about.get('dtype')} of shape {shape}, expected uint8 of a fixed shape",
            "store pixels as whole numbers from 0 to 255",
        )
    return shape


def _arrow_files(path: Path, state: Mapping[str, Any]) -> Sequence[str]:
    if any(state.get(key) for key in ("_indices_data_files", "_indices_files")):
        raise DataError(f"{path}: rows are chosen by a table of indices", "call flatten_indices(), then save_to_disk")
    names = [each.get("filename") if isinstance(each, Mapping) else None for each in _list(state.get("_data_files"))]
    for name in names:
        if not isinstance(name, str) or not _ARROW_FILE.fullmatch(name):
            raise DataError(f"{path}: data file {name!r}, expected the name of an Arrow file beside it", "save it anew")
    if len(names) > _MOST_FILES:
        raise DataError(f"{path}: {len(names):,} data files, expected at most {_MOST_FILES:,}", "save fewer shards")
    return [str(name) for name in names]


def _labels(path: Path, columns: _Columns, column: pyarrow.Array) -> np.ndarray:
    import pyarrow

    if not pyarrow.types.is_integer(column.type) or column.null_count:
        raise DataError(f"{path}: {columns.labels} is {column.type}, expected whole numbers", "cast it to ClassLabel")
    labels = column.to_numpy(zero_copy_only=False).astype(np.int64)
    wrong = labels[(labels < 0) | (labels >= len(columns.classes))]
    if len(wrong):
        raise DataError(
            f"{path}: a label {wrong[0]} in {columns.labels}, which names {len(columns.classes)} classes",
            "leave out rows without a label (-1): dataset.filter",
        )
    return labels


def _encoded(path: Path, name: str, column: pyarrow.Array) -> list[bytes]:
    """The encoded files in a column of Image: structures of bytes and path."""
    import pyarrow

    kind = column.type
    if not pyarrow.types.is_struct(kind) or kind.get_field_index("bytes") < 0 or column.null_count:
        raise DataError(f"{path}: {name} is {kind}, expected images as bytes", "cast it to Image(), then save_to_disk")
    files = column.field(kind.get_field_index("bytes"))
    if not (pyarrow.types.is_binary(files.type) or pyarrow.types.is_large_binary(files.type)):
        # views may name the same bytes any number of times
        raise DataError(f"{path}: {name} holds {files.type}, expected binary", "cast it to Image(), then save_to_disk")
    found: list[bytes] = []
    for value in files:
        content = value.as_py()
        if not isinstance(content, bytes):
            raise DataError(
                f"{path}: an image in {name} that is there by its path alone, which is not followed",
                "save_to_disk with the images at their paths, which puts them into the rows",
            )
        found.append(content)
    return found


def _pixels(path: Path, columns: _Columns, column: pyarrow.Array) -> np.ndarray:
    """Pixels (N, …) in a column of arrays: lists of lists, each as long as the feature says."""
    import pyarrow

    assert columns.shape is not None
    count, here = len(column), column.storage if isinstance(column, pyarrow.ExtensionArray) else column
    for extent in columns.shape:
        if not pyarrow.types.is_list(here.type) or here.null_count or set(np.diff(here.offsets)) - {extent}:
            raise DataError(f"{path}: rows of {columns.images} that are not of shape {columns.shape}", "save it anew")
        here = here.flatten()
    if here.type != pyarrow.uint8() or here.null_count:
        raise DataError(f"{path}: {columns.images} holds {here.type}, expected uint8", "cast it, then save_to_disk")
    return np.asarray(here.to_numpy(zero_copy_only=False)).reshape(count, *columns.shape)


def _document(root: Path, name: str) -> tuple[dict[str, Any], SourceFile]:
    content, source = _read(root, name, DOCUMENT_BYTES)
    try:
        document = parse(content)
    except CanonicalError as error:
        raise DataError(f"{root / name}: not JSON that can be read ({error.message})", "save it anew") from None
    if not isinstance(document, dict):
        raise DataError(f"{root / name}: a {type(document).__name__}, expected an object", "save it anew")
    return document, source


def _read(root: Path, name: str, most: int) -> tuple[bytes, SourceFile]:
    try:
        content = read_bounded(root / name, most, beneath=root)
    except OSError as error:
        raise DataError(
            f"{root / name}: cannot be read ({error.strerror})", "save it anew, or see to its rights"
        ) from None
    return content, SourceFile(name, len(content), hashlib.sha256(content).hexdigest())


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
