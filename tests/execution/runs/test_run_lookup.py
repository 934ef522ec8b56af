"""The outcome of every run that was started, read from its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_runs import begin_run, open_run, sign_run

from ndrepro.execution.runs.run_lookup import (
    MISSING,
    NO_END,
    RUNNING,
    UNREADABLE,
    UNSIGNED,
    is_running,
    read_recorded,
    summaries,
    summary,
)
from ndrepro.protocol.layout import RunsFolder
from provenance.errors import ProvenanceError

FIRST, SECOND = "20261121T100000Z-aaaaaa", "20261121T110000Z-bbbbbb"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunsFolder:
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "home"))
    return RunsFolder(tmp_path / "läufe und mehr")


def test_a_summary_says_what_became_of_a_run(runs: RunsFolder) -> None:
    signed = sign_run(runs, "lenet_bn_2_digits", "20261121T090000Z-000001", outcome="interrupted")
    dead = begin_run(runs, "lenet_bn_2_digits", "20261121T090000Z-000002")
    open_run(runs, dead).release()
    alive = begin_run(runs, "lenet_bn_2_digits", "20261121T090000Z-000003")
    holder = open_run(runs, alive)
    unsigned = begin_run(runs, "lenet_bn_2_digits", "20261121T090000Z-000004")
    recorder = open_run(runs, unsigned)
    with pytest.raises(ProvenanceError):
        recorder.close(outcome="completed", exit_code=0, started="x", finished="x", internal_parameters={})
    gone = begin_run(runs, "lenet_bn_2_digits", "20261121T090000Z-000005")
    open_run(runs, gone).release()
    gone.root.rename(runs.root / "elsewhere")

    found = {item.run[-1]: item for item in summaries(runs)}
    assert [found[key].outcome for key in "12345"] == ["interrupted", NO_END, RUNNING, UNSIGNED, MISSING]
    assert "startedOn: 'x'" in found["4"].problem
    assert (found["1"].duration_seconds, found["1"].epochs, found["1"].total_epochs) == (72.0, 2, 2)
    assert found["1"].signers == read_recorded(signed).signers and not found["2"].signers
    assert found["2"].test_accuracy == 0.5  # what it had reached is shown all the same
    assert is_running(alive) and not is_running(dead)
    holder.release()
    assert summary(alive).outcome == NO_END


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.dsse.json", b"{}"),
        ("request.json", b"[]"),
        ("request.json", b"{"),
        ("metrics.jsonl", b'{"epoch": 1}\n'),
        ("metrics.jsonl", b"\xff\n"),
    ],
)
def test_one_damaged_run_does_not_hide_the_others(name: str, content: bytes, runs: RunsFolder) -> None:
    folder = sign_run(runs, "lenet_bn_2_digits", FIRST)
    sign_run(runs, "lenet_bn_2_digits", SECOND)
    (folder.root / name).write_bytes(content)
    damaged, whole = summaries(runs)
    assert (damaged.outcome, whole.outcome) == (UNREADABLE, "completed")
    assert damaged.problem


def test_a_row_that_is_still_being_written_waits(runs: RunsFolder) -> None:
    folder = begin_run(runs, "lenet_bn_2_digits", FIRST, epochs=1)
    with folder.metrics.open("a") as stream:
        stream.write('{"epoch": 2, "st')
    assert summary(folder).epochs == 1


def test_the_ledger_is_the_one_beside_the_run(runs: RunsFolder, tmp_path: Path) -> None:
    folder = sign_run(runs, "lenet_bn_2_digits", FIRST)
    assert folder.ledger == runs.ledger.absolute()
    assert type(folder)(tmp_path / "a" / "b").ledger is None
