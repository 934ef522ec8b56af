"""The claim that the named libraries and the recorded code alone gave the results, of a run and its repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ndrepro.analysis.code_concerns import code_concerns, code_is_known
from ndrepro.analysis.results.reproduction_claims import DATA, EVALUATION, OUTSIDE_DATA
from ndrepro.protocol.messages import Request
from ndrepro.protocol.verdicts import CHECKED, FLAGGED, NOT_CHECKED, ClaimCheck, claim
from provenance.attestation.manifest import Manifest

UNEDITED = "libraries and loaded code"
IMAGE = "container image"
# what the process that trains or evaluates says of itself, and no comparison of two runs shows
_SAID_OF_ITSELF = (UNEDITED, EVALUATION, DATA, OUTSIDE_DATA)


def code_claim(original: Manifest, repetitions: Sequence[Manifest], *, image_alone: bool = False) -> ClaimCheck:
    """Whether every library was as its RECORD lists it, and nothing else was loaded, on both sides.

    Equal bits of an edited library prove nothing about the library that is named, whoever edited it: then the claim is
    flagged. ``image_alone``: only processes in a container image of the author's choice looked.
    """
    found = [f"the recorded run: {sentence}" for sentence in code_concerns(original)]
    here = dict.fromkeys(sentence for manifest in repetitions for sentence in code_concerns(manifest))
    found += [f"the repetition: {sentence}" for sentence in here]
    if found:
        return ClaimCheck(UNEDITED, FLAGGED, "; ".join(found))
    if not all(map(code_is_known, (original, *repetitions))):
        return claim(UNEDITED, None, "recorded before library files were compared with their RECORDs")
    if image_alone:
        return claim(UNEDITED, None, "nothing outside the container image looked, and its author chose the image")
    return claim(
        UNEDITED, True, "the files of the libraries are as their RECORDs list them, and nothing else was loaded"
    )


def image_claim(request: Request, *, named: bool) -> ClaimCheck | None:
    """Who chose the container image in which a repetition ran; ``None`` where it ran in none.

    Everything that a repetition reports comes from the image: an author's could hold prepared results and a program
    that copies them. Its digest says which image it is, and nothing about what is in it.

    Args:
        request: what the repetition was asked.
        named: the reviewer named the image, or recorded the run, and so answers for it.
    """
    if request.container is None:
        return None
    image = f"{request.container.image} ({request.container.digest})"
    if named:
        return claim(IMAGE, True, f"the reviewer's own choice: {image}")
    words = f"its author's choice, and nothing was trained outside it: {image}; inspect or build it and name it with"
    cure = f"--in {request.container.engine} --image, or repeat the run with --env main"
    return ClaimCheck(IMAGE, FLAGGED, f"{words} {cure}")


def beside_own_network(claims: Sequence[ClaimCheck]) -> tuple[ClaimCheck, ...]:
    """The claims on a run of a network of its author's, none checked by the word of a process that the network ran in.

    Importing it can replace the evaluation, the digests of data and the list of what was loaded. What was found against
    the run counts all the same, and two runs that report equal bits do so: this code gives these results.
    """
    why = "network/ ran in the process that reports it, so read its source"
    return tuple(
        replace(each, status=NOT_CHECKED, evidence=f"{why}: {each.evidence}")
        if each.name in _SAID_OF_ITSELF and each.status == CHECKED
        else each
        for each in claims
    )
