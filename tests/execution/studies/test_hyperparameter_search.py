"""A search of a few epochs: every piece is a signed run, decisions repeat, a crash costs only what it cut off."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_runs import Bench
from small_studies import Watched, write_study

from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.studies.carry_out import carry_out
from ndrepro.execution.studies.hyperparameter_search import SearchObserver, Trial, search_study, targets_of
from ndrepro.execution.studies.launchers import LocalLauncher
from ndrepro.execution.studies.plan import make_plan
from ndrepro.execution.studies.run_status import DONE, MISSING, WAITING, Survey
from ndrepro.execution.studies.search_results import found_file, read_found, write_found
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import read_json
from ndrepro.protocol.study.search_space import SearchOutcome, Target
from ndrepro.protocol.study.study import StudyRun
from ndrepro.protocol.training_record import CONTINUED_RUN
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.digest import file_digest

STUDY = """
[grids.tuned]
settings = { epochs = 2, checkpoint_epochs = 2 }
axes = { seed = [0, 1], method = ["bn"] }

[search]
grid = "tuned"
rungs = [1, 2]
reduction = 2
budget_epochs = 4
validation = 0.25
space.learning_rate = { low = 1e-3, high = 1.0, log = true }
"""


class Kept(SearchObserver):
    """Keeps the events of a search."""

    def __init__(self) -> None:
        self.rungs: list[tuple[int, int, bool, bool]] = []
        self.pieces: dict[tuple[int, int], RunFolder] = {}

    def reached(self, target: Target, trial: Trial, epochs: int, goes_on: bool, recorded: bool) -> None:
        self.rungs.append((trial.number, epochs, goes_on, recorded))
        self.pieces[trial.number, epochs] = trial.pieces[-1].folder


def search(bench: Bench, path: Path) -> tuple[SearchOutcome, Kept]:
    study, kept = load_study(path), Kept()
    (found,) = search_study(study, path, list(targets_of(study)), bench.options, kept, {})
    return found, kept


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Path, SearchOutcome, Kept]]:
    """A whole search; no test changes it."""
    bench = Bench(tmp_path_factory.mktemp("search"))
    path = write_study(bench.root, STUDY)
    # what the runs of the grid are tested with is not what is searched with
    path.write_text(path.read_text().replace("test_images = 16\n", ""))
    yield bench, path, *search(bench, path)


@pytest.fixture
def copied(searched: tuple[Bench, Path, SearchOutcome, Kept], tmp_path: Path) -> tuple[Bench, Path]:
    """The same folder of runs, keys and study, without what was found."""
    original, path, *_ = searched
    bench = Bench(tmp_path)
    shutil.copytree(original.options.runs.root, bench.options.runs.root)
    shutil.copytree(original.options.home, bench.options.home)
    return bench, Path(shutil.copy(path, tmp_path))


def manifest_of(bench: Bench, folder: RunFolder) -> Manifest:
    trust, ledger = TrustPolicy.load(bench.options.home), Ledger(bench.options.runs.ledger)
    verdict = verify(folder.root, trust=trust, ledger=ledger, extra_checks=CHECKS)
    assert [check.message for check in verdict.checks if check.status != "pass"] == []
    assert verdict.manifest is not None
    return verdict.manifest


def test_every_piece_verifies_and_all_are_in_the_budget(searched: tuple[Bench, Path, SearchOutcome, Kept]) -> None:
    bench, _, found, kept = searched
    folders = bench.options.runs.runs()
    assert len(folders) == len(kept.rungs) == sum(found.reached) >= 3
    epochs = [manifest_of(bench, folder).external_parameters["segment"]["epochs"] for folder in folders]
    assert sum(epochs) == found.spent_epochs <= 4
    for folder in folders:
        said = read_json(folder.dataset)
        assert (said["train_images"], said["validation_images"], said["test_images"]) == (36, 12, 0)


def test_who_goes_on_is_among_the_best_so_far_and_the_best_is_found(
    searched: tuple[Bench, Path, SearchOutcome, Kept],
) -> None:
    _, _, found, kept = searched
    errors: list[float] = []
    for (trial, epochs), folder in kept.pieces.items():
        last = json.loads(folder.metrics.read_text().splitlines()[-1])
        if epochs == 1:
            errors.append(1 - last["test_accuracy"])
            best = sorted(errors)[: max(1, len(errors) // 2)]
            goes_on = (trial, 1, True, False) in kept.rungs
            assert goes_on == (errors[-1] <= best[-1])
    assert found.epochs == 2 and found.validation_error == min(
        1 - json.loads(folder.metrics.read_text().splitlines()[-1])["test_accuracy"]
        for (_, epochs), folder in kept.pieces.items()
        if epochs == 2
    )


def test_a_trial_that_goes_on_names_the_piece_before_and_is_the_whole_training(
    searched: tuple[Bench, Path, SearchOutcome, Kept], tmp_path: Path
) -> None:
    bench, path, found, kept = searched
    first, second = kept.pieces[found.trial, 1], kept.pieces[found.trial, 2]
    (origin,) = (item for item in manifest_of(bench, second).dependencies if item.name == CONTINUED_RUN)
    assert origin.digest == {"sha256": file_digest(first.manifest).sha256}
    assert list(found.runs) == [first.root.name, second.root.name]
    study = load_study(path)
    assert study.search is not None
    (base,) = targets_of(study).values()
    whole = Bench(tmp_path)
    experiment = study.search.experiment(base.experiment, found.trial, found.values)
    settings = {"learning_rate": str(experiment.learning_rate), "seed": str(experiment.seed)}
    settings |= {"validation": "0.25", "seeds.split": "1000", "train_images": "48", "test_images": "none"}
    ended = whole.run("lenet_bn_2_digits", **settings)
    assert ended.folder.weights.read_bytes() == second.weights.read_bytes(), "the same bits as in one piece"


def test_the_grid_waits_for_the_search_and_then_runs_with_what_was_found(
    searched: tuple[Bench, Path, SearchOutcome, Kept], tmp_path: Path
) -> None:
    bench, path, found, _ = searched
    plan = make_plan(load_study(path), (), bench.options)
    assert plan.states == {MISSING: 2}
    assert {item.run.experiment.learning_rate for item in plan.items} == {found.values["learning_rate"]}
    unsearched = Path(shutil.copy(path, tmp_path))
    waiting = make_plan(load_study(unsearched), (), bench.options)
    assert waiting.states == {WAITING: 2} and not waiting.todo
    outcome = carry_out(waiting, bench.options, LocalLauncher(1, bench.options), Watched(), {})
    assert not outcome.complete and not outcome.failures, "nothing was started"


def test_started_again_nothing_is_trained_twice(
    copied: tuple[Bench, Path], searched: tuple[Bench, Path, SearchOutcome, Kept]
) -> None:
    bench, path = copied
    before = bench.options.runs.ledger.read_bytes()
    found, kept = search(bench, path)
    assert found == searched[2]
    assert kept.rungs == [(*rung[:3], True) for rung in searched[3].rungs]
    assert bench.options.runs.ledger.read_bytes() == before


def test_after_a_crash_what_is_missing_is_trained_and_the_rest_is_not(
    copied: tuple[Bench, Path], searched: tuple[Bench, Path, SearchOutcome, Kept]
) -> None:
    bench, path = copied
    *_, last = bench.options.runs.runs()
    last.manifest.unlink()  # as a power cut before the signature leaves it
    found, kept = search(bench, path)
    assert [rung[3] for rung in kept.rungs] == [True] * (len(kept.rungs) - 1) + [False]
    assert (found.values, found.validation_error) == (searched[2].values, searched[2].validation_error)
    assert len(bench.options.runs.runs()) == len(searched[3].rungs) + 1, "the one that was cut off stays on record"


def test_a_forged_piece_is_not_counted(
    copied: tuple[Bench, Path], searched: tuple[Bench, Path, SearchOutcome, Kept]
) -> None:
    bench, _ = copied
    (name,) = {folder.root.parent.name for folder in bench.options.runs.runs()}
    known = Survey(bench.options.runs, bench.options.home).pieces(name.removesuffix(".segments"))
    assert len(known) == len(searched[3].rungs)
    forged = bench.options.runs.runs()[0]
    forged.manifest.write_bytes(forged.manifest.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    assert len(Survey(bench.options.runs, bench.options.home).pieces(name.removesuffix(".segments"))) == len(known) - 1


def test_a_piece_in_the_place_of_a_run_is_no_run(
    copied: tuple[Bench, Path], searched: tuple[Bench, Path, SearchOutcome, Kept]
) -> None:
    bench, _ = copied
    runs = bench.options.runs
    (name,) = {folder.root.parent.name for folder in runs.runs()}
    (runs.root / name).rename(runs.root / name.removesuffix(".segments"))
    folder = runs.runs()[-1]
    study = load_study(write_study(bench.root, "[grids.a]\naxes = { method = ['bn'], epochs = [2] }", name="other"))
    experiment = manifest_of(bench, folder).external_parameters["experiment"]
    run = StudyRun("a", Experiment.from_json(experiment))
    assert Survey(runs, bench.options.home).status(run).state not in (DONE,)
    assert study.search is None
    with pytest.raises(UsageError, match="other has no search"):
        targets_of(study)


def test_rows_of_another_search_count_for_nothing(tmp_path: Path) -> None:
    path = write_study(tmp_path, STUDY)
    study = load_study(path)
    assert study.search is not None
    row = SearchOutcome("lenet", "bn", "digits", {"learning_rate": 0.5}, 0, 2, 0.1, 4, (3, 1))
    write_found(found_file(path), study.search, {row.target: row})
    assert read_found(found_file(path), study.search) == (row,)
    assert not any(run.waits for run in load_study(path).runs())
    path.write_text(path.read_text().replace("budget_epochs = 4", "budget_epochs = 5"))
    assert all(run.waits for run in load_study(path).runs())


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "x", "found": []}', '{"schema": "urn:ndrepro:found:v1"}'])
def test_a_damaged_file_of_what_was_found_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = write_study(tmp_path, STUDY)
    found_file(path).write_text(content)
    with pytest.raises(UsageError, match=r"mini\.found\.json") as refused:
        load_study(path)
    assert "search again" in refused.value.cure
