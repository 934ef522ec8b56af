"""The guidelines of Ravi et al. 2025 as checks that show their evidence.

Ravi, Goel, Davis, Thiruvathukal, "Improving the Reproducibility of Deep Learning Software" (arXiv 2505.03165), gather
recommendations for releases of deep learning software, with patterns and anti-patterns. Here each guideline,
in our own words, has patterns that a program can look for, and anti-patterns. A pattern is found only with evidence:
a file and line, or a field of a verified manifest; nothing is inferred from a name or a comment.

Each guideline gets one of five results: **found** (evidence of a pattern and of no anti-pattern), **with gaps** (of
both), **anti-pattern** (of an anti-pattern only), **not found**, or, of a single run, **not in a run** (a manifest
cannot show it: documents, other seeds). Only "found" and "with gaps" count as points. A point states that evidence
exists, not that it is good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ndrepro.checklists import checklist_code as code
from ndrepro.checklists import checklist_files as files
from ndrepro.checklists import checklist_run as run
from ndrepro.checklists.checklist_sources import Evidence, Sources
from provenance.attestation.manifest import Manifest

FOUND, GAPS, ANTI, MISSING, ELSEWHERE = "found", "with gaps", "anti-pattern", "not found", "not in a run"
STATUSES = (FOUND, GAPS, ANTI, MISSING, ELSEWHERE)
SHOWN = 3
SOURCE = "Ravi et al. 2025, arXiv 2505.03165"

SourceFinder = Callable[[Sources], Iterator[Evidence]]


@dataclass(frozen=True)
class Guideline:
    """One guideline: what is good, what is bad, and the finders of both, for a repository and for a run."""

    name: str
    title: str
    pattern: str
    anti_pattern: str
    good: tuple[tuple[str, SourceFinder], ...]
    bad: tuple[tuple[str, SourceFinder], ...] = ()
    in_run: tuple[tuple[str, run.Finder], ...] = ()
    bad_in_run: tuple[tuple[str, run.Finder], ...] = ()


@dataclass(frozen=True)
class Pattern:
    """A pattern that was found: what it is, how often, and the first pieces of evidence."""

    what: str
    count: int
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class GuidelineFinding:
    """What was found of one guideline."""

    guideline: Guideline
    status: str
    good: tuple[Pattern, ...]
    bad: tuple[Pattern, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class Checklist:
    """The whole list for one subject: a repository, or a run."""

    subject: str
    kind: str
    findings: tuple[GuidelineFinding, ...]
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> int:
        """How many guidelines have evidence of a pattern."""
        return sum(finding.status in (FOUND, GAPS) for finding in self.findings)

    @property
    def possible(self) -> int:
        """How many the subject can show."""
        return sum(finding.status != ELSEWHERE for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The answer of `ndrepro checklist --json`: the points, and every guideline with its evidence."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "source": SOURCE,
            "points": self.points,
            "possible": self.possible,
            "notes": list(self.notes),
            "guidelines": [_finding_json(finding) for finding in self.findings],
        }


def check_repository(sources: Sources, name: str) -> Checklist:
    """The checklist of a folder of code."""
    found = tuple(_finding(guideline, guideline.good, guideline.bad, sources) for guideline in GUIDELINES)
    notes = () if sources.tracked else ("no git repository: every file counts, also what would not be released",)
    return Checklist(name, "repository", found, notes)


def check_run(subject: run.Run, name: str) -> Checklist:
    """The checklist of one run, from its verified manifest; of one that does not verify, nothing is evidence."""
    if subject.manifest is None:
        nothing = tuple(
            GuidelineFinding(guideline, MISSING if guideline.in_run else ELSEWHERE, (), (), _names(guideline.in_run))
            for guideline in GUIDELINES
        )
        return Checklist(name, "run", nothing, (f"the manifest is no evidence: {subject.problem}",))
    found = tuple(
        _finding(guideline, guideline.in_run, guideline.bad_in_run, subject.manifest)
        if guideline.in_run
        else GuidelineFinding(guideline, ELSEWHERE, (), (), ())
        for guideline in GUIDELINES
    )
    return Checklist(name, "run", found, (f"the manifest verifies, signed by {subject.signer}",))


def _finding(guideline: Guideline, good: Any, bad: Any, subject: Sources | Manifest) -> GuidelineFinding:
    have, had = _look(good, subject), _look(bad, subject)
    found = {item.what for item in have}
    status = (GAPS if had else FOUND) if have else (ANTI if had else MISSING)
    return GuidelineFinding(guideline, status, have, had, tuple(name for name in _names(good) if name not in found))


def _look(finders: Any, subject: Any) -> tuple[Pattern, ...]:
    """The patterns of the finders that have evidence. Repeated lines count once."""
    # what trains comes first: it is what a reader asks about
    looked = (
        (what, sorted(dict.fromkeys(find(subject)), key=lambda item: "train" not in item.place.lower()))
        for what, find in finders
    )
    return tuple(Pattern(what, len(evidence), tuple(evidence[:SHOWN])) for what, evidence in looked if evidence)


def _names(finders: Any) -> tuple[str, ...]:
    return tuple(what for what, _ in finders)


def _docstrings(sources: Sources) -> Iterator[Evidence]:
    have, total, first = code.documented(sources)
    if first and total >= 5 and have >= total / 2:
        yield Evidence(first.place, first.line, f"{have} of {total} public functions and classes have a docstring")


def _undocumented(sources: Sources) -> Iterator[Evidence]:
    have, total, _ = code.documented(sources)
    first = next(iter(sources.modules), None)
    if first and total >= 5 and have < total / 5:
        yield Evidence(first.path, 0, f"{have} of {total} public functions and classes have a docstring")


def _unseeded_training(sources: Sources) -> Iterator[Evidence]:
    """Code that trains, where no seed is set anywhere."""
    return iter(()) if any(code.seeds_set(sources)) else code.training_code(sources)


def _untested_training(sources: Sources) -> Iterator[Evidence]:
    return iter(()) if any(code.testing_code(sources)) else code.training_code(sources)


def _tracked(sources: Sources) -> Iterator[Evidence]:
    own = [module for module in sources.modules if module.tree.body]
    if sources.tracked and own:
        yield Evidence(own[0].path, 0, f"one of {len(own)} Python files under version control")


def _no_licence(sources: Sources) -> Iterator[Evidence]:
    if sources.modules and not any(files.licences(sources)):
        yield Evidence(sources.modules[0].path, 0, "code, and no licence at the top")


GUIDELINES: tuple[Guideline, ...] = (
    Guideline(
        "environment",
        "The software environment can be made again",
        "every dependency with its version, or a container that has them",
        "dependencies without versions, images that change under their name",
        (("every dependency is pinned", files.pinned), ("a container recipe", files.containers)),
        (("a dependency without a version", files.unpinned), ("an image without a fixed tag", files.floating_images)),
        (("distributions and interpreter", run.environment), ("the container's image", run.container)),
    ),
    Guideline(
        "hardware",
        "The hardware is documented",
        "processor, GPU and memory are stated, or recorded by the code",
        "code that needs a GPU, and says neither which nor how much of it",
        (("hardware in the documents", files.hardware_told), ("code that records it", code.hardware_recorded)),
        (("a GPU is taken for granted", code.gpu_assumed),),
        (("processor and GPU", run.hardware),),
    ),
    Guideline(
        "seeds",
        "Random generators get seeds",
        "a call that sets the seed of each generator; deterministic algorithms where there are such",
        "training without a seed, seeds from the clock, kernels chosen by timing",
        (("seeds are set", code.seeds_set), ("deterministic algorithms are asked for", code.determinism_asked)),
        (
            ("training, and no seed anywhere", _unseeded_training),
            ("a generator without a fixed seed", code.seeds_not_fixed),
            ("kernels are chosen by timing", code.benchmarking_asked),
        ),
        (("the seed of every stream", run.seeds), ("deterministic algorithms, to the end", run.determinism)),
        (("a flag changed under way", run.changed_flags),),
    ),
    Guideline(
        "training-and-testing",
        "Training and testing are there from end to end",
        "code that trains, code that tests, and a way to start it",
        "training that is never tested, training in a notebook only",
        (
            ("code that trains", code.training_code),
            ("code that tests", code.testing_code),
            ("a script to start", code.entry_points),
        ),
        (("training, and no testing", _untested_training), ("notebooks only", files.notebooks_only)),
        (("training and test results", run.training_and_testing),),
    ),
    Guideline(
        "architecture",
        "The network is disclosed",
        "its definition in code, its layers and parameters counted",
        "a network fetched by a name that may come to mean another",
        (("networks are defined", code.networks_defined),),
        (("a network fetched by name", code.whole_networks_loaded),),
        (("layers and parameters", run.architecture),),
    ),
    Guideline(
        "data",
        "Data and their processing are disclosed",
        "where data come from, how they are read and changed, checksums",
        "paths of one machine in the code",
        (
            ("code that reads and transforms", code.data_code),
            ("data in the documents", files.data_told),
            ("checksums of data", code.data_checked),
        ),
        (("a path of one machine", code.absolute_paths),),
        (("the data, by digest", run.data),),
    ),
    Guideline(
        "training-regime",
        "The training regime is disclosed",
        "learning rate, batch size, epochs as options or settings that can be read",
        "numbers in the middle of the code",
        (("settings as options or fields", code.settings_told), ("files of settings", files.configurations)),
        (("a learning rate in the middle of the code", code.settings_buried),),
        (("every setting", run.settings),),
    ),
    Guideline(
        "source-code",
        "The source code is released",
        "under version control, with a licence",
        "no licence: nobody may use it",
        (("code under version control", _tracked), ("a licence", files.licences)),
        (("no licence", _no_licence),),
        (("the commit", run.source),),
    ),
    Guideline(
        "instructions",
        "Instructions say how to run it",
        "commands in the documents, a Makefile",
        "a README without a command",
        (("commands in the documents", files.commands_told), ("targets of a Makefile", files.make_targets)),
        (),
        (("the command", run.command),),
    ),
    Guideline(
        "weights",
        "Trained weights are available",
        "weights released, or written by the training",
        "results of weights that nobody has",
        (("weights are released", files.weights_released), ("training writes its weights", code.weights_written)),
        (),
        (("the final weights, by digest", run.weights),),
    ),
    Guideline(
        "documentation",
        "It is documented",
        "a README, further documents, docstrings",
        "a README of a few words, code without a word",
        (("a README", files.readme), ("further documents", files.more_documents), ("docstrings", _docstrings)),
        (("a README of a few words", files.thin_readme), ("code without docstrings", _undocumented)),
    ),
    Guideline(
        "sensitivity",
        "What moves the result is known",
        "several seeds, several environments, results with a spread",
        "results without any spread",
        (
            ("several seeds", files.many_seeds),
            ("several environments", files.many_environments),
            ("results with a spread", files.spread_told),
        ),
        (("results without a spread", files.bare_results),),
    ),
)


def markdown(checklist: Checklist) -> str:
    """The checklist as a Markdown document."""
    lines = [f"# Checklist of {checklist.subject}", ""]
    lines += [f"{checklist.points} of {checklist.possible} guidelines with evidence ({SOURCE}).", ""]
    lines += [*(f"* {note}" for note in checklist.notes), ""] if checklist.notes else []
    for finding in checklist.findings:
        lines += [f"## {finding.guideline.title}: {finding.status}", ""]
        lines += [f"* {'' if good else '**against it** '}{line}" for good, line in evidence_lines(finding)]
        lines += [""]
    return "\n".join(lines)


def evidence_lines(finding: GuidelineFinding) -> Iterator[tuple[bool, str]]:
    """(for or against, line) of everything that was found, with its first evidence."""
    for good, items in ((True, finding.good), (False, finding.bad)):
        for item in items:
            more = f" and {item.count - len(item.evidence)} more" if item.count > len(item.evidence) else ""
            yield good, f"{item.what}: {'; '.join(map(str, item.evidence))}{more}"


def _finding_json(finding: GuidelineFinding) -> dict[str, Any]:
    guideline = finding.guideline
    return {
        "name": guideline.name,
        "title": guideline.title,
        "pattern": guideline.pattern,
        "anti_pattern": guideline.anti_pattern,
        "status": finding.status,
        "found": [asdict(item) for item in finding.good],
        "against": [asdict(item) for item in finding.bad],
        "absent": list(finding.absent),
    }
