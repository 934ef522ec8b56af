"""The record of a conversion: how every layer of a network was changed."""

from __future__ import annotations

from dataclasses import dataclass


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
    because with the batch norm gone that input is a tensor which others may hold.
    """

    replaced: tuple[LayerChange, ...]
    removed: tuple[LayerChange, ...]
    left: tuple[LayerChange, ...]
    out_of_place: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{len(self.replaced)} replaced, {len(self.removed)} removed, {len(self.left)} left"
        changes = (*self.replaced, *self.removed, *self.left)
        return "\n".join([counts, *(f"  {each.name}: {each.before} -> {each.after}, {each.why}" for each in changes)])
