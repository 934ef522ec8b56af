"""From two manifests and two trails to a ranking: each cause is found where it acts, and ruled out where it cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import Edit, manifest, packages, parted, put, records, write_trail

from ndrepro.analysis.comparison.causes import Cause, find_causes
from ndrepro.analysis.comparison.trail_divergence import TrailComparison, compare_trails
from ndrepro.protocol.messages import Scores
from ndrepro.protocol.training_record import METRICS_SUMMARY, metrics_summary
from provenance.comparison.code_diff import CodeDiff, FileChange
from provenance.comparison.manifest_diff import diff

ALL = range(5)
SIX_STEPS = put("byproducts", {METRICS_SUMMARY: metrics_summary((Scores(2, 12, 1.0, 0.5, 1.1, 0.6, 0.1),))})


class Case:
    """Two manifests and the trails that they might have left."""

    def __init__(self, root: Path) -> None:
        self._plain = write_trail(root / "plain", records(20))
        self._other = root / "other"

    def trails(self, step: int | None, columns: Any = ALL, loss: float | None = 1e-7) -> TrailComparison:
        table = records(20) if step is None else parted(records(20), step, list(columns), loss if step else None)
        return compare_trails(self._plain, write_trail(self._other, table))

    def causes(self, trails: TrailComparison | None, *edits: Edit, **settings: str) -> tuple[Cause, ...]:
        first, second = manifest(SIX_STEPS), manifest(SIX_STEPS, *edits, **settings)
        return find_causes(diff(first, second, ()), (first, second), trails)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def standings(causes: tuple[Cause, ...]) -> dict[str, str]:
    return {cause.title: cause.assessment for cause in causes}


TORCH = packages(torch=("2.8.0", "71" * 32))
FILES = put("data.tree_sha256", "db" * 32)
PIXELS = put("data.pixels_sha256", {"train": "ab" * 32, "test": "bb" * 32})


def test_data_of_which_one_run_says_nothing_are_not_known_to_be_others(case: Case) -> None:
    def unread(document: dict[str, Any]) -> None:
        document["data"] = {}

    assert "other data" in standings(case.causes(None, FILES, PIXELS)), "the control"
    assert set(standings(case.causes(None, unread))) == {"something that was not recorded"}


def test_another_seed_of_the_augmentation_parts_at_step_1(case: Case) -> None:
    causes = case.causes(case.trails(1, loss=0.1), **{"seeds.augment": "1"})
    assert standings(causes) == {"another seed of the augmentation": "likely"}
    assert causes[0].evidence[0] == "augment 0 -> 1"
    # the control: the same change is ruled out where the first weights differ already, or step 1 is equal
    for step in (0, 2):
        again = case.causes(case.trails(step, loss=0.1), **{"seeds.augment": "1"})
        assert standings(again)["another seed of the augmentation"] == "ruled out"
        assert len(again) == 2, "then something else is offered"


def test_another_seed_of_everything_is_told_by_the_first_weights(case: Case) -> None:
    causes = case.causes(case.trails(0), seed="3")
    assert causes[0].title == "another seed of the first weights" and causes[0].assessment == "likely"
    assert {cause.assessment for cause in causes[1:]} == {"ruled out"}


def test_threads_and_torch_part_by_rounding_and_seeds_do_not(case: Case) -> None:
    edits = (put("internal.threads", 2), put("machine.variables.recorded.OMP_NUM_THREADS", "2"), TORCH)
    causes = case.causes(case.trails(1, loss=1e-7), *edits)
    assert [cause.title for cause in causes] == ["another release or build of torch", "another number of threads"]
    assert {cause.assessment for cause in causes} == {"likely"}
    assert causes[0].evidence[0] == "torch 2.13.0 -> 2.8.0"
    assert causes[1].evidence[0] in ("threads, OMP_NUM_THREADS 1 -> 2", "threads 1 -> 2; OMP_NUM_THREADS 1 -> 2")
    with_seed = case.causes(case.trails(1, loss=1e-7), *edits, **{"seeds.order": "1"})
    assert standings(with_seed)["another seed of the order of the images"] == "possible"


def test_other_vector_instructions_are_no_other_build_of_torch(case: Case) -> None:
    def uses(name: str) -> Edit:
        return put("internal.libraries.build", f"PyTorch built with:\n  - GCC 13.3\n  - CPU capability usage: {name}")

    first, second = manifest(SIX_STEPS, uses("AVX512")), manifest(SIX_STEPS, uses("DEFAULT"))
    found = find_causes(diff(first, second, ()), (first, second), case.trails(1, loss=1e-7))
    assert standings(found) == {"other vector instructions": "likely"}


def test_a_large_first_difference_is_more_than_rounding(case: Case) -> None:
    causes = case.causes(case.trails(1, loss=0.1), TORCH, **{"seeds.order": "1"})
    assert list(standings(causes).items()) == [
        ("another seed of the order of the images", "likely"),
        ("another release or build of torch", "possible"),
    ]


def test_equal_statistics_of_the_batch_rule_another_order_out(case: Case) -> None:
    causes = case.causes(case.trails(1, [0, 2, 3], loss=0.1), TORCH, **{"seeds.order": "1"})
    assert standings(causes)["another seed of the order of the images"] == "ruled out"
    assert "both saw the same batch at step 1: bn1.running_mean agrees" in causes[-1].evidence


def test_the_learning_rate_enters_behind_the_first_loss(case: Case) -> None:
    assert standings(case.causes(case.trails(1, [0, 3], loss=None), learning_rate="0.2")) == {
        "another learning rate or weight decay": "likely"
    }
    late = case.causes(case.trails(1, loss=0.1), learning_rate="0.2")
    assert standings(late)["another learning rate or weight decay"] == "ruled out"


def test_a_package_that_takes_no_part_is_not_offered_alone(case: Case) -> None:
    causes = case.causes(case.trails(5), packages(pytest=("8.0.0", "91" * 32)))
    assert {cause.title for cause in causes} == {"something that was not recorded", "other packages"}


def test_gpu_libraries_are_ruled_out_where_both_ran_on_the_cpu(case: Case) -> None:
    other = packages(**{"nvidia-cublas": ("13.1", "93" * 32)})
    assert standings(case.causes(case.trails(5), other))["other GPU libraries or driver"] == "ruled out"
    on_gpu = put("internal.device", "cuda:0")
    first, second = manifest(SIX_STEPS, on_gpu), manifest(SIX_STEPS, on_gpu, other)
    found = find_causes(diff(first, second, ()), (first, second), case.trails(5))
    assert standings(found)["other GPU libraries or driver"] == "likely"


def test_the_same_version_with_other_files_is_named(case: Case) -> None:
    causes = case.causes(case.trails(5), packages(torch=("2.13.0", "71" * 32)))
    assert causes[0].title == "another release or build of torch"
    assert "but another RECORD" in causes[0].evidence[0]


class TestCode:
    """The digest of the code that ran decides; its files tell how likely."""

    def causes(self, case: Case, code: CodeDiff | None, *edits: Edit) -> tuple[Cause, ...]:
        first, second = manifest(SIX_STEPS), manifest(SIX_STEPS, *edits)
        return find_causes(diff(first, second, ()), (first, second), case.trails(4, loss=0.1), code=code)

    def test_another_commit_of_the_same_code_is_no_cause(self, case: Case) -> None:
        causes = self.causes(case, None, put("source.commit", "ff" * 20))
        assert [cause.title for cause in causes] == ["something that was not recorded"]

    def test_a_file_of_the_training_half_is_a_likely_one(self, case: Case) -> None:
        names = ("docs/a.md", "provenance/formats/trail.py", "ndrepro/training/trainer.py")
        files = tuple(FileChange(name, 9, 1) for name in names)
        causes = self.causes(case, CodeDiff("git", files), put("code", "c1" * 32))
        assert standings(causes) == {"other code": "likely"}
        assert causes[0].evidence == (
            "code c0c0c0c0c0c0 -> c1c1c1c1c1c1",
            "differs in ndrepro/training/trainer.py, provenance/formats/trail.py",
        )

    def test_files_of_the_other_half_are_a_weak_one(self, case: Case) -> None:
        code = CodeDiff("git", (FileChange("ndrepro/cli/commands/show.py", 1, 1),))
        causes = self.causes(case, code, put("code", "c1" * 32), TORCH)
        assert [cause.title for cause in causes] == ["another release or build of torch", "other code"]
        assert causes[1].evidence[-1] == "no file that computes differs"

    def test_without_a_digest_commit_and_patch_stand_for_the_code(self, case: Case) -> None:
        no_digest = put("code", None)
        first, second = manifest(SIX_STEPS, no_digest), manifest(SIX_STEPS, no_digest, put("source.commit", "ff" * 20))
        found = find_causes(diff(first, second, ()), (first, second), case.trails(4))
        assert "other code" in standings(found)
        same = find_causes(diff(first, first, ()), (first, first), case.trails(4))
        assert "other code" not in standings(same)


class TestData:
    """Files are one thing, the pixels that are read from them another."""

    def test_other_files_and_pixels_are_other_data(self, case: Case) -> None:
        causes = case.causes(case.trails(1, loss=0.1), FILES, PIXELS)
        assert list(standings(causes).items()) == [("other data", "likely")]
        assert "tree_sha256 dadadadadada -> dbdbdbdbdbdb" in causes[0].evidence

    def test_other_files_of_the_same_pixels_are_ruled_out(self, case: Case) -> None:
        causes = case.causes(case.trails(1, loss=0.1), FILES)
        assert standings(causes)["other data"] == "ruled out" and "the pixels are the same" in causes[-1].evidence

    def test_other_pixels_of_the_same_files_were_decoded_otherwise(self, case: Case) -> None:
        assert "other pixels from the same files" in standings(case.causes(case.trails(1, loss=0.1), PIXELS))

    def test_every_training_image_is_seen_in_the_first_epoch(self, case: Case) -> None:
        inside = case.causes(case.trails(6, loss=0.1), FILES, PIXELS)
        behind = case.causes(case.trails(7, loss=0.1), FILES, PIXELS)
        assert standings(inside)["other data"] == "likely" and standings(behind)["other data"] == "ruled out"

    def test_other_test_images_move_results_alone(self, case: Case) -> None:
        edits = FILES, put("data.pixels_sha256", {"train": "aa" * 32, "test": "bc" * 32})
        assert standings(case.causes(case.trails(None), *edits)) == {"other test images": "likely"}
        assert standings(case.causes(case.trails(4), *edits))["other test images"] == "ruled out"

    def test_how_many_images_were_asked_for_is_a_setting_and_no_other_data(self, case: Case) -> None:
        causes = case.causes(case.trails(1, loss=0.1), PIXELS, train_images="50")
        assert standings(causes) == {"other batches": "likely"}


def test_a_run_that_was_resumed_is_likely_where_it_parts_behind_the_checkpoint(case: Case) -> None:
    resumed = put("internal.resumedFromStep", 6)
    assert standings(case.causes(case.trails(7), resumed))["a resumed run"] == "likely"
    assert standings(case.causes(case.trails(3), resumed))["a resumed run"] == "ruled out"
    assert "a resumed run" not in standings(case.causes(case.trails(7)))


def test_a_run_that_ended_earlier_has_not_parted(case: Case, tmp_path: Path) -> None:
    short = compare_trails(write_trail(tmp_path / "a", records(20)), write_trail(tmp_path / "b", records(15)))
    causes = case.causes(short, put("outcome", "killed"))
    assert standings(causes) == {"one took more steps": "likely"}
    assert causes[0].evidence == ("they end at step 20 and step 15; every step that both have is equal",)


def test_a_trail_that_is_shorter_than_what_was_signed_was_cut(case: Case, tmp_path: Path) -> None:
    short = compare_trails(write_trail(tmp_path / "a", records(20)), write_trail(tmp_path / "b", records(8)))
    causes = case.causes(short)
    assert standings(causes) == {"a truncated trail": "likely"}
    assert causes[0].evidence[0] == "the second run signed 12 steps, its trail ends at step 8"


def test_a_setting_that_one_version_does_not_know_is_left_to_the_code(case: Case) -> None:
    first = manifest(SIX_STEPS)
    experiment = {**first.external_parameters["experiment"], "of_tomorrow": 0}
    second = replace(first, external_parameters={**first.external_parameters, "experiment": experiment})
    assert diff(first, second)["experiment"].get("of_tomorrow") is not None
    found = find_causes(diff(first, second), (first, second), case.trails(4))
    assert [cause.title for cause in found] == ["something that was not recorded"]


@pytest.mark.parametrize(
    ("level", "device", "step", "title"),
    [
        ("deterministic", "cpu", 4, "something that was not recorded"),
        ("deterministic", "cuda:0", 4, "an operation that is not deterministic on this GPU"),
        ("seeded", "cuda:0", 4, "operations whose sums have no fixed order"),
        ("deterministic", "cpu", 0, "first weights that were changed"),
    ],
)
def test_where_nothing_recorded_differs_what_is_left_is_said(
    case: Case, level: str, device: str, step: int, title: str
) -> None:
    edits = put("internal.determinism.level", level), put("internal.device", device)
    both = manifest(*edits, put("machine.container", {"unavailable": "not told"}))
    (cause,) = find_causes(diff(both, both), (both, both), case.trails(step, [3], loss=None))
    assert (cause.title, cause.assessment) == (title, "possible")
    assert cause.evidence == (
        "the same on both sides: source, data, packages, flags, threads, machine",
        "not known: container: container",
        "only fc.weight differs, as after a flipped bit",
    )


def test_without_trails_everything_is_possible_and_the_network_first(case: Case) -> None:
    causes = case.causes(None, TORCH, arch="vgg16", learning_rate="0.2")
    assert {cause.assessment for cause in causes} == {"possible"} and causes[0].title == "another network"


def test_the_json_is_plain(case: Case) -> None:
    (cause,) = case.causes(case.trails(1, loss=0.1), **{"seeds.augment": "1"})
    assert json.loads(json.dumps(cause.to_json()))["assessment"] == "likely"


EDITED = {"distribution": "numpy", "recorded": "01" * 32, "actual": "02" * 32}


def edited(**files: dict[str, Any]) -> Edit:
    found = {"imported": ["numpy"], "checked": 9, "edited": files}
    return put("machine.imported_files", found)


def test_a_library_file_edited_by_hand_stands_before_every_other_cause(case: Case) -> None:
    """Behind an equal version and an equal RECORD."""
    name = "numpy/_core/numeric.py"
    first = manifest(SIX_STEPS, edited())

    def causes(*edits: Edit) -> tuple[Cause, ...]:
        second = manifest(SIX_STEPS, put("internal.threads", 2), TORCH, *edits)
        return find_causes(diff(first, second, ()), (first, second), case.trails(1, loss=1e-7))

    found = causes(edited(**{name: EDITED}))
    assert found[0].title == "a library file edited by hand" and found[0].assessment == "likely"
    assert found[0].evidence[0] == f"edited file numpy: {name} absent -> 020202020202"
    assert "another number of threads" in standings(found)
    # the control: no file was edited
    assert "a library file edited by hand" not in standings(causes(edited()))


def test_two_runs_with_the_same_edit_do_not_differ_by_it() -> None:
    name = "numpy/_core/numeric.py"
    first, second = manifest(edited(**{name: EDITED})), manifest(edited(**{name: EDITED}))
    assert not diff(first, second, ())["packages"].changes
    other = manifest(edited(**{name: {**EDITED, "actual": "03" * 32}}))
    (change,) = diff(first, other, ())["packages"].changes
    assert (change.first, change.second) == ("02" * 32, "03" * 32)
    unknown = manifest(put("machine.imported_files", {"unavailable": "killed before"}))
    assert [item.second for item in diff(first, unknown, ())["packages"].unknown] == ["killed before"]
    (unlooked,) = diff(manifest(), first, ())["packages"].unknown
    assert (
        unlooked.first.startswith("recorded before")
        and not diff(manifest(), manifest(edited()), ())["packages"].unknown
    )
