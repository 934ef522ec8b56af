"""What every container engine is asked for, and what it answers with; the engines' modules share nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

# a training process and its threads; a runaway that forks without end meets this
PROCESSES = 4096
# a short command may take so long, on a busy machine too; an image of somebody else's may never answer
ANSWER_SECONDS = 600
# of what it prints
ANSWER_BYTES = 1 << 24


@dataclass(frozen=True)
class Image:
    """An image as an engine has it: the engine's version, the digests of its manifest and of its configuration.

    ``host_variables`` are the engine's own variables of this machine that were let through.
    """

    engine_version: str
    digest: str
    identifier: str
    host_variables: str = ""


@dataclass(frozen=True)
class Enclosure:
    """A command in a container: its variables, the paths that it may write or read, whether it gets the GPUs.

    Every path is absolute and the same inside. ``log`` takes its output; ``label`` names the container for people.
    """

    command: tuple[str, ...]
    variables: Mapping[str, str]
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    gpu: bool = False
    log: Path | None = None
    label: str = ""
    memory_bytes: int = field(default_factory=lambda: memory_limit())


class Process(Protocol):
    """The part of subprocess.Popen that the child's parent uses."""

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, -n for signal n. Raises subprocess.TimeoutExpired."""

    def poll(self) -> int | None:
        """The exit code once it is over."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it is over."""

    def kill(self) -> None:
        """Send SIGKILL, unless it is over."""


def memory_limit() -> int:
    """Nine tenths of the machine's memory: a container that wants more is killed before the machine is."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10 * 9
