"""Forms are answered from evidence, and what nobody can know from files stays not known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded_runs import sign_run

from ndrepro.checklists.checklist_run import read_run
from ndrepro.checklists.checklist_sources import Sources
from ndrepro.checklists.forms import FORMS, NO, UNKNOWN, YES, Form, FormSubject, fill_in, markdown
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.key_home import default_home
from provenance.attestation.trust import TrustPolicy

FILES = {
    "train.py": "import torch\ndef f(net, opt, x):\n    net(x).backward()\n    opt.step()\n",
    "evaluate.py": "import torch\ndef f(net):\n    net.eval()\n",
    "requirements.txt": "torch==2.8.0\n",
    "README.md": "# Code\n\n    python train.py\n\n| net | 91.20 ± 0.10 |\n",
    "CITATION.cff": "title: 'A title'\nversion: 1.2\nauthors:\n  - family-names: Doe\n"
    "abstract: >-\n  One line\n  and two.\n",
}


def folder(root: Path, files: dict[str, str]) -> FormSubject:
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    return FormSubject("it", Sources(root))


def answers(form: Form) -> dict[str, str]:
    return {answer.question: answer.answer for answer in form.answers}


@pytest.mark.parametrize("name", FORMS)
def test_an_empty_folder_answers_nothing(tmp_path: Path, name: str) -> None:
    form = fill_in(name, folder(tmp_path, {}))
    assert form.answered == 0 and {answer.answer for answer in form.answers} == {UNKNOWN}


@pytest.mark.parametrize("name", FORMS)
def test_no_yes_and_no_without_evidence(tmp_path: Path, name: str) -> None:
    for answer in fill_in(name, folder(tmp_path, FILES)).answers:
        assert answer.evidence or answer.answer == UNKNOWN
        assert answer.evidence or answer.note, "what is not known says why"


def test_code_completeness_counts_what_is_there(tmp_path: Path) -> None:
    assert list(answers(fill_in("mlcode", folder(tmp_path, FILES))).values()) == [YES, YES, YES, UNKNOWN, YES]
    (tmp_path / "evaluate.py").unlink()
    assert list(answers(fill_in("mlcode", folder(tmp_path, {}))).values()) == [YES, YES, UNKNOWN, UNKNOWN, YES]


EXAMPLE = """# How a report is written

Give each result with its spread, as in this example:

    | net | 91.20 ± 0.10 |
    Trained on one A100 with 64 GB RAM, from the data set at https://example.org/data.tar.gz
    Trained weights: https://example.org/weights.safetensors holds the pretrained network
    doi: 10.5281/zenodo.1 (https://zenodo.org/record/1)

and the command, `python elsewhere.py --seeds 3`, whose standard deviation is `0.1 ± 0.2`:

```sh
python elsewhere.py
make nothing
```
<!-- | net | 91.20 ± 0.10 | of three seeds on an A100 -->
"""


@pytest.mark.parametrize("name", FORMS)
def test_an_example_in_a_document_answers_nothing(tmp_path: Path, name: str) -> None:
    quoted = fill_in(name, folder(tmp_path, {"README.md": EXAMPLE, "notes.toml": 'text = "set epochs = 1 here"\n'}))
    documented = {"Functional: documented", "13. New assets are documented"}
    assert {question for question, answer in answers(quoted).items() if answer == YES} <= documented


def test_the_same_words_outside_an_example_do(tmp_path: Path) -> None:
    """The control: what the example above says, said of the work itself."""
    said = "\n\n".join(line.strip() for line in EXAMPLE.splitlines() if line.startswith("    "))
    files = {"README.md": f"{said}\n\n```sh\npython elsewhere.py\n```\n", "elsewhere.py": "", "a.toml": "epochs = 1\n"}
    subject = folder(tmp_path, files)
    assert answers(fill_in("mlcode", subject))["Trained models are available"] == YES
    assert answers(fill_in("mlcode", subject))["A table of results, and the commands that give them"] == YES
    neurips = answers(fill_in("neurips", subject))
    assert [answer for question, answer in neurips.items() if question.startswith(("6.", "7.", "8."))] == [YES] * 3
    assert next(iter(answers(fill_in("acm", subject)).values())) == YES


def test_results_without_a_spread_are_a_no(tmp_path: Path) -> None:
    question = "7. Results have error bars or tests of significance, and it is stated how"
    assert answers(fill_in("neurips", folder(tmp_path, FILES)))[question] == YES
    bare = FILES | {"README.md": "# Code\n\n| net | 91.20 |\n"}
    assert answers(fill_in("neurips", folder(tmp_path, bare)))[question] == NO


def test_badges_that_others_give_stay_not_known(tmp_path: Path) -> None:
    found = answers(fill_in("acm", folder(tmp_path, FILES)))
    assert len(found) == 9 and found["Functional: documented"] == YES
    given = [answer for question, answer in found.items() if question.startswith(("Results", "Reusable"))]
    assert given == [UNKNOWN, UNKNOWN, UNKNOWN]


def test_rescience_metadata_come_from_the_citation_file(tmp_path: Path) -> None:
    found = answers(fill_in("rescience", folder(tmp_path, FILES)))
    assert found["Title of the article"] == "A title" and found["Abstract"] == "One line and two."
    assert found["Authors, with ORCID and affiliation"] == "family-names: Doe"
    assert found["Code, DOI"] == found["What was easy"] == UNKNOWN


def test_sixteen_questions_and_a_verified_run_answers_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "home"))
    run = sign_run(RunsFolder(tmp_path / "runs"), "lenet_bn_2_digits", "20261121T101501Z-aaaaaa")
    manifest = read_run(run.root, TrustPolicy.load(default_home())).manifest
    form = fill_in("neurips", FormSubject("run", None, manifest))
    assert len(form.answers) == 16
    settings = next(answer for answer in form.answers if answer.question.startswith("6."))
    assert settings.answer == YES and "learning_rate" in settings.evidence[0].text


def test_markdown_and_json(tmp_path: Path) -> None:
    form = fill_in("mlcode", folder(tmp_path, FILES))
    assert "| There is code that trains | yes | train.py:3 net(x).backward() |" in markdown(form)
    assert json.loads(json.dumps(form.to_json()))["answered"] == 4


def test_a_form_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no form 'ieee'"):
        fill_in("ieee", folder(tmp_path, {}))
