"""Where an experiment's data lie: what the user named, else the bundled file, else the data folder."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ndrepro.spec.errors import DataError
from ndrepro.spec.experiment import Experiment


def locate(experiment: Experiment, asked: Path | None) -> Path:
    """The folder or file to read: ``asked``, else scikit-learn's file for digits, else $NDREPRO_DATA or ``data``.

    Raises DataError where ``asked`` does not exist. A data folder need not exist yet: data are downloaded into it.
    """
    if asked is not None:
        if not asked.exists():
            raise DataError(f"--data {asked}: no such file or folder", "name a folder that holds the archive or images")
        return asked.resolve()
    if experiment.dataset == "digits":
        return _bundled_digits()
    return Path(os.environ.get("NDREPRO_DATA") or "data").resolve()


def _bundled_digits() -> Path:
    """The file that scikit-learn ships; the library is found, not imported."""
    spec = importlib.util.find_spec("sklearn")
    origin = spec.origin if spec else None
    if origin is None:
        raise DataError("digits: scikit-learn is not installed here", "install requirements.lock, or name --data FILE")
    return Path(origin).parent / "datasets" / "data" / "digits.csv.gz"
