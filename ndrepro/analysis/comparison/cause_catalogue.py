"""What each recorded difference can do to the numbers, and when: the knowledge behind
``ndrepro.analysis.comparison.causes``.

A run's numbers come about in a fixed order, and the trail records each stage. Record 0 is the state before the first
step: first weights, drawn by numpy's frozen generator, the same on every device and version. In step n the batch is
taken, the forward pass gives the loss and the running statistics, the backward pass the gradients, and the update the
weights of record n. So a difference has a first record where it can show, often a last one by which it must, and
shows in the loss of that step or only behind it:

    stage        records    in that step's loss    size at first
    weights      0          -                      any
    batch        1          yes                    far above rounding
    data         1 to e     yes                    far above rounding (e: steps of the first epoch)
    forward      1          yes                    any
    update       1          no                     any
    schedule     2 on       no                     any (step 1 has no momentum and the start's learning rate)
    noise        1 on       yes                    far above rounding
    arithmetic   1 on       either                 of rounding's size
    evaluation   never      -                      -
    anything     0 on       either                 any
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from ndrepro.protocol.experiment.determinism import INSTRUCTION_LIMITS


@dataclass(frozen=True)
class Onset:
    """When a difference shows, see above. ``None``: no last record; the loss may differ or not; any size."""

    earliest: int
    latest: int | None
    in_loss: bool | None
    rounding: bool | None


NEVER = 2**63
STAGES = {
    "weights": Onset(0, 0, None, None),
    "batch": Onset(1, 1, True, False),
    "data": Onset(1, None, True, False),
    "forward": Onset(1, 1, True, None),
    "update": Onset(1, 1, False, None),
    "schedule": Onset(2, None, False, None),
    "noise": Onset(1, None, True, False),
    "arithmetic": Onset(1, None, None, True),
    "evaluation": Onset(NEVER, None, None, None),
    "anything": Onset(0, None, None, None),
}


@dataclass(frozen=True)
class Effect:
    """A kind of difference.

    Attributes:
        title: what it is called, in words that follow "likely cause:".
        sources: (group, pattern of names) in ``provenance.comparison.manifest_diff``.
        stage: a name of STAGES.
        weight: how often it is the cause where nothing else is known, 0 to 100; a judgement, used to order only.
        why: how it moves numbers.
        gpu_only: it acts on a GPU alone.
    """

    title: str
    sources: tuple[tuple[str, str], ...]
    stage: str
    weight: int
    why: str
    gpu_only: bool = False

    def covers(self, group: str, name: str) -> bool:
        """Whether a change belongs here."""
        return any(group == its and re.fullmatch(pattern, name) for its, pattern in self.sources)


_TABLE = Path(__file__).with_name("effects.csv")  # in it LIMITS stands for the variables that limit instruction sets


def _read_effects() -> tuple[Effect, ...]:
    """The rows of the table, in the order in which a change is looked up: the first that covers it explains it."""
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            Effect(
                row["title"],
                _sources(row["sources"]),
                row["stage"],
                int(row["weight"]),
                row["why"],
                bool(row["gpu_only"]),
            )
            for row in csv.DictReader(stream)
        )


def _sources(text: str) -> tuple[tuple[str, str], ...]:
    parts = text.replace("LIMITS", "|".join(INSTRUCTION_LIMITS)).split("; ")
    return tuple((group, pattern) for group, _, pattern in (part.partition(" ") for part in parts))


EFFECTS = _read_effects()
# what moves no number, or is said by another change
_WITHOUT_EFFECT = (
    ("experiment", r"name|environment|segment|checkpoint_\w+|network's .+"),
    ("seeds", "seed"),
    ("gpus", r"device asked for|.*(?:power_limit|persistence|compute_mode|ecc).*"),
    ("packages", "ndrepro|shadowed.*|unreadable.*|leftovers.*"),
    ("machine", r"(?!cpu\.|kernel\.architecture|libc).+"),
    ("variables", "OMP_WAIT_POLICY"),  # how idle threads wait
)


def effect_of(group: str, name: str) -> Effect | None:
    """What a change can do; None for what moves no number. A setting that is not known here can do anything."""
    if group == "packages" and not name.startswith(("edited file ", "loaded ")):
        # "conda mkl: version", "torch: origin": each a difference of that package
        name = name.removeprefix("conda ").partition(": ")[0]
    if any(group == its and re.fullmatch(pattern, name) for its, pattern in _WITHOUT_EFFECT):
        return None
    known = next((effect for effect in EFFECTS if effect.covers(group, name)), None)
    if known is None and group == "experiment":
        return Effect("another setting", (("experiment", ".+"),), "anything", 55, "it was asked for otherwise")
    return known
