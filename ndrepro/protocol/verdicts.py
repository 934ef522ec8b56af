"""A reviewer's verdict on a run that was trained again, as it is signed: an in-toto statement of this predicate.

Its subjects are manifests by digest, the run's first and then those of the runs that repeated it. Its predicate has
``run``, ``verdict`` (one of the words below), ``challenge`` (what drew the epochs of a spot check: ``word``,
``beacon`` and the digest of the signed ``payload``), ``epochs`` (those drawn; none for the whole run),
``differences`` (of code and environment, in words), ``execution`` (the sandbox, who allowed to do without one, and
what the code was: commit, whether dirty, the digest of the patch and its files, untracked files with digests),
``claims`` (what of the whole run was checked, and what was not) and ``repeated``, one object a repetition with its
evidence and claims of its own. The first version's ``challenge`` is the word alone, and it has no claims; verdicts from
before there were sandboxes have no ``execution``. ``signedOn``, the time of signing, is missing in earlier
verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE_V1 = "urn:ndrepro:verdict:v1"
PREDICATE = "urn:ndrepro:verdict:v2"

# strongest first
IDENTICAL, CLOSE, CONSISTENT, UNDECIDED, INCONSISTENT = "identical", "close", "consistent", "undecided", "inconsistent"
VERDICTS = (IDENTICAL, CLOSE, CONSISTENT, UNDECIDED, INCONSISTENT)
PASSING = (IDENTICAL, CLOSE, CONSISTENT)

# how the code of a repetition was confined, tightest first (``ndrepro.execution.sandbox``)
CONTAINER, BUBBLEWRAP, NAMESPACES, NO_SANDBOX = "container", "bubblewrap", "namespaces", "none"
SANDBOXES = (CONTAINER, BUBBLEWRAP, NAMESPACES, NO_SANDBOX)

# the status of a claim
CHECKED, FAILED, NOT_CHECKED = "checked", "failed", "not checked"
# checked, and what was found leaves the verdict without its ground: nobody is accused, and nothing is confirmed
FLAGGED = "flagged"
STATUSES = (CHECKED, FAILED, NOT_CHECKED, FLAGGED)

# the claim that commit, patch and untracked files give what is executed
RECORDED_CODE = "recorded code"


@dataclass(frozen=True)
class ClaimCheck:
    """One claim of a run: whether it was checked, and with what evidence, a sentence."""

    name: str
    status: str
    evidence: str


def claim(name: str, holds: bool | None, evidence: str) -> ClaimCheck:
    """A claim that holds, or does not; ``None``: it was not checked."""
    return ClaimCheck(name, NOT_CHECKED if holds is None else CHECKED if holds else FAILED, evidence)
