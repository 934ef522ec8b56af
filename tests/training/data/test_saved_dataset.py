"""Folders of Hugging Face's ``datasets`` are read as that library wrote them, and refused where they are not.

``saved_datasets`` was written once by datasets 5.2.0 (``DatasetDict.save_to_disk``): ``pictures`` is 12 PNGs of 8x8
pixels in two shards and one, ``arrays`` an Array2D with a split "validation", ``single`` a Dataset without splits.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.own_data.own_images import images_of, load

SAVED = Path(__file__).with_name("saved_datasets")
FIRST = "train/data-00000-of-00002.arrow"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAVED / "pictures", tmp_path / "pictures"))


def rows(path: Path) -> pa.Table:
    with pa.ipc.open_stream(path.read_bytes()) as stream:
        return stream.read_all()


def write(path: Path, table: pa.Table, compression: str | None = None) -> None:
    with pa.ipc.new_stream(path, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def test_encoded_images_labels_and_every_file_are_read_in_order() -> None:
    data = load(SAVED / "pictures")
    assert data.classes == ("cat", "dog", "newt") and data.train.labels.tolist() == [0, 1, 2] * 3
    found = images_of(data)
    assert (found.channels, found.size, found.train_images, found.test_images) == (3, 8, 9, 3)
    # as datasets itself decodes them
    assert data.train.images[:2, 0, 0, :3].tolist() == [[172, 140, 196], [142, 30, 123]]
    assert [item.name for item in data.files] == [
        *("dataset_dict.json", "train/state.json", "train/dataset_info.json", FIRST),
        *("train/data-00001-of-00002.arrow", "test/state.json", "test/dataset_info.json"),
        "test/data-00000-of-00001.arrow",
    ]
    assert data.describe()["reader"] == "Hugging Face datasets, save_to_disk"


def test_arrays_are_pixels_and_a_split_validation_stands_in_for_test(tmp_path: Path) -> None:
    data = load(SAVED / "arrays")
    assert data.train.images.shape == (9, 1, 8, 8) and len(data.test.labels) == 3
    copy = Path(shutil.copytree(SAVED / "arrays", tmp_path / "both"))
    shutil.copytree(copy / "validation", copy / "test")
    edit(copy / "dataset_dict.json", lambda document: document["splits"].append("test"))
    assert load(copy).describe()["left_out"]["examples"] == ["validation"]


def test_whatever_the_saved_data_set_does_not_list_or_use_is_left_out_by_name(pictures: Path) -> None:
    """Before, a shard, a column or a file with the honest test images could lie there in no record."""
    columns = {"count": 2, "reasons": {"column that is not used": 2}, "examples": ["test/name", "train/name"]}
    assert load(pictures).describe()["left_out"] == columns, "the control"
    shutil.copy(pictures / FIRST, pictures / "test/data-00001-of-00002.arrow")
    shutil.copy(pictures / FIRST, pictures / "other.arrow")
    shutil.copytree(pictures / "test", pictures / "train/more")
    assert load(pictures).describe()["left_out"] == {
        "count": 5,
        "reasons": {"column that is not used": 2, "not listed by the saved data set": 3},
        "examples": ["other.arrow", "test/data-00001-of-00002.arrow", "test/name", "train/more", "train/name"],
    }


def test_a_dataset_without_splits_is_refused_with_what_to_do() -> None:
    with pytest.raises(DataError, match="without splits") as caught:
        load(SAVED / "single")
    assert "train_test_split" in caught.value.cure


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("dataset_dict.json", lambda d: d.update(splits=["train", "extra"]), "splits train, extra"),
        ("train/state.json", lambda d: d.update(_data_files=[{"filename": "../test/a.arrow"}]), "expected the name"),
        ("train/state.json", lambda d: d.update(_data_files=[{"filename": "/etc/passwd"}]), "expected the name"),
        ("train/state.json", lambda d: d.update(_data_files=[]), "it holds no image"),
        ("train/state.json", lambda d: d.update(_indices_data_files=[{"filename": "i.arrow"}]), "table of indices"),
        ("train/dataset_info.json", lambda d: d["features"].pop("label"), "no column of ClassLabel"),
        ("train/dataset_info.json", lambda d: d["features"].pop("image"), "0 columns of images"),
        ("train/dataset_info.json", lambda d: d["features"].update(b=d["features"]["label"]), "2 columns of labels"),
        ("train/dataset_info.json", lambda d: d["features"]["label"].update(names=["a", "b"]), "a label 2 in label"),
        ("train/dataset_info.json", lambda d: d["features"]["label"].update(names=["a", "b", "c"]), "other classes"),
        (
            "train/dataset_info.json",
            lambda d: d["features"].update(image={"_type": "Array2D", "shape": [8, 8], "dtype": "float32"}),
            "image is float32",
        ),
        (
            "train/dataset_info.json",
            lambda d: d["features"].update(image={"_type": "Array2D", "shape": [8, 8], "dtype": "uint8"}),
            r"not of shape \(8, 8\)",
        ),
    ],
)
def test_documents_that_do_not_fit_are_named(
    file: str, change: Callable[[Any], object], said: str, pictures: Path
) -> None:
    edit(pictures / file, change)
    with pytest.raises(DataError, match=said) as caught:
        load(pictures)
    assert caught.value.cure


def test_rows_that_lead_elsewhere_or_lie_are_refused(pictures: Path, tmp_path: Path) -> None:
    table = rows(pictures / FIRST)
    kind = table.schema.field("image").type
    outside = pa.array([{"bytes": None, "path": "/etc/passwd"}] * len(table), type=kind)
    for changed, said in (
        (replaced(table, "image", outside), "by its path alone"),
        (replaced(table, "image", pa.array([None] * len(table), type=kind)), "expected images as bytes"),
        (replaced(table, "image", pa.array([{"bytes": b"x", "path": ""}] * len(table), type=kind)), "row 0: no image"),
        (replaced(table, "label", pa.array([0.5] * len(table))), "label is double"),
        (replaced(table, "label", pa.array([0, 1, 2, -1, 1])), "a label -1"),
        (replaced(table, "name", pa.array(["a"] * len(table)).dictionary_encode()), "a dictionary"),
        (table.drop_columns("label"), "it has no column label"),
    ):
        write(pictures / FIRST, changed)
        with pytest.raises(DataError, match=said):
            load(pictures)


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_columns_are_refused_before_they_are_unpacked(compression: str, pictures: Path) -> None:
    table = rows(pictures / FIRST)
    bomb = pa.array([{"bytes": bytes(1 << 24), "path": ""}] * len(table), type=table.schema.field("image").type)
    write(pictures / FIRST, replaced(table, "image", bomb), compression)
    assert (pictures / FIRST).stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    with pytest.raises(DataError, match="compressed columns"):
        load(pictures)
    assert pa.total_allocated_bytes() - before < 1 << 22


def test_small_files_that_unpack_to_too_much_are_refused(pictures: Path) -> None:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (8000, 8000)).save(file, "png")
    for name in (FIRST, "train/data-00001-of-00002.arrow", "test/data-00000-of-00001.arrow"):
        table = rows(pictures / name)
        same = pa.array([{"bytes": file.getvalue(), "path": ""}] * len(table), type=table.schema.field("image").type)
        write(pictures / name, replaced(table, "image", same))
    with pytest.raises(DataError, match="768,000,000 bytes when unpacked"):
        load(pictures)


def test_links_and_pipes_are_not_opened(pictures: Path, tmp_path: Path) -> None:
    real = (pictures / FIRST).rename(tmp_path / "elsewhere.arrow")
    (pictures / FIRST).symlink_to(real)
    with pytest.raises(DataError, match="a symbolic link"):
        load(pictures)
    (pictures / FIRST).unlink()
    os.mkfifo(pictures / FIRST)
    with pytest.raises(DataError, match="a FIFO"):
        load(pictures)
    (pictures / FIRST).unlink()
    (pictures / "train").rename(tmp_path / "train")
    (pictures / "train").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match="train is no folder of its own"):
        load(pictures)


def test_offsets_that_lead_out_of_a_column_are_refused(pictures: Path) -> None:
    """The control of validation in full: without it, bytes from beyond the column would be read."""
    content = bytearray((pictures / FIRST).read_bytes())
    column = rows(pictures / FIRST).column("image").chunk(0).field("bytes")
    offsets = column.buffers()[1].to_pybytes()[: 4 * (len(column) + 1)]
    place = bytes(content).index(offsets)
    content[place + 8 : place + 12] = np.array([2**30], "<i4").tobytes()
    (pictures / FIRST).write_bytes(content)
    with pytest.raises(DataError, match="no Arrow stream that can be read"):
        load(pictures)


def test_views_that_name_the_same_bytes_many_times_are_refused(pictures: Path) -> None:
    table = rows(pictures / FIRST)
    views = pa.StructArray.from_arrays(
        [
            table.column("image").combine_chunks().field("bytes").cast(pa.binary_view()),
            pa.nulls(len(table), pa.string()),
        ],
        ["bytes", "path"],
    )
    write(pictures / FIRST, replaced(table, "image", views))
    with pytest.raises(DataError, match="image holds binary_view, expected binary"):
        load(pictures)


def test_a_damaged_schema_ends_in_an_error_and_not_in_the_process(pictures: Path) -> None:
    """pyarrow's own reader of a message follows a schema's offsets unchecked."""
    content = (pictures / FIRST).read_bytes()
    end = 8 + int.from_bytes(content[4:8], "little")
    script = """
import sys
from pathlib import Path
from ndrepro.training.data.own_data.arrow_stream import read_columns
from provenance.errors import ProvenanceError
content, end = sys.stdin.buffer.read(), int(sys.argv[1])
for place in range(8, end, 4):
    try:
        list(read_columns(Path("x"), content[:place] + b"\\xff" * 8 + content[place + 8:], ["image", "label"]))
    except ProvenanceError:
        pass
print("whole")
"""
    done = subprocess.run([sys.executable, "-c", script, str(end)], input=content, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"whole\n"), done.stderr
