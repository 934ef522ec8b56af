"""Two runs on one screen: the answer first, then causes and differences; and the same from real training."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import TENSORS, Edit, account, packages, parted, put, records, sign_pair_member
from real_runs import Bench
from recorded_runs import ROOT, Answer, sign_run

from ndrepro.analysis.comparison.run_comparison import compare_runs
from ndrepro.analysis.comparison.side import read_side
from ndrepro.cli.commands.diff import _divergence
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.key_home import default_home
from provenance.attestation.trust import TrustPolicy
from provenance.capture.source import capture

Diff = Callable[..., Answer]
Make = Callable[..., RunFolder]
TORCH = packages(torch=("2.8.0", "71" * 32))


@pytest.fixture
def make() -> Make:
    """Makes a signed run in ``runs``; each call another."""
    count = 0

    def run(*edits: Edit, table: Any = None, more: Any = None, **settings: str) -> RunFolder:
        nonlocal count
        count += 1
        found = account(*edits, **settings)
        table = records(20) if table is None else table
        name = f"20261121T10150{count}Z-{count}aaaaa"
        return sign_pair_member(Path(), name, found, table, home=default_home(), **(more or {}))

    return run


def test_identical_runs_exit_0_and_differences_that_moved_no_bit_are_told(ndrepro: Diff, make: Make) -> None:
    first, second = make(), make(TORCH)
    answer = ndrepro("diff", str(first.root), str(second.root))
    assert answer.code == 0 and answer.err == ""
    said = "20 steps, 2 epochs of results and the final weights are equal bit for bit"
    assert f"\nidentical: {said}, although these differ: packages\n" in answer.out
    assert "\npackages      torch 2.13.0 -> 2.8.0\n" in answer.out
    assert "\nthe same      experiment (" in answer.out and "cause" not in answer.out
    alone = ndrepro("diff", str(first.root), str(first.root))
    assert alone.code == 0 and f"\nidentical: {said}\n" in alone.out


def test_runs_that_part_exit_1_with_step_tensor_causes_and_differences(ndrepro: Diff, make: Make) -> None:
    first, second = (
        make(),
        make(TORCH, table=parted(records(20), 5, range(5), 1e-7, grows=2), more={"accuracies": (0.4, 0.7)}),
    )
    answer = ndrepro("diff", str(first.root), str(second.root))
    assert answer.code == 1 and answer.err == ""
    lines = answer.out.splitlines()
    assert (
        lines[0]
        == f"A             lenet_bn_2_digits {first.root.name}, completed, verified, signed by this machine's key"
    )
    assert "they diverge at step 5 in bn1.running_mean (5 of 5 tensors), after 4 equal steps" in lines
    assert "cause 1       likely: another release or build of torch" in lines
    assert "              torch 2.13.0 -> 2.8.0; the losses diverge by 1e-07, the size of rounding" in lines
    assert "packages      torch 2.13.0 -> 2.8.0" in lines
    results = "1 of 2 epochs differ; epoch 2: test accuracy 60.00 % and 70.00 %; train accuracy 60.00 % and 70.00 %"
    assert f"results       {results}" in lines
    growth = next(number for number, line in enumerate(lines) if line.startswith("growth"))
    assert [line.split()[:2] for line in lines[growth + 1 : growth + 8]] == [
        ["5", "5"], ["6", "5"], ["7", "5"], ["9", "5"], ["13", "5"], ["20", "5"], ["results", "1"],
    ]  # fmt: skip


def test_other_first_weights_and_a_single_altered_tensor_are_told(ndrepro: Diff, make: Make) -> None:
    first = make()
    other = make(table=parted(records(20), 0, [0, 3]), **{"seeds.init": "1"})
    answer = ndrepro("diff", str(first.root), str(other.root))
    assert "they diverge before the first step: the first weights differ in conv1.weight (2 of 5 tensors)" in answer.out
    assert "cause 1       likely: another seed of the first weights" in answer.out
    nudged = make(table=parted(records(20), 7, [3]))
    answer = ndrepro("diff", str(first.root), str(nudged.root))
    assert "they diverge at step 7 in fc.weight (1 of 5 tensors), after 6 equal steps" in answer.out
    assert "the loss of that step is equal" in answer.out
    assert "only fc.weight differs, as after a flipped bit" in answer.out


def test_a_shorter_run_of_the_same_bits_is_not_identical_and_not_parted(ndrepro: Diff, make: Make) -> None:
    first, second = make(), make(put("outcome", "killed"), table=records(12))
    answer = ndrepro("diff", str(first.root), str(second.root))
    assert answer.code == 1
    assert "no bit differs in the 12 steps that both have; A has 0 to 20, B has 0 to 12" in answer.out
    assert "results       exit code 0 -> unset; outcome completed -> killed" in answer.out


def test_a_run_that_left_no_results_parts_nowhere(make: Make) -> None:
    trust = TrustPolicy.load(default_home())
    sides = [read_side(make(table=parted(records(20), step, range(5), 1e-7)).root, trust) for step in (3, 5)]
    found = replace(compare_runs(*sides), trails=None)
    assert _divergence(found).startswith("they differ; where they diverge is unknown: trail.bin differs"), "the control"
    assert _divergence(found).endswith("; equal: metrics.jsonl, weights.safetensors")
    none = replace(found, sides=(sides[0], replace(sides[1], results={})))
    assert _divergence(none) == "nothing to compare: B left no results"


def test_runs_of_different_networks_are_compared_in_the_rest(ndrepro: Diff, make: Make) -> None:
    first, second = make(), make(table=records(20, tensors=2), more={"tensors": TENSORS[:2]}, method="nd")
    answer = ndrepro("diff", str(first.root), str(second.root))
    assert answer.code == 1
    assert "these are runs of different networks: their steps cannot be compared" in answer.out
    assert "cause 1       likely: another network" in answer.out and "method bn -> nd" in answer.out


def test_a_run_that_does_not_verify_is_marked_and_compared(ndrepro: Diff, make: Make) -> None:
    first, second = make(), make()
    second.metrics.write_text(second.metrics.read_text().replace("0.6", "0.7"))
    answer = ndrepro("diff", str(first.root), str(second.root))
    assert answer.code == 1
    assert answer.out.startswith("B was changed after signing: metrics.jsonl\n")
    assert (
        "\n              metrics.jsonl was changed\n" in answer.out and "completed, CHANGED AFTER SIGNING" in answer.out
    )
    assert "cause 1       likely: a file that was changed after signing" in answer.out
    assert "identical" not in answer.out and "processor" not in answer.out
    shutil.rmtree(default_home())
    untrusted = ndrepro("diff", str(first.root), str(first.root))
    assert untrusted.code == 0 and untrusted.out.count("completed, NOT VERIFIED") == 2
    assert "the manifest does not verify: signature: signed by" in untrusted.out


def test_a_changed_file_that_is_no_result_is_said_first_and_exits_1(ndrepro: Diff, make: Make) -> None:
    first, second = make(), make()
    assert ndrepro("diff", str(first.root), str(second.root)).code == 0, "the control"
    second.request.write_text(second.request.read_text().replace("/data/digits", "/data/others"))
    answer = ndrepro("diff", str(first.root), str(second.root))
    assert answer.code == 1 and answer.out.startswith("B was changed after signing: request.json\n")
    assert "the results are equal bit for bit, in a folder that is not the one that was signed" in answer.out
    told = ndrepro("diff", str(first.root), str(second.root), "--json")
    assert told.code == 1 and told.json["identical"] is False
    assert told.json["second"]["verified"] is False and told.json["second"]["changed"] == ["request.json"]


def test_runs_are_found_by_identifier_beginning_experiment_and_file(ndrepro: Diff, make: Make, tmp_path: Path) -> None:
    first, second = make(), make()
    alone = tmp_path / "sent.json"
    shutil.copy(second.manifest, alone)
    for a, b in (
        (first.root.name, second.root.name),
        (first.root.name[:17], "2aaaaa"),
        (str(first.manifest), "lenet_bn_2_digits"),
        (str(first.root), str(alone)),
    ):
        found = ndrepro("diff", a, b, "--json")
        assert found.code == 0, found.out + found.err
        assert (found.json["first"]["run"], found.json["second"]["run"]) == (first.root.name, second.root.name)
    assert "by the digests that were signed" in ndrepro("diff", first.root.name, str(alone)).out


def test_what_was_passed_over_for_a_word_is_reported_once(ndrepro: Diff, make: Make) -> None:
    first = make()
    sign_run(RunsFolder(Path("runs")), "lenet_bn_2_digits", "20261121T110000Z-bbbbbb", repeats=first.root.name)
    answer = ndrepro("diff", "latest", "latest")
    assert answer.code == 0 and answer.err.count("note: latest is") == 1
    assert ndrepro("diff", "latest", "lenet_bn_2_digits").err.count("note: ") == 2, "the control: two words"


def test_json_holds_everything_and_the_exit_code_agrees(ndrepro: Diff, make: Make) -> None:
    first, second = make(), make(table=parted(records(20), 5, [3], loss=float("nan")))
    answer = ndrepro("diff", str(first.root), str(second.root), "--json")
    assert answer.code == 1 and answer.json["identical"] is False
    assert answer.json["trails"]["divergence"]["largest"]["relative"] == "nan"
    assert answer.json["results"]["metrics.jsonl"] == "equal"


def test_wrong_usage_and_missing_runs_end_with_their_codes(ndrepro: Diff, make: Make, tmp_path: Path) -> None:
    run = make()
    assert ndrepro("diff", str(run.root)).code == 2
    answer = ndrepro("diff", str(run.root), "lenet_bn_2_digts")
    assert answer.code == 3 and answer.out == ""
    assert answer.err.splitlines()[1].startswith("  hint: did you mean lenet_bn_2_digits")
    (tmp_path / "a folder").mkdir()
    assert ndrepro("diff", str(run.root), str(tmp_path / "a folder")).code == 3


def test_the_difference_of_the_code_is_printed_where_it_is_asked_for(ndrepro: Diff, make: Make, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    module = repository / "ndrepro" / "training" / "x.py"
    module.parent.mkdir(parents=True)
    git = ["git", "-C", str(repository), "-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    states = []
    for text in ("a = 1\n", "a = 2\n"):
        module.write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", text], check=True)
        states.append(capture(repository, None))
    first = make(put("source", states[0]))
    second = make(put("source", states[1]), put("code", "c1" * 32), table=parted(records(20), 3, [0]))
    answer = ndrepro("diff", str(first.root), str(second.root))
    assert "1 file: ndrepro/training/x.py +1 -1 (--code prints them)" in answer.out and "+a = 2" not in answer.out
    assert "differs in ndrepro/training/x.py" in answer.out and "cause 1       likely: other code" in answer.out
    printed = ndrepro("diff", str(first.root), str(second.root), "--code").out
    assert printed.startswith(answer.out) and printed.endswith("@@ -1 +1 @@\n-a = 1\n+a = 2\n")


def on_terminal(*words: str, columns: int = 80) -> list[str]:
    """What a command shows on a terminal of that width."""
    parent, child = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "dumb", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-m", "ndrepro", *words], stdout=child, env=environment) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                shown += (piece := os.read(parent, 65536))
            except OSError:  # the other end is closed
                break
            if not piece:
                break
        process.wait()
    os.close(parent)
    return shown.decode().replace("\r\n", "\n").splitlines()


def test_it_fits_on_one_screen_of_80_columns(make: Make) -> None:
    many = [
        put("internal.threads", 2),
        put("machine.machine.cpu.model_name", "Xeon"),
        put("source.commit", "ff" * 20),
        TORCH,
    ]
    second = make(
        *many, table=parted(records(20), 1, range(5), 1e-7, grows=2), more={"accuracies": (0.4, 0.7)}, seed="3"
    )
    lines = on_terminal("diff", str(make().root), str(second.root))
    assert lines[0].startswith("A             lenet_bn_2_digits")
    assert max(map(len, lines)) <= 80
    assert len(lines) < 60


def test_no_torch_is_loaded_to_compare(make: Make) -> None:
    first, second = make(), make(table=parted(records(20), 3, [0]))
    script = (
        "import sys; from ndrepro.cli import main; code = main(sys.argv[1:])\n"
        "print(code, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    words = [sys.executable, "-c", script, "diff", str(first.root), str(second.root)]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "1 False True"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, dict[str, str]]:
    """Real runs of three steps: one, one with other augmentation, one on two threads."""
    bench = Bench(tmp_path_factory.mktemp("trained"))
    settings = {"train_images": "48", "test_images": "16"}
    changes: dict[str, dict[str, str]] = {"plain": {}, "augment": {"seeds.augment": "1"}, "threads": {"threads": "2"}}
    runs = {}
    for name, change in changes.items():
        finished = bench.run("lenet_nd_1_digits", **{**settings, **change})
        assert finished.outcome == "completed", finished.error
        runs[name] = str(finished.folder.root)
    return bench, runs


def test_real_runs_with_other_augmentation_part_at_the_first_batch(
    trained: tuple[Bench, dict[str, str]], ndrepro: Diff, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, runs = trained
    monkeypatch.setenv("NDREPRO_HOME", str(bench.options.home))
    answer = ndrepro("diff", runs["plain"], runs["augment"])
    assert answer.code == 1, answer.err
    assert "they diverge at step 1 in conv1.running_mean" in answer.out and "after equal first weights" in answer.out
    assert "cause 1       likely: another seed of the augmentation" in answer.out
    same = ndrepro("diff", runs["plain"], runs["plain"])
    assert same.code == 0 and "identical: 3 steps, 1 epoch of results" in same.out


@pytest.mark.numerics
def test_real_runs_with_another_number_of_threads_part_by_rounding_or_not_at_all(
    trained: tuple[Bench, dict[str, str]], ndrepro: Diff, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, runs = trained
    monkeypatch.setenv("NDREPRO_HOME", str(bench.options.home))
    found = ndrepro("diff", runs["plain"], runs["threads"], "--json")
    changed = next(group for group in found.json["manifests"] if group["name"] == "threads")["changes"]
    assert {(str(change["first"]), str(change["second"])) for change in changed} >= {("1", "2")}
    if found.code == 0:  # a machine whose kernels do not split such small sums
        assert "although these differ: threads" in ndrepro("diff", runs["plain"], runs["threads"]).out
    else:
        # not necessarily the first: the code may have been edited between the runs
        threads = next(cause for cause in found.json["causes"] if cause["title"] == "another number of threads")
        other = ndrepro("diff", runs["plain"], runs["augment"], "--json")
        sizes = [answer.json["trails"]["divergence"]["growth"][0]["relative"] for answer in (found, other)]
        assert sizes[0] < sizes[1], "rounding is less than other images are"
        # how large rounding is once the losses show it is a matter of the processor
        assert threads["assessment"] == "likely" or (threads["assessment"] == "possible" and sizes[0] > 1e-3)
        assert "more than rounding" not in threads["evidence"][-1]
