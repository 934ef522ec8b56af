"""Many manifests looked at: on every core at once, and a few hundred at a time, so that memory does not grow."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from ndrepro.analysis.results.columns import Row, row_of
from ndrepro.analysis.results.examine import Refused, examine
from provenance.attestation.trust import TrustedKey, TrustPolicy

# a worker process takes a quarter of a second to start, a manifest half a millisecond
_WORTH = 500
_BATCH = 200
# batches that wait for each worker: it never waits for work, and no more of it is in memory
_AHEAD = 3


def examine_all(paths: Iterator[bytes], count: int, policy: TrustPolicy) -> Iterator[list[Row | Refused]]:
    """What every one of ``count`` manifests is, batch by batch, in order; in worker processes where that pays.

    A script that reads scores outside ``if __name__ == "__main__"`` cannot have them, and is served by one.
    """
    batches = iter(lambda: list(islice(paths, _BATCH)), [])
    keys = tuple((key.pem, key.keyid, key.name, key.added) for key in tuple(policy.keys()))
    waiting: deque[list[bytes]] = deque()
    workers = min(os.cpu_count() or 1, count // _WORTH)
    if workers > 1:
        from concurrent.futures.process import BrokenProcessPool

        with suppress(BrokenProcessPool):
            yield from _in_processes(batches, waiting, workers, keys, policy.home)
    for batch in chain(waiting, batches):
        yield _examine_batch(batch, keys, policy.home)


def _in_processes(
    batches: Iterator[list[bytes]],
    waiting: deque[list[bytes]],
    workers: int,
    keys: tuple[tuple[str, str, str, str], ...],
    home: Path,
) -> Iterator[list[Row | Refused]]:
    """What came out of every batch; those in ``waiting`` were taken and have not been yielded."""
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor

    # spawned: a forked copy of a process with threads (of numpy, say) may hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        running: deque[Future[list[Row | Refused]]] = deque()
        while True:
            for batch in islice(batches, _AHEAD * workers - len(running)):
                waiting.append(batch)
                running.append(pool.submit(_examine_batch, batch, keys, home))
            if not running:
                return
            found = running.popleft().result()
            waiting.popleft()
            yield found


def _end_with_parent() -> None:
    """End this worker when the process that started it is killed; it would wait for work for ever."""
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _examine_batch(batch: list[bytes], keys: tuple[tuple[str, str, str, str], ...], home: Path) -> list[Row | Refused]:
    policy = TrustPolicy(home, None, tuple(TrustedKey(*key) for key in keys))
    keyids = {key.name: key.keyid for key in tuple(policy.keys())}
    found: list[Row | Refused] = []
    for path in batch:
        examined = examine(Path(os.fsdecode(path)), policy)
        result = examined.result
        found.append(result if isinstance(result, Refused) else row_of(examined, keyids))
    return found
