"""What a node has, seen from a task on it: ``python -m ndrepro.execution.slurm.probe FOLDER NUMBER [SCRATCH]``.

Two tasks, 0 and 1, write ``FOLDER/NUMBER.json``; ``cluster_check`` reads them. The first holds a lock in the folder,
the second tries to take it: where it can, the ledger would not be safe on that file system.
"""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ndrepro.execution.slurm.staging import staged
from ndrepro.protocol.messages import write_json
from provenance.capture import gpu
from provenance.errors import ProvenanceError
from provenance.git.helper_programs import find_program

_PATIENCE_SECONDS = 30.0


def main(words: list[str]) -> int:
    """Write what is seen."""
    folder, number, scratch = Path(words[0]), int(words[1]), words[2] if len(words) > 2 else ""
    lock = _hold(folder) if number == 0 else _try(folder)
    found = {
        "host": socket.gethostname(),
        "seconds": time.time(),
        "python": sys.version.split()[0],
        "lock": lock,
        "user_namespaces": _has_user_namespaces(),
        "gpus": len(gpu.capture().get("devices", ())),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "scratch": _scratch(folder, scratch),
    }
    write_json(folder / f"{number}.json", found)
    return 0


def _has_user_namespaces() -> bool:
    unshare = find_program("unshare")
    return unshare is not None and not subprocess.run([unshare, "--user", "true"], capture_output=True).returncode


def _hold(folder: Path) -> str:
    """Hold the lock until the other task has tried it."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.lockf(lock, fcntl.LOCK_EX, 1)
        (folder / "held").touch()
        return "held" if _wait(folder / "tried") else "alone"


def _try(folder: Path) -> str:
    """Try it while the other task holds it: "refused" is as it has to be."""
    if not _wait(folder / "held"):
        return "alone"
    with (folder / "lock").open("r+") as lock:
        taken = [_takes(lambda: fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB))]
        taken.append(_takes(lambda: fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)))
    (folder / "tried").touch()
    return "taken" if any(taken) else "refused"


def _takes(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _wait(path: Path) -> bool:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        os.listdir(path.parent)  # some network file systems remember that a file was not there
        if path.exists():
            return True
        time.sleep(0.5)
    return False


def _scratch(folder: Path, scratch: str) -> str:
    """Where a copy of a small file in the node's scratch folder is, or why there is none."""
    if not scratch:
        return ""
    try:
        return str(staged(folder / "small", scratch))
    except (ProvenanceError, OSError) as error:
        return f"error: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
