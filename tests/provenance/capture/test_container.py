"""Containers by what they leave behind, in trees of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provenance.capture import container

ID = "0123456789abcdef" * 4
DIGEST = f"sha256:{ID}"
MOUNT = "640 630 254:1 /var/lib/docker/containers/" + ID + "/hostname /etc/hostname rw - ext4 /dev/vda1 rw\n"
CONTAINERENV = (
    f'engine="podman-4.3.1"\nname="n"\nid="{ID}"\nimage="localhost/ndrepro:test"\nimageid="{ID[::-1]}"\nrootless=0\n'
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "variables", "engine"),
    [
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": ""}, {}, "podman"),
        ({".singularity.d/runscript": ""}, {}, "apptainer"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({}, {"SINGULARITY_CONTAINER": "/x.sif"}, "singularity"),
        ({}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({}, {"container": "lxc"}, "lxc"),
        ({"proc/self/cgroup": "0::/kubepods/besteffort/podx/y\n"}, {}, "kubernetes"),
        ({"proc/1/cgroup": "3:cpu:/docker/0123\n"}, {}, "docker"),
        ({"proc/self/mountinfo": MOUNT}, {}, "docker or podman"),
        ({}, {"NDREPRO_IMAGE_DIGEST": DIGEST}, "named by its launcher"),
    ],
)
def test_a_sign_names_its_engine(tmp_path: Path, files: dict[str, str], variables: dict[str, str], engine: str) -> None:
    assert list(container.capture({}, tmp_path)) == ["none"], "the control: without the sign there is nothing"
    found = container.capture(variables, write(tmp_path, files))
    assert found["engine"] == engine and len(found["seen_by"]) == 1


def test_outside(tmp_path: Path) -> None:
    host = MOUNT.replace("/hostname /etc", "/mounts/shm /var/lib")
    write(tmp_path, {"proc/self/cgroup": "0::/user.slice/session-1.scope\n", "proc/self/mountinfo": host})
    assert list(container.capture({"container": "of shoes", "PATH": "/docker"}, tmp_path)) == ["none"]


def test_podman_describes_itself(tmp_path: Path) -> None:
    found = container.capture({"container": "podman"}, write(tmp_path, {"run/.containerenv": CONTAINERENV}))
    assert found["id"] == ID
    assert found["image"]["name"] == "localhost/ndrepro:test" and found["image"]["id"] == ID[::-1]
    assert "unavailable" in found["image"]["digest"]
    assert found["seen_by"] == ["podman: /run/.containerenv", "podman: variable container"]


def test_docker_does_not_tell_and_the_launcher_does(tmp_path: Path) -> None:
    write(tmp_path, {".dockerenv": "", "proc/self/mountinfo": MOUNT})
    silent = container.capture({}, tmp_path)
    assert silent["id"] == ID
    assert all("NDREPRO_IMAGE" in silent["image"][name]["unavailable"] for name in ("name", "digest"))
    told = container.capture({"NDREPRO_IMAGE": "ndrepro:1", "NDREPRO_IMAGE_DIGEST": DIGEST}, tmp_path)
    assert told["image"] == {"name": "ndrepro:1", "digest": DIGEST}


@pytest.mark.parametrize("digest", ["latest", "sha256:" + "0" * 63, "sha256:" + "G" * 64, DIGEST + " "])
def test_a_wrong_digest_is_not_taken(tmp_path: Path, digest: str) -> None:
    found: Any = container.capture({"NDREPRO_IMAGE_DIGEST": digest}, tmp_path)["image"]["digest"]
    assert "expected sha256:" in found["unavailable"]
