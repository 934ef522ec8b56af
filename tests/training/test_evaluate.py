"""Top 1 is argmax, top 5 is torch's top five, and neither is fooled by scores that are equal or are no numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ndrepro.training.evaluate import right_answers


def test_they_are_argmax_and_the_five_highest() -> None:
    logits = torch.rand(400, 30, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(400) % 30
    first = int((logits.argmax(1) == labels).sum())
    five = int((logits.topk(5).indices == labels[:, None]).sum())
    assert right_answers(logits, labels).tolist() == [first, five]
    assert first < five < 400


def test_a_network_that_scores_all_classes_alike_is_right_by_chance_only() -> None:
    labels = torch.arange(100) % 10
    for constant in (0.0, math.nan, -math.inf):
        assert right_answers(torch.full((100, 10), constant), labels).tolist() == [10, 50]


@given(st.lists(st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf]), min_size=8, max_size=8), st.integers(0, 7))
def test_top_1_is_argmax_whatever_the_scores(scores: list[float], label: int) -> None:
    logits = torch.tensor([scores])
    first, five = right_answers(logits, torch.tensor([label])).tolist()
    assert first == int(logits.argmax(1) == label)
    assert first <= five <= 1


@pytest.mark.parametrize("classes", [2, 5])
def test_with_no_more_than_five_classes_every_image_counts(classes: int) -> None:
    logits = torch.rand(20, classes, generator=torch.Generator().manual_seed(0))
    assert right_answers(logits, torch.arange(20) % classes)[1] == 20
