"""The claim that the named libraries and the recorded code alone gave the results, of a run and its repetitions.

A run with a concern may be as honest as any: a profiler's hook is one too. But its results are not those of the named
versions alone, so nobody can conclude from an equal repetition that they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ndrepro.analysis.verdicts.reproduction_claims import DATA, EVALUATION, OUTSIDE_DATA
from ndrepro.protocol.messages import Request
from ndrepro.protocol.training_record import of_no_index
from ndrepro.protocol.verdicts import CHECKED, FLAGGED, NOT_CHECKED, ClaimCheck, claim
from ndrepro.text.plurals import all_of, plural
from provenance.attestation.manifest import Manifest
from provenance.attestation.packages import edited_files, foreign_files
from provenance.capture.unavailable import is_missing

UNEDITED = "libraries and loaded code"
IMAGE = "container image"
# what the process that trains or evaluates says of itself, and no comparison of two runs shows
_SAID_OF_ITSELF = (UNEDITED, EVALUATION, DATA, OUTSIDE_DATA)
_NAMED = 3
# what uv and virtualenv add to an environment, and no RECORD lists: every process of it executes them
_OF_ENVIRONMENTS = {"_virtualenv.pth", "_virtualenv.py"}


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
    looks = [look(manifest) for manifest in (original, *repetitions) for look in (edited_files, foreign_files)]
    if None in looks:
        return claim(UNEDITED, None, "one side has no record of edited library files, or none of loaded code")
    if image_alone:
        return claim(UNEDITED, None, "nothing outside the container image looked, and its author chose the image")
    words = "the files of the libraries are as their RECORDs list them, and nothing else was loaded"
    elsewhere = dict.fromkeys(sentence for manifest in repetitions for sentence in from_elsewhere(manifest))
    return claim(UNEDITED, True, "; ".join([words, *elsewhere]))


def from_elsewhere(manifest: Manifest) -> tuple[str, ...]:
    """In words the distributions of a run that no index has; () for none."""
    names = of_no_index(manifest)
    return (f"not of an index, and maybe of another commit than is recorded: {all_of(names)}",) if names else ()


def code_concerns(manifest: Manifest) -> tuple[str, ...]:
    """A sentence for each reason to doubt that the recorded code and versions alone gave the results; () for none."""
    return (*_library_concerns(manifest), *_foreign_concerns(manifest))


def _library_concerns(manifest: Manifest) -> Iterator[str]:
    edited = edited_files(manifest)
    if edited is None:
        return
    if is_missing(edited):
        yield f"libraries not compared with their RECORDs: {_reason(edited)}"
    elif edited:
        yield f"edited libraries: {plural(len(edited), 'file')} ({_first(edited)})"
    captured = manifest.machine["imported_files"]
    witness = captured.get("witness") if isinstance(captured, Mapping) else None
    if is_missing(witness):
        yield f"libraries compared by the training process alone: {_reason(witness)}"


def _foreign_concerns(manifest: Manifest) -> Iterator[str]:
    foreign = foreign_files(manifest)
    if foreign is None:
        return
    if is_missing(foreign):
        yield f"loaded code not compared with what is installed: {_reason(foreign)}"
    elif foreign:
        count = manifest.machine["loaded_code"].get("count")
        known = count if isinstance(count, int) and count > len(foreign) else len(foreign)
        hook = {name.rpartition("/")[2] for name in foreign} <= _OF_ENVIRONMENTS
        cure = "; uv or virtualenv wrote it for pip: remove it from the environment" if hook else ""
        yield f"code that belongs to no distribution: {plural(known, 'file')} ({_first(foreign)}){cure}"


def _first(names: Mapping[str, Any]) -> str:
    shown = sorted(names)[:_NAMED]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _reason(missing: Any) -> str:
    return str(next(iter(missing.values()), "?"))


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


def beside_other_code(claims: Sequence[ClaimCheck], what: str) -> tuple[ClaimCheck, ...]:
    """The claims on a run of code of its author's, none checked by the word of a process that this ran in; ``what``
    names it: a network, or a patch.

    Importing it can replace the evaluation, the digests of data and the list of what was loaded. What was found against
    the run counts all the same, and two runs that report equal bits do so: this code gives these results.
    """
    why = f"{what} ran in the process that reports it, so read its source"
    return tuple(
        replace(each, status=NOT_CHECKED, evidence=f"{why}: {each.evidence}")
        if each.name in _SAID_OF_ITSELF and each.status == CHECKED
        else each
        for each in claims
    )
