"""What the trails show speaks for, against, or not at all about a difference: case by case, with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import parted, records, write_trail

from ndrepro.analysis.comparison.cause_catalogue import NEVER, STAGES, Effect
from ndrepro.analysis.comparison.cause_ranking import LIKELY, POSSIBLE, RULED_OUT, Observation, assess
from ndrepro.analysis.comparison.trail_divergence import compare_trails

ROUNDING, OTHER = 1e-7, 1e-1
EXACT = "they diverge exactly where it first shows"


def effect(stage: str, weight: int = 50) -> Effect:
    return Effect("it", (), stage, weight, "because")


@pytest.mark.parametrize(
    ("stage", "seen", "assessment", "remark"),
    [
        ("weights", Observation(0), LIKELY, EXACT),
        ("weights", Observation(1, True, OTHER), RULED_OUT, "it would have shown at step 0, which is equal"),
        ("batch", Observation(1, True, OTHER), LIKELY, f"{EXACT}; the losses diverge by 1e-01"),
        ("batch", Observation(1, True, ROUNDING), POSSIBLE, "the losses diverge by 1e-07, no more than rounding"),
        ("batch", Observation(0), RULED_OUT, "it can show from step 1 on, and they diverge at step 0"),
        ("batch", Observation(2, True, OTHER), RULED_OUT, "it would have shown at step 1, which is equal"),
        ("batch", Observation(1, False, 0.0), RULED_OUT, "the loss of step 1 is still equal"),
        ("data", Observation(40, True, OTHER), POSSIBLE, "the losses diverge by 1e-01"),
        ("data", Observation(1, True, OTHER, same_pixels=True), RULED_OUT, "the pixels are the same"),
        ("update", Observation(1, False, OTHER), LIKELY, f"{EXACT}; the losses diverge by 1e-01"),
        ("update", Observation(1, True, OTHER), RULED_OUT, "the loss of step 1 differs already"),
        ("schedule", Observation(1, False, OTHER), RULED_OUT, "it can show from step 2 on, and they diverge at step 1"),
        ("schedule", Observation(2, False, 1e-3), POSSIBLE, "the losses diverge by 1e-03"),
        ("arithmetic", Observation(9, True, ROUNDING), LIKELY, "the losses diverge by 1e-07, the size of rounding"),
        ("arithmetic", Observation(9, False, 0.0), LIKELY, "the losses do not differ yet"),
        ("arithmetic", Observation(9, True, OTHER), POSSIBLE, "the losses diverge by 1e-01, more than rounding"),
        ("arithmetic", Observation(9, True, 2e-3), POSSIBLE, "the losses diverge by 2e-03"),
        ("arithmetic", Observation(9, True, 2e-4), LIKELY, "the losses diverge by 2e-04, not too much for rounding"),
        ("batch", Observation(1, True, 2e-4), LIKELY, f"{EXACT}; the losses diverge by 2e-04"),
        ("arithmetic", Observation(0), RULED_OUT, "it can show from step 1 on, and they diverge at step 0"),
        ("evaluation", Observation(9, True, OTHER), RULED_OUT, "it can show in no step, and they diverge at step 9"),
        ("evaluation", Observation(NEVER), LIKELY, "every step is equal, and only the evaluation sees it"),
        ("batch", Observation(NEVER), RULED_OUT, "every step is equal"),
        ("arithmetic", Observation(NEVER), POSSIBLE, ""),
        ("batch", Observation(None), POSSIBLE, ""),
        ("anything", Observation(5, True, OTHER), POSSIBLE, ""),
    ],
)  # fmt: skip
def test_a_difference_stands(stage: str, seen: Observation, assessment: str, remark: str) -> None:
    assert assess(effect(stage), seen) == (assessment, remark)


def test_a_strong_candidate_for_anything_needs_no_further_sign() -> None:
    assert assess(effect("anything", 85), Observation(5, True, OTHER)) == (LIKELY, "")


def test_what_seldom_moves_the_last_bits_is_only_possible() -> None:
    seen = Observation(9, True, ROUNDING)
    assert [assess(effect("arithmetic", weight), seen)[0] for weight in (39, 40)] == [POSSIBLE, LIKELY]


def test_what_acts_on_a_gpu_alone_is_ruled_out_on_the_cpu() -> None:
    driver = replace(effect("arithmetic"), gpu_only=True)
    seen = Observation(9, True, ROUNDING)
    assert assess(driver, seen)[0] == LIKELY
    assert assess(driver, replace(seen, on_cpu=True)) == (RULED_OUT, "both ran on the CPU")
    assert assess(effect("arithmetic"), replace(seen, on_cpu=True))[0] == LIKELY


def test_another_network_is_told_by_its_tensors() -> None:
    seen = Observation(None, other_tensors=True)
    assert assess(effect("anything", 100), seen) == (LIKELY, "the trails follow other tensors")
    assert assess(effect("anything", 85), seen) == (POSSIBLE, "")


def test_equal_statistics_of_the_batch_rule_another_batch_out() -> None:
    seen = Observation(1, True, OTHER, same_batch_by="bn1.running_mean")
    for stage in ("batch", "data"):
        assert assess(effect(stage), seen) == (
            RULED_OUT,
            "both saw the same batch at step 1: bn1.running_mean agrees",
        )
    assert assess(effect("arithmetic"), seen)[0] == POSSIBLE


def test_every_stage_can_stand_in_more_than_one_way() -> None:
    """The control: no stage is always likely, possible or ruled out."""
    cases = [
        Observation(step, loss, size)
        for step in (0, 1, 2, 9, NEVER)
        for loss in (True, False)
        for size in (ROUNDING, OTHER)
    ]
    for stage in STAGES:
        weights = (50, 85) if stage == "anything" else (50,)
        assert len({assess(effect(stage, weight), seen)[0] for seen in cases for weight in weights}) > 1, stage


def test_an_observation_is_what_the_trails_show(tmp_path: Path) -> None:
    plain = write_trail(tmp_path / "a", records(9))

    def seen(table: object) -> Observation:
        comparison = compare_trails(plain, write_trail(tmp_path / "b", table))
        return Observation.of(comparison, same_pixels=False, other_tensors=False)

    assert seen(records(9)).step == NEVER
    found = seen(parted(records(9), 3, [0, 1], loss=1e-3))
    assert (found.step, found.in_loss, found.tensors) == (3, True, ("conv1.weight", "bn1.running_mean"))
    assert found.relative == pytest.approx(1e-3, rel=1e-2)
    assert seen(parted(records(9), 3, [0])).relative == 0.0
    assert seen(parted(records(9), 0, [0])).relative == 0.0
    assert Observation.of(None, same_pixels=True, other_tensors=True) == Observation(
        None, same_pixels=True, other_tensors=True
    )
