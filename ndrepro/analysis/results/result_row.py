"""From a verified manifest to one row of results: what was run, where, and what came out.

Everything here is read from what was signed. Two things are not in a manifest and are not guessed: the seconds spent
training, which stand in ``timing.jsonl`` and count only where that file has the digest that was signed; and whatever
the run could not find out, which stays ``None`` or "".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.analysis.run_cost import UNKNOWN, RunCost, cost_of
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.determinism import instruction_limits, limits_text
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.experiment.settings import changed_settings
from ndrepro.protocol.image_reference import label_of
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import LATER_SCORES, Scores
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.verdict import Verdict
from provenance.errors import CanonicalError, ManifestError, ProvenanceError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.canonical_json import parse
from provenance.formats.digest import bytes_digest

_DIGITS = 8  # of a digest of data
# settings that a row has a place of its own for
_OWN = ("arch", "method", "epochs", "dataset", "seed", "determinism", "threads", "device")


class NoScore(NdreproError):
    """A manifest verifies and yet has no result to count: the message says why."""


@dataclass(frozen=True)
class ResultRow:
    """One completed run, from its verified manifest: last epoch's accuracies in percent, losses in nats an image.

    ``seeds`` holds the streams that have a seed of their own; ``settings`` what else of the experiment is not its
    name's default, by dotted key. ``cell`` is the environment's name ("main", "torch-1.13.1", of a container image
    "podman:00be816f81ca"), ``environment`` its versions; ``image`` and ``image_again`` are what a study may call that
    image (``ndrepro.protocol.image_reference``), "" outside of containers. ``parameters`` counts the trainable ones.
    ``train_seconds`` is the time in training steps, ``None`` where it was not kept. Top-5 accuracies are ``None`` in
    runs from before they were recorded. ``official_data`` says whether the data were the published files, by their
    digests; where they were not, or that is not known, ``data`` has the first digits of the SHA-256 of their files, and
    runs on other files are of another experiment. ``signer`` names the trusted keys; ``manifest_digests`` are the
    manifest's as its recorder wrote it, one for each, ``payload_digest`` that of the bytes that are signed in it
    (``provenance.attestation.verify``).
    ``instructions`` are the variables that limit instruction sets, "" where none is set
    (``ndrepro.protocol.experiment.determinism``). ``content`` are the SHA-256 of the signed files that only the same
    training can give: trail, states and, of a run without NaN, weights. ``files_checked`` says whether all files of the
    run were there and told the same story as the manifest; where not, the numbers are those of the manifest alone.
    ``cost`` is time and energy, of all attempts.
    """

    run_id: str
    folder: Path
    name: str
    arch: str
    method: str
    epochs: int
    dataset: str
    seed: int
    seeds: Mapping[str, int]
    settings: Mapping[str, Any]
    cell: str
    environment: str
    torch: str
    numpy: str
    python: str
    determinism: str
    threads: int
    device: str
    train_accuracy_percent: float
    test_accuracy_percent: float
    train_loss: float
    test_loss: float
    parameters: int | None
    train_seconds: float | None
    commit: str
    code: str
    signer: str
    manifest_digests: tuple[str, ...]
    payload_digest: str
    started: str
    train_top5_accuracy_percent: float | None = None
    test_top5_accuracy_percent: float | None = None
    image: str = ""
    image_again: str = ""
    official_data: bool | None = None
    data: str = ""
    instructions: str = ""
    content: tuple[str, ...] = ()
    files_checked: bool = False
    cost: RunCost = UNKNOWN

    @property
    def finite(self) -> bool:
        """Whether every accuracy and loss is a finite number."""
        accuracies = self.train_accuracy_percent, self.test_accuracy_percent
        return all(map(math.isfinite, (*accuracies, self.train_loss, self.test_loss)))

    def seed_of(self, stream: str) -> int:
        """The seed of one random stream: its own, or the run's."""
        return self.seeds.get(stream, self.seed)

    @property
    def experiment(self) -> tuple[Any, ...]:
        """What was run but for seeds and environments: name, settings and data."""
        return (self.name, *(f"{key}={value}" for key, value in sorted(self.distinctions.items())))

    @property
    def distinctions(self) -> Mapping[str, Any]:
        """The settings, and beside them the data where these are not known to be the published files."""
        return {**self.settings, "data": self.data} if self.data else self.settings

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two runs that ask for the same: experiment, seed of every stream, execution environment."""
        drawn = tuple(self.seed_of(stream) for stream in STREAMS)
        _, *conditions = self.execution_environment  # two names of one environment are one
        return (*self.experiment, drawn, *conditions)

    @property
    def drawn(self) -> tuple[int, int]:
        """The seeds of the streams that move the bits of every training: initial weights and order of the data."""
        return self.seed_of("init"), self.seed_of("order")

    @property
    def execution_environment(self) -> tuple[Any, ...]:
        """All that may move a result's bits besides the experiment and its seeds."""
        return (self.cell, self.environment, self.determinism, self.threads, self.device, self.instructions)


def score_of(manifest: Manifest, folder: Path, verdict: Verdict) -> ResultRow:
    """The row of a completed run whose manifest, that of ``verdict``, verifies.

    Raises NoScore for a manifest that is of no training run, of a piece of one, that did not complete, whose results
    are missing or are no accuracies, or that contradicts itself.
    """
    experiment, record = experiment_of(manifest), TrainingRecord.of(manifest)
    if manifest.outcome != "completed":
        raise NoScore(f"it is {manifest.outcome}")
    if record.is_segment:
        raise NoScore("a piece of a run")
    if experiment.validation:
        raise NoScore("scored on validation images: it says nothing of the test images")
    last = _last_row(record, experiment)
    try:
        names = record.environments
    except ManifestError as error:
        raise NoScore(error.message) from None
    cell, images = label_of(names[0]), names if record.container else ("",)
    versions = {name: had.version if (had := record.distributions.get(name)) else "" for name in ("torch", "numpy")}
    where = [f"{word} {version or 'not known'}" for word, version in {**versions, "Python": record.python}.items()]
    data = next((each for each in record.datasets if each.name == experiment.dataset), None)
    row = ResultRow(
        run_id=manifest.invocation_id,
        folder=folder,
        name=experiment.name,
        arch=experiment.arch,
        method=experiment.method,
        epochs=experiment.epochs,
        dataset=experiment.dataset,
        seed=experiment.seed,
        seeds={stream: own for stream in STREAMS if (own := getattr(experiment.seeds, stream)) is not None},
        settings=settings_of(experiment),
        cell=cell,
        environment=", ".join([*where, f"in {cell}"] if images[0] else where),
        torch=versions["torch"],
        numpy=versions["numpy"],
        python=record.python,
        determinism=experiment.determinism,
        threads=experiment.threads,
        device=record.device,
        train_accuracy_percent=100 * last.train_accuracy,
        test_accuracy_percent=100 * last.test_accuracy,
        train_loss=last.train_loss,
        test_loss=last.test_loss,
        parameters=record.parameters,
        train_seconds=_train_seconds(manifest, folder),
        commit=record.commit or "",
        code=record.code_digest or "",
        signer=verdict.signer or "",
        manifest_digests=verdict.digests,
        payload_digest=verdict.payload_digest or "",
        started=manifest.started_on,
        **{f"{key}_percent": 100 * value for key in LATER_SCORES if (value := getattr(last, key)) is not None},
        image=images[0],
        image_again=images[-1],
        official_data=data.official if data else None,
        data=(data.files or "")[:_DIGITS] if data and not data.official else "",
        files_checked=any(check.number > 8 and check.status == "pass" for check in verdict.checks),
        cost=cost_of(manifest),
        instructions=limits_text(instruction_limits(manifest.variables, experiment.determinism, experiment.cpu_isa)),
    )
    return replace(row, content=_content(manifest, row.finite))


def _content(manifest: Manifest, finite: bool) -> tuple[str, ...]:
    names = RunFolder(Path())
    # weights that are all NaN are the same for every seed
    kept = (names.trail, names.states, *([names.weights] if finite else []))
    return tuple(signed.sha256 for path in kept if (signed := manifest.artifact(path.name)) is not None)


def experiment_of(manifest: Manifest) -> Experiment:
    """The experiment of a manifest. Raises NoScore where it has none, or says another name than its settings do."""
    record = TrainingRecord.of(manifest)
    try:
        experiment = record.experiment
    except ManifestError as error:
        raise NoScore(f"it is of no experiment that is known here ({error})") from None
    if record.name != experiment.name:
        raise NoScore(f"it is named {record.name!r}, and its settings are those of {experiment.name}")
    for stream in STREAMS:
        if (seed := record.seeds.get(stream)) != str(experiment.seed_of(stream)):
            raise NoScore(f"its seed of {stream} is {seed}, and its settings say otherwise")
    return experiment


def manifest_of(run: ResultRow) -> Manifest | None:
    """The manifest of a row, read again; None where it is gone or signs anything else than what was verified."""
    try:
        payload = read_envelope(read_bounded(RunFolder(run.folder).manifest))[1]
        # what is read is what a trusted key signed, even if the envelope around it was changed since
        return Statement.from_bytes(payload).manifest if bytes_digest(payload) == run.payload_digest else None
    except (OSError, ProvenanceError):
        return None


def _last_row(record: TrainingRecord, experiment: Experiment) -> Scores:
    """The last epoch's results. Raises NoScore where they are none, or of another epoch."""
    last = record.last_scores
    if last is None and "last" in record.summary:
        raise NoScore("its metrics summary is not one")
    if last is None:
        raise NoScore("it completed without a whole epoch, so there is no result")
    if last.epoch != experiment.epochs:
        raise NoScore(f"it says completed, and its last result is of epoch {last.epoch} of {experiment.epochs}")
    for key in ("train_accuracy", "test_accuracy", *LATER_SCORES):
        if (value := getattr(last, key)) is not None and not (math.isnan(value) or 0 <= value <= 1):
            raise NoScore(f"its {key} is {value}, expected a fraction from 0 to 1")
    return last


def settings_of(experiment: Experiment) -> dict[str, Any]:
    """What is not the default of the experiment's name, but for seeds and what a row has a place of its own for."""
    changed = changed_settings(experiment)
    return {key: value for key, value in changed.items() if key not in _OWN and not key.startswith("seeds.")}


def _train_seconds(manifest: Manifest, folder: Path) -> float | None:
    """Seconds in training steps over all epochs; None where ``timing.jsonl`` is not the one that was signed."""
    path = RunFolder(folder).timing
    signed = manifest.artifact(path.name)
    if signed is None:
        return None
    try:
        if path.stat().st_size != signed.size or bytes_digest(data := read_bounded(path, LOG_BYTES)) != signed.sha256:
            return None
        # the very bytes that were hashed, all lines in one go: a long run has a hundred
        rows = parse(b"[%b]" % b",".join(data.splitlines()))
        return math.fsum(float(row["train_seconds"] or 0) for row in rows)
    except (OSError, KeyError, TypeError, ValueError, CanonicalError):
        return None
