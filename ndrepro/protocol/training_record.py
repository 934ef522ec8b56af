"""What the manifest of a training run says: every fact under one name and one type, where it is written and read.

The functions below write the parts of a manifest that are training's own; ``TrainingRecord`` reads them. A manifest may
be anybody's, or of another release: a fact that is missing or has another form is empty, ``None`` or the recorder's
marker ``{"unavailable": reason}`` (``provenance.capture.unavailable``), and what no caller can do without raises
ManifestError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.image_reference import MAIN, label_of, recorded_in
from ndrepro.protocol.messages import Container, Request, Scores, plain_number
from provenance.attestation.manifest import DATASET, ERROR, SOURCE, Manifest, Resource
from provenance.capture.unavailable import at, mapping, text, whole
from provenance.errors import ManifestError, ProvenanceError

# dependencies
CODE, CONTAINER_IMAGE, IMAGE_ATTESTATION = "code", "container image", "container image attestation"
NETWORK = "network source"
CONTINUED_RUN = "continued run"  # the segment that this one starts from
# byproducts
METRICS_SUMMARY, LAYER_CENSUS = "metrics summary", "layer census"


def external_parameters(request: Request, *, data: str, command: list[str]) -> dict[str, Any]:
    """What the user chose: the experiment in full, the seed of every stream, data, environment, command line.

    ``data`` and ``command`` are given without secrets.
    """
    experiment = request.experiment
    whole = request.segment_epochs is None
    return {
        "experiment": experiment.to_json(),
        "name": experiment.name,
        "seeds": {name: str(experiment.seed_of(name)) for name in STREAMS},
        "data": data,
        "environment": request.environment or MAIN,
        "segment": None if whole else {"fromStep": request.resume_step, "epochs": request.segment_epochs},
        "container": None if request.container is None else asdict(request.container),
        "command": command,
    }


def internal_parameters(request: Request, *, flags: tuple[Any, Any], **captured: Any) -> dict[str, Any]:
    """What the run chose or found: determinism level, its ``flags`` at start and end, threads; ``captured`` holds
    device, libraries and usage."""
    start, end = flags
    return {
        "determinism": {"level": request.experiment.determinism, "start": start, "end": end},
        "threads": request.experiment.threads,
        "resumedFromStep": request.resume_step,
        **captured,
    }


def metrics_summary(scores: tuple[Scores, ...]) -> dict[str, Any]:
    """The last epoch's results and the best test accuracy; losses that are not finite as words."""
    if not scores:
        return {"epochs": 0}
    last = {key: plain_number(value) for key, value in asdict(scores[-1]).items() if value is not None}
    best = max(scores, key=lambda row: row.test_accuracy)
    return {"epochs": len(scores), "last": last, "best": {"epoch": best.epoch, "test_accuracy": best.test_accuracy}}


@dataclass(frozen=True)
class RecordedDistribution:
    """An installed distribution: version ("" where it is not known), SHA-256 of its RECORD, and of what it lists.

    ``content`` leaves out what installers write for one folder; None in manifests of earlier releases.
    """

    version: str
    digest: str | None
    content: str | None = None

    def same_files(self, other: RecordedDistribution) -> bool:
        """Whether both have the same version and files: by content where both have it, else by RECORD."""
        if self.version != other.version:
            return False
        if self.content is not None and other.content is not None:
            return self.content == other.content
        return self.digest == other.digest


@dataclass(frozen=True)
class RecordedDataset:
    """A data set: SHA-256 of its files and of the pixels of both splits; whether the files are the published ones."""

    name: str
    resource: Resource
    files: str | None
    train_pixels: str | None
    test_pixels: str | None
    official: bool | None

    @classmethod
    def of(cls, resource: Resource) -> RecordedDataset:
        """The data set that a dependency describes."""
        found, official = resource.annotations or {}, at(resource.annotations, "canonical")
        return cls(
            name=resource.name.removeprefix(DATASET),
            resource=resource,
            files=text(at(found, "tree_sha256")),
            train_pixels=text(at(found, "pixels_sha256", "train")),
            test_pixels=text(at(found, "pixels_sha256", "test")),
            official=official if isinstance(official, bool) else None,
        )


@dataclass(frozen=True)
class TrainingRecord:
    """The facts of one manifest; it need not be verified, nor of a training run (``is_training``).

    Texts that are not known are "" or ``None``. ``environment`` is what the run was for, which in a container says
    nothing of where it was; ``determinism`` holds the level and the flags at start and end, ``libraries`` the facts
    that torch reports of itself and of the GPUs it saw, ``usage`` seconds and bytes; ``resumed_from_step`` is 0 where
    the last attempt was not resumed; ``continued_digest`` is that of the manifest of the segment that this one starts
    from; ``last_scores`` is ``None`` where no epoch ended, or where ``summary`` has no valid row.
    """

    manifest: Manifest
    is_training: bool
    is_segment: bool
    name: str
    seeds: Mapping[str, Any]
    data: Path | None
    command: tuple[str, ...]
    environment: str
    determinism: Mapping[str, Any]
    determinism_level: str
    device: str
    libraries: Mapping[str, Any]
    usage: Mapping[str, Any]
    resumed_from_step: int
    python: str
    source: Resource
    commit: str | None
    code: Resource
    code_digest: str | None
    continued_digest: str | None
    distributions: Mapping[str, RecordedDistribution]
    datasets: tuple[RecordedDataset, ...]
    census: Mapping[str, Any]
    parameters: int | None
    summary: Mapping[str, Any]
    last_scores: Scores | None
    error: str

    @classmethod
    def of(cls, manifest: Manifest) -> TrainingRecord:
        """Read a manifest; nothing in it raises here."""
        asked, inner = manifest.external_parameters, manifest.internal_parameters
        determinism, data = mapping(at(inner, "determinism")), text(asked.get("data"))
        source, code = manifest.dependency(SOURCE) or Resource(SOURCE), manifest.dependency(CODE) or Resource(CODE)
        continued = manifest.dependency(CONTINUED_RUN) or Resource(CONTINUED_RUN)
        census, summary = _annotations(manifest, LAYER_CENSUS), _annotations(manifest, METRICS_SUMMARY)
        words = asked.get("command")
        return cls(
            manifest,
            is_training="experiment" in asked,
            is_segment=bool(asked.get("segment")),
            name=text(asked.get("name")) or "",
            seeds=mapping(asked.get("seeds")),
            data=Path(data) if data else None,
            command=tuple(map(str, words)) if isinstance(words, list) else (),
            environment=str(asked.get("environment") or MAIN),
            determinism=determinism,
            determinism_level=text(determinism.get("level")) or "",
            device=text(inner.get("device")) or "",
            libraries=mapping(at(inner, "libraries")),
            usage=mapping(at(inner, "usage")),
            resumed_from_step=whole(inner.get("resumedFromStep")) or 0,
            python=text(at(manifest.machine, "interpreter", "version")) or "",
            source=source,
            commit=(source.digest or {}).get("gitCommit"),
            code=code,
            code_digest=(code.digest or {}).get("sha256"),
            continued_digest=(continued.digest or {}).get("sha256"),
            distributions=recorded_distributions(manifest),
            datasets=tuple(RecordedDataset.of(i) for i in manifest.dependencies if i.name.startswith(DATASET)),
            census=census,
            parameters=whole(census.get("trainable_parameters")),
            summary=summary,
            last_scores=_scores(summary.get("last")),
            error=text(_annotations(manifest, ERROR).get("message")) or "",
        )

    @property
    def experiment_document(self) -> Mapping[str, Any]:
        """The experiment as its own release wrote it. Raises ManifestError where there is none."""
        document = self.manifest.external_parameters.get("experiment")
        if not isinstance(document, dict):
            raise _malformed("experiment", f"{str(document)[:80]!r}, expected an object", "it is no run of ndrepro")
        return document

    @property
    def experiment(self) -> Experiment:
        """What was trained. Raises ManifestError where it is none that this release knows."""
        try:
            return Experiment.from_json(self.experiment_document)
        except ProvenanceError as error:
            raise _malformed("experiment", error.message, "read it with the version that wrote it") from None

    @property
    def container(self) -> Container | None:
        """The container that it ran in. Raises ManifestError for what is none."""
        recorded = self.manifest.external_parameters.get("container")
        if not recorded:
            return None
        try:
            return Container.from_manifest(recorded)
        except ProvenanceError:
            raise _malformed("container", f"{str(recorded)[:80]!r}, expected a container") from None

    @property
    def environments(self) -> tuple[str, ...]:
        """Every name by which a study may ask for the place it ran in. Raises ManifestError for a bad container."""
        container = self.container
        try:
            names = recorded_in(self.environment, None if container is None else asdict(container))
            return tuple(name for name in names if label_of(name))
        except ProvenanceError as error:
            raise _malformed("container", error.message) from None

    @property
    def segment(self) -> tuple[int, int] | None:
        """First step and number of epochs of a segment. Raises ManifestError for another form."""
        recorded = self.manifest.external_parameters.get("segment")
        first, epochs = whole(at(recorded, "fromStep")), whole(at(recorded, "epochs"))
        if recorded and (first is None or epochs is None):
            raise _malformed("segment", f"{str(recorded)[:80]!r}, expected fromStep and epochs")
        return None if first is None or epochs is None else (first, epochs)


def recorded_distributions(manifest: Manifest) -> dict[str, RecordedDistribution]:
    """The distributions that a manifest of any kind of run names, by their names."""
    found = {}
    for item in manifest.dependencies:
        if (named := item.distribution) is not None:
            (name, version), digest = named, (item.digest or {}).get("sha256")
            content = (item.annotations or {}).get("content_sha256")
            found[name] = RecordedDistribution(version, digest, content if isinstance(content, str) else None)
    return found


def of_no_index(manifest: Manifest) -> tuple[str, ...]:
    """The recorded distributions that were installed from a folder, a file or a repository, with that, but for editable
    ones: no index has them, and their source may be of any commit."""
    found = []
    for item in manifest.dependencies:
        origin = (item.annotations or {}).get("origin")
        if item.distribution is not None and origin is not None and at(origin, "dir_info", "editable") is not True:
            found.append(f"{' '.join(item.distribution).strip()} ({text(at(origin, 'url')) or 'origin not known'})")
    return tuple(found)


def installed_distributions(captured: Mapping[str, Any]) -> dict[str, RecordedDistribution]:
    """The distributions of a captured environment (``provenance.capture.distributions``), as a manifest has them."""
    found = {}
    for item in captured["installed"]:
        # a version that is not known is recognised by the digests alone
        version, digest = (item[name] if isinstance(item[name], str) else "" for name in ("version", "record_sha256"))
        found[item["name"]] = RecordedDistribution(version, digest or None, item.get("content_sha256"))
    return found


def _scores(row: Any) -> Scores | None:
    if whole(at(row, "epoch")) is None or whole(at(row, "step")) is None:
        return None
    try:
        return Scores.from_row(row)
    except NdreproError:
        return None


def _annotations(manifest: Manifest, name: str) -> Mapping[str, Any]:
    found = manifest.byproduct(name)
    return (found.annotations or {}) if found else {}


def _malformed(name: str, problem: str, cure: str = "") -> ManifestError:
    return ManifestError(f"externalParameters.{name}: {problem}", cure)
