"""What experiments have learnt to say since the first release, so that old documents are still read.

A document of a run holds every setting, defaults included. One that was written before some settings existed holds
none of those that came together, and each of them then takes the value under which the new code does what the old
code did. Only the table below may fill a gap: a document with some but not all settings of one row, or with a setting
that no row knows, is refused as before (``Experiment.from_json``). Values are written here in full, so that a default
that is changed one day does not change the meaning of what was signed before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

# oldest first; whoever adds settings adds a row
ADDITIONS: tuple[Mapping[str, Any], ...] = (
    {
        "size": None,
        "crop": None,
        "whiten": False,
        "jitter": 0.0,
        "dropout": None,
        "decay": 0.95,
        "corrupt": {"labels": 0.0, "pixels": "none", "test_pixels": False},
    },
    {"nudge": "none"},
    {"drop": 10.0, "drops": "0.5,0.75"},
    {"validation": 0.0},
    {"processes": 1, "statistics": "global", "precision": "auto", "compile": False},
    {"deconv_kernel": "reference"},
    {"cpu_isa": "native"},
    {
        "network_source": None,
        "own": {
            "classes": None,
            "channels": None,
            "size": None,
            "train_images": None,
            "test_images": None,
            "mean": None,
            "std": None,
        },
    },
)


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with what is younger than itself filled in; one that is up to date, or wrong, stays as it is."""
    whole = dict(document)
    for row in reversed(ADDITIONS):
        if any(key in document for key in row):
            break
        whole.update(copy.deepcopy(dict(row)))
    return whole
