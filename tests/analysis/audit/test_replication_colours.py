"""The study's own verdicts: what green, black and red mean, both readings of 10 %, n and n - 1."""

from __future__ import annotations

from collections import Counter

import pytest

from ndrepro.analysis.audit import replication_colours as verdicts
from ndrepro.analysis.audit.published_tables import published_tables
from ndrepro.protocol.errors import UsageError


def test_a_colour_depends_on_what_ten_percent_means() -> None:
    original, reproduced = [50.0, 50.0, 50.0, 50.0, 5.0], [50.1, 50.0, 45.0, 44.9, 4.0]
    assert verdicts.colours(original, reproduced).tolist() == ["green", "black", "black", "red", "red"]
    assert verdicts.colours(original, reproduced, "absolute").tolist() == ["green", "black", "black", "black", "black"]
    assert verdicts.colours([72.89], [65.601]).tolist() == ["black"], "exactly 10 % lower, which is not exact in binary"


def test_the_published_tables_give_the_known_counts() -> None:
    tables = published_tables()
    counted = {
        rule: [
            Counter(verdicts.colours(table["original_accuracy_pct"], table[column], rule).tolist())
            for table, column in (
                (tables["printed"], "reproduced_mean_accuracy_pct"),
                (tables["imagenet"], "reproduced_accuracy_pct"),
            )
        ]
        for rule in verdicts.RULES
    }
    total = {rule: sum(parts, Counter()) for rule, parts in counted.items()}
    assert total["relative"] == {"green": 83, "black": 22, "red": 29}
    assert total["absolute"] == {"green": 83, "black": 35, "red": 16}


@pytest.mark.parametrize(
    ("original", "reproduced", "rule", "said"),
    [
        ([1.0], [1.0, 2.0], "relative", "reproduced values"),
        ([1.0], [float("nan")], "relative", "not all are finite"),
        ([1.0], [1.0], "squared", "no rule 'squared'"),
    ],
)
def test_what_cannot_be_judged_is_refused(original: list[float], reproduced: list[float], rule: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        verdicts.colours(original, reproduced, rule)
