"""A reviewer's verdict on a run that was trained again, as it is signed: an in-toto statement of this predicate.

Its subjects are manifests by digest, the run's first and then those of the runs that repeated it; its predicate has
``run``, ``verdict`` (one of the words below), ``challenge``, ``epochs`` (those drawn; none for the whole run),
``differences`` (of code and environment, in words) and ``repeated``, one object a repetition with its evidence.
"""

from __future__ import annotations

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:ndrepro:verdict:v1"

# strongest first
IDENTICAL, CLOSE, CONSISTENT, UNDECIDED, INCONSISTENT = "identical", "close", "consistent", "undecided", "inconsistent"
VERDICTS = (IDENTICAL, CLOSE, CONSISTENT, UNDECIDED, INCONSISTENT)
