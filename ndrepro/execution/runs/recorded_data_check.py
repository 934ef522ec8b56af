"""Part of check 14: what ``dataset.json`` records agrees with the listing, the experiment and the official digests.

For data sets of which the SHA-256 of the official content is published (``OFFICIAL_SHA256``), whether the files are the
official ones is decided here. Of the others only md5 or sha1 is published, which no signed file has: there the flag is
the signer's assertion until a repetition reads the data.
"""

from __future__ import annotations

from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.experiment import split_sizes
from ndrepro.protocol.experiment.catalogue import OFFICIAL_SHA256
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from provenance.errors import ManifestError
from provenance.formats.bounded_read import open_regular
from provenance.formats.digest import file_digest


def check_data(folder: RunFolder, experiment: Experiment) -> None:
    """Raises ManifestError, or DataError for a member of another type, where the record cannot be true."""
    if not folder.dataset.exists():
        return
    record, name = DataRecord.read(folder.dataset), folder.dataset.name
    facts = experiment.facts
    if (record.name, record.classes) != (experiment.dataset, facts.num_classes):
        raise ManifestError(
            f"{name}: {record.name[:80]!r} of {record.classes} classes, and the experiment is of {experiment.dataset}, "
            f"{facts.num_classes}"
        )
    listed = folder.dataset_listing
    if listed.exists() and record.files != file_digest(listed).sha256:
        raise ManifestError(f"{name}: tree_sha256 is not that of {listed.name}")
    if not record.contents:
        raise ManifestError(f"{name}: no digest of its images, though every reader records one")
    _check_counts(record, experiment, name)
    known = OFFICIAL_SHA256.get(experiment.dataset)
    if known is not None and bool(record.official) != (known <= _digests(folder) | record.uncompressed):
        raise ManifestError(
            f"{name}: canonical is {str(record.official).lower()}, and the digests of the files say otherwise",
            f"{experiment.dataset}: compare them with the published ones",
        )


def _check_counts(record: DataRecord, experiment: Experiment, name: str) -> None:
    """The counts are those of the settings, else of the official data; of other files they are not known beforehand."""
    facts = experiment.facts
    train = experiment.train_images or (facts.train_images if record.official else None)
    scored = experiment.test_images or (facts.test_images if record.official else None)
    if experiment.validation:
        used = train or record.train_images + record.scored_images
        scored = split_sizes.held_out(experiment, used)
        train = used - scored
    for split, recorded, expected in (("train", record.train_images, train), ("test", record.scored_images, scored)):
        if expected is not None and recorded != expected:
            raise ManifestError(f"{name}: {recorded} {split} images, and the experiment has {expected}")


def _digests(folder: RunFolder) -> frozenset[str]:
    """The SHA-256 of every file in the listing."""
    if not folder.dataset_listing.exists():
        return frozenset()
    with open(open_regular(folder.dataset_listing), encoding="utf-8", errors="surrogateescape") as lines:
        return frozenset(line.removeprefix("\\")[:64] for line in lines)
