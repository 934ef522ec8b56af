"""Somebody changes what a run is resumed from, between its end and `--resume`; or its author does, with the key.

Before: the last checkpoint was loaded whatever it was, and the run that came of it was signed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dishonest_author import edit_checkpoint, manifest_of, sign_again, verified
from ledgers import unsigned_line
from real_runs import Bench

from ndrepro.execution.resumption.checkpoint_record import BoundCheckpoint, CheckpointRecorder
from ndrepro.execution.resumption.resume_start import began_for_itself, choose_start
from ndrepro.execution.runs.data_check import locate
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished, resume
from ndrepro.execution.studies.job import _resumed
from ndrepro.execution.studies.launchers import Job
from ndrepro.protocol.errors import CheckpointError, DataError, UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.project_folders import CODE
from ndrepro.protocol.study.study import StudyRun
from ndrepro.training.data.run_data import read_and_describe
from provenance.attestation import key_lifecycle
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import REPRODUCED_RUN, Resource
from provenance.attestation.trust import TrustPolicy
from provenance.errors import ProvenanceError
from provenance.formats.digest import file_digest

KILLED = """
import os, signal, sys
from pathlib import Path
from real_runs import Bench
from ndrepro.execution.resumption.checkpoint_record import bound_checkpoints
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import REPRODUCED_RUN, Resource
from ndrepro.execution.runs import run
from ndrepro.execution.runs.observer import Observer
from provenance.attestation.trust import TrustPolicy

class Dying(Observer):
    # on a busy machine epochs end faster than the recorder looks
    trained = False
    def began(self, folder, request):
        self.run = folder.root.name
    def epoch(self, scores, timing):
        self.trained = self.trained or scores.epoch == 3
    def progress(self, progress):
        if self.trained and self.bound() >= 2:
            os.kill(os.getpid(), signal.SIGKILL)
    def bound(self):
        keys = TrustPolicy.load(bench.options.home).keys()
        return len(bound_checkpoints(Ledger(bench.options.runs.ledger).entries_of(self.run, keys)))

bench = Bench(Path(sys.argv[1]))
run.run(bench.experiment("lenet_nd_4_digits"), bench.options, Dying())
"""


class Refusals(Observer):
    """Keeps what is said of the start."""

    step = -1
    refused: tuple[str, ...] = ()

    def resuming(self, step: int, refused: tuple[str, ...]) -> None:
        self.step, self.refused = step, refused


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A run whose recorder was killed in its fourth epoch: there is no manifest."""
    root = tmp_path_factory.mktemp("killed")
    script = root / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    helpers = Path(__file__).resolve().parents[2] / "helpers"
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CODE), str(helpers)])}
    done = subprocess.run([sys.executable, str(script), str(root)], env=variables)
    assert done.returncode == -signal.SIGKILL
    return Bench(root)


def copied(bench: Bench, into: Path) -> tuple[RunFolder, RunsFolder]:
    """A copy of everything below the runs: the folder, and the runs."""
    runs = RunsFolder(into / "runs")
    shutil.copytree(bench.options.runs.root, runs.root)
    (folder,) = (found for found in runs.runs() if not found.manifest.exists() or len(runs.runs()) == 1)
    return folder, runs


def start_of(folder: RunFolder, runs: RunsFolder, bench: Bench) -> tuple[int, tuple[str, ...]]:
    start = choose_start(folder, Ledger(runs.ledger), TrustPolicy.load(bench.options.home))
    return start.step, start.refused


def other_weights(tensors: dict[str, np.ndarray], place: object) -> None:
    tensors["net.linear3.bias"] = tensors["net.linear3.bias"] + np.float32(1)


def test_what_a_killed_recorder_left_is_bound(killed: Bench, tmp_path: Path) -> None:
    """Each change to a checkpoint or a log takes the start back to the last state that is as it was recorded."""
    folder, runs = copied(killed, tmp_path / "control")
    last = start_of(folder, runs, killed)[0]
    assert last >= 12, "the control: the checkpoints that were seen are taken"

    folder, runs = copied(killed, tmp_path / "weights")
    edit_checkpoint(folder.checkpoint(last), other_weights)
    step, refused = start_of(folder, runs, killed)
    assert step == last - 6 and "was changed after it was recorded" in refused[-1]

    folder, runs = copied(killed, tmp_path / "added")
    shutil.copyfile(folder.checkpoint(last), folder.checkpoint(last + 6))
    step, refused = start_of(folder, runs, killed)
    assert step == last and "nobody signed it" in refused[0]

    folder, runs = copied(killed, tmp_path / "results")
    folder.metrics.write_bytes(folder.metrics.read_bytes().replace(b'"epoch": 1, ', b'"epoch": 1,  ', 1))
    assert start_of(folder, runs, killed)[0] == 0

    folder, runs = copied(killed, tmp_path / "request")
    folder.request.write_bytes(folder.request.read_bytes().replace(b'"seed": 0', b'"seed": 1', 1))
    with pytest.raises(CheckpointError, match="not the request that was signed"):
        start_of(folder, runs, killed)

    folder, runs = copied(killed, tmp_path / "ledger")
    edit_checkpoint(folder.checkpoint(last), other_weights)
    forged = BoundCheckpoint.of(folder, last).to_json()
    Ledger(runs.ledger).append("checkpoint", folder.root.name, KeyRing(tmp_path / "neighbour").signer(), **forged)
    assert start_of(folder, runs, killed)[0] == last - 6, "an entry by a key of the neighbour's own"
    runs.ledger.write_bytes(runs.ledger.read_bytes().replace(b'"event":"checkpoint"', b'"event":"checkpoinT"'))
    assert start_of(folder, runs, killed)[0] == 0, "without its entries nothing is bound"
    runs.ledger.write_bytes(unsigned_line("checkpoint", folder.root.name, forged, None)[1])
    assert start_of(folder, runs, killed)[0] == 0, "a ledger of the first format, which anybody can write"


def test_a_run_goes_on_with_the_data_that_it_began_with(killed: Bench, tmp_path: Path) -> None:
    """Before, the record named the data of the last attempt for all of the run."""
    folder, runs = copied(killed, tmp_path)
    request = replace(Request.from_json(read_json(folder.request)), resume_step=6)
    listed = folder.dataset_listing.read_bytes()
    read_and_describe(request, folder, write=True)
    assert folder.dataset_listing.read_bytes() == listed, "the control"
    folder.dataset_listing.write_bytes(listed.replace(b"digits", b"called otherwise"))
    read_and_describe(request, folder, write=True)
    assert folder.dataset_listing.read_bytes() == listed
    folder.dataset_listing.write_bytes(listed.replace(listed[:8], b"0" * 8, 1))
    with pytest.raises(DataError, match="not the data on which the run was trained before"):
        read_and_describe(request, folder, write=True)
    step, refused = start_of(folder, runs, killed)
    assert step == 0 and "was changed after it was recorded" in refused[0], "nor does a changed list allow others"


def test_a_run_that_was_killed_before_its_first_checkpoint_has_its_request_bound(killed: Bench, tmp_path: Path) -> None:
    folder, runs = copied(killed, tmp_path)
    shutil.rmtree(folder.checkpoints)
    assert start_of(folder, runs, killed) == (0, ())
    folder.request.write_bytes(folder.request.read_bytes().replace(b'"learning_rate": ', b'"learning_rate":  ', 1))
    with pytest.raises(CheckpointError, match="not the request that was signed"):
        start_of(folder, runs, killed)


def test_an_earlier_checkpoint_is_not_bound_anew_as_it_is_found(killed: Bench, tmp_path: Path) -> None:
    """Of a second attempt, killed too: what was changed before it began is not what the first one bound."""
    folder, runs = copied(killed, tmp_path)
    last = start_of(folder, runs, killed)[0]
    edit_checkpoint(folder.checkpoint(last), other_weights)
    second = CheckpointRecorder(folder, Ledger(runs.ledger), KeyRing(killed.options.home))
    second.look()
    assert start_of(folder, runs, killed)[0] == last - 6


def test_a_checkpoint_that_no_attempt_bound_is_bound_when_it_is_written_again(killed: Bench, tmp_path: Path) -> None:
    """A recorder killed between a checkpoint and its entry: what lies there since may have been changed meanwhile."""
    folder, _ = copied(killed, tmp_path)
    ledger = Ledger(tmp_path / "empty" / "ledger.jsonl")
    second = CheckpointRecorder(folder, ledger, KeyRing(killed.options.home))
    second.look()
    assert not list(ledger.entries())
    last = folder.checkpoint(folder.checkpoint_steps()[-1])
    written = last.with_name("written")
    written.write_bytes(last.read_bytes())
    written.replace(last)
    second.look()
    assert [entry.fields["step"] for entry in ledger.entries()] == [folder.checkpoint_steps()[-1]]


def test_the_ledger_of_a_killed_run_is_whole(killed: Bench) -> None:
    """Every checkpoint has its entry, chained: one that is taken out is missing to whoever reads the list."""
    ledger = Ledger(killed.options.runs.ledger)
    keys = TrustPolicy.load(killed.options.home).keys()
    events = [entry.event for entry in ledger.entries()]
    assert events[:3] == ["begun", "checkpoint", "checkpoint"] and not ledger.audit(keys).problems
    assert not any(ledger.summary(keys).runs[run].starts[1:] for run in ledger.summary(keys).runs)


def test_a_run_that_began_with_a_key_that_was_rotated_since_is_the_own_one(killed: Bench, tmp_path: Path) -> None:
    """No attack. Before: started "by this machine's former key", and refused."""
    folder, runs = copied(killed, tmp_path)
    home = Path(shutil.copytree(killed.options.home, tmp_path / "home"))
    step = start_of(folder, runs, killed)
    key_lifecycle.rotate(KeyRing(home), None, None)
    found = choose_start(folder, Ledger(runs.ledger), TrustPolicy.load(home))
    assert (found.step, found.refused) == step


def test_a_forged_checkpoint_is_not_resumed_from(killed: Bench, honest: Finished, tmp_path: Path) -> None:
    """The run resumes from an earlier one, says so, and ends in the bits of an undisturbed run."""
    folder, _ = copied(killed, tmp_path)
    last = folder.checkpoint_steps()[-1]
    edit_checkpoint(folder.checkpoint(last), other_weights)
    said = Refusals()
    again = resume(folder, killed.options, said)
    assert again.outcome == "completed" and said.step < last and len(said.refused) >= 1
    assert manifest_of(folder).internal_parameters["resumedFromStep"] == said.step
    for name in ("trail.bin", "metrics.jsonl", "states.jsonl", "weights.safetensors"):
        assert (folder.root / name).read_bytes() == (honest.folder.root / name).read_bytes(), name
    assert verified(folder, killed).ok
    assert [attempt.outcome for attempt in manifest_of(folder).attempts] == ["killed", "completed"]


def test_a_signed_attempt_is_verified_first(honest: Finished, author: Bench, tmp_path: Path) -> None:
    def sign(folder: RunFolder, runs: RunsFolder, by: Bench = author, **changes: object) -> None:
        sign_again(folder, by, **changes)
        digest, key = file_digest(folder.manifest).sha256, KeyRing(by.options.home).signer()
        Ledger(runs.ledger).append("ended", folder.root.name, key, outcome="interrupted", manifest=digest)

    def interrupted(name: str) -> tuple[RunFolder, RunsFolder]:
        runs = RunsFolder(tmp_path / name / "runs")
        folder = RunFolder(runs.root / "lenet_nd_4_digits" / honest.folder.root.name)
        shutil.copytree(honest.folder.root, folder.root, ignore=shutil.ignore_patterns(".lock"))
        sign(folder, runs, outcome="interrupted")
        return folder, runs

    folder, runs = interrupted("control")
    assert start_of(folder, runs, author) == (24, ())

    folder, runs = interrupted("checkpoint")
    edit_checkpoint(folder.checkpoint(24), other_weights)
    step, refused = start_of(folder, runs, author)
    assert step == 18 and "is not the file that was signed" in refused[0]

    folder, runs = interrupted("log")
    folder.trail.write_bytes(folder.trail.read_bytes()[:-8])
    step, refused = start_of(folder, runs, author)
    assert step == 0 and len(refused) == 4

    folder, runs = interrupted("signed")  # by the author, who forged it with the key: the state digests say another
    edit_checkpoint(folder.checkpoint(24), other_weights)
    sign(folder, runs)
    step, refused = start_of(folder, runs, author)
    assert step == 18 and "not the recorded state after epoch 4: the network in it differs" in refused[0]

    folder, runs = interrupted("sums")
    edit_checkpoint(folder.checkpoint(24), lambda tensors, place: place.update(correct=20))  # type: ignore[attr-defined]
    sign(folder, runs)
    assert "are not zero" in start_of(folder, runs, author)[1][0]

    folder, runs = interrupted("stranger")
    stranger = Bench(tmp_path / "stranger-bench")
    sign_again(folder, stranger)
    with pytest.raises(ProvenanceError):
        start_of(folder, runs, author)

    TrustPolicy.load(stranger.options.home).add(KeyRing(author.options.home).public_key().pem, "author")
    sign_again(folder, author)
    with pytest.raises(UsageError, match="signed by author: what it has trained would be signed with your key"):
        start_of(folder, runs, stranger)


def test_nobody_signs_the_history_that_another_s_key_bound(killed: Bench, tmp_path: Path) -> None:
    """Of a killed run too: before, a trusted author's invented history was signed with the key of who resumed it."""
    folder, runs = copied(killed, tmp_path)
    colleague = Bench(tmp_path / "colleague")
    TrustPolicy.load(colleague.options.home).add(KeyRing(killed.options.home).public_key().pem, "author")
    before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="started or signed by author"):
        resume(folder, replace(colleague.options, runs=runs, data=locate(killed.experiment(), None)), Observer())
    job = Job("s", StudyRun("g", killed.experiment("lenet_nd_4_digits"), "main"), None, folder)
    assert _resumed(job, replace(colleague.options, runs=runs), Observer()) is None, "a study trains it anew"
    assert {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()} == before
    assert start_of(folder, runs, killed)[0] >= 12, "the control: its author resumes it"


def test_a_complete_run_that_is_damaged_says_so(honest: Finished, author: Bench, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "lenet_nd_4_digits" / honest.folder.root.name)
    shutil.copytree(honest.folder.root, folder.root, ignore=shutil.ignore_patterns(".lock"))
    with pytest.raises(UsageError, match=r"this run is complete$"):
        author.resume(folder)
    folder.weights.unlink()
    with pytest.raises(UsageError, match=r"is complete, but does not verify: present: weights\.safetensors is missing"):
        author.resume(folder)


@pytest.mark.parametrize("name", ["dataset.sha256", "checkpoints", ".", ".."])
def test_nothing_is_written_through_a_link_in_a_run_that_is_resumed(killed: Bench, tmp_path: Path, name: str) -> None:
    """Nobody signed the run's folder. Before, the file or the checkpoints that a link led to were overwritten."""
    folder, runs = copied(killed, tmp_path / "given")
    place = folder.root / name if name != ".." else folder.root.parent
    aside = tmp_path / "elsewhere"
    Path(os.path.normpath(place)).rename(aside)
    Path(os.path.normpath(place)).symlink_to(aside)
    before = {path: path.read_bytes() for path in aside.parent.rglob("*") if path.is_file()}
    options = replace(killed.options, runs=runs)
    with pytest.raises(UsageError, match="a symbolic link"):
        resume(folder, options, Observer())
    assert {path: path.read_bytes() for path in aside.parent.rglob("*") if path.is_file()} == before
    Path(os.path.normpath(place)).unlink()
    aside.rename(os.path.normpath(place))
    assert resume(folder, options, Observer()).outcome == "completed", "the control"


def test_a_failed_repetition_is_resumed_as_nobody_s_own(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Its manifest says what it repeats, whatever was removed from the list and its folder."""
    folder = RunFolder(tmp_path / "runs" / "lenet_nd_4_digits" / honest.folder.root.name)
    shutil.copytree(honest.folder.root, folder.root, ignore=shutil.ignore_patterns(".lock"))
    list_of_runs = Ledger(tmp_path / "runs" / "ledger.jsonl")
    trust, key = TrustPolicy.load(author.options.home), KeyRing(author.options.home).signer()
    dependencies = manifest_of(folder).dependencies
    for repeats in (False, True):
        repeated = (Resource(REPRODUCED_RUN, digest={"sha256": "ab" * 32}, annotations={"run": "x"}),) * repeats
        sign_again(folder, author, outcome="failed", dependencies=(*repeated, *dependencies))
        digest = file_digest(folder.manifest).sha256
        list_of_runs.append("ended", folder.root.name, key, outcome="failed", manifest=digest)
        assert began_for_itself(folder, list_of_runs, trust) is not repeats
    sign_again(folder, author, outcome="failed", dependencies=dependencies)
    assert began_for_itself(folder, list_of_runs, trust)
    folder.request.write_bytes(folder.request.read_bytes() + b" ")
    assert not began_for_itself(folder, list_of_runs, trust), "another request"
