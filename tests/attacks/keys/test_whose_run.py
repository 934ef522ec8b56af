"""Attacks on whose run a run is: by the order of signatures, by entries that were copied from another list, by names.

An entry of a list is public: a reviewer's own ones may be put into any list, and his countersignature may be asked for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from dishonest_author import manifest_of
from ledgers import entry_of
from policy_venue import VERDICTS, Venue
from real_runs import Bench
from signed_runs import SignedRuns, rows
from small_runs import SmallRun

from ndrepro.analysis.results.results import read_results
from ndrepro.execution.imports.run_import import import_runs
from ndrepro.execution.resumption.resume_start import began_for_itself, choose_start
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import NotOwnRun
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.report.sections.run_tables import left_out_words
from provenance.attestation import key_lifecycle
from provenance.attestation.countersignature import countersign, recorded_here
from provenance.attestation.dsse import read_envelope, sign_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import UsageError
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest


def turn_signatures(path: Path) -> None:
    """Nobody signs in which order they are."""
    kind, payload, signatures = read_envelope(path.read_bytes())
    path.write_bytes(write_envelope(kind, payload, signatures[::-1]))


def signed(path: Path, manifest: Manifest, *rings: KeyRing) -> None:
    payload = Statement.about(manifest).to_bytes()
    parts = [read_envelope(sign_envelope(payload, ring.signer())) for ring in rings]
    path.write_bytes(write_envelope(parts[0][0], payload, [part[2][0] for part in parts]))


@pytest.mark.parametrize("how", ["countersigned", "rotated"])
def test_a_cut_list_is_found_whichever_key_signed_the_manifest_first(
    small_run: Callable[..., SmallRun], tmp_path: Path, how: str
) -> None:
    """Before, a list with entries of the recorder's, by the second of two keys, was "of other runs", and skipped."""
    first, second = small_run("first"), small_run("second")
    first.record()
    if how == "rotated":
        key_lifecycle.rotate(KeyRing(first.home), None, None)
    second.record()
    rita = KeyRing(tmp_path / "rita")
    TrustPolicy.load(second.home).add(rita.public_key().pem, "rita")
    if how == "countersigned":
        countersign(second.manifest, str(second.verify().payload_digest), rita)
        turn_signatures(second.manifest)
    assert second.verify().ok, "the control"
    list_of_both = first.ledger.path.read_bytes().splitlines(keepends=True)
    first.ledger.path.write_bytes(b"".join(list_of_both[:2]))
    (failed,) = (check for check in second.verify().checks if check.status == "fail")
    assert failed.name == "ledger" and "is not there" in failed.message


def test_who_is_named_as_the_recorder_has_signed(signed_run: SmallRun, tmp_path: Path) -> None:
    manifest = Statement.from_bytes(read_envelope(signed_run.manifest.read_bytes())[1]).manifest
    author, rita = KeyRing(signed_run.home), KeyRing(tmp_path / "rita")
    assert manifest.ledger.key == author.keyid
    TrustPolicy.load(signed_run.home).add(rita.public_key().pem, "rita")
    signed(signed_run.manifest, replace(manifest, ledger=replace(manifest.ledger, key=rita.keyid)), author)
    (failed, *_) = (check for check in signed_run.verify(ledger=None).checks if check.status == "fail")
    assert failed.name == "statement" and f"{rita.keyid}, which it names as its recorder's" in failed.message
    payload = str(signed_run.verify(ledger=None).payload_digest)
    with pytest.raises(UsageError, match="names your key"):
        countersign(signed_run.manifest, payload, rita)


def test_an_entry_whose_signature_was_changed_is_missed_by_all_that_began_before(
    small_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    """What it says is vouched for by the next one's writer. Before, the run that it began was none, and no number of
    runs showed it.
    """
    first, second, third = small_run("first"), small_run("second"), small_run("third")
    first.record(), second.record()
    colleague = tmp_path / "colleague"
    TrustPolicy.load(first.home).add(KeyRing(colleague).public_key().pem, "colleague")
    third.close(third.open(home=colleague))
    found = first.ledger.path.read_bytes().splitlines(keepends=True)
    for number in (2, 3):
        entry, signature = found[number].rsplit(b'"signature":"', 1)
        other = b"B" if signature[:1] == b"A" else b"A"
        found[number] = entry + b'"signature":"' + other + signature[1:]
    assert first.verify().ok, "the control"
    first.ledger.path.write_bytes(b"".join(found))
    keys = TrustPolicy.load(first.home).keys()
    kinds = {problem.line: problem.kind for problem in first.ledger.verify(keys)}
    assert kinds == {3: "ignored", 4: "missing"}
    assert not first.verify().ok and third.verify().ok
    assert first.ledger.summary(keys).gaps == [[5, str(first.ledger.verify(keys)[1])]]


def test_an_entry_in_a_trusted_name_that_a_stranger_vouches_for_harms_nobody(
    small_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    """Control: a neighbour appends a false entry of the author's, and one by a key of his own behind it."""
    first, second = small_run("first"), small_run("second")
    first.record()
    lines = first.ledger.path.read_bytes().splitlines(keepends=True)
    shutil.copytree(first.home, tmp_path / "copy")
    copy = Ledger(tmp_path / "copy.jsonl")
    copy.path.write_bytes(b"".join(lines))
    copy.append("begun", "false", KeyRing(tmp_path / "copy").signer())
    false = copy.path.read_bytes().splitlines(keepends=True)[-1].replace(b'"signature":"', b'"signature":"AAAA')
    copy.path.write_bytes(b"".join([*lines, false]))
    copy.append("begun", "neighbour's", KeyRing(tmp_path / "neighbour").signer())
    shutil.copy(copy.path, first.ledger.path)
    second.record()
    assert first.verify().ok and second.verify().ok
    assert entry_of(first.ledger.path.read_bytes().splitlines()[-1]).run == "second"


def test_who_recorded_a_run_is_not_its_reviewer(tmp_path: Path) -> None:
    """Whatever the policy has her as, and whoever signed too. Before, the order of two signatures decided."""
    venue = Venue(tmp_path)
    venue.signers |= {
        "ada": {"keys": [venue.author.keyid], "roles": ["reviewer"]},
        "ron": {"keys": [venue.ron.keyid], "roles": ["author"]},
    }
    venue.countersign(venue.ron)
    venue.reproduce(venue.author)
    assert "ada is an author of this run, or recorded it" in venue.judge(verdicts=VERDICTS)["verdicts"]
    turn_signatures(venue.run / "manifest.dsse.json")
    assert "ada is an author of this run, or recorded it" in venue.judge(verdicts=VERDICTS)["verdicts"]
    venue.reproduce(venue.rita)
    assert venue.judge(verdicts=VERDICTS)["verdicts"] == "pass", "the control"


def test_a_verdict_is_on_a_manifest_and_on_no_other_of_that_name(tmp_path: Path) -> None:
    """Before, a reviewer's verdict on an honest run counted for a false one with the same identifier."""
    venue = Venue(tmp_path)
    venue.reproduce(venue.rita)
    assert venue.judge(verdicts=VERDICTS)["verdicts"] == "pass", "the control"
    path = venue.run / "manifest.dsse.json"
    honest = venue.run.with_name("honest")
    shutil.copytree(venue.run, honest)
    false = replace(manifest_of(RunFolder(venue.run)), finished_on="2026-11-21T23:00:00.000000Z")
    signed(path, false, venue.author)
    found = venue.judge(verdicts=VERDICTS)
    assert found["verdicts"].startswith("repeated by nobody who counts") and found["ok"] == "False"


def test_two_manifests_of_one_run_are_both_refused(tmp_path: Path) -> None:
    """In one folder, and in two. Before, the first was taken, or both, and a verdict on one was shown at the other."""
    experiment = Experiment.from_name("lenet_bn_1_digits")
    first = SignedRuns(tmp_path / "a")
    shutil.copytree(first.home, tmp_path / "b" / first.home.name)
    made = [first, SignedRuns(tmp_path / "b")]
    folders = [
        runs.add(experiment, rows(1, accuracy), run="20261121T100000Z-000000")
        for runs, accuracy in zip(made, (0.5, 0.9), strict=True)
    ]
    trust = TrustPolicy.load(made[0].home)
    found = read_results([runs.runs for runs in made], policy=trust)
    assert not found.rows and len(found.refused) == 2
    assert len(read_results([made[0].runs], policy=trust).rows) == 1, "the control"
    shutil.copytree(folders[1], folders[0].with_name("other"))
    found = read_results(made[0].runs, policy=trust)
    assert not found.rows and {item.path.parent.name for item in found.refused} == {folders[0].name, "other"}


def test_a_run_is_not_missed_by_the_name_of_another_s_folder(tmp_path: Path) -> None:
    """Its folder is gone, and another run's is called like it. Before, it was in no number."""
    runs = SignedRuns(tmp_path)
    first, second = (runs.add(Experiment.from_name("lenet_bn_1_digits", {"seed": s}), rows(1, 0.5)) for s in "01")
    runs.close()
    shutil.rmtree(second)
    assert [each.run_id for each in runs.scores().lost] == [second.name], "the control"
    first.rename(second)
    assert [each.run_id for each in runs.scores().lost] == [second.name]


def test_a_report_says_that_its_ledger_has_problems(tmp_path: Path) -> None:
    """As the entries of a key that its holder revoked from before the runs that it would rather not show."""
    runs = SignedRuns(tmp_path)
    for seed in "01":
        runs.add(Experiment.from_name("lenet_bn_1_digits", {"seed": seed}), rows(1, 0.5))
    path = runs.close() / "ledger.jsonl"
    assert "so that runs may be missing" not in left_out_words(runs.scores(), 0), "the control"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])
    assert "The ledger has 1 problem, so that runs may be missing: " in left_out_words(runs.scores(), 0)


def test_a_list_of_others_nearer_to_a_run_hides_no_entry_of_it(
    small_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    """Before, the nearest list alone was asked, and a manifest that replaced the run's was skipped beside it."""
    run = small_run("one", root=tmp_path / "runs" / "name")
    run = replace(run, ledger=Ledger(tmp_path / "runs" / "ledger.jsonl"))
    path = run.record()
    nearer = Ledger(run.folder.parent / "ledger.jsonl")
    nearer.append("begun", "another", KeyRing(tmp_path / "colleague").signer())
    TrustPolicy.load(run.home).add(KeyRing(tmp_path / "colleague").public_key().pem, "colleague")
    assert verify(run.folder, trust=TrustPolicy.load(run.home), ledger=nearer).ok, "the control"
    false = replace(Statement.from_bytes(read_envelope(path.read_bytes())[1]).manifest, exit_code=3)
    signed(path, false, KeyRing(run.home))
    verdict = verify(run.folder, trust=TrustPolicy.load(run.home), ledger=nearer)
    assert not verdict.ok and "ended (entry 2) with another manifest" in verdict.checks[7].message
    imported = import_runs(tmp_path / "runs", tmp_path / "into", "lab", TrustPolicy.load(run.home))
    assert "with another manifest" in imported.runs[0].problem

    # a second list of its author's own, which has the run with the false manifest
    second, key = Ledger(tmp_path / "second.jsonl"), KeyRing(run.home)
    manifest = Statement.from_bytes(read_envelope(path.read_bytes())[1]).manifest
    parameters = bytes_digest(canonical_bytes(manifest.external_parameters))
    began = second.append("begun", run.folder.name, key.signer(), parameters=parameters)
    signed(path, replace(manifest, ledger=replace(manifest.ledger, sequence=1, digest=began.digest)), key)
    digest = verify(run.folder, trust=TrustPolicy.load(run.home)).digest
    second.append("ended", run.folder.name, key.signer(), outcome="completed", manifest=digest)
    shutil.move(second.path, nearer.path)
    verdict = verify(run.folder, trust=TrustPolicy.load(run.home), ledger=nearer)
    assert not verdict.ok and verdict.checks[7].message.startswith(str(run.ledger.path))
    run.ledger.path.unlink()
    assert verify(run.folder, trust=TrustPolicy.load(run.home), ledger=nearer).ok, "the control"


def test_results_of_several_folders_of_runs_are_compared_with_their_own_lists(tmp_path: Path) -> None:
    """As what was imported. Before, the folder above them had no list, and nothing was asked."""
    runs = SignedRuns(tmp_path / "imported" / "lab")
    folder = runs.add(Experiment.from_name("lenet_bn_1_digits"), rows(1, 0.5))
    shutil.move(runs.close(), tmp_path / "imported" / "runs")
    path = RunFolder(tmp_path / "imported" / "runs" / folder.parent.name / folder.name).manifest
    trust = TrustPolicy.load(runs.home)
    assert len(read_results(tmp_path / "imported", policy=trust).rows) == 1, "the control"
    signed(path, replace(manifest_of(RunFolder(path.parent)), exit_code=3), KeyRing(runs.home))
    found = read_results(tmp_path / "imported", policy=trust)
    assert not found.rows and "with another manifest" in found.refused[0].reason


@pytest.mark.parametrize("outcome", ["completed", "interrupted"])
def test_a_copied_entry_makes_no_run_the_reviewer_s_own(
    honest: Finished, author: Bench, tmp_path: Path, outcome: str
) -> None:
    """Its author names a run of the reviewer's, whose list is public, and asks for a countersignature.

    Before, it was executed and resumed as the reviewer's own: outside of a sandbox, and signed with his key alone.
    """
    reviewer = Bench(tmp_path / "reviewer")
    trust = TrustPolicy.load(reviewer.options.home)
    trust.add(KeyRing(author.options.home).public_key().pem, "author")
    own = Ledger(reviewer.options.runs.ledger).append("begun", "own", KeyRing(reviewer.options.home).signer())
    folder = RunFolder(tmp_path / "given" / "runs" / "lenet_nd_4_digits" / "own")
    shutil.copytree(honest.folder.root, folder.root, ignore=shutil.ignore_patterns(".lock"))
    manifest = manifest_of(folder)
    ledger = replace(manifest.ledger, sequence=own.sequence, digest=own.digest)
    rings = [KeyRing(reviewer.options.home), KeyRing(author.options.home)]
    signed(folder.manifest, replace(manifest, invocation_id="own", ledger=ledger, outcome=outcome), *rings)
    theirs, line = author.options.runs.ledger.read_bytes(), reviewer.options.runs.ledger.read_bytes()
    for content in (theirs + line, line):
        (tmp_path / "given" / "runs" / "ledger.jsonl").write_bytes(content)
        given = Ledger(tmp_path / "given" / "runs" / "ledger.jsonl")
        verdict = verify(folder.root, trust=trust, ledger=given)
        assert not recorded_here(verdict, given.path, trust) and not began_for_itself(folder, given, trust)
        with pytest.raises(NotOwnRun):
            choose_start(folder, given, trust)
    own_copy = RunFolder(tmp_path / "own" / "runs" / "lenet_nd_4_digits" / honest.folder.root.name)
    shutil.copytree(honest.folder.root, own_copy.root, ignore=shutil.ignore_patterns(".lock"))
    authors = TrustPolicy.load(author.options.home)
    verdict = verify(own_copy.root, trust=authors)
    assert recorded_here(verdict, author.options.runs.ledger, authors), "the control"


def test_a_line_of_another_list_in_front_makes_no_list_one_of_others(
    small_run: Callable[..., SmallRun], tmp_path: Path
) -> None:
    """Which list a file is, its first line decides. Before, the others' entries were ignored, and the check skipped."""
    first, second = small_run("first"), small_run("second")
    first.record(), second.record()
    colleague = KeyRing(tmp_path / "colleague")
    TrustPolicy.load(first.home).add(colleague.public_key().pem, "colleague")
    other = Ledger(tmp_path / "other.jsonl")
    other.append("begun", "theirs", colleague.signer())
    lines = first.ledger.path.read_bytes().splitlines(keepends=True)
    for kept in (lines, lines[:2]):
        first.ledger.path.write_bytes(b"".join([*other.path.read_bytes().splitlines(keepends=True), *kept]))
        (failed,) = (check for check in second.verify().checks if check.status == "fail")
        assert failed.name == "ledger" and "is not there" in failed.message
    first.ledger.path.write_bytes(other.path.read_bytes())
    assert second.verify().checks[7].status == "skip", "the control: a list of others alone"
