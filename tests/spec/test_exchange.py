"""Rows of results are read whatever release wrote them, and agree where both have a number."""

import math
from dataclasses import asdict, replace

from ndrepro.spec.exchange import LATER_SCORES, Scores

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
