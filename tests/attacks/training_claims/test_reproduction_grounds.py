"""Grounds on which a false claim passed `reproduce`: replicates, another code, results that no code computed.

Before: a run trained on other images from some step on was "consistent" with repetitions of the author's own runs; a
patch that was signed and never executed was "identical"; so were invented top-5 accuracies, an invented network, and
an image that copies prepared results.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from dishonest_author import copied, edit_results, edit_trail, manifest_of, other_trajectory
from real_runs import Bench

from ndrepro.analysis.verdicts.code_claim import image_claim
from ndrepro.analysis.verdicts.reproduction_verdict import judge
from ndrepro.execution.containers import engines
from ndrepro.execution.reproduce.recorded_code import environment_differences, recorded_code
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import EngineError, NdreproError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Container, Request, Scores, read_json
from provenance.attestation.manifest import Manifest, Resource
from provenance.formats.atomic_io import write_json
from provenance.formats.metrics_log import read_scalars

CLOSE_TOGETHER = (0.95, 0.955, 0.96, 0.965, 0.97)


def losses_from(folder: RunFolder, step: int, factor: float) -> None:
    """Other losses and hashes from one step on: the steps before it stay equal bit for bit."""

    def edit(records: np.ndarray) -> None:
        losses = records[step:, 1].copy().view(np.float64) * factor
        records[step:, 1] = losses.view(np.uint64)
        records[step:, 2:] ^= np.uint64(1)

    edit_trail(folder, edit)


@pytest.mark.parametrize(("factor", "verdict"), [(1.5, "inconsistent"), (1.004, "undecided")])
def test_losses_from_the_last_equal_state_decide(
    honest: Finished, author: Bench, tmp_path: Path, factor: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten equal steps, then other images: rounding brings one forward pass of equal weights nowhere near."""
    monkeypatch.setattr(
        "ndrepro.analysis.verdicts.reproduction_evidence.unequal_conditions", lambda one, two: ("cpu",)
    )  # as on another processor
    folder = copied(honest.folder, tmp_path)
    losses_from(folder, 3, factor)
    found = judge(folder, honest.folder, CLOSE_TOGETHER)
    assert found.verdict == verdict and "from " in found.because


def test_few_or_scattered_replicates_judge_nothing(
    honest: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ndrepro.analysis.verdicts.reproduction_evidence.unequal_conditions", lambda one, two: ("cpu",))
    folder = copied(honest.folder, tmp_path)
    other_trajectory(folder)
    edit_results(folder, 4, train_loss=0.5)

    def scattered(records: np.ndarray) -> None:
        losses = records[8:, 1].copy().view(np.float64) * 1.2
        records[8:, 1] = losses.view(np.uint64)

    edit_trail(folder, scattered)
    last = max(map(Scores.from_row, read_scalars(honest.folder.metrics)), key=lambda row: row.epoch).test_accuracy
    near = tuple(last + shift for shift in (-0.01, -0.005, 0.0, 0.005, 0.01))
    assert judge(folder, honest.folder, near).verdict == "consistent", "the control"
    assert judge(folder, honest.folder, near[:4]).verdict == "undecided"
    wide = tuple(last + shift for shift in (-0.4, -0.2, 0.0, 0.1, 0.2))
    assert "any result fits" in judge(folder, honest.folder, wide).because
    edit_results(folder, 4, test_accuracy=last - 0.034)
    lower = tuple(each - 0.012 for each in near)
    assert "apart" in judge(folder, honest.folder, lower).because, "both are inside, at opposite ends"


def test_results_that_the_code_does_not_compute_are_not_confirmed(honest: Finished, tmp_path: Path) -> None:
    again = copied(honest.folder, tmp_path)
    rows = [{**row, "test_top5_accuracy": None} for row in read_scalars(again.metrics)]
    again.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = judge(honest.folder, again)
    assert found.verdict == "undecided" and "does not compute test_top5_accuracy" in found.because
    assert judge(again, honest.folder).verdict == "identical", "a run of an earlier release reports fewer results"


def test_an_invented_network_is_compared(honest: Finished, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    document = json.loads(folder.model.read_text())
    write_json(folder.model, {**document, "parameters": 620})
    found = judge(folder, honest.folder)
    assert found.verdict == "inconsistent" and "network" in found.because


def with_source(manifest: Manifest, **changes: object) -> Manifest:
    def edited(item: Resource) -> Resource:
        return replace(item, annotations={**(item.annotations or {}), **changes}) if item.name == "source" else item

    return replace(manifest, dependencies=tuple(map(edited, manifest.dependencies)))


def test_a_signed_patch_that_was_not_executed_is_flagged(honest: Finished) -> None:
    """The digest of the code is this checkout's, the record of the source names another one."""
    manifest, folder = manifest_of(honest.folder), honest.folder.root
    with recorded_code(manifest, folder) as rebuilt:
        honest_status = rebuilt.claim.status
    assert honest_status == "checked", "the control"
    for changes in ({"patch": {"sha256": "ab" * 32, "bytes": 3}, "dirty": True}, {"commit": "1" * 40, "dirty": True}):
        with recorded_code(with_source(manifest, **changes), folder) as rebuilt:
            assert rebuilt.claim.status == "flagged" and rebuilt.differences
    with recorded_code(with_source(manifest, commit="1" * 40, dirty=False, patch=None), folder) as rebuilt:
        assert rebuilt.claim.status in ("not checked", "flagged"), "no repository has that commit"


def test_an_image_of_the_author_s_choice_confirms_nothing(honest: Finished) -> None:
    request = Request.from_json(read_json(honest.folder.request))
    assert image_claim(request, named=False) is None, "the control: no container"
    container = Container("podman", "5", "evil", f"sha256:{'0' * 64}", f"sha256:{'1' * 64}")
    inside = replace(request, container=container)
    found, own = image_claim(inside, named=False), image_claim(inside, named=True)
    assert found is not None and (found.status, "--in podman --image" in found.evidence) == ("flagged", True)
    assert own is not None and own.status == "checked"


def test_the_digests_of_an_image_are_digests() -> None:
    """Kept images are named by them: another text led to an archive outside of the folder, which was loaded."""
    honest = asdict(Container("podman", "5", "evil", f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"))
    assert Container.from_manifest(honest).image == "evil", "the control"
    for name in ("digest", "identifier"):
        for text in ("sha256:../../../tmp/evil", "99.99 % right", f"sha256:{'0' * 64}/x"):
            with pytest.raises(NdreproError, match=f"{name}: .*expected a SHA-256"):
                Container.from_manifest({**honest, name: text})


def test_an_image_that_lists_no_packages_is_refused(honest: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its python3 is its author's: what it printed ended in a TypeError, and one that was silent was waited for."""
    container = Container("podman", "5", "evil", f"sha256:{'0' * 64}", f"sha256:{'1' * 64}")
    request = replace(Request.from_json(read_json(honest.folder.request)), container=container)
    for printed in ("[]", "hello \x1b[2J", "[" * 200_000, '{"installed": [1]}', "\n"):
        monkeypatch.setattr(engines, "python_output", lambda *words, printed=printed: printed)
        with pytest.raises(EngineError, match="does not list what is installed"):
            environment_differences(manifest_of(honest.folder), request)
