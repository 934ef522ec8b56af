"""The claim that the named libraries and the recorded code alone gave the results, of a run and its repetitions."""

from __future__ import annotations

from collections.abc import Sequence

from ndrepro.protocol.verdicts import FLAGGED, ClaimCheck, claim
from provenance.attestation.code_concerns import code_concerns, code_is_known
from provenance.attestation.manifest import Manifest

UNEDITED = "libraries and loaded code"


def code_claim(original: Manifest, repetitions: Sequence[Manifest]) -> ClaimCheck:
    """Whether every library was as its RECORD lists it, and nothing else was loaded, on both sides.

    Equal bits of an edited library prove nothing about the library that is named, whoever edited it: then the claim is
    flagged.
    """
    found = [f"the recorded run: {sentence}" for sentence in code_concerns(original)]
    here = dict.fromkeys(sentence for manifest in repetitions for sentence in code_concerns(manifest))
    found += [f"the repetition: {sentence}" for sentence in here]
    if found:
        return ClaimCheck(UNEDITED, FLAGGED, "; ".join(found))
    if not all(map(code_is_known, (original, *repetitions))):
        return claim(UNEDITED, None, "recorded before library files were compared with their RECORDs")
    return claim(
        UNEDITED, True, "the files of the libraries are as their RECORDs list them, and nothing else was loaded"
    )
