"""What ``dataset.json`` records of a run's data, read by type: an author may have written it by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.messages import read_json
from ndrepro.protocol.recorded.training_files import DATASET
from provenance.formats.strict_json import Field

LABELLED, PIXELS = "labelled_sha256", "pixels_sha256"


@dataclass(frozen=True)
class DataRecord:
    """The recorded facts that say which data a run read.

    ``name`` is the data set's, with so many ``classes``; ``train_images`` were trained on, ``scored_images`` gave every
    epoch's test results: test images, or in their place training images that were ``held_out``. ``official``: whether
    the files are the published ones; ``None`` where that is not known. ``files`` is the SHA-256 of the listing of all
    files, ``contents`` the digests (training, test) of decoded images or of photographs with their labels, by
    ``LABELLED`` and ``PIXELS``; ``uncompressed`` those of files in archives.
    """

    name: str
    classes: int
    train_images: int
    scored_images: int
    official: bool | None
    files: str
    contents: Mapping[str, tuple[str, str]]
    uncompressed: frozenset[str]
    held_out: bool = False

    @classmethod
    def read(cls, path: Path) -> DataRecord:
        """The record in ``path``. Raises DataError naming the member that is missing, unknown or of another type."""
        found = Field(read_json(path), path.name, DataError)
        DATASET(found)
        document = found.mapping()
        scored = "validation_images" if "validation_images" in document else "test_images"
        names = [
            name
            for name in (LABELLED, PIXELS)
            if name in document and "unavailable" not in found.member(name).mapping()
        ]
        packed = found.member("content_sha256").texts() if "content_sha256" in document else {}
        return cls(
            name=document["name"],
            classes=len(document["classes"]),
            train_images=found.member("train_images").integer(1),
            scored_images=found.member(scored).integer(1),
            official=document["canonical"],
            files=found.member("tree_sha256").sha256(),
            contents={name: _of_splits(found.member(name)) for name in names},
            uncompressed=frozenset(packed.values()),
            held_out="validation_images" in document,
        )


def _of_splits(field: Field) -> tuple[str, str]:
    return field.member("train").sha256(), field.member("test").sha256()
