"""ImageNet is read where it lies, in Kaggle's layout or class folders, to the same photographs, labels and order."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from miniature_imagenet import KAGGLE, VALIDATION, WNIDS, Miniature
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers import imagenet
from ndrepro.training.data.readers.photographs import Photographs
from ndrepro.training.data.readers.published import PublishedFile

TABLE = "LOC_val_solution.csv"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def kaggle(miniature: Miniature, tmp_path: Path) -> Path:
    """A copy that a test may change, with Kaggle's table beside it."""
    root = miniature.copy(miniature.kaggle, tmp_path / "kaggle")
    (root / TABLE).write_text(miniature.table)
    return root


@pytest.fixture
def folders(miniature: Miniature, tmp_path: Path) -> Path:
    return miniature.copy(miniature.folders, tmp_path / "folders")


def told(data: Photographs) -> tuple[object, ...]:
    described = data.describe()
    return described["labelled_sha256"], data.classes, data.train.labels.tolist(), data.test.labels.tolist()


def test_both_layouts_and_both_sources_of_labels_give_the_same(
    miniature: Miniature, kaggle: Path, folders: Path
) -> None:
    from_table, from_folders = imagenet.load(kaggle), imagenet.load(folders)
    assert from_table.classes == tuple(WNIDS)
    assert from_table.train.labels.tolist() == list(range(1000))
    assert from_table.test.labels.tolist() == sorted(miniature.labels)
    (kaggle / TABLE).unlink()
    miniature.write_devkit(kaggle / "ILSVRC2012_devkit_t12" / "data")
    from_devkit = imagenet.load(kaggle)
    assert told(from_table) == told(from_folders) == told(from_devkit)
    assert [data.reader for data in (from_table, from_folders, from_devkit)] == [
        "Kaggle's LOC_val_solution.csv, flat val",
        "class folders",
        "development kit, flat val",
    ]
    named = [Path(file.name).name for data in (from_table, from_folders) for file in data.test.files]
    assert named[:VALIDATION] == named[VALIDATION:], "in one order"
    assert from_table.canonical is None


def test_a_moved_label_would_be_seen(kaggle: Path, folders: Path) -> None:
    path = next((folders / "val" / WNIDS[5]).iterdir())
    path.rename(folders / "val" / WNIDS[6] / path.name)
    (folders / "val" / WNIDS[5] / "x.JPEG").write_bytes(next((folders / "val" / WNIDS[7]).iterdir()).read_bytes())
    assert told(imagenet.load(kaggle))[0] != told(imagenet.load(folders))[0]


def test_every_file_is_digested_by_its_name_below_the_top(kaggle: Path) -> None:
    data = imagenet.load(kaggle)
    names = [file.name for file in data.files]
    assert len(names) == 1000 + VALIDATION + 1 and names == sorted(names)
    assert TABLE in names and f"{KAGGLE}/val/ILSVRC2012_val_00000001.JPEG" in names
    for file in data.files[::97]:
        assert hashlib.sha256((kaggle / file.name).read_bytes()).hexdigest() == file.sha256


def test_wherever_root_points_the_files_have_the_same_names(kaggle: Path) -> None:
    found = [imagenet.load(kaggle / root) for root in (".", "ILSVRC", KAGGLE)]
    assert len({data.describe()["tree_sha256"] for data in found}) == 1
    for table in ("ILSVRC/ImageSets", "ILSVRC/ImageSets/CLS-LOC"):
        place = kaggle / table / TABLE
        place.parent.mkdir(parents=True, exist_ok=True)
        next(kaggle.rglob(TABLE)).rename(place)
        assert f"{table}/{TABLE}" in {file.name for file in imagenet.load(kaggle / KAGGLE).files}
    kaggle.rename(kaggle.parent / "imagenet")
    assert imagenet.load(kaggle.parent).train.labels.tolist() == list(range(1000))


def test_nothing_is_moved_or_written(kaggle: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_ino) for path in kaggle.rglob("*"))

    before = state()
    imagenet.load(kaggle).describe()
    assert state() == before


def test_the_devkit_is_read_from_its_archive(miniature: Miniature, kaggle: Path, tmp_path: Path) -> None:
    expected = told(imagenet.load(kaggle))
    (kaggle / TABLE).unlink()
    miniature.write_devkit(tmp_path / "kit")
    archive = kaggle / "ILSVRC2012_devkit_t12.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for path in (tmp_path / "kit").iterdir():
            tar.add(path, f"ILSVRC2012_devkit_t12/data/{path.name}")
    with pytest.raises(DataError, match=r"devkit_t12\.tar\.gz: md5"):
        imagenet.load(kaggle)
    ours = PublishedFile(archive.name, (), hashlib.md5(archive.read_bytes()).hexdigest())
    assert told(imagenet.load(kaggle, ours)) == expected


def test_a_grey_photograph_and_the_sample_are_decoded(kaggle: Path) -> None:
    data = imagenet.load(kaggle)
    assert data.train.read(3).mode == "RGB"
    assert len(data.describe()["sample_pixels_sha256"]) == 64
    few = data.first(5, 2)
    assert (len(few.train.labels), len(few.test.files)) == (5, 2)
    assert len(set(few.train.labels)) == 5, "not all of the first class"
    with pytest.raises(DataError, match="1001 images asked for"):
        data.first(1001, None)


def replace(path: Path, content: bytes) -> None:
    """Files are links to those of other tests: a new one takes the place."""
    path.unlink()
    path.write_bytes(content)


def test_a_photograph_that_changes_under_way_is_refused_when_it_is_read(kaggle: Path) -> None:
    data = imagenet.load(kaggle)
    path = kaggle / data.train.files[7].name
    other = (kaggle / data.train.files[8].name).read_bytes()
    assert data.train.read(7).size
    replace(path, other)
    with pytest.raises(DataError, match=f"{path.name}: not the file whose digest was recorded"):
        data.train.read(7)
    path.unlink()
    with pytest.raises(DataError, match=f"{path.name}: cannot be read"):
        data.train.read(7)


def test_digests_are_remembered_and_a_changed_file_is_read_again(kaggle: Path, cache: Path) -> None:
    before = imagenet.load(kaggle).describe()
    (remembered,) = (cache / "digests").iterdir()
    assert len(remembered.read_text().splitlines()) == 1 + 1000 + VALIDATION
    # what is remembered is believed, as far as the next reading of the file itself
    remembered.write_text(remembered.read_text().replace(imagenet.load(kaggle).train.files[7].sha256, "0" * 64))
    deceived = imagenet.load(kaggle)
    assert deceived.describe()["tree_sha256"] != before["tree_sha256"]
    with pytest.raises(DataError, match="not the file whose digest"):
        deceived.train.read(7)
    path = kaggle / deceived.train.files[7].name
    os.utime(path, ns=(1, 1))
    assert imagenet.load(kaggle).describe() == before
    remembered.write_text("damaged")
    assert imagenet.load(kaggle).describe() == before


def test_a_cache_that_cannot_be_written_is_done_without(
    kaggle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (kaggle.parent / "file").write_text("")
    monkeypatch.setenv("NDREPRO_CACHE", str(kaggle.parent / "file"))
    assert len(imagenet.load(kaggle).train.files) == 1000
    assert "digests are not remembered" in capsys.readouterr().out


def missing_class(root: Path) -> str:
    (root / KAGGLE / "train" / WNIDS[4]).rename(root / "elsewhere")
    return "train: 999 class folders, imagenet has 1000"


def empty_class(root: Path) -> str:
    for path in (root / KAGGLE / "train" / WNIDS[4]).iterdir():
        path.unlink()
    return f"{WNIDS[4]}: no image"


def truncated(root: Path) -> str:
    path = next((root / KAGGLE / "train" / WNIDS[4]).iterdir())
    replace(path, path.read_bytes()[:-2])
    return f"{path.name}: not a whole image"


def cut_after_the_thumbnail(root: Path) -> str:
    """What is left has the start, the scan and the end of a whole JPEG, the thumbnail's."""
    path = next((root / KAGGLE / "train" / WNIDS[4]).iterdir())
    whole = path.read_bytes()
    header = b"\xff\xe1" + (len(whole) + 8).to_bytes(2, "big") + b"Exif\0\0" + whole
    replace(path, whole[:2] + header + whole[2 : whole.rindex(b"\xff\xda")])
    return f"{path.name}: not a whole image"


def pipe(root: Path) -> str:
    path = next((root / KAGGLE / "train" / WNIDS[4]).iterdir())
    path.unlink()
    os.mkfifo(path)
    return f"{path.name}: not a regular file"


def transparent(root: Path) -> str:
    path, png = next((root / KAGGLE / "train" / WNIDS[4]).iterdir()), io.BytesIO()
    Image.new("RGBA", (30, 20)).save(png, "PNG")
    replace(path, png.getvalue())
    return f"{path.name}: transparent pixels"


def no_image(root: Path) -> str:
    replace(root / KAGGLE / "val" / "ILSVRC2012_val_00000003.JPEG", b"")
    return "ILSVRC2012_val_00000003.JPEG: not a whole image"


def no_labels(root: Path) -> str:
    (root / TABLE).unlink()
    return "images side by side, and their labels are nowhere in"


def label_missing(root: Path) -> str:
    rows = (root / TABLE).read_text().splitlines()
    (root / TABLE).write_text("\n".join(rows[:-1]))
    return rf"{TABLE}: labels of {VALIDATION - 1} images, .* without a label: ILSVRC2012_val_00000001"


def image_missing(root: Path) -> str:
    (root / KAGGLE / "val" / "ILSVRC2012_val_00000009.JPEG").unlink()
    return rf"{TABLE}: labels of {VALIDATION} images, .* not there: ILSVRC2012_val_00000009"


def label_unknown(root: Path) -> str:
    (root / TABLE).write_text((root / TABLE).read_text().replace(WNIDS[1], "n99999999"))
    return "val: labels that are no class folder of train: n99999999"


def label_twice(root: Path) -> str:
    rows = (root / TABLE).read_text().splitlines()
    (root / TABLE).write_text("\n".join([*rows, f"{rows[1].partition(',')[0]},n99999999 1 1 2 2"]))
    return f"line {len(rows) + 1}: another class for "


def table_damaged(root: Path) -> str:
    with (root / TABLE).open("a") as file:
        file.write("ILSVRC2012_val_00000002\n")
    return rf"{TABLE}: line {VALIDATION + 2}: 'ILSVRC2012_val_00000002'"


DAMAGES = [
    missing_class,
    empty_class,
    truncated,
    cut_after_the_thumbnail,
    pipe,
    transparent,
    no_image,
    no_labels,
    label_missing,
    image_missing,
    label_unknown,
    label_twice,
    table_damaged,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_wrong_is_named_before_a_run(kaggle: Path, damage) -> None:  # type: ignore[no-untyped-def]
    said = damage(kaggle)
    with pytest.raises(DataError, match=said):
        imagenet.load(kaggle)


def test_what_is_wrong_with_a_devkit_is_named(miniature: Miniature, kaggle: Path) -> None:
    (kaggle / TABLE).unlink()
    kit = kaggle / "ILSVRC2012_devkit_t12" / "data"
    miniature.write_devkit(kit)
    truth = kit / "ILSVRC2012_validation_ground_truth.txt"
    rows = truth.read_text().splitlines()
    truth.write_text("\n".join(rows[:-1]))
    with pytest.raises(DataError, match=f"labels of {VALIDATION - 1} images"):
        imagenet.load(kaggle)
    truth.write_text("\n".join([*rows[:10], "1004", *rows[11:]]))
    with pytest.raises(DataError, match="line 11: '1004', expected the number of a class"):
        imagenet.load(kaggle)
    truth.write_text("\n".join(rows))
    imagenet.load(kaggle)
    (kit / "meta.mat").write_bytes(b"no")
    with pytest.raises(DataError, match=r"meta\.mat: cannot be read as a MATLAB file"):
        imagenet.load(kaggle)


def test_class_folders_must_have_the_same_classes(folders: Path) -> None:
    (folders / "val" / WNIDS[2]).rename(folders / "val" / "n99999999")
    with pytest.raises(DataError, match=f"val: class folders missing: {WNIDS[2]}; not in train: n99999999"):
        imagenet.load(folders)
    (folders / "val").rename(folders / "test")
    (folders / "test" / "n99999999").rename(folders / "test" / WNIDS[2])
    assert len(imagenet.load(folders).test.files) == VALIDATION


def test_where_there_is_nothing_the_cure_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither ILSVRC/Data/CLS-LOC/train and val nor train/CLASS") as caught:
        imagenet.load(tmp_path)
    assert "Kaggle's" in caught.value.cure and "--data" in caught.value.cure


def test_a_whole_file_of_another_kind_passes_and_padding_after_the_end_too(kaggle: Path) -> None:
    path = next((kaggle / KAGGLE / "train" / WNIDS[4]).iterdir())
    png, jpeg = io.BytesIO(), path.read_bytes()
    Image.new("CMYK", (30, 20)).convert("RGB").save(png, "PNG")
    for content in (png.getvalue(), jpeg + b"\0" * 5, jpeg + b"\xff\xda trailing"):
        replace(path, content)
        data = imagenet.load(kaggle)
        assert np.asarray(data.train.read(4)).shape[2] == 3


def test_what_is_left_out_of_both_splits_is_recorded(kaggle: Path, folders: Path) -> None:
    for root, val in ((kaggle / KAGGLE, "val"), (folders, f"val/{WNIDS[0]}")):
        assert imagenet.load(root).describe()["left_out"]["count"] == 0
        (root / "train" / WNIDS[0] / "._x.JPEG").write_bytes(b"")
        (root / val / "list.txt").write_text("")
        assert imagenet.load(root).describe()["left_out"]["count"] == 2
    (folders / "test" / WNIDS[0]).mkdir(parents=True)
    assert "split that is not used" in imagenet.load(folders).describe()["left_out"]["reasons"]


def test_labels_beside_those_that_are_read_are_named(miniature: Miniature, kaggle: Path) -> None:
    miniature.write_devkit(kaggle / "ILSVRC2012_devkit_t12" / "data")
    found = imagenet.load(kaggle).describe()["left_out"]
    assert found["reasons"] == {"labels that are not used": 1}
    assert found["examples"] == ["ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"]


def test_a_photograph_that_becomes_a_pipe_is_refused_and_not_waited_for(kaggle: Path) -> None:
    data = imagenet.load(kaggle)
    pipe(kaggle)
    with pytest.raises(DataError, match=r"cannot be read \(not a regular file\)"):
        data.train.read(4)


def test_the_first_photographs_are_of_every_class_in_turn(folders: Path) -> None:
    """A piece of the real thing would else be of its first class alone."""
    data = imagenet.load(folders)
    double = [label for label in range(1000) if data.test.labels.tolist().count(label) == 2]
    assert len(double) == VALIDATION - 1000
    assert data.test.first(1000).labels.tolist() == list(range(1000))
    more = data.test.first(1003)
    assert more.labels.tolist() == sorted([*range(1000), *double[:3]])
    everything = dict(zip(data.test.files, data.test.labels.tolist(), strict=True))
    assert dict(zip(more.files, more.labels.tolist(), strict=True)).items() <= everything.items()
    assert data.test.first(None) is data.test


def test_a_hidden_folder_beside_flat_images_is_no_class(kaggle: Path) -> None:
    (kaggle / KAGGLE / "val" / ".thumbnails").mkdir()
    assert len(imagenet.load(kaggle).test.files) == VALIDATION
