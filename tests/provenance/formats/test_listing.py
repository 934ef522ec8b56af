"""Listings of digests are read back as they were written, and compared by name."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provenance.errors import DigestError
from provenance.formats.digest import FileDigest, listing
from provenance.formats.listing import ListingDiff, compare_listings, parse

NAMES = st.dictionaries(
    st.text(st.sampled_from("ab \\\n\r/ž"), min_size=1, max_size=6), st.integers(0, 255).map(lambda n: f"{n:02x}" * 32)
)


@given(NAMES)
def test_what_was_listed_is_read(files: dict[str, str]) -> None:
    assert parse(listing((name, FileDigest(1, digest)) for name, digest in files.items())) == files


def write(path: Path, files: dict[str, str]) -> Path:
    path.write_text(listing((name, FileDigest(1, digest * 32)) for name, digest in files.items()), encoding="utf-8")
    return path


def test_added_lost_and_changed_files_are_named(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"train/1.png": "01", "train/2.png": "02", "train/3.png": "03"})
    second = write(tmp_path / "b", {"train/2.png": "02", "train/3.png": "04", "train/4.png": "01"})
    found = compare_listings(first, second)
    assert found == ListingDiff(("train/1.png",), ("train/4.png",), ("train/3.png",), 1)
    assert compare_listings(first, first) == ListingDiff((), (), (), 3)


def test_what_is_no_listing_is_refused_by_file_and_line(tmp_path: Path) -> None:
    good = write(tmp_path / "good", {"a": "01"})
    (tmp_path / "bad").write_text(good.read_text() + "no digest here\n")
    with pytest.raises(DigestError, match=r"bad, line 2: 'no digest here', expected a SHA-256"):
        compare_listings(good, tmp_path / "bad")
    with pytest.raises(DigestError, match="cannot be read"):
        compare_listings(good, tmp_path / "missing")
