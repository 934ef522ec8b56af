"""Apptainer, the engine of clusters: a command whose container is a child of this process. Where there is none, the
command ``singularity`` takes its place, which is SingularityCE's or an older Apptainer's, with the same options.

Nothing of the host but what is named comes in (``--containall``), the network is off (without ``--net`` it would be
on), the image is read-only as it always is. Memory and processes are not limited here: unprivileged, Apptainer cannot,
and on a cluster the scheduler does it.

A site's or a user's own ``APPTAINER_…`` and ``SINGULARITY_…`` variables add mounts, variables and options. Of those
only the ones that say where Apptainer keeps its files hold here, and those that ``NDREPRO_APPTAINER_PASS`` names, which
are recorded. What the administrator configured for the whole machine always holds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from ndrepro.execution.containers.bounded_answer import answer
from ndrepro.execution.containers.container_spec import Enclosure, Image
from ndrepro.execution.containers.engine_variables import engine_variables
from ndrepro.protocol.errors import EngineError, ImageError, UsageError
from provenance.errors import StorageError
from provenance.formats.digest import file_digest
from provenance.git.helper_programs import find_program

_NAMES = ("apptainer", "singularity")
# variables of Apptainer that are let through, separated by commas
PASS = "NDREPRO_APPTAINER_PASS"
# what `make sif` writes into the file
LABEL = "ndrepro.image.identifier"
# the prefixes of its variables, and of those the ones that change nothing of a container
_OWN = ("APPTAINER", "SINGULARITY")
_PLACES = tuple(f"{name}_{place}" for name in _OWN for place in ("CACHEDIR", "TMPDIR", "CONFIGDIR"))


def find(engine: str, image: str) -> Image:
    """The command's version, and the file's digest."""
    if not Path(image).is_file():
        raise ImageError(f"{image}: no such image file", "`make sif` writes one; or name another with --image")
    status, said = _own_answer("--version")
    if status or not said.split():
        raise EngineError(f"apptainer --version: exit code {status}", "see whether apptainer runs at all")
    digest = f"sha256:{file_digest(Path(image)).sha256}"
    # of variables for the inside the names alone: their values may be secrets
    passed = ", ".join(name if "ENV_" in name else f"{name}={os.environ[name]}" for name in _passed())
    return Image(said.split()[-1], digest, identifier(image) or digest, passed)


def identifier(image: str) -> str:
    """The digest of the configuration of the OCI image that the file was made from, as `make sif` labels it; or "".

    ``apptainer inspect`` would start the image's own shell, with the network and all variables of this process. Raises
    EngineError where Apptainer is not installed, or answers without end.
    """
    try:
        said = output("apptainer", image, Enclosure(("cat", "/.singularity.d/labels.json"), {}))[1]
        label = str(json.loads(said).get(LABEL, ""))
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"{image}: no answer within {error.timeout:.0f} s") from None
    except (ValueError, AttributeError, RecursionError):
        return ""
    return label if re.fullmatch("(sha256:)?[0-9a-f]{64}", label) else ""


def _own_answer(*words: str) -> tuple[int, str]:
    """Exit code and output of Apptainer's own, without what it warns of. Raises EngineError for one without end."""
    try:
        return answer([_program(), *words], _variables({}), errors=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"apptainer {words[0]}: no answer within {error.timeout:.0f} s") from None


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
    status, said = answer(words(image, enclosure), _variables(enclosure.variables))
    if status and "no space left on device" in said.lower():
        raise StorageError(f"apptainer: {said.strip().splitlines()[-1]}", "free some space, or set APPTAINER_TMPDIR")
    return status, said


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


def _passed() -> list[str]:
    """Variables of Apptainer that the user lets through. Raises UsageError for one that is not Apptainer's."""
    names = [name.strip() for name in os.environ.get(PASS, "").split(",") if name.strip()]
    for name in names:
        if not name.startswith(_OWN):
            raise UsageError(f"{PASS}: {name} is no variable of Apptainer's", "name those that begin with APPTAINER")
    return [name for name in names if name in os.environ]


def _variables(inside: Mapping[str, str]) -> dict[str, str]:
    """This process's variables for the command itself, and those that it sets in the container."""
    outside = engine_variables({*_passed(), *_PLACES})
    # SingularityCE hands in no other's; the home folder inside is Apptainer's own, in memory
    prefix = "APPTAINERENV_" if Path(_program()).name == "apptainer" else "SINGULARITYENV_"
    return {**outside, **{f"{prefix}{name}": value for name, value in inside.items() if name != "HOME"}}


def _program() -> str:
    found = next(filter(None, map(find_program, _NAMES)), None)
    if found is None:
        raise EngineError("apptainer is not installed, or not on PATH", "on a cluster, try `module load apptainer`")
    return found
