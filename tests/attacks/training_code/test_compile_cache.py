"""A neighbour makes the folder first in which torch.compile keeps code that it loads again.

Before, that was ``/tmp/torchinductor_USER``: pickles that another user put there were executed by the training process,
with all rights of the one who trained (torch 2.13.0, n = 1).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ndrepro.execution.runs.child_process import compiled_code
from ndrepro.execution.sandbox.passed_variables import passed_variables
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.messages import Request

NAME = "TORCHINDUCTOR_CACHE_DIR"


def asked(compiles: str) -> Request:
    return Request(Experiment.from_name("lenet_bn_1_digits", {"compile": compiles}), "")


def test_compiled_code_is_kept_in_a_folder_of_this_user_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    code, private = tmp_path / "code", tmp_path / "cache" / "compiled"
    assert compiled_code(asked("true"), code) == {NAME: str(private)}
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o777)
    assert compiled_code(asked("true"), code) == {NAME: str(code / "compiled")}, "others may write there"
    private.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(private, 65534, 65534)
        assert compiled_code(asked("true"), code) == {NAME: str(code / "compiled")}, "somebody else's"
    assert compiled_code(asked("false"), code) == {}
    monkeypatch.setenv(NAME, str(tmp_path))
    assert compiled_code(asked("true"), code) == {}, "the user's own choice"


def test_a_folder_of_the_reviewer_s_is_not_named_in_a_sandbox() -> None:
    """Which does not show it: torch could not make it there."""
    given = {NAME: "/var/kept", "TRITON_CACHE_DIR": "/var/kept", "TORCHINDUCTOR_FREEZING": "1"}
    assert passed_variables(given) == {"TORCHINDUCTOR_FREEZING": "1"}
