"""What distinguishes the experiments of a report, in as few words as possible."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from ndrepro.analysis.results.results import ResultRow
from ndrepro.report.sections.seed_groups import SeedGroup
from ndrepro.report.sections.settings import shown_setting, whole_settings
from ndrepro.text.plurals import plural

METHOD_NAMES = {"bn": "batch norm", "nd": "deconvolution", "nd_full": "full deconvolution", "none": "no normalization"}

Key = TypeVar("Key", bound=Hashable)


def method_name(method: str) -> str:
    """A method in words; as experiments name it where it is neither of the two that papers compare."""
    return METHOD_NAMES.get(method, method)


def subject_of(run: ResultRow) -> tuple[str, str, int]:
    """The data set, network and number of epochs: experiments with equal subjects share a diagram."""
    return run.dataset, run.arch, run.epochs


def by_subject(groups: Sequence[SeedGroup]) -> dict[tuple[str, str, int], list[SeedGroup]]:
    """The groups by subject, in their order."""
    found: dict[tuple[str, str, int], list[SeedGroup]] = defaultdict(list)
    for group in groups:
        found[subject_of(group.first)].append(group)
    return dict(found)


def labels_of(groups: Sequence[SeedGroup]) -> dict[str, str]:
    """By a group's key: its method, and what else distinguishes it from the groups of its subject."""
    found = {}
    for alike in by_subject(groups).values():
        apart = distinguished({group.key: group.first for group in alike})
        for group in alike:
            found[group.key] = ", ".join(filter(None, (method_name(group.first.method), apart[group.key])))
    return found


def distinguished(runs: Mapping[Key, ResultRow]) -> dict[Key, str]:
    """By key: the settings that a run changed and that not all share, and the parts of its environment that differ.

    What goes without saying is left out: a part that varies only with others before it (a release of torch names its
    numpy too), and one that more than half share.
    """
    settings = {key: _changed(run) for key, run in runs.items()}
    names = sorted({name for each in settings.values() for name in each})
    varying = [name for name in names if len({settings[key].get(name, _default(runs[key], name)) for key in runs}) > 1]
    places = environments_apart(runs)
    return {
        key: ", ".join(filter(None, (*(settings[key][name] for name in varying if name in settings[key]), places[key])))
        for key in runs
    }


def environments_apart(runs: Mapping[Key, ResultRow]) -> dict[Key, str]:
    """By key: the parts of a run's environment that tell it apart; "" where all have the same one."""
    parts = {key: environment_parts(run) for key, run in runs.items()}
    kept: list[str] = []
    classes = 1
    for name in dict.fromkeys(name for each in parts.values() for name in each):
        more = len({tuple(each.get(one, "") for one in (*kept, name)) for each in parts.values()})
        if more > classes:
            kept, classes = [*kept, name], more
    usual = {name: _usual([each.get(name, "") for each in parts.values()]) for name in kept}
    return {
        key: ", ".join(filter(None, (value for name in kept if (value := each.get(name, "")) != usual[name])))
        or ", ".join(filter(None, (each.get(name, "") for name in kept)))
        for key, each in parts.items()
    }


def _usual(values: Sequence[str]) -> str | None:
    """The value that more than half have, which goes without saying; None where there is none."""
    value, number = Counter(values).most_common(1)[0]
    return value if 2 * number > len(values) else None


def environment_parts(run: ResultRow) -> dict[str, str]:
    """Versions, device, threads, level and limits of a run's environment, by what they are."""
    versions = {part.partition(" ")[0]: part for part in run.environment.split(", ")}
    rest = {"device": run.device or "unknown device", "threads": plural(run.threads, "thread")}
    return {
        **versions,
        **rest,
        "determinism": run.determinism,
        "instructions": run.instructions or "",
        "cell": run.cell,
    }


def _changed(run: ResultRow) -> dict[str, str]:
    return {name: shown_setting(name, value) for name, value in run.distinctions.items()}


def _default(run: ResultRow, name: str) -> str:
    return shown_setting(name, whole_settings(run).get(name))
