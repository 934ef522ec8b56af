"""What a short command says whose image is somebody else's: bounded in time and in size."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from ndrepro.execution.containers.container_spec import ANSWER_BYTES, ANSWER_SECONDS
from ndrepro.protocol.errors import EngineError


def answer(words: Sequence[str], variables: Mapping[str, str], *, errors: int = subprocess.STDOUT) -> tuple[int, str]:
    """The exit code and what was printed, errors among it unless they go to ``errors``, as subprocess takes it.

    Raises EngineError for more than ANSWER_BYTES, subprocess.TimeoutExpired after ANSWER_SECONDS; the command and all
    of its session's first group are killed then.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    with subprocess.Popen(
        words,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    ) as process:
        try:
            said = _read(process, deadline)
            return process.wait(max(0.0, deadline - time.monotonic())), said.decode("utf-8", "replace")
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _read(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert process.stdout is not None
    said, poll = bytearray(), select.poll()
    poll.register(process.stdout)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        piece = os.read(process.stdout.fileno(), 1 << 16)
        if not piece:
            return bytes(said)
        said += piece
        if len(said) > ANSWER_BYTES:
            raise EngineError(
                f"the container prints more than {ANSWER_BYTES >> 20} MiB where some lines were asked for",
                "use an image made by `make image`",
            )
    raise subprocess.TimeoutExpired(process.args, ANSWER_SECONDS)
