"""Finds Python interpreters on this machine, and the uv that builds environments for them.

An interpreter counts only when it has been run and has said what it is: version managers put shims on the
PATH that exist for every version and fail for most. Nothing is installed here. None is run that git tracks, or of whose
environment git tracks a part: it may be a stranger's, whose clone the reviewer has made an environment in.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from ndrepro.protocol import extras
from ndrepro.protocol.errors import EnvironmentMissing, UsageError
from provenance.code.foreign_code import START_MODULES
from provenance.formats.folder_tree import temporary_folder
from provenance.git.helper_programs import find_program, helper_variables, is_tracked
from provenance.git.tracked_paths import tracked
from provenance.toml_file import read_toml

# Where Debian's and Red Hat's families keep the certificate authorities of the machine.
_AUTHORITIES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")

# uv's variables, and settings of the same names, that say where packages come from and where uv keeps what is its own.
# Others decide where it installs, whether it builds them, and that it starts the new environment's Python
_OF_UV = re.compile(
    r"UV_((DEFAULT_|NO_)?INDEX|INDEX_\w+|EXTRA_INDEX_URL|FIND_LINKS|KEYRING_PROVIDER|CREDENTIALS_DIR|TORCH_BACKEND|"
    r"EXCLUDE_NEWER|PRERELEASE|CACHE_DIR|NO_CACHE|OFFLINE|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS|HTTP_\w+|"
    r"REQUEST_TIMEOUT|CONCURRENT_\w+|PYTHON_(INSTALL_DIR|CACHE_DIR|DOWNLOADS))"
)
_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
_WHO_ARE_YOU = (
    "import platform, sys; "
    "print(platform.python_implementation(), '%d.%d' % sys.version_info[:2], sys.executable, sep='\\n')"
)


def uv_executable() -> Path:
    """The uv of this environment (it is in requirements.lock), unless git tracks it, else the PATH's; raises
    MissingExtra."""
    beside = Path(sys.executable).with_name("uv")
    own = beside.is_file() and not is_tracked(str(beside))
    found = str(beside) if own else find_program("uv")
    if found is None:
        raise extras.missing("uv")
    return Path(found)


def uv_variables() -> dict[str, str]:
    """This process's variables, of uv's those on packages and its cache alone, with uv set to trust the certificate
    authorities of this machine."""
    given = helper_variables(os.environ).items()
    variables = {name: value for name, value in given if not name.startswith("UV_") or _OF_UV.fullmatch(name)}
    if any(Path(store).is_file() for store in _AUTHORITIES):
        variables.setdefault("UV_SYSTEM_CERTS", "true")
    return variables


def run_uv(
    *words: str, folder: Path | None = None, timeout: float | None = None, pass_fds: Collection[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run uv in a folder, a private one where none is named, with no settings but the user's own and the system's on
    where packages come from.

    By itself uv reads the nearest uv.toml or pyproject.toml of its folder and those above it, which may be somebody's
    clone; and the user's may name another place to install to, or packages to be built. Paths among ``words`` are
    absolute. Raises UsageError for a file of settings that cannot be read.
    """
    with temporary_folder("ndrepro-uv-") as place:
        settings = place / "settings.toml"
        settings.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in _settings().items()), "utf-8")
        return subprocess.run(
            [str(uv_executable()), "--config-file", str(settings), *words],
            env=uv_variables(),
            cwd=folder or place,
            capture_output=True,
            text=True,
            timeout=timeout,
            pass_fds=pass_fds,
        )


def _settings() -> dict[str, Any]:
    """The user's own settings of uv, and where they say nothing the system's, on where packages come from.

    Source: https://docs.astral.sh/uv/concepts/configuration-files/
    """
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    system = os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)
    files = [os.path.join(folder, "uv", "uv.toml") for folder in ("/etc", *reversed(system), own)]
    if named := os.environ.get("UV_CONFIG_FILE"):
        files = [named]
    found: dict[str, Any] = {}
    of_pip: dict[str, Any] = {}
    for path in map(Path, filter(os.path.isabs, files)):
        if path.exists() and not os.environ.get("UV_NO_CONFIG"):
            document = read_toml(path, "https://docs.astral.sh/uv/reference/settings/")
            found |= _on_packages(document)
            of_pip |= _on_packages(document.get("pip"))
    return {**found, "pip": of_pip}


def _on_packages(table: Any) -> dict[str, Any]:
    items = table.items() if isinstance(table, dict) else ()
    return {name: value for name, value in items if _OF_UV.fullmatch(_variable(name))}


def _variable(setting: str) -> str:
    return f"UV_{setting.removeprefix('allow-').replace('-', '_').upper()}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(name)} = {_toml(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False, default=str)


def find_python(version: str) -> Path:
    """A CPython of ``version`` ("3.10") that runs: this one, the PATH's, pyenv's, or one that uv knows.

    Looked for in this order; raises EnvironmentMissing if none of them has one, MissingExtra where there is no uv. What
    is no version is none of a program's names, of a pattern of files, or of uv's options.
    """
    if not _VERSION.fullmatch(version):
        raise EnvironmentMissing(f"{version[:100]!r}: no version of Python", "expected one such as 3.11")
    for candidate in _candidates(version):
        executable = _identify(candidate, version)
        if executable is not None:
            return executable
    raise EnvironmentMissing(
        f"no working CPython {version} on the PATH, among pyenv's versions or known to uv",
        f"install one: uv python install {version}, or pyenv install {version}",
    )


def expect_untracked(python: Path) -> None:
    """Raise UsageError where git tracks an interpreter, the file that it leads to, or what it executes at its start."""
    for each in {python.absolute(), python.resolve()}:
        root = each.parent.parent
        libraries = [*root.glob("lib*/python*")]
        for top, name in tracked([each, root / "pyvenv.cfg", *libraries, *_started_by(libraries)]):
            raise UsageError(
                f"{python}: not executed: the repository {top} tracks {name}, so its commits decide what it does",
                "make an environment of your own outside of the repository, and put it first on the PATH",
            )


def _started_by(libraries: Iterable[Path]) -> Iterator[Path]:
    """The modules that Python executes at its start in the folders that ``.pth`` files name, as of projects that are
    installed editable."""
    for lines in (path for folder in libraries for path in folder.glob("*-packages/*.pth") if path.is_file()):
        for line in lines.read_bytes().splitlines():
            folder = Path(os.fsdecode(line.strip()))
            if folder.is_absolute() and folder.is_dir():
                yield from (path for name in START_MODULES for path in folder.glob(f"{name}*"))


def _candidates(version: str) -> Iterator[Path]:
    yield Path(sys.executable)
    # of the current folder, which may be somebody else's, nothing is started
    for folder in filter(os.path.isabs, os.get_exec_path()):
        yield from (Path(folder, name) for name in (f"python{version}", "python3", "python"))
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    yield from sorted(Path(pyenv, "versions").glob(f"{version}*/bin/python{version}"))
    # its own alone: it would run each of the PATH
    own = ("--system", "--python-preference", "only-managed", "--no-python-downloads", "--no-project")
    answer = run_uv("python", "find", *own, version)
    if answer.returncode == 0:
        yield Path(answer.stdout.strip())


def _identify(candidate: Path, version: str) -> Path | None:
    """The interpreter behind ``candidate`` if it runs and is a CPython of ``version``, else None."""
    if not os.access(candidate, os.X_OK):
        return None
    try:
        expect_untracked(candidate)
        answer = subprocess.run(
            [candidate, "-I", "-c", _WHO_ARE_YOU], capture_output=True, text=True, timeout=300, check=True
        )
        implementation, found, executable = answer.stdout.splitlines()
    except (OSError, ValueError, subprocess.SubprocessError, UsageError):
        return None
    return Path(executable) if (implementation, found) == ("CPython", version) else None
