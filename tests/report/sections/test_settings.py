"""Settings of networks and data of the user's own are short in tables and labels, and whole in what is signed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.report.sections.seed_groups import settings_text
from ndrepro.report.sections.settings import split_settings


def row(run_id: str, **settings: Any) -> ResultRow:
    nothing = {field.name: None for field in fields(ResultRow)}
    named = {"arch": "nets:Net", "method": "bn", "epochs": 1, "dataset": "own", "run_id": run_id}
    return ResultRow(**{**nothing, **named, "seeds": {}, "settings": settings})  # type: ignore[arg-type]


def test_the_source_of_a_network_is_shown_where_two_differ_and_in_eight_digits() -> None:
    own = {"own.classes": 2, "own.mean": "0.4854,0.5022,0.5019", "batch_size": 4}
    first, again, other = (row(run, network_source=digit * 64, **own) for run, digit in ("1a", "2a", "3b"))
    assert split_settings([first, again]) == ("batch_size=4", {"1": "", "2": ""})
    shared, apart = split_settings([first, other])
    assert (shared, apart) == ("batch_size=4", {"1": "network_source=aaaaaaaa", "3": "network_source=bbbbbbbb"})
    assert settings_text(first).split(" ")[1] == "network_source=aaaaaaaa"
    assert first.experiment != other.experiment and "a" * 64 in str(first.experiment), "compared whole"
