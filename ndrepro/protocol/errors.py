"""The experiment's own errors, below the recorder's root.

    ProvenanceError
    ├── UsageError             an unknown name, a bad setting (exit 2)
    │   └── NotOwnRun          a run that another key began is to be resumed
    └── NdreproError           could not run (exit 3)
        ├── DataError          the data set is missing, corrupt, or not what its name says
        │   └── NotDownloaded  published files are not here, and could not be downloaded
        ├── EnvironmentMissing an interpreter or an environment of the version matrix is not available
        ├── MissingExtra       a library that only an extra of this project brings is not installed
        ├── EngineError        a container engine, its image or the cluster's scheduler is not available
        │   └── ImageError     a container image is not there, or is another one than the one asked for
        ├── DeviceError        the device asked for is not there
        ├── SandboxError       recorded code cannot be confined as it should be, and was not run
        ├── PeerLost           another process of the same run is gone
        ├── CheckpointError    there is nothing to resume from, or it does not belong to this experiment
        ├── NonFiniteStatistics a layer cannot whiten a batch: NaN, infinite or too large values
        ├── TrainingFailed     the training process ended without a result
        └── RunNotFound        no such run

The child writes an error into ``result.json`` as its class name, message and cure; the parent raises it again by
name (``from_record``), so that a failure reads the same on both sides of the process boundary.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from typing import Any

from provenance import errors as _recorder
from provenance.errors import ProvenanceError
from provenance.errors import UsageError as UsageError


class NotOwnRun(UsageError):
    """A run that another key began is to be resumed: its history would be signed with this machine's."""


class NdreproError(ProvenanceError):
    """The experiment could not run."""


class DataError(NdreproError):
    """The data set is missing, corrupt, or not what its name says."""


class NotDownloaded(DataError):
    """Published files are not here, and could not be downloaded."""


class EnvironmentMissing(NdreproError):
    """An interpreter or an environment of the version matrix is not available."""


class MissingExtra(NdreproError):
    """A library that only an extra of this project brings is not installed."""


class EngineError(NdreproError):
    """A container engine, its image or the cluster's scheduler is not available."""


class ImageError(EngineError):
    """A container image is not there, or is another one than the one asked for."""


class DeviceError(NdreproError):
    """The device asked for is not there."""


class SandboxError(NdreproError):
    """Recorded code cannot be confined as it should be, and was not run."""


class PeerLost(NdreproError):
    """Another process of the same run is gone; its failure is the reason, not this."""


class CheckpointError(NdreproError):
    """There is nothing to resume from, or it does not belong to this experiment."""


class NonFiniteStatistics(NdreproError):
    """A deconvolution layer cannot whiten a batch: its input has NaN, infinite or too large values."""


class TrainingFailed(NdreproError):
    """The training process ended without a result."""


class RunNotFound(NdreproError):
    """No such run."""


def to_record(error: BaseException) -> dict[str, str]:
    """The JSON form in which an error crosses from the child to its parent; a full disk is a StorageError."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = error.filename or "the run folder"
        message = f"{where}: the disk is full or a quota is reached ({error.strerror})"
        return {"type": "StorageError", "message": message, "cure": ""}
    return {
        "type": type(error).__name__,
        "message": str(error) or type(error).__name__,
        "cure": error.cure if isinstance(error, ProvenanceError) else "",
    }


def from_record(record: dict[str, Any]) -> ProvenanceError:
    """The error that ``to_record`` wrote; one of an unknown class becomes TrainingFailed with its name kept."""
    known = globals().get(record["type"]) or getattr(_recorder, record["type"], None)
    if isinstance(known, type) and issubclass(known, ProvenanceError):
        return known(record["message"], record["cure"])
    return TrainingFailed(f"{record['type']}: {record['message']}", record["cure"])


def suggestion(word: str, known: Iterable[str], otherwise: str = "", *, meant: Sequence[str] = ()) -> str:
    """The cure for a wrong word: the right ones that are ``meant``, or else the three nearest of those ``known``.

    Behind them, or alone, stands ``otherwise``; where that is empty and nothing is near, all that are known.
    """
    names = list(known)
    near = meant or difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if not near:
        return otherwise or f"it is one of {', '.join(names)}"
    return f"did you mean {', '.join(near)}?" + (f" {otherwise}" if otherwise else "")
