"""The forms that journals and conferences ask for, filled in as far as there is evidence.

Four forms: the ML Code Completeness Checklist (Papers with Code, 2020), the badges of ACM (Artifact Review and
Badging, version 1.1), the NeurIPS Paper Checklist (sixteen questions), and what a ReScience C article asks for (its
``metadata.yaml``, and the questions of a reproducibility report). Questions are in our own words.

An answer is "yes" only with evidence, a file with line or a field of a manifest; an example in a document (a code
block, inline code, a comment) is none, and a command counts where what it starts is there. It is "no" only where
something was found that speaks against it; else "not known", with what would have to be looked at. What is about the
paper, or is somebody else's to give, is not known here: a program could only invent an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

from ndrepro.checklists import checklist_code as code
from ndrepro.checklists import checklist_files as files
from ndrepro.checklists import checklist_run as run
from ndrepro.checklists.checklist_sources import Evidence, Sources
from ndrepro.protocol.errors import UsageError
from ndrepro.text.markdown import markdown_table
from provenance.attestation.manifest import Manifest

YES, NO, UNKNOWN = "yes", "no", "not known"
SHOWN = 3


@dataclass(frozen=True)
class Answer:
    """A question, the answer (yes, no, not known, or a text for what is filled in), its evidence, what else to say."""

    question: str
    answer: str
    evidence: tuple[Evidence, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Form:
    """A form, filled in for one subject."""

    name: str
    title: str
    source: str
    subject: str
    answers: tuple[Answer, ...]

    def to_json(self) -> dict[str, Any]:
        """Every field, and how many questions are answered."""
        return {**asdict(self), "answered": self.answered, "questions": len(self.answers)}

    @property
    def answered(self) -> int:
        """How many answers there are."""
        return sum(answer.answer != UNKNOWN for answer in self.answers)


@dataclass(frozen=True)
class FormSubject:
    """What a form is filled in from: a folder of code, a verified run, or both.

    ``spread`` and ``verdicts`` are what is known of many runs together: that results have intervals, and that others
    trained runs again and signed what came of it.
    """

    name: str
    sources: Sources | None = None
    manifest: Manifest | None = None
    spread: tuple[Evidence, ...] = ()
    verdicts: tuple[Evidence, ...] = ()


def fill_in(form: str, subject: FormSubject) -> Form:
    """Fill in a form. Raises UsageError for a form that there is not."""
    if form not in FORMS:
        raise UsageError(f"no form '{form}'", f"one of {', '.join(FORMS)}")
    title, source, answers = FORMS[form]
    return Form(form, title, source, subject.name, tuple(answers(subject)))


def markdown(form: Form) -> str:
    """The form as a Markdown document."""
    head = f"# {form.title}: {form.subject}\n\n{form.source}. {form.answered} of {len(form.answers)} answered.\n\n"
    rows = [
        (each.question, each.answer, "; ".join(filter(None, (*map(str, each.evidence), each.note))))
        for each in form.answers
    ]
    return head + markdown_table(("question", "answer", "evidence"), rows)


CodeFinder = Callable[[Sources], Iterator[Evidence]]


def _look(
    subject: FormSubject, of_code: Iterable[CodeFinder] = (), of_run: Iterable[run.Finder] = ()
) -> tuple[Evidence, ...]:
    """The first evidence of each finder that finds any."""
    in_code = [islice(find(subject.sources), 1) for find in of_code] if subject.sources else []
    in_run = [islice(find(subject.manifest), 1) for find in of_run] if subject.manifest else []
    return tuple(islice(chain(*in_code, *in_run), SHOWN))


def _ask(
    subject: FormSubject,
    question: str,
    of_code: Iterable[CodeFinder] = (),
    of_run: Iterable[run.Finder] = (),
    *,
    against: Iterable[CodeFinder] = (),
    known: tuple[Evidence, ...] = (),
    note: str = "",
) -> Answer:
    """Yes with evidence, ``known`` or found; no with evidence against it and none for it; else not known."""
    found = (*known, *_look(subject, of_code, of_run))[:SHOWN]
    if found:
        return Answer(question, YES, found, note)
    contrary = _look(subject, against)
    return Answer(question, NO if contrary else UNKNOWN, contrary, note or ("" if contrary else "nothing was found"))


def _all(
    subject: FormSubject, question: str, groups: Iterable[tuple[Iterable[CodeFinder], Iterable[run.Finder]]], note: str
) -> Answer:
    """Yes where each group has evidence; else not known, with what there is."""
    found = [_look(subject, of_code, of_run)[:1] for of_code, of_run in groups]
    return Answer(question, YES if all(found) else UNKNOWN, tuple(chain(*found)), note)


def _paper(question: str, note: str = "about the paper") -> Answer:
    return Answer(question, UNKNOWN, (), note)


def _mlcode(subject: FormSubject) -> Iterator[Answer]:
    yield _ask(
        subject, "Dependencies are specified", (files.pinned, files.unpinned, files.containers), (run.environment,)
    )
    yield _ask(subject, "There is code that trains", (code.training_code,), (run.training_and_testing,))
    yield _ask(subject, "There is code that evaluates", (code.testing_code,), (run.training_and_testing,))
    yield _ask(
        subject,
        "Trained models are available",
        (files.weights_released,),
        note="weights that training writes are not released",
    )
    yield _all(
        subject,
        "A table of results, and the commands that give them",
        (((files.results_told,), ()), ((files.commands_told,), ())),
        "that these commands give these results is for whoever runs them",
    )


def _acm(subject: FormSubject) -> Iterator[Answer]:
    yield _ask(
        subject,
        "Artifacts Available: in an archive that keeps them, with an identifier",
        (files.archive_links,),
        note="a repository that its owner can delete is no archive",
    )
    yield _ask(subject, "Functional: documented", (files.readme, files.commands_told, files.more_documents))
    yield _paper("Functional: consistent with the paper", "needs the paper beside the artifacts")
    yield _all(
        subject,
        "Functional: complete",
        (((code.training_code,), (run.training_and_testing,)), ((code.testing_code,), (run.training_and_testing,))),
        "code for training and testing; which experiments the paper has is not known here",
    )
    yield _ask(
        subject,
        "Functional: exercisable",
        (files.make_targets, code.entry_points),
        (run.training_and_testing, run.command),
    )
    yield _ask(subject, "Functional: evidence of verification and validation", (files.tests,), (run.source,))
    yield Answer(
        "Reusable: well beyond functional, others can build on it",
        UNKNOWN,
        _look(subject, (files.licences, files.more_documents, files.tests)),
        "the reviewers' judgement; where there is evidence, it speaks for it",
    )
    yield Answer(
        "Results Reproduced: by others, with these artifacts",
        UNKNOWN,
        subject.verdicts,
        "others give it; their signed verdicts speak for it"
        if subject.verdicts
        else "others give it: `ndrepro reproduce` signs a verdict",
    )
    yield _paper("Results Replicated: by others, without these artifacts", "others give it")


def _neurips(subject: FormSubject) -> Iterator[Answer]:
    yield _paper("1. Abstract and introduction claim what is shown", "`ndrepro audit` holds claims against tables")
    yield _paper("2. Limitations are discussed")
    yield _paper("3. Theory: assumptions and proofs are complete")
    yield _all(
        subject,
        "4. What reproducing the main results needs is stated: commands, training, network, settings, data",
        (
            ((files.commands_told,), (run.command,)),
            ((code.training_code,), (run.training_and_testing,)),
            ((code.networks_defined,), (run.architecture,)),
            ((files.configurations, code.settings_told), (run.settings,)),
            ((files.data_told, code.data_code), (run.data,)),
        ),
        "each of them is looked for",
    )
    yield _all(
        subject,
        "5. Code and data are open, with instructions",
        (((files.public_address,), ()), ((files.licences,), ()), ((files.commands_told,), ())),
        "an address, a licence and commands are looked for",
    )
    yield _ask(
        subject,
        "6. Settings of training and testing are stated: splits, hyperparameters, optimizer",
        (files.configurations, code.settings_told, code.data_code),
        (run.settings,),
        against=(code.settings_buried,),
    )
    yield _ask(
        subject,
        "7. Results have error bars or tests of significance, and it is stated how",
        (files.spread_told,),
        against=(files.bare_results,),
        known=subject.spread,
        note="one run has none",
    )
    yield _ask(
        subject,
        "8. Computing resources are stated: hardware, memory, time",
        (files.hardware_told,),
        (run.hardware, run.compute),
    )
    yield _paper("9. The research keeps to the code of ethics", "the authors say so")
    yield _paper("10. Impacts on society are discussed")
    yield _paper("11. Safeguards against misuse of what is released")
    yield _paper(
        "12. Assets of others are credited, with licence and terms", "whether credits are complete is not known"
    )
    yield _ask(subject, "13. New assets are documented", (files.readme, files.more_documents, files.licences))
    yield _paper("14. Work with people: instructions, payment")
    yield _paper("15. Work with people: approval of a review board")
    yield _paper("16. Use of language models as part of the method is stated")


_OF_SOFTWARE = "the software's; the article's is the authors' to write"


def _rescience(subject: FormSubject) -> Iterator[Answer]:
    note = f"{_OF_SOFTWARE}: [Re] and the original's title, where it replicates"
    yield _citation(subject, "title", "Title of the article", note=note)
    yield _citation(subject, "authors", "Authors, with ORCID and affiliation", block=True)
    yield _citation(subject, "keywords", "Keywords", block=True)
    yield _citation(subject, "repository-code", "Code, URL")
    yield _citation(subject, "doi", "Code, DOI")
    yield _ask(subject, "Code, identifier of Software Heritage", (files.archive_links,))
    yield _citation(subject, "license", "Code, licence")
    yield _citation(subject, "version", "Code, version")
    yield _language(subject)
    yield _citation(
        subject, "references", "The article that is replicated", block=True, only="title:", note="titles cited"
    )
    yield _citation(subject, "abstract", "Abstract", note=_OF_SOFTWARE)
    yield _ask(subject, "Bibliography file", (files.bibliographies,))
    yield _paper("Type of the article: Editorial, Letter or Replication", "the authors say so")
    yield _paper("Scientific domain", "the authors say so")
    yield _ask(subject, "Data: where they come from", (files.data_address,), (run.data,))
    yield _paper(
        "Scope: which claims of the original are tested", "published/claims.toml, where there is one, has them"
    )
    yield _ask(
        subject,
        "Method: the authors' code, or code of your own",
        (code.networks_defined,),
        (run.source,),
        note="code was found; whose it is, is not known here",
    )
    yield _ask(subject, "Method: hyperparameters", (files.configurations, code.settings_told), (run.settings,))
    yield _ask(subject, "Method: computing resources", (files.hardware_told,), (run.hardware, run.compute))
    yield _ask(
        subject, "Results, with their spread", (files.spread_told,), against=(files.bare_results,), known=subject.spread
    )
    yield _paper("What was easy", "the authors say so")
    yield _paper("What was difficult", "the authors say so")
    yield _paper("Communication with the original authors", "the authors say so")


def _citation(
    subject: FormSubject, key: str, question: str, *, block: bool = False, only: str = "", note: str = ""
) -> Answer:
    """What CITATION.cff has at its top level; of a list (``block``) its first lines, those that begin with ``only``."""
    name = next(subject.sources.named(r"CITATION\.cff", anywhere=False), None) if subject.sources else None
    if subject.sources is None or name is None:
        return _paper(question, "no CITATION.cff")
    lines = subject.sources.lines_of(name)
    for number, line in enumerate(lines, 1):
        found = re.match(rf"{key}:\s*(.*)$", line)
        if found is None:
            continue
        inside = [text.removeprefix(only).strip() for text in _block(lines[number:]) if text.startswith(only)]
        value = found[1].strip().strip("\"'")
        if value in ("", ">", ">-", "|", "|-"):
            value = ("; " if block else " ").join(inside[:8])
        if value:
            return Answer(question, value, (Evidence(name, number, ""),), note)
    return _paper(question, f"{name} does not have it")


def _block(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if line.strip() and not line.startswith((" ", "-")):
            return
        if line.strip():
            yield line.strip().removeprefix("- ")


def _language(subject: FormSubject) -> Answer:
    question = "Language of the code"
    modules = subject.sources.modules if subject.sources else ()
    if not modules:
        return _paper(question, "no Python was found")
    return Answer(question, "Python", (Evidence(modules[0].path, 0, f"one of {len(modules)} files"),))


FORMS: dict[str, tuple[str, str, Callable[[FormSubject], Iterator[Answer]]]] = {
    "mlcode": ("ML Code Completeness Checklist", "Papers with Code, 2020", _mlcode),
    "acm": ("ACM badges", "Artifact Review and Badging, version 1.1", _acm),
    "neurips": ("NeurIPS Paper Checklist", "NeurIPS, sixteen questions", _neurips),
    "rescience": (
        "ReScience C article",
        "metadata.yaml of ReScience C, and a reproducibility report's questions",
        _rescience,
    ),
}
