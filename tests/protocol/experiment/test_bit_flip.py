"""A nudge has one text, which says which bit; what says none is refused, with the cure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.bit_flip import Nudge
from ndrepro.protocol.experiment.experiment import Experiment

NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*\Z")


@given(NAMES, st.integers(0, 10**12), st.integers(0, 31))
def test_a_nudge_is_read_as_it_is_written(parameter: str, element: int, bit: int) -> None:
    nudge = Nudge(parameter, element, bit)
    assert Nudge.parse(str(nudge)) == nudge


def test_none_is_no_nudge() -> None:
    assert Nudge.parse("none") is None
    assert Experiment.from_name("lenet_bn_1_digits").nudge == "none"


@pytest.mark.parametrize(
    "text", ["", "one", "conv1.weight", "conv1.weight:0", "conv1.weight:-1:0", "conv1.weight:0:32", "a:00:0", "a:0:1 "]
)
def test_what_names_no_bit_is_refused_before_anything_runs(text: str) -> None:
    with pytest.raises(UsageError, match="nudge="):
        Experiment.from_name("lenet_bn_1_digits", {"nudge": text})


def test_a_nudge_is_recorded_with_the_experiment() -> None:
    experiment = Experiment.from_name("lenet_bn_1_digits", {"nudge": "conv1.weight:0:0"})
    assert experiment.to_json()["nudge"] == "conv1.weight:0:0"
    assert Experiment.from_json(experiment.to_json()) == experiment
