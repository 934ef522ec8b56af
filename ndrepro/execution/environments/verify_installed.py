"""Compares what is installed in an environment with what should be: a lock's pins, and each wheel's RECORD.

Numbered, as the problems that they report:

1. every pinned distribution is installed, with the pinned version;
2. nothing is installed that is not pinned, and no metadata are left over or disagree;
3. every file that a RECORD lists is there with the listed digest;
4. there is no file that no RECORD lists.

3 and 4 find a library that was patched after it was installed: files are hard links into uv's cache, so an
edit in place reaches every environment on the machine. Python's own compiled files (``__pycache__``) are not
checked, and neither is a RECORD itself: a run's signed manifest holds the digest of each. Digests are remembered
(``provenance.formats.digest_cache``). Nothing else is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ndrepro.execution.environments.lockfile import Pin
from provenance.capture.distribution_metadata import RecordedFile, recorded_files
from provenance.capture.distributions import search
from provenance.errors import DigestError
from provenance.formats.digest_cache import DigestCache
from provenance.formats.folder_tree import walk


def problems_with_pins(site: Path, pins: Iterable[Pin]) -> Iterator[str]:
    """Checks 1 and 2: a sentence for each distribution in ``site`` (site-packages) that is not as pinned."""
    found = search([str(site)])
    installed = {name: metadata.version for name, metadata in found.installed.items()}
    pinned = {pin.name: pin.version for pin in pins}
    for name in sorted(pinned.keys() | installed.keys()):
        here, wanted = installed.get(name), pinned.get(name)
        if here is None:
            yield f"{name} {wanted} is in the lock and not installed"
        elif wanted is None:
            yield f"{name} {here} is installed and not in the lock"
        elif here != wanted:
            yield f"{name} {here} is installed, the lock has {wanted}"
    for name, reason in found.disagreements:
        yield f"{name} has metadata that disagree: {reason}"
    for metadata, reason in found.leftovers:
        yield f"{metadata.name} has leftover metadata, {metadata.place.name}: {reason}"


def problems_with_files(site: Path) -> Iterator[str]:
    """Checks 3 and 4: a sentence for each file in ``site`` that is not as a RECORD lists it."""
    listed: set[str] = set()
    cache = DigestCache(site)
    for record in sorted(site.glob("*.dist-info/RECORD")):
        owner = record.parent.name.removesuffix(".dist-info")
        for row in recorded_files(record.read_bytes()):
            listed.add(row.path)
            if problem := _problem(cache, row):
                yield f"{owner}: {row.path} {problem}"
    cache.save()
    for folder, _, names in walk(site):
        below = "" if folder == str(site) else f"{os.path.relpath(folder, site)}{os.sep}"
        if os.path.basename(folder) != "__pycache__":
            added = sorted(name for name in names if below + name not in listed)
            yield from (f"{below}{name} was added; no distribution lists it" for name in added)


def _problem(cache: DigestCache, row: RecordedFile) -> str:
    """What is wrong with a file that a RECORD lists; "" where it is as listed, or listed without a digest."""
    try:
        if not row.digest:
            return "" if (cache.top / row.path).is_file() else "is missing"
        if not row.sha256:
            return f"is listed with a digest that is no SHA-256 ({row.digest.partition('=')[0]}): not compared"
        return "" if cache.sha256(row.path) == row.sha256 else "is not the file that was installed"
    except FileNotFoundError:
        return "is missing"
    except (OSError, DigestError) as error:
        return f"cannot be read ({getattr(error, 'strerror', None) or error})"
