"""Writes a lock for machines without a GPU: ``python tools/cpu_lock.py WHEELHOUSE LOCK``.

It is runtime.lock but for torch: its CPU build is a fifth of the size, needs none of the CUDA libraries, and is
published beside the other builds under the local version ``+cpu``. pip is asked for it wherever pip is set up to look,
and its hash is that of the file found. Where pip finds none, the lock is runtime.lock itself, CUDA libraries and all,
which works anywhere and costs some gigabytes.

torchvision is left out beside the CPU build: the release that is pinned belongs to the CUDA build, and no network for
small images needs it. Every wheel of the lock is put into WHEELHOUSE, so that an image can be built without a network.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ndrepro.execution.environments.lockfile import normalized

ROOT = Path(__file__).resolve().parents[1]
# what belongs to the CUDA build
CUDA_ONLY = {"torchvision", "triton"}
ENTRY = re.compile(r"^([A-Za-z0-9_.-]+)==\S+(?: ;.*?)? \\?\n(?:(?:    .*)\n)*", re.MULTILINE)


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


def _for_cuda(name: str) -> bool:
    """Whether the CPU build does without it; nvidia-ml-py asks the driver, not CUDA."""
    libraries = name.startswith(("cuda-", "nvidia-")) and name != "nvidia-ml-py"
    return libraries or name == "torch" or name in CUDA_ONLY


def pip(*arguments: str) -> bool:
    """Run pip as this machine has it set up; whether it succeeded."""
    return subprocess.run([sys.executable, "-m", "pip", *arguments], stderr=subprocess.DEVNULL).returncode == 0


def write(wheelhouse: Path, target: Path) -> None:
    """Write the lock and fetch its wheels. Raises CalledProcessError where one cannot be had."""
    wheelhouse.mkdir(parents=True, exist_ok=True)
    lock = (ROOT / "runtime.lock").read_text(encoding="utf-8")
    torch = cpu_torch(lock, wheelhouse)
    pins = [text for name, text in entries(lock) if torch is None or not _for_cuda(name)]
    target.write_text("".join([*pins, torch or ""]), encoding="utf-8")
    fetch = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    words = [*fetch, "--find-links", str(wheelhouse), "--dest", str(wheelhouse), "-r", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    print(f"{target}: {len(pins) + bool(torch)} pins, torch {'for the CPU' if torch else 'with CUDA'}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write(Path(sys.argv[1]), Path(sys.argv[2]))
