"""Where in a run a state belongs, and the digest that binds it: one row of ``states.jsonl`` an epoch.

A state is every parameter and buffer of the network ("network"), the optimizer's momentum ("momentum"), and a
``Place``: counters of steps, epochs and batches, and the sums of the epoch under way. Nothing else carries over:
random streams are made again from their names, the signed seeds and the place, and the learning rate is a function of
the signed schedule and the step. ``provenance.formats.state_digest`` defines the digest's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.protocol.errors import CheckpointError, NdreproError
from provenance.errors import CanonicalError
from provenance.formats.canonical_json import unique_members
from provenance.formats.metrics_log import read_scalars
from provenance.formats.state_digest import state_digest, tensors_digest

if TYPE_CHECKING:
    from provenance.formats.state_digest import Array

CHECKPOINT_SCHEMA = "urn:ndrepro:checkpoint:v1"
NETWORK, MOMENTUM = "network", "momentum"
# prefixes of a checkpoint's tensors
_PARTS = {NETWORK: "net.", MOMENTUM: "momentum."}


@dataclass(frozen=True)
class Place:
    """Where in a run: ``step`` steps done; ``batch`` of ``epoch`` is next; sums over the epoch's batches so far.

    ``correct_top5`` is ``None`` within an epoch that began before it was counted.
    """

    step: int
    epoch: int
    batch: int
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    correct_top5: int | None = 0

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Place:
        """The place that a checkpoint holds; in one from before the top 5 were counted its epoch has none.

        Raises CheckpointError for anything else, and for sums that no training leaves there.
        """
        try:
            uncounted = {"correct_top5": None} if document["seen"] else {}
            place = cls(**{**uncounted, **document})
            whole = (place.step, place.epoch, place.batch, place.correct, place.seen, place.correct_top5 or 0)
            if not all(type(count) is int and 0 <= count < 2**53 for count in whole):
                raise ValueError(f"counts {whole}")
            place = cls(**{**asdict(place), "loss_sum": float(place.loss_sum)})
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"its place in the run is damaged ({error})") from None
        place._check_sums()
        return place

    def _check_sums(self) -> None:
        top5 = self.correct_top5 or 0
        if self.batch == 0 and (self.loss_sum != 0.0 or self.correct or top5 or self.seen):
            raise CheckpointError(
                f"the sums of epoch {self.epoch + 1}, which starts here, are not zero: {self.correct} right answers "
                f"of {self.seen} images",
                "no training wrote it: start from an earlier checkpoint, or ask the run's author",
            )
        if max(self.correct, top5) > self.seen:
            raise CheckpointError(f"{self.correct} right answers, {top5} among five, of {self.seen} images cannot be")


@dataclass(frozen=True)
class StateDigest:
    """The digests of a state: ``network`` and ``momentum`` are its parts, ``state`` covers both and the place.

    ``epoch`` whole epochs and ``step`` steps were done. One at the end of an epoch (or before the first) is a row of
    ``states.jsonl``; the sums of its place are zero, so ``state`` follows from the rest (``consistent``).
    """

    epoch: int
    step: int
    network: str
    momentum: str
    state: str

    @classmethod
    def of(cls, place: Place, network: Mapping[str, Array], momentum: Mapping[str, Array]) -> StateDigest:
        """The digests of a state, whose tensors are given by name."""
        return cls._from_parts(place, tensors_digest(network), tensors_digest(momentum))

    @classmethod
    def of_checkpoint(cls, place: Place, tensors: Mapping[str, Array]) -> StateDigest:
        """The digests of a checkpoint's state. Raises CheckpointError for a tensor that belongs to neither part."""
        parts: dict[str, dict[str, Array]] = {part: {} for part in _PARTS}
        for name, tensor in tensors.items():
            part = next((part for part, prefix in _PARTS.items() if name.startswith(prefix)), None)
            if part is None:
                raise CheckpointError(f"it holds {name[:80]!r}, which is no part of a state")
            parts[part][name.removeprefix(_PARTS[part])] = tensor
        return cls.of(place, parts[NETWORK], parts[MOMENTUM])

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> StateDigest:
        """The digests in a row of ``states.jsonl``. Raises NdreproError for a row of anything else."""
        digests, counts = (NETWORK, MOMENTUM, "state"), ("epoch", "step")
        valid = set(row) == {*digests, *counts}
        valid = valid and all(type(row[name]) is int and row[name] >= 0 for name in counts)
        if not valid or not all(isinstance(row[name], str) and len(row[name]) == 64 for name in digests):
            raise NdreproError("no row of an epoch's state digests", "get the original file again")
        return cls(**row)

    @property
    def consistent(self) -> bool:
        """Whether ``state`` is the digest of the parts at an epoch's end, where the sums are zero."""
        return self == self._from_parts(Place(self.step, self.epoch, 0), self.network, self.momentum)

    def to_row(self) -> dict[str, int | str | float | None]:
        """The row of ``states.jsonl``."""
        return asdict(self)

    @classmethod
    def _from_parts(cls, place: Place, network: str, momentum: str) -> StateDigest:
        position = {**asdict(place), "loss_sum": float(place.loss_sum).hex()}
        parts = {NETWORK: network, MOMENTUM: momentum}
        return cls(place.epoch, place.step, network, momentum, state_digest(parts, position))


def read_states(path: Path, *, tolerate_torn: bool = False) -> tuple[StateDigest, ...]:
    """Every row of a ``states.jsonl``; empty where a run has none. Raises NdreproError or StorageError."""
    if not path.exists():
        return ()
    return tuple(StateDigest.from_row(row) for row in read_scalars(path, tolerate_torn=tolerate_torn))


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors of a file of weights or of a checkpoint as NumPy arrays, and its metadata.

    Raises CheckpointError where there is no such file, or anything else in it, or its header is not as it is written.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as file:
            _expect_header(path)
            # no iterator of names there
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, CanonicalError) as error:
        cure = "see the run's log.txt, or get the original file"
        raise CheckpointError(f"{path}: no tensors can be read ({type(error).__name__}: {error})", cure) from None


def _expect_header(path: Path) -> None:
    """Raises ValueError or CanonicalError for a header with a name twice, free members, blanks or escapes, of which
    safetensors reads the last and nothing.
    """
    with open(path, "rb") as file:
        text = file.read(int.from_bytes(file.read(8), "little"))
    header = json.loads(text, object_pairs_hook=unique_members)
    written = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    header.pop("__metadata__", None)
    members = ["dtype", "shape", "data_offsets"]
    if text != written.ljust(-(-len(written) // 8) * 8) or any(list(each) != members for each in header.values()):
        raise ValueError("its header is not as it is written")
