"""Takes in runs that were made elsewhere: from a folder or an archive into a folder of runs of their own, verified.

    archive or folder ── unpacked, regular files only ── every manifest verified ──> INTO/NAME/  as it was laid out

What does not verify is left out and named; a ledger that comes with the runs comes along, so that what was started
there and is not here stays visible. Nothing is mixed with the runs that were made here: their ledger tells of these
only. The folder that comes out is a folder of runs like any other (``--runs INTO/NAME``). Nothing of a run is executed,
the archive's names can lead nowhere but into that folder, and a small archive does not fill the disk.

A run of which only the manifest (and some files) was sent is checked as far as it goes: its signature and statement,
and every file that is there against the signed digest.
"""

from __future__ import annotations

import lzma
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder, expect_folder
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import MANIFEST
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import NotFoundError, StorageError
from provenance.formats.digest import file_digest

_MOST_FILES = 1_000_000
# a hundredfold is far beyond what manifests and logs shrink to; below a gibibyte nobody is harmed
_MOST_TIMES, _LEAST_BYTES = 100, 1 << 30
# zipfile raises RuntimeError for a password, and NotImplementedError, one of its kind, for an unknown compression
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, lzma.LZMAError, zlib.error, RuntimeError)


@dataclass(frozen=True)
class Incoming:
    """One run that came: where it lies below the folder, whether it was taken, and why not.

    ``whole`` is whether every file that was signed is there; ``signer`` who signed; ``place`` what it ran on.
    """

    path: str
    taken: bool
    whole: bool
    signer: str | None = None
    run: str = ""
    place: str = ""
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(vars(self))


@dataclass(frozen=True)
class Imported:
    """The folder of runs that came out (None where nothing was taken), and every run that came."""

    folder: Path | None
    runs: tuple[Incoming, ...]


def import_runs(source: Path, into: Path, name: str, trust: TrustPolicy) -> Imported:
    """Take in the runs of an archive (tar of any compression, zip) or a folder as ``into/name``.

    Raises NotFoundError where there is no such source, UsageError for a name that is taken, for what is neither archive
    nor folder, and where no run is in it; StorageError for a damaged archive or a full disk.
    """
    if PurePosixPath(name).name != name or name in ("", ".."):
        raise UsageError(f"--name {name!r}: expected one word", "e.g. --name lab-b")
    if not source.exists():
        raise NotFoundError(f"{source}: not there", "check the path")
    expect_folder(into, "name another one: --into DIR")
    target = into / name
    if target.exists():
        raise UsageError(f"{target}: there are runs of that name already", "give another one: --name NAME")
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=into) as scratch:
            there = Path(scratch, "runs")
            _fetch(source, there)
            found = tuple(_examine(path, there, trust) for path in _manifests(there))
            if not found:
                raise UsageError(f"{source}: no {MANIFEST} in it", "name an archive or a folder with run folders in it")
            for run in found:
                if not run.taken:
                    shutil.rmtree(there / run.path)
            if any(run.taken for run in found):
                _runs_root(there).rename(target)
    except OSError as error:
        raise StorageError(
            f"{source}: cannot be taken in ({error.strerror or error})", "is the archive whole, and is there space?"
        ) from None
    return Imported(target if target.exists() else None, found)


def _fetch(source: Path, place: Path) -> None:
    """Copy or unpack into ``place``, which is made."""
    if source.is_dir():
        shutil.copytree(source, place, symlinks=True)
        _refuse_links(place)
        return
    try:
        _unpack(source, _Unpacked(place, max(_LEAST_BYTES, _MOST_TIMES * source.stat().st_size)))
    except _DAMAGED as error:
        raise StorageError(f"{source}: cannot be read ({error})", "is the archive whole?") from None


def _unpack(source: Path, place: _Unpacked) -> None:
    if tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                place.count()
                if member.isdir():
                    continue
                if not member.isreg():
                    raise UsageError(f"{source}: {member.name} is a link or a device", "an archive holds files only")
                place.write(archive.extractfile(member), member.name)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                place.count()
                if not entry.is_dir():
                    place.write(archive.open(entry), entry.filename)
    else:
        raise UsageError(f"{source}: neither a folder nor an archive", "tar, tar.gz, tar.xz, tar.bz2 and zip are read")


@dataclass
class _Unpacked:
    """The folder that an archive's files go into, and nowhere else; their number and size have an end."""

    root: Path
    bytes_left: int
    files_left: int = _MOST_FILES

    def count(self) -> None:
        """One more member of the archive."""
        self.files_left -= 1
        if self.files_left < 0:
            raise UsageError(f"more than {_MOST_FILES} files", "import the runs in parts")

    def write(self, stream: IO[bytes] | None, name: str) -> None:
        """One file. Raises UsageError for a name that leads out or comes twice, and beyond the size."""
        path = PurePosixPath(name)
        if stream is None or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise UsageError(f"{name!r} leads out of the archive", "an archive that does so is not to be trusted")
        target = self.root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream, target.open("xb") as out:
                while piece := stream.read(1 << 20):
                    self.bytes_left -= len(piece)
                    if self.bytes_left < 0:
                        cure = "unpack it where there is space, if its sender is known, and import the folder"
                        raise UsageError(f"{name!r}: the archive unpacks to over {_MOST_TIMES} times its size", cure)
                    out.write(piece)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise UsageError(f"{name!r} is in the archive twice", "an archive holds each file once") from None


def _refuse_links(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise UsageError(f"{path.relative_to(folder)}: a symbolic link", "put the file itself there")


def _manifests(folder: Path) -> Iterator[Path]:
    """Manifests of runs, those of a run's earlier attempts left to it."""
    for path in sorted(folder.rglob(MANIFEST)):
        if not any((above / MANIFEST).is_file() for above in path.parent.parents if folder in (above, *above.parents)):
            yield path


def _runs_root(folder: Path) -> Path:
    """The folder that holds the ledger, else the one above the experiments; a run by itself gets folders above it."""
    ledgers = sorted(folder.rglob(RunsFolder(Path()).ledger.name), key=lambda path: len(path.parts))
    if ledgers:
        return ledgers[0].parent
    run = next(_manifests(folder)).parent
    if len(run.relative_to(folder).parts) >= 2:
        return run.parent.parent
    inside = folder.with_name("whole")
    above = inside / "runs" if run != folder else inside / "runs" / "run"
    above.parent.mkdir(parents=True)
    folder.rename(above)
    return inside


def _examine(path: Path, there: Path, trust: TrustPolicy) -> Incoming:
    """Verify one run, with the ledger that came with it."""
    folder = RunFolder(path.parent)
    ledger = next((RunsFolder(up).ledger for up in path.parents if RunsFolder(up).ledger.is_file()), None)
    relative = str(path.parent.relative_to(there))
    book = Ledger(ledger) if ledger else None
    verdict = verify(path, trust=trust, ledger=book, manifest_only=True)
    if not verdict.ok or verdict.manifest is None:
        failed = next(check for check in verdict.checks if check.status == "fail")
        return Incoming(
            relative, False, False, verdict.signer, problem=f"{failed.name}: {failed.message}; {failed.cure}"
        )
    manifest = verdict.manifest
    told = Incoming(relative, False, False, verdict.signer, manifest.invocation_id, place_of(manifest))
    wrong, missing = _files(folder, manifest)
    if wrong:
        return replace(told, problem=f"not the file that was signed: {wrong}")
    if missing:
        return replace(told, taken=True)
    deep = verify(folder.root, trust=trust, ledger=book, extra_checks=CHECKS)
    problem = "; ".join(f"{check.name}: {check.message}" for check in deep.checks if check.status == "fail")
    return replace(told, taken=deep.ok, whole=True, problem=problem)


def _files(folder: RunFolder, manifest: Manifest) -> tuple[str, int]:
    """The first file that is not as signed ("" for none), and how many are not there."""
    missing = 0
    for artifact in manifest.artifacts:
        file = folder.root / artifact.path
        if not file.is_file():
            missing += 1
        elif file_digest(file).sha256 != artifact.sha256:
            return artifact.path, missing
    return "", missing


def place_of(manifest: Manifest) -> str:
    """The hardware that a run names, in a few words: its GPUs, else its processor."""
    machine = manifest.machine if isinstance(manifest.machine, dict) else {}
    devices = machine.get("gpus", {}).get("devices") if isinstance(machine.get("gpus"), dict) else None
    if isinstance(devices, list) and devices:
        names = sorted({str(device.get("name", "a GPU")) for device in devices if isinstance(device, dict)})
        return f"{len(devices)} x {', '.join(names)}"
    inner = machine.get("machine", {})
    cpu = inner.get("cpu", {}) if isinstance(inner, dict) else {}
    return str(cpu.get("model_name", "")) if isinstance(cpu, dict) else ""
