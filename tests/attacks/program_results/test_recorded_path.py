"""Programs that name their own folder: honest ones, and recorded folders that are none of an author's."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro import api
from ndrepro.execution.sandbox.sandbox import why_not
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import BUBBLEWRAP, NAMESPACES

pytestmark = pytest.mark.skipif(not CONFINED, reason="no sandbox here")
KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(why_not(kind) is not None, reason=f"no {kind} here"))
    for kind in (BUBBLEWRAP, NAMESPACES)
]


def evidence(found: api.Reproduction, name: str) -> str:
    (claim,) = (each for each in (*found.claims, *found.judgements[0].claims) if each.name == name)
    return claim.evidence


HONEST = {
    "a setting": "open('o', 'w').write(open('{root}/data.csv').read())\n",
    "an output": "import os\nopen('{root}/o', 'w').write(os.getcwd() + __file__ + os.path.realpath('o'))\n",
    "a module": "import sys\nsys.path.insert(0, '{root}/src')\nimport model\nopen('o', 'w').write(model.SCORE)\n",
    "a link": "import os\nopen('o.1', 'w').write('0.6')\nos.symlink(os.path.abspath('o.1'), 'o')\n",
    "above": "open('o', 'w').write(open('../data/x.csv').read() + open('{top}/data/x.csv').read())\n",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", HONEST)
def test_an_honest_program_that_names_its_own_folder_is_repeated(tmp_path: Path, what: str, kind: str) -> None:
    """Before: it found nothing there, or wrote another path into its output, and was undecided."""
    top = tmp_path / "a"
    text = HONEST[what].format(root=top / "project", top=top)
    author = Stranger.make(top, {"train.py": text, "data.csv": "0.6123", "src/model.py": "SCORE = '0.6123'\n"})
    asked: dict[str, Any] = {}
    if what == "above":
        (top / "data").mkdir()
        (top / "data/x.csv").write_text("0.6123")
        asked = {"data": (top / "data",)}
    run = author.record(outputs=("o",), **asked)
    found = author.reproduce(run, sandbox=kind)
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].because)
    assert statuses(found)["inputs"] == "checked", evidence(found, "inputs")
    assert f"by the path of {author.root} is of the recorded code" in evidence(found, "recorded code")
    assert not [each for each in found.claims if each.name == "imports"]


@pytest.mark.parametrize("kind", KINDS)
def test_words_search_path_and_outputs_are_those_of_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Also below the top. Before: the words were others, which is in this output."""
    root = tmp_path / "a" / "project"
    text = f"import sys, model\nopen({str(root / 'o')!r}, 'w').write(repr((sys.argv, sys.path[:2], model.__file__)))\n"
    author = Stranger.make(tmp_path / "a", {"sub/train.py": text, "src/model.py": "", "full.json": "{}"})
    monkeypatch.setenv("PYTHONPATH", f"{root}/src")
    words = (f"{root}/sub/train.py", f"--with={root}/full.json", f"a,{root}/full.json")
    found = author.reproduce(author.record(sys.executable, *words, outputs=("o",)), sandbox=kind)
    assert found.verdict == "identical", (found.plan.differences, found.judgements[0].because)
    assert "not observed" not in evidence(found, "environment")
    assert f"sub/train.py is sub/train.py of the recorded code; {root}/full.json" not in evidence(
        found, "recorded code"
    )
    assert f", folder {root}," in evidence(found, "outputs computed")


LOOKS = """
import os, pathlib
found = []
def put(text):
    found.append(text)
here = pathlib.Path.cwd()
for each in [here, *here.parents]:
    put(f'{each}: {sorted(os.listdir(each))}')
for name in ('.git/config', '.git/x', '../x', '../../x'):
    try:
        (here / name).write_text('')
        put(f'wrote {name}')
    except OSError:
        pass
(here / 'left.txt').write_text('')
print('\\n'.join(found))
open('o', 'w').write('0.6')
"""


def recorded_at(author: Stranger, place: str) -> RunFolder:
    """A run whose author says that it was recorded in a folder of this path."""
    run = author.record(outputs=("o",))
    source = manifest_of(run).dependency("source")
    assert source is not None
    said = replace(source, annotations={**(source.annotations or {}), "root": place})
    others = (each for each in manifest_of(run).dependencies if each.name != "source")
    author.claim(run, {"workingFolder": place}, dependencies=(said, *others))
    return run


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_the_reviewer_s_is_seen_or_written_there(tmp_path: Path, kind: str) -> None:
    """The path is the author's word: there is a folder of the reviewer's, and a link leads to it."""
    author = Stranger.make(tmp_path / "a", {"train.py": LOOKS})
    own = tmp_path / "own"
    (own / "project").mkdir(parents=True)
    (own / "project" / "diary.txt").write_text("dear diary")
    (tmp_path / "link").symlink_to(own)
    for place in (own / "project", tmp_path / "link" / "project"):
        found = author.reproduce(recorded_at(author, str(place)), sandbox=kind)
        assert found.verdict == "identical", found.judgements[0].because
        assert f"by the path of {place} is of the recorded code" in evidence(found, "recorded code")
        printed = (found.folders[0] / "log.txt").read_text()
        assert f"{place}: ['.git', '.gitignore', 'train.py']" in printed and f"{place.parent}: ['project']" in printed
        assert "diary" not in printed and "wrote .git" not in printed
    assert [path.name for path in own.rglob("*")] == ["project", "diary.txt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "place",
    [
        *("/etc", "/etc/x", "/proc/self", "/sys/x", "/dev/shm/x", "/run/x", "/var", "/tmp", "/.ndrepro/x", "/lib32"),
        *("/usr/src/x", "{prefix}/x", "{keys}", "{keys}/x", "{top}", "{review}", "{long}"),
    ],
)
def test_it_is_not_shown_at_what_is_somebody_else_s(tmp_path: Path, place: str, kind: str) -> None:
    """As before: under its own path."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.6')\n"})
    names = {"keys": author.reviewer, "top": author.top, "review": author.top / "review", "long": "/x" * 2040}
    place = place.format(prefix=sys.prefix, **names)
    found = author.reproduce(recorded_at(author, place), sandbox=kind)
    assert found.verdict == "identical", found.judgements[0].because
    assert "is of the recorded code" not in (said := evidence(found, "recorded code"))
    assert f"by the path of {place} is not there" in said or len(place) > 4000


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path, kind: str) -> None:
    top = Path(f"{tmp_path}/a \udcff\n'b")
    author = Stranger.make(top, {"train.py": "open('o', 'w').write('0.6')\n"})
    found = author.reproduce(author.record(outputs=("o",)), sandbox=kind)
    assert found.verdict == "identical", found.judgements[0].because
