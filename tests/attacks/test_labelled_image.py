"""An image file that is labelled as another one: what a file is called by its maker is no digest of it.

Before, a file with the label passed for the image that was pinned, recorded or planned by a study.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from stand_in_engine import write_engine, write_image

from ndrepro.execution.containers.engines import ContainerChoice, find, pin
from ndrepro.protocol.errors import ImageError


def test_a_label_is_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{write_engine(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    wanted = write_image(tmp_path / "image.sif", f"the image, label sha256:{'a' * 64}")
    honest = find(ContainerChoice.pinned(wanted), "cpu")
    assert (honest.digest, honest.identifier) == (wanted.digest, f"sha256:{'a' * 64}"), "the control"
    assert pin(ContainerChoice("apptainer", wanted.image)) == wanted
    assert find(ContainerChoice.recorded(honest), "cpu") == honest
    write_image(tmp_path / "image.sif", f"another, label {wanted.digest}")
    with pytest.raises(ImageError, match="asked for is"):
        find(ContainerChoice.pinned(wanted), "cpu")
    with pytest.raises(ImageError, match="asked for is"):
        find(ContainerChoice.recorded(honest), "cpu")
    write_image(tmp_path / "image.sif", f"another, label {honest.identifier}")
    with pytest.raises(ImageError, match="asked for is"):
        find(ContainerChoice.recorded(replace(honest, image=wanted.image)), "cpu")
