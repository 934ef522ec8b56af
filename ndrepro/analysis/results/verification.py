"""Every run's manifest below a folder, verified: on every core where that pays, and out of the cache where it may."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ndrepro.analysis.results.examine import Examined, Refused, examine
from ndrepro.analysis.results.manifest_cache import ManifestCache
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.run_files import MANIFEST
from provenance.attestation.trust import TrustPolicy
from provenance.errors import StorageError
from provenance.ledger_entries.summary import LedgerSummary

# called with how many manifests were verified, and of how many
Watch = Callable[[int, int], object]

_REQUEST = RunFolder(Path()).request.name
# runs/EXPERIMENT/RUN: a folder of kept runs may lie one deeper
_DEPTH = 4
# a worker process takes a quarter of a second to start, a manifest half a millisecond
_WORTH = 500
_CHUNK = 50
# no more than so many wait for a worker, or for who asked for them
_AHEAD = 20_000


@dataclass(frozen=True)
class ReadLedger:
    """A ledger that was read, and its path."""

    path: Path
    summary: LedgerSummary

    def mark(self, item: Examined, cache: ManifestCache) -> str:
        """What the ledger nearest to a run says of it, which its checks read too; "" where that may change unseen."""
        nearest = RunFolder(item.path.parent).ledger
        if nearest == self.path:
            return json.dumps([list(vars(found).values()) for found in self.summary.of_run(item.run_id)])
        return "no ledger" if nearest is None else cache.stamp(nearest)


def examine_folder(
    folder: Path, policy: TrustPolicy, cache: ManifestCache, watch: Watch, *, ledger: ReadLedger
) -> list[Examined]:
    """Every manifest at or below a folder, in the order of their paths, with the ledger that was read before.

    Raises StorageError for a folder that cannot be listed.
    """
    found: dict[Path, Examined | None] = {}
    stamps: dict[Path, str] = {}
    for path in manifest_files(folder):
        # before the files are read: a later change then shows
        stamp = cache.stamp(path)
        document = cache.get(path, stamp)
        known = None if document is None else Examined.from_json(path, document["run"])
        found[path] = known if known and document["ledger"] == ledger.mark(known, cache) else None
        if found[path] is None:
            stamps[path] = stamp
    for done, examined in enumerate(_examine_all(list(stamps), policy), 1):
        found[examined.path] = examined
        if not isinstance(examined.result, Refused) and (mark := ledger.mark(examined, cache)):
            cache.put(examined.path, stamps[examined.path], {"run": examined.to_json(), "ledger": mark})
        watch(done, len(stamps))
    return [examined for examined in found.values() if examined is not None]


def manifest_files(folder: Path) -> Iterator[Path]:
    """Every run's manifest at or below a folder, in the order of their paths; those of a run's earlier attempts not.

    Raises StorageError for a folder that cannot be listed.
    """
    return iter([folder]) if folder.is_file() else map(Path, _walk(os.fspath(folder), _DEPTH))


def _walk(folder: str, depth: int) -> Iterator[str]:
    # texts, not paths: they take half the time, and there may be a hundred thousand
    manifest = f"{folder}/{MANIFEST}"
    if os.path.lexists(manifest):
        yield manifest
    elif depth and not os.path.lexists(f"{folder}/{_REQUEST}"):
        try:
            with os.scandir(folder) as entries:
                inside = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError as error:
            raise StorageError(f"{folder}: cannot be listed ({error.strerror})") from None
        for path in inside:
            yield from _walk(path, depth - 1)


def _examine_all(paths: list[Path], policy: TrustPolicy) -> Iterator[Examined]:
    """What every manifest is, in order.

    A script that reads scores outside ``if __name__ == "__main__"`` cannot have workers, and is served without.
    """
    done = 0
    workers = min(len(os.sched_getaffinity(0)), len(paths) // _WORTH)
    if workers > 1:
        with suppress(BrokenProcessPool):
            for examined in _in_processes(paths, workers, partial(examine, policy=policy)):
                done += 1
                yield examined
    yield from (examine(path, policy) for path in paths[done:])


def _in_processes(paths: Iterable[Path], workers: int, function: Callable[[Path], Examined]) -> Iterator[Examined]:
    # spawned: a forked copy of a process with threads (of numpy, say) may hang
    context = multiprocessing.get_context("spawn")
    left = iter(paths)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        while ahead := list(islice(left, _AHEAD)):
            yield from pool.map(function, ahead, chunksize=_CHUNK)


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
