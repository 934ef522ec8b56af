"""Of a folder of images, everything is read or counted with the reason; what cannot be answered is refused by name."""

import os
import socket
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from ndrepro.protocol.errors import DataError
from ndrepro.training.data.readers import class_folders
from ndrepro.training.data.readers.class_folders import (
    HIDDEN,
    NO_IMAGE,
    NO_REGULAR_FILE,
    OUTSIDE,
    LeftOut,
    check_same_classes,
    class_names,
    images_below,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One class with one image."""
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "train" / "a" / "0.png")
    return tmp_path


def test_images_are_found_by_suffix_or_content_in_deeper_folders_too(root: Path) -> None:
    folder = root / "train" / "a"
    kinds = {"1.BMP": "BMP", "2.gif": "GIF", "3.webp": "WEBP", "4.tif": "TIFF", "5": "PNG", "6.0001": "JPEG"}
    for name, kind in {**kinds, "7": "GIF", "8": "WEBP", "9": "BMP", "x": "TIFF"}.items():
        Image.new("RGB", (4, 4)).save(folder / name, kind)
    (folder / "x.png" / "deep").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "x.png" / "deep" / "a.png")
    (folder / "link.png").symlink_to(folder / "0.png")
    (folder / "linked").symlink_to(folder / "x.png")
    images, left_out = images_below(root, "train/a")
    names = ["0.png", *kinds, "7", "8", "9", "link.png", "linked/deep/a.png", "x", "x.png/deep/a.png"]
    assert images == [f"train/a/{name}" for name in names]
    assert left_out == LeftOut() and left_out.summary() == ""


def test_what_is_not_read_is_counted_with_its_reason(root: Path) -> None:
    folder = root / "train" / "a"
    (folder / "._0.png").write_bytes(b"\0\x05\x16\x07")  # as macOS leaves them
    (folder / ".DS_Store").write_bytes(b"")
    (folder / ".thumbnails").mkdir()
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "notes.txt").write_text("BM is no bitmap here")
    (folder / "empty").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket"))
    (folder / "gone").symlink_to(folder / "nowhere")
    (root / "train" / "stray.png").write_bytes(b"")
    (root / "train" / ".hidden").mkdir()
    images, among = images_below(root, "train/a")
    classes, beside = class_names(root, "train")
    assert classes == ("a",) and images == ["train/a/0.png"]
    record = (among + beside).to_json()
    assert record == {
        "count": 11,
        "reasons": {HIDDEN: 4, NO_IMAGE: 3, NO_REGULAR_FILE: 3, OUTSIDE: 1},
        "examples": sorted(record["examples"]),
    }
    assert len(record["examples"]) == 10 and "train/a/._0.png" in record["examples"]
    assert (among + beside).summary().startswith("11 left out: 4 hidden (the name begins with a dot), 3 no image")


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to(path)]
)
def test_a_name_of_an_image_that_is_no_file_is_refused(root: Path, make) -> None:  # type: ignore[no-untyped-def]
    make(root / "train" / "a" / "1.png")
    with pytest.raises(DataError, match=r"train/a/1\.png: (not a regular file|cannot be read)"):
        images_below(root, "train/a")


def test_a_link_to_a_folder_above_is_refused(root: Path) -> None:
    (root / "train" / "a" / "more").mkdir()
    (root / "train" / "a" / "more" / "again").symlink_to(root / "train" / "a")
    with pytest.raises(DataError, match="train/a/more/again: a link to a folder above it"):
        images_below(root, "train/a")


def test_names_that_are_the_same_text_are_said_to_be(root: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    with pytest.raises(DataError, match=f"missing: {decomposed}; not in train: {composed}; {composed} is in both"):
        check_same_classes(root / "test", ["a", composed], ["a", decomposed], "train")
    check_same_classes(root / "test", [composed], [composed], "train")
    for name in (composed, decomposed):
        (root / "train" / name).mkdir()
    with pytest.raises(DataError, match=f"two class folders are called {composed}"):
        class_names(root, "train")


def test_names_that_are_not_utf_8_can_be_recorded_and_printed(root: Path) -> None:
    name = os.fsdecode(b"train/caf\xe9")
    (root / name).mkdir()
    (root / name / "x.txt").write_text("")
    assert class_names(root, "train")[0] == ("a", os.path.basename(name))
    assert images_below(root, name)[1].summary().endswith(r"e.g. train/caf\xe9/x.txt")


def test_links_to_folders_cannot_make_any_number_of_images(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two links to each next folder: one image has a name for every way to it, 2,048 after twelve folders."""
    monkeypatch.setattr(class_folders, "_MOST_ENTRIES", 100)
    for number in range(12):
        (root / str(number)).mkdir()
        for name in "ab":
            target = root / str(number + 1) if number < 11 else root / "train" / "a"
            (root / str(number) / name).symlink_to(target)
    with pytest.raises(DataError, match="more than 100 files"):
        images_below(root, "0")
