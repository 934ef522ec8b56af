"""Writes a lock for machines without a GPU: ``python tools/cpu_lock.py WHEELHOUSE LOCK``.

It holds what the packages import (``dependencies`` of pyproject.toml, with all that they need) in the versions and
with the hashes of requirements.lock, but for torch: its CPU build is a fifth of the size, needs none of the CUDA
libraries, and is published beside the other builds under the local version ``+cpu``. pip is asked for it wherever pip
is set up to look, and its hash is that of the file found. Where pip finds none, the lock has torch as it is in
requirements.lock, CUDA libraries and all, which works anywhere and costs some gigabytes.

torchvision is left out beside the CPU build: the release that is pinned belongs to the CUDA build, and no network for
small images needs it. Every wheel of the lock is put into WHEELHOUSE, so that an image can be built without a network.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from ndrepro.execution.lockfile import normalized

ROOT = Path(__file__).resolve().parents[1]
# what the image's tests do without: the installer, and what belongs to the CUDA build
LEFT_OUT = {"uv"}
CUDA_ONLY = {"torchvision", "triton"}
ENTRY = re.compile(r"^([A-Za-z0-9_.-]+)==\S+(?: ;.*?)? \\?\n(?:(?:    .*)\n)*", re.MULTILINE)


def closure(roots: list[str]) -> set[str]:
    """Normalized names of ``roots`` and of all that they need on this platform, by what is installed here."""
    found: set[str] = set()
    waiting = [Requirement(root) for root in roots]
    while waiting:
        requirement = waiting.pop()
        name = normalized(requirement.name)
        if name in LEFT_OUT:
            continue
        extras = requirement.extras or {""}
        needed = [Requirement(text) for text in requires(name) or []]
        fresh = [each for each in needed if any(_applies(each, extra) for extra in extras)]
        if name not in found or requirement.extras:
            found.add(name)
            waiting += [each for each in fresh if normalized(each.name) not in found or each.extras]
    return found


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def entries(lock: str) -> Iterator[tuple[str, str]]:
    """Normalized name and full text of each pin of a lock."""
    for match in ENTRY.finditer(lock):
        yield normalized(match[1]), match[0]


def cpu_torch(lock: str, wheelhouse: Path) -> str | None:
    """The pin of torch's CPU build, whose wheel is put into ``wheelhouse``; None where pip finds none."""
    version = re.search(r"(?m)^torch==(\S+)", lock)
    assert version is not None
    pin = f"torch=={version[1]}+cpu"
    if not pip("download", "--quiet", "--no-deps", "--dest", str(wheelhouse), pin):
        return None
    wheel = next(wheelhouse.glob("torch-*+cpu*.whl"))
    with wheel.open("rb") as stream:
        return f"{pin} \\\n    --hash=sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}\n"


def pip(*arguments: str) -> bool:
    """Run pip as this machine has it set up; whether it succeeded."""
    return subprocess.run([sys.executable, "-m", "pip", *arguments], stderr=subprocess.DEVNULL).returncode == 0


def write(wheelhouse: Path, target: Path) -> None:
    """Write the lock and fetch its wheels. Raises CalledProcessError where one cannot be had."""
    wheelhouse.mkdir(parents=True, exist_ok=True)
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    roots = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    torch = cpu_torch(lock, wheelhouse)
    wanted = closure(roots)
    if torch is not None:
        wanted -= CUDA_ONLY | {name for name in wanted if name.startswith(("cuda-", "nvidia-")) and "ml-py" not in name}
        wanted.discard("torch")
    pins = [text for name, text in entries(lock) if name in wanted]
    target.write_text("".join([*pins, torch or ""]), encoding="utf-8")
    fetch = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    words = [*fetch, "--find-links", str(wheelhouse), "--dest", str(wheelhouse), "-r", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    print(f"{target}: {len(pins) + bool(torch)} pins, torch {'for the CPU' if torch else 'with CUDA'}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write(Path(sys.argv[1]), Path(sys.argv[2]))
