"""From a run folder's files to what the recorder signs: this is where training's facts get the manifest's names.

The child's own account (``environment.json``, ``dataset.json``, ``model.json``) is copied into the predicate; its
files are hashed by the recorder. What the child did not live to write is said to be missing, with the reason.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ndrepro
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Container, Request, Scores, read_json
from ndrepro.protocol.project_folders import packages_of
from ndrepro.protocol.training_record import (
    CODE,
    CONTAINER_IMAGE,
    ERROR,
    LAYER_CENSUS,
    METRICS_SUMMARY,
    SOURCE,
    external_parameters,
    internal_parameters,
    metrics_summary,
)
from provenance.attestation import packages
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import DATASET, Builder, Resource
from provenance.capture import source
from provenance.capture.unavailable import printable
from provenance.code.snapshot import CodeCopy
from provenance.errors import ProvenanceError
from provenance.recording.recorder import Recorder
from provenance.redaction.redact import redact_arguments, redact_text
from provenance.redaction.written_files import redact_json, redact_log

BUILD_TYPE = "urn:ndrepro:training:v1"
BUILDER = "urn:ndrepro:builder"
# of an attempt that failed before its source was looked at
NO_SOURCE: dict[str, Any] = {"unavailable": "the attempt ended before its source was captured"}


def open_recorder(folder: RunFolder, request: Request, runs: RunsFolder, home: Path) -> Recorder:
    """Take the folder's lock and write the ledger's first entry of this attempt."""
    return Recorder.open(
        folder.root,
        ledger=Ledger(runs.ledger),
        home=home,
        build_type=BUILD_TYPE,
        name=request.experiment.name,
        run_id=folder.root.name,
        # of a path that is not UTF-8 each byte that is none becomes \\xNN: a manifest holds no other text
        external_parameters=printable(
            external_parameters(request, data=redact_text(request.data), command=redact_arguments(sys.argv))
        ),
        builder=Builder(BUILDER, {"ndrepro": ndrepro.__version__, "python": sys.version.split()[0]}),
    )


def capture_source(folder: RunFolder, runs: RunsFolder, code: Path, copy: CodeCopy, data: Path) -> dict[str, Any]:
    """The commit of ``code``, what differs from it, and the digest of the copy that will run. ``data`` is no code."""
    captured = source.capture(code, folder.root, exclude=[runs.root], data=[data])
    return {**captured, "code": printable(copy.describe())}


def code_copy(folder: RunFolder, code: Path) -> CodeCopy:
    """The copy of the packages in ``code`` that the child is to import."""
    return CodeCopy(packages_of(code), folder.code_copy.absolute())


def redact_files(folder: RunFolder, processes: int) -> None:
    """Redact what the run was asked and what the training process wrote in words; its terminal is not the recorder's.

    Raises StorageError for the first file that cannot be, which is removed: what was not redacted is not signed.
    """
    documents = (folder.request, folder.origin, folder.dataset, *folder.results(processes))
    for path, redact in ((folder.log, redact_log), *((path, redact_json) for path in documents)):
        try:
            redact(path)
        except ProvenanceError:
            path.unlink(missing_ok=True)
            raise


class Account:
    """What the child said of its run; anything it did not write is ``{"unavailable": reason}``."""

    def __init__(
        self,
        folder: RunFolder,
        request: Request,
        captured: dict[str, Any],
        origin: Resource | None = None,
        witnessed: Mapping[str, Any] | None = None,
    ) -> None:
        self._request = request
        self._origin = origin
        self._source = captured
        self._witnessed = witnessed
        self._seals = self._read(folder.environment)
        self._dataset = self._read(folder.dataset)
        self._model = self._read(folder.model)
        self._result = self._read(folder.result)

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            document: dict[str, Any] = printable(read_json(path))
            return document
        except ProvenanceError:
            return {"unavailable": f"the training process did not write {path.name}"}

    def _sealed(self, moment: str, part: str) -> Any:
        if "unavailable" in self._seals:
            return self._seals
        if moment not in self._seals:
            return {"unavailable": f"the training process did not live to its {moment}"}
        return self._seals[moment][part]

    def internal_parameters(self) -> dict[str, Any]:
        """What the run chose or found: determinism level and flags, threads, device, libraries, use of resources."""
        return internal_parameters(
            self._request,
            flags=(self._sealed("start", "flags"), self._sealed("end", "flags")),
            device=self._result.get("device", self._result),
            libraries=self._sealed("start", "libraries"),
            usage=self._sealed("end", "usage"),
            **self._processes(),
        )

    def _processes(self) -> dict[str, Any]:
        """Of a run by several processes: how many, how they talk, and where each was, with its GPU."""
        count = self._request.experiment.processes
        if count == 1:
            return {}
        missing = {"unavailable": "the training processes did not meet"}
        return {"processes": {"count": count, **self._seals.get("processes", missing)}}

    def machine(self) -> Any:
        """The machine, its GPUs, container, interpreter and variables, as the child saw them.

        The distributions are among the dependencies; here stay their count and what was odd about them.
        """
        start, end = (self._sealed(moment, "environment") for moment in ("start", "end"))
        return packages.machine(start, end, self._witnessed)

    def dependencies(self) -> tuple[Resource, ...]:
        """The run that this one repeats, if any; source, code, data and every installed distribution."""
        environment = self._sealed("start", "environment")
        origin = [] if self._origin is None else [self._origin]
        image = [] if self._request.container is None else [_image(self._request.container)]
        return (*origin, *self._source_resources(), *image, self._data_resource(), *packages.resources(environment))

    def _source_resources(self) -> list[Resource]:
        commit = self._source.get("commit")
        digest = {"gitCommit": commit} if isinstance(commit, str) else None
        annotations = {key: value for key, value in self._source.items() if key != "code"}
        found = [Resource(SOURCE, digest=digest, annotations=annotations)]
        if "code" in self._source:
            code = self._source["code"]
            found.append(Resource(CODE, digest={"sha256": code["tree_sha256"]}, annotations=code))
        return found

    def _data_resource(self) -> Resource:
        name = f"{DATASET}{self._request.experiment.dataset}"
        tree = self._dataset.get("tree_sha256")
        return Resource(name, digest={"sha256": tree} if tree else None, annotations=self._dataset)

    def byproducts(self, scores: tuple[Scores, ...], error: ProvenanceError | None) -> tuple[Resource, ...]:
        """Results and counts, so that a manifest alone says what came out."""
        census = self._model.get("summary", self._model)
        found = [
            Resource(METRICS_SUMMARY, annotations=metrics_summary(scores)),
            Resource(LAYER_CENSUS, annotations=census),
        ]
        if error is not None:
            said = {"type": type(error).__name__, "message": redact_text(error.message), "cure": error.cure}
            found.append(Resource(ERROR, annotations=printable(said)))
        return tuple(found)


def _image(container: Container) -> Resource:
    """The image that the child ran in, the engine that ran it, and the host's driver, which the child cannot choose."""
    digest = {"sha256": container.digest.removeprefix("sha256:")}
    return Resource(CONTAINER_IMAGE, uri=container.image, digest=digest, annotations=asdict(container))
