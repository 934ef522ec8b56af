"""Two documents side by side: every leaf once, nothing lost where one ends, and no doubt taken for equality."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from provenance.capture.unavailable import is_missing
from provenance.comparison.json_leaves import ABSENT, equal, leaves, only_what_differs, reason

MISSING = {"none": "nothing"}
_KEYS = st.text("abc", min_size=1, max_size=2)
_PLAIN = st.one_of(st.integers(0, 3), st.booleans(), st.sampled_from(["x", "y"]))
_VALUES = st.one_of(_PLAIN, st.just(MISSING))
DOCUMENTS = st.recursive(
    _VALUES,
    lambda below: st.one_of(st.dictionaries(_KEYS, below, max_size=3), st.lists(_PLAIN, max_size=3)),
    max_leaves=12,
)


def differing(first: Any, second: Any) -> list[str]:
    return [path for path, a, b in leaves(first, second) if not equal(a, b)]


@given(DOCUMENTS)
def test_a_document_does_not_differ_from_itself(document: Any) -> None:
    assert differing(document, document) == []


@given(DOCUMENTS, DOCUMENTS)
def test_exchanging_the_sides_exchanges_the_values(first: Any, second: Any) -> None:
    forwards = [(path, repr(a), repr(b)) for path, a, b in leaves(first, second)]
    backwards = [(path, repr(b), repr(a)) for path, a, b in leaves(second, first)]
    assert forwards == backwards


@given(DOCUMENTS, DOCUMENTS)
def test_unequal_documents_have_a_leaf_that_differs(first: Any, second: Any) -> None:
    # an empty object and an absent one hold the same: nothing
    if _solid(_missing_as_a_whole(first)) != _solid(_missing_as_a_whole(second)):
        assert differing(first, second)


def _missing_as_a_whole(value: Any) -> Any:
    """With one answer in place of an object that has the same in every part: it says the same."""
    if not isinstance(value, dict) or is_missing(value):
        return value
    below = {key: _missing_as_a_whole(part) for key, part in value.items()}
    return MISSING if below and all(part == MISSING for part in below.values()) else below


def _solid(value: Any) -> Any:
    """Leaves by path, with what makes them different."""
    return {path: (type(a) is bool, repr(a)) for path, a, _ in leaves(value, value) if a != {}}


def test_what_is_missing_as_a_whole_is_missing_in_every_part() -> None:
    assert differing(MISSING, {"a": MISSING, "b": {"c": MISSING}}) == []
    assert differing(MISSING, {"a": MISSING, "b": {"c": 1}}) == ["b.c"]


def test_nothing_is_like_another_nothing_but_not_like_something_left_out() -> None:
    assert equal({"none": "no GPU"}, {"none": "another reason"})
    assert not equal({"none": "no GPU"}, ABSENT)
    assert not equal({"none": "no GPU"}, "H100")


def test_true_is_not_one() -> None:
    assert differing({"a": True}, {"a": 1}) == ["a"]
    assert differing({"a": [0, True]}, {"a": [0, 1]}) == ["a"]
    assert differing([0, {"a": True}], [0, {"a": 1}]) == [""]


def test_what_could_not_be_found_out_ends_the_walk() -> None:
    found = list(leaves({"gpu": {"unavailable": "no driver"}}, {"gpu": {"name": "H100", "memory": 80}}))
    assert found == [("gpu", {"unavailable": "no driver"}, {"name": "H100", "memory": 80})]
    assert reason(found[0][1]) == "no driver" and reason(found[0][2]) == ""


def test_the_end_of_one_side_stands_for_all_that_the_other_has_below() -> None:
    none = {"none": "no GPU"}
    found = list(leaves({"gpu": none}, {"gpu": {"devices": [{"name": "H100"}]}}))
    assert found == [("gpu.devices[0].name", none, "H100")]
    assert list(leaves({}, {"gpu": {"name": "H100"}})) == [("gpu.name", ABSENT, "H100")]


def test_a_value_is_unlike_an_object_that_holds_the_same_value() -> None:
    assert list(leaves({"a": 0}, {"a": {"b": 0}})) == [("a", 0, {"b": 0})]


def test_of_lists_and_texts_only_what_differs_is_left() -> None:
    assert only_what_differs(["avx", "sse"], ["avx", "amx"]) == (["sse"], ["amx"])
    assert only_what_differs("built with:\n  GCC 13", "built with:\n  GCC 14") == (["GCC 13"], ["GCC 14"])
    assert only_what_differs(["a", "b"], ["b", "a"]) == (["a", "b"], ["b", "a"])
    assert only_what_differs(1, ["a"]) == (1, ["a"])
