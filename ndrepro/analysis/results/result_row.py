"""From a verified manifest to one row of results: what was run, where, and what came out.

Everything here is read from what was signed. Two things are not in a manifest and are not guessed: the seconds spent
training, which stand in ``timing.jsonl`` and count only where that file has the digest that was signed; and whatever
the run could not find out, which stays ``None`` or "".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.determinism import instruction_limits, limits_text
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.image_reference import label_of, recorded_in
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import LATER_SCORES
from ndrepro.protocol.study.study import leaves
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Manifest, Resource
from provenance.attestation.statement import Statement
from provenance.attestation.verify import Verdict
from provenance.errors import ProvenanceError
from provenance.formats.digest import bytes_digest

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
    digests. ``signer`` is the name of a trusted key. ``manifest_digest`` is the manifest's as its recorder wrote it,
    ``payload_digest`` that of the bytes that are signed in it (``provenance.attestation.verify``). ``instructions`` are
    the variables that limit instruction sets, "" where none is set (``ndrepro.protocol.experiment.determinism``).
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
    train_accuracy: float
    test_accuracy: float
    train_loss: float
    test_loss: float
    parameters: int | None
    train_seconds: float | None
    commit: str
    code: str
    signer: str
    manifest_digest: str
    payload_digest: str
    started: str
    train_top5_accuracy: float | None = None
    test_top5_accuracy: float | None = None
    image: str = ""
    image_again: str = ""
    official_data: bool | None = None
    instructions: str = ""

    @property
    def finite(self) -> bool:
        """Whether every accuracy and loss is a finite number."""
        return all(map(math.isfinite, (self.train_accuracy, self.test_accuracy, self.train_loss, self.test_loss)))

    def seed_of(self, stream: str) -> int:
        """The seed of one random stream: its own, or the run's."""
        return self.seeds.get(stream, self.seed)

    @property
    def experiment(self) -> tuple[Any, ...]:
        """What was run but for seeds and surroundings: name and settings."""
        return (self.name, *(f"{key}={value}" for key, value in sorted(self.settings.items())))

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two runs that ask for the same: experiment, seed of every stream, surroundings."""
        drawn = tuple(self.seed_of(stream) for stream in STREAMS)
        _, *surroundings = self.surroundings  # two names of one environment are one
        return (*self.experiment, drawn, *surroundings)

    @property
    def surroundings(self) -> tuple[Any, ...]:
        """All that may move a result's bits besides the experiment and its seeds."""
        return (self.cell, self.environment, self.determinism, self.threads, self.device, self.instructions)


def score_of(manifest: Manifest, folder: Path, verdict: Verdict) -> ResultRow:
    """The row of a completed run whose manifest, that of ``verdict``, verifies.

    Raises NoScore for a manifest that is of no training run, of a piece of one, that did not complete, whose results
    are missing or are no accuracies, or that contradicts itself.
    """
    experiment = experiment_of(manifest)
    if manifest.outcome != "completed":
        raise NoScore(f"it is {manifest.outcome}")
    if manifest.external_parameters.get("segment"):
        raise NoScore("a piece of a run")
    if experiment.validation:
        raise NoScore("scored on validation images: it says nothing of the test images")
    last = _last_row(manifest, experiment)
    versions = _versions(manifest)
    names = _environments(manifest)
    cell, images = label_of(names[0]), names if manifest.external_parameters.get("container") else ("",)
    where = [f"{word} {version or 'not known'}" for word, version in versions.items()]
    source = _named(manifest, "source")
    internal = manifest.internal_parameters
    return ResultRow(
        run_id=manifest.invocation_id,
        folder=folder,
        name=experiment.name,
        arch=experiment.arch,
        method=experiment.method,
        epochs=experiment.epochs,
        dataset=experiment.dataset,
        seed=experiment.seed,
        seeds={stream: own for stream in STREAMS if (own := getattr(experiment.seeds, stream)) is not None},
        settings=_settings(experiment),
        cell=cell,
        environment=", ".join([*where, f"in {cell}"] if images[0] else where),
        torch=versions["torch"],
        numpy=versions["numpy"],
        python=versions["Python"],
        determinism=experiment.determinism,
        threads=experiment.threads,
        device=internal["device"] if isinstance(internal.get("device"), str) else "",
        train_accuracy=100 * last["train_accuracy"],
        test_accuracy=100 * last["test_accuracy"],
        train_loss=last["train_loss"],
        test_loss=last["test_loss"],
        parameters=_whole(_annotations(manifest, "layer census").get("trainable_parameters")),
        train_seconds=_train_seconds(manifest, folder),
        commit=str((source.digest or {}).get("gitCommit", "")) if source else "",
        code=str((code.digest or {}).get("sha256", "")) if (code := _named(manifest, "code")) else "",
        signer=verdict.signer or "",
        manifest_digest=verdict.digest or "",
        payload_digest=verdict.payload_digest or "",
        started=manifest.started_on,
        **{key: 100 * last[key] for key in LATER_SCORES if key in last},
        image=images[0],
        image_again=images[-1],
        official_data=_official_data(manifest, experiment.dataset),
        instructions=limits_text(instruction_limits(manifest.variables, experiment.determinism)),
    )


def experiment_of(manifest: Manifest) -> Experiment:
    """The experiment of a manifest. Raises NoScore where it has none, or says another name than its settings do."""
    asked = manifest.external_parameters
    try:
        experiment = Experiment.from_json(asked["experiment"])
    except (KeyError, TypeError, ProvenanceError) as error:
        raise NoScore(f"it is of no experiment that is known here ({error})") from None
    if asked.get("name") != experiment.name:
        raise NoScore(f"it is named {asked.get('name')!r}, and its settings are those of {experiment.name}")
    said = asked.get("seeds", {})
    for stream in STREAMS:
        if isinstance(said, Mapping) and said.get(stream) != str(experiment.seed_of(stream)):
            raise NoScore(f"its seed of {stream} is {said.get(stream)}, and its settings say otherwise")
    return experiment


def manifest_of(run: ResultRow) -> Manifest | None:
    """The manifest of a row, read again; None where it is gone or signs anything else than what was verified."""
    try:
        payload = read_envelope(RunFolder(run.folder).manifest.read_bytes())[1]
        # what is read is what a trusted key signed, whatever has become of the envelope around it
        return Statement.from_bytes(payload).manifest if bytes_digest(payload) == run.payload_digest else None
    except (OSError, ProvenanceError):
        return None


def _environments(manifest: Manifest) -> tuple[str, ...]:
    """What a study may call where it ran. Raises NoScore for a container that is not one."""
    asked = manifest.external_parameters
    try:
        names = recorded_in(str(asked.get("environment") or ""), asked.get("container"))
        return tuple(name for name in names if label_of(name))
    except (KeyError, TypeError, ProvenanceError):
        raise NoScore("its container is not one") from None


def _last_row(manifest: Manifest, experiment: Experiment) -> dict[str, float]:
    """The last epoch's accuracies (fractions) and losses."""
    row = _annotations(manifest, "metrics summary").get("last")
    if not isinstance(row, Mapping):
        raise NoScore("it completed without a whole epoch, so there is no result")
    try:
        found = {key: float(row[key]) for key in ("train_accuracy", "test_accuracy", "train_loss", "test_loss")}
        found |= {key: float(row[key]) for key in LATER_SCORES if key in row}
        epoch = row["epoch"]
    except (KeyError, TypeError, ValueError):
        raise NoScore("its metrics summary is not one") from None
    if epoch != experiment.epochs:
        raise NoScore(f"it says completed, and its last result is of epoch {epoch} of {experiment.epochs}")
    for key in ("train_accuracy", "test_accuracy", *LATER_SCORES):
        if key in found and not (math.isnan(found[key]) or 0 <= found[key] <= 1):
            raise NoScore(f"its {key} is {found[key]}, expected a fraction from 0 to 1")
    return found


def _settings(experiment: Experiment) -> dict[str, Any]:
    default = dict(leaves(experiment.defaults()))
    return {
        key: value
        for key, value in leaves(experiment.to_json())
        if value != default[key] and key not in _OWN and not key.startswith("seeds.")
    }


def _versions(manifest: Manifest) -> dict[str, str]:
    """Versions of torch, numpy and Python, "" where they were not recorded."""
    had = {"distribution:torch": "", "distribution:numpy": ""}
    for item in manifest.dependencies:
        if item.name in had:
            had[item.name] = (item.uri or "").partition("@")[2]
    machine = manifest.machine if isinstance(manifest.machine, Mapping) else {}
    interpreter = machine.get("interpreter")
    python = interpreter.get("version") if isinstance(interpreter, Mapping) else None
    torch, numpy = had.values()
    return {"torch": torch, "numpy": numpy, "Python": python if isinstance(python, str) else ""}


def _official_data(manifest: Manifest, dataset: str) -> bool | None:
    data = _named(manifest, f"dataset:{dataset}")
    said = (data.annotations or {}).get("canonical") if data else None
    return said if isinstance(said, bool) else None


def _train_seconds(manifest: Manifest, folder: Path) -> float | None:
    """Seconds in training steps over all epochs; None where ``timing.jsonl`` is not the one that was signed."""
    path = RunFolder(folder).timing
    signed = next((item for item in manifest.artifacts if item.path == path.name), None)
    if signed is None:
        return None
    try:
        if path.stat().st_size != signed.size or bytes_digest(data := path.read_bytes()) != signed.sha256:
            return None
        # the very bytes that were hashed, all lines in one go: a long run has a hundred
        rows = json.loads(b"[%b]" % b",".join(data.splitlines()))
        return math.fsum(float(row["train_seconds"] or 0) for row in rows)
    except (OSError, KeyError, TypeError, ValueError):
        return None


def _annotations(manifest: Manifest, name: str) -> Mapping[str, Any]:
    found = next((item for item in manifest.byproducts if item.name == name), None)
    return found.annotations or {} if found else {}


def _named(manifest: Manifest, name: str) -> Resource | None:
    return next((item for item in manifest.dependencies if item.name == name), None)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
