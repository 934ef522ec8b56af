"""Attack: a program or script spoils what its recorder keeps of it, so that the recording contradicts itself.

Before, such a run was signed as completed, and did not verify.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from strange_programs import Stranger, manifest_of

from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.layout import RunFolder
from provenance import record
from provenance.attestation.manifest import ERROR
from provenance.errors import ProvenanceError

SPOILS = """
import os
if os.path.exists({author!r}) == {at_author}:
    folder = os.environ['NDREPRO_HOOK_OUT']
    open(os.path.join(folder, f'process-{{os.getpid()}}-1.json'), 'w').close()
    open(os.path.join(folder, f'trail-{{os.getpid()}}-1-1.bin'), 'wb').write(b'no trail')
open('out.txt', 'w').write('0.6')
"""


def failing_checks(run: RunFolder) -> list[str]:
    manifest = manifest_of(run)
    failing = []
    for check in checks_of(manifest):
        try:
            check(run.root, manifest)
        except ProvenanceError:
            failing.append(check.__name__)
    return failing


def test_a_program_whose_recording_does_not_verify_is_not_signed_as_completed(tmp_path: Path) -> None:
    author = Stranger.make(
        tmp_path / "a", {"train.py": SPOILS.format(author=str(tmp_path / "a" / "author"), at_author=True)}
    )
    run = author.record(outputs=("out.txt",), trail="auto")
    manifest = manifest_of(run)
    assert failing_checks(run) == ["trail"], "the control: what is left cannot be verified"
    assert (manifest.outcome, manifest.exit_code) == ("failed", 0)
    error = manifest.byproduct(ERROR)
    assert error is not None and str((error.annotations or {})["message"]).startswith("check trail: ")


def test_a_repetition_whose_recording_does_not_verify_gets_no_verdict(tmp_path: Path) -> None:
    author = Stranger.make(
        tmp_path / "a", {"train.py": SPOILS.format(author=str(tmp_path / "a" / "author"), at_author=False)}
    )
    run = author.record(outputs=("out.txt",), trail="auto")
    assert manifest_of(run).outcome == "completed"
    with pytest.raises(ProvenanceError, match="check trail: "):
        author.reproduce(run)


def test_a_script_whose_log_cannot_be_read_is_not_signed_as_completed(tmp_path: Path) -> None:
    with (
        pytest.raises(ProvenanceError, match=r"metrics\.jsonl"),
        record(tmp_path / "run", name="fit", home=tmp_path / "home") as run,
    ):
        run.log(step=1, loss=0.5)
        with (tmp_path / "run" / "metrics.jsonl").open("a") as log:
            log.write("no row\n")
    manifest = manifest_of(RunFolder(tmp_path / "run"))
    assert manifest.outcome == "failed" and "metrics.jsonl" in str(manifest.byproduct(ERROR))
