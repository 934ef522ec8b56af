"""Attacks on the verdict on a recorded program or script: results that its repetition never computed."""

from __future__ import annotations

import json
import os
import py_compile
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, manifest_of, statuses

from ndrepro.analysis.verdicts.program_trails import trails_of
from ndrepro.protocol.errors import SandboxError, TrainingFailed
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import write_json
from provenance.attestation.manifest import DISTRIBUTION
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest
from provenance.formats.metrics_log import read_scalars


def test_a_link_to_the_original_s_output_is_no_output(tmp_path: Path) -> None:
    """The reviewer's copy of the run lies beside the folder in which the program is executed again."""
    name = "20261129T000000Z-abcdef"
    text = f"""
import os
if os.path.exists({str(tmp_path / "a" / "author")!r}):
    open('results.json', 'w').write('0.9999')
else:
    os.symlink('../../fit/{name}/outputs/results.json', 'results.json')
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("results.json",))
    author.claim(run, invocation_id=name)
    moved = RunFolder(run.root.rename(run.root.with_name(name)))
    found = author.reproduce(moved)
    assert found.verdict == "undecided" and "missing: results.json" in found.judgements[0].because


def test_a_run_that_was_committed_is_no_repetition_of_a_script(tmp_path: Path) -> None:
    text = f"""
import os
import ndrepro
if not os.path.exists({str(tmp_path / "a" / "author")!r}):
    raise SystemExit('it does nothing')
with ndrepro.record(name='fit', seeds={{'all': 3}}, runs='results', home={str(tmp_path / "a" / "author")!r}) as run:
    run.log(step=1, accuracy=0.9999)
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    for _ in range(2):
        subprocess.run([sys.executable, "train.py"], cwd=author.root, check=True)
        author.git("add", "-A", "-f", "results")
        author.git("commit", "-qm", "results")
    run = RunFolder(sorted((author.root / "results" / "fit").iterdir())[-1])
    with pytest.raises(TrainingFailed, match="recorded 0 runs"):
        author.reproduce(run)


def have_the_recorded_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))


def test_an_input_that_the_program_never_opens_is_not_called_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its author lists one more; the verdict said that the program is known to have read it."""
    have_the_recorded_python(monkeypatch)
    text = "data = open('a.txt').read()\nopen('out.txt', 'w').write(data)\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "a.txt": "1", "imagenet.bin": "2"})
    run = author.record(outputs=("out.txt",))
    assert statuses(author.reproduce(run))["inputs"] == "checked", "the control"
    listed = json.loads(run.inputs.read_text())
    more = {"path": "imagenet.bin", "how": "opened", "size": 1, "sha256": bytes_digest(b"2")}
    listed["files"].append(more)
    run.inputs.write_bytes(canonical_bytes(listed))
    described = manifest_of(run).dependency("inputs")
    assert described is not None and described.annotations is not None
    total = sum(file.get("size", 0) for file in listed["files"])
    facts = {**described.annotations, "files": listed["files"], "count": len(listed["files"]), "bytes": total}
    changed = replace(described, digest={"sha256": bytes_digest(canonical_bytes(listed))}, annotations=facts)
    others = [changed if item.name == "inputs" else item for item in manifest_of(run).dependencies]
    author.claim(run, dependencies=tuple(others))
    found = author.reproduce(run)
    claims = {item.name: item for item in found.judgements[0].claims}
    assert found.verdict == "identical" and claims["inputs"].status == "not checked"
    assert "not read this time" in claims["inputs"].evidence and "imagenet.bin" in claims["inputs"].evidence
    assert claims["machine, times, energy and log"].status == "not checked"
    assert claims["conditions"].status == "checked", claims["conditions"].evidence
    machine = next(each for each in found.claims if each.name == "files of the machine")
    assert machine.status == "not checked" and "attributes" in machine.evidence, "no digest binds them"


def test_data_that_change_while_the_program_runs_are_not_those_that_were_compared(tmp_path: Path) -> None:
    """Whoever can write there puts others in their place, and the recorded ones back."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_text("0.51")
    text = f"""
import os, time
if not os.path.exists({str(tmp_path / "a" / "author")!r}):
    while open({str(data / "a.txt")!r}).read() != '0.99':
        time.sleep(0.01)
open('out.txt', 'w').write('0.99')
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("out.txt",), data=(data,))

    def exchange() -> None:
        while not list((tmp_path / "a" / "review" / "runs" / "fit").glob("*/.hook/output/process-*")):
            time.sleep(0.01)
        (data / "a.txt").write_text("0.99")

    thread = threading.Thread(target=exchange)
    thread.start()
    found = author.reproduce(run)
    thread.join()
    assert found.verdict == "undecided" and statuses(found)["inputs"] == "flagged"


@pytest.mark.skipif(not CONFINED, reason="without a sandbox the program opens whatever is at the path")
def test_data_of_which_a_folder_above_is_exchanged_before_the_start_are_not_read(tmp_path: Path) -> None:
    """And put back when the program runs. Before: identical, inputs "checked", since their own times stay."""
    for folder, text in (("shared", "0.51"), ("other", "0.99")):
        (tmp_path / folder / "data").mkdir(parents=True)
        (tmp_path / folder / "data" / "a.txt").write_text(text)
    data, mark = tmp_path / "shared" / "data", tmp_path / "a" / "author"
    result = f"'0.99' if os.path.exists({str(mark)!r}) else open({str(data / 'a.txt')!r}).read()"
    author = Stranger.make(tmp_path / "a", {"train.py": f"import os; open('out.txt', 'w').write({result})\n"})
    run = author.record(outputs=("out.txt",), data=(data,))
    ended = threading.Event()

    def put_back() -> None:
        started = tmp_path / "a" / "review" / "runs" / "fit"
        while not list(started.glob("*/.hook/output/process-*")) and not ended.wait(0.01):
            pass
        (tmp_path / "shared").rename(tmp_path / "other")
        (tmp_path / "honest").rename(tmp_path / "shared")

    thread = threading.Thread(target=put_back)

    def exchange(*_: object) -> None:
        (tmp_path / "shared").rename(tmp_path / "honest")
        (tmp_path / "other").rename(tmp_path / "shared")
        thread.start()

    try:
        with pytest.raises(SandboxError, match=f"^{re.escape(str(data))}.*: not what was compared with the record"):
            author.reproduce(run, data=data, on_plan=exchange)
    finally:
        ended.set()
        thread.join()


def test_a_program_that_ran_python_without_saying_so_has_no_known_environment(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", {"train.py": "open('out.txt', 'w').write('0.51')\n"})
    run = author.record(outputs=("out.txt",))
    rest = tuple(item for item in manifest_of(run).dependencies if not item.name.startswith(DISTRIBUTION))
    seen = {**manifest_of(run).internal_parameters, "interpreters": []}
    author.claim(run, internal_parameters=seen, dependencies=rest)
    found = author.reproduce(run)
    assert found.verdict == "identical" and statuses(found)["environment"] == "not checked"


def test_python_that_keeps_the_hook_out_is_python_all_the_same(tmp_path: Path) -> None:
    """With -I neither run shows which Python it was; the author leaves it out of the manifest, too."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('out.txt', 'w').write('0.51')\n"})
    run = author.record(sys.executable, "-I", "train.py", outputs=("out.txt",))
    rest = tuple(item for item in manifest_of(run).dependencies if not item.name.startswith(DISTRIBUTION))
    assert len(rest) < len(manifest_of(run).dependencies), "the control"
    seen = {**manifest_of(run).internal_parameters, "interpreters": []}
    author.claim(run, internal_parameters=seen, dependencies=rest)
    found = author.reproduce(run)
    assert found.verdict == "identical" and statuses(found)["environment"] == "not checked"


def test_numbers_and_names_that_python_cannot_convert_end_in_a_verdict(tmp_path: Path) -> None:
    """A whole number of 400 digits, and a trail named by digits that are no decimals."""
    author = Stranger.make(tmp_path / "a", {"train.py": """
import os
huge = os.path.exists(AUTHOR)
open('m.jsonl', 'w').write('{"step": 1, "accuracy": ' + ('9' * 400 if huge else '0.5') + '}\\n')
""".replace("AUTHOR", repr(str(tmp_path / "a" / "author")))})  # fmt: skip
    found = author.reproduce(author.record(metrics=("m.jsonl",)))
    assert (found.verdict, statuses(found)["metrics"]) == ("undecided", "failed")
    (tmp_path / "trail-1-\u00b2-1.bin").touch()
    assert len(trails_of(tmp_path)) == 1


UNCHECKED_HASH = py_compile.PycInvalidationMode.UNCHECKED_HASH
COMMITTED = '{"step": 1, "accuracy": 0.9999}\n'
LEFT = {
    "touched": "os.utime('m.jsonl')",
    "renamed": "os.rename('m.jsonl', 'r'); os.rename('r', 'm.jsonl')",
    "appended": "open('m.jsonl', 'a').write('{\"step\": 2, \"accuracy\": 0.5}\\n')",
}


@pytest.mark.parametrize("how", LEFT)
def test_committed_results_are_not_those_of_a_program_that_leaves_them(tmp_path: Path, how: str) -> None:
    """Nothing is forged: the file is in the commit, and the program touches, renames or appends to it."""
    author = Stranger.make(tmp_path / "a", {"train.py": f"import os; {LEFT[how]}\n", "m.jsonl": COMMITTED})
    run = author.record(metrics=("m.jsonl",))
    found = author.reproduce(run)
    assert not found.passes and "removed" in " ".join(found.plan.differences)
    rows = [row["accuracy"] for row in read_scalars(run.metrics)]
    assert rows == ([0.5] if how == "appended" else []), "the author's own record has none of it either"


def test_a_committed_result_that_is_listed_as_an_input_by_another_spelling_is_removed_too(tmp_path: Path) -> None:
    """Before: it was taken for read, and stayed: "identical"."""
    author = Stranger.make(tmp_path / "a", {"train.py": "import os; os.utime('o')\n", "o": COMMITTED})
    run = author.record(outputs=("o",))
    (output,) = json.loads(run.outputs.read_text())["files"]
    spelled = {"path": "./o", "how": "opened", "size": output["size"], "sha256": output["sha256"]}
    author.claim_inputs(run, lambda files: [spelled, *files])
    assert author.reproduce(run).verdict == "undecided"


@pytest.mark.parametrize("spelled", ["{root}/r.txt", "{root}/sub/../r.txt"])
def test_a_committed_output_that_is_recorded_by_an_absolute_path_is_removed_too(tmp_path: Path, spelled: str) -> None:
    """Before: it stayed, and a program that changes its first byte had the rest of it."""
    text = "with open('r.txt', 'r+') as log:\n    log.write('#')\nopen('o', 'w').write('done')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "r.txt": f" {COMMITTED}"})
    run = author.record(outputs=("o", "r.txt"))
    files = json.loads(run.outputs.read_text())["files"]
    (output,) = (file for file in files if file["path"] == "r.txt")
    kept = {name: output[name] for name in ("size", "sha256")}
    files[files.index(output)] = {"path": spelled.format(root=author.root), "how": "written", **kept}
    files.sort(key=lambda file: file["path"])
    (run.output_copies / "r.txt").unlink(missing_ok=True)
    run.outputs.write_bytes(canonical_bytes({"files": files}))
    digest = {"sha256": bytes_digest(run.outputs.read_bytes())}
    (listed,) = (each for each in manifest_of(run).byproducts if each.name == "outputs")
    claimed = replace(listed, digest=digest, annotations={**listed.annotations, "files": files})
    author.claim(run, byproducts=tuple(claimed if each == listed else each for each in manifest_of(run).byproducts))
    author.claim_inputs(run, lambda read: [file for file in read if file["path"] != "r.txt"])
    found = author.reproduce(run)
    assert not found.passes and "removed, to be written again" in " ".join(found.plan.differences)


def test_a_log_that_is_written_again_counts_whatever_it_held(tmp_path: Path) -> None:
    """The control: the same bytes, opened anew, or put there under the log's name."""
    anew = "open('m.jsonl', 'w').write(ROW); open('n', 'w').write(ROW); os.replace('n', 'n.jsonl')\n"
    files = {"train.py": f"import os; ROW = {COMMITTED!r}; {anew}", "m.jsonl": COMMITTED, "n.jsonl": COMMITTED}
    run = Stranger.make(tmp_path / "a", files).record(metrics=("*.jsonl",))
    assert [row["accuracy"] for row in read_scalars(run.metrics)] == [0.9999, 0.9999]


def test_results_that_the_code_wrote_again_pass_and_copies_are_named(tmp_path: Path) -> None:
    text = "import shutil; open('results.json', 'w').write('0.5'); shutil.copy('reference.json', 'best.json')\n"
    files = {"train.py": text, "results.json": "0.5", "reference.json": "0.9999"}
    author = Stranger.make(tmp_path / "a", files)
    found = author.reproduce(author.record(outputs=("*.json",)))
    assert found.verdict == "identical" and "results.json" in " ".join(found.plan.differences)
    (copies,) = (each for each in found.claims if each.name == "outputs computed")
    assert copies.status == "not checked" and "best.json is reference.json; " in copies.evidence


def test_a_copy_with_one_byte_more_is_named_and_no_output_is_called_computed(tmp_path: Path) -> None:
    """The committed file under another name, a line feed behind it, was in no claim; nor was an invented constant."""
    text = "import shutil; shutil.copy('reference.json', 'best.json'); open('best.json', 'a').write('\\n')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text, "reference.json": '{"accuracy": 0.9999}'})
    found = author.reproduce(author.record(outputs=("best.json",)))
    (copies,) = (each for each in found.claims if each.name == "outputs computed")
    assert found.verdict == "identical" and copies.status == "not checked"
    assert "best.json begins with reference.json; equal outputs show what this code writes" in copies.evidence


def test_bytecode_in_the_recorded_code_is_not_read(tmp_path: Path) -> None:
    """Of other source than the module beside it, and unchecked: whoever read the source saw an honest program."""
    text = "import helper, json; json.dump(helper.accuracy(), open('results.json', 'w'))\n"
    evil, cache = tmp_path / "evil.py", f"__pycache__/helper.{sys.implementation.cache_tag}.pyc"
    evil.write_text("def accuracy(): return 0.9999\n")
    compiled = py_compile.compile(str(evil), str(tmp_path / "c"), invalidation_mode=UNCHECKED_HASH)
    content = Path(str(compiled)).read_bytes()
    honest = "def accuracy(): return 0.6123\n"
    files: dict[str, str | bytes] = {"train.py": text, "helper.py": honest, cache: content, "other.pyc": content}
    author = Stranger.make(tmp_path / "a", files)
    run = author.record(outputs=("results.json",))
    assert (run.output_copies / "results.json").read_text() == "0.9999", "the author's own"
    found = author.reproduce(run)
    assert not found.passes and "bytecode that it has was removed" in " ".join(found.plan.differences)
    (hidden,) = (each for each in found.claims if each.name == "files that are not plain text")
    assert hidden.status == "not checked" and hidden.evidence.endswith("not text (1): other.pyc")


def test_equal_results_without_a_declared_input_are_undecided(tmp_path: Path) -> None:
    """Data that the program does without where they are not there: equal results show nothing of them."""
    data = tmp_path / "imagenet.bin"
    data.write_text("x" * 1000)
    text = f"import os; os.path.exists({str(data)!r}) and open({str(data)!r}).read(); open('o', 'w').write('0.99')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("o",), data=(data,))
    data.unlink()
    found = author.reproduce(run)
    assert (found.verdict, statuses(found)["outputs"]) == ("undecided", "checked")


def test_recorded_variables_of_python_are_in_force_again_and_lost_ones_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the verdict said that the variables were those recorded, and the assertions ran."""
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write(str(__debug__))\n"})
    with monkeypatch.context() as authors:
        authors.setenv("PYTHONOPTIMIZE", "1")
        authors.setenv("WORLD_SIZE", "1")
        run = author.record(outputs=("o",))
    found = author.reproduce(run)
    assert (run.output_copies / "o").read_text() == "False" and found.verdict == "identical"
    (lost,) = (line for line in found.plan.differences if line.startswith("variables of then"))
    assert "WORLD_SIZE" in lost and "PYTHONOPTIMIZE" not in lost


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
def test_the_plan_names_where_the_reviewer_s_data_take_the_place_of_others(tmp_path: Path) -> None:
    data = tmp_path / "then.csv"
    data.write_text("1,2")
    text = f"open('o', 'w').write(open({str(data)!r}).read())\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    run = author.record(outputs=("o",), data=(data,))
    data.rename(tmp_path / "now.csv")
    found = author.reproduce(run, data=tmp_path / "now.csv")
    assert found.verdict == "identical"
    assert found.plan.elsewhere == (f"data {data}: from {tmp_path / 'now.csv'}",)


def test_code_that_git_writes_in_another_encoding_is_named(tmp_path: Path) -> None:
    """The commit shows a yen sign within a text; the file has a backslash there, and other texts begin and end."""
    author = Stranger.make(tmp_path / "a", {".gitattributes": "train.py working-tree-encoding=SHIFT_JIS\n"})
    text = b'accuracy = "\\" if 0 else "; accuracy = 0.9999 #"\nopen("o", "w").write(str(accuracy))\n'
    (author.root / "train.py").write_bytes(text)
    author.git("add", "train.py"), author.git("commit", "-qm", "code")
    assert "\u00a5" in author.git("show", "HEAD:train.py"), "the control"
    found = author.reproduce(author.record(outputs=("o",)))
    (code,) = (each for each in found.claims if each.name == "recorded code")
    assert code.status == "not checked" and code.evidence.endswith("(the commit's attributes; files: 1): train.py")


@pytest.mark.parametrize("name", ["core.autocrlf", "core.eol"])
def test_lines_that_end_otherwise_than_in_the_commit_are_named(tmp_path: Path, name: str) -> None:
    """By a setting of the record's alone, which no file of the commit shows: the lines may be the result."""
    files = {"train.py": "open('o', 'w').write(str(0.5 + 0.4999 * (b'\\r' in open('n.txt', 'rb').read())))\n"}
    author = Stranger.make(tmp_path / "a", {**files, "n.txt": "1\n", ".gitattributes": "n.txt text=auto\n"})
    author.git("config", name, {"core.autocrlf": "true", "core.eol": "crlf"}[name])
    (author.root / "n.txt").write_bytes(b"1\r\n")
    found = author.reproduce(author.record(outputs=("o",)))
    (code,) = (each for each in found.claims if each.name == "recorded code")
    assert (found.verdict, code.status) == ("identical", "not checked")
    assert f"{name}=" in code.evidence and code.evidence.endswith(": n.txt")


def test_event_logs_of_tensorboard_are_named_and_not_compared(tmp_path: Path) -> None:
    """An honest program: their names and records have the time. Before: missing and new."""
    text = "import time; open(f'events.out.tfevents.{time.time_ns()}.host.1.0', 'w').write('x')\n"
    author = Stranger.make(tmp_path / "a", {"train.py": text + "open('o', 'w').write('0.6')\n"})
    found = author.reproduce(author.record(outputs=("o",)))
    assert found.verdict == "identical" and "(event log)" in found.judgements[0].because


@pytest.mark.parametrize(("package", "status"), [("pip", "checked"), ("numpy", "not checked")])
def test_which_package_differs_decides_whether_there_are_tolerances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, status: str
) -> None:
    """Before: any package that the record named otherwise opened them, though nothing of it computes."""
    have_the_recorded_python(monkeypatch)
    author = Stranger.make(tmp_path / "a", {"train.py": "open('o', 'w').write('0.5')\n"})
    run = author.record(outputs=("o",))
    known, facts = manifest_of(run).dependencies, json.loads(run.environment.read_text())
    facts["distributions"]["installed"] = [
        each for each in facts["distributions"]["installed"] if each["name"] != package
    ]
    write_json(run.environment, facts)
    rest = tuple(each for each in known if each.distribution is None or each.distribution[0] != package)
    assert len(rest) == len(known) - 1, "the control"
    author.claim(run, dependencies=rest)
    found = author.reproduce(run)
    (conditions,) = (each for each in found.judgements[0].claims if each.name == "conditions")
    assert (found.verdict, conditions.status) == ("identical", status)
    assert statuses(found)["environment"] == "not checked"
    assert status == "checked" or conditions.evidence == "numpy: not there then"
