"""Writes a lock for machines without a GPU: ``python tools/cpu_lock.py WHEELS LOCK [--python VERSION …]``.

It is runtime.lock but for torch: its CPU build is a fifth of the size, needs none of the CUDA libraries, and is
published beside the other builds under the local version ``+cpu``. pip is asked for it wherever pip is set up to look,
and its hashes are those of the files found: one for each ``--python``, which is the Python of the base image (3.11 in
Debian bookworm, 3.12 in Ubuntu 24.04; otherwise the one that runs this). Where pip finds none, the lock is runtime.lock
itself, CUDA libraries and all, which works anywhere and costs some gigabytes. For an image of another processor,
``--platform linux/arm64`` asks for that one's wheels; nothing is emulated here.

torchvision is left out beside the CPU build: the release that is pinned belongs to the CUDA build, and no network for
small images needs it. Every wheel of the lock is put into WHEELS, so that an image can be built without an index
(``tools/image.py build --lock LOCK --wheels WHEELS``).
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import platform_tags

from provenance.capture.distribution_metadata import normalized

ROOT = Path(__file__).resolve().parents[1]
# what belongs to the CUDA build
CUDA_ONLY = {"torchvision", "triton"}
# as builders of images name processors, and as wheels do
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
ENTRY = re.compile(r"^([A-Za-z0-9_.-]+)==\S+(?: ;.*?)? \\?\n(?:(?:    .*)\n)*", re.MULTILINE)


def entries(lock: str) -> Iterator[tuple[str, str]]:
    """Normalized name and full text of each pin of a lock."""
    for match in ENTRY.finditer(lock):
        yield normalized(match[1]), match[0]


def cpu_torch(lock: str, wheels: Path, pythons: Sequence[str], machine: str) -> str | None:
    """The pin of torch's CPU build, whose wheels are put into ``wheels``; None where pip finds none for a Python."""
    version = re.search(r"(?m)^torch==(\S+)", lock)
    assert version is not None
    pin = f"torch=={version[1]}+cpu"
    for python in pythons:
        if not download(wheels, python, machine, "--no-deps", pin):
            print(f"{pin}: pip finds no wheel for Python {python}", file=sys.stderr)
            return None
    hashes = sorted(_sha256(wheel) for wheel in wheels.glob(f"torch-{version[1]}+cpu-*_{machine}.whl"))
    return " \\\n".join([pin, *(f"    --hash=sha256:{each}" for each in hashes)]) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _for_cuda(name: str) -> bool:
    """Whether the CPU build does without it; nvidia-ml-py asks the driver, not CUDA."""
    libraries = name.startswith(("cuda-", "nvidia-")) and name != "nvidia-ml-py"
    return libraries or name == "torch" or name in CUDA_ONLY


def download(wheels: Path, python: str, machine: str, *arguments: str) -> bool:
    """Have pip, as this machine has it set up, put wheels for a Python and processor into a folder; if it succeeded."""
    tags = (tag.replace(platform.machine(), machine) for tag in platform_tags())
    platforms = [word for tag in tags for word in ("--platform", tag)]
    target = ["--only-binary", ":all:", "--python-version", python, *platforms]
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels), *target, *arguments]
    return subprocess.run(words).returncode == 0


def for_python(text: str, python: str, machine: str) -> str | None:
    """A pin without its marker, where that holds for a Python and processor; pip would ask those that run it."""
    written, separator, rest = text.partition(" \\\n")
    requirement = Requirement(written)
    if requirement.marker and not requirement.marker.evaluate(
        {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
    ):
        return None
    return f"{requirement.name}{requirement.specifier}{separator}{rest}"


def write(wheels: Path, target: Path, pythons: Sequence[str], machine: str) -> None:
    """Write the lock and fetch its wheels."""
    wheels.mkdir(parents=True, exist_ok=True)
    lock = (ROOT / "runtime.lock").read_text(encoding="utf-8")
    torch = cpu_torch(lock, wheels, pythons, machine)
    pins = [text for name, text in entries(lock) if torch is None or not _for_cuda(name)] + ([torch] if torch else [])
    target.write_text("".join(pins), encoding="utf-8")
    for python in pythons:
        with tempfile.NamedTemporaryFile("w", suffix=".lock") as file:
            file.write("".join(text for pin in pins if (text := for_python(pin, python, machine))))
            file.flush()
            if not download(
                wheels, python, machine, "--no-deps", "--require-hashes", "--find-links", str(wheels), "-r", file.name
            ):
                sys.exit(
                    f"error: {target}: pip cannot fetch its wheels for Python {python}: see above\n"
                    "  hint: set pip up to find them (its index-url or find-links), then repeat the command"
                )
    print(f"{target}: {len(pins)} pins, torch {'for the CPU' if torch else 'with CUDA'}, Python {', '.join(pythons)}")


def main() -> None:
    """The command line above."""
    parser = argparse.ArgumentParser(prog="python tools/cpu_lock.py", description=__doc__.splitlines()[0])
    parser.add_argument("wheels", type=Path, metavar="WHEELS", help="the folder for the wheels")
    parser.add_argument("lock", type=Path, metavar="LOCK", help="the file to write")
    parser.add_argument("--python", action="append", metavar="VERSION", help="of the base image, e.g. 3.12; repeatable")
    parser.add_argument("--platform", choices=tuple(MACHINES), help="of the image; by default this machine's")
    given = parser.parse_args()
    pythons = given.python or [f"{sys.version_info.major}.{sys.version_info.minor}"]
    write(given.wheels, given.lock, pythons, MACHINES.get(given.platform, platform.machine()))


if __name__ == "__main__":
    main()
