"""Which run a name means: what people type, and never a repetition, a segment or a failed run by accident."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from recorded_runs import begin_run, open_run, sign_run

import provenance
from ndrepro.execution.runs.run_lookup import summaries
from ndrepro.execution.runs.run_resolver import resolve_run
from ndrepro.protocol.errors import RunNotFound
from ndrepro.protocol.layout import RunsFolder

FIRST, SECOND, OTHER = "20261121T100000Z-aaaaaa", "20261121T110000Z-bbbbbb", "20261122T100000Z-cccccc"
OWN = "20261120T090000Z-eeeeee"
LATER = tuple(f"20261123T1{hour}0000Z-dddddd" for hour in range(5))
NAME = "lenet_bn_2_digits"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunsFolder:
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "home"))
    return RunsFolder(tmp_path / "läufe und mehr")


@pytest.fixture
def three(runs: RunsFolder) -> RunsFolder:
    sign_run(runs, "mypkg.nets.Net_bn_1_digits", OWN, network_source="ab" * 32)
    sign_run(runs, NAME, FIRST)
    sign_run(runs, NAME, SECOND)
    sign_run(runs, "vgg16_nd_1", OTHER)
    return runs


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (FIRST, FIRST),
        ("20261122", OTHER),
        ("latest", OTHER),
        ("bbbbbb", SECOND),
        (NAME, SECOND),
        (f"{NAME}/{FIRST}", FIRST),
        ("mypkg.nets.Net_bn_1_digits", OWN),
        ("mypkg.nets:Net_bn_1_digits", OWN),
        ("{runs}/lenet_bn_2_digits/" + FIRST, FIRST),
        ("{runs}/vgg16_nd_1", OTHER),
    ],
)
def test_a_run_is_found_by_identifier_beginning_end_experiment_and_path(
    text: str, found: str, three: RunsFolder
) -> None:
    resolved = resolve_run(three, text.format(runs=three.root))
    assert (resolved.folder.root.name, resolved.note) == (found, "")


def test_a_script_under_the_name_of_an_experiment_is_none_of_its_runs(three: RunsFolder, tmp_path: Path) -> None:
    with provenance.record(name=NAME, runs=three.root, home=tmp_path / "home") as script:
        pass
    resolved = resolve_run(three, NAME)
    assert resolved.folder.root.name == SECOND and script.run_id in resolved.note
    assert resolve_run(three, script.run_id).folder.root.name == script.run_id


def test_an_experiment_means_its_latest_completed_original_run(three: RunsFolder) -> None:
    sign_run(three, NAME, LATER[0], repeats=SECOND)
    sign_run(three, NAME, LATER[1], outcome="failed")
    open_run(three, begin_run(three, NAME, LATER[2])).release()
    for text in (NAME, str(three.root / NAME)):
        resolved = resolve_run(three, text)
        assert resolved.folder.root.name == SECOND
        assert resolved.note == (
            f"{text} is {SECOND}; passed over: {LATER[2]} (no end), {LATER[1]} (failed), "
            f"{LATER[0]} (repetition of {SECOND})"
        )


def test_latest_is_no_segment_and_no_run_under_way(three: RunsFolder) -> None:
    sign_run(three, NAME, LATER[0], segment_epochs=1, repeats=SECOND)
    under_way = open_run(three, begin_run(three, NAME, LATER[1]))
    resolved = resolve_run(three, "latest")
    under_way.release()
    assert resolved.folder.root.name == OTHER
    assert resolved.note.endswith(f"{LATER[1]} (running), {LATER[0]} (segment of {SECOND})")


def test_what_is_named_by_its_identifier_or_path_is_found_whatever_it_is(three: RunsFolder) -> None:
    repetition = sign_run(three, NAME, LATER[0], repeats=SECOND)
    segment = sign_run(three, NAME, LATER[1], segment_epochs=1, repeats=SECOND)
    failed = sign_run(three, NAME, LATER[2], outcome="failed")
    for folder in (repetition, segment, failed):
        assert resolve_run(three, folder.root.name).folder == folder
        assert resolve_run(three, str(folder.root)).folder == folder


def test_an_experiment_that_only_failed_is_refused_with_its_runs(runs: RunsFolder) -> None:
    for number, outcome in enumerate(("failed", "interrupted", "killed", "failed")):
        sign_run(runs, NAME, LATER[number], outcome=outcome)
    with pytest.raises(RunNotFound) as raised:
        resolve_run(runs, NAME)
    assert raised.value.message == f"no completed original run of '{NAME}'"
    assert raised.value.cure == (
        f"name one of its runs: {LATER[3]} (failed), {LATER[2]} (killed), {LATER[1]} (interrupted) and 1 more"
    )


def test_to_resume_an_experiment_is_its_latest_original_whatever_became_of_it(three: RunsFolder) -> None:
    sign_run(three, NAME, LATER[0], outcome="interrupted")
    sign_run(three, NAME, LATER[1], outcome="interrupted", repeats=SECOND)
    resolved = resolve_run(three, NAME, completed=False)
    assert resolved.folder.root.name == LATER[0]
    assert "repetition" in resolved.note


def test_the_latest_to_resume_is_no_recorded_program(three: RunsFolder, tmp_path: Path) -> None:
    with provenance.record(name="fit", runs=three.root, home=tmp_path / "home") as script:
        pass
    assert resolve_run(three, "latest", completed=False).folder.root.name == script.run_id, "the control"
    resolved = resolve_run(three, "latest", completed=False, trained=True)
    assert resolved.folder.root.name == OTHER
    assert resolved.note.endswith(f"passed over: {script.run_id} (a recorded script)")
    for each in three.runs():
        if each.root.name != script.run_id:
            shutil.rmtree(each.root)
    with pytest.raises(RunNotFound, match="no original training run in "):
        resolve_run(three, "latest", completed=False, trained=True)


def test_a_segment_is_one_wherever_its_folder_was_moved(three: RunsFolder) -> None:
    segment = sign_run(three, NAME, LATER[0], segment_epochs=1, repeats=SECOND)
    segment.root.rename(three.root / NAME / LATER[0])
    assert resolve_run(three, NAME).folder.root.name == SECOND


def test_the_latest_run_started_last_whatever_its_machines_clock_said(runs: RunsFolder) -> None:
    behind, ahead = FIRST, OTHER
    for run in (SECOND, ahead, behind):
        sign_run(runs, NAME, run)
    for text in ("latest", NAME, str(runs.root / NAME)):
        assert resolve_run(runs, text).folder.root.name == behind
    assert [each.run for each in summaries(runs)] == [SECOND, ahead, behind]
    runs.ledger.unlink()
    assert resolve_run(runs, "latest").folder.root.name == ahead, "without a ledger, by their names"


def test_a_manifest_file_means_its_run(runs: RunsFolder) -> None:
    folder = sign_run(runs, NAME, FIRST)
    assert resolve_run(runs, str(folder.manifest)).folder == folder
    with pytest.raises(RunNotFound, match=r"weights\.safetensors: a file"):
        resolve_run(runs, str(folder.weights))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("20261121", f"type more of it: {FIRST}, {SECOND}"),
        ("lenet_nb_2_digits", f"did you mean {NAME}"),
        ("20261123T100000Z-cccccc", f"did you mean {OTHER}"),
        ("", "`ndrepro list` has them all"),
        ("x" * 5000, "`ndrepro list` has them all"),
        ("nul\0byte", "`ndrepro list` has them all"),
    ],
)
def test_what_cannot_be_found_offers_what_is_near(text: str, said: str, three: RunsFolder) -> None:
    with pytest.raises(RunNotFound) as raised:
        resolve_run(three, text)
    assert said in raised.value.cure


def test_an_empty_folder_of_runs_and_a_folder_that_is_none(runs: RunsFolder, tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match="has no runs"):
        resolve_run(runs, "a")
    with pytest.raises(RunNotFound, match=r"neither request\.json nor") as raised:
        resolve_run(runs, str(tmp_path))
    assert "was not started" in raised.value.cure
