"""``ndrepro reproduce`` of recorded programs and scripts: in a sandbox, compared, judged, signed; what is refused."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from program_projects import HELPER, TRAIN, Project, current_folder
from recorded_runs import Answer
from script_runs import ScriptRun, sign_again

import provenance
from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.results.reviewer_verdicts import read_attestations
from ndrepro.execution.program_reproduction.recorded_command import RecordedData
from ndrepro.execution.program_reproduction.recorded_inputs import RecordedInputs
from ndrepro.execution.sandbox.sandbox import AUTO, choose
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import NO_SANDBOX
from provenance.attestation.trust import TrustPolicy

RUNS = Path("runs")
Ndrepro = Callable[..., Answer]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path / "project")


def reproduced(ndrepro: Ndrepro, run: Path, *words: str) -> Answer:
    """Where this machine has no sandbox, the code of the tests is trusted."""
    trust = ("--trust-code",) if choose(AUTO, container=False)[0] == NO_SANDBOX else ()
    return ndrepro("reproduce", str(run), *trust, *words)


def claims(answer: Answer) -> dict[str, tuple[str, str]]:
    return {each["name"]: (each["status"], each["evidence"]) for each in answer.json["repeated"][0]["claims"]}


def test_a_program_is_repeated_from_its_manifest(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    run = project.record(RUNS, own_home)
    (project.root / "train.py").write_text("raise SystemExit('not the recorded code')")  # the commit has it
    (project.root / "helper.py").write_text(HELPER)  # and the patch that
    answer = reproduced(ndrepro, run.root, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["verdict"] == "identical" and answer.json["differences"] == []
    found = claims(answer)
    assert found["outputs"] == ("checked", "2 of 2 files equal by digest")
    assert found["metrics"] == ("checked", "3 rows equal")
    assert found["inputs"][1].startswith("3 of 3") and found["environment"][0] == "checked"
    assert not (project.root / ".ndrepro-home").exists() and Path.cwd().name == "work"
    first, second = ndrepro("list", "--json").json["runs"]
    assert (first["kind"], second["kind"], second["origin"]) == ("original", "repetition", run.root.name)
    assert ndrepro("verify", second["run"]).code == 0
    # the verdict counts, on a run that is no training
    trust = TrustPolicy.load(own_home)
    (held,) = read_attestations(read_results(RUNS, policy=trust), trust).on_others
    assert (held.run.run_id, held.verdict, held.repeated) == (run.root.name, "identical", (second["run"],))


def test_it_is_shown_before_and_after(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    run = project.record(RUNS, own_home)
    (project.root / "data.txt").write_text("2.0")
    answer = reproduced(ndrepro, run.root)
    assert "patched: helper.py" in answer.out
    assert re.search(r"code +commit \w{12}, on \w+\n", answer.out), "of the repository that was named"
    assert "differs    input data.txt: another file here" in answer.out
    assert "verdict    undecided" in answer.out and answer.code == 1, "without its data it cannot run"
    assert "exit code: 0 then, 1 now" in answer.out


def test_other_results_are_undecided(ndrepro: Ndrepro, tmp_path: Path, own_home: Path) -> None:
    text = TRAIN.replace("import json,", "import os, json,").replace("repr(start)", "os.urandom(8).hex()")
    run = Project.make(tmp_path / "other", text).record(RUNS, own_home, metrics=())
    answer = reproduced(ndrepro, run.root, "--json")
    assert (answer.code, answer.json["verdict"]) == (1, "undecided")
    status, evidence = claims(answer)["outputs"]
    assert status == "failed" and evidence.startswith(
        "1 of 2 files equal by digest; differ: model.txt; model.txt, line 1"
    )


def test_the_program_sees_nothing_of_the_reviewer(
    ndrepro: Ndrepro, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if choose(AUTO, container=False)[0] == NO_SANDBOX:
        pytest.skip("no sandbox on this machine")
    monkeypatch.setenv("MY_TOKEN", "abc")
    places = [str(own_home), str(tmp_path / "other" / ".git" / "logs")]
    text = (
        "import os, pathlib\n"
        f"pathlib.Path('model.txt').write_text(str([os.path.exists(p) for p in {places!r}]"
        " + ['MY_TOKEN' in os.environ, 'NDREPRO_HOME' in os.environ]))\n"
    )
    run = Project.make(tmp_path / "other", text).record(RUNS, own_home, sys.executable, "train.py", metrics=())
    assert (run.output_copies / "model.txt").read_text() == "[True, True, True, False]"
    answer = reproduced(ndrepro, run.root, "--json")
    again = RUNS / "fit" / answer.json["repeated"][0]["run"] / "outputs" / "model.txt"
    assert again.read_text() == "[False, False, False, False]"
    assert answer.json["execution"]["sandbox"] != NO_SANDBOX


def test_a_repository_that_was_moved_is_named(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    run = project.record(RUNS, own_home)
    project.root.rename(project.root.with_name("moved"))
    answer = reproduced(ndrepro, run.root)
    assert answer.code == 2 and "its code cannot be checked out" in answer.err and "--repository DIR" in answer.err
    answer = reproduced(ndrepro, run.root, "--repository", str(project.root.with_name("moved")), "--json")
    assert answer.json["differences"] == ["input data.txt: not here"]


def test_code_of_no_repository_is_kept_in_the_run(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    shutil.rmtree(project.root / ".git")
    subprocess.run([sys.executable, "-m", "compileall", "-q", "helper.py"], cwd=project.root, check=True)
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    (project.root / "token.json").write_text(f'{{"token": "{secret}"}}')
    train = (project.root / "train.py").read_text()
    (project.root / "train.py").write_text(f"open('token.json').close()\n{train}")
    run = project.record(RUNS, own_home)
    kept = {path.name for path in run.input_copies.rglob("*") if path.is_file()}
    assert kept == {"train.py", "helper.py"}, (
        "helper.py is read as compiled code; data.txt is none, and no secret is kept"
    )
    assert ndrepro("verify", str(run.root)).code == 0
    for name in ("train.py", "helper.py"):
        (project.root / name).write_text("raise SystemExit('not the recorded code')")
    answer = reproduced(ndrepro, run.root, "--json")
    assert answer.json["verdict"] == "identical", answer.json
    assert answer.json["differences"] == [
        "code: no commit was recorded; only the files that it is known to have read are there"
    ]


def test_declared_data_are_shown_where_they_are_with_every_digest(
    ndrepro: Ndrepro, tmp_path: Path, own_home: Path
) -> None:
    text = TRAIN.replace("data.txt", "data/part/0.txt")
    project = Project.make(tmp_path / "declared", text)
    (project.root / ".gitignore").write_text("data\n")
    (project.root / "data" / "part").mkdir(parents=True)
    for number in range(2):
        (project.root / "data" / "part" / f"{number}.txt").write_text(f"{number + 1}.5")
    run = project.record(RUNS, own_home, data=(Path("data"),))
    answer = reproduced(ndrepro, run.root, "--json")
    assert (answer.code, answer.json["verdict"]) == (0, "identical"), answer.json
    assert claims(answer)["inputs"][1].startswith("3 of 3")
    (project.root / "data" / "private.txt").write_text("nobody declared this")
    answer = reproduced(ndrepro, run.root, "--json")
    assert answer.json["differences"][-1].startswith("data data: not here, or other files")
    (project.root / "data" / "private.txt").unlink()
    (project.root / "data" / "part" / "1.txt").write_text("other")  # no file that it opens
    answer = reproduced(ndrepro, run.root, "--json")
    assert answer.json["differences"][-1].startswith("data data: not here, or other files")
    assert answer.json["verdict"] == "undecided"


def test_data_without_a_file_show_no_folder(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "letter.txt").write_text("dear")
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "data" / "0.sha256").write_text("")
    command = SimpleNamespace(working_folder=tmp_path / "top", top=None, programs=())
    place, run = tmp_path / "place", RunFolder(tmp_path / "run")
    inputs = RecordedInputs(command, place, place, run, lambda path: None, None, maps=True)  # type: ignore[arg-type]
    inputs.bring_data(RecordedData(str(tmp_path / "private"), "data/0.sha256"))
    assert "not here, or other files" in inputs.missing[0] and inputs.shown == {}


def test_no_link_of_the_code_leads_a_copy_out_of_its_folder(ndrepro: Ndrepro, tmp_path: Path, own_home: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    project = Project.make(tmp_path / "linked", "print(open('link/authorized').read())")
    (project.root / "link").mkdir()
    (project.root / "link" / "authorized").write_text("the author's key")
    run = project.record(RUNS, own_home, sys.executable, "train.py", metrics=())
    shutil.rmtree(project.root / "link")
    (project.root / "link").symlink_to(outside)
    project.git("add", "link")
    project.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a link")
    linked = project.record(RUNS, own_home, "sh", "-c", "true", metrics=())
    (project.root / "link").unlink()
    (project.root / "link").mkdir()
    (project.root / "link" / "authorized").write_text("the author's key")
    # a manifest that names the link's commit, and a file behind it
    manifest = ScriptRun(tmp_path, (Path.cwd() / linked.root).relative_to(tmp_path)).manifest
    lie = ScriptRun(tmp_path, (Path.cwd() / run.root).relative_to(tmp_path))
    rest = [item for item in lie.manifest.dependencies if item.name != "source"]
    source = next(item for item in manifest.dependencies if item.name == "source")
    for name in ("source.patch", "untracked"):
        shutil.rmtree(run.root / name, ignore_errors=True)
        (run.root / name).unlink(missing_ok=True)
        if (linked.root / name).is_file():
            shutil.copy(linked.root / name, run.root / name)
        elif (linked.root / name).is_dir():
            shutil.copytree(linked.root / name, run.root / name)
    sign_again(lie, dependencies=(source, *rest))
    (RUNS / "ledger.jsonl").unlink()
    answer = reproduced(ndrepro, run.root, "--repository", str(project.root))
    assert answer.code == 1 and "a link of the recorded code leads out of it" in answer.out, answer.err + answer.out
    assert list(outside.iterdir()) == []


def test_secrets_in_the_command_are_named(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    run = project.record(RUNS, own_home, sys.executable, "train.py", "0.25", "--token", secret)
    answer = reproduced(ndrepro, run.root)
    assert answer.code == 2 and "was redacted (argument 4)" in answer.err


def test_options_of_other_kinds_are_refused(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    run = project.record(RUNS, own_home)
    for words, option in ((("--spot", "1"), "--spot"), (("--env", "torch-1.13.1"), "--env")):
        answer = reproduced(ndrepro, run.root, *words)
        assert answer.code == 2 and f"{option}: it is the run of a program or script" in answer.err


def test_a_program_that_was_interrupted_is_not_repeated(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    run = project.record(RUNS, own_home, "sh", "-c", "kill -9 $$")
    answer = reproduced(ndrepro, run.root)
    assert answer.code == 2 and "only a run that ended by itself is repeated" in answer.err


def test_a_script_that_records_itself_is_repeated(ndrepro: Ndrepro, project: Project, own_home: Path) -> None:
    (project.root / "fit.py").write_text(
        "import ndrepro\n"
        "@ndrepro.record(name='fit', seeds={'all': 3})\n"
        "def fit(run, rate):\n"
        "    run.log(step=1, loss=1 - rate)\n"
        "    open('w.txt', 'w').write(str(rate))\n"
        "    run.artifact('w.txt')\n"
        "for rate in (0.1, 0.2):\n"
        "    fit(rate=rate)\n"
    )
    subprocess.run([sys.executable, "fit.py"], cwd=project.root, check=True)
    (project.root / "runs").rename(RUNS)
    run = ndrepro("list", "--json").json["runs"][0]
    answer = reproduced(ndrepro, Path(run["folder"]), "--json", "--repository", str(project.root))
    assert answer.code == 0, answer.err + answer.out
    assert answer.json["verdict"] == "identical"
    assert claims(answer)["metrics"] == ("checked", "1 row equal")
    assert claims(answer)["outputs"] == ("checked", "1 of 1 file equal by digest")


def test_a_script_without_its_working_folder_is_named(ndrepro: Ndrepro, own_home: Path, project: Project) -> None:
    with current_folder(project.root), provenance.record(name="fit", home=own_home) as session:
        pass
    folder = project.root / session.folder
    run = ScriptRun(own_home.parent, folder.relative_to(own_home.parent))
    asked = {key: value for key, value in run.manifest.external_parameters.items() if key != "workingFolder"}
    sign_again(run, external_parameters=asked)
    shutil.rmtree(project.root / "runs" / "fit" / ".lock", ignore_errors=True)
    (project.root / "runs" / "ledger.jsonl").unlink()
    answer = reproduced(ndrepro, folder)
    assert answer.code == 2 and "its working folder was not recorded" in answer.err


def test_what_it_prints_is_a_result_where_it_was_declared(ndrepro: Ndrepro, tmp_path: Path, own_home: Path) -> None:
    text = "import os, sys\nprint('loss', 0.5)\nprint(sys.argv[1], file=sys.stderr)\nprint('end', len(sys.argv[1]))"
    project = Project.make(tmp_path / "printing", text)
    asked = {"outputs": ("-",), "metrics": ()}
    short, long = (project.record(RUNS, own_home, sys.executable, "train.py", word, **asked) for word in ("a", "bb"))
    assert (short.output_copies / "-").read_text() == "loss 0.5\nend 1\n", "standard error is another stream"
    answer = reproduced(ndrepro, short.root, "--json")
    assert (answer.code, answer.json["verdict"]) == (0, "identical"), answer.json
    assert claims(answer)["outputs"] == ("checked", "1 of 1 file equal by digest")
    answer = ndrepro("diff", str(short.root), str(long.root))
    assert answer.code == 1 and "standard output differs first in line 2: 'end 1' and 'end 2'" in answer.out
    random = text.replace("len(sys.argv[1])", "os.urandom(4).hex()")
    run = Project.make(tmp_path / "random", random).record(RUNS, own_home, sys.executable, "train.py", "a", **asked)
    answer = reproduced(ndrepro, run.root, "--json")
    assert answer.json["verdict"] == "undecided"
    evidence = claims(answer)["outputs"][1]
    assert evidence.startswith("0 of 1 file equal by digest; differ: standard output; standard output, line 2: 'end ")


def test_data_at_another_place_are_shown_at_the_recorded_one(ndrepro: Ndrepro, tmp_path: Path, own_home: Path) -> None:
    if choose(AUTO, container=False)[0] == NO_SANDBOX:
        pytest.skip("no sandbox on this machine")
    theirs = tmp_path / "theirs"
    (theirs / "set").mkdir(parents=True)
    (theirs / "set" / "a.txt").write_text("1.5")
    (theirs / "extra.txt").write_text("2.5")
    read = ["../theirs/set/a.txt", str(theirs / "extra.txt"), "data.txt"]
    text = f"for path in {read}: print(open(path).read())"
    project = Project.make(tmp_path / "project", text)
    asked = {"outputs": ("-",), "metrics": (), "data": (Path("../theirs/set"),)}
    run = project.record(RUNS, own_home, sys.executable, "train.py", **asked)
    assert reproduced(ndrepro, run.root, "--json").json["verdict"] == "identical", "a relative path above the folder"
    mine = tmp_path / "mine"
    (project.root / "data.txt").rename(theirs / "data.txt")
    theirs.rename(mine)
    (mine / "extra.txt").rename(mine / "another name")
    lost = reproduced(ndrepro, run.root, "--json").json
    assert lost["verdict"] == "undecided" and len(lost["differences"]) == 3
    answer = reproduced(ndrepro, run.root, "--data", str(mine), "--json")
    assert (answer.code, answer.json["verdict"]) == (0, "identical"), answer.err or answer.json
    assert answer.json["differences"] == [] and claims(answer)["inputs"][0] == "checked"
    (mine / "another name").write_text("2.6")
    answer = reproduced(ndrepro, run.root, "--data", str(mine), "--json")
    assert answer.json["differences"] == [f"input {theirs}/extra.txt: not here; nothing with its digest in {mine}"]
    unlike = reproduced(ndrepro, run.root, "--data", str(mine), "--sandbox", "none", "--trust-code", "--json")
    assert any("nothing but a sandbox can show it there" in each for each in unlike.json["differences"])


def test_a_program_can_be_ended_by_its_own_signals(ndrepro: Ndrepro, tmp_path: Path, own_home: Path) -> None:
    """A pool ends its processes by SIGTERM, and waits for them."""
    pool = "multiprocessing.get_context('fork').Pool(2)"
    text = f"import multiprocessing\nwith {pool} as pool:\n    print(pool.map(abs, [-1]))"
    asked = {"outputs": ("-",), "metrics": ()}
    run = Project.make(tmp_path / "pool", text).record(RUNS, own_home, sys.executable, "train.py", **asked)
    assert reproduced(ndrepro, run.root, "--json").json["verdict"] == "identical"
