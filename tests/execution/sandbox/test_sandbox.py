"""A confined process sees what it was given, writes one folder, talks to nobody, and is watched like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from real_runs import Bench, wait_for

from ndrepro.execution.sandbox.confinement import Confinement
from ndrepro.execution.sandbox.interpreter_paths import interpreter_paths
from ndrepro.execution.sandbox.passed_variables import passed_variables
from ndrepro.execution.sandbox.sandbox import ConfinedProcess, Sandbox, choose, why_not
from ndrepro.protocol.errors import SandboxError, UsageError

KINDS = ("bubblewrap", "namespaces")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    if reason := why_not(request.param):
        pytest.skip(f"{request.param}: {reason}")
    return str(request.param)


class Box:
    """A folder to write, and scripts that are run in a sandbox."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.root, self.folder, self.log = kind, root, root / "run", root / "log"
        self.folder.mkdir()

    def start(
        self,
        script: str,
        *,
        readable: Sequence[Path] = (),
        sandbox: Mapping[str, Any] | None = None,
        processes: Sequence[Mapping[str, str]] = ({},),
    ) -> ConfinedProcess:
        seen = Confinement(tuple(readable), (self.folder,), self.folder)
        words = [sys.executable, "-I", "-S", "-c", script]
        with self.log.open("wb") as log:
            return Sandbox(self.kind, **(sandbox or {})).start(words, {}, seen, processes=processes, log=log)

    def answer(self, script: str, **options: Any) -> Any:
        """The JSON that a script prints."""
        process = self.start(f"import json, os\n{script}", **options)
        assert process.wait(120) == 0, self.log.read_text()
        return json.loads(self.log.read_text())


@pytest.fixture
def box(kind: str, tmp_path: Path) -> Box:
    return Box(kind, tmp_path)


RIGHTS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
read_only = {path: bool(os.statvfs(path).f_flag & os.ST_RDONLY)
             for path in ("/", "/usr", "/proc/sys/kernel/core_pattern", "/sys/devices", "/dev", "/tmp", os.getcwd())}
print(json.dumps({
    "capabilities": {name: int(status[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")},
    "no_new_privileges": status["NoNewPrivs"].strip(), "read_only": read_only,
    "new_user_namespace": libc.unshare(0x10000000), "mount": libc.mount(b"none", b"/tmp", b"tmpfs", 0, None),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]],
    "session": os.getsid(0), "variables": sorted(os.environ), "descriptors": sorted(os.listdir("/proc/self/fd"))[:4],
    "folders": sorted(os.listdir("/")),
}))
"""


def test_what_a_confined_process_may_do(box: Box) -> None:
    found = box.answer(RIGHTS)
    assert set(found["capabilities"].values()) == {0} and found["no_new_privileges"] == "1"
    writable = {path for path, shut in found["read_only"].items() if not shut}
    assert writable == {"/tmp", str(box.folder)}, "a root without capabilities could write to /proc/sys otherwise"
    assert found["new_user_namespace"] == -1 and found["mount"] == -1
    assert found["processes"] == [1, 2] and found["interfaces"] == ["lo"]
    assert "home" not in found["folders"] and "run" not in found["folders"] and "var" not in found["folders"]
    assert set(found["variables"]) <= {"HOME", "TMPDIR", "PWD", "LC_CTYPE", "NDREPRO_PARENT_PID"}


JOB = """
import subprocess, sys
neighbour = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
ended = subprocess.run(sys.argv[1:]).returncode
assert neighbour.poll() is None
neighbour.kill()
print("the job lives", ended)
"""


def test_the_process_group_is_the_sandboxs_own(box: Box) -> None:
    """``kill(0)`` reaches a group whatever namespaces there are: the recorder and the reviewer's whole job."""
    script = "import os, signal; os.killpg(0, signal.SIGKILL)"
    seen = Confinement(tuple(interpreter_paths(sys.executable)), (box.folder,), box.folder)
    words = Sandbox(box.kind).command_line([sys.executable, "-I", "-S", "-c", script], {}, seen)
    job = subprocess.run([sys.executable, "-c", JOB, *words], capture_output=True, text=True, start_new_session=True)
    assert job.stdout == f"the job lives {128 + signal.SIGKILL}\n", (job.returncode, job.stderr)


def test_folders_of_runs_are_empty_but_for_what_is_named(box: Box) -> None:
    runs, keys = box.root / "data" / "runs", box.root / "data" / "keys"
    for path in (runs / "a" / "result", runs / "b" / "result", keys / "key", box.root / "data" / "train"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (box.root / "link").symlink_to(box.root / "data")
    script = f"print(json.dumps(sorted(os.path.relpath(os.path.join(top, name), '{box.root}/link')\n"
    script += f"    for top, _, names in os.walk('{box.root}/link/.') for name in names)))"
    seen = [box.root / "link", runs / "a" / "result"]
    options = {"sandbox": {"runs": (runs,), "secret": (keys,)}}
    assert box.answer(script, readable=seen, **options) == ["runs/a/result", "train"]
    control = box.answer(script, readable=seen)
    assert control == ["keys/key", "runs/a/result", "runs/b/result", "train"]


def test_an_interpreter_that_is_named_by_dots_is_found(kind: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "venv").symlink_to(sys.prefix)
    python = f"{tmp_path}/work/../venv/bin/{Path(sys.executable).name}"
    with (tmp_path / "log").open("wb") as log:
        process = Sandbox(kind).start([python, "-I", "-S", "-c", ""], {}, Confinement((), (), Path("/")), log=log)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()


def test_private_folders_are_refused(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    home = box.root / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / "keys" / "more").mkdir(parents=True)
    (home / "runs").mkdir()
    (home / "harmless").symlink_to(home / ".ssh")
    monkeypatch.setenv("HOME", str(home))
    options = {"sandbox": {"runs": (home / "runs",), "secret": (home / "keys",)}}
    for path in (home, box.root, home / ".ssh", home / "harmless", home / "keys" / "more", home / "runs"):
        with pytest.raises(SandboxError, match="a sandbox does not show"):
            box.start("", readable=[path], **options)
    with pytest.raises(SandboxError, match="nothing is there"):
        box.start("", readable=[home / "nothing"])


def test_exit_codes_and_signals_are_those_of_the_process(box: Box) -> None:
    assert box.start("raise SystemExit(75)").wait(120) == 75
    assert box.start("import os; os.kill(os.getpid(), 9)").wait(120) == -signal.SIGKILL
    assert box.start("import os; os.abort()").wait(120) == -signal.SIGABRT
    waiting = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])\n"
        "pathlib.Path('ready').touch()\n"
        "while True: time.sleep(0.05)\n"
    )
    process = box.start(waiting)
    wait_for((box.folder / "ready").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 75
    (box.folder / "ready").unlink()
    process = box.start(waiting)
    wait_for((box.folder / "ready").exists)
    process.kill()
    assert process.wait(120) == -signal.SIGKILL and process.poll() == -signal.SIGKILL


def test_processes_of_one_run_share_a_sandbox_and_end_together(box: Box) -> None:
    talk = (
        "import os, socket, time\n"
        "if os.environ['RANK'] == '0':\n"
        "    with socket.create_server(('127.0.0.1', 29500)) as server: server.accept()[0].sendall(b'x')\n"
        "while os.environ['RANK'] == '1':\n"
        "    try: socket.create_connection(('127.0.0.1', 29500)).recv(1); break\n"
        "    except ConnectionRefusedError: time.sleep(0.05)\n"
    )
    ranks = [{"RANK": "0"}, {"RANK": "1"}]
    assert box.start(talk, processes=ranks).wait(120) == 0
    fails = "import os, sys, time\nif os.environ['RANK'] == '1': sys.exit(3)\ntime.sleep(600)"
    assert box.start(fails, processes=ranks).wait(120) == 3
    killed = "import os, time\nif os.environ['RANK'] == '1': os.kill(os.getpid(), 9)\ntime.sleep(600)"
    assert box.start(killed, processes=ranks).wait(120) == -signal.SIGKILL


def test_nothing_lives_on_when_the_parent_is_killed(kind: str, tmp_path: Path) -> None:
    token = f"confined-{os.getpid()}-{kind}"
    script = (
        "import sys, time; from pathlib import Path\n"
        "from ndrepro.execution.sandbox.confinement import Confinement\n"
        "from ndrepro.execution.sandbox.sandbox import Sandbox\n"
        f"run = Path({str(tmp_path)!r})\n"
        f"words = [sys.executable, '-I', '-S', '-c', 'import time; time.sleep(600)', {token!r}]\n"
        f"seen = Confinement((), (run,), run)\n"
        f"with open(run / 'log', 'wb') as log: box = Sandbox({kind!r}).start(words, {{}}, seen, log=log)\n"
        "(run / 'started').touch(); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        wait_for(lambda: (tmp_path / "started").exists() and _running(token), None)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not _running(token), seconds=500)  # before it would have ended by itself


def test_nothing_starts_when_whoever_asked_for_it_has_gone_meanwhile(kind: str, tmp_path: Path) -> None:
    box, seen = Sandbox(kind), Confinement(interpreter_paths(sys.executable), (tmp_path,), tmp_path)
    touch = [sys.executable, "-I", "-S", "-c", "open('there', 'w')"]
    alive, lifeline = os.pipe()
    words = box._words(touch, {}, seen, ({},), touch[0], False, alive=alive)
    assert subprocess.run(words, pass_fds=[alive]).returncode == 0
    assert (tmp_path / "there").exists()
    (tmp_path / "there").unlink()
    os.close(lifeline)
    assert subprocess.run(words, pass_fds=[alive]).returncode == 128 + signal.SIGKILL
    os.close(alive)
    assert not (tmp_path / "there").exists()


def _running(token: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += [entry.name] if token.encode() in (entry / "cmdline").read_bytes() else []
            except OSError:
                continue
    return found


def test_a_kind_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    why_not.cache_clear()
    try:
        assert choose("auto", container=True) == ("container", "")
        assert choose("auto", container=False) == (
            "none",
            "bubblewrap: it needs Linux; namespaces: it needs Linux",
        )
        with pytest.raises(SandboxError, match="namespaces: it needs Linux"):
            choose("namespaces", container=False)
    finally:
        why_not.cache_clear()
    for wanted, container in (("chroot", False), ("container", False), ("namespaces", True)):
        with pytest.raises(UsageError, match=f"--sandbox {wanted}"):
            choose(wanted, container=container)


def test_variables_that_move_numbers_pass_and_secrets_do_not() -> None:
    given = {
        "OMP_PROC_BIND": "true",
        "CUDA_VISIBLE_DEVICES": "0",
        "LD_PRELOAD": "/x.so",
        "SSH_AUTH_SOCK": "/tmp/agent",
        "NDREPRO_HOME": "/home/keys",
        "AWS_SECRET_ACCESS_KEY": "x" * 40,
        "NVIDIA_API_KEY": "nvapi-" + "x" * 60,
        "HOME": "/home/reviewer",
    }
    assert set(passed_variables(given)) == {"OMP_PROC_BIND", "CUDA_VISIBLE_DEVICES"}


def test_starting_costs_little(box: Box) -> None:
    """Printed, not judged: a machine may be slow."""
    took = []
    for _ in range(5):
        start = time.perf_counter()
        assert box.start("").wait(120) == 0
        took.append(time.perf_counter() - start)
    words = [sys.executable, "-I", "-S", "-c", ""]
    start = time.perf_counter()
    for _ in range(5):
        subprocess.run(words, check=True)
    bare = (time.perf_counter() - start) / 5
    print(f"\n{box.kind}: {min(took) - bare:.3f} to {max(took) - bare:.3f} s beyond the process itself, n = 5")


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_confined_run_has_the_same_bits(kind: str, processes: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    free = bench.run("lenet_nd_1_digits", processes=processes)
    hides = {"runs": (bench.options.runs.root,), "secret": (bench.options.home,)}
    bench.options = replace(bench.options, sandbox=Sandbox(kind, **hides))
    confined = bench.run("lenet_nd_1_digits", processes=processes)
    assert confined.outcome == free.outcome == "completed", confined.error
    for name in ("metrics.jsonl", "trail.bin", "weights.safetensors"):
        assert (confined.folder.root / name).read_bytes() == (free.folder.root / name).read_bytes()
