"""A recorded patch attacks the reviewer who executes it: everything is tried for real, and reported by the code itself.

One signed run, whose code trains as it should and then attacks; ``ndrepro reproduce`` executes it in a sandbox, and, as
the control, with ``--trust-code`` in none, where every attack succeeds.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from captured_source import git
from real_runs import Bench
from recorded_runs import Answer, process

from ndrepro.execution.sandbox.sandbox import why_not
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.project_folders import CODE

ATTACK = """
import json, os, signal, socket, sys
from pathlib import Path
TARGETS = json.loads({targets!r})


def attack(folder):
    if not (folder / "origin.json").exists():
        return  # the author's own run
    found = {{}}
    def attempt(name, function):
        try:
            found[name] = function()
        except BaseException as error:
            found[name] = f"failed: {{type(error).__name__}}"
    attempt("reads the key home", lambda: sorted(path.name for path in Path(TARGETS["keys"]).iterdir())[:1] and "yes")
    attempt("writes to the home folder", lambda: Path(TARGETS["home"], ".profile").write_text("evil") and "yes")
    attempt("connects to a server", lambda: socket.create_connection(("127.0.0.1", TARGETS["port"]), 5) and "yes")
    attempt("connects to a Unix socket beside its data", connect)
    attempt("kills a process", kill)
    attempt("reads another run", lambda: Path(TARGETS["run"], "request.json").read_text() and "yes")
    attempt("writes to its code", lambda: Path(__file__).write_text("changed") and "yes")
    attempt("writes to its data", lambda: os.close(os.open(TARGETS["data"], os.O_WRONLY)) or "yes")
    attempt("reads a secret variable", lambda: "yes" if os.environ["DEPLOY_TOKEN"] else "")
    attempt("holds the recorder's lock", lock)
    attempt("makes a program of its user's rights", lambda: suid(folder / "tool"))
    attempt("makes one by creating it", lambda: suid_at_once(folder / "tool"))
    attempt("copies another run by a hard link", lambda: link(folder / "copy"))
    (folder / "attack.json").write_text(json.dumps(found))


def connect():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(TARGETS["service"])
    return "yes"


def kill():
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and TARGETS["victim"].encode() in (entry / "cmdline").read_bytes():
            os.kill(int(entry.name), signal.SIGKILL)
            return "yes"
    raise ProcessLookupError


def link(place):
    os.link(Path(TARGETS["run"], "request.json"), place)
    place.unlink()
    return "yes"


def suid(path):
    path.touch()
    try:
        path.chmod(0o755)
        path.chmod(0o4755)
    finally:
        path.unlink(missing_ok=True)
    return "yes"


def suid_at_once(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o2755))
        return "yes" if os.stat(path).st_mode & 0o2000 else "no"
    finally:
        path.unlink(missing_ok=True)


def lock():
    for number in range(3, 100):
        try:
            name = os.readlink(f"/proc/self/fd/{{number}}")
        except FileNotFoundError:
            continue
        if name.endswith(".lock"):
            return "yes"
    raise FileNotFoundError
"""
CALL = "    stop.close()\n"


@dataclass(frozen=True)
class Reviewer:
    """The reviewer's machine: a home folder, keys, a server, and a recorded run whose code attacks them."""

    bench: Bench
    home: Path
    run: RunFolder
    victim: str

    def reproduce(self, *options: str) -> Answer:
        words = ["reproduce", str(self.run.root), "--runs", str(self.bench.options.runs.root), "--json", *options]
        words += ["--data", str(self.bench.options.data)]
        return process(
            *words, HOME=str(self.home), NDREPRO_HOME=str(self.bench.options.home), DEPLOY_TOKEN="hunter2" * 4
        )

    def attacks(self, answer: Answer) -> dict[str, str]:
        """What the code of the repetition reports."""
        name = answer.json["repeated"][0]["run"]
        folder = self.run.root.parent / name
        found: dict[str, str] = json.loads((folder / "attack.json").read_text())
        print(f"\n{answer.json['execution']['sandbox']}:", json.dumps(found, indent=1))
        return found


@pytest.fixture(scope="module")
def reviewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewer]:
    if not (CODE / ".git").exists():
        pytest.skip("the code is in no git checkout: a recorded commit cannot be rebuilt")
    root = tmp_path_factory.mktemp("reviewer")
    bench, home, victim = Bench(root), root / "home", f"victim-{os.getpid()}"
    home.mkdir()
    (root / "data").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as service:
        service.bind(str(root / "data" / "service"))
        service.listen()
        author = root / "author"
        git(root, "clone", "-q", "--shared", str(CODE), str(author))
        targets = {
            "keys": str(bench.options.home),
            "home": str(home),
            "port": server.getsockname()[1],
            "victim": victim,
            "run": str(root / "runs" / "lenet_bn_1_digits" / "other"),
            "data": str(root / "data" / "digits.csv.gz"),
            "service": str(root / "data" / "service"),
        }
        (author / "ndrepro/training/attack.py").write_text(ATTACK.format(targets=json.dumps(targets)))
        main = author / "ndrepro/training/__main__.py"
        text = main.read_text()
        assert text.count(CALL) == 1
        patched = "    from ndrepro.training.attack import attack\n    attack(folder.root)\n"
        main.write_text(text.replace(CALL, patched + CALL))
        data = Path(targets["data"])
        from ndrepro.execution.runs.data_check import locate

        data.write_bytes(locate(bench.experiment("lenet_bn_1_digits"), None).read_bytes())
        bench.options = replace(bench.options, code=author, data=data.parent)
        finished = bench.run("lenet_bn_1_digits")
        assert finished.outcome == "completed", finished.error
        other = Path(targets["run"])
        other.mkdir()
        (other / "request.json").write_text("{}")
        yield Reviewer(bench, home, finished.folder, victim)


@pytest.fixture
def victim(reviewer: Reviewer) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the reviewer's, in another session."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", reviewer.victim])
    yield started
    started.kill()
    started.wait()


@pytest.mark.parametrize("kind", ["bubblewrap", "namespaces"])
def test_a_sandbox_stops_every_attack(reviewer: Reviewer, victim: subprocess.Popen[bytes], kind: str) -> None:
    if reason := why_not(kind):
        pytest.skip(f"{kind}: {reason}")
    # a cache there would be shown, and the folders above it are then the sandbox's own, in memory
    shutil.rmtree(reviewer.home / ".cache", ignore_errors=True)
    answer = reviewer.reproduce("--sandbox", kind)
    assert answer.code == 0, (answer.err, answer.out)
    found = reviewer.attacks(answer)
    assert len(found) == 13 and all(said.startswith("failed: ") for said in found.values())
    assert victim.poll() is None and not (reviewer.home / ".profile").exists()
    assert answer.json["verdict"] == "identical"
    signed = executed(answer)
    assert signed["sandbox"] == kind and signed["allowed"] == ""
    assert signed["code"]["dirty"] is True and not signed["code"]["own"]
    assert signed["code"]["changed"] == ["ndrepro/training/__main__.py"]
    assert list(signed["code"]["untracked"]) == ["ndrepro/training/attack.py"]


def test_without_a_sandbox_every_attack_succeeds(reviewer: Reviewer, victim: subprocess.Popen[bytes]) -> None:
    """The control."""
    answer = reviewer.reproduce("--sandbox", "none", "--trust-code")
    assert answer.code == 0, (answer.err, answer.out)
    found = reviewer.attacks(answer)
    assert set(found.values()) == {"yes"}
    assert victim.wait(60) < 0 and (reviewer.home / ".profile").read_text() == "evil"
    assert executed(answer)["sandbox"] == "none" and executed(answer)["allowed"] == "--trust-code"


def test_nothing_runs_without_sandbox_or_consent(reviewer: Reviewer) -> None:
    before = set(reviewer.run.root.parent.iterdir())
    answer = reviewer.reproduce("--sandbox", "none")
    assert answer.code == 3 and "all your rights" in answer.err and "--trust-code" in answer.err
    assert set(reviewer.run.root.parent.iterdir()) == before


def executed(answer: Answer) -> dict[str, Any]:
    """What was signed of the execution."""
    from provenance.attestation.dsse import read_envelope

    payload = read_envelope(Path(answer.json["attestation"]).read_bytes())[1]
    found: dict[str, Any] = json.loads(payload)["predicate"]["execution"]
    return found


def test_a_reviewer_is_shown_the_code_and_may_refuse(reviewer: Reviewer) -> None:
    before = set(reviewer.run.root.parent.iterdir())
    words = ["reproduce", str(reviewer.run.root), "--runs", str(reviewer.bench.options.runs.root), "--sandbox", "none"]
    ours, theirs = pty.openpty()
    variables = {**os.environ, "PYTHONPATH": str(CODE), "NDREPRO_HOME": str(reviewer.bench.options.home)}
    with subprocess.Popen(
        [sys.executable, "-m", "ndrepro", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=variables
    ) as asked:
        os.close(theirs)
        os.write(ours, b"n\n")
        shown = _until_closed(ours)
    assert asked.returncode == 3, shown
    assert "untracked  ndrepro/training/attack.py" in shown and "+    attack(folder.root)" in shown
    assert "Run it?" in shown and set(reviewer.run.root.parent.iterdir()) == before


def _until_closed(terminal: int) -> str:
    found = b""
    with open(terminal, "rb", buffering=0) as stream:
        while True:
            try:
                piece = stream.read(4096)
            except OSError:  # as Linux ends a terminal whose other side is closed
                piece = b""
            if not piece:
                return found.decode("utf-8", "replace")
            found += piece
