"""Attack: another Python computes the results, whose packages nobody compares, in an environment that is "checked"."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from editable_environments import use
from strange_programs import Stranger, manifest_of, statuses

from ndrepro.api import Reproduction
from ndrepro.protocol.program_record import ProgramRecord

CHILD = "open('out.txt', 'w').write('0.9999')\n"
KEPT_OUT = {
    "by an option": "subprocess.run([sys.executable, '-I', 'child.py'])",
    "behind an option's value": "subprocess.run([sys.executable, '-W', 'ignore', '-I', 'child.py'])",
    "by env": "subprocess.run(['env', '-u', 'PYTHONPATH', sys.executable, 'child.py'])",
    "by no variables": "subprocess.run([sys.executable, 'child.py'], env={})",
    "by exec": "os.execve(sys.executable, [sys.executable, 'child.py'], {'PATH': os.environ['PATH']})",
    "by a shell": "os.system(f'{sys.executable} -B -E child.py')",
    "by a variable that is removed": "del os.environ['PYTHONPATH']; subprocess.run([sys.executable, 'child.py'])",
    "by a tool": "subprocess.run(['timeout', '60', sys.executable, 'child.py'], env={'PATH': os.environ['PATH']})",
    "by a process without an end": "subprocess.run([sys.executable, '-I', 'child.py']); os._exit(0)",
    "by spawn": "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-sS', 'child.py'], os.environ), 0)",
}


TEST = "import unittest, own.__main__\nclass Own(unittest.TestCase):\n    def test_own(self): pass\n"
WORK = "def double(value): return 2 * value\n"
SPAWNS = """
import os
from multiprocessing import get_context
from own.work import double
if __name__ == '__main__':
    {before}
    with get_context('spawn').Pool(1) as pool, open('out.txt', 'w') as file:
        file.write(str(pool.map(double, [1, 2])))
"""


def environment_of(found: Reproduction) -> tuple[str, str]:
    (claim,) = (each for each in found.judgements[0].claims if each.name == "environment")
    return claim.status, claim.evidence


@pytest.mark.parametrize("how", KEPT_OUT)
def test_a_python_that_the_hook_is_kept_out_of_is_named(tmp_path: Path, how: str) -> None:
    files = {"train.py": f"import os, subprocess, sys\n{KEPT_OUT[how]}\n", "child.py": CHILD}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(outputs=("out.txt",)))
    status, evidence = environment_of(found)
    assert found.verdict == "identical" and status == "not checked"
    assert "started without the hook" in evidence and "child.py" in evidence


def test_processes_of_multiprocessing_that_the_hook_is_kept_out_of_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No audit event tells of their start. Before: environment "checked", whatever they import."""
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    named = "started without the hook: what it started with PYTHONPATH=src"
    for number, added in enumerate(("", " + ':' + os.environ['PYTHONPATH']")):
        text = SPAWNS.format(before=f"os.environ['PYTHONPATH'] = 'src'{added}")
        author = Stranger.make(tmp_path / str(number), {"train.py": text, "own/work.py": WORK})
        run = author.record(sys.executable, "train.py", outputs=("out.txt",))
        status, evidence = environment_of(author.reproduce(run))
        assert (status, named in evidence) == (("checked", False) if added else ("not checked", True)), evidence


def test_a_second_python_of_another_place_is_named(tmp_path: Path) -> None:
    """Seen by the hook, under another name, and not compared."""
    place = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    shutil.copy2(place / "bin" / "python", place / "bin" / "tool")
    starts = f"import subprocess\nsubprocess.run([{str(place / 'bin' / 'tool')!r}, 'child.py'])\n"
    author = Stranger.make(tmp_path / "a", {"train.py": starts, "child.py": CHILD})
    run = author.record(outputs=("out.txt",))
    assert len(ProgramRecord.of(manifest_of(run)).interpreters) == 2
    status, evidence = environment_of(author.reproduce(run))
    assert status == "not checked" and str(place) in evidence


def test_another_python_of_the_repetition_is_named(tmp_path: Path) -> None:
    """The recorded one is the author's alone, and what takes its place is of another version or place."""
    place = tmp_path / "authors"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    python = place / "bin" / "python"
    starts = f"python={python}\n[ -x $python ] || python={sys.executable}\n$python child.py\n"
    author = Stranger.make(tmp_path / "a", {"run.sh": starts, "child.py": CHILD})
    run = author.record("sh", "run.sh", outputs=("out.txt",))
    shutil.rmtree(place)
    status, evidence = environment_of(author.reproduce(run))
    assert status == "not checked" and f"{sys.executable} (" in evidence


def test_where_no_python_was_seen_no_environment_is_checked(tmp_path: Path) -> None:
    """A shell keeps the hook out. Before: "no Python seen, as recorded", and checked."""
    author = Stranger.make(tmp_path / "a", {"run.sh": f"{sys.executable} -I child.py\n", "child.py": CHILD})
    found = author.reproduce(author.record("sh", "run.sh", outputs=("out.txt",)))
    status, evidence = environment_of(found)
    assert (found.verdict, status) == ("identical", "not checked") and "nothing was compared" in evidence


def test_children_that_the_hook_reaches_are_no_other_python(tmp_path: Path) -> None:
    """The control: the same interpreter again, and a tool."""
    starts = "subprocess.run([sys.executable, 'child.py']); subprocess.run(['uname', '-I'], env={})"
    author = Stranger.make(tmp_path / "a", {"train.py": f"import os, subprocess, sys\n{starts}\n", "child.py": CHILD})
    run = author.record(outputs=("out.txt",))
    assert "without the hook" not in run.processes.read_text()
    assert "also ran" not in environment_of(author.reproduce(run))[1]


def test_a_program_of_the_code_in_the_place_of_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The author's PATH has it first; the command says "python train.py". Before: "identical", in no claim."""
    files = {"bin/python": "#!/bin/sh\necho 0.9999 > o\n", "train.py": "open('o', 'w').write('0.5')\n"}
    author = Stranger.make(tmp_path / "a", files)
    with monkeypatch.context() as authors:
        authors.setenv("PATH", os.pathsep.join([str(author.root / "bin"), os.environ["PATH"]]))
        run = author.record("python", "train.py", outputs=("o",))
    found = author.reproduce(run)
    (environment,) = (each for each in found.judgements[0].claims if each.name == "environment")
    assert (found.verdict, environment.status) == ("identical", "not checked")
    assert "python is bin/python of the recorded code" in environment.evidence


def test_many_harmless_starts_hide_none(tmp_path: Path) -> None:
    """Before: twenty were named, and nothing said that there were more."""
    starts = f"""
import subprocess
for number in range(30):
    subprocess.run(['sh', '-c', f'test {{number}}'], env={{}})
subprocess.run([{sys.executable!r}, '-I', 'child.py'])
"""
    author = Stranger.make(tmp_path / "a", {"train.py": starts, "child.py": CHILD})
    status, evidence = environment_of(author.reproduce(author.record(outputs=("out.txt",))))
    assert status == "not checked" and "sh -c test 0" in evidence
    assert "started without the hook: more that are not listed" in evidence


@pytest.mark.parametrize("name", ["statistics.py", "rich/__init__.py", "provenance/__init__.py"])
def test_a_module_of_the_code_instead_of_an_installed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where Python looks first, whatever the record says of the distributions; the last one is installed editable, if
    this is a work tree."""
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    module = name.partition("/")[0].partition(".")[0]
    text = f"import {module}\nopen('out.txt', 'w').write({module}.mean([0.4, 0.6]))\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, name: "def mean(values): return '0.9999'\n"})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    status, evidence = environment_of(found)
    assert (found.verdict, status) == ("identical", "not checked")
    assert f"{name.partition('/')[0]} of the code instead of the installed {module}" in evidence


def test_a_module_of_a_package_of_the_code_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    files = {
        "test/__init__.py": "",
        "profile.py": "import own.types, test\nopen('out.txt', 'w').write('0.6')\n",
        "own/__init__.py": "",
    }
    author = Stranger.make(tmp_path / "a", {**files, "own/types.py": "", "types/notes.py": ""})
    run = author.record(sys.executable, "profile.py", outputs=("out.txt",))
    status, evidence = environment_of(author.reproduce(run))
    assert status == "checked" and "instead of" not in evidence


@pytest.mark.parametrize("folder", ["lib/fastlib", "lib/python{}.{}/site-packages"])
def test_modules_where_neither_python_nor_its_environment_has_its_own_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    """In an installation that both share. Before: in no list of anything, and the environment was "checked"."""
    real, installed = Path(os.path.realpath(sys.executable)), tmp_path / "installed"
    library = installed / "lib" / Path(os.__file__).parent.name
    for path in (installed / "bin", library, where := installed / folder.format(*sys.version_info)):
        path.mkdir(parents=True, exist_ok=True)
    shutil.copy(real, python := installed / "bin" / real.name)
    for path in Path(os.__file__).parent.iterdir():
        if path.name != "site-packages":
            (library / path.name).symlink_to(path)
    (where / "fastmean.py").write_text("mean = 0.9999\n")
    subprocess.run([python, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    use(monkeypatch, tmp_path / "env" / "bin" / "python")
    text = f"import sys; sys.path.append({str(where)!r})\nfrom fastmean import mean\n"
    text += "open('out.txt', 'w').write(str(mean))\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    found = author.reproduce(author.record("python", "train.py", outputs=("out.txt",)))
    assert found.verdict == "identical", found.judgements[0].because
    claims = (*found.claims, *found.judgements[0].claims)
    doubts = [each.name for each in claims if each.status == "not checked" and f"{where}/fastmean.py" in each.evidence]
    assert {"environment", "code of no commit"} & {*doubts}, doubts


def test_a_package_that_is_imported_instead_of_a_file_is_named(tmp_path: Path) -> None:
    """Whoever reads ``python -m fit`` opens fit.py."""
    files = {"fit.py": "open('out.txt', 'w').write('0.6')\n", "fit/__init__.py": "", "fit/__main__.py": CHILD}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(sys.executable, "-m", "fit", outputs=("out.txt",)))
    assert found.verdict == "identical"
    assert "fit of the code instead of fit.py beside it" in environment_of(found)[1]


def test_so_is_one_inside_a_package(tmp_path: Path) -> None:
    files = {"train.py": "from lib.util import mean\nopen('out.txt', 'w').write(mean())\n"}
    for name, value in (("lib/util.py", "0.6"), ("lib/util/__init__.py", "0.9999")):
        files[name] = f"def mean(): return '{value}'\n"
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(sys.executable, "train.py", outputs=("out.txt",)))
    assert found.verdict == "identical"
    assert "lib/util of the code instead of util.py beside it" in environment_of(found)[1]


@pytest.mark.parametrize(
    "ending",
    [
        "write(mean([0.4, 0.6]))\nos._exit(0)",
        "write(mean([0.4, 0.6]))\nsys.path.pop(0)",
        "os.chdir('src')\nwrite(mean([0.4, 0.6]))",
        "if not os.fork():\n    write(mean([0.4, 0.6]))\n    os._exit(0)\nos.wait()",
    ],
)
def test_no_search_path_hides_a_module(tmp_path: Path, ending: str) -> None:
    """Before: named where the search path, as it was at the end, led to it."""
    text = f"""
import os, sys
def write(text, path=os.path.abspath('out.txt')):
    with open(path, 'w') as file: file.write(text)
def mean(values):
    sys.path.insert(0, '' if os.path.isfile('statistics.py') else 'src')
    import statistics
    return statistics.mean(values)
{ending}
"""
    files = {"train.py": text, "src/statistics.py": "def mean(values): return '0.9999'\n"}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert found.verdict == "identical"
    assert "src/statistics.py of the code instead of the installed" in environment_of(found)[1]


STATISTICS = "import statistics\nstatistics.mean = lambda values: 0.9999\n"
USES = "import copy\nfrom statistics import mean\nwith open('out.txt', 'w') as out: out.write(str(mean([0.4, 0.6])))"


@pytest.mark.parametrize("command", ["train.py", "train.py .", "train.py org", "app", "train.py --src app"])
def test_a_module_of_the_code_that_something_else_imports_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Python's pickle imports a module of Jython's, if there is one. Before: in no claim; nor if a word names a folder
    above it, or its package, or is "".
    """
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    text = "import pickle\nfrom statistics import mean\nopen('out.txt', 'w').write(str(mean([0.4, 0.6])))\n"
    name = "app/org/python/core.py" if "app" in command else "org/python/core.py"
    path = "import sys\nsys.path.insert(0, 'app')\n"
    files = {"train.py": path + text, "app/__main__.py": text, name: f"{STATISTICS}PyStringMap = None\n"}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record("python", *command.split(), "", outputs=("out.txt",)))
    (claim,) = (each for each in found.claims if each.name == "imports")
    assert (found.verdict, claim.status) == ("identical", "not checked")
    assert f"{name}, by " in claim.evidence and claim.evidence.endswith('pickle.py"')


REMOVED = f"""
import os, sys, tempfile
with tempfile.TemporaryDirectory() as scratch:
    os.chdir(scratch)
try:
    open('settings.txt')
except OSError:
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
{USES}
os._exit(0)
"""
COPIED = """
import shutil, subprocess, sys, tempfile
with tempfile.TemporaryDirectory() as scratch:
    shutil.copytree('src', f'{scratch}/src')
    done = subprocess.run([sys.executable, 'main.py'], cwd=f'{scratch}/src', capture_output=True, check=True)
open('out.txt', 'wb').write(done.stdout)
"""
ARCHIVED = """
import subprocess, sys, tempfile, zipapp
with tempfile.TemporaryDirectory() as scratch:
    zipapp.create_archive('src', f'{scratch}/app.pyz', main='main:main')
    done = subprocess.run([sys.executable, f'{scratch}/app.pyz'], capture_output=True, check=True)
open('out.txt', 'wb').write(done.stdout)
"""
COMPILED = f"""
import compileall, sys, tempfile
sys.pycache_prefix = tempfile.mkdtemp()
compileall.compile_dir('.', quiet=1)
{USES}
"""
KERNEL = f"""
import os, sys
sys.path[0] = '/proc/self/cwd'
{USES}
"""


MANY = f"""
import os, tempfile
with tempfile.TemporaryDirectory() as scratch:
    for number in range(20_100):
        os.close(os.open(f'{{scratch}}/{{number}}', os.O_CREAT))
{USES}
os._exit(0)
"""


@pytest.mark.parametrize(
    "text",
    [REMOVED, COPIED, ARCHIVED, COMPILED, KERNEL, MANY],
    ids=["removed", "copied", "archived", "compiled", "kernel", "many"],
)
def test_it_is_named_wherever_it_is_executed_from(tmp_path: Path, text: str) -> None:
    """After a file that was looked for in a removed folder, or very many; from a copy, an archive, bytecode kept
    elsewhere, /proc. Before: in no claim.
    """
    main = "def main():\n    import copy\n    from statistics import mean\n    print(mean([0.4, 0.6]))\n"
    core, end = f"{STATISTICS}PyStringMap = None\n", "if __name__ == '__main__':\n    main()\n"
    files = {"train.py": text, "org/python/core.py": core, "src/org/python/core.py": core, "src/main.py": main + end}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(sys.executable, "train.py", outputs=("out.txt",)))
    assert found.verdict == "identical", found.judgements
    assert (author.root / "out.txt").read_text().strip() == "0.9999"
    (claim,) = (each for each in found.claims if each.name == "imports")
    assert "org/python/core.py" in claim.evidence or ".pyz" in claim.evidence


def test_what_python_imports_before_it_is_observed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs its encodings first, and looks for them on PYTHONPATH. Before: in no claim."""
    own = (Path(os.__file__).parent / "encodings" / "__init__.py").read_text()
    files = {
        "train.py": "open('out.txt', 'w').write('0.5')\n",
        "run.sh": f"PYTHONPATH=src:$PYTHONPATH {sys.executable} train.py",
    }
    for path in (Path(os.__file__).parent / "encodings").glob("[au]*.py"):
        files[f"src/encodings/{path.name}"] = path.read_text()
    author = Stranger.make(tmp_path / "a", {**files, "src/encodings/__init__.py": own})
    found = author.reproduce(author.record("sh", "run.sh", outputs=("out.txt",)))
    (claim,) = (each for each in found.claims if each.name == "imports")
    assert "src/encodings/__init__.py, by <start of Python>" in claim.evidence


def test_a_temporary_folder_behind_a_link_hides_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the reviewer's. Before: paths were compared by their words, and no module was of the code."""
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "link"))
    files = {"train.py": "import statistics\nopen('out.txt', 'w').write(statistics.mean())\n"}
    author = Stranger.make(tmp_path / "a", {**files, "statistics.py": "def mean(): return '0.9999'\n"})
    found = author.reproduce(author.record(sys.executable, "train.py", outputs=("out.txt",)))
    assert "statistics.py of the code instead of the installed statistics" in environment_of(found)[1]


ERASES = (
    STATISTICS
    + """
import posix
folder = posix.environ[b'NDREPRO_HOOK_OUT'].decode()
for name in posix.listdir(folder):
    posix.unlink(f'{folder}/{name}')
PyStringMap = None
"""
)


@pytest.mark.parametrize("ending", ["", "\nimport os; os._exit(0)"])
def test_what_was_noted_of_a_module_is_not_erased_by_it(tmp_path: Path, ending: str) -> None:
    """It empties the folder of the hook. Before: environment and inputs "checked", and no claim named it."""
    author = Stranger.make(tmp_path / "a", {"train.py": USES + ending, "org/python/core.py": ERASES})
    found = author.reproduce(author.record(sys.executable, "train.py", outputs=("out.txt",)))
    assert (author.root / "out.txt").read_text() == "0.9999"
    (claim,) = (each for each in found.claims if each.name == "imports")
    assert claim.status == "not checked" and "org/python/core.py, by " in claim.evidence


@pytest.mark.parametrize("limit", ["RLIMIT_FSIZE, (64, 64)", "RLIMIT_NOFILE, (9, 9)"])
def test_a_process_that_keeps_its_list_from_being_written_is_named(tmp_path: Path, limit: str) -> None:
    """Before: inputs "1 of 1", and nothing that was opened or imported afterwards."""
    text = (
        f"import os, resource\nresource.setrlimit(resource.{limit})\nopen('out.txt', 'w').write('0.5')\nos._exit(0)\n"
    )
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    found = author.reproduce(author.record(sys.executable, "train.py", outputs=("out.txt",)))
    inputs = next(each for each in found.judgements[0].claims if each.name == "inputs")
    assert inputs.status == "not checked" and "opened files: resource.setrlimit to " in inputs.evidence


@pytest.mark.parametrize(
    "command",
    [
        "train.py",
        "-m own.__main__",
        "-m pytest -q -p no:cacheprovider",
        "-m unittest discover -s tests",
        "-m own",
        "-m unittest tests.test_own",
        "-c import own.__main__",
        "-m pytest -q -p no:cacheprovider tests",
    ],
)
def test_what_the_command_or_the_code_imports_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """No attack."""
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    start, _, rest = command.partition(" ")
    words = [start, *([rest] if start == "-c" else rest.split())]
    files = {
        "train.py": SPAWNS.format(before="pass"),
        "own/__init__.py": "",
        "own/work.py": WORK,
        "own/__main__.py": "from own.work import double\nopen('out.txt', 'w').write(str(double(2)))\n",
        "tests/test_own.py": TEST,
    }
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(sys.executable, *words, outputs=("out.txt",)))
    assert found.verdict == "identical"
    assert "imports" not in statuses(found), found.claims
