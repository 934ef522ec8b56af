"""The colours of methods, the same in every figure of the user's runs."""

from __future__ import annotations

from collections.abc import Sequence

from ndrepro.report.elements import style
from ndrepro.report.figures.published_tables import METHODS
from ndrepro.report.sections.seed_groups import SeedGroup


def method_colour(group: SeedGroup) -> str:
    """The colour of a group's method."""
    method = group.first.method
    return style.colour(METHODS.index(method) if method in METHODS else len(METHODS))


def method_colours(groups: Sequence[SeedGroup]) -> list[str]:
    """Of each group that of its method; of further groups of one method others, so that no two curves share one."""
    found: list[str] = []
    spare = len(METHODS) + 1
    for group in groups:
        colour = method_colour(group)
        if colour in found:
            colour, spare = style.colour(spare), spare + 1
        found.append(colour)
    return found
