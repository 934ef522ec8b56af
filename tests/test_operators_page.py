"""The page of operations and releases says what its measurements say, and names what it can be asked again."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from operators_page import LIMITS, START, tables, with_tables

from ndrepro.execution.operators.measurement import Source

DOCS = Path(__file__).resolve().parents[1] / "docs" / "findings"
DOCUMENT = json.loads((DOCS / "data" / "operators.json").read_text(encoding="utf-8"))
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


def test_patch_releases_after_the_first_changed_nothing() -> None:
    between = sorted(DOCUMENT["between"], key=lambda each: [int(part) for part in each.split(".")])
    later = [each for each in (*between, *DOCUMENT["releases"]) if not each.endswith(".0")]
    pairs = [pair for pair in DOCUMENT["compared"] if set(re.findall(r"[\d.]+(?=@)", pair)) & {*between}]
    quiet = [pair for pair in pairs if pair.split()[1].partition("@")[0] in later]
    assert len(quiet) > 3 and not any(row[3] for pair in quiet for row in DOCUMENT["compared"][pair])


def test_every_number_of_the_text_is_in_the_document() -> None:
    """The findings name operation, release and distance: `softmax backward float32 2.8.0: 762`."""
    text = PAGE.partition("## What was found")[2].partition(START)[0]
    claims = re.findall(r"`([a-z0-9_, ]+) (forward|backward) (float32|float64|bfloat16) ([0-9.]+): ([0-9,]+)`", text)
    assert len(claims) > 5
    releases = DOCUMENT["releases"]
    for operation, direction, dtype, release, ulps in claims:
        before = releases[releases.index(release) - 1]
        rows = DOCUMENT["compared"][f"{before}@native {release}@native"]
        found = [row[6] for row in rows if row[:3] == [operation, direction, dtype]] or [0]
        assert found == [int(ulps.replace(",", ""))], (operation, direction, dtype, release)


@pytest.mark.parametrize("command", re.findall(r"ndrepro operators compare ([^`\n#]+)", PAGE))
def test_the_commands_of_the_page_name_environments_that_there_are(command: str) -> None:
    for word in command.split()[:2]:
        if "/" not in word:
            Source.parse(word)
