"""Recorded values in few words, and changes of one value put together."""

from typing import Any

import pytest

from ndrepro.analysis.comparison.wording import fold, shortened, value
from ndrepro.text.plurals import in_room, plural
from ndrepro.text.visible import visible
from provenance.comparison.manifest_diff import FieldChange


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ("ab" * 32, "abababababab"),
        ("ab" * 20, "abababababab"),
        ("sha256:" + "ab" * 32, "sha256:abababababab"),
        ("ab" * 21, "ab" * 21),
        ({"none": "no GPU"}, "none"),
        ({"none": "not there"}, "absent"),
        ({"unavailable": "no driver"}, "unknown"),
        (True, "yes"),
        (None, "unset"),
        ([], "nothing"),
        (["avx", "sse", "amx", "neon"], "avx, sse, amx and 1 more"),
        (["OpenMP 201511 (a.k.a. OpenMP 4.5)", "MKL 2024"], "2 lines"),
        ("two\nlines", "two lines"),
        (0.1, "0.1"),
    ],
)
def test_a_value_is_said_in_few_words(recorded: Any, said: str) -> None:
    assert value(recorded) == said


def test_a_long_text_keeps_its_ends() -> None:
    assert shortened("a" * 50 + "z" * 50) == "a" * 20 + "..." + "z" * 20
    assert shortened("a" * 44) == "a" * 44 and shortened("abc") == "abc"


def test_changes_between_the_same_values_are_one_line_shortest_name_first() -> None:
    names = ["OMP_NUM_THREADS", "threads", "MKL_NUM_THREADS", "threads at end"]
    changes = [FieldChange(name, "1" if name.isupper() else 1, 2) for name in names] + [
        FieldChange("level", "a", "b", "why")
    ]
    assert [str(line) for line in fold(changes)] == [
        "threads, threads at end, OMP_NUM_THREADS and 1 more 1 -> 2",
        "level a -> b (why)",
    ]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("a" * 50 + "x" + "b" * 50, "a" * 50 + "y" + "b" * 50, f"{'a' * 11}x{'b' * 32}... -> ...{'a' * 11}y"),
        (["a line of more than twenty-two letters"], ["a line of more than twenty-two numbers"], "letters'] -> "),
        (1, "1", "level 1 -> '1'"),
    ],
)
def test_different_values_are_never_shown_as_the_same(first: Any, second: Any, said: str) -> None:
    (line,) = fold([FieldChange("level", first, second)])
    assert value(first) == value(second), "the control: in short they look equal"
    assert line.first != line.second and said in str(line)


def test_counts_have_their_noun() -> None:
    assert (plural(1, "file"), plural(1234, "file")) == ("1 file", "1,234 files")


def test_control_codes_are_written_out() -> None:
    assert visible("a\x1b[31mž\r\n\tb") == "a\\x1b[31mž\\r\n\tb" and visible("plain") == "plain"


def test_the_longest_clauses_are_cut_and_no_short_one_is_lost() -> None:
    said = in_room(["a" * 5000, "short", "", "b" * 2000, "last"], 3000)
    first, short, second, last = said.split("; ")
    assert (short, last) == ("short", "last")
    assert first.startswith("a" * 1495 + " [3,505 more") and second.startswith("b" * 1495 + " [505 more")
    assert in_room(["a" * 100, "b"]) == f"{'a' * 100}; b", "the control"
    assert in_room([]) == ""
