"""Training in a container: which image, whether it is the one meant, and the child's process in it.

The parent stays outside, with the key; only the child runs in the image. What it finds there:

* the image, read-only, and a small ``/tmp`` in memory; no network; the caller's own user, without capabilities;
* the run folder, writable; the data and the packages ``ndrepro`` and ``provenance``, read-only; each under the same
  path as outside, so that what is recorded names the same files;
* the variables of the determinism level and none of the caller's; the GPUs where the experiment may use one.

    ContainerChoice ── find ──> Container (what is recorded) ── start ──> a process as subprocess.Popen has it

``ENGINES`` has a module for each kind: docker and podman answer through the Docker SDK (``docker_engine``), Apptainer
and Enroot are commands. Whether the container sees the GPU is asked inside it: an engine may ignore the request.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ndrepro.execution.containers import apptainer, docker_engine, enroot
from ndrepro.execution.containers.container_spec import Enclosure, Image, Process
from ndrepro.protocol.errors import DeviceError, EngineError, ImageError, SandboxError, UsageError
from ndrepro.protocol.experiment.determinism import variables
from ndrepro.protocol.image_reference import FILE_ENGINES, PinnedImage, own_digests
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Container, Request
from ndrepro.protocol.project_folders import packages_of
from provenance.attestation.run_files import LOCK
from provenance.capture import gpu

DEFAULT_IMAGE = "ndrepro:latest"
_GPU_PROBE = "import ctypes, sys; sys.exit(ctypes.CDLL('libcuda.so.1').cuInit(0))"
_PIN = "@sha256:"
_PASSED = ("CUDA_VISIBLE_DEVICES", "SLURM_ARRAY_", "SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_CLUSTER_NAME")


class Engine(Protocol):
    """A kind of container engine; a module with these functions is one."""

    def find(self, engine: str, image: str) -> Image:
        """The engine's version and the image's digests. Raises EngineError: no engine, no daemon, no such image."""

    def start(self, engine: str, image: str, enclosure: Enclosure) -> Process:
        """Start the enclosure's command. Raises EngineError where the engine refuses."""

    def output(self, engine: str, image: str, enclosure: Enclosure) -> tuple[int, str]:
        """Exit code and output of a short command."""


ENGINES: dict[str, Engine] = {
    "docker": docker_engine,
    "podman": docker_engine,
    "apptainer": apptainer,
    "enroot": enroot,
}
# how the file of an image is made
_FILES = {
    "apptainer": "`make sif` writes dist/ndrepro.sif",
    "enroot": "`enroot import -o ndrepro.sqsh podman://ndrepro:latest` writes one",
}


@dataclass(frozen=True)
class ContainerChoice:
    """What the user asked for: the engine, and the image, ``NAME[:TAG]`` or a file, either with ``[@sha256:…]``.

    ``digests`` are those of which the image must have one, where it was recorded before.
    """

    engine: str
    image: str = DEFAULT_IMAGE
    digests: frozenset[str] = frozenset()

    @classmethod
    def from_words(cls, engine: str, image: str | None) -> ContainerChoice:
        """From the options ``--in`` and ``--image``. Raises UsageError for another engine or a malformed digest."""
        if engine not in ENGINES:
            raise UsageError(f"--in {engine}: not an engine known here", f"it is one of {', '.join(ENGINES)}")
        if engine in FILE_ENGINES and image is None:
            raise UsageError(f"--in {engine}: no --image", f"name the file: {_FILES[engine]}")
        name, pin, digest = (image or DEFAULT_IMAGE).partition(_PIN)
        if pin and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
            raise UsageError(
                f"--image {image}: {digest!r} is no SHA-256", "@sha256: and 64 lower-case hexadecimal digits"
            )
        found = str(Path(name).absolute()) if engine in FILE_ENGINES else name
        return cls(engine, found, frozenset({f"sha256:{digest}"}) if pin else frozenset())

    @classmethod
    def from_options(cls, engine: str | None, image: str | None) -> ContainerChoice | None:
        """The container asked for, None without an engine. Raises UsageError for an image without an engine too."""
        if engine is None and image is not None:
            raise UsageError(
                f"--image {image}: no --in", "say the engine too: --in docker, podman, apptainer or enroot"
            )
        return None if engine is None else cls.from_words(engine, image)

    @classmethod
    def pinned(cls, image: PinnedImage) -> ContainerChoice:
        """An environment of a study that is an image."""
        return cls.from_words(image.engine, image.reference)

    @classmethod
    def recorded(cls, container: Container) -> ContainerChoice:
        """The container of a run that was recorded: the same engine, and the very image."""
        return cls(container.engine, container.image, container.digests)


def find(wanted: ContainerChoice, device: str) -> Container:
    """What is there of what was asked for, as it will be recorded; ``device`` is the experiment's.

    Raises EngineError: no engine, no daemon, no such image, or another digest than the one asked for; DeviceError where
    a GPU is asked for and there is none, or the container does not see it.
    """
    engine = ENGINES[wanted.engine]
    image = engine.find(wanted.engine, wanted.image)
    if wanted.digests and wanted.digests.isdisjoint(own_digests(wanted.engine, image.identifier, image.digest)):
        raise ImageError(
            f"image {wanted.image} is {image.digest}, asked for is {' or '.join(sorted(wanted.digests))}",
            "build or load the image that was recorded, or name another one on purpose with --image",
        )
    container = Container(
        wanted.engine,
        image.engine_version,
        wanted.image,
        image.digest,
        image.identifier,
        _driver(),
        image.host_variables,
    )
    if device == "cuda" and not container.driver:
        raise DeviceError("device cuda: this machine has no NVIDIA driver", "choose --device cpu, or another machine")
    if device != "cpu" and container.driver:
        _ask_for_gpu(container)
    return container


def expect_trusted(wanted: ContainerChoice | Container | PinnedImage, *, own: bool) -> None:
    """Raise SandboxError for an image that its engine obeys, unless it is the reviewer's ``own`` choice or run."""
    if wanted.engine == "enroot" and not own:
        raise SandboxError(
            f"{wanted.image}: Enroot does not confine an image: its etc/fstab and its links lead to your files",
            "choose --in apptainer or podman; or, for an image that you made or trust, repeat with --trust-code",
        )


def pin(wanted: ContainerChoice) -> PinnedImage:
    """What was asked for, with its digest: the one asked for, else that of what is there. Raises EngineError."""
    if wanted.digests:
        return PinnedImage(wanted.engine, wanted.image, min(wanted.digests))
    found = find(wanted, "cpu")
    return PinnedImage(wanted.engine, wanted.image, own_digests(found.engine, found.identifier, found.digest)[0])


def check(images: Iterable[PinnedImage]) -> None:
    """Whether every image is there, and each is another one. Raises EngineError or UsageError where one is not."""
    known: dict[tuple[str, str], PinnedImage] = {}
    for image in images:
        found = find(ContainerChoice.pinned(image), "cpu")
        twin = known.setdefault((found.engine, found.identifier), image)
        if twin is not image:
            raise UsageError(f"environment={str(image)!r}: the very image that {str(twin)!r} is", "keep one of them")


def start(container: Container, request: Request, folder: RunFolder, code: Path) -> Process:
    """The training child in the container; its output goes to the run's log.

    It does not inherit the run folder's lock, unlike a child outside: it waits for it, and ends when this process has
    gone and the lock is free (``ndrepro.training``).
    """
    root = folder.root.absolute()
    # what is beside the packages is in the run's folder, or elsewhere for nothing else
    shown = packages_of(code) if code.is_relative_to(root) else (code,)
    enclosure = Enclosure(
        command=("python3", "-m", "ndrepro.training", str(root)),
        variables=_variables(container, request, code, root),
        writable=(root,),
        readable=(*shown, *((Path(request.data),) if os.path.exists(request.data) else ())),
        gpu=request.experiment.device != "cpu" and bool(container.driver),
        log=root / folder.log.name,
        label=folder.root.name,
    )
    return ENGINES[container.engine].start(container.engine, container.image, enclosure)


def python_output(container: Container, script: str, code: Path) -> str:
    """What a short Python script prints in the container. Raises EngineError where it fails, or does not answer."""
    enclosure = Enclosure(("python3", "-c", script), {"PYTHONPATH": str(code)}, readable=packages_of(code))
    try:
        status, text = ENGINES[container.engine].output(container.engine, container.image, enclosure)
    except subprocess.TimeoutExpired as error:
        status, text = 1, f"its python3 does not answer within {error.timeout:.0f} s"
    if status:
        raise EngineError(f"image {container.image}: {_last(text)}", "use an image made by `make image`")
    return text


def _variables(container: Container, request: Request, code: Path, root: Path) -> dict[str, str]:
    experiment = request.experiment
    # which GPUs, and which job: a scheduler's choice holds inside as well
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    return {
        **passed,
        **variables(experiment.determinism, experiment.threads, experiment.cpu_isa),
        "PYTHONPATH": str(code),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "NDREPRO_IMAGE": container.image,
        "NDREPRO_IMAGE_DIGEST": container.digest,
        "NDREPRO_PARENT_LOCK": str(root / LOCK),
    }


def _ask_for_gpu(container: Container) -> None:
    enclosure = Enclosure(("python3", "-c", _GPU_PROBE), {}, gpu=True)
    status, said = ENGINES[container.engine].output(container.engine, container.image, enclosure)
    if status:
        cure = {
            "docker": "install the NVIDIA container toolkit",
            "podman": "generate its CDI description with nvidia-ctk; older podman ignores the request: use apptainer",
            "apptainer": "see `apptainer exec --nv`: the host's driver libraries must be found",
            "enroot": "install nvidia-container-cli, which Enroot's hook 98-nvidia.sh calls",
        }[container.engine]
        message = f"the host has driver {container.driver}, {container.engine}'s container sees no GPU: {_last(said)}"
        raise DeviceError(message, f"{cure}; or choose --device cpu")


def _driver() -> str:
    """The host's NVIDIA driver, "" where there is none."""
    found = gpu.capture()
    return str(found.get("driver", "")) if "devices" in found else ""


def _last(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it printed nothing")
