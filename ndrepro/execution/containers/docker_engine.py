"""docker and podman, through the Docker SDK.

docker answers on its own socket (``DOCKER_HOST`` names another). podman has a socket where its service runs; where it
does not, this starts one of its own, which ends with this process, or by itself when nobody asks any more.

Who the caller is inside decides whether it can write its run folder, and daemons differ (their ``SecurityOptions``).
The usual one has the same users inside. One that remaps users is asked not to, for this container. Rootless docker has
the caller as root inside; rootless podman is asked to keep it as it is.

Two things that podman's answer cannot be trusted with: that GPUs were handed in (``containers`` asks inside), and that
a container was killed for its memory (its exit code is that of any SIGKILL).
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.execution.containers.container_spec import ANSWER_BYTES, ANSWER_SECONDS, PROCESSES, Enclosure, Image
from ndrepro.execution.containers.engine_variables import OF_PODMAN, engine_variables
from ndrepro.protocol import extras
from ndrepro.protocol.errors import EngineError, ImageError
from provenance.errors import StorageError
from provenance.formats.folder_tree import remove_tree
from provenance.git.helper_programs import find_program

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

_LABEL = "ndrepro.run"
_PARENT = "ndrepro.parent"
_PATIENCE_SECONDS = 60.0
# an engine that builds or loads an image meanwhile answers late
_ANSWER_SECONDS = 600
_SERVICE_IDLE_SECONDS = 600
_POLL_SECONDS = 0.1
_ENDED = ("exited", "stopped", "dead", "removing")
# where services that this process started answer, until they idle
_started: list[str] = []
# which podman 3 and later speak; one that is asked for its version looks up the packages of its programs, for a second
_PODMAN_API = "1.41"
_CURES = {
    "docker": "start the Docker daemon, or set DOCKER_HOST; and be allowed to use its socket",
    "podman": "start `podman system service`, or set CONTAINER_HOST",
}


def find(engine: str, image: str) -> Image:
    """Ask the engine for its version and the image's digests."""
    with _telling(engine, image), closing(connect(engine)) as client:
        found = client.images.get(image)
        identifier = str(found.id)
        # an image that was never in a registry has no digest of a manifest with docker: its identifier stands for it
        pins = [name.rpartition("@")[2] for name in found.attrs.get("RepoDigests") or ()]
        return Image(str(client.version()["Version"]), pins[0] if pins else identifier, identifier)


def start(engine: str, image: str, enclosure: Enclosure) -> ContainerProcess:
    """Create and start the container."""
    with _telling(engine, image), ExitStack() as undo:
        client = connect(engine)
        undo.callback(client.close)
        _clear(client)
        container = _create(client, engine, image, enclosure)
        undo.callback(container.remove, force=True)
        container.start()
        undo.pop_all()
        return ContainerProcess(client, container, engine, enclosure.log)


def output(engine: str, image: str, enclosure: Enclosure) -> tuple[int, str]:
    """Run a short command to its end."""
    with _telling(engine, image), closing(connect(engine)) as client:
        container = _create(client, engine, image, enclosure)
        try:
            container.start()
            return _exit_code(container, engine, ANSWER_SECONDS), container.logs().decode("utf-8", "replace")
        finally:
            container.remove(v=True, force=True)


def save(engine: str, image: str, target: Path) -> None:
    """Write an image as an archive, which has the name that was given, or none where a digest was.

    Raises EngineError or OSError.
    """
    with _telling(engine, image), closing(connect(engine)) as client, target.open("wb") as file:
        for chunk in client.api.get_image(image):
            file.write(chunk)


def load(engine: str, archive: Path) -> None:
    """Put an archive's image into the engine's store. Raises EngineError."""
    with _telling(engine, str(archive)), closing(connect(engine)) as client, archive.open("rb") as file:
        client.images.load(file)


class ContainerProcess:
    """A container as the process that it is for. It is removed when its end has been seen."""

    def __init__(self, client: DockerClient, container: Container, engine: str, log: Path | None) -> None:
        self._client = client
        self._container = container
        self._engine = engine
        self._log = log
        self._code: int | None = None
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if not self._over.wait(timeout):
            raise subprocess.TimeoutExpired(str(self._container.name), timeout or 0.0)
        assert self._code is not None
        return self._code

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._code if self._over.is_set() else None

    def send_signal(self, sig: int) -> None:
        """Signal its first process."""
        from docker.errors import APIError

        with suppress(APIError):  # it ended just now
            self._container.kill(signal=int(sig))

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def _watch(self) -> None:
        try:
            status = _exit_code(self._container, self._engine)
            self._code = 128 - status if 128 < status <= 128 + signal.SIGRTMAX else status
        except Exception:  # the engine went away: whether the container did is not known, so it counts as killed
            self._code = -signal.SIGKILL
        if self._code:
            with suppress(Exception):
                self._keep_engines_log()
        # before anybody hears of its end: this process may be over at once, and podman's service with it
        with suppress(Exception):
            self._container.remove(v=True, force=True)
        with suppress(Exception):
            self._client.close()
        self._over.set()

    def _keep_engines_log(self) -> None:
        """Append what the engine has of its output, which is what came before its own log was open, or kept it shut."""
        if self._log is not None and (printed := self._container.logs()):
            with self._log.open("ab") as log:
                log.write(printed)


def _exit_code(container: Container, engine: str, seconds: float = math.inf) -> int:
    """Wait for the end of a container that was started. Raises subprocess.TimeoutExpired.

    While the API's own wait lasts, podman's service asks its database without a pause, which takes most of a core.
    """
    if engine != "podman" and seconds == math.inf:
        return int(container.wait()["StatusCode"])
    deadline = time.monotonic() + seconds
    while container.status not in _ENDED:
        if time.monotonic() > deadline:
            raise subprocess.TimeoutExpired(str(container.name), seconds)
        time.sleep(_POLL_SECONDS)
        container.reload()
    return int(container.attrs["State"]["ExitCode"])


def _create(client: DockerClient, engine: str, image: str, enclosure: Enclosure) -> Container:
    """Create the container, as the user that the caller is on the machine."""
    # podman runs as the caller, and takes the option that SELinux needs on any machine
    daemon = "name=selinux" if engine == "podman" else str(client.info().get("SecurityOptions") or ())
    user, namespace = _caller(daemon, engine)
    command = list(enclosure.command)
    if enclosure.log is not None:
        command = ["sh", "-c", 'exec "$@" >>"$0" 2>&1', str(enclosure.log), *command]
    created = client.api.create_container(
        image,
        entrypoint=command[:1],
        command=command[1:],
        environment=dict(enclosure.variables),
        user=user,
        working_dir="/tmp",
        labels={_LABEL: enclosure.label, _PARENT: str(os.getpid())},
        host_config={
            **_host_config(client, engine, enclosure, security_options(daemon), _volumes(client, image)),
            "UsernsMode": namespace,
        },
    )
    return client.containers.get(created["Id"])


def security_options(daemon: str) -> list[str]:
    """The options of a container whose engine describes itself in these words.

    Under SELinux a container may not touch the host's files unless they are relabelled, which would change the caller's
    data for good: its labels are switched off instead. What it may do is still bounded by its user, its mounts and its
    capabilities.
    """
    return ["no-new-privileges", *(["label=disable"] if "name=selinux" in daemon else [])]


def _caller(daemon: str, engine: str) -> tuple[str, str]:
    """The user inside that is the caller outside, and the user namespace for it.

    The SDK's own interface knows no namespace but "host", so this goes through the API's.
    """
    same = f"{os.getuid()}:{os.getgid()}"
    if engine == "podman":
        return same, "keep-id" if os.getuid() else ""
    if "name=rootless" in daemon:
        return "0:0", ""
    return same, "host" if "name=userns" in daemon else ""


def _volumes(client: DockerClient, image: str) -> list[str]:
    """The folders that an image wants volumes for, which the engine would make on the disk, without a bound."""
    return [*((client.images.get(image).attrs.get("Config") or {}).get("Volumes") or {})]


def _host_config(
    client: DockerClient, engine: str, enclosure: Enclosure, security: list[str], volumes: Iterable[str]
) -> dict[str, Any]:
    """The part of the container's settings that is the machine's, in the API's words; ``volumes`` are in memory."""
    from docker.types import DeviceRequest, LogConfig, Mount

    mounts = [Mount(str(path), str(path), "bind") for path in enclosure.writable]
    mounts += [Mount(str(path), str(path), "bind", read_only=True) for path in enclosure.readable]
    cdi = DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=all"])
    requests = [cdi if engine == "podman" else DeviceRequest(count=-1, capabilities=[["gpu"]])]
    config: dict[str, Any] = client.api.create_host_config(
        mounts=mounts,
        read_only=True,
        tmpfs=dict.fromkeys([*volumes, "/tmp"], "size=1g"),
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=security,
        mem_limit=enclosure.memory_bytes,
        pids_limit=PROCESSES,
        device_requests=requests if enclosure.gpu else None,
        # of what the engine keeps the end is enough: a hostile image could fill the disk with it
        log_config=LogConfig(type=LogConfig.types.JSON, config={"max-size": f"{ANSWER_BYTES >> 20}m"}),
    )
    return config


def _clear(client: DockerClient) -> None:
    """Remove what runs left whose parent was killed: their containers have ended by themselves."""
    ended = {"label": _LABEL, "status": "exited"}
    # another process may remove its own meanwhile
    for old in client.containers.list(all=True, filters=ended, ignore_removed=True):
        parent = old.labels.get(_PARENT, "")
        if parent.isdecimal() and not Path(f"/proc/{parent}").exists():
            with suppress(Exception):
                old.remove(v=True, force=True)


def connect(engine: str) -> DockerClient:
    """A client of the engine's daemon, to be closed. Raises EngineError where there is none, or MissingExtra."""
    extras.require("docker")
    import docker
    from docker.errors import DockerException

    if engine == "podman":
        return docker.DockerClient(base_url=_podman_address(), version=_PODMAN_API, timeout=_ANSWER_SECONDS)
    try:
        return docker.from_env(timeout=_ANSWER_SECONDS)
    except DockerException as error:
        raise EngineError(f"docker's daemon does not answer ({error})", _CURES[engine]) from None


def _podman_address() -> str:
    """Where podman's service answers; it is started where it does not, or no longer: one that idles ends."""
    return next((address for address in (*_started, *_podman_sockets()) if _answers(address)), None) or _serve()


def _answers(address: str) -> bool:
    import docker
    from docker.errors import DockerException

    try:
        with closing(docker.DockerClient(base_url=address, version=_PODMAN_API)) as client:
            return bool(client.ping())
    except (DockerException, OSError):
        return False


def _podman_sockets() -> Iterator[str]:
    if host := os.environ.get("CONTAINER_HOST"):
        yield host
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") if os.getuid() else Path("/run")
    yield f"unix://{folder}/podman/podman.sock"


def _serve() -> str:
    """podman's service on a socket of our own; its address."""
    program = find_program("podman")
    if program is None:
        raise EngineError("podman is not installed", "install podman, or choose another engine: --in docker")
    folder = tempfile.mkdtemp(prefix="ndrepro-podman-")
    address = f"unix://{folder}/podman.sock"
    words = [program, "system", "service", "--time", str(_SERVICE_IDLE_SECONDS), address]
    with Path(folder, "log").open("wb") as log:
        service = subprocess.Popen(
            words,
            env=engine_variables(OF_PODMAN),  # with CONTAINER_HOST or CONTAINER_CONNECTION it has no service of its own
            # a container that is out of memory leaves an empty file there
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # a session of its own: Ctrl-C is for this process alone
            start_new_session=True,
        )
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while service.poll() is None and time.monotonic() < deadline:
        if _answers(address):
            atexit.register(_end, service, folder)
            _started.append(address)
            return address
        time.sleep(0.05)
    said = Path(folder, "log").read_text(errors="replace").strip().splitlines()
    _end(service, folder)
    raise EngineError(f"podman's service does not answer: {said[-1] if said else 'it said nothing'}", _CURES["podman"])


def _end(service: subprocess.Popen[bytes], folder: str) -> None:
    service.kill()
    service.wait()
    remove_tree(folder, ignore_errors=True)


@contextmanager
def _telling(engine: str, image: str) -> Iterator[None]:
    """The SDK's errors as this project's own."""
    from docker.errors import APIError, DockerException, ImageNotFound

    try:
        yield
    except ImageNotFound:
        raise ImageError(f"{engine} has no image {image}", "`make image` builds one; --image names another") from None
    except APIError as error:
        said = str(error.explanation or error)
        if "no space left" in said:
            raise StorageError(f"{engine}: {said}", f"free some space where {engine} keeps its images") from None
        raise EngineError(f"{engine}: {said}", f"see what `{engine} info` says") from None
    except (DockerException, OSError) as error:
        raise EngineError(f"{engine}: {error}", _CURES[engine]) from None
