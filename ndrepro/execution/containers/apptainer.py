"""Apptainer, the engine of clusters: a command whose container is a child of this process.

Nothing of the host but what is named comes in (``--containall``), the network is off (without ``--net`` it would be
on), the image is read-only as it always is. Memory and processes are not limited here: unprivileged, Apptainer cannot,
and on a cluster the scheduler does it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from ndrepro.execution.containers.container_spec import Enclosure, Image
from ndrepro.protocol.errors import EngineError
from provenance.errors import StorageError
from provenance.formats.digest import file_digest

_NAMES = ("apptainer", "singularity")


def find(engine: str, image: str) -> Image:
    """The command's version, and the file's digest."""
    if not Path(image).is_file():
        raise EngineError(f"{image}: no such image file", "`make sif` writes one; or name another with --image")
    said = subprocess.run([_program(), "--version"], capture_output=True, text=True)
    if said.returncode:
        raise EngineError(f"apptainer --version: {said.stderr.strip()}", "see whether apptainer runs at all")
    digest = f"sha256:{file_digest(Path(image)).sha256}"
    return Image(said.stdout.split()[-1], digest, digest)


def start(engine: str, image: str, enclosure: Enclosure) -> subprocess.Popen[bytes]:
    """Start the container; its output goes to the log, also what Apptainer itself says."""
    with enclosure.log.open("ab") if enclosure.log else nullcontext(subprocess.DEVNULL) as log:
        return subprocess.Popen(
            words(image, enclosure),
            env=_variables(enclosure.variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def output(engine: str, image: str, enclosure: Enclosure) -> tuple[int, str]:
    """Run a short command to its end."""
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            words(image, enclosure),
            env=_variables(enclosure.variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
    if "no space left on device" in said.lower():
        raise StorageError(f"apptainer: {said.strip().splitlines()[-1]}", "free some space, or set APPTAINER_TMPDIR")
    return done.returncode, said + done.stdout.decode("utf-8", "replace")


def words(image: str, enclosure: Enclosure) -> list[str]:
    """The command line."""
    line = [_program(), "--quiet", "exec", "--containall", "--no-eval", "--net", "--network", "none", "--pwd", "/tmp"]
    line += ["--nv"] if enclosure.gpu else []
    for path in enclosure.writable:
        line += ["--mount", _mount(path)]
    for path in enclosure.readable:
        line += ["--mount", _mount(path) + ",ro"]
    return [*line, image, *enclosure.command]


def _mount(path: Path) -> str:
    """A mount as its option takes it: fields of a CSV line, so that commas and quotes in names hold."""
    quoted = str(path).replace('"', '""')
    return f'type=bind,"source={quoted}","destination={quoted}"'


# where keys and their passphrases lie is none of the container's business
_WITHHELD = ("NDREPRO_HOME", "NDREPRO_PASSPHRASE_FILE")


def _variables(inside: Mapping[str, str]) -> dict[str, str]:
    """This process's variables for the command itself, and those that it sets in the container."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(_WITHHELD)}
    # the home folder inside is Apptainer's own, in memory
    return {**outside, **{f"APPTAINERENV_{name}": value for name, value in inside.items() if name != "HOME"}}


def _program() -> str:
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        raise EngineError("apptainer is not installed, or not on PATH", "on a cluster, try `module load apptainer`")
    return found
