"""The record of a conversion: how every layer of a network was changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerChange:
    """One layer: its name, its kind before and after, and why."""

    name: str
    before: str
    after: str
    why: str


@dataclass(frozen=True)
class Conversion:
    """How a network's layers were changed.

    ``replaced`` and ``removed`` are as their names say; ``left`` holds every other layer that has parameters
    or buffers of its own; ``out_of_place`` names the activations that no longer overwrite their input,
    because with the batch norm gone that input is a tensor which others may hold. Law:
    ``Conversion.from_record(conversion.to_record()) == conversion``.
    """

    replaced: tuple[LayerChange, ...]
    removed: tuple[LayerChange, ...]
    left: tuple[LayerChange, ...]
    out_of_place: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """The layers by kind of change, and those that no longer work in place."""
        changes = {key: [asdict(each) for each in getattr(self, key)] for key in ("replaced", "removed", "left")}
        return {**changes, "out_of_place": list(self.out_of_place)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Conversion:
        """The conversion that ``to_record`` wrote."""
        replaced, removed, left = (
            tuple(LayerChange(**each) for each in record[key]) for key in ("replaced", "removed", "left")
        )
        return cls(replaced, removed, left, tuple(record["out_of_place"]))

    def __str__(self) -> str:
        counts = f"{len(self.replaced)} replaced, {len(self.removed)} removed, {len(self.left)} left"
        changes = (*self.replaced, *self.removed, *self.left)
        return "\n".join([counts, *(f"  {each.name}: {each.before} -> {each.after}, {each.why}" for each in changes)])
