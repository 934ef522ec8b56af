"""The files that the parent and the training child exchange, as dataclasses.

Down: ``request.json`` (Request). Up: ``result.json`` (Result), and one row an epoch in ``metrics.jsonl`` (Scores)
and in ``timing.jsonl`` (Timing). Everything is JSON; nothing is pickled. The child ends with one of the exit codes
below, and ``result.json`` says the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import ENGINES, FILE_ENGINES, own_digests, recorded_in
from provenance.errors import CanonicalError
from provenance.formats.atomic_io import json_bytes as json_bytes
from provenance.formats.atomic_io import write_json as write_json
from provenance.formats.bounded_read import read_bounded
from provenance.formats.canonical_json import parse
from provenance.formats.strict_json import Count, Field, read_record, read_versioned

REQUEST_SCHEMA = "urn:ndrepro:request:v1"

# how floats that are not finite are written
NOT_FINITE = ("nan", "inf", "-inf")
# numbers of an epoch that rows of earlier releases lack
LATER_SCORES = ("train_top5_accuracy", "test_top5_accuracy")

EXIT_COMPLETED = 0
EXIT_FAILED = 1
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: come back later, with --resume


@dataclass(frozen=True)
class Container:
    """The container that the child runs in, as the parent found it.

    ``engine`` and its version; ``image`` as it was asked for; ``digest`` ("sha256:…") of the image's manifest where
    the engine knows it (of the file, for Apptainer and Enroot); ``identifier`` is the digest of its configuration,
    which stays when an image is saved and loaded elsewhere, or made into another file; ``driver`` is the host's NVIDIA
    driver, "" without one; ``host_variables`` are Apptainer's variables that were let through on request
    (``apptainer.PASS``); ``attestation`` is the digest of the signed statements on how the image was built, "" where
    the recorder had none.
    """

    engine: str
    engine_version: str
    image: str
    digest: str
    identifier: str
    driver: str = ""
    host_variables: str = ""
    attestation: str = ""

    @classmethod
    def from_field(cls, field: Field) -> Container:
        """The container in a request. Raises the field's error."""
        names = {each.name for each in fields(cls)}
        later = {"driver", "host_variables", "attestation"}
        members = field.members(names - later, tuple(later))
        if members["engine"].one_of(ENGINES) in FILE_ENGINES and not Path(members["image"].string()).is_absolute():
            members["image"].refuse("an absolute path (a relative one could be taken for an option of the engine's)")
        for name in ("digest", "identifier"):  # files are named by them
            if re.fullmatch("((sha256:)?[0-9a-f]{64})?", members[name].string()) is None:
                members[name].refuse("a SHA-256")
        return cls(**{name: member.string() for name, member in members.items()})

    @classmethod
    def from_manifest(cls, recorded: Any) -> Container:
        """The container in a manifest, of any release. Raises NdreproError for what is none."""
        members = Field(recorded, "container", NdreproError).mapping()
        known = {each.name: members[each.name] for each in fields(cls) if each.name in members}
        return cls.from_field(Field(known, "container", NdreproError))

    @property
    def digests(self) -> frozenset[str]:
        """Every digest that names this very image; of a file its own alone (``own_digests``)."""
        return frozenset(own_digests(self.engine, self.identifier, self.digest))


def _experiment(field: Field) -> Experiment:
    return Experiment.from_json(field.mapping())


@dataclass(frozen=True)
class Request:
    """What the parent asks of the child: the experiment, where the data are, the step to resume from (0: afresh).

    ``environment`` is the cell of the version matrix that the child runs in, empty for the project's own.
    ``segment_epochs`` asks for so many epochs only, from ``resume_step`` on, with logs that begin there: a piece of a
    run, trained again to compare it with the whole; with 0 nothing is trained, and the weights in the folder are
    evaluated. ``None`` is a whole run. ``container`` is what the child runs in,
    ``None`` where it runs on this system itself.
    """

    experiment: Annotated[Experiment, _experiment]
    data: str
    environment: str = ""
    resume_step: Count = 0
    segment_epochs: Count | None = None
    container: Annotated[Container, Container.from_field] | None = None

    @property
    def environments(self) -> tuple[str, ...]:
        """What a study may call where this runs: one name, or those of its image."""
        return recorded_in(self.environment, None if self.container is None else asdict(self.container))

    def to_json(self) -> dict[str, Any]:
        """Every field, with the schema's name."""
        return {"schema": REQUEST_SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, document: Any) -> Request:
        """The request that ``to_json`` wrote. Raises NdreproError for anything else, UsageError for its experiment."""
        asked = Field(document, "request.json", NdreproError)
        cure = "use the version of ndrepro that wrote it"
        return read_versioned(cls, asked, REQUEST_SCHEMA, cure, later=("container",))  # older requests have none


def _error_record(error: Field) -> dict[str, str]:
    return {name: member.string() for name, member in error.members(("type", "message", "cure")).items()}


@dataclass(frozen=True)
class Result:
    """How the child ended: outcome, whole epochs and steps done, the device used, and the error if any."""

    outcome: Annotated[str, Field.text]
    epochs: Count
    steps: Count
    device: str
    error: Annotated[dict[str, str], _error_record] | None = None

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Result:
        """The result that ``to_json`` wrote. Raises NdreproError for anything else."""
        return read_record(cls, Field(document, "result.json", NdreproError), later=("error",))


@dataclass(frozen=True)
class Scores:
    """One epoch's results; losses are means per image, accuracies fractions of 1. No clock in here.

    ``train_loss`` and ``train_accuracy`` are those met while training (augmented images, moving weights);
    ``learning_rate`` is that of the epoch's last step. Of the images that count for the top 5 the right class is among
    the five with the highest scores (equal scores in the order of the classes, as top 1 has it); ``None`` in rows from
    before these were recorded.
    """

    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    learning_rate: float
    train_top5_accuracy: float | None = None
    test_top5_accuracy: float | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Scores:
        """The scores of a row of ``metrics.jsonl``; a loss that is not finite may be a word there.

        Raises NdreproError for a row of anything else.
        """
        counts = ("epoch", "step")
        try:
            members = Field(dict(row), "row", NdreproError).members(counts, [each.name for each in fields(cls)])
            numbers = {key: _number(value) for key, value in row.items() if key not in counts and value is not None}
            epoch, step = (members[name].integer(0) for name in counts)
            return cls(epoch=epoch, step=step, **numbers)
        except (NdreproError, TypeError, ValueError, OverflowError) as error:
            raise NdreproError(f"no row of an epoch's results ({error})", "get the original file again") from None

    def agrees_with(self, other: Scores) -> bool:
        """Whether every number that both have is the same in both to its last bit."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return all(repr(a) == repr(b) for a, b in pairs if a is not None and b is not None)


@dataclass(frozen=True)
class Evaluated:
    """The results of given weights on the test data, which a child evaluated without training: ``evaluation.json``."""

    test_loss: float
    test_accuracy: float
    test_top5_accuracy: float
    images: int

    def to_json(self) -> dict[str, Any]:
        """Every field; a loss that is not finite as a word."""
        return {**asdict(self), "test_loss": plain_number(self.test_loss)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evaluated:
        """The results that ``to_json`` wrote. Raises NdreproError for anything else."""
        names = ("test_loss", "test_accuracy", "test_top5_accuracy")
        try:
            members = Field(document, "evaluation.json", NdreproError).members((*names, "images"))
            loss, accuracy, top5_accuracy = (_number(members[name].value) for name in names)
            return cls(loss, accuracy, top5_accuracy, members["images"].integer(0))
        except (NdreproError, TypeError, ValueError, OverflowError) as error:
            raise NdreproError(f"no results of an evaluation ({error})", "evaluate the weights again") from None


@dataclass(frozen=True)
class Timing:
    """One epoch's clock: seconds of training, of evaluation, of the trail; images per training second; memory."""

    epoch: int
    train_seconds: float
    test_seconds: float
    trail_seconds: float
    images_per_second: float
    peak_memory_bytes: int
    peak_device_memory_bytes: int


def read_json(path: Path) -> Any:
    """The JSON in ``path``, read strictly (``provenance.formats.canonical_json.parse``): no key twice, no NaN.

    Raises NdreproError naming the file where it is missing, no regular file, or not such JSON.
    """
    try:
        return parse(read_bounded(path))
    except FileNotFoundError:
        raise NdreproError(f"{path}: not there") from None
    except OSError as error:
        raise NdreproError(f"{path}: cannot be read ({error.strerror})") from None
    except CanonicalError as error:
        raise NdreproError(f"{path}: not JSON that can be read ({error.message})", error.cure) from None


def plain_number(value: float) -> float | str:
    """A number as JSON has it: one that is not finite as a word, of ``NOT_FINITE``."""
    return value if math.isfinite(value) else str(value)


def _number(value: Any) -> float:
    """A float that was written as a number, or as a word where it is not finite; no text of a number, no truth."""
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or value in NOT_FINITE):
        raise ValueError(f"{value!r}, expected a number")
    return float(value)
