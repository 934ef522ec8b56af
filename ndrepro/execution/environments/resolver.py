"""Asks uv which releases satisfy requirements, under the user's and the system's own configuration alone."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable

from ndrepro.execution.environments.interpreters import run_uv
from ndrepro.protocol.errors import EnvironmentMissing
from provenance.formats.folder_tree import temporary_folder

_PLATFORM = f"{platform.machine()}-unknown-linux-gnu"


def resolve(
    requirements: Iterable[str], python: str, *options: str, preferring: str = "", timeout: float | None = None
) -> str:
    """The lock of some requirements for this platform and a Python ("3.11").

    Args:
        options: further ones of ``uv pip compile``.
        preferring: a lock whose pins are kept wherever the requirements leave a choice.
        timeout: seconds after which it counts as unresolved.

    Raises EnvironmentMissing, in uv's own words, where nothing satisfies them.
    """
    with temporary_folder("ndrepro-resolve-") as folder:
        source, output = folder / "wanted.in", folder / "wanted.lock"
        source.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
        output.write_text(preferring, encoding="utf-8")
        words = ["pip", "compile", "--quiet", "--no-header", *options]
        words += ["--python-version", python, "--python-platform", _PLATFORM]
        words += [source.name, "--output-file", output.name]
        try:
            answer = run_uv(*words, folder=folder, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise EnvironmentMissing(f"no answer within {timeout:.0f} s") from None
        if answer.returncode:
            raise EnvironmentMissing(" ".join(answer.stderr.split()))
        return output.read_text(encoding="utf-8")
