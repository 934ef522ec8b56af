"""Data are read before a run is started: what is wrong is reported, and neither a folder nor a ledger entry is left."""

import gzip
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_runs import Bench
from small_studies import Watched, write_study

from ndrepro.execution.runs import data_check
from ndrepro.execution.runs.observer import DataObserver, Observer
from ndrepro.execution.runs.run import run
from ndrepro.execution.studies.carry_out import carry_out
from ndrepro.execution.studies.launchers import LocalLauncher
from ndrepro.execution.studies.plan import make_plan
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, read_json
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify

CLASSES = [f"c{number}" for number in range(10)]


def picture(path: Path, value: int, size: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (value, 255 - value, value // 2)).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for number, name in enumerate(CLASSES):
            for index in range(2):
                picture(tmp_path / "images" / split / name / f"{index}.png", 20 * number + index)
    return tmp_path / "images"


class Reader(DataObserver):
    """Checks data, and counts how often they had to be read; the observer of its own checks."""

    def __init__(self, runs: Path) -> None:
        self.runs = RunsFolder(runs)
        self.times = 0
        self.said: list[str] = []

    def check(self, name: str, data: Path, **settings: str) -> None:
        data_check.check(Experiment.from_name(name, settings), data, self.runs, self)

    def reading(self, dataset: str, data: Path) -> None:
        self.times += 1

    def left_out(self, dataset: str, summary: str) -> None:
        self.said.append(summary)


def test_images_are_counted_while_they_are_read(images: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that reads prints at most every 0.2 s; here each image, since there are few."""
    seen: list[tuple[str, int, int]] = []
    monkeypatch.setattr(reader, "images_read", lambda *read: seen.append(read), raising=False)
    command = data_check.sys.executable
    slow = reader.runs.root.parent / "python"
    slow.write_text(
        f'#!/bin/sh\nshift 3\nexec "{command}" -P -c "import sys, ndrepro.training.data.__main__ as reading\n'
        'reading._SECONDS = -1\nsys.exit(reading.main(sys.argv[1:]))" "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setattr(data_check.sys, "executable", str(slow))
    reader.check("lenet_bn_1_cifar10", images, train_images="20", test_images="20")
    assert seen == [(split, done, 20) for split in ("train", "test") for done in range(20)]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "runs")


def lose_class(images: Path) -> str:
    shutil.rmtree(images / "test" / "c3")
    return "class folders missing: c3"


def truncate(images: Path) -> str:
    path = images / "train" / "c5" / "1.png"
    path.write_bytes(path.read_bytes()[:60])
    return "train/c5/1.png: not a whole image"


def resize(images: Path) -> str:
    picture(images / "test" / "c9" / "0.png", 7, size=28)
    return "test/c9/0.png: 28x28 pixels, expected 32x32"


def empty_class(images: Path) -> str:
    for path in (images / "train" / "c0").iterdir():
        path.unlink()
    return "train/c0: no image"


def a_bomb(images: Path) -> str:
    path = images / "train" / "c5" / "1.png"
    path.write_bytes(path.read_bytes().replace(b"\0\0\0\x20\0\0\0\x20", b"\0\0\xff\xff\0\0\xff\xff"))
    return r"train/c5/1\.png: "


def a_pipe(images: Path) -> str:
    (images / "train" / "c5" / "1.png").unlink()
    os.mkfifo(images / "train" / "c5" / "1.png")
    return r"train/c5/1\.png: not a regular file"


@pytest.mark.parametrize("damage", [lose_class, truncate, resize, empty_class, a_bomb, a_pipe])
def test_a_damaged_image_folder_starts_no_run(bench: Bench, images: Path, damage: Callable[[Path], str]) -> None:
    said = damage(images)
    bench.options = replace(bench.options, data=images)
    with pytest.raises(DataError, match=said) as refused:
        bench.run("lenet_bn_1_cifar10", train_images="16")
    assert refused.value.cure
    assert not bench.options.runs.root.exists()


def test_the_undamaged_folder_starts_and_is_read_once_for_all_runs(bench: Bench, images: Path) -> None:
    bench.options = replace(bench.options, data=images)
    few = {"train_images": "16", "test_images": "16"}
    ended = bench.run("lenet_bn_1_cifar10", **few)
    assert ended.outcome == "completed", ended.error
    reader = Reader(bench.options.runs.root)
    reader.check("lenet_nd_1_cifar10", images, train_images="20")
    assert reader.times == 0
    with pytest.raises(DataError, match="21 images asked for, the split has 20"):
        bench.run("lenet_bn_1_cifar10", **{**few, "train_images": "21"})
    assert len(bench.options.runs.runs()) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"test_images": "21"}, "21 images asked for"),
        ({"validation": "0.01"}, "leaves 0 to validate on"),
        ({"processes": "2", "batch_size": "19"}, "last batch of an epoch has 1 images"),
    ],
)
def test_settings_that_the_images_are_too_few_for_start_no_run(
    reader: Reader, images: Path, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        reader.check("lenet_bn_1_cifar10", images, **settings)


def test_a_damaged_file_of_the_bundled_digits_starts_no_run_and_the_true_one_is_not_read(
    reader: Reader, tmp_path: Path
) -> None:
    true = data_check.locate(Experiment.from_name("lenet_bn_1_digits"), None)
    reader.check("lenet_bn_1_digits", true)
    assert reader.times == 0 and not reader.runs.root.exists()
    damaged = tmp_path / "digits.csv.gz"
    damaged.write_bytes(gzip.compress(gzip.decompress(true.read_bytes())[:5000]))
    with pytest.raises(DataError, match=r"digits\.csv\.gz: "):
        reader.check("lenet_bn_1_digits", damaged)
    assert reader.times == 1


def write_idx(path: Path, array: np.ndarray) -> None:
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes())


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A folder with twelve black images in each split."""
    root = tmp_path / "mnist"
    root.mkdir()
    for split in ("train", "t10k"):
        write_idx(root / f"{split}-images-idx3-ubyte", np.zeros((12, 28, 28), np.uint8))
        write_idx(root / f"{split}-labels-idx1-ubyte", np.arange(12, dtype=np.uint8) % 10)
    return root


def test_labels_that_do_not_match_start_no_run_and_those_that_do_start_one(reader: Reader, mnist: Path) -> None:
    reader.check("lenet_bn_1_mnist", mnist)
    write_idx(mnist / "t10k-labels-idx1-ubyte", np.arange(11, dtype=np.uint8) % 10)
    with pytest.raises(DataError, match="11 labels for 12 images"):
        reader.check("lenet_bn_1_mnist", mnist)


def test_a_link_to_itself_beside_the_data_hinders_no_run(reader: Reader, mnist: Path) -> None:
    (mnist / "loop").symlink_to("loop")
    reader.check("lenet_bn_1_mnist", mnist)
    reader.check("lenet_bn_1_mnist", mnist)
    assert reader.times == 1, "what was read is remembered"


def test_files_that_are_left_out_are_said_before_every_run(reader: Reader, images: Path) -> None:
    reader.check("lenet_bn_1_cifar10", images)
    assert reader.said == []
    (images / "train" / "c1" / "._0.png").write_bytes(b"")
    for times in (1, 2):
        reader.check("lenet_bn_1_cifar10", images)
        said = "1 left out: 1 hidden (the name begins with a dot); e.g. train/c1/._0.png"
        assert reader.said == [said] * times and reader.times == 2


def test_class_folders_and_files_whose_names_are_not_utf_8_are_read_recorded_and_remembered(
    bench: Bench, images: Path
) -> None:
    name = os.fsdecode(b"caf\xe9")
    for split in ("train", "test"):
        (images / split / "c1").rename(images / split / name)
    (images / "train" / name / "0.png").rename(images / "train" / name / name)
    (images / "train" / name / f"{name}.txt").write_text("")
    bench.options = replace(bench.options, data=images)
    ended = bench.run("lenet_bn_1_cifar10", train_images="16", test_images="16")
    assert ended.outcome == "completed", ended.error
    assert verify(ended.folder.root, trust=TrustPolicy.load(bench.options.home)).ok
    recorded = read_json(ended.folder.dataset)
    assert recorded["classes"][9] == r"caf\xe9" and recorded["left_out"]["examples"] == [r"train/caf\xe9/caf\xe9.txt"]
    assert b"train/caf\xe9/caf\xe9\n" in ended.folder.dataset_listing.read_bytes()
    reader = Reader(bench.options.runs.root)
    reader.check("lenet_bn_1_cifar10", images)
    assert reader.times == 0
    (images / "train" / name / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png: not a whole image"):
        bench.run("lenet_bn_1_cifar10")


def test_a_packaged_data_set_is_found_unless_the_data_folder_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = data_check.Packaged(tmp_path / "packaged", data_check.PACKAGED["fashion_mnist"].instead)
    monkeypatch.setitem(data_check.PACKAGED, "fashion_mnist", packaged)
    monkeypatch.setenv("NDREPRO_DATA", str(tmp_path / "data"))
    fashion, mnist = (Experiment.from_name(f"lenet_bn_1_{name}") for name in ("fashion_mnist", "mnist"))
    assert data_check.locate(fashion, None) == tmp_path / "data", "where nothing is installed"
    packaged.folder.mkdir()
    assert data_check.locate(fashion, None) == packaged.folder
    assert data_check.locate(mnist, None) == tmp_path / "data"
    assert data_check.locate(fashion, tmp_path) == tmp_path, "what is asked for"
    (tmp_path / "data" / "FashionMNIST").mkdir(parents=True)
    assert data_check.locate(fashion, None) == tmp_path / "data"


def changed(path: Path) -> None:
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda images: changed(images / "train" / "c1" / "0.png"),  # same size and time: the change time shows it
        lambda images: picture(images / "train" / "c1" / "new.png", 1),
        lambda images: (images / "train" / "c1" / "0.png").unlink(),
        lambda images: (images / "train" / "c1").rename(images / "train" / "other"),
        lambda images: (images / "val").mkdir(),
    ],
    ids=["content", "added", "removed", "renamed", "beside"],
)
def test_data_are_read_again_when_anything_in_their_folders_changed(
    reader: Reader, images: Path, change: Callable[[Path], None]
) -> None:
    for _ in range(2):
        reader.check("lenet_bn_1_cifar10", images)
    assert reader.times == 1
    change(images)
    try:
        reader.check("lenet_bn_1_cifar10", images)
    except DataError:
        assert not (images / "val").exists()
    assert reader.times == 2


def test_what_was_refused_is_not_remembered(reader: Reader, images: Path) -> None:
    lose_class(images)
    for times in (1, 2):
        with pytest.raises(DataError):
            reader.check("lenet_bn_1_cifar10", images)
        assert reader.times == times


def test_a_memory_that_is_no_memory_or_cannot_be_kept_costs_a_reading(reader: Reader, images: Path) -> None:
    reader.check("lenet_bn_1_cifar10", images)
    (kept,) = reader.runs.data_read.iterdir()
    kept.write_text('{"folders": 3}')
    reader.check("lenet_bn_1_cifar10", images)
    shutil.rmtree(reader.runs.data_read)
    reader.runs.data_read.write_text("a file where a folder should be")
    reader.check("lenet_bn_1_cifar10", images)
    assert reader.times == 3


class Damaging(Observer):
    """Damages the data when the run has started, after they were looked at."""

    def __init__(self, images: Path) -> None:
        self.images = images
        self.said = ""

    def began(self, folder: RunFolder, request: Request) -> None:
        self.said = truncate(self.images)


def test_data_that_are_damaged_after_they_were_looked_at_end_in_a_signed_failure(bench: Bench, images: Path) -> None:
    options = replace(bench.options, data=images)
    damaging = Damaging(images)
    ended = run(bench.experiment("lenet_bn_1_cifar10", train_images="16", test_images="16"), options, damaging)
    assert ended.outcome == "failed" and isinstance(ended.error, DataError)
    assert damaging.said in ended.error.message
    assert verify(ended.folder.root, trust=TrustPolicy.load(options.home)).ok


def test_a_failure_that_names_a_file_that_is_not_utf_8_is_signed(bench: Bench, images: Path) -> None:
    (images / "train" / "c5").rename(images / "train" / os.fsdecode(b"c\xe9"))
    (images / "test" / "c5").rename(images / "test" / os.fsdecode(b"c\xe9"))
    damaged = images / "train" / os.fsdecode(b"c\xe9") / "1.png"

    class Emptying(Observer):
        def began(self, folder: RunFolder, request: Request) -> None:
            damaged.write_bytes(b"")

    options = replace(bench.options, data=images)
    ended = run(bench.experiment("lenet_bn_1_cifar10", train_images="16", test_images="16"), options, Emptying())
    assert ended.outcome == "failed" and isinstance(ended.error, DataError), ended.error
    assert "1.png: not a whole image" in ended.error.message
    assert verify(ended.folder.root, trust=TrustPolicy.load(options.home)).ok


def test_a_study_with_damaged_data_starts_none_of_its_runs(bench: Bench, images: Path) -> None:
    said = truncate(images)
    grid = "[grids.main]\naxes = { method = ['bn'], dataset = ['digits', 'cifar10'] }"
    grid += "\n[grids.small]\naxes = { method = ['bn'], dataset = ['digits'], seed = [1] }"
    study = load_study(write_study(bench.root, grid))
    plan = make_plan(study, (), bench.options)
    watched = Watched()
    with pytest.raises(DataError, match=said) as refused:
        carry_out(plan, bench.options, LocalLauncher(1, bench.options), watched, {"cifar10": images})
    assert refused.value.cure.endswith("; or run what does without cifar10: small")
    assert watched.read == ["cifar10"] and watched.events == []
    assert not bench.options.runs.root.exists()
