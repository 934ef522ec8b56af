"""Writes the locks, and checks the main one with a second resolver.

    python tools/locks.py write [--upgrade]   requirements.in, environments/*.in, tests/exports/validators/*.in → the
                                              .lock beside each
    python tools/locks.py check               exit 1 if pip-tools would not keep the main lock's pins

``write`` keeps the pins that a lock already has unless told to upgrade. The main lock serves Python 3.11 to
3.14 on Linux, x86-64 and aarch64; the cells of the version matrix serve x86-64 and one Python each, named in the first
line of their ``.in`` file. ``runtime.lock`` is the part of the main lock that the image has: what pyproject.toml asks
for recording and training, and what that needs.
``check`` starts pip-compile from the present pins and without hashes
(with them it would download every file of every pin): where the two resolvers agree nothing moves. It resolves for the
Python that runs it, and never writes into the tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker

from ndrepro.execution.environments.interpreters import uv_executable, uv_variables
from ndrepro.execution.environments.lockfile import read_pins
from ndrepro.execution.environments.matrix import python_of
from provenance.capture.distribution_metadata import normalized

ROOT = Path(__file__).resolve().parents[1]
SERVED = ("--universal", "--python-version", "3.11")
PLATFORM = "x86_64-unknown-linux-gnu"


def write(upgrade: bool) -> None:
    """Compile every ``.in`` file; raises CalledProcessError where uv finds no solution."""
    more = ["--upgrade"] if upgrade else []
    main, runtime = ROOT / "requirements.lock", ROOT / "runtime.lock"
    compile_lock(ROOT / "requirements.in", main, *SERVED, *more)
    # uv keeps the pins that it finds where it writes: those of the main lock. The installer stays out of images.
    shutil.copyfile(main, runtime)
    compile_lock(ROOT / "pyproject.toml", runtime, *SERVED, "--extra", "train", "--no-emit-package", "uv")
    for source in sorted((ROOT / "environments").glob("*.in")):
        python = python_of(source.read_text(encoding="utf-8"), source.name)
        lock = source.with_suffix(".lock")
        compile_lock(source, lock, "--python-version", python, "--python-platform", PLATFORM, *more)
        lock.write_text(f"# python: {python}\n" + lock.read_text(encoding="utf-8"), encoding="utf-8")
    validators = ROOT / "tests" / "exports" / "validators"
    for source in sorted(validators.glob("*.in")):
        compile_lock(source, source.with_suffix(".lock"), *SERVED, *more)
    # these are written by their own libraries: their environments have this package's dependencies too
    for extra in ("mlflow", "tensorboard"):
        compile_lock(ROOT / "pyproject.toml", validators / f"{extra}.lock", *SERVED, "--extra", extra, *more)


def compile_lock(source: Path, lock: Path, *options: str) -> None:
    """Have uv resolve ``source`` into ``lock``, every file with its hash."""
    command = [str(uv_executable()), "pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url", *options]
    command += ["--custom-compile-command", "make lock"]
    names = [str(source.relative_to(ROOT)), "--output-file", str(lock.relative_to(ROOT))]
    subprocess.run([*command, *names], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=uv_variables())
    print(f"{lock.relative_to(ROOT)}: {len(read_pins(lock.read_text(encoding='utf-8'), lock.name))} pins")


def pins_here(lock: str) -> dict[str, str]:
    """Name → version of the pins that apply to the Python that runs this."""
    pins = read_pins(lock, "requirements.lock")
    return {pin.name: pin.version for pin in pins if not pin.marker or Marker(pin.marker).evaluate()}


def resolve_again(requirements: str, pins: dict[str, str]) -> dict[str, str]:
    """The pins that pip-tools' resolver comes to, starting from ``pins``, out of sight of local wheels."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "requirements.in"), Path(folder, "requirements.txt")
        source.write_text(requirements, encoding="utf-8")
        output.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()), encoding="utf-8")
        options = ["--quiet", "--allow-unsafe", "--strip-extras", "--no-header", "--no-annotate"]
        options += ["--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"]
        variables = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        command = [
            sys.executable,
            "-m",
            "piptools",
            "compile",
            *options,
            "--output-file",
            str(output),
            str(source),
        ]
        subprocess.run(command, cwd=folder, check=True, env=variables, stdout=subprocess.DEVNULL)
        lines = [line.partition("==") for line in output.read_text(encoding="utf-8").splitlines() if "==" in line]
    return {normalized(name): version.split()[0] for name, _, version in lines}


def differences(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """One sentence for each distribution that the two resolvers pin differently."""
    return [
        f"{name}: requirements.lock has {ours.get(name, 'none')}, pip-compile {theirs.get(name, 'none')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def check() -> int:
    """Print the differences; 0 if there are none, else 1."""
    pins = pins_here((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    found = differences(pins, resolve_again((ROOT / "requirements.in").read_text(encoding="utf-8"), pins))
    print("\n".join(found) or f"pip-compile keeps all {len(pins)} pins for Python {sys.version.split()[0]}")
    return 1 if found else 0


def main(arguments: list[str]) -> int:
    """The command line above; 2 for a wrong one."""
    if arguments == ["check"]:
        return check()
    if arguments in (["write"], ["write", "--upgrade"]):
        write(upgrade="--upgrade" in arguments)
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
