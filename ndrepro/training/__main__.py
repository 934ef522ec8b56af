"""The training child: ``python -m ndrepro.training RUN_DIR``.

The parent has made RUN_DIR with ``request.json`` in it (``ndrepro.protocol.messages.Request``) and has set every
variable that must precede the interpreter. The child

1. dies with its parent (Linux), so that nobody trains unrecorded: the kernel sees to it where the parent is its own
   (NDREPRO_PARENT_PID); in a container it waits for the run folder's lock, which the parent holds while it lives
   (NDREPRO_PARENT_LOCK);
2. sets the determinism level and seals what it sees: ``environment.json``, key "start";
3. reads the data, digesting every file: ``dataset.json``, ``dataset.sha256``;
4. builds the network, draws its weights or loads the checkpoint asked for: ``model.json``;
5. trains: ``trail.bin``, ``metrics.jsonl``, ``states.jsonl``, ``timing.jsonl``, ``checkpoints/``;
6. writes ``weights.safetensors``, seals again (key "end"), and says how it ended: ``result.json``.

SIGTERM or SIGINT: the step under way is finished, a checkpoint written, and the child ends with exit code 75, outcome
"interrupted"; once the outcome stands they change nothing. An error ends it with exit code 1, outcome "failed", and
its class, message and cure in ``result.json``; the traceback is on standard error. Exit code 0 means that every file
is there and whole. It never sees a signing key, and writes nowhere but in RUN_DIR (and the data folder, when data are
downloaded; the folder of digests, for photographs; the compiler's cache, for compile=true).

One of several processes knows its rank by torchrun's variables (``ndrepro.training.process_group``). Rank 0 writes
all of the above; another one writes ``result-rank-N.json``, if it fails, and nothing else. Every one ends with the exit
code.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import to_record
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import (
    EXIT_COMPLETED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    Request,
    Result,
    read_json,
    write_json,
)

_PR_SET_PDEATHSIG = 1
_STOPS = (signal.SIGTERM, signal.SIGINT)


def main(arguments: list[str]) -> int:
    """Run the request in the folder named on the command line; returns the exit code."""
    folder = RunFolder(Path(arguments[0]))
    die_with_parent()
    stop = StopFlag()
    progress: dict[str, Any] = {"epochs": 0, "steps": 0, "device": "unknown"}
    try:
        request = Request.from_json(read_json(folder.request))
        outcome = _train(request, folder, stop, progress)
        error = None
    except (Exception, KeyboardInterrupt) as failure:
        traceback.print_exc()
        outcome, error = "failed", to_record(failure)
    stop.close()
    result = Result(outcome, error=error, **progress).to_json()
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0:
        write_json(folder.result, result)
    elif outcome == "failed":
        write_json(folder.rank_result(rank), result)
    return {"completed": EXIT_COMPLETED, "interrupted": EXIT_INTERRUPTED, "failed": EXIT_FAILED}[outcome]


class StopFlag:
    """True once SIGTERM or SIGINT has come; the handler does nothing else. One that came before it has waited."""

    def __init__(self) -> None:
        self.raised = False
        for number in _STOPS:
            signal.signal(number, self._raise)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)

    def close(self) -> None:
        """From now on a stop is too late: one in the interpreter's last moments would kill it, its work done."""
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)

    def _raise(self, number: int, frame: object) -> None:
        self.raised = True

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.raised


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; a no-op where there is no such call."""
    lock = os.environ.pop("NDREPRO_PARENT_LOCK", None)
    if lock is not None:
        threading.Thread(target=_end_with_lock, args=(os.open(lock, os.O_RDWR),), daemon=True).start()
    parent = os.environ.pop("NDREPRO_PARENT_PID", None)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        # it ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)


def _end_with_lock(descriptor: int) -> None:
    """Wait until nobody holds the lock, then end at once; as a container's first process it cannot kill itself."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os._exit(128 + signal.SIGKILL)


def _train(request: Request, folder: RunFolder, stop: StopFlag, progress: dict[str, Any]) -> str:
    # torch is loaded only here, after the signal handlers stand
    gc.disable()
    from ndrepro.training import train_run
    from ndrepro.training.compute import determinism, memory

    memory.keep_freed()

    gc.freeze()  # what is imported stays: to look for garbage in it takes 0.7 s of an empty run
    gc.enable()
    with determinism.naming_operations(request.experiment.determinism):
        return train_run.train(request, folder, stop, progress)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
