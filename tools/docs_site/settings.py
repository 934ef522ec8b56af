"""The reference of an experiment's settings, from their declarations."""

from __future__ import annotations

from typing import Any

from docs_site.commands import table_cell
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS
from ndrepro.protocol.experiment.experiment import SETTINGS
from ndrepro.protocol.experiment.setting import Setting

_BY_NAME = ("arch", "method", "epochs")


def settings_tables() -> str:
    """Markdown of all settings, one table for each group of keys, such as ``deconv``."""
    groups: dict[str, list[Setting]] = {}
    for key, setting in SETTINGS.items():
        groups.setdefault(key.rpartition(".")[0], []).append(setting)
    return "\n\n".join(_table(group, members) for group, members in groups.items())


def _table(group: str, members: list[Setting]) -> str:
    title = f"## {group}.*" if group else "## The experiment"
    rows = [
        f"| `{each.key}` | {_default(each)} | {each.about.unit} | {table_cell(each.about.meaning)} "
        f"| {table_cell(each.allowed)} |"
        for each in members
    ]
    return "\n".join(
        [title, "", "| setting | default | unit | meaning | values |", "| --- | --- | --- | --- | --- |", *rows]
    )


def _default(setting: Setting) -> str:
    """The default as one types it; a setting that every name gives has none."""
    if setting.key in _BY_NAME:
        return "from the name"
    return f"`{_typed(setting.default)}`"


def _typed(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return ",".join(map(_typed, value))
    return str(value)


def names_tables() -> str:
    """Markdown of the networks, methods and data sets that an experiment's name is made of."""
    networks = ", ".join(f"`{name}`" for name in ARCHITECTURES)
    methods = [f"| `{name}` | {table_cell(meaning)} |" for name, meaning in METHODS.items()]
    data = [
        f"| `{name}` | {table_cell(facts.title)} | {facts.num_classes} "
        f"| {facts.train_images:,} | {facts.test_images:,} |"
        for name, facts in DATASETS.items()
    ]
    return "\n".join(
        [
            *("## Networks", "", networks, ""),
            *("## Methods", "", "| name | meaning |", "| --- | --- |", *methods, ""),
            *("## Data sets", "", "| name | data | classes | training images | test images |"),
            *("| --- | --- | ---: | ---: | ---: |", *data),
        ]
    )
