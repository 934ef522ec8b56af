"""Which image a recorded command runs in: ``podman run IMAGE …``, ``docker run IMAGE …``, ``apptainer exec FILE …``.

What runs in a container cannot be observed from outside, so its image is what can be recorded: the digest that the
engine itself gives, which the command names. Nothing is fetched; an image that the command fetches is there at its end.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ndrepro.execution.containers.engine_variables import OF_PODMAN, engine_variables
from ndrepro.execution.containers.image_attestation import attestation_of
from ndrepro.protocol.errors import EngineError
from ndrepro.protocol.image_reference import FILE_ENGINES
from provenance.errors import DigestError
from provenance.formats.digest import file_digest

_ENGINES, _FILE_ENGINES = ("docker", "podman", "nerdctl"), ("apptainer", "singularity")
_SECONDS = 30
# where an engine's daemon answers
_DAEMONS = (
    *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS", "DOCKER_TLS_VERIFY"),
    *("DOCKER_API_VERSION", "CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY", *OF_PODMAN),
    *("CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE", "NERDCTL_TOML"),
)
# options of `run` that take no value; every other one does, where it has no "=" in it
_FLAGS = (
    *("--detach", "--disable-content-trust", "--env-host", "--help", "--init", "--interactive", "--no-healthcheck"),
    *("--no-hosts", "--no-hostname", "--oom-kill-disable", "--passwd", "--privileged", "--publish-all", "--quiet"),
    *("--read-only", "--read-only-tmpfs", "--replace", "--rm", "--rmi", "--rootfs", "--sig-proxy", "--tls-verify"),
    *("--tty", "--unsetenv-all", "--http-proxy"),
)
_FLAG_LETTERS = frozenset("ditPq")
# options of Apptainer that take a value; no other one does
_VALUED = (
    *("-B", "--bind", "--mount", "--env", "--env-file", "-H", "--home", "-W", "--workdir", "--pwd", "--cwd", "-o"),
    *(
        "--overlay",
        "-S",
        "--scratch",
        "--app",
        "--add-caps",
        "--drop-caps",
        "--network",
        "--network-args",
        "--security",
    ),
    *("--dns", "--hostname", "--fusemount", "--blkio-weight", "--cpus", "--memory"),
)


@dataclass(frozen=True)
class CommandImage:
    """The engine, the image as the command names it ("" where it names none), and its digest in hexadecimal.

    ``reason`` says why there is no digest. ``attestation`` is the digest of the signed statements on the image
    ("sha256:…"), "" where there are none; ``attestation_problem`` says why those that are there are not referred to.
    """

    engine: str
    image: str
    sha256: str = ""
    reason: str = ""
    attestation: str = ""
    attestation_problem: str = ""


def command_image(executable: Path, words: Sequence[str], folder: Path, home: Path) -> CommandImage | None:
    """The image of a command that is started in ``folder``, with the statements on it that ``home`` has or trusts;
    ``None`` where it starts no container.
    """
    engine = executable.name
    if engine in _FILE_ENGINES:
        image = _image(words, ("exec", "run", "shell"), _takes_value_of_apptainer)
        found = None if image is None else _of_file(engine, image, folder)
    elif engine in _ENGINES:
        image = _image(words, ("run",), _takes_value_of_run)
        found = None if image is None else _asked(executable, engine, image)
    else:
        return None
    return found if found is None or not found.sha256 else _with_attestation(found, folder, home)


def _with_attestation(image: CommandImage, folder: Path, home: Path) -> CommandImage:
    engine = FILE_ENGINES[0] if image.engine in _FILE_ENGINES else image.engine
    try:
        attestation = attestation_of(engine, str(folder / image.image), {f"sha256:{image.sha256}"}, home)
    except EngineError as error:
        return replace(image, attestation_problem=error.message)
    return replace(image, attestation=attestation)


def _image(words: Sequence[str], verbs: Sequence[str], takes_value: Callable[[str], bool]) -> str | None:
    """The first word behind a verb and its options; "" where there is none; ``None`` without such a verb."""
    start = next((number for number, word in enumerate(words) if number and word in verbs), None)
    if start is None:
        return None
    waiting = [*reversed(words[start + 1 :])]
    while waiting and waiting[-1].startswith("-"):
        if takes_value(waiting.pop()) and waiting:
            waiting.pop()
    return waiting[-1] if waiting else ""


def _takes_value_of_run(option: str) -> bool:
    if "=" in option or option in _FLAGS:
        return False
    # letters in one word: "-it" has no value, "-v" and "-itv" have
    return option.startswith("--") or not _FLAG_LETTERS.issuperset(option[1:])


def _takes_value_of_apptainer(option: str) -> bool:
    return option in _VALUED


def _of_file(engine: str, image: str, folder: Path) -> CommandImage:
    if "://" in image:
        return CommandImage(engine, image, reason="an image that the engine fetches itself")
    try:
        return CommandImage(engine, image, file_digest(folder / image).sha256)
    except DigestError as error:
        return CommandImage(engine, image, reason=error.message)


def _asked(executable: Path, engine: str, image: str) -> CommandImage:
    try:
        answer = subprocess.run(
            [str(executable), "image", "inspect", "--format", "{{.Id}}", image],
            env=engine_variables(_DAEMONS),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return CommandImage(engine, image, reason=f"{engine} does not answer ({type(error).__name__})")
    digest = answer.stdout.strip().removeprefix("sha256:")
    if answer.returncode or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        said = (answer.stderr.strip().splitlines() or ["no digest"])[-1]
        return CommandImage(engine, image, reason=f"{engine} does not name its digest: {said[:300]}")
    return CommandImage(engine, image, digest)
