"""Compares what is installed in an environment with what should be: a lock's pins, and each wheel's RECORD.

Numbered, as the problems that they report:

1. every pinned distribution is installed, with the pinned version;
2. nothing is installed that is not pinned;
3. every file that a RECORD lists is there with the listed sha256;
4. there is no file that no RECORD lists.

3 and 4 find a library that was patched after it was installed: files are hard links into uv's cache, so an
edit in place reaches every environment on the machine. Python's own compiled files (``__pycache__``) are not
checked, and neither is a RECORD itself: a run's signed manifest holds the digest of each. It reads; it
changes nothing.
"""

from __future__ import annotations

import base64
import csv
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ndrepro.execution.environments.lockfile import Pin, normalized


def problems_with_pins(site: Path, pins: Iterable[Pin]) -> Iterator[str]:
    """Checks 1 and 2: a sentence for each distribution in ``site`` (site-packages) that is not as pinned."""
    installed = dict(_name_and_version(info) for info in site.glob("*.dist-info"))
    pinned = {pin.name: pin.version for pin in pins}
    for name in sorted(pinned.keys() | installed.keys()):
        here, wanted = installed.get(name), pinned.get(name)
        if here is None:
            yield f"{name} {wanted} is in the lock and not installed"
        elif wanted is None:
            yield f"{name} {here} is installed and not in the lock"
        elif here != wanted:
            yield f"{name} {here} is installed, the lock has {wanted}"


def problems_with_files(site: Path) -> Iterator[str]:
    """Checks 3 and 4: a sentence for each file in ``site`` that is not as a RECORD lists it."""
    listed: set[Path] = set()
    for record in sorted(site.glob("*.dist-info/RECORD")):
        owner = record.parent.name.removesuffix(".dist-info")
        with record.open(newline="", encoding="utf-8") as lines:
            for name, digest, _ in csv.reader(lines):
                path = Path(site, name)
                listed.add(path)
                if not path.is_file():
                    yield f"{owner}: {name} is missing"
                elif digest and _record_digest(path, digest.partition("=")[0]) != digest:
                    yield f"{owner}: {name} is not the file that was installed"
    for path in sorted(site.rglob("*")):
        if path not in listed and not path.is_dir() and path.parent.name != "__pycache__":
            yield f"{path.relative_to(site)} was added; no distribution lists it"


def _name_and_version(info: Path) -> tuple[str, str]:
    """From the folder's name, ``NAME-VERSION.dist-info``: neither part may hold a hyphen there."""
    name, _, version = info.name.removesuffix(".dist-info").partition("-")
    return normalized(name), version


def _record_digest(path: Path, algorithm: str) -> str:
    """The file's digest as RECORD writes it: ``sha256=`` and URL-safe base64 without padding."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, algorithm).digest()
    return f"{algorithm}={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
