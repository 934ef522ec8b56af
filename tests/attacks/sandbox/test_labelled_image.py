"""An image file that is labelled as another one: what a file is called by its maker is no digest of it.

Before, a file with the label passed for the image that was pinned, recorded or planned by a study.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from image_statements import Build, statements
from stand_in_engine import write_engine, write_image

from ndrepro.execution.containers.engines import ContainerChoice, find, pin
from ndrepro.execution.containers.image_attestation import attested, kept_at, write, write_for_file
from ndrepro.protocol.errors import EngineError, ImageError


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


def test_a_label_brings_no_statements_on_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, a run in the labelled file was signed with the build attestation of the image that its label names."""
    monkeypatch.setenv("PATH", f"{write_engine(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    image, home = f"sha256:{'a' * 64}", tmp_path / "home"
    build = Build(
        *("ndrepro:latest", frozenset({image}), "b" * 40, "", "base", "", "d" * 64, "podman", "4.3.1"),
        *("amd64", "2026-11-21T09:30:00Z", "2026-11-21T09:31:00Z"),
    )
    write(kept_at(home, image), statements(build, "{}"), home)
    file = write_image(tmp_path / "image.sif", f"another, label {image}")
    found = find(ContainerChoice.pinned(file), "cpu")
    assert (found.identifier, attested(found, home).attestation) == (image, "")
    write_for_file(kept_at(home, image).read_bytes(), {image}, Path(file.image), home)
    assert attested(found, home).attestation, "the control: who made the file of the image signs that"


def test_a_label_is_a_digest_of_bounded_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{write_engine(tmp_path / 'bin')}{os.pathsep}{os.environ['PATH']}")
    file = write_image(tmp_path / "image.sif", f"an image, label {'a' * 65}")
    found = find(ContainerChoice.pinned(file), "cpu")
    assert found.identifier == found.digest
    with pytest.raises(EngineError, match="prints more than 16 MiB"):
        find(ContainerChoice.pinned(write_image(tmp_path / "image.sif", f"an image, label {'a' * (17 << 20)}")), "cpu")
