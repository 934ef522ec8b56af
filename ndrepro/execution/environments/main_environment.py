"""The environment that ndrepro itself runs in: compared with requirements.lock, and with what was installed."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from ndrepro.execution.environments.lockfile import Pin, read_pins
from ndrepro.execution.environments.verify_installed import problems_with_files, problems_with_pins
from ndrepro.protocol.project_folders import CODE

# what it holds beside its lock: the installers, and this project itself
_NOT_LOCKED = {"pip", "setuptools", "wheel", "ndrepro"}


def locked_pins() -> tuple[Pin, ...] | None:
    """The pins of requirements.lock that are for this Python and platform; None where there is no lock."""
    from packaging.markers import Marker

    lock = CODE / "requirements.lock"
    if not lock.is_file():
        return None
    pins = read_pins(lock.read_text(encoding="utf-8"), lock.name)
    return tuple(pin for pin in pins if not pin.marker or Marker(pin.marker).evaluate())


def pin_problems(pins: tuple[Pin, ...]) -> tuple[str, ...]:
    """A sentence for each distribution that is not as it is pinned."""
    found = problems_with_pins(_site(), pins)
    return tuple(sentence for sentence in found if sentence.split()[0] not in _NOT_LOCKED)


def file_problems() -> tuple[str, ...]:
    """A sentence for each file that is not as it was installed: seconds the first time, then what changed alone."""
    # bootstrap.sh writes the link by which this project is installed
    return tuple(sentence for sentence in problems_with_files(_site()) if not sentence.startswith("ndrepro-"))


def _site() -> Path:
    return Path(sysconfig.get_path("purelib"))
