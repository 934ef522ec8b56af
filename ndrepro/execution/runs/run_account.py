"""From a run folder's files to what the recorder signs: this is where training's facts get the manifest's names.

The child's own account (``environment.json``, ``dataset.json``, ``model.json``) is copied into the predicate; its
files are hashed by the recorder. What the child did not live to write is said to be missing, with the reason.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import ndrepro
from ndrepro.execution.own_sources.network_files import NetworkFiles
from ndrepro.execution.resumption.checkpoint_record import REQUEST
from ndrepro.execution.runs.child_outcome import unreadable
from ndrepro.execution.sandbox.shared_folders import others_on_the_way
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.own import is_own_network
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Container, Request, Scores, json_bytes, read_json
from ndrepro.protocol.project_folders import UNUSED_IN_TRAINING, packages_of
from ndrepro.protocol.run_kind import TRAINING_TYPE
from ndrepro.protocol.training_record import (
    CODE,
    CONTAINER_IMAGE,
    CONTINUED_RUN,
    IMAGE_ATTESTATION,
    LAYER_CENSUS,
    METRICS_SUMMARY,
    NETWORK,
    external_parameters,
    internal_parameters,
    metrics_summary,
)
from provenance.attestation import packages
from provenance.attestation.countersignature import ORIGIN
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import DATASET, REPRODUCED_RUN, Builder, Resource, source_resource
from provenance.capture import source
from provenance.capture.unavailable import printable, unavailable
from provenance.code.snapshot import CodeCopy
from provenance.errors import ProvenanceError
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest, file_digest
from provenance.formats.folder_tree import temporary_folder
from provenance.formats.strict_json import Field
from provenance.recording.recorder import Recorder, error_resource
from provenance.redaction.redact import redact_arguments, redact_text
from provenance.redaction.written_files import redact_json, redact_log

BUILDER = "urn:ndrepro:builder"
# of an attempt that failed before its source was looked at
NO_SOURCE: dict[str, Any] = {"unavailable": "the attempt ended before its source was captured"}


def open_recorder(
    folder: RunFolder, request: Request, document: Mapping[str, Any], runs: RunsFolder, home: Path
) -> Recorder:
    """Take the folder's lock and write the ledger's first entry of this attempt, which binds request.json, and
    origin.json where it repeats another run.
    """
    bound = {REQUEST: bytes_digest(json_bytes(document))}
    if folder.origin.exists():
        bound[ORIGIN] = file_digest(folder.origin, follow_symlinks=False).sha256
    return Recorder.open(
        folder.root,
        ledger=Ledger(runs.ledger),
        home=home,
        build_type=TRAINING_TYPE,
        name=request.experiment.name,
        run_id=folder.root.name,
        # of a path that is not UTF-8 each byte that is none becomes \\xNN: a manifest holds no other text
        external_parameters=printable(
            external_parameters(request, data=redact_text(request.data), command=redact_arguments(sys.argv))
        ),
        builder=Builder(BUILDER, {"ndrepro": ndrepro.__version__, "python": sys.version.split()[0]}),
        bound=bound,
    )


@contextmanager
def code_copy(folder: RunFolder, code: Path, *, of_nodes: bool) -> Iterator[CodeCopy]:
    """The copy of the packages in ``code`` that the child is to import, there while the context is open.

    It is in the run's folder, or in a private one where others may exchange that, unless it is for several nodes
    (``of_nodes``), which have no other folder in common. Raises DigestError, StorageError, OSError.
    """
    with ExitStack() as stack:
        place = folder.code_copy.absolute()
        if not of_nodes and others_on_the_way(folder.root):
            place = stack.enter_context(temporary_folder("ndrepro-code-")) / "code"
        yield stack.enter_context(CodeCopy(packages_of(code), place, UNUSED_IN_TRAINING, folder.root.absolute()))


def redact_files(folder: RunFolder, processes: int) -> ProvenanceError | None:
    """Redact what the run was asked and what the training process wrote in words; its terminal is not the recorder's.

    What cannot be redacted is removed, since it must not be signed, but for what is no regular file, which is not. The
    error for the first such file.
    """
    problem: ProvenanceError | None = None
    documents = (folder.request, folder.origin, folder.dataset, *folder.results(processes))
    for path, redact in ((folder.log, redact_log), *((path, redact_json) for path in documents)):
        try:
            redact(path)
        except ProvenanceError as error:
            problem = problem or error
            if path.is_file() and not path.is_symlink():
                path.unlink()
    return problem


Made = TypeVar("Made")


class Account:
    """What the child reports of its run; anything that it did not write is ``{"unavailable": reason}``.

    The child may have written anything. A file that is not what it should be is unavailable as well, with what is wrong
    with it, and the first such error is ``problem``. Whatever it holds fits into a manifest.

    Attributes:
        internal_parameters: determinism level and flags, threads, device, libraries, use of resources.
        machine: the machine, its GPUs, container, interpreter and variables, as the child saw them; of the
            distributions, which are among the dependencies, their count and what was odd about them.
        dependencies: the run that this one repeats, if any; source, code, data and every installed distribution.
        problem: the first file that is not what it should be.
        documents: by file name, what the child wrote that could be read.
    """

    def __init__(self, folder: RunFolder, request: Request) -> None:
        self.problem: ProvenanceError | None = None
        self.documents: dict[str, dict[str, Any]] = {}
        self._witnessed: Mapping[str, Any] | None = None
        self._folder = folder
        self._request = request
        self._origin: Resource | None = None
        self._source: dict[str, Any] = NO_SOURCE
        nothing: dict[str, Any] = {**unavailable("the training process was not started")}
        self._seals, self._dataset, self._model, self._result = nothing, nothing, nothing, nothing
        self._make()

    def read_origin(self) -> None:
        """Read which run this one repeats or continues, before the child is there to change it. Raises NdreproError."""
        if self._folder.origin.exists():
            document = Field(read_json(self._folder.origin), self._folder.origin.name, NdreproError)
            (origin,) = _checked([Resource.from_json(document)])
            continues = self._request.segment_epochs and self._request.resume_step
            if origin.name not in (REPRODUCED_RUN, *([CONTINUED_RUN] if continues else [])):
                document.member("name").refuse("which run this one repeats, or a segment continues")
            self._origin = origin

    def capture_source(self, runs: RunsFolder, code: Path, copy: CodeCopy) -> None:
        """Capture the commit of ``code``, what differs from it, and the digest of the copy that will run.

        The data are no code. Raises StorageError.
        """
        data = [Path(self._request.data)]
        captured = source.capture(code, self._folder.root, exclude=[runs.root], data=data)
        self._source = {**captured, "code": printable(copy.describe())}

    def read(self, witnessed: Mapping[str, Any] | None) -> None:
        """Read what the child wrote; ``witnessed`` is what the recorder saw of it. Never raises for what that is."""
        folder = self._folder
        self._witnessed = witnessed
        self._seals = self._read(folder.environment)
        self._dataset = self._read(folder.dataset)
        self._model = self._read(folder.model)
        self._result = self._read(folder.result)
        self._make()

    def _make(self) -> None:
        self.internal_parameters = self._internal_parameters()
        self.machine = self._machine()
        self.dependencies = self._dependencies()
        self._census = self._sound(
            self._folder.model, lambda: dict[str, Any](self._model.get("summary", self._model)), _as_it_is
        )

    def _read(self, path: Path) -> dict[str, Any]:
        if not os.path.lexists(path):
            return unavailable(f"the training process did not write {path.name}")

        def document() -> dict[str, Any]:
            found = read_json(path)
            if not isinstance(found, dict):
                raise NdreproError(f"{path}: a {type(found).__name__}, expected an object")
            canonical_bytes(made := printable(found))
            self.documents[path.name] = made
            return dict(made)

        return self._sound(path, document, _as_it_is)

    def _sound(self, path: Path, make: Callable[[], Made], otherwise: Callable[[dict[str, Any]], Made]) -> Made:
        """What ``make`` makes of a file; where it raises, what ``otherwise`` makes of the reason."""
        try:
            return make()
        except Exception as error:
            found = unreadable(path, error)
            self.problem = self.problem or found
            return otherwise(unavailable(printable(found.message)))

    def _sealed(self, moment: str, part: str) -> Any:
        if "unavailable" in self._seals:
            return self._seals
        if moment not in self._seals:
            return unavailable(f"the training process did not live to its {moment}")
        return self._sound(self._folder.environment, lambda: self._part(moment, part), _as_it_is)

    def _part(self, moment: str, part: str) -> Any:
        return self._seals[moment][part]

    def _internal_parameters(self) -> dict[str, Any]:
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
        met = self._sound(
            self._folder.environment, lambda: dict[str, Any](self._seals.get("processes", missing)), _as_it_is
        )
        return {"processes": {**met, "count": count}}

    def _machine(self) -> dict[str, Any]:
        start, end = self._sealed("start", "environment"), self._sealed("end", "environment")
        return self._sound(self._folder.environment, lambda: packages.machine(start, end, self._witnessed), _as_it_is)

    def _dependencies(self) -> tuple[Resource, ...]:
        environment = self._sealed("start", "environment")
        origin = [] if self._origin is None else [self._origin]
        image = [] if self._request.container is None else _image(self._request.container)
        name = f"{DATASET}{self._request.experiment.dataset}"
        data = self._sound(
            self._folder.dataset,
            lambda: _checked([_data(name, self._dataset)]),
            lambda bad: [Resource(name, annotations=bad)],
        )
        installed = self._sound(
            self._folder.environment,
            lambda: _checked(packages.resources(environment)),
            lambda bad: packages.resources(bad),
        )
        return (*origin, *self._source_resources(), *self._network(), *image, *data, *installed)

    def _network(self) -> tuple[Resource, ...]:
        """The source of a network of the user's own."""
        arch, folder = self._request.experiment.arch, self._folder.network
        if not is_own_network(arch):
            return ()
        return self._sound(
            folder,
            lambda: (NetworkFiles.read(folder).resource(arch),),
            lambda bad: (Resource(NETWORK, annotations=bad),),
        )

    def _source_resources(self) -> list[Resource]:
        found = [source_resource({key: value for key, value in self._source.items() if key != "code"})]
        if "code" in self._source:
            code = self._source["code"]
            found.append(Resource(CODE, digest={"sha256": code["tree_sha256"]}, annotations=code))
        return found

    def byproducts(self, scores: tuple[Scores, ...], error: ProvenanceError | None) -> tuple[Resource, ...]:
        """Results and counts, so that a manifest alone says what came out."""
        found = [
            Resource(METRICS_SUMMARY, annotations=metrics_summary(scores)),
            Resource(LAYER_CENSUS, annotations=self._census),
        ]
        if error is not None:
            found.append(error_resource(error))
        return tuple(found)


def _as_it_is(reason: dict[str, Any]) -> dict[str, Any]:
    return reason


def _data(name: str, dataset: Mapping[str, Any]) -> Resource:
    tree = dataset.get("tree_sha256")
    return Resource(name, digest={"sha256": tree} if tree else None, annotations=dataset)


def _checked(resources: list[Resource]) -> list[Resource]:
    """The same, once each is known to be one that a manifest holds. Raises ManifestError."""
    for each in resources:
        Resource.from_json(Field(each.to_json(), each.name))
    return resources


def _image(container: Container) -> list[Resource]:
    """The image that the child ran in, the engine that ran it, and the host's driver, which the child cannot choose;
    and the signed statements on the image, where the recorder had some.
    """
    digest = {"sha256": container.digest.removeprefix("sha256:")}
    found = [Resource(CONTAINER_IMAGE, uri=container.image, digest=digest, annotations=asdict(container))]
    if container.attestation:
        found.append(Resource(IMAGE_ATTESTATION, digest={"sha256": container.attestation.removeprefix("sha256:")}))
    return found
