"""What every reproduction has: its permission to run recorded code, its verdict, and the signature on that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.verdicts import FAILED, FLAGGED, INCONSISTENT, PASSING, UNDECIDED, VERDICTS, ClaimCheck, claim
from ndrepro.text.plain_json import plain
from ndrepro.text.plurals import all_of
from ndrepro.text.visible import spelled

if TYPE_CHECKING:
    from ndrepro.analysis.verdicts.reproduction_verdict import Judgement
    from ndrepro.execution.reproduce.code_execution import Consent, Execution
    from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.protocol.layout import RunFolder

    OnPlan = Callable[[Original, ReexecutionPlan], None]


class NotReproduced(NdreproError):
    """The run does not verify, so there is nothing to reproduce."""


@dataclass(frozen=True)
class Reproduction:
    """A run that was trained again, whole or in segments, and the signed verdict on it.

    Attributes:
        run: the identifier of the run.
        plan: the epochs that were drawn, and what differed from the recorded code, data and environment.
        folders: the folder of each repetition.
        judgements: the verdict on each, with its claims and evidence.
        claims: what of the run as a whole was checked beyond the repetitions, and what was not.
        attestation: the file of the signed verdict.
    """

    run: str
    plan: ReexecutionPlan
    folders: tuple[Path, ...]
    judgements: tuple[Judgement, ...]
    claims: tuple[ClaimCheck, ...]
    attestation: Path = Path()

    @property
    def verdict(self) -> str:
        """The weakest of the verdicts (identical, close, consistent, undecided, inconsistent).

        Where a claim of the whole run failed, inconsistent; where one was flagged, undecided at best.
        """
        if any(claim.status == FAILED for claim in self.claims):
            return INCONSISTENT
        flagged = [UNDECIDED for claim in self.claims if claim.status == FLAGGED]
        return max((*(judgement.verdict for judgement in self.judgements), *flagged), key=VERDICTS.index)

    @property
    def passes(self) -> bool:
        """Whether the verdict is identical, close or consistent."""
        return self.verdict in PASSING

    @property
    def predicate(self) -> dict[str, Any]:
        """What is signed: see ``ndrepro.protocol.verdicts``."""
        repeated = zip(self.folders, self.judgements, strict=True)
        members = {
            "run": self.run,
            "verdict": self.verdict,
            **{name: getattr(self.plan, name) for name in ("challenge", "epochs", "differences", "execution")},
            "claims": self.claims,
            "repeated": [{"run": folder.name, **plain(judgement)} for folder, judgement in repeated],
        }
        document: dict[str, Any] = plain(members)
        return document

    def to_json(self) -> dict[str, Any]:
        """The signed verdict's predicate, and ``attestation``, the path of its file."""
        return {**self.predicate, "attestation": str(self.attestation)}


@dataclass(frozen=True)
class Draw:
    """How many epochs a spot check trains again, and what draws them; ``spot`` is ``None`` for the whole run."""

    spot: int | None = None
    challenge: str | None = None
    beacon: str | None = None


@dataclass(frozen=True)
class Permission:
    """The kind of sandbox that is wanted, and who allows recorded code to run where there is none."""

    sandbox: str
    trust_code: bool = False
    consent: Consent | None = None

    def given(self, planned: Execution) -> Execution:
        """The execution as it is allowed. Raises SandboxError where it is not."""
        from ndrepro.execution.reproduce.code_execution import permitted

        return permitted(planned, trust_code=self.trust_code, consent=self.consent)


def expect_no_options(kind: str, **given: object) -> None:
    """Raises UsageError for an option that is set and has no meaning for this kind of run."""
    for name, value in given.items():
        if value is not None and value is not False:
            option = name.replace("_", "-").replace("engine", "in")
            raise UsageError(f"--{option}: it is the run of {kind}, which has no such option", "leave it out")


def attested(
    original: Original,
    plan: ReexecutionPlan,
    folders: tuple[RunFolder, ...],
    judgements: tuple[Judgement, ...],
    claims: tuple[ClaimCheck, ...],
    options: RunOptions,
) -> Reproduction:
    """The reproduction, with its verdict signed. Names in claims are their author's: nothing in them is left to look
    like something else.
    """
    from ndrepro.execution.reproduce.verdict_attestation import attest

    claims = _spelled((*claims, *_shared_folders(folders)))
    judgements = tuple(replace(each, claims=_spelled(each.claims)) for each in judgements)
    run, roots = original.manifest.invocation_id, tuple(folder.root for folder in folders)
    found = Reproduction(run, plan, roots, judgements, claims)
    file = attest(original.folder, folders, found.predicate, options.runs, options.home)
    return replace(found, attestation=file)


def _shared_folders(folders: Iterable[RunFolder]) -> tuple[ClaimCheck, ...]:
    """The claim that names who else could exchange what a repetition executed, or what it left; () for nobody."""
    from ndrepro.execution.sandbox.shared_folders import others_on_the_way

    found = dict.fromkeys(who for folder in folders if (who := others_on_the_way(folder.root)))
    words = f"{all_of(found)}, and so exchange what is there while it is made: repeat it with --runs DIR of your own"
    return (claim("folder of runs", None, words),) if found else ()


def _spelled(claims: tuple[ClaimCheck, ...]) -> tuple[ClaimCheck, ...]:
    return tuple(replace(each, evidence=spelled(each.evidence)) for each in claims)
