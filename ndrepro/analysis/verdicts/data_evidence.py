"""Whether a repetition read the data that the run was trained on: their records compared, and the claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ndrepro.analysis.verdicts.run_conditions import difference_in_words
from ndrepro.protocol.data_record import LABELLED, PIXELS, DataRecord
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.verdicts import CHECKED, FAILED, FLAGGED, NOT_CHECKED

_WORDS = {LABELLED: "photographs and labels", PIXELS: "pixels and labels"}


@dataclass(frozen=True)
class DataEvidence:
    """The status of the claim on the data, its evidence in words, and whether the data are ``same``.

    ``same`` is ``None`` where the two records share no digest that could decide. ``recorded``: the run records digests
    of its images. ``otherwise`` says which other facts of the two records differ.
    """

    status: str
    words: str
    same: bool | None
    recorded: bool = True
    otherwise: tuple[str, ...] = ()


def compare_data(then: DataRecord, now: DataRecord) -> DataEvidence:
    """The run's record beside the repetition's, in words that say where they are not known to be the published data, or
    fewer images than were published; of the user's own data how many, and where no test image was scored.
    """
    found, published = _compare(then, now), DATASETS.get(then.name)
    if then.held_out:
        words = f"no test image was scored: its test results are those of {then.scored_images:,} training images"
        found = replace(found, words=f"{found.words}; {words} that were held out")
    if published is None:
        words = f"images: {then.train_images:,} for training, {then.scored_images:,} scored"
        return replace(found, words=f"{found.words}; {words}")
    counts = (
        ("training", then.train_images, published.train_images),
        ("scored", then.scored_images, published.test_images),
    )
    fewer = [f"{what} images: {used:,}, published are {whole:,}" for what, used, whole in counts if used < whole]
    return replace(found, words="; ".join([found.words, *_not_published(then, now), *fewer]))


def _not_published(then: DataRecord, now: DataRecord) -> tuple[str, ...]:
    """That a run does not read the published files, or by the repetition's reader nobody knows: the run's own record
    says what its author likes.
    """
    if then.official:
        return ()  # which is compared
    if False in (then.official, now.official):
        return (f"they are not the published files of {then.name}",)
    return (f"no published digest is known for them, so whether they are the published {then.name} was not checked",)


def _compare(then: DataRecord, now: DataRecord) -> DataEvidence:
    """Digests of images decide where both have them, else those of files.

    Other files may hold the same images (packed anew, exported), so that files decide only where they are equal. Where
    the same data have other counts, or the same files are not the official ones, the run's record is false. A run that
    records the official files and was repeated from others is flagged: that claim is neither confirmed nor refuted.
    """
    same, words = _compare_digests(then, now)
    if same is None and then.official and not now.official:
        return DataEvidence(
            FLAGGED, f"the run records the official files, and the repetition read others: {words}", same
        )
    counts = [(record.train_images, record.scored_images) for record in (then, now)]
    if same and counts[0] != counts[1]:
        words = f"{counts[0]} images of the two splits are recorded, the same data have {counts[1]}"
        return DataEvidence(FAILED, words, same)
    if same and then.official and not now.official:
        if then.files == now.files and now.official is False:
            return DataEvidence(FAILED, "the run records them as the official files, which they are not", same)
        words = f"{words}; the run records the official files, and the repetition's are not known as such"
        return DataEvidence(FLAGGED, words, same)
    return DataEvidence(CHECKED if same else NOT_CHECKED, words, same, bool(then.contents))


def other_facts(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """The members in which two records of the same data differ, in words: labels drawn again, names of classes, images
    that were dropped. Other files may be honest ones of the same images, with other counts.
    """
    return tuple(
        f"{name}: {difference_in_words(then.get(name, 'not recorded'), now.get(name, 'not recorded'))}"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    )


def _compare_digests(then: DataRecord, now: DataRecord) -> tuple[bool | None, str]:
    same_files = then.files == now.files
    shared = [name for name in (LABELLED, PIXELS) if name in then.contents and name in now.contents]
    if not shared and same_files:
        return True, "the repetition read the same files, by SHA-256; no digest of their images is in both records"
    if not shared:
        return None, "no digest of the images is in both records, and the files are not the same"
    unequal = [_WORDS[name] for name in shared if then.contents[name] != now.contents[name]]
    if unequal:
        return False, f"the repetition read other data: {unequal[0]} differ" + (" in the same files" * same_files)
    equal = " and ".join(_WORDS[name] for name in shared)
    return True, f"the repetition read the same {equal}, by SHA-256" + ("" if same_files else ", in other files")
