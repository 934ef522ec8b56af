"""An author tries to decide which epochs a reviewer draws."""

from __future__ import annotations

from math import comb
from pathlib import Path

import pytest
from dishonest_author import copied, original_of
from real_runs import Bench

from ndrepro.execution.reproduce.epoch_draw import Challenge
from ndrepro.execution.runs.run import Finished
from provenance.attestation.dsse import read_envelope, write_envelope

DOCS = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "reproducing.md"


def detection_probability(epochs: int, false: int, drawn: int) -> float:
    """The chance that at least one of ``false`` epochs is among ``drawn`` ones: hypergeometric."""
    return 1.0 - comb(epochs - false, drawn) / comb(epochs, drawn)


def test_appended_signatures_decide_nothing(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Before, the file's digest drew the epochs: 21,345 appended signatures hid 95 false epochs of 100."""
    folder = copied(honest.folder, tmp_path)
    payload_type, payload, signatures = read_envelope(folder.manifest.read_bytes())
    draws = set()
    for number in range(50):
        junk = (f"{number:064x}", bytes(64))
        folder.manifest.write_bytes(write_envelope(payload_type, payload, [*signatures, junk]))
        draws.add(Challenge.of("walnut", None, original_of(folder, author).payload).draw(4, 1))
    assert len(draws) == 1


def test_word_beacon_and_signed_bytes_each_decide() -> None:
    base = ("walnut", "8430af445106ad0b", b"payload")
    assert len({Challenge.of(f"{n}", base[1], base[2]).draw(100, 3) for n in range(50)}) > 45
    assert len({Challenge.of(base[0], f"{n}", base[2]).draw(100, 3) for n in range(50)}) > 45
    assert len({Challenge.of(base[0], base[1], b"%d" % n).draw(100, 3) for n in range(50)}) > 45
    assert Challenge.of("ab", "c", b"").draw(100, 3) != Challenge.of("a", "bc", b"").draw(100, 3)


@pytest.mark.parametrize("word", [None, "", "  "])
def test_an_empty_word_is_replaced_by_a_random_one(word: str | None) -> None:
    one, two = (Challenge.of(word, None, b"payload") for _ in range(2))
    assert one.random and one.word != two.word and len(one.word) == 32
    assert not Challenge.of("walnut", None, b"payload").random


def test_every_epoch_is_drawn_equally_often() -> None:
    counts = [0] * 10
    for number in range(2000):
        for epoch in Challenge.of(str(number), None, b"payload").draw(10, 2):
            counts[epoch - 1] += 1
    print(f"2 of 10 epochs drawn 2,000 times: each {min(counts)} to {max(counts)} times, expected 400")
    assert min(counts) > 320 and max(counts) < 480  # four standard deviations


def test_detection_probabilities_are_those_of_the_draw_and_of_the_page() -> None:
    found = sum(1 in Challenge.of(str(n), None, b"p").draw(10, 3) for n in range(2000)) / 2000
    assert abs(found - detection_probability(10, 1, 3)) < 0.05
    assert detection_probability(100, 50, 3) == pytest.approx(1 - 50 * 49 * 48 / (100 * 99 * 98))
    assert (detection_probability(4, 0, 4), detection_probability(4, 1, 4)) == (0.0, 1.0)
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| 100 |")]
    assert len(rows) >= 5
    for row in rows:
        epochs, false, *cells = (cell.strip().rstrip("%").strip() for cell in row.strip("|").split("|"))
        expected = [100 * detection_probability(int(epochs), int(false), drawn) for drawn in (1, 3, 5, 10, 20)]
        assert cells == [f"{value:.1f}" for value in expected]
