"""A power cut after signing: every file that a manifest lists, and its folder, is on the disk before it is signed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import SmallRun


def test_files_and_folders_are_flushed_before_the_manifest_and_that_before_the_ledger(
    small_run: Callable[..., SmallRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real calls are made; only their order is written down, by the names behind the descriptors."""
    run = small_run()
    events: list[str] = []
    replace = os.replace

    def noted(sync: Callable[[int], None]) -> Callable[[int], None]:
        def noted_sync(descriptor: int) -> None:
            sync(descriptor)
            events.append(os.readlink(f"/proc/self/fd/{descriptor}"))

        return noted_sync

    def noted_replace(source: str | Path, target: str | Path) -> None:
        replace(source, target)
        events.append(f"named {target}")

    recorder = run.open()
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noted(getattr(os, name)))
    monkeypatch.setattr(os, "replace", noted_replace)
    run.close(recorder)
    signed = events.index(f"named {run.manifest}")
    names = ["checkpoints/step 1.bin", "log.txt", "metrics.jsonl", "weights.bin"]
    for path in [*(run.folder / name for name in names), run.folder / "checkpoints", run.folder, run.folder.parent]:
        assert str(path) in events[:signed], path
    after = events[signed:]
    assert after.index(str(run.folder)) < after.index(str(run.ledger.path))
