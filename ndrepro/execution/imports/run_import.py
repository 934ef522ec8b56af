"""Imports runs that were made elsewhere: from a folder or an archive into a folder of runs of their own, verified.

    archive or folder ── unpacked, regular files only ── every manifest verified ──> INTO/NAME/  as it was laid out

A run that does not verify is left out and named, and so is every file that no signed manifest lists; a ledger and the
verdicts that come with the runs are kept, so that runs that were started there and are not here stay visible. Nothing
is mixed with the runs that were made here, whose ledger lists these only. The result is a folder of runs like any other
(``--runs INTO/NAME``). Nothing of a run is executed, the archive's names lead nowhere but into that folder, and neither
memory nor disk grows beyond bounds (``ndrepro.execution.imports.archive``).

A run of which only the manifest (and some files) was sent is checked as far as possible: its signature and statement,
and every file that is present against the signed digest.

Everything is unpacked beside the target and renamed at the end. What an import that was killed left there is removed by
the next one into the same folder.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ndrepro.execution.imports.archive import unpack
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder, expect_folder
from provenance.attestation.dsse import read_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.run_files import BUNDLES, LOCK, MANIFEST, expect_bundles
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import signed_end, verify
from provenance.capture.unavailable import at, text
from provenance.errors import LedgerError, NotFoundError, StorageError, TrustError
from provenance.formats import portable
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import file_digest
from provenance.formats.folder_tree import files_below, remove_tree, walk
from provenance.git.tracked_paths import expect_no_tracked_link
from provenance.ledger_entries.summary import LedgerSummary, UnrelatedLedger

# A manifest is parsed whole before anybody knows who signed it: 2 kB a distribution, 0.3 kB a file of the run.
_MANIFEST_BYTES = 8 << 20
_LEDGER_BYTES, _LEDGER_LINE_BYTES = 32 << 20, 1 << 16
_SCRATCH = ".import-"
# what a folder of runs holds for its own use, and nobody misses elsewhere
_HOUSEKEEPING = (".data", ".claims", ".slurm", LOCK)


@dataclass(frozen=True)
class Incoming:
    """One run that came: its path below the folder, whether it was imported, and why not.

    ``whole`` is whether every file that was signed is there; ``signer`` who signed; ``place`` what it ran on.
    """

    path: str
    taken: bool
    whole: bool
    signer: str | None = None
    run: str = ""
    place: str = ""
    problem: str = ""
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Every attribute but ``files``, the run's signed files that came."""
        return {key: value for key, value in vars(self).items() if key != "files"}


@dataclass(frozen=True)
class Imported:
    """The folder of runs that was made (None where nothing was imported), every run that came, and the paths of the
    files that no manifest lists, which were left out.
    """

    folder: Path | None
    runs: tuple[Incoming, ...]
    unlisted: tuple[str, ...] = ()


def import_runs(source: Path, into: Path, name: str, trust: TrustPolicy) -> Imported:
    """Import the runs of an archive (tar of any compression, zip) or a folder as ``into/name``.

    Raises NotFoundError where there is no such source, UsageError for a name that is taken, for a source that is
    neither archive nor folder or holds no run, and for an archive beyond the bounds; StorageError for a damaged archive
    or a full disk.
    """
    if PurePosixPath(name).name != name or name in ("", ".."):
        raise UsageError(f"--name {name!r}: expected one word", "e.g. --name lab-b")
    if not source.exists():
        raise NotFoundError(f"{source}: not there", "check the path")
    expect_folder(into, "name another one: --into DIR")
    target = into / name
    expect_no_tracked_link(target, "name another one: --into DIR")
    if target.exists():
        raise UsageError(f"{target}: there are runs of that name already", "give another one: --name NAME")
    try:
        into.mkdir(parents=True, exist_ok=True)
        with _scratch_folder(into) as scratch:
            there = scratch / "runs"
            unpack(source, there)
            ledgers: dict[Path, LedgerSummary] = {}
            found = _once(tuple(_examine(path, there, trust, ledgers) for path in _manifests(there)))
            if not found:
                raise UsageError(f"{source}: no {MANIFEST} in it", "name an archive or a folder with run folders in it")
            unlisted: tuple[str, ...] = ()
            if any(run.taken for run in found):
                root = _runs_root(there)
                if apart := [run.path for run in found if run.taken and not (there / run.path).is_relative_to(root)]:
                    raise UsageError(
                        f"{source}: {apart[0]} is beside {root.relative_to(there)}, which has a ledger of its own",
                        "import each folder of runs by itself",
                    )
                unlisted = _remove_unlisted(there, root, found)
                _placed(there, root).rename(target)
    except OSError as error:
        raise StorageError(
            f"{source}: cannot be imported ({error.strerror or error})", "is the archive whole, and is there space?"
        ) from None
    return Imported(target if target.exists() else None, found, unlisted)


def expect_unchanged(folder: Path, trust: TrustPolicy) -> None:
    """Raises UsageError where a run of an imported folder does not verify any more."""
    ledgers: dict[Path, LedgerSummary] = {}
    for path in _manifests(folder):
        found = _examine(path, folder, trust, ledgers)
        if not found.taken:
            raise UsageError(
                f"{folder}: {found.path}: {found.problem}",
                "it was changed since it was imported: remove the folder, and import its source again",
            )


@contextlib.contextmanager
def _scratch_folder(into: Path) -> Iterator[Path]:
    """A folder in ``into`` that is gone afterwards; those of imports that were killed are removed first.

    Each import holds a lock on its own, which the system releases when its process ends, however it ends.
    """
    with _locked(into, wait=True):
        for stale in into.glob(_SCRATCH + "*"):
            with contextlib.suppress(BlockingIOError), _locked(stale):
                remove_tree(stale)
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=into))
        held = contextlib.ExitStack()
        held.enter_context(_locked(scratch))
    with held:
        try:
            yield scratch
        finally:
            remove_tree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder. Raises BlockingIOError where another process holds it and this one does not wait."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders: there a leftover stays
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        portable.lock(descriptor, wait=wait)
        yield
    finally:
        os.close(descriptor)


def _manifests(folder: Path) -> Iterator[Path]:
    """Manifests of runs, without those of a run's earlier attempts."""
    found = {path.parent for path in files_below(folder, MANIFEST)}
    for path in sorted(found):
        if not found.intersection(path.parents):
            yield path / MANIFEST


def _runs_root(folder: Path) -> Path:
    """The folder that holds the ledger, else the one above the experiments, else the run itself."""
    ledgers = sorted(files_below(folder, RunsFolder(Path()).ledger.name), key=lambda path: len(path.parts))
    if ledgers:
        return ledgers[0].parent
    run = next(_manifests(folder)).parent
    return run.parent.parent if len(run.relative_to(folder).parts) >= 2 else folder


def _placed(folder: Path, root: Path) -> Path:
    """The folder of runs to keep; a run by itself gets folders above it."""
    above = {folder / MANIFEST: "runs/run", **dict.fromkeys(folder.glob(f"*/{MANIFEST}"), "runs")}
    place = next((place for path, place in above.items() if path.exists()), "")
    if root != folder or not place:
        return root
    inside = folder.with_name("whole")
    (inside / place).parent.mkdir(parents=True)
    folder.rename(inside / place)
    return inside


def _remove_unlisted(folder: Path, root: Path, found: tuple[Incoming, ...]) -> tuple[str, ...]:
    """Remove what no manifest of an imported run lists, but for the ledger and verdicts; what was removed.

    Runs that are not imported have been named with their reason, their files need not be.
    """
    kept = {folder / run.path / name for run in found if run.taken for name in (MANIFEST, *run.files)}
    refused = {folder / run.path for run in found if not run.taken}
    ledger, verdicts = RunsFolder(root).ledger, RunsFolder(root).verdicts
    removed = []
    for path in sorted(
        (Path(place, name) for place, below, files in walk(folder) for name in below + files), reverse=True
    ):
        if path.is_dir():
            with contextlib.suppress(OSError):  # it still holds files
                path.rmdir()
        elif path not in kept and path != ledger and not (path.parent == verdicts and path.name.endswith(".dsse.json")):
            path.unlink()
            if not refused.intersection(path.parents) and not set(_HOUSEKEEPING).intersection(path.parts):
                removed.append(path.relative_to(folder).as_posix())
    return tuple(reversed(removed))


def _once(found: tuple[Incoming, ...]) -> tuple[Incoming, ...]:
    """Each run once, in its folder with the most files; the others, if any, are refused."""
    first: dict[str, str] = {}
    for run in sorted(found, key=lambda run: not run.whole):
        if run.taken:
            first.setdefault(run.run, run.path)
    return tuple(
        replace(run, taken=False, problem=f"the same run as {first[run.run]}")
        if run.taken and first[run.run] != run.path
        else run
        for run in found
    )


def _contradiction(verdict: Verdict, manifest: Manifest, beside: Iterable[LedgerSummary], trust: TrustPolicy) -> str:
    """Why a run's manifest is not its end by a list beside it, which another one was put nearer to; "" for nothing."""
    end = signed_end(manifest, verdict.digests, verdict.keyids, trust)
    skipped = any(check.name == "ledger" and check.status == "skip" for check in verdict.checks)
    for each in beside:
        try:
            if skipped or end.run in each.runs:
                each.end_of(end)
        except UnrelatedLedger:
            continue
        except LedgerError as error:
            return error.message
    return ""


def _examine(path: Path, there: Path, trust: TrustPolicy, ledgers: dict[Path, LedgerSummary]) -> Incoming:
    """Verify one run, with the ledger that came with it; each is read once, and kept in ``ledgers``."""
    folder = RunFolder(path.parent)
    relative = str(path.parent.relative_to(there))
    ledger = next((RunsFolder(up).ledger for up in path.parents if RunsFolder(up).ledger.is_file()), None)
    oversized = _oversized(path, ledger)
    if oversized:
        return Incoming(relative, False, False, problem=oversized)
    for each in {*folder.ledgers, *([ledger] if ledger else [])} - ledgers.keys():
        ledgers[each] = Ledger(each).summary(trust.keys())
    book = ledgers[ledger] if ledger else None
    verdict = verify(path, trust=trust, ledger=book, manifest_only=True)
    if not verdict.ok or verdict.manifest is None:
        failed = next(check for check in verdict.checks if check.status == "fail")
        return Incoming(
            relative, False, False, verdict.signer, problem=f"{failed.name}: {failed.message}; {failed.cure}"
        )
    manifest = verdict.manifest
    if why := _contradiction(verdict, manifest, (ledgers[each] for each in folder.ledgers), trust):
        return Incoming(relative, False, False, verdict.signer, problem=f"ledger: {why}")
    listed = (*(artifact.path for artifact in manifest.artifacts), *_signatures(folder))
    told = Incoming(relative, False, False, verdict.signer, manifest.invocation_id, place_of(manifest), files=listed)
    wrong, missing = _files(folder, manifest)
    if wrong:
        return replace(told, problem=f"not the file that was signed: {wrong}")
    if missing:
        return replace(told, taken=True)
    deep = verify(folder.root, trust=trust, ledger=book, extra_checks=checks_of)
    problem = "; ".join(f"{check.name}: {check.message}" for check in deep.checks if check.status == "fail")
    return replace(told, taken=deep.ok, whole=True, problem=problem)


def _signatures(folder: RunFolder) -> tuple[str, ...]:
    """The name of the file with signatures by identities, where there is nothing else in it."""
    try:
        expect_bundles(folder.bundles, read_envelope(read_bounded(folder.manifest))[1])
    except (TrustError, OSError):
        return ()
    return (BUNDLES,)


def _oversized(manifest: Path, ledger: Path | None) -> str:
    """Why a manifest or its ledger is too large to be parsed before its signature is known; "" where neither is."""
    if manifest.stat().st_size > _MANIFEST_BYTES:
        return f"envelope: {MANIFEST} is larger than {_MANIFEST_BYTES} bytes"
    if ledger is None:
        return ""
    if ledger.stat().st_size > _LEDGER_BYTES:
        return f"ledger: {ledger.name} is larger than {_LEDGER_BYTES} bytes; import the runs in parts"
    with ledger.open("rb") as lines:
        while line := lines.readline(_LEDGER_LINE_BYTES):
            if len(line) == _LEDGER_LINE_BYTES:
                return f"ledger: {ledger.name} has a line of over {_LEDGER_LINE_BYTES} bytes"
    return ""


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
    devices = at(manifest.machine, "gpus", "devices")
    if isinstance(devices, list) and devices:
        return f"{len(devices)} x {', '.join(sorted({text(at(device, 'name')) or 'a GPU' for device in devices}))}"
    return text(at(manifest.machine, "machine", "cpu", "model_name")) or ""
