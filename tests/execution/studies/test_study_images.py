"""A container image as an environment of a study: run, counted by its digest, compared; on a stand-in for an engine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_runs import Bench
from small_studies import Watched, write_study
from stand_in_engine import write_engine, write_image

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.sensitivity.bits import compare_bits
from ndrepro.analysis.sensitivity.experimental_design import design_of
from ndrepro.execution.studies.carry_out import Outcome, carry_out
from ndrepro.execution.studies.launchers import LocalLauncher
from ndrepro.execution.studies.plan import StudyPlan, image_of_started_runs, make_plan
from ndrepro.execution.studies.run_status import DONE, MISSING
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.errors import EngineError, UsageError
from ndrepro.protocol.experiment.determinism import INSTRUCTION_LIMITS
from ndrepro.protocol.image_reference import PinnedImage
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.study.study import inside
from ndrepro.report.sections.planned_runs import asked, of_run
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify

NAME = "lenet_bn_1_digits"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where variables limit instruction sets, those reach no container: the tests are about other differences."""
    with pytest.MonkeyPatch.context() as patch:
        for name in INSTRUCTION_LIMITS:
            patch.delenv(name, raising=False)
        yield write_engine(tmp_path_factory.mktemp("engine") / "bin")


@pytest.fixture(autouse=True)
def with_engine(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{engine}{os.pathsep}{os.environ['PATH']}")


def study_of(folder: Path, *environments: str, name: str = "mini") -> Path:
    listed = ", ".join(f'"{each}"' for each in environments)
    return write_study(folder, f'[grids.main]\naxes = {{ environment = [{listed}], method = ["bn"] }}', name=name)


def planned(bench: Bench, *environments: str) -> StudyPlan:
    return make_plan(load_study(study_of(bench.root, *environments)), (), bench.options)


def carried_out(bench: Bench, plan: StudyPlan) -> tuple[Outcome, Watched]:
    watched = Watched()
    return carry_out(plan, bench.options, LocalLauncher(2, bench.options), watched, {}), watched


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, engine: Path) -> Iterator[tuple[Bench, PinnedImage]]:
    """One run outside and one in an image, by a study of both environments; no test changes it."""
    bench = Bench(tmp_path_factory.mktemp("images"))
    image = write_image(bench.root / "one.sif")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{engine}{os.pathsep}{os.environ['PATH']}")
        outcome, _ = carried_out(bench, planned(bench, "main", str(image)))
    assert outcome.complete, outcome
    yield bench, image


@pytest.fixture
def copied(done: tuple[Bench, PinnedImage], tmp_path: Path) -> tuple[Bench, PinnedImage]:
    """The same folder, to be changed."""
    bench = Bench(tmp_path / "copy")
    shutil.copytree(done[0].root, bench.root)
    return bench, PinnedImage("apptainer", str(bench.root / "one.sif"), done[1].digest)


def test_a_study_runs_in_an_image_beside_the_main_environment(done: tuple[Bench, PinnedImage]) -> None:
    bench, image = done
    containers = {}
    for folder in bench.options.runs.runs():
        verdict = verify(
            folder.root, trust=TrustPolicy.load(bench.options.home), ledger=Ledger(bench.options.runs.ledger)
        )
        assert verdict.ok and verdict.manifest is not None
        containers[folder] = verdict.manifest.external_parameters["container"]
    (inside_one,) = (found for found in containers.values() if found)
    assert (inside_one["engine"], inside_one["digest"]) == ("apptainer", image.digest)
    assert len(containers) == 2
    again, watched = carried_out(bench, planned(bench, "main", str(image)))
    assert again.complete and watched.events == []
    more = write_study(
        bench.root, f'[grids.main]\naxes = {{ environment = ["{image}"], method = ["bn"], seed = [1] }}', "more"
    )
    assert make_plan(load_study(more), (), bench.options).recorded == 1, "timings of that image are known"


def test_the_image_is_a_cell_of_its_own_paired_with_main(done: tuple[Bench, PinnedImage]) -> None:
    bench, image = done
    scores = read_results(bench.options.runs.root, policy=TrustPolicy.load(bench.options.home))
    design = design_of(scores.rows)
    assert {cell.label for cell in design.cells} == {"main", image.label}
    assert design.reference.label == "main" and not design.missing and not design.repeats
    assert len(scores.distinct()[0]) == 2, "the same seed in another environment is no repeat"
    (pair,) = compare_bits(design, NAME).pairs
    assert (pair.pairs, pair.equal) == (1, 1), "the stand-in runs the very same libraries"
    study = load_study(study_of(bench.root, "main", str(image)))
    asked_for = {asked(run.experiment, run.environment) for run in study.runs()}
    assert asked_for == {key for row in scores.rows for key in of_run(row, images=True)}


def test_a_run_is_known_by_its_digest_and_not_by_its_images_name(copied: tuple[Bench, PinnedImage]) -> None:
    bench, image = copied
    moved = Path(image.image).rename(bench.root / "moved.sif")
    elsewhere = PinnedImage("apptainer", str(moved), image.digest)
    assert planned(bench, "main", str(elsewhere)).states == {DONE: 2}
    other = write_image(bench.root / "other.sif", "another image")
    plan = planned(bench, "main", str(other))
    assert [item.status.state for item in plan.items] == [DONE, MISSING]
    assert list(plan.elsewhere.values()) == [1]
    assert any(image.label in note and "do not count" in note for note in plan.notes)


@pytest.mark.parametrize("trouble", ["another image", "no image", "no engine"])
def test_an_image_that_cannot_be_had_is_said_before_anything_starts(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    image = write_image(tmp_path / "one.sif")
    plan = planned(bench, "main", str(image))
    if trouble == "another image":
        write_image(Path(image.image), "written anew")
    elif trouble == "no image":
        Path(image.image).unlink()
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    said = {"another image": image.digest, "no image": "no such image file", "no engine": "not installed"}[trouble]
    with pytest.raises(EngineError, match=said):
        carried_out(bench, plan)
    assert not bench.options.runs.root.exists()


def test_a_study_that_was_begun_in_an_image_is_known_to_be(copied: tuple[Bench, PinnedImage]) -> None:
    bench, image = copied
    study = load_study(write_study(bench.root, "[grids.main]\naxes = { method = ['bn'] }", name="whole"))
    plan = make_plan(study, (), bench.options)
    assert plan.states == {DONE: 1} and plan.elsewhere and image_of_started_runs(plan) is None, (
        "started outside as well"
    )
    for folder in bench.options.runs.runs():
        if Request.from_json(read_json(folder.request)).container is None:
            shutil.rmtree(folder.root)
    plan = make_plan(study, (), bench.options)
    assert plan.states == {MISSING: 1}, "a run in an image is none of the main environment"
    begun_in = image_of_started_runs(plan)
    assert begun_in is not None and begun_in.key == image.key
    there = make_plan(inside(study, begun_in), (), bench.options)
    assert there.states == {DONE: 1} and not there.elsewhere
    other = write_image(bench.root / "other.sif", "another image")
    assert make_plan(inside(study, other), (), bench.options).states == {MISSING: 1}


def test_two_names_of_one_image_are_refused(tmp_path: Path) -> None:
    image = write_image(tmp_path / "one.sif")
    shutil.copyfile(image.image, tmp_path / "two.sif")
    with pytest.raises(UsageError, match="comes twice"):
        planned(Bench(tmp_path), str(image), str(PinnedImage("apptainer", str(tmp_path / "two.sif"), image.digest)))
