"""Why two runs diverge: the differences that were found, ranked by whether they could show where and as they did.

Every change of two manifests has an effect (``ndrepro.analysis.comparison.cause_catalogue``), which is compared with
what the trails show (``ndrepro.analysis.comparison.cause_ranking``): likely, possible or ruled out, and within each by
how often such a difference is the cause. This is an argument from what was recorded, and no proof: the proof is a run
with that one thing changed back. Where nothing recorded can be the cause, what is left is said instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ndrepro.analysis.comparison.cause_catalogue import NEVER, Effect, effect_of
from ndrepro.analysis.comparison.cause_ranking import LIKELY, POSSIBLE, RULED_OUT, Observation, assess
from ndrepro.analysis.comparison.trail_divergence import TrailComparison
from ndrepro.analysis.comparison.wording import fold
from ndrepro.protocol.training_record import CODE, TrainingRecord
from ndrepro.text.plurals import first_of
from provenance.attestation.manifest import Manifest
from provenance.comparison.code_diff import CodeDiff, FileChange
from provenance.comparison.json_leaves import ABSENT
from provenance.comparison.manifest_diff import FieldChange, ManifestDiff

# the files of this project that compute numbers or write them down
_TRAINING_HALF = (
    "ndrepro/training/",
    "ndrepro/protocol/",
    "ndrepro/spec/",  # its name until November 2026
    "provenance/formats/fingerprint.py",
    "provenance/formats/trail.py",
)
_FILES_SHOWN = 3
# the weight (``Effect.weight``) of what is hardly ever a cause
_NEGLIGIBLE = 20


@dataclass(frozen=True)
class Cause:
    """One candidate: its title, how it stands, the evidence (changes and what the trails say), how it moves numbers."""

    title: str
    assessment: str
    evidence: tuple[str, ...]
    why: str
    weight: int = 0

    def to_json(self) -> dict[str, Any]:
        """Every field but the weight."""
        return {"title": self.title, "assessment": self.assessment, "evidence": self.evidence, "why": self.why}


def find_causes(
    changes: ManifestDiff,
    manifests: tuple[Manifest, Manifest],
    trails: TrailComparison | None,
    *,
    code: CodeDiff | None = None,
    other_tensors: bool = False,
    on_cpu: bool | None = None,
) -> tuple[Cause, ...]:
    """The causes of a difference in results, likeliest first. Call it only where the results do differ.

    ``other_tensors``: the trails follow the tensors of different networks, and so were not compared. ``on_cpu``:
    whether both ran on the CPU; read from the manifests where it is left out.
    """
    data = tuple(map(_Data.of, manifests))
    seen = Observation.of(trails, same_pixels=_same(data[0].train, data[1].train), other_tensors=other_tensors)
    if on_cpu is None:
        on_cpu = all(TrainingRecord.of(manifest).device == "cpu" for manifest in manifests)
    seen = replace(seen, on_cpu=on_cpu)
    found = [_judge(effect, tuple(str(line) for line in fold(its)), seen) for effect, its in _by_effect(changes)]
    found += _ended_early(trails, manifests)
    found += _code(changes, manifests, code, seen)
    found += _data_causes(changes, data, seen)
    found += _resumed(manifests, seen)
    open_ones = [cause for cause in found if cause.assessment != RULED_OUT and cause.weight >= _NEGLIGIBLE]
    if not open_ones:
        found.append(_nothing_recorded(changes, manifests[0], seen))
    elif len(open_ones) == 1 and open_ones[0].assessment == POSSIBLE:
        alone = replace(
            open_ones[0],
            assessment=LIKELY,
            evidence=(*open_ones[0].evidence, "no other recorded difference can be the cause"),
        )
        found[found.index(open_ones[0])] = alone
    order = (LIKELY, POSSIBLE, RULED_OUT)
    return tuple(sorted(found, key=lambda cause: (order.index(cause.assessment), -cause.weight)))


@dataclass(frozen=True)
class _Data:
    """A run's data: digests of the files, and of the pixels read from them for training and for testing."""

    files: str | None
    train: str | None
    test: str | None
    epoch_steps: int | None

    @classmethod
    def of(cls, manifest: Manifest) -> _Data:
        """As far as they were recorded."""
        record = TrainingRecord.of(manifest)
        row = record.last_scores
        steps = row.step // row.epoch if row and row.epoch else None
        if len(record.datasets) != 1:
            return cls(None, None, None, steps)
        (found,) = record.datasets
        return cls(found.files, found.train_pixels, found.test_pixels, steps)


def _same(first: Any, second: Any) -> bool:
    """Whether two digests are known and equal."""
    return isinstance(first, str) and first == second


def _by_effect(changes: ManifestDiff) -> list[tuple[Effect, list[FieldChange]]]:
    """Changes put together by what they can do; code, data and results are looked at on their own."""
    found: dict[str, tuple[Effect, list[FieldChange]]] = {}
    for group in changes.groups:
        for change in group.changes:
            effect = effect_of(group.name, change.name)
            # a setting that one version of the code does not have is a matter of the code, and data of which one side
            # says nothing (it failed before it read them) are not known to be others
            unheard_of = group.name in ("experiment", "data") and ABSENT in (change.first, change.second)
            if effect is not None and not unheard_of:
                found.setdefault(effect.title, (effect, []))[1].append(change)
    return list(found.values())


def _judge(effect: Effect, evidence: tuple[str, ...], seen: Observation) -> Cause:
    """Hold an effect against what was seen."""
    assessment, remark = assess(effect, seen)
    return Cause(effect.title, assessment, (*evidence, remark) if remark else evidence, effect.why, effect.weight)


def _ended_early(trails: TrailComparison | None, manifests: tuple[Manifest, Manifest]) -> list[Cause]:
    """One run took more steps, or one has lost some of those that it signed."""
    if trails is None or trails.divergence is not None or trails.last_steps[0] == trails.last_steps[1]:
        return []
    first, second = trails.last_steps
    ends = f"they end at step {first:,} and step {second:,}; every step that both have is equal"
    lost = [
        f"the {name} run signed {signed.step:,} steps, its trail ends at step {last:,}"
        for name, manifest, last in zip(("first", "second"), manifests, trails.last_steps, strict=True)
        if (signed := TrainingRecord.of(manifest).last_scores) is not None and signed.step > last
    ]
    if lost:
        return [Cause("a truncated trail", LIKELY, (*lost, ends), "they have not diverged so far", 100)]
    return [Cause("one took more steps", LIKELY, (ends,), "they have not diverged so far", 100)]


def _code(
    changes: ManifestDiff, manifests: tuple[Manifest, Manifest], code: CodeDiff | None, seen: Observation
) -> list[Cause]:
    """Another digest of the code that ran; where none was recorded, another commit, patch or file."""
    digests = [TrainingRecord.of(manifest).code_digest for manifest in manifests]
    if _same(*digests):
        return []
    known = None not in digests
    its = [item for item in changes["source"].changes if (item.name == CODE if known else item.name != "dirty")]
    if not its or (code is not None and code.how == "same" and not known):
        return []
    weight, remark = 78, ""
    if code is not None and code.how in ("git", "patches"):
        if all(TrainingRecord.of(manifest).is_training for manifest in manifests):
            inside = sorted((file.path for file in code.files if _computes(file)), key=_half)
        else:
            inside = [file.path for file in code.files if file.path.endswith((".py", ".ipynb", ".sh"))]
        weight = 85 if inside else 30
        remark = f"differs in {first_of(inside, _FILES_SHOWN)}" if inside else "no file that computes differs"
    effect = Effect("other code", (), "anything", weight, "it may compute something else")
    return [_judge(effect, (*(str(line) for line in fold(its)), *filter(None, [remark])), seen)]


def _computes(file: FileChange) -> bool:
    """Whether it can move a number that the training process writes."""
    return file.path.endswith(".py") and file.path.startswith(_TRAINING_HALF)


def _half(path: str) -> int:
    """Which of the folders a path is in: those that compute come first."""
    return next(place for place, folder in enumerate(_TRAINING_HALF) if path.startswith(folder))


def _data_causes(changes: ManifestDiff, data: tuple[_Data, ...], seen: Observation) -> list[Cause]:
    """Other files, or other pixels read from the same; how many of them were asked for is a setting."""
    its = [item for item in changes["data"].changes if item.name != "reader"]
    asked = any(changes["experiment"].get(name) for name in ("train_images", "test_images", "dataset"))
    first, second = data
    if not its or (asked and _same(first.files, second.files)):
        return []
    if any(each.files is None and each.train is None for each in data):
        return []  # not known to be others
    evidence = tuple(str(line) for line in fold(its))
    title, why = "other data", "it is trained on other images"
    if _same(first.files, second.files):
        title, why = "other pixels from the same files", "they were decoded or scaled otherwise"
    elif seen.same_pixels and not _same(first.test, second.test):
        return [_judge(Effect("other test images", (), "evaluation", 88, "only results see them"), evidence, seen)]
    cause = _judge(Effect(title, (), "data", 88, why), evidence, seen)
    if cause.assessment != RULED_OUT and first.epoch_steps and seen.step is not None and seen.step > first.epoch_steps:
        remark = f"every training image is seen in the first epoch, {first.epoch_steps:,} steps, which are equal"
        return [replace(cause, assessment=RULED_OUT, evidence=(*evidence, remark))]
    return [cause]


def _resumed(manifests: tuple[Manifest, Manifest], seen: Observation) -> list[Cause]:
    """One was resumed, or both from other steps: that must not move a bit, and where they diverge shows it."""
    steps = [TrainingRecord.of(manifest).resumed_from_step for manifest in manifests]
    if steps[0] == steps[1] or seen.step in (None, NEVER):
        return []
    evidence = f"resumed from step {steps[0]:,} and step {steps[1]:,} (0: not resumed)"
    behind = seen.step is not None and seen.step - 1 in [step for step in steps if step]
    assessment = LIKELY if behind else POSSIBLE if seen.step is not None and seen.step > max(steps) else RULED_OUT
    remark = {
        LIKELY: "they diverge in the step behind it",
        POSSIBLE: "",
        RULED_OUT: f"they diverge at step {seen.step:,}",
    }
    evidence_lines = (evidence, *filter(None, [remark[assessment]]))
    return [Cause("a resumed run", assessment, evidence_lines, "its state was read back from a checkpoint", 40)]


def _nothing_recorded(changes: ManifestDiff, manifest: Manifest, seen: Observation) -> Cause:
    """What is left where nothing that was recorded can be the cause."""
    compared = [
        name for name in ("source", "data", "packages", "flags", "threads", "machine") if not changes[name].changes
    ]
    evidence = [f"the same on both sides: {', '.join(compared)}"] if compared else []
    unknown = [f"{group.name}: {item.name}" for group in changes.groups for item in group.unknown]
    evidence += [f"not known: {first_of(unknown, _FILES_SHOWN)}"] if unknown else []
    evidence += [f"only {seen.tensors[0]} differs, as after a flipped bit"] if len(seen.tensors) == 1 else []
    record = TrainingRecord.of(manifest)
    level = record.determinism_level
    if seen.step == 0:
        title = "first weights that were changed"
        why = "a seed draws the same ones on every device and version: they were altered after, or other code drew them"
    elif level in ("free", "seeded"):
        title = "operations whose sums have no fixed order"
        why = f"determinism={level} allows them; under determinism=deterministic torch refuses them by name"
    elif record.device.startswith("cuda"):
        title = "an operation that is not deterministic on this GPU"
        why = "or a fault of the hardware: run both again, and see which of the two repeats itself"
    else:
        title = "something that was not recorded"
        why = (
            "library files behind an equal RECORD, a faulty processor or memory: run both again, and see which repeats"
        )
    return Cause(title, POSSIBLE, tuple(evidence), why, 1)
