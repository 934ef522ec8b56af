"""A run is repeated from its manifest and judged; an author who cheats and signs it does not pass a spot check.

Every cheat here is signed with the author's own key over matching digests: ``verify`` passes it, and only training
again finds it.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dishonest_author import (
    copied,
    edit_results,
    manifest_of,
    original_of,
    other_trajectory,
    planned,
    restate,
    sign_again,
    spot,
)
from real_runs import Bench
from safetensors.numpy import save_file

from ndrepro.analysis.verdicts.reproduction_claims import evaluation_implied
from ndrepro.analysis.verdicts.reproduction_verdict import judge
from ndrepro.execution.reproduce.epoch_draw import Challenge
from ndrepro.execution.reproduce.reexecute import Original, drawn_epochs, execute
from ndrepro.execution.runs.data_check import locate
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import DataError, UsageError
from ndrepro.protocol.experiment.schema_migrations import ADDITIONS
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_state import read_tensors
from provenance.formats.atomic_io import write_json
from provenance.formats.metrics_log import read_scalars

NAME = "lenet_nd_4_digits"
EPOCH_STEPS = 6


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("author"))


@pytest.fixture(scope="module")
def honest(bench: Bench) -> Finished:
    return bench.run(NAME)


def test_an_honest_run_is_identical_when_run_again(bench: Bench) -> None:
    honest = bench.run(NAME, **{key: value for key, value in ADDITIONS[-1].items() if isinstance(value, str)})
    original = original_of(honest.folder, bench)
    chosen = planned(original, bench.options)
    assert chosen.differences == ()
    # recorded before there were the latest settings: code of then would refuse to read them
    now = original.manifest.external_parameters["experiment"]
    older = {key: value for key, value in now.items() if key not in ADDITIONS[-1]}
    parameters = {**original.manifest.external_parameters, "experiment": older}
    before = replace(original, manifest=replace(original.manifest, external_parameters=parameters))
    (again,) = execute(before, chosen, bench.options, Observer())
    assert json.loads(again.folder.request.read_text())["experiment"] == older != now
    judgement = judge(honest.folder, again.folder)
    assert (judgement.verdict, judgement.divergence, judgement.compared_steps) == ("identical", None, 4 * EPOCH_STEPS)
    points_back = manifest_of(again.folder).dependencies[0]
    assert points_back.name == "reproduced run"
    assert points_back.annotations == {"run": honest.folder.root.name}


def test_a_run_of_no_epochs_is_identical_by_its_first_weights(bench: Bench) -> None:
    honest, other = bench.run("lenet_nd_0_digits"), bench.run("lenet_nd_0_digits", seed="1")
    original = original_of(honest.folder, bench)
    (again,) = execute(original, planned(original, bench.options), bench.options, Observer())
    judgement = judge(honest.folder, again.folder)
    assert judgement.verdict == "identical"
    evaluated = evaluation_implied([judgement])
    assert evaluated is not None and evaluated.status == "not checked", "before: checked, with the same results"
    assert judge(other.folder, again.folder).verdict == "inconsistent", "the control"


@pytest.mark.parametrize("epoch", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_an_honest_epoch_is_identical_at_an_epochs_cost(bench: Bench, honest: Finished, epoch: int) -> None:
    original = original_of(honest.folder, bench)
    judgement = spot(original, bench, epoch)
    assert (judgement.verdict, judgement.compared_steps) == ("identical", EPOCH_STEPS)


def test_more_epochs_than_there_are_cannot_be_drawn(bench: Bench, honest: Finished) -> None:
    original = original_of(honest.folder, bench)
    challenge = Challenge.of("walnut", None, original.payload)
    assert drawn_epochs(challenge, original, 4) == (1, 2, 3, 4)
    with pytest.raises(UsageError, match="--spot 5"):
        drawn_epochs(challenge, original, 5)


def edited_metrics(bench: Bench, honest: Finished, into: Path) -> tuple[RunFolder, int]:
    """A better accuracy, written into the results and their summary."""
    folder = copied(honest.folder, into)
    edit_results(folder, 3, test_accuracy=0.99)
    sign_again(folder, bench)
    return folder, 3


def slipped_in_checkpoint(bench: Bench, honest: Finished, into: Path) -> tuple[RunFolder, int]:
    """The state of another, better run, put in the place of a checkpoint."""
    folder = copied(honest.folder, into)
    other = bench.run(NAME, seed="1")
    path, theirs = folder.checkpoint(2 * EPOCH_STEPS), other.folder.checkpoint(2 * EPOCH_STEPS)
    path.write_bytes(theirs.read_bytes().replace(b'\\"seed\\": 1', b'\\"seed\\": 0'))
    restate(folder)
    sign_again(folder, bench)
    return folder, 3


def another_learning_rate(bench: Bench, honest: Finished, into: Path) -> tuple[RunFolder, int]:
    """Trained with 0.05, signed as 0.1."""
    folder = copied(bench.run(NAME, learning_rate="0.05").folder, into)
    request = json.loads(folder.request.read_text())
    request["experiment"]["learning_rate"] = 0.1
    write_json(folder.request, request)
    for step in folder.checkpoint_steps():
        tensors, metadata = read_tensors(path := folder.checkpoint(step))
        header = {**json.loads(metadata["ndrepro"]), "experiment": request["experiment"]}
        save_file(dict(tensors), path, {"ndrepro": json.dumps(header, sort_keys=True)})
    for row in read_scalars(folder.metrics):
        edit_results(folder, row["epoch"], learning_rate=2 * row["learning_rate"])
    parameters = {**manifest_of(folder).external_parameters, "experiment": request["experiment"]}
    sign_again(folder, bench, external_parameters=parameters)
    return folder, 1


def swapped_data(bench: Bench, honest: Finished, into: Path) -> tuple[RunFolder, int]:
    """Trained on images that were looked at before, signed as the official file."""
    official = locate(bench.experiment(NAME), None)
    rows = gzip.decompress(official.read_bytes()).decode().splitlines(keepends=True)
    easy = into / "easy" / "digits.csv.gz"
    easy.parent.mkdir()
    easy.write_bytes(gzip.compress("".join([*rows[96:192], *rows[:96], *rows[192:]]).encode()))
    bench.options = replace(bench.options, data=easy)
    folder = copied(bench.run(NAME).folder, into)
    bench.options = replace(bench.options, data=None)
    for name in ("request.json", "dataset.json", "dataset.sha256"):
        shutil.copyfile(honest.folder.root / name, folder.root / name)
    data = tuple(item for item in manifest_of(honest.folder).dependencies if item.name.startswith("dataset:"))
    others = tuple(item for item in manifest_of(folder).dependencies if not item.name.startswith("dataset:"))
    parameters = manifest_of(honest.folder).external_parameters
    sign_again(folder, bench, dependencies=(*others, *data), external_parameters=parameters)
    return folder, 1


def shortened_run(bench: Bench, honest: Finished, into: Path) -> tuple[RunFolder, int]:
    """The last epoch was never trained: its steps repeat those before."""
    folder = copied(honest.folder, into)
    content = np.frombuffer(folder.trail.read_bytes(), dtype="<u8").copy()
    tensors = len(json.loads(folder.model.read_text())["tensors"])
    records = content[-(4 * EPOCH_STEPS + 1) * (tensors + 2) :].reshape(-1, tensors + 2)
    records[3 * EPOCH_STEPS + 1 :, 1:] = records[2 * EPOCH_STEPS + 1 : 3 * EPOCH_STEPS + 1, 1:]
    folder.trail.write_bytes(content.tobytes())
    weights = folder.checkpoint(3 * EPOCH_STEPS)
    assert weights.exists()
    final_weights_of(folder, weights)
    folder.checkpoint(4 * EPOCH_STEPS).unlink()
    edit_results(folder, 4, train_loss=read_scalars(folder.metrics)[2]["train_loss"])
    restate(folder)
    sign_again(folder, bench)
    return folder, 4


def final_weights_of(folder: RunFolder, checkpoint: Path) -> None:
    """The weights of a checkpoint as the run's last."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    state = {name[4:]: value for name, value in load_file(checkpoint).items() if name.startswith("net.")}
    with safe_open(str(folder.weights), framework="numpy") as file:
        header = file.metadata()
    save_file(state, folder.weights, header)


SLOWER = [pytest.param(cheat, marks=pytest.mark.slow) for cheat in (another_learning_rate, swapped_data, shortened_run)]
CHEATS = [edited_metrics, slipped_in_checkpoint, *SLOWER]


@pytest.mark.parametrize("cheat", CHEATS)
def test_a_cheat_that_verifies_does_not_pass(
    bench: Bench, honest: Finished, tmp_path: Path, cheat: Callable[..., tuple[RunFolder, int]]
) -> None:
    folder, epoch = cheat(bench, honest, tmp_path)
    judgement = spot(original_of(folder, bench), bench, epoch)
    assert judgement.verdict == "inconsistent", judgement.because
    assert not judgement.passes


def test_a_repetition_on_other_data_says_nothing_of_the_run(bench: Bench, honest: Finished, tmp_path: Path) -> None:
    again = copied(honest.folder, tmp_path)
    other_trajectory(again)
    assert "promise equal bits" in judge(honest.folder, again).because, "the control: the same data"
    said = json.loads(again.dataset.read_text())
    other = {**said, "tree_sha256": "0" * 64}
    write_json(again.dataset, other)
    assert "promise equal bits" in judge(honest.folder, again).because, "other files of the same pixels"
    write_json(again.dataset, {**other, "pixels_sha256": {"train": "1" * 64, "test": "2" * 64}})
    found = judge(honest.folder, again)
    assert found.verdict == "undecided" and not found.passes
    assert found.because == "it was repeated on other data than it says it was trained on"


def test_data_that_are_no_longer_where_they_were_are_listed_first(
    bench: Bench, honest: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDREPRO_DATA", str(tmp_path / "here"))
    original = original_of(honest.folder, bench)
    assert not any("data:" in line for line in planned(original, bench.options).differences)
    folder = copied(honest.folder, tmp_path)
    asked = json.loads(folder.request.read_text())
    asked["data"], asked["experiment"]["dataset"] = str(tmp_path / "gone"), "cifar10"
    write_json(folder.request, asked)
    lines = planned(Original(folder, original.manifest), bench.options).differences
    (line,) = [line for line in lines if "data:" in line]
    assert f"{tmp_path / 'gone'} then, which is not here; looked for in {tmp_path / 'here'}" in line


def test_an_interrupted_run_is_not_reproduced(bench: Bench, honest: Finished, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    original = Original(folder, replace(manifest_of(folder), outcome="interrupted"))
    with pytest.raises(UsageError, match="only a completed run"):
        planned(original, bench.options)


def test_what_cannot_be_had_is_said_before_anything_is_trained(bench: Bench, honest: Finished) -> None:
    original = original_of(honest.folder, bench)
    chosen = planned(original, bench.options)
    with pytest.raises(DataError, match="elsewhere: no such file or folder"):
        execute(original, chosen, replace(bench.options, data=Path("elsewhere")), Observer())
    with pytest.raises(UsageError, match=r"no environment 'torch-1\.13\.2'"):
        planned(original, replace(bench.options, environment="torch-1.13.2"))
