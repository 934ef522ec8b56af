"""One manifest looked at on its own: verified, and what it says taken out of it; many of them on all cores at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ndrepro.analysis.extract import NoScore, Score, experiment_of, score_of
from provenance.digest import bytes_digest
from provenance.trust import TrustedKey, TrustPolicy
from provenance.verify import Verdict, verify

# a worker process takes a quarter of a second to start, a manifest a millisecond
_WORTH = 500
_BATCH = 200


@dataclass(frozen=True)
class Refused:
    """A manifest whose numbers are not taken, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Unfinished:
    """A verified manifest of a run that did not complete."""

    run_id: str
    folder: Path
    name: str
    outcome: str
    signer: str


@dataclass(frozen=True)
class Examined:
    """One manifest looked at on its own: what it is, and what the ledger is to be asked about it."""

    path: str
    result: Score | Unfinished | Refused
    run_id: str = ""
    began: tuple[int, str] = (0, "")
    digest: str = ""
    outcome: str = ""


def examine(path: Path, policy: TrustPolicy, deep: bool = False) -> Examined:
    """Verify one manifest, and take its score out of it. Never raises for what the manifest is."""
    try:
        digest = bytes_digest(path.read_bytes())
    except OSError as error:
        return Examined(str(path), Refused(path, f"cannot be read ({error.strerror})"))
    verdict = verify(path.parent if deep else path, trust=policy, manifest_only=not deep)
    manifest = verdict.manifest
    if manifest is None or not verdict.ok or verdict.signer is None:
        return Examined(str(path), Refused(path, _failure(verdict)))
    result: Score | Unfinished | Refused
    try:
        if manifest.outcome == "completed":
            result = score_of(manifest, path.parent, verdict.signer, digest)
        else:
            name = experiment_of(manifest).name
            result = Unfinished(manifest.invocation_id, path.parent, name, manifest.outcome, verdict.signer)
    except NoScore as error:
        result = Refused(path, error.message)
    began = manifest.ledger.sequence, manifest.ledger.digest
    return Examined(str(path), result, manifest.invocation_id, began, digest, manifest.outcome)


def _failure(verdict: Verdict) -> str:
    failed = next((check for check in verdict.checks if check.status == "fail"), None)
    return f"check {failed.number} ({failed.name}): {failed.message}" if failed else "it does not verify"


def examine_all(paths: Sequence[Path], policy: TrustPolicy, deep: bool = False) -> Iterator[Examined]:
    """``examine`` of every path, in order: by worker processes on every core where there are enough of them.

    A script that reads scores outside ``if __name__ == "__main__"`` cannot have them, and is served by one.
    """
    done = 0
    workers = min(os.cpu_count() or 1, len(paths) // _WORTH)
    if workers > 1:
        from concurrent.futures.process import BrokenProcessPool

        with suppress(BrokenProcessPool):
            for batch in _in_processes(paths, policy, deep, workers):
                yield from batch
                done += len(batch)
    yield from (examine(path, policy, deep) for path in paths[done:])


def _in_processes(paths: Sequence[Path], policy: TrustPolicy, deep: bool, workers: int) -> Iterator[list[Examined]]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # spawned: a forked copy of a process with threads (of numpy, say) may hang
    context = multiprocessing.get_context("spawn")
    keys = tuple((key.pem, key.keyid, key.name, key.added) for key in tuple(policy.keys()))
    parts = [tuple(paths[place : place + _BATCH]) for place in range(0, len(paths), _BATCH)]
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(_examine_batch, [(part, keys, policy.home, deep) for part in parts])


def _examine_batch(
    batch: tuple[tuple[Path, ...], tuple[tuple[str, str, str, str], ...], Path, bool],
) -> list[Examined]:
    paths, keys, home, deep = batch
    policy = TrustPolicy(home, None, tuple(TrustedKey(*key) for key in keys))
    return [examine(path, policy, deep) for path in paths]
