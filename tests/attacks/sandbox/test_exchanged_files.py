"""An author's folder on shared storage: its files are exchanged after they were verified, while the reviewer trains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dishonest_author import copied, edit_results, manifest_of, sign_again, verified
from real_runs import Bench

from ndrepro import api
from ndrepro.execution.reproduce.signed_copy import SignedCopy
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request
from provenance.attestation.dsse import read_envelope
from provenance.errors import DigestError


def test_the_verdict_is_about_the_bytes_that_were_signed(
    honest: Finished, author: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """False results are signed and the honest ones put in their place for as long as the reviewer trains."""
    folder = copied(honest.folder, tmp_path)
    true = folder.metrics.read_bytes()
    edit_results(folder, 4, test_accuracy=0.99, test_loss=0.01)
    sign_again(folder, author)
    assert verified(folder, author).ok

    class Exchanging(Observer):
        def began(self, folder_here: RunFolder, request: Request) -> None:
            folder.metrics.write_bytes(true)

    @contextmanager
    def watching() -> Iterator[Exchanging]:
        yield Exchanging()

    monkeypatch.setenv("NDREPRO_HOME", str(author.options.home))
    runs = tmp_path / "reviewer"
    found = api.reproduce(folder.root, runs=runs, trust_code=True, watching=watching())
    assert folder.metrics.read_bytes() == true
    assert found.verdict == "inconsistent"
    statement = json.loads(read_envelope(found.attestation.read_bytes())[1])
    assert statement["predicate"]["verdict"] == "inconsistent"
    names = [subject["name"] for subject in statement["subject"]]
    assert names[0] == f"{folder.root.parent.name}/{folder.root.name}/{folder.manifest.name}"


@pytest.mark.parametrize("name", ["metrics.jsonl", "request.json", "weights.safetensors", "manifest.dsse.json"])
def test_a_file_that_changes_before_it_is_copied_is_refused(
    name: str, honest: Finished, author: Bench, tmp_path: Path
) -> None:
    folder = copied(honest.folder, tmp_path)
    verdict = verified(folder, author)
    assert verdict.manifest is not None
    if name == folder.manifest.name:
        edit_results(folder, 4, test_accuracy=0.99)
        sign_again(folder, author)
    else:
        with (folder.root / name).open("ab") as stream:
            stream.write(b" ")
    with pytest.raises(DigestError, match=name):
        SignedCopy.make(folder, verdict.manifest, verdict.payload_digest, tmp_path / "copy")


def test_only_the_checkpoints_of_the_plan_are_copied(honest: Finished, author: Bench, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    payload = verified(folder, author).payload_digest
    copy = SignedCopy.make(folder, manifest_of(folder), payload, tmp_path / "copy")
    assert folder.checkpoint_steps() == (6, 12, 18, 24)
    assert copy.folder.checkpoint_steps() == ()
    copy.bring_checkpoints(12, 18, 6)
    copy.bring_checkpoints(17, 18, 6)
    assert copy.folder.checkpoint_steps() == (12, 18)
    folder.checkpoint(24).write_bytes(folder.checkpoint(6).read_bytes())
    with pytest.raises(DigestError, match="step-000000024"):
        copy.bring_checkpoints(24, 24)
