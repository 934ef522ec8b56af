"""An experiment's data before its run is started: where they lie, and whether they can be read.

The reader of the training process reads them once, in a process of its own (``ndrepro.training.data.__main__``), in
a sandbox where recorded code is executed in one. Whatever is wrong is reported before there is a folder or a ledger
entry. That they could be read is remembered in the folder of runs, with the names, sizes, times and inodes of all that
is in the folders of the data; while those stay, nothing is read again. It is a courtesy, and nothing rests on it: the
training process digests and checks what it reads itself, and data that were damaged in between end its run as failed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from ndrepro.execution.containers.container_spec import Process
from ndrepro.execution.runs.observer import DataObserver
from ndrepro.execution.sandbox.confinement import Confinement, data_paths
from ndrepro.execution.sandbox.passed_variables import passed_variables
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol import extras
from ndrepro.protocol.errors import DataError, MissingExtra, NdreproError, NotDownloaded, UsageError, from_record
from ndrepro.protocol.experiment import split_sizes
from ndrepro.protocol.experiment.catalogue import DATASETS, DIGITS_SHA256
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import OWN_DATASET, SAVED_DATASET, OwnImages
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import read_json, write_json
from ndrepro.protocol.project_folders import CODE, packages_of
from ndrepro.text.plurals import bounded
from ndrepro.text.signal_names import signal_name
from provenance.capture.source import package_digest
from provenance.capture.unavailable import printable
from provenance.errors import DigestError, StorageError
from provenance.formats.atomic_io import make_folder, storage_error
from provenance.formats.digest import bytes_digest, file_digest
from provenance.formats.folder_tree import files_below, temporary_folder

_LINE_BYTES = 1 << 20
# of machine code that reads what it was not made for
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT)


@dataclass(frozen=True)
class Packaged:
    """Where a package of the distribution installs a data set, and what in a data folder is used instead of it."""

    folder: Path
    instead: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """The experiment, which of a data set of the user's own describes the images that are there; and why nobody looked
    at the data, "" where somebody did.
    """

    experiment: Experiment
    unread: str = ""


PACKAGED = {
    # Debian's dataset-fashion-mnist; a folder of images, torchvision's folder, the official files
    "fashion_mnist": Packaged(
        Path("/usr/share/datasets/fashion-mnist"),
        ("train", "FashionMNIST", "train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"),
    )
}


def locate(experiment: Experiment, asked: Path | None) -> Path:
    """The folder or file to read: ``asked``, else scikit-learn's file for digits, else $NDREPRO_DATA or ``data``.

    Where that folder has no Fashion-MNIST and a package of Debian has installed it, it is the package's folder. Raises
    DataError where ``asked`` does not exist. A data folder need not exist yet: data are downloaded into it.
    """
    if asked is not None:
        if not asked.exists():
            raise DataError(f"--data {asked}: no such file or folder", "name a folder that holds the archive or images")
        return asked.resolve()
    if experiment.dataset == "digits":
        return _bundled_digits()
    if experiment.dataset == OWN_DATASET:
        raise DataError(
            "own: no data are named",
            "name a folder of images, a file .npz or a folder of save_to_disk with --data PATH",
        )
    folder = Path(os.environ.get("NDREPRO_DATA") or "data").resolve()
    packaged = PACKAGED.get(experiment.dataset)
    if packaged is not None and packaged.folder.is_dir():
        own = any((folder / name).exists() for name in packaged.instead)
        return folder if own else packaged.folder
    return folder


def expect_reader(data: Path, environment: str) -> None:
    """Raises UsageError for data that the training process of another environment has no library for."""
    if environment and (data / SAVED_DATASET).exists():
        raise UsageError(
            f"--data {data}: folders of datasets are read by pyarrow, which {environment} may not have",
            "store the images as a folder or a file .npz, which every environment reads",
        )


def check(
    experiment: Experiment,
    data: Path,
    runs: RunsFolder,
    observer: DataObserver,
    sandbox: Sandbox | None = None,
    *,
    download: bool = True,
) -> Checked:
    """Have the data read, unless that they can be is known or remembered.

    ``sandbox`` confines the process that reads them: whoever made the data may have made them to attack its readers;
    ``download``: what is missing is downloaded beside it.
    Raises DataError, naming the file and the cure, where ``data`` cannot be read or hold too few or other images.
    """
    place = _place(runs, experiment.dataset, data)
    found = _known(experiment.dataset, data) or _remembered(place, data)
    if found is None:
        observer.reading(experiment.dataset, data)
        try:
            read = _read(experiment.dataset, data, observer, sandbox, download)
        finally:
            observer.reading_ended()
        if isinstance(read, str):
            return Checked(experiment, read)
        found = read
        _remember(place, found)
    if found.left_out:
        observer.left_out(experiment.dataset, found.left_out)
    split_sizes.check(experiment, found.train_images, found.test_images)
    return Checked(experiment if found.own is None else _described(experiment, OwnImages(**found.own), data))


def _described(experiment: Experiment, images: OwnImages, data: Path) -> Experiment:
    if experiment.own not in (OwnImages(), images):
        raise DataError(
            f"{data}: it holds other images than the experiment describes",
            "get the original data again, or leave own.… out",
        )
    return replace(experiment, own=images)


@dataclass(frozen=True)
class _Found:
    """Data that could be read: images in each split; what is left out; their folders; what those held, as a digest."""

    train_images: int
    test_images: int
    left_out: str
    folders: tuple[str, ...] = ()
    state: str = ""
    own: dict[str, Any] | None = None


def _known(dataset: str, data: Path) -> _Found | None:
    """Data that are known by their digest: the bundled digits."""
    with suppress(OSError, DigestError):
        if dataset == "digits" and data.is_file() and file_digest(data).sha256 == DIGITS_SHA256:
            return _Found(DATASETS[dataset].train_images, DATASETS[dataset].test_images, "")
    return None


def _read(dataset: str, data: Path, observer: DataObserver, sandbox: Sandbox | None, download: bool) -> _Found | str:
    """Have the data read; or why, where that failed for another reason than the data: the run itself will tell.

    In a sandbox nothing can be downloaded: what is missing is downloaded beside the data, by a process that sees none
    of them, and checked against the published digests there.
    """
    try:
        return _read_once(dataset, data, observer, sandbox)
    except NotDownloaded:
        if sandbox is None or data.is_file() or not download:
            raise
    _download(dataset, data, observer)
    return _read_once(dataset, data, observer, sandbox)


def _download(dataset: str, data: Path, observer: DataObserver) -> None:
    """Put the published files of a data set into its folder, but for those that are there."""
    make_folder(data)
    try:
        with temporary_folder(".download-", data) as place:
            try:
                _read_once(dataset, place, observer, None)
            except DataError as error:
                raise type(error)(error.message.replace(str(place), str(data)), error.cure) from None
            for file in files_below(place):
                target = data / file.relative_to(place)
                make_folder(target.parent)
                if not os.path.lexists(target):
                    os.rename(file, target)
    except OSError as error:
        raise storage_error(data, error) from error


def _read_once(dataset: str, data: Path, observer: DataObserver, sandbox: Sandbox | None) -> _Found | str:
    command = [sys.executable, "-P", "-m", "ndrepro.training.data", dataset, str(data)]
    answer: dict[str, Any] = {}
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as printed:
        with os.fdopen(writing, "wb") as log:
            process = _started(command, data, sandbox, log)
        try:
            while line := printed.readline(_LINE_BYTES):
                with suppress(ValueError, TypeError):  # a library's own words
                    answer = dict(json.loads(line))
                    if "read" in answer:
                        observer.images_read(*_images_read(answer["read"]))
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    if -code in _CRASHES:
        message = f"{data}: damaged: they crash the process that reads them ({signal_name(-code)})"
        raise DataError(message, "get the original data again")
    ending = f"exit code {code}" if code >= 0 else signal_name(-code)
    if code not in (0, 1) or not answer or "read" in answer:
        return f"the process that reads them ended without an answer ({ending})"
    try:
        error = from_record(answer["error"]) if "error" in answer else None
        if error is None:
            return _found(answer, data, sandbox)
    except (TypeError, KeyError, ValueError, OSError, NdreproError) as wrong:
        return f"the process that reads them gave no answer of a reader's ({type(wrong).__name__})"
    if isinstance(error, (DataError, MissingExtra)):
        raise error
    return f"they could not be read: {bounded(str(printable(error.message)))}"


def _started(command: list[str], data: Path, sandbox: Sandbox | None, log: IO[bytes]) -> Process:
    """The process that reads; in a sandbox it sees its own code and the data."""
    variables = {"PYTHONPATH": str(CODE), "NDREPRO_PARENT_PID": str(os.getpid())}
    if sandbox is not None:
        seen = Confinement((*packages_of(CODE), *data_paths(data)), (), Path("/"))
        return sandbox.start(command, {**passed_variables(os.environ), **variables}, seen, log=log)
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **variables},
    )


def _images_read(counted: Any) -> tuple[str, int, int]:
    """What was counted. Raises TypeError or ValueError for anything else: a reader of hostile data may print it."""
    what, done, total = counted
    if not (isinstance(what, str) and what.isprintable() and isinstance(done, int) and isinstance(total, int)):
        raise TypeError("no count of images")
    return what, done, total


def _found(answer: dict[str, Any], data: Path, sandbox: Sandbox | None) -> _Found:
    """The reader's answer. Raises TypeError, ValueError, KeyError, OSError or NdreproError for what is none."""
    places = [data, *(path.resolve() for path in data_paths(data))] if sandbox is not None else [Path("/")]
    listed = [str(folder) for folder in answer["folders"]]
    folders = tuple(each for each in listed if any(Path(each).is_relative_to(place) for place in places))
    return _checked(_Found(**{**answer, "folders": folders}, state=_state(data, folders)))


def _checked(found: _Found) -> _Found:
    """What a reader said, or a file that may have come with a stranger's runs. Raises TypeError or NdreproError."""
    if not (isinstance(found.train_images, int) and isinstance(found.test_images, int)):
        raise TypeError("no numbers of images")
    if found.own is not None:
        OwnImages(**found.own)
    return replace(found, left_out=str(printable(found.left_out)))


def _place(runs: RunsFolder, dataset: str, data: Path) -> Path:
    return runs.data_read / f"{bytes_digest(os.fsencode(f'{dataset} {data}'))[:32]}.json"


def _remembered(place: Path, data: Path) -> _Found | None:
    """What was found before, if all is as it was."""
    try:
        document = read_json(place)
        found = _checked(_Found(**{**document, "folders": tuple(document["folders"])}))
        same = found.state == _state(data, found.folders)
    except (OSError, NdreproError, ValueError, TypeError, KeyError):
        return None
    return found if same else None


def _remember(place: Path, found: _Found) -> None:
    """Keep it for the next run; where it cannot be kept, the next run reads again."""
    with suppress(OSError, StorageError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, asdict(found))


def _state(data: Path, folders: Iterable[str]) -> str:
    """A digest of what reads, of all entries of the folders, and of ``data`` itself. Raises OSError where one is not
    there.
    """
    digest = hashlib.sha256(json.dumps(package_digest([CODE / "ndrepro" / "training" / "data"])).encode())
    for folder in sorted({*folders, *([str(data)] if data.is_dir() else [])}):
        digest.update(f"{folder}\n".encode(errors="surrogateescape"))
        for line in _entries(folder):
            digest.update(f"{line}\n".encode(errors="surrogateescape"))
    # with inode and time of change: what is remembered in a stranger's folder of runs is of this machine
    digest.update(_line(data.name, data.stat()).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _entries(folder: str) -> Iterator[str]:
    """The folder's entries as lines, sorted; of folders in it the names alone."""
    with os.scandir(folder) as found:
        for entry in sorted(found, key=lambda entry: entry.name):
            try:
                yield entry.name if entry.is_dir() else _line(entry.name, entry.stat())
            except OSError:  # a link that leads nowhere, or to itself
                yield f"{entry.name}\tnot there"


def _line(name: str, status: os.stat_result) -> str:
    return f"{name}\t{status.st_size}\t{status.st_mtime_ns}\t{status.st_ctime_ns}\t{status.st_ino}"


def _bundled_digits() -> Path:
    """The file that scikit-learn ships; the library is found, not imported. Raises DataError."""
    spec = importlib.util.find_spec("sklearn")
    origin = spec.origin if spec else None
    if origin is None:
        missing = extras.missing("sklearn")
        raise DataError(f"digits: {missing.message}", f"{missing.cure}, or name --data FILE")
    return Path(origin).parent / "datasets" / "data" / "digits.csv.gz"
