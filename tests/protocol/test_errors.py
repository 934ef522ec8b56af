"""An error reads the same on both sides of the door between the training process and its parent."""

from __future__ import annotations

import errno
import os

import pytest

from ndrepro.protocol.errors import DataError, TrainingFailed, from_record, to_record
from provenance.errors import ProvenanceError, StorageError


def crossed(error: BaseException) -> ProvenanceError:
    return from_record(to_record(error))


def test_errors_of_this_project_keep_their_class_and_cure() -> None:
    there = crossed(DataError("digits: not there", "name it"))
    assert (type(there), there.message, there.cure) == (DataError, "digits: not there", "name it")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_filled_under_way_concerns_every_run(number: int) -> None:
    there = crossed(OSError(number, os.strerror(number)))
    assert type(there) is StorageError
    assert there.message.startswith("the run folder: the disk is full or a quota is reached")
    assert "/full/x: the disk" in crossed(OSError(number, os.strerror(number), "/full/x")).message


def test_other_failures_of_the_system_are_the_runs_own() -> None:
    assert type(crossed(OSError(errno.EIO, "Input/output error"))) is TrainingFailed
    assert crossed(ZeroDivisionError("x")).message == "ZeroDivisionError: x"
