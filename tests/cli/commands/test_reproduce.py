"""What cannot be reproduced is told in two lines: which check fails first, and where to see the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from compared_runs import account, records, sign_pair_member
from recorded_runs import Answer

from ndrepro.protocol.layout import RunFolder

Command = Callable[..., Answer]


@pytest.fixture
def signed(own_home: Path) -> RunFolder:
    """A signed run of which nothing was trained."""
    return sign_pair_member(Path(), "20261121T101501Z-aaaaaa", account(), records(20), home=own_home)


def lose_trail(folder: RunFolder) -> str:
    folder.trail.unlink()
    return "present: trail.bin is missing"


def cut_trail(folder: RunFolder) -> str:
    folder.trail.write_bytes(folder.trail.read_bytes()[:-100])
    return "digests: trail.bin"


def lose_signature(folder: RunFolder) -> str:
    folder.manifest.write_text("{}")
    return "envelope: "


@pytest.mark.parametrize("damage", [lose_trail, cut_trail, lose_signature])
def test_the_first_check_that_fails_is_named(
    ndrepro: Command, signed: RunFolder, damage: Callable[[RunFolder], str]
) -> None:
    before = ndrepro("reproduce", str(signed.root))
    said = damage(signed)
    answer = ndrepro("reproduce", str(signed.root), "--json")
    assert answer.code == 1
    assert said in answer.err and said not in before.err
    assert answer.err.count("\n") == 2 and f"verify {signed.root}" in answer.err
    assert answer.json["error"]["exit_code"] == 1
