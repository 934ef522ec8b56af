"""Labels and colours of seed groups in the figures of the user's own runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ndrepro.report.elements import style
from ndrepro.report.figures.published_tables import METHODS
from ndrepro.report.sections.own_summary import method_name
from ndrepro.report.sections.run_tables import place_text
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.report.sections.settings import split_settings


def subject_of(group: SeedGroup) -> tuple[str, str, int]:
    """The data set, network and number of epochs: groups with equal subjects share a panel."""
    one = group.first
    return one.dataset, one.arch, one.epochs


def by_subject(groups: Sequence[SeedGroup]) -> dict[tuple[str, str, int], list[SeedGroup]]:
    """The groups by subject, in their order."""
    found: dict[tuple[str, str, int], list[SeedGroup]] = defaultdict(list)
    for group in groups:
        found[subject_of(group)].append(group)
    return dict(found)


def labels_of(groups: Sequence[SeedGroup]) -> dict[str, str]:
    """By a group's key: its method, and the settings and environment in which the groups differ."""
    settings = split_settings([group.first for group in groups])[1]
    places = {group.key: place_text(group.first) for group in groups}
    several = len(set(places.values())) > 1
    labels = {}
    for group in groups:
        parts = [method_name(group.first.method), settings[group.first.run_id], places[group.key] if several else ""]
        labels[group.key] = ", ".join(filter(None, parts))
    return labels


def method_colour(group: SeedGroup) -> str:
    """The same colour for a method in every figure."""
    method = group.first.method
    return style.colour(METHODS.index(method) if method in METHODS else len(METHODS))
