"""The page of operations and releases says what its measurements say, and names what it can be asked again."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from operators_page import LIMITS, START, first_alike, tables, with_tables

from ndrepro.execution.operators.measurement import Source

DOCS = Path(__file__).resolve().parents[1] / "docs" / "findings"
DOCUMENT = json.loads((DOCS / "data" / "operators.json").read_text(encoding="utf-8"))
# operations that no network of the study has
TRANSFORMERS = ("attention", "scaled_dot", "layer_norm", "gelu", "silu", "softmax", "log_softmax", "embedding", "adam")
PAGE = (DOCS / "operators.md").read_text(encoding="utf-8")


def test_every_number_of_the_tables_is_that_of_the_document() -> None:
    assert with_tables(PAGE, DOCUMENT) == PAGE
    changed = copy.deepcopy(DOCUMENT)
    rows = changed["compared"]["2.7.1@native 2.8.0@native"]
    next(row for row in rows if row[3])[6] += 1
    assert tables(changed) != tables(DOCUMENT)


def test_every_release_was_measured_under_every_limit() -> None:
    for release in DOCUMENT["releases"]:
        assert {f"{release}@{limit}" for limit in LIMITS} <= DOCUMENT["measured"].keys()
        assert DOCUMENT["measured"][f"{release}@sse41"][2] in ("NO AVX", "DEFAULT"), "the limit was honoured"
        assert DOCUMENT["measured"][f"{release}@native"][0].startswith(release)


def test_every_change_came_with_the_first_release_of_a_minor_version() -> None:
    releases = DOCUMENT["releases"]
    for release in releases[1:]:
        assert first_alike(DOCUMENT, release) == f"{release.rpartition('.')[0]}.0"
        before, compared = releases[releases.index(release) - 1], DOCUMENT["compared"]
        if (first := f"{before}@native {first_alike(DOCUMENT, release)}@native") in compared:
            assert sorted(compared[first]) == sorted(changes(release)), "measured apart, they have the same distances"
    changed = copy.deepcopy(DOCUMENT)
    changed["compared"]["2.7.0@native 2.7.1@native"] = [["softmax", "forward", "float32", 1, 2, 0, 1, 1e-7]]
    assert first_alike(changed, "2.7.1") == "2.7.1", "the control"


def test_every_number_of_the_text_is_in_the_document() -> None:
    """The findings name operation, release and distance: `softmax backward float32 2.8.0: 762`."""
    text = PAGE.partition("## What was found")[2].partition(START)[0]
    claims = re.findall(r"`([a-z0-9_, ]+) (forward|backward) (float32|float64|bfloat16) ([0-9.]+): ([0-9,]+)`", text)
    assert len(claims) > 5
    named = {first_alike(DOCUMENT, each): each for each in DOCUMENT["releases"]}
    for operation, direction, dtype, first, ulps in claims:
        rows = changes(named[first])
        found = [row[6] for row in rows if row[:3] == [operation, direction, dtype]] or [0]
        assert found == [int(ulps.replace(",", ""))], (operation, direction, dtype, first)


def test_the_text_counts_releases_and_names_those_that_changed_nothing() -> None:
    text = " ".join(PAGE.partition("## What was found")[2].partition(START)[0].split())
    releases, between = DOCUMENT["releases"], DOCUMENT["between"]
    minors = [each.rpartition(".")[0] for each in releases]
    measured = len(releases) + len(between)
    assert f"Of the {measured} releases measured ({len(releases)} minor versions, {minors[0]} to {minors[-1]})" in text
    (matmul,) = (row[7] for row in changes("2.0.1") if row[:3] == ["matmul", "backward", "float32"])
    assert f"where terms cancel, {matmul:.0e}".replace("e-0", "e-") + " of the largest number" in text
    newest = f"{releases[-1]}@"
    limited = [row for limit in LIMITS[1:] for row in DOCUMENT["compared"][f"{newest}native {newest}{limit}"]]
    furthest = max(row[7] for row in limited if row[2] == "float32")
    assert f"in float32 at most {furthest:.1e} of the largest number".replace("e-0", "e-") in text
    quiet = [first_alike(DOCUMENT, each) for each in releases[1:] if not any(row[3] for row in changes(each))]
    outputs = sum(row[3] for row in DOCUMENT["operations"]) - sum(row[5] for row in changes(releases[-1]))
    assert f"Nothing changed with {', '.join(quiet[:-1])} and {quiet[-1]}**, in any of {outputs:,} outputs" in text


def test_the_page_on_determinism_names_the_releases_that_changed_the_networks_of_the_study() -> None:
    moved = {}
    for release in DOCUMENT["releases"][1:]:
        rows = [row for row in changes(release) if row[2] == "float32" and row[3]]
        if any(not row[0].startswith(TRANSFORMERS) for row in rows):
            moved[first_alike(DOCUMENT, release)] = str(sum(row[3] for row in rows))
    text = " ".join((DOCS.parent / "explanation" / "determinism.md").read_text(encoding="utf-8").split())
    *names, last = moved
    *counts, final = moved.values()
    said = (
        f"networks changed with {', '.join(names)} and {last}, and with no other release to {DOCUMENT['releases'][-1]}"
    )
    assert f"{said}: of 349 outputs and gradients {', '.join(counts)} and {final}." in text


def changes(release: str) -> list[list[Any]]:
    """What differs between a release and the one before it, without a limit."""
    releases = DOCUMENT["releases"]
    rows: list[list[Any]] = DOCUMENT["compared"][f"{releases[releases.index(release) - 1]}@native {release}@native"]
    return rows


@pytest.mark.parametrize("command", re.findall(r"ndrepro operators compare ([^`\n#]+)", PAGE))
def test_the_commands_of_the_page_name_environments_that_there_are(command: str) -> None:
    for word in command.split()[:2]:
        if "/" not in word:
            Source.parse(word)
