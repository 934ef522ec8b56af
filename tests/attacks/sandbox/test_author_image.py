"""A container image of the author's in which nothing is trained: its Python copies prepared results into the folder.

Before: the repetition ran in the same image, copied the same files, and was "identical" with every claim "checked":
nothing of the verdict was computed outside what the author had chosen. The engine here is a stand-in; the image's
Python, the recorder, the reviewer and the evaluation are real.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
from dishonest_author import copied, edit_results, restate
from forged_states import random_weights
from real_runs import Bench
from recorded_runs import process
from stand_in_engine import write_engine, write_image

from ndrepro import api
from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.runs.run import Finished
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.errors import NdreproError, SandboxError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Container, Request, read_json, write_json
from ndrepro.reproduction.reproduction import Reproduction
from ndrepro.reproduction.verified_copy import verified_copy
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import OWN_NAME, TrustPolicy
from provenance.attestation.verify import verify

COPIES = """#!{python} -S
import os, shutil, sys
if "ndrepro.training" not in sys.argv:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
print("training", "...")
for name in os.listdir({prepared!r}):
    source, target = os.path.join({prepared!r}, name), os.path.join(sys.argv[-1], name)
    (shutil.copytree if os.path.isdir(source) else shutil.copyfile)(source, target)
"""
OWN = ("manifest.dsse.json", "request.json", "log.txt", "source.patch", "untracked", ".lock")


class Author:
    """Someone with a key, an engine, and an image that holds prepared files."""

    def __init__(self, root: Path, prepared: RunFolder) -> None:
        self.bench = Bench(root / "author")
        for name in OWN:
            path = prepared.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        python = root / "python3"
        python.write_text(COPIES.format(python=sys.executable, prepared=str(prepared.root)), encoding="utf-8")
        python.chmod(0o755)
        self.engine = write_engine(root / "bin", python)
        choice = ContainerChoice.from_words("apptainer", write_image(root / "evil.sif").image)
        self.bench.options = replace(self.bench.options, container=choice)


def reviewed(root: Path, author: Author, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Reproduction]:
    """What a reviewer with a key of his own finds, with the default options, each time that he asks."""
    finished = author.bench.run("lenet_nd_4_digits")
    assert (finished.outcome, finished.error) == ("completed", None)
    home = root / "reviewer"
    monkeypatch.setenv("NDREPRO_HOME", str(home))
    TrustPolicy.load(home).add(KeyRing(author.bench.options.home).public_key().pem, "author")
    assert verify(finished.folder.root, trust=TrustPolicy.load(home), extra_checks=checks_of).ok

    def reproduce() -> Reproduction:
        found = api.reproduce(finished.folder.root, runs=root / "reviews", trust_code=True)
        assert [judgement.verdict for judgement in found.judgements] == ["identical"], "as far as the image tells"
        return found

    return reproduce


def statuses(found: Reproduction) -> dict[str, str]:
    return {claim.name: claim.status for claim in found.claims}


def test_a_countersigned_run_is_not_the_reviewer_s_own(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Before, who signed an author's manifest answered for the image in it, and for who may write to its data."""
    folder, home = copied(honest.folder, tmp_path), tmp_path / "reviewer"
    shutil.copy(author.options.runs.ledger, tmp_path / "runs" / "ledger.jsonl")
    TrustPolicy.load(home).add(KeyRing(author.options.home).public_key().pem, "author")
    digest = verify(folder.root, trust=TrustPolicy.load(home)).payload_digest
    assert digest is not None
    countersign(folder.manifest, digest, KeyRing(home))
    assert OWN_NAME in verify(folder.root, trust=TrustPolicy.load(home)).signers
    for whose, own in ((home, False), (author.options.home, True)):
        options = replace(author.options, home=whose)
        assert verified_copy(folder, options, tmp_path / whose.name).own is own


def test_an_image_is_no_option_of_the_engine_s(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """A relative path that is a file of the reviewer's clone, with the recorded digest: a bind of his home folder."""
    folder = copied(honest.folder, tmp_path)
    request = read_json(folder.request)
    for image, refused in (("--bind=/root:/mnt", True), ("/images/one.sif", False)):
        container = Container("apptainer", "1", image, "sha256:" + "0" * 64, "")
        write_json(folder.request, {**request, "container": asdict(container)})
        with pytest.raises(NdreproError, match="an absolute path") if refused else nullcontext():
            Request.from_json(read_json(folder.request))
    with pytest.raises(NdreproError, match="an absolute path"):
        Container.from_manifest(asdict(replace(container, image="-B=/")))


def test_enroot_starts_no_image_for_another_s_run(
    honest: Finished, author: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image's ``etc/fstab`` names what of this machine is mounted, to be written. Before: started."""
    home, started, program = tmp_path / "reviewer", tmp_path / "started", tmp_path / "bin" / "enroot"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {started}\necho 4.1 --net\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("NDREPRO_HOME", str(home))
    TrustPolicy.load(home).add(KeyRing(author.options.home).public_key().pem, "author")
    image = write_image(tmp_path / "author.sqsh").image
    here = partial(api.reproduce, honest.folder.root, runs=tmp_path / "reviews", engine="enroot", image=image)
    with pytest.raises(SandboxError, match="Enroot does not confine an image"):
        here()
    assert not started.exists()
    with pytest.raises(NdreproError):
        here(trust_code=True)
    assert started.exists(), "the control"


SEARCH = """
[search]
grid = "main"
rungs = [1, 2]
reduction = 2
budget_epochs = 4
validation = 0.1
seed = 1
space.learning_rate = { low = 1e-3, high = 1.0, log = true }
"""


@pytest.mark.parametrize("verb", ["run", "resume", "search"])
def test_enroot_starts_no_image_that_an_author_s_study_names(tmp_path: Path, verb: str) -> None:
    """Before: ``study run`` started it without a question."""
    started, program = tmp_path / "started", tmp_path / "bin" / "enroot"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {started}\necho 4.1 --net\n")
    program.chmod(0o755)
    image = write_image(tmp_path / "author.sqsh")
    study = tmp_path / "plan.toml"
    study.write_text(f"""
title = "one"
settings = {{ arch = "lenet", method = "bn", dataset = "digits", epochs = 2 }}
[grids.main.axes]
environment = ["enroot:{image.reference}"]
{SEARCH if verb == "search" else ""}""")
    variables = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "NDREPRO_HOME": str(tmp_path / "home")}
    words = ("study", verb, str(study), "--runs", str(tmp_path / "runs"))
    done = process(*words, **variables)
    assert done.code and "Enroot does not confine an image" in done.err and not started.exists(), done
    process(*words, "--trust-code", **variables)
    assert started.exists() is (verb != "resume"), "the control: of nothing that was started nothing is resumed"


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("engine")
def test_invented_results_are_evaluated_outside_the_image(
    honest: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = copied(honest.folder, tmp_path / "prepared")
    random_weights(prepared)
    restate(prepared)
    edit_results(prepared, 4, test_accuracy=1.0, train_accuracy=1.0, test_loss=0.001)
    found = reviewed(tmp_path, Author(tmp_path, prepared), monkeypatch)()
    (evaluated,) = (claim for claim in found.claims if claim.name == "signed weights evaluated again")
    print(evaluated.evidence)
    assert (found.verdict, evaluated.status) == ("inconsistent", "failed")
    assert "100.00% signed" in evaluated.evidence and "own environment" in evaluated.evidence
    assert statuses(found)["data read outside the container image"] == "checked"


@pytest.mark.usefixtures("engine")
def test_what_an_image_alone_reports_confirms_no_run(
    honest: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: weights that were trained, by whom ever. Nobody is accused, and training was shown by nothing."""
    prepared = copied(honest.folder, tmp_path / "prepared")
    reproduce = reviewed(tmp_path, Author(tmp_path, prepared), monkeypatch)
    found = reproduce()
    claims = statuses(found)
    assert found.verdict == "undecided" and claims["container image"] == "flagged"
    assert claims["signed weights evaluated again"] == claims["data read outside the container image"] == "checked"
    assert claims["libraries and loaded code"] == "not checked"

    def refused(*_: object, **__: object) -> None:
        raise SandboxError("no sandbox here")

    monkeypatch.setattr("ndrepro.execution.reproduce.reexecute.evaluation_outside", refused)
    found = reproduce()
    (evaluated,) = (claim for claim in found.claims if claim.name == "signed weights evaluated again")
    assert (found.verdict, evaluated.status) == ("undecided", "not checked") and "no sandbox here" in evaluated.evidence
