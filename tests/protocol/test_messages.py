"""Rows of results are read whatever release wrote them, and agree where both have a number."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.messages import LATER_SCORES, Container, Scores, read_json

NOW = Scores(2, 24, 1.0, 0.6, math.nan, 0.5, 0.1, 0.9, 0.8)


def test_a_row_is_read_again_as_it_was() -> None:
    assert Scores.from_row(asdict(NOW)).agrees_with(NOW)
    assert Scores.from_row({**asdict(NOW), "test_loss": "nan"}).agrees_with(NOW)


def test_a_row_from_before_the_top_5_has_none() -> None:
    row = {key: value for key, value in asdict(NOW).items() if key not in LATER_SCORES}
    old = Scores.from_row(row)
    assert old.test_top5_accuracy is None and old.train_top5_accuracy is None
    assert old.agrees_with(NOW) and NOW.agrees_with(old)


def test_one_bit_in_any_number_that_both_have_is_seen() -> None:
    for key, value in asdict(NOW).items():
        other = 1.0 if value != value else value + 1 if isinstance(value, int) else math.nextafter(value, 2)
        assert not NOW.agrees_with(replace(NOW, **{key: other})), key


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": "x"},
        {"step": []},
        {"epoch": math.inf},
        {"test_loss": {}},
        {"novel": 1.0},
        {"novel": None},
        {"train_loss": None},
    ],
)
def test_a_row_of_anything_else_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(NdreproError, match="no row of an epoch's results"):
        Scores.from_row({**asdict(NOW), **change})


@pytest.mark.parametrize("content", [b"", b"\xff", b"{", b"[" * 100_000])
def test_a_file_that_is_no_json_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "request.json"
    path.write_bytes(content)
    with pytest.raises(NdreproError, match=r"request\.json: not JSON"):
        read_json(path)
    path.write_bytes(b"{}")
    assert read_json(path) == {}, "the control"


def test_a_container_of_an_unknown_engine_is_refused() -> None:
    document = asdict(Container("podman", "5.0", "localhost/x", "sha256:" + "0" * 64, "1" * 64))
    with pytest.raises(NdreproError, match="engine"):
        Container.from_manifest({**document, "engine": "evil"})
