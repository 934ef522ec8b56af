"""Attack: a program or script spoils what its recorder keeps of it, so that the recording contradicts itself.

Before, such a run was signed as completed, and did not verify.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from strange_programs import Stranger, manifest_of

from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.execution.verification.script_checks import request as script_request
from ndrepro.protocol.layout import RunFolder
from provenance import record
from provenance.attestation.manifest import ERROR, Resource
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


LOGS = """
open('m.csv', 'w').write('step,accuracy\\n1,0.5\\n2,0.6\\n')
open('m.jsonl', 'a').write('{"step": 1, "loss": "nan", "of": {"x": true}}\\n')
"""


def test_metrics_that_the_kept_log_contradicts_do_not_verify(tmp_path: Path) -> None:
    """Before, only a repetition found them. The log that was continued is the control."""
    author = Stranger.make(tmp_path / "a", {"train.py": LOGS, "m.jsonl": '{"step": 0, "loss": 3.0}\n'})
    run = author.record(outputs=("m.*",), metrics=("m.*",))
    rows = run.metrics.read_bytes()
    assert len(rows.splitlines()) == 3 and not failing_checks(run), "the control"
    forged = (
        rows.replace(b"0.6", b"0.9999"),
        rows + b'{"step": 3, "accuracy": 0.9999, "file": "m.csv"}\n',
        b"".join(rows.splitlines(keepends=True)[:-1]),
        rows.replace(b'"m.csv"', b'"m.jsonl"'),
    )
    for content in forged:
        assert content != rows
        run.metrics.write_bytes(content)
        assert failing_checks(run) == ["metrics"], content
    run.metrics.write_bytes(rows)
    quiet = author.record(outputs=("m.*",))
    quiet.metrics.write_text('{"accuracy": 0.9999, "file": "m.csv"}\n')
    assert failing_checks(quiet) == ["metrics"], "no log was asked for"


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


INVENTED = Resource("test accuracy", annotations={"value": 0.9999})


def test_a_signed_name_that_no_recorder_writes_or_that_comes_twice_does_not_verify(tmp_path: Path) -> None:
    """Of two sources ``show`` took the first, ``diff`` the last, and exports printed both."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('out.txt', 'w').write('0.6')\n"})
    run = author.record(outputs=("out.txt",))
    signed = manifest_of(run)
    source, outputs = signed.dependency("source"), signed.byproduct("outputs")
    assert source is not None and outputs is not None and not failing_checks(run), "the control"
    false = replace(source, digest={"gitCommit": "0" * 40})
    for changes in (
        {"dependencies": (*signed.dependencies, INVENTED)},
        {"dependencies": (*signed.dependencies, false)},
        {"byproducts": (*signed.byproducts, INVENTED)},
        {"byproducts": (*signed.byproducts, replace(outputs, digest={"sha256": "0" * 64}))},
    ):
        author.claim(run, **changes)
        assert "request" in failing_checks(run), changes
        author.claim(run, dependencies=signed.dependencies, byproducts=signed.byproducts)
    assert not failing_checks(run)


def test_the_same_of_a_script(tmp_path: Path) -> None:
    with record(tmp_path / "run", name="fit", home=tmp_path / "home") as run:
        run.log(step=1, loss=0.5)
    folder = RunFolder(tmp_path / "run")
    signed = manifest_of(folder)
    assert not failing_checks(folder), "the control"
    for name, resources in (("dependencies", signed.dependencies), ("byproducts", signed.byproducts)):
        more = (*resources, INVENTED), (*resources, *resources[:1]) * bool(resources)
        for found in filter(None, more):
            with pytest.raises(ProvenanceError, match=r"expected (source|clock)|comes twice"):
                script_request(folder.root, replace(signed, **{name: found}))
