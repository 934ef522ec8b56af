"""The start-up hook in real interpreters: programs behave as without it, and what they were is recorded."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from observed_programs import clean_environment, interpreter, observe

from provenance.errors import ProvenanceError, UsageError
from provenance.observation import collection
from provenance.observation.collection import collect
from provenance.observation.preparation import prepare, trail_every
from provenance.observation.process_record import ImportedModule, OpenedFile, encode_processes, read_processes

HOOK = Path(__file__).parents[3] / "provenance" / "hook"
PLAIN = """
import json, os, random, sys, threading
random.seed(3)
print(json.dumps([random.random(), sys.argv[1:], sys.flags.isolated, sys.flags.no_site]))
if not sys.flags.no_site: print(sys.path, threading.active_count())
print(sorted(name for name in os.environ if not name.startswith(("PYTHONPATH", "NDREPRO_HOOK_"))))
print(sorted(os.listdir("/proc/self/fd")), file=sys.stderr)
if len(sys.argv) > 1:
    raise ValueError(sys.argv[1])
"""


def plainly(folder: Path, *arguments: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """The program of ``folder`` without the hook."""
    command = [python, *arguments]
    return subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True)


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.12", "3.13", "3.14"])
def test_a_program_of_another_python_is_recorded(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    found = observe(tmp_path, PLAIN, "--token", "abcdefgh12345678", python=python)
    assert found.returncode == 1
    plain = plainly(tmp_path, str(tmp_path / "program.py"), "--token", "abcdefgh12345678", python=python)
    assert (found.stdout, found.stderr) == (plain.stdout, plain.stderr)
    process = found.process
    assert process.version.startswith(f"{version}.")
    assert process.argv[1:] == (str(tmp_path / "program.py"), "--token", "[redacted:token]")
    assert process.cwd == str(tmp_path)
    assert process.ending == "exit" and process.started < process.ended
    assert set(process.random_at_exit) == {"python"}
    assert process.search_path[0] == str(tmp_path)
    assert process.problems == ()


def test_the_program_finds_no_module_loaded_that_it_did_not_import(tmp_path: Path) -> None:
    found = observe(tmp_path, "import sys; print(*sorted(sys.modules))")
    plain = plainly(tmp_path, str(tmp_path / "program.py"))
    more = {*found.stdout.split()} - {*plain.stdout.split()}
    assert {name for name in more if not name.startswith("ndrepro_hook")} <= {
        *("sitecustomize", "__future__", "atexit", "_socket")
    }
    assert "ndrepro_hook.hook.start" in more, "the control"


def test_the_files_that_it_opened_are_listed_once_for_all_ways(tmp_path: Path) -> None:
    source = """
import os, sqlite3, tempfile
with open("a.txt", "w") as file: file.write("1")
for _ in range(3): open(b"a.txt").close()
os.close(os.open("b.txt", os.O_RDWR | os.O_CREAT))
class Name(str): pass
open(Name("e.txt"), "w").close()
os.mkdir("sub"); os.chdir("sub")
open("c.txt", "x").close(); open("d.txt", "a").close()
try: open("missing.txt")
except OSError: pass
import email.message
"""
    opened = {Path(each.path).name: each for each in observe(tmp_path, source).process.opened}
    assert opened.keys() == {"program.py", "a.txt", "b.txt", "c.txt", "d.txt", "e.txt", "missing.txt"}
    assert opened["a.txt"] == OpenedFile(str(tmp_path / "a.txt"), True, True, True)
    assert opened["b.txt"] == OpenedFile(str(tmp_path / "b.txt"), True, True)
    assert opened["c.txt"] == OpenedFile(str(tmp_path / "sub" / "c.txt"), False, True)
    assert opened["d.txt"] == OpenedFile(str(tmp_path / "sub" / "d.txt"), False, True)
    assert opened["missing.txt"] == OpenedFile(str(tmp_path / "sub" / "missing.txt"), True, False)


def test_files_that_imports_opened_are_known_with_their_modules(tmp_path: Path) -> None:
    """Once as a module, whatever the search path is afterwards; another opening is none."""
    (tmp_path / "sub" / "own").mkdir(parents=True)
    (tmp_path / "sub" / "own" / "__init__.py").write_text("from . import part\n")
    (tmp_path / "sub" / "own" / "part.py").write_text("")
    (tmp_path / "sub" / "pickled.py").write_text("class Own: pass\n")
    source = """
import importlib, pickle, sys
open("sub/own/part.py").close(); open("sub/unused.py", "w").close()
sys.path.insert(0, "sub")
importlib.import_module("own.part")
pickle.loads(b"cpickled\\nOwn\\n.")
sys.path.pop(0)
"""
    process = observe(tmp_path, source).process
    program, own = str(tmp_path / "program.py"), str(tmp_path / "sub" / "own")
    assert set(process.imported) == {
        ImportedModule("own", f"{own}/__init__.py", program),
        ImportedModule("own.part", f"{own}/part.py", f"{own}/__init__.py"),
        ImportedModule("pickled", str(tmp_path / "sub" / "pickled.py"), program),
    }
    assert str(tmp_path / "sub" / "unused.py") in {each.path for each in process.opened}
    assert "imported" not in process.to_json(), "which are files here"


def test_the_list_of_opened_files_is_bounded_and_the_rest_is_counted(tmp_path: Path) -> None:
    source = """
import os
for index in range(20_100):
    try: os.open(f"/nowhere/{index}", 0)
    except OSError: pass
"""
    process = observe(tmp_path, source).process
    assert len(process.opened) == 20_000
    assert process.opened_not_listed == 101  # with the program itself


def test_a_sitecustomize_and_a_usercustomize_further_along_are_executed(tmp_path: Path) -> None:
    for name in ("sitecustomize", "usercustomize"):
        (tmp_path / f"{name}.py").write_text(f"import sys; sys.{name} = __name__, __file__\n", encoding="utf-8")
    source = "import sys, sitecustomize; print(sys.sitecustomize, sys.usercustomize, sitecustomize.__file__)"
    python = interpreter("3.12") or sys.executable  # a virtual environment has no usercustomize
    found = observe(tmp_path, source, python=python, variables={"PYTHONPATH": str(tmp_path)})
    one, other = (str(tmp_path / f"{name}.py") for name in ("sitecustomize", "usercustomize"))
    assert found.stdout == f"{('sitecustomize', one)} {('usercustomize', other)} {one}\n"
    assert found.process.ending == "exit"


def test_an_exception_of_the_other_sitecustomize_is_reported_as_without_the_hook(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise RuntimeError('as ever')\n", encoding="utf-8")
    found = observe(tmp_path, "print(1)", variables={"PYTHONPATH": str(tmp_path)})
    assert found.stdout == "1\n" and found.returncode == 0
    assert "RuntimeError: as ever" in found.stderr
    assert found.process.ending == "exit"


def test_the_programs_own_modules_win_over_those_of_the_library(tmp_path: Path) -> None:
    names = ("json", "random", "hashlib", "struct", "typing", "weakref", "ctypes")
    for name in names:
        (tmp_path / f"{name}.py").write_text("MINE = True\n", encoding="utf-8")
    source = "".join(f"import {name}; print({name}.MINE)\n" for name in names if name != "typing")
    found = observe(tmp_path, source, options=("-B",))
    assert found.stdout == "True\n" * 6, found.stderr
    assert found.process.ending == "exit"


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_options_that_keep_the_hook_out_change_nothing(option: str, tmp_path: Path) -> None:
    found = observe(tmp_path, PLAIN, options=(option,))
    plain = plainly(tmp_path, option, str(tmp_path / "program.py"))
    assert (found.returncode, found.stdout, found.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert found.processes == ()


ENDINGS = {
    "os._exit(7)": (7, ""),
    "os.kill(os.getpid(), signal.SIGKILL)": (-signal.SIGKILL, ""),
    "sys.exit(4)": (4, "exit"),
    "os.execv(sys.executable, [sys.executable, '-S', '-c', 'raise SystemExit(5)'])": (5, "exec"),
    "os.closerange(3, 100); open('mine', 'w').write('x'); open('b', 'w'); sys.exit(0)": (0, "exit"),
    "import shutil; shutil.rmtree(os.environ['NDREPRO_HOOK_OUT']); open('b'); sys.exit(6)": (1, None),
}


@pytest.mark.parametrize("statement", ENDINGS)
def test_however_it_ends(statement: str, tmp_path: Path) -> None:
    code, ending = ENDINGS[statement]
    found = observe(tmp_path, f"import os, signal, sys\n{statement}\n")
    assert found.returncode == code, found.stderr
    if ending is None:
        assert not found.processes
    else:
        assert [each.ending for each in found.processes] == [ending]
    if "closerange" in statement:
        assert (tmp_path / "mine").read_text(encoding="utf-8") == "x"


def test_forks_pools_and_spawned_processes_have_records_of_their_own(tmp_path: Path) -> None:
    source = """
import multiprocessing, os, subprocess, sys
def work(name):
    open(name, "w").close()
if __name__ == "__main__":
    for method in ("fork", "spawn"):
        process = multiprocessing.get_context(method).Process(target=work, args=(method,))
        process.start(); process.join()
    if os.fork() == 0:
        work("os.fork"); os._exit(0)
    os.wait()
    subprocess.run([sys.executable, "-c", "open('subprocess', 'w')"])
"""
    found = observe(tmp_path, source)
    assert found.returncode == 0, found.stderr
    writer = {Path(each.path).name: process for process in found.processes for each in process.opened if each.written}
    main = found.processes[0]
    assert writer["fork"].forked_from == main.pid and writer["fork"].ending == "exit"
    assert writer["os.fork"].forked_from == main.pid and writer["os.fork"].ending == ""
    assert writer["spawn"].forked_from is None and writer["spawn"].ending == "exit"
    assert writer["subprocess"].parent_pid == main.pid and writer["subprocess"].ending == "exit"
    assert len({each.pid for each in found.processes}) == len(found.processes) >= 5


def test_ctrl_c_still_reaches_the_program(tmp_path: Path) -> None:
    source = """
import _thread, os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    while True: open("a", "w").close()
except KeyboardInterrupt:
    print("stopped")
"""
    assert observe(tmp_path, source).stdout == "stopped\n"


def test_records_survive_processes_json(tmp_path: Path) -> None:
    found = observe(tmp_path, "import sys; print(1)", "ä\n", "\udcff")
    path = tmp_path / "processes.json"
    path.write_bytes(encode_processes(found.processes))
    (again,) = read_processes(path)
    assert encode_processes([again]) == path.read_bytes()
    assert again.argv[2:] == ("ä\n", "\\xff")
    path.write_bytes(path.read_bytes().replace(b'"pid":', b'"pid":"x","was":'))
    with pytest.raises(ProvenanceError, match="unknown"):
        read_processes(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"pid":1}',
        b"[" * 100_000,
        b'{"a":' * 9999,
        b"\xff\xfe",
        b"1" * 5000,
        b"{}" * 3_000_000,
    ],
)
def test_whatever_a_program_writes_gives_a_record_with_the_reason(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "process-12-34.json").write_bytes(content)
    (tmp_path / "opened-12-34.jsonl").write_bytes(content + b'\n{"path":"/a","mode":"r"}\n{"path":1,"mode":"r"}\n')
    (tmp_path / "process-13-99999999999999999999.json").write_bytes(b"{}")
    os.mkfifo(tmp_path / "process-14-35.json")
    os.symlink("/etc/passwd", tmp_path / "process-15-36.json")
    records = collect(tmp_path)
    assert [each.pid for each in records] == [12, 14, 15]
    assert all("its process file cannot be read" in each.problems[-1] for each in records)
    assert records[0].opened == (OpenedFile("/a", True, False),)
    encode_processes(records)


def test_a_folder_that_is_gone_has_no_records_and_a_file_is_refused(tmp_path: Path) -> None:
    assert collect(tmp_path / "gone") == ()
    (tmp_path / "file").touch()
    with pytest.raises(ProvenanceError, match="cannot be listed"):
        collect(tmp_path / "file")


def test_a_trail_setting_that_means_nothing_is_refused(tmp_path: Path) -> None:
    assert [trail_every(each) for each in ("auto", "off", "every=25")] == [1, 0, 25]
    for wrong in ("", "on", "every=0", "every=-1", "every=1.5", "every=9999999999"):
        with pytest.raises(UsageError, match="expected auto, off or every=K"):
            prepare(tmp_path / "hook", wrong)


def test_the_pythonpath_of_the_program_stays_behind_the_hook(tmp_path: Path) -> None:
    variables = prepare(tmp_path, "auto", {"PYTHONPATH": "/one:/two"}).variables
    assert variables["PYTHONPATH"] == f"{tmp_path / 'code'}:/one:/two"
    assert prepare(tmp_path, "auto", {}).variables["PYTHONPATH"] == str(tmp_path / "code")


def test_the_hook_is_written_in_what_its_oldest_python_understands(tmp_path: Path) -> None:
    for path in HOOK.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), path.name, feature_version=(3, 8))
    # Python 2 writes its bytecode beside the source
    start = shutil.copy(HOOK / "sitecustomize.py", tmp_path)
    for version in ("2.7", "3.6", "3.7"):
        if python := interpreter(version):
            compiled = subprocess.run([python, "-m", "py_compile", start], capture_output=True)
            assert compiled.returncode == 0, compiled.stderr


def test_what_all_processes_wrote_together_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may write as many files as it likes, and all that is read of them is held in memory."""
    entry = b'{"path":"/a","mode":"r"}\n'
    for number in range(3):
        (tmp_path / f"process-{number}-{number}.json").write_text("{}")
        (tmp_path / f"opened-{number}-{number}.jsonl").write_bytes(entry)
    monkeypatch.setattr(collection, "_TOTAL_BYTES", 2 * len(entry) + 4)
    records = collect(tmp_path)
    assert [len(each.opened) for each in records] == [1, 1, 0]
    assert any("expected at most" in problem for problem in records[2].problems)


def test_what_the_hook_asks_for_is_no_variable_that_the_program_read(tmp_path: Path) -> None:
    """Before: at each bytecode file that was opened."""
    found = observe(tmp_path, "import json.tool", variables={"PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")})
    assert "PYTHONPYCACHEPREFIX" not in found.process.variables


def test_a_module_on_a_way_through_python_s_folders_is_listed_where_it_is(tmp_path: Path) -> None:
    """Before: by the first letters of its path it was one of Python's own, which are left out."""
    source = """
import os, sys
sys.path[0] = os.path.join(sys.prefix, 'lib', *['..'] * 20, *os.getcwd().split('/'))
import helper
"""
    (tmp_path / "helper.py").write_text("")
    found = observe(tmp_path, source)
    assert [each.name for each in found.process.imported if each.path == str(tmp_path / "helper.py")] == ["helper"]


def test_an_exception_of_a_handler_of_signals_reaches_the_program(tmp_path: Path) -> None:
    """It may be raised while an opening is looked at, which here is nearly always."""
    source = """
import signal
lost = 0
def expired(number, frame):
    raise TimeoutError
signal.signal(signal.SIGALRM, expired)
for number in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        for again in range(20_000):
            try:
                open(f'{number}/{again}')
            except FileNotFoundError:
                pass
        lost += 1
    except TimeoutError:
        pass
print(lost)
"""
    found = observe(tmp_path, source)
    assert found.stdout == "0\n", found.stderr
    assert not [text for text in found.process.problems if "TimeoutError" in text]


def test_an_opening_for_which_there_is_no_room_is_said(tmp_path: Path) -> None:
    source = """
import sys
def deeper():
    try:
        deeper()
    except RecursionError:
        pass
    open('there')
open('there', 'w')
try:
    deeper()
except RecursionError:
    pass
"""
    found = observe(tmp_path, source)
    opened = [each for each in found.process.opened if each.path.endswith("there")]
    assert opened or found.process.problems
