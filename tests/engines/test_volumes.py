"""Attack: an image asks for volumes, which an engine makes on the reviewer's disk and keeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_engines import run

from ndrepro.execution.containers import docker_engine
from ndrepro.execution.containers.container_spec import Enclosure

pytestmark = pytest.mark.engines
IMAGE = "localhost/ndrepro-volumes:latest"


def test_volumes_of_an_image_are_in_memory_and_leave_nothing(base: str, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text(f"FROM {base}\nVOLUME /kept\n")
    run("podman", "build", "--quiet", f"--tag={IMAGE}", str(tmp_path))
    before = run("podman", "volume", "ls", "--quiet")
    words = ("sh", "-c", "touch /kept/x && stat --file-system --format %T /kept")
    status, said = docker_engine.output("podman", IMAGE, Enclosure(words, {}))
    after = run("podman", "volume", "ls", "--quiet")
    run("podman", "image", "rm", "--force", IMAGE)
    assert (status, said.strip(), after) == (0, "tmpfs", before)
