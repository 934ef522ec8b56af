"""An experiment's settings by dotted key, and those that its name does not imply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ndrepro.protocol.experiment.experiment import SETTINGS, Experiment

SOURCE = "network_source"
# filled in from the files of the network or data: tables leave them out where all runs share them
FROM_FILES = (SOURCE, *(key for key in SETTINGS if key.startswith("own.")))
_DIGITS = 8


def leaves(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a document of tables."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed_settings(experiment: Experiment) -> dict[str, Any]:
    """Every setting that is not the default of the experiment's name, by dotted key."""
    default = dict(leaves(experiment.defaults()))
    return {key: value for key, value in leaves(experiment.to_json()) if value != default[key]}


def shown_value(key: str, value: Any) -> Any:
    """A setting's value for tables and labels: of a source's digest the first digits."""
    return value[:_DIGITS] if key == SOURCE and isinstance(value, str) else value
