"""Enroot, the engine of clusters with Pyxis: a command whose container is this process's child.

An image is a squashfs file, as ``enroot import`` writes it, started without being unpacked first. The root is
read-only, the network is the loopback alone (``--net``, since Enroot 4.1), and of the host only what is named comes in,
beside what the administrator configured for the whole machine. The caller's own hooks, mounts and variables
(``~/.config/enroot``, ``ENROOT_…``) do not reach a recorded run, but for where Enroot keeps its files. Memory and
processes are not limited here: on a cluster the scheduler does it.

An image is obeyed: Enroot mounts what its ``etc/fstab`` names of this machine, gives it the variables that its
``etc/environment`` asks for, and follows links in it where hooks and a lock write. No option turns that off, so none is
started for a run that another key signed (``expect_trusted``).

Source: https://github.com/NVIDIA/enroot/blob/main/doc/cmd/start.md and image-format.md
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from ndrepro.execution.containers.bounded_answer import answer
from ndrepro.execution.containers.container_spec import Enclosure, Image
from ndrepro.execution.containers.engine_variables import engine_variables
from ndrepro.protocol.errors import EngineError, ImageError, UsageError
from provenance.formats.digest import file_digest
from provenance.git.helper_programs import find_program

# runs the command that it is given, in place of the image's own entry point
_RUNNER = Path(__file__).with_name("enroot_command.sh")
_PLACES = ("LIBRARY_PATH", "SYSCONF_PATH", "RUNTIME_PATH", "CACHE_PATH", "DATA_PATH", "TEMP_PATH")
# an image's PATH holds without a login shell; a folder of the caller's hooks that is none
_SET = {
    "ENROOT_CONFIG_PATH": "/var/empty/enroot",
    "ENROOT_LOGIN_SHELL": "no",
    "ENROOT_ROOTFS_WRITABLE": "no",
    "ENROOT_REMAP_ROOT": "no",
    "ENROOT_ALLOW_SUPERUSER": "no",
}


def find(engine: str, image: str) -> Image:
    """The command's version, and the file's digest, which stands for its configuration too."""
    if not Path(image).is_file():
        raise ImageError(
            f"{image}: no such image file", "`enroot import -o FILE podman://ndrepro:latest` (or dockerd://) writes one"
        )
    version, options = _answer("version"), _answer("start", "--help")
    if "--net" not in options:
        raise EngineError(
            f"enroot {version} cannot start a container without a network", "use Enroot 4.1 or newer, or --in apptainer"
        )
    digest = f"sha256:{file_digest(Path(image)).sha256}"
    return Image(version, digest, digest)


def start(engine: str, image: str, enclosure: Enclosure) -> subprocess.Popen[bytes]:
    """Start the container; its output goes to the log, also what Enroot itself says."""
    with enclosure.log.open("ab") if enclosure.log else nullcontext(subprocess.DEVNULL) as log:
        return subprocess.Popen(
            words(image, enclosure),
            env=_variables(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def output(engine: str, image: str, enclosure: Enclosure) -> tuple[int, str]:
    """Run a short command to its end."""
    return answer(words(image, enclosure), _variables())


def words(image: str, enclosure: Enclosure) -> list[str]:
    """The command line. Raises UsageError for a path that Enroot's mounts cannot name."""
    line = [_program(), "start", "--net", "--rc", str(_RUNNER)]
    for path in enclosure.writable:
        line += ["--mount", _mount(path, "rw")]
    for path in enclosure.readable:
        line += ["--mount", _mount(path, "ro")]
    variables = {**enclosure.variables, "container": "enroot", **_gpu(enclosure.gpu)}
    for name, value in variables.items():
        line += ["--env", f"{name}={value}"]
    return [*line, image, *enclosure.command]


def _gpu(wanted: bool) -> Mapping[str, str]:
    """What Enroot's hook for NVIDIA's driver reads."""
    if not wanted:
        return {"NVIDIA_VISIBLE_DEVICES": "void"}
    return {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}


def _mount(path: Path, mode: str) -> str:
    """A mount as its option takes it: fields of fstab, separated by colons."""
    if re.search(r"[\s:]", str(path)):
        raise UsageError(f"{path}: Enroot mounts no path with a colon or white space", "use another folder")
    return f"{path}:{path}:none:x-create=auto,bind,{mode},nosuid,nodev"


def _variables() -> dict[str, str]:
    """This process's variables for the command itself."""
    return {**engine_variables({f"ENROOT_{place}" for place in _PLACES}), **_SET}


def _answer(*command: str) -> str:
    try:
        status, said = answer([_program(), *command], _variables(), errors=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        status, said = -signal.SIGKILL, ""
    if status:
        raise EngineError(f"enroot {command[0]}: exit code {status}", "see whether enroot runs at all")
    return said.strip()


def _program() -> str:
    found = find_program("enroot")
    if found is None:
        raise EngineError("enroot is not installed, or not on PATH", "on a cluster, try `module load enroot`")
    return found
