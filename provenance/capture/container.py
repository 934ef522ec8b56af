"""Whether this process runs inside a container, how that was seen, and which image it came from.

A process cannot find out its image by itself: Docker and Kubernetes do not tell. Whoever starts the container says it
in ``NDREPRO_IMAGE`` and ``NDREPRO_IMAGE_DIGEST``; podman writes it to ``/run/.containerenv``, Apptainer names the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from provenance.capture.unavailable import none, unavailable

# in this order: the first that is seen is the engine
_FILES = (
    ("podman", "run/.containerenv"),
    ("docker", ".dockerenv"),
    ("apptainer", ".singularity.d"),
    ("kubernetes", "var/run/secrets/kubernetes.io"),
)
_VARIABLES = (
    ("apptainer", "APPTAINER_CONTAINER"),
    ("singularity", "SINGULARITY_CONTAINER"),
    ("kubernetes", "KUBERNETES_SERVICE_HOST"),
)
_GROUPS = (
    ("kubernetes", "kubepods"),
    ("podman", "libpod"),
    ("docker", "docker"),
    ("containerd", "containerd"),
    ("lxc", "/lxc"),
)
# engines that set the variable "container" to their name
_SELF_NAMED = ("podman", "docker", "oci", "enroot", "lxc", "lxc-libvirt", "systemd-nspawn")
# the engine's own folder behind /etc/hostname, /etc/hosts or /etc/resolv.conf, with the container's identifier
_MOUNTED = re.compile(r"/(?:docker|overlay-)?containers/([0-9a-f]{64})/\S*(?:hostname|hosts|resolv\.conf)")
_TELL = "whoever starts the container can say it in NDREPRO_IMAGE and NDREPRO_IMAGE_DIGEST"


def capture(variables: Mapping[str, str], root: Path = Path("/")) -> dict[str, Any]:
    """``engine``, ``seen_by``, ``id``, ``image`` {name, digest}; or ``{"none": reason}`` outside of containers."""
    seen = list(_signs(variables, root))
    if not seen:
        return none("no sign of docker, podman, apptainer, singularity, enroot, kubernetes, containerd or lxc")
    mounts = _MOUNTED.search(_text(root / "proc/self/mountinfo"))
    podman = _containerenv(root / "run/.containerenv")
    identifier = podman.get("id") or (mounts.group(1) if mounts else "")
    return {
        "engine": seen[0][0],
        "seen_by": [f"{engine}: {how}" for engine, how in seen],
        "id": identifier or unavailable("no engine's folder among the mounts"),
        "image": _image(variables, podman),
    }


def _signs(variables: Mapping[str, str], root: Path) -> Iterator[tuple[str, str]]:
    yield from ((engine, f"/{name}") for engine, name in _FILES if (root / name).exists())
    yield from ((engine, f"variable {name}") for engine, name in _VARIABLES if variables.get(name))
    if variables.get("container") in _SELF_NAMED:
        yield variables["container"], "variable container"
    if variables.get("NDREPRO_IMAGE_DIGEST") or variables.get("NDREPRO_IMAGE"):
        yield "named by its launcher", "variable NDREPRO_IMAGE or NDREPRO_IMAGE_DIGEST"
    for file in ("proc/self/cgroup", "proc/1/cgroup"):
        text = _text(root / file)
        yield from ((engine, f"/{file}") for engine, word in _GROUPS if word in text)
    if _MOUNTED.search(_text(root / "proc/self/mountinfo")):
        yield "docker or podman", "/proc/self/mountinfo"


def _image(variables: Mapping[str, str], podman: Mapping[str, str]) -> dict[str, Any]:
    apptainer = variables.get("APPTAINER_CONTAINER") or variables.get("SINGULARITY_CONTAINER")
    name = variables.get("NDREPRO_IMAGE") or podman.get("image") or apptainer
    digest = variables.get("NDREPRO_IMAGE_DIGEST")
    found: dict[str, Any] = {"name": name or unavailable(f"the engine does not tell; {_TELL}")}
    if digest:
        found["digest"] = digest if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) else _bad_digest(digest)
    else:
        found["digest"] = unavailable(f"a process does not see its image's digest; {_TELL}")
    if podman.get("imageid"):
        found["id"] = podman["imageid"]  # the digest of the image's configuration, not of its manifest
    return found


def _bad_digest(value: str) -> dict[str, str]:
    return unavailable(f"NDREPRO_IMAGE_DIGEST is {value!r}, expected sha256: and 64 lower-case hexadecimal digits")


def _containerenv(file: Path) -> dict[str, str]:
    """podman's own description, ``key="value"`` a line; empty where there is none, or podman did not fill it."""
    return dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', _text(file)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
