"""The predicate: what is said of a run, as frozen dataclasses, and its versioned schema.

The shape is SLSA provenance v1's (https://slsa.dev/spec/v1.0/provenance), so that tools which read that find their
way, with our extension fields under ``runDetails``:

    buildDefinition     buildType, externalParameters, internalParameters, resolvedDependencies[]
    runDetails          builder {id, version}, metadata {invocationId, startedOn, finishedOn}, byproducts[]
                        outcome, exitCode, attempts[], machine, ledger {sequence, digest}, artifacts[]

A schema version is a URI, the statement's predicateType. ``READERS`` maps each to the function that reads it; readers
of old versions stay. Law: ``Manifest.from_predicate(m.to_predicate()) == m``.

Reading is strict: an unknown or missing member is an error that names its JSON path. What could not be captured is
given by the caller as ``{"unavailable": reason}`` and kept verbatim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from provenance.errors import ManifestError
from provenance.formats.strict_json import Count, Field, Sha256, Text, read_record

SCHEMA_V1 = "urn:ndrepro:run:v1"
# dependencies of every kind of run, and the byproduct that says what went wrong with recording
SOURCE, REPRODUCED_RUN, ERROR, ENERGY, CLOCK = "source", "reproduced run", "error", "energy", "clock"
# a dependency's name: one of these, then the distribution's or the data set's own
DISTRIBUTION, DATASET = "distribution:", "dataset:"
# the byproduct that maps each path that could not be recorded to the reason
NOT_RECORDED = "not recorded"
OUTCOMES = ("completed", "interrupted", "failed", "killed")


@dataclass(frozen=True)
class Resource:
    """An in-toto ResourceDescriptor: something used or made, named by ``uri``, ``digest`` or both.

    ``digest`` maps an algorithm (sha256, gitCommit, ...) to its value, or is ``{"unavailable": reason}``.
    """

    name: str
    uri: str | None = None
    digest: Mapping[str, str] | None = None
    media_type: str | None = None
    annotations: Mapping[str, Any] | None = None

    @property
    def distribution(self) -> tuple[str, str] | None:
        """The name and version of the distribution that it describes, the version "" where unknown; else ``None``."""
        if not self.name.startswith(DISTRIBUTION):
            return None
        return self.name.removeprefix(DISTRIBUTION), (self.uri or "").partition("@")[2]

    def to_json(self) -> dict[str, Any]:
        """The descriptor, without what is not set."""
        members = {
            "name": self.name,
            "uri": self.uri,
            "digest": None if self.digest is None else dict(self.digest),
            "mediaType": self.media_type,
            "annotations": None if self.annotations is None else dict(self.annotations),
        }
        return {key: value for key, value in members.items() if value is not None}

    @classmethod
    def from_json(cls, field: Field) -> Resource:
        """The resource that ``to_json`` wrote. Raises the field's error."""
        members = field.members(("name",), ("uri", "digest", "mediaType", "annotations"))
        digest = members["digest"].texts() if "digest" in members else None
        if digest is not None and "sha256" in digest:
            Field(digest["sha256"], f"{field.path}.digest.sha256", field.error).sha256()
        return cls(
            name=members["name"].text(),
            uri=members["uri"].text() if "uri" in members else None,
            digest=digest,
            media_type=members["mediaType"].text() if "mediaType" in members else None,
            annotations=members["annotations"].mapping() if "annotations" in members else None,
        )


def source_resource(captured: Mapping[str, Any]) -> Resource:
    """The dependency that describes the source: what was captured, with the commit as digest where there is one."""
    commit = captured.get("commit")
    return Resource(SOURCE, digest={"gitCommit": commit} if isinstance(commit, str) else None, annotations=captured)


@dataclass(frozen=True)
class Artifact:
    """A file of the run folder: its path inside the folder with "/" between the parts, size in bytes, SHA-256."""

    path: Text
    size: Count
    sha256: Sha256


@dataclass(frozen=True)
class Attempt:
    """One attempt at the run. ``finished_on`` is None where nothing saw its end."""

    started_on: str
    finished_on: str | None
    outcome: str

    def to_json(self) -> dict[str, Any]:
        """The manifest's members: startedOn, finishedOn, outcome."""
        return {"startedOn": self.started_on, "finishedOn": self.finished_on, "outcome": self.outcome}

    @classmethod
    def from_json(cls, field: Field) -> Attempt:
        """The attempt that ``to_json`` wrote. Raises the field's error."""
        members = field.members(("startedOn", "finishedOn", "outcome"))
        finished = members["finishedOn"]
        return cls(
            members["startedOn"].time(),
            None if finished.value is None else finished.time(),
            members["outcome"].one_of(OUTCOMES),
        )


@dataclass(frozen=True)
class Builder:
    """Who ran it: a URI, and the versions of what it is made of."""

    id: Text
    version: Annotated[Mapping[str, str], Field.texts]


@dataclass(frozen=True)
class LedgerReference:
    """The ledger's entry that began this attempt: its sequence number, the SHA-256 of its line, and the identifier of
    the key that signed it and signs the manifest, "" where an earlier release recorded none.

    In which order a manifest's signatures are is not signed: this alone says which of them is the recorder's.
    """

    sequence: Annotated[int, lambda field: field.integer(1)]
    digest: Sha256
    key: Text = ""

    def recorders(self, signers: tuple[str, ...]) -> tuple[str, ...]:
        """Which signers may be the recorder: a key that is named and did not sign is nobody's word."""
        return (self.key,) if self.key in signers else signers

    def to_json(self) -> dict[str, Any]:
        """The manifest's members: sequence, digest, and key where it is known."""
        return {name: value for name, value in asdict(self).items() if value != ""}


@dataclass(frozen=True)
class Manifest:
    """Everything that is said of one run. Times are RFC 3339 in UTC; ``machine`` is free JSON."""

    build_type: str
    external_parameters: Mapping[str, Any]
    internal_parameters: Mapping[str, Any]
    dependencies: tuple[Resource, ...]
    builder: Builder
    invocation_id: str
    started_on: str
    finished_on: str
    byproducts: tuple[Resource, ...]
    outcome: str
    exit_code: int | Mapping[str, Any] | None
    attempts: tuple[Attempt, ...]
    machine: Any
    ledger: LedgerReference
    artifacts: tuple[Artifact, ...]

    @property
    def variables(self) -> Mapping[str, str]:
        """The environment variables that the run's process recorded; none where it recorded none."""
        machine = self.machine if isinstance(self.machine, Mapping) else {}
        captured = machine.get("variables")
        recorded = captured.get("recorded") if isinstance(captured, Mapping) else None
        return recorded if isinstance(recorded, Mapping) else {}

    def dependency(self, name: str) -> Resource | None:
        """The first dependency of that name."""
        return next((item for item in self.dependencies if item.name == name), None)

    def byproduct(self, name: str) -> Resource | None:
        """The first byproduct of that name."""
        return next((item for item in self.byproducts if item.name == name), None)

    def artifact(self, path: str) -> Artifact | None:
        """The file with that path in the run folder, as it was signed."""
        return next((item for item in self.artifacts if item.path == path), None)

    def to_predicate(self) -> dict[str, Any]:
        """The predicate of schema v1."""
        exit_code = dict(self.exit_code) if isinstance(self.exit_code, Mapping) else self.exit_code
        return {
            "buildDefinition": {
                "buildType": self.build_type,
                "externalParameters": dict(self.external_parameters),
                "internalParameters": dict(self.internal_parameters),
                "resolvedDependencies": [resource.to_json() for resource in self.dependencies],
            },
            "runDetails": {
                "builder": {"id": self.builder.id, "version": dict(self.builder.version)},
                "metadata": {
                    "invocationId": self.invocation_id,
                    "startedOn": self.started_on,
                    "finishedOn": self.finished_on,
                },
                "byproducts": [resource.to_json() for resource in self.byproducts],
                "outcome": self.outcome,
                "exitCode": exit_code,
                "attempts": [attempt.to_json() for attempt in self.attempts],
                "machine": self.machine,
                "ledger": self.ledger.to_json(),
                "artifacts": [dict(vars(artifact)) for artifact in self.artifacts],
            },
        }

    @classmethod
    def from_predicate(cls, predicate: Any, schema: str = SCHEMA_V1) -> Manifest:
        """The manifest in a predicate. Raises ManifestError for an unknown schema or a predicate that breaks it."""
        reader = READERS.get(schema)
        if reader is None:
            raise ManifestError(
                f"predicateType {schema!r} is unknown; known: {', '.join(sorted(READERS))}",
                "read it with the version of ndrepro that wrote it, or a later one",
            )
        return reader(Field(predicate, "$.predicate"))


def _read_v1(predicate: Field) -> Manifest:
    parts = predicate.members(("buildDefinition", "runDetails"))
    definition = parts["buildDefinition"].members(
        ("buildType", "externalParameters", "internalParameters", "resolvedDependencies")
    )
    details = parts["runDetails"].members(
        ("builder", "metadata", "byproducts", "outcome", "exitCode", "attempts", "machine", "ledger", "artifacts")
    )
    metadata = details["metadata"].members(("invocationId", "startedOn", "finishedOn"))
    return Manifest(
        build_type=definition["buildType"].text(),
        external_parameters=definition["externalParameters"].mapping(),
        internal_parameters=definition["internalParameters"].mapping(),
        dependencies=tuple(map(Resource.from_json, definition["resolvedDependencies"].items())),
        builder=read_record(Builder, details["builder"]),
        invocation_id=metadata["invocationId"].identifier(),
        started_on=metadata["startedOn"].time(),
        finished_on=metadata["finishedOn"].time(),
        byproducts=tuple(map(Resource.from_json, details["byproducts"].items())),
        outcome=details["outcome"].one_of(OUTCOMES),
        exit_code=_exit_code(details["exitCode"]),
        attempts=tuple(map(Attempt.from_json, details["attempts"].items())),
        machine=details["machine"].value,
        ledger=read_record(LedgerReference, details["ledger"], later=["key"]),
        artifacts=tuple(read_record(Artifact, each) for each in details["artifacts"].items()),
    )


def _exit_code(field: Field) -> int | Mapping[str, Any] | None:
    if field.value is None:
        return None
    if isinstance(field.value, dict):
        field.members(("unavailable",))["unavailable"].text()
        return field.mapping()
    return field.integer()


READERS: dict[str, Callable[[Field], Manifest]] = {SCHEMA_V1: _read_v1}
