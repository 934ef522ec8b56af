"""What every export reads: one typed view of a verified run, whatever kind of program it is of.

An export is written from what was signed and from nothing else: facts come from the manifest, and a file is read only
together with its signed digest, so that no later change of the folder gets into an export.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeGuard

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.program_record import ProgramFile, ProgramRecord
from ndrepro.protocol.run_kind import PROGRAM, run_kind
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import DISTRIBUTION, SOURCE, Artifact, Manifest, Resource
from provenance.attestation.run_files import BUNDLES, MANIFEST, inside
from provenance.errors import EnvelopeError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.digest import bytes_digest
from provenance.formats.metrics_log import parse_scalars

if TYPE_CHECKING:
    from provenance.attestation.verdict import Verdict

METRICS, WEIGHTS, LISTING = "metrics.jsonl", "weights.safetensors", "dataset.sha256"
# what frameworks save networks as; a training run's checkpoints are states on the way to its weights
_MODEL_SUFFIXES = {".safetensors", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".keras", ".gguf", ".joblib", ".pkl"}
_CHECKPOINTS = "checkpoints/"
# members of a row of metrics that are no metric: its step, and the file that a program logged it in
_STEPS, _LOGGED_IN = ("step", "epoch"), "file"
# what a column of 64 bits holds; how deep the parameters' names go
_LARGEST, _DEPTH = 1 << 63, 16
_SHA256 = re.compile("[0-9a-f]{64}")
_NOT_PARAMETERS = {"command", "name"}
_MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".txt": "text/plain",
    ".sha256": "text/plain",
    ".patch": "text/x-diff",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".py": "text/x-python",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".html": "text/html",
}


class NotExported(NdreproError):
    """The run does not verify, or lacks what the format is about."""


@dataclass(frozen=True)
class Metric:
    """One number that a run logged. ``step`` is its step or epoch, else the row's number, from 0.

    ``name`` begins with the file that a program logged it in, where it logged in files of its own.
    """

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class RunFacts:
    """A verified run. ``digest`` is the SHA-256 of the manifest as it was written, ``signed`` of what was signed.

    ``keyids`` are its trusted signers', the recorder's first. ``files`` are those that the manifest lists, without the
    manifest itself.
    """

    folder: Path
    manifest: Manifest
    digest: str
    signed: str
    keyids: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, verdict: Verdict) -> RunFacts:
        """The facts of a run folder with its verdict. Raises NotExported where the run does not verify."""
        if not verdict.ok or verdict.manifest is None or verdict.digest is None or verdict.payload_digest is None:
            failure = verdict.failure
            why = f": check {failure.number}, {failure.name}: {failure.message}" if failure else ""
            raise NotExported(
                f"{folder}: does not verify, and is not exported{why}", f"see every check: ndrepro verify {folder}"
            )
        recorder = verdict.manifest.ledger.key
        keyids = sorted(verdict.keyids, key=lambda keyid: keyid != recorder)
        return cls(folder, verdict.manifest, verdict.digest, verdict.payload_digest, tuple(keyids))

    @property
    def run(self) -> str:
        """The run's identifier."""
        return self.manifest.invocation_id

    @property
    def name(self) -> str:
        """What people call the run: its experiment, or the name that it was recorded under."""
        name = self.manifest.external_parameters.get("name")
        return name if isinstance(name, str) and name else self.run

    @property
    def path(self) -> str:
        """Where an export puts the run, below a folder: ``NAME/RUN``; without the name where that leads elsewhere."""
        path = f"{self.name}/{self.run}"
        return path if inside(path) else self.run

    @property
    def title(self) -> str:
        """Name and identifier."""
        return self.run if self.name == self.run else f"{self.name}, {self.run}"

    @property
    def command(self) -> tuple[str, ...]:
        """The recorded command line, secrets redacted; empty where none was recorded."""
        words = self.manifest.external_parameters.get("command")
        return tuple(map(str, words)) if isinstance(words, list) else ()

    @property
    def files(self) -> tuple[Artifact, ...]:
        """The signed files."""
        return self.manifest.artifacts

    @property
    def models(self) -> tuple[Artifact, ...]:
        """The files that hold a trained network, by their names; of a training run its final weights.

        Of a program they are among its outputs, under the paths that it wrote: large ones are not in the run folder.
        """
        final = self.manifest.artifact(WEIGHTS)
        if final is not None:
            return (final,)
        written = self._written() if self._is_program else self.files
        named = (file for file in written if PurePosixPath(file.path).suffix in _MODEL_SUFFIXES)
        return tuple(file for file in named if not file.path.startswith(_CHECKPOINTS))

    @property
    def inputs(self) -> tuple[Resource, ...]:
        """Everything that was used: source, code, data, images; of a program each file that it read.

        Distributions are separate. Of a program's files those that the manifest lists are here, the first thousand.
        """
        used = [item for item in self.manifest.dependencies if not item.name.startswith(DISTRIBUTION)]
        read = ProgramRecord.of(self.manifest).inputs if self._is_program else ()
        return (*used, *map(_resource, read))

    @property
    def outputs(self) -> tuple[Resource, ...]:
        """What a program wrote and the run folder has no copy of: each with its digest."""
        written = ProgramRecord.of(self.manifest).outputs if self._is_program else ()
        return tuple(_resource(file) for file in written if file.copy is None)

    @property
    def distributions(self) -> tuple[Resource, ...]:
        """The installed distributions, each with its package URL and, as digest, that of its RECORD."""
        return tuple(item for item in self.manifest.dependencies if item.name.startswith(DISTRIBUTION))

    @property
    def source(self) -> Resource:
        """The recorded source tree."""
        return self.manifest.dependency(SOURCE) or Resource(SOURCE)

    @property
    def commit(self) -> str | None:
        """The commit of the recorded source tree."""
        return (self.source.digest or {}).get("gitCommit")

    @property
    def parameters(self) -> Mapping[str, str]:
        """What was asked for, flat: the path of each value, joined by points, and its text."""
        asked = self.manifest.external_parameters
        return dict(_flat("", {key: value for key, value in asked.items() if key not in _NOT_PARAMETERS}))

    def read(self, file: Artifact) -> bytes:
        """A signed file's bytes. Raises NotExported where they are not those that were signed."""
        try:
            data = read_bounded(self.folder / file.path, LOG_BYTES)
        except OSError as error:
            raise NotExported(f"{self.folder / file.path}: cannot be read ({error.strerror})") from None
        return self._expect(data, file.path, bytes_digest(data) == file.sha256)

    def metrics(self) -> tuple[Metric, ...]:
        """Every number of ``metrics.jsonl``, in order; none where the run has no such file."""
        file = self.manifest.artifact(METRICS)
        if file is None:
            return ()
        found = []
        for number, row in enumerate(parse_scalars(self.folder / METRICS, self.read(file))):
            step = next((value for key in _STEPS if _is_step(value := row.get(key))), number)
            prefix = f"{row[_LOGGED_IN]}/" if isinstance(row.get(_LOGGED_IN), str) else ""
            for name, value in row.items():
                if name not in _STEPS and _is_number(value):
                    found.append(Metric(prefix + name, step, float(value)))
        return tuple(found)

    def last_metrics(self) -> Mapping[str, float]:
        """The last value of each number that was logged."""
        return {metric.name: metric.value for metric in self.metrics()}

    def manifest_bytes(self) -> bytes:
        """The signed manifest as it is in the folder. Raises NotExported where it is another than the verified one."""
        data = read_bounded(self.folder / MANIFEST)
        try:
            payload = read_envelope(data)[1]
        except EnvelopeError:
            payload = b""
        return self._expect(data, MANIFEST, bytes_digest(payload) == self.signed)

    def bundles(self) -> bytes | None:
        """Sigstore's signatures on it, if any."""
        return read_bounded(self.folder / BUNDLES) if (self.folder / BUNDLES).is_file() else None

    def model(self, path: str | None) -> Artifact:
        """The model ``path``, or the only one. Raises NotExported where there is none, or several to choose from."""
        if path is not None:
            known = (*self.files, *(self._written() if self._is_program else ()))
            named = next((file for file in known if file.path == path), None)
            if named is None:
                raise NotExported(f"{self.title}: no signed file {path!r}", "name a file that `ndrepro show` lists")
            return named
        if not self.models:
            raise NotExported(f"{self.title}: no signed file is named like a model", "name one with --model PATH")
        if len(self.models) > 1:
            names = ", ".join(file.path for file in self.models)
            raise NotExported(f"{self.title}: {len(self.models)} models", f"choose one with --model PATH: {names}")
        return self.models[0]

    def _expect(self, data: bytes, path: str, unchanged: bool) -> bytes:
        if not unchanged:
            raise NotExported(f"{self.folder / path}: changed while it was exported", "export it again")
        return data

    @property
    def _is_program(self) -> bool:
        return run_kind(self.manifest) == PROGRAM

    def _written(self) -> tuple[Artifact, ...]:
        """What a program wrote, under its own paths, as far as it was digested."""
        return tuple(
            Artifact(file.path, file.size, file.sha256)
            for file in ProgramRecord.of(self.manifest).outputs
            if file.size is not None and file.sha256 is not None and _SHA256.fullmatch(file.sha256)
        )


def media_type(path: str) -> str:
    """The media type of a file, by its name."""
    return _MEDIA_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")


def json_document(value: Any) -> bytes:
    """A JSON document for people and tools; the same value gives the same bytes."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def _resource(file: ProgramFile) -> Resource:
    known = file.sha256 is not None and _SHA256.fullmatch(file.sha256)
    return Resource(file.path, digest={"sha256": file.sha256} if known and file.sha256 else None)


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a member of a row is a number that fits into a double."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < _LARGEST


def _is_step(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST


def _flat(path: str, value: Any, depth: int = 0) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value and depth < _DEPTH:
        for key, item in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), item, depth + 1)
    else:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
