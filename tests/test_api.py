"""The public Python interface: its names, what importing them loads, every example of docs/reference/python.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from recorded_runs import ROOT

import ndrepro
import provenance
from ndrepro.api import NotReproduced
from ndrepro.execution.runs import run as runs_module
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import RunOptions
from ndrepro.protocol.errors import RunNotFound, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.key_home import KeyRing
from provenance.errors import KeyFileError, NotFoundError

PAGE = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"(?s)\n## (\w+)\n.*?```python\n(.*?)```", PAGE))
SMALL = {"train_images": "96", "test_images": "32", "batch_size": "16", "threads": "1"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real runs that differ in their seeds, below ``runs``, with their key home."""
    root = tmp_path_factory.mktemp("trained")
    for seed in ("0", "1"):
        experiment = Experiment.from_name("lenet_bn_1_digits", {**SMALL, "seed": seed})
        runs_module.run(experiment, RunOptions(RunsFolder(root / "runs"), root / "home"), Observer())
    return root


@pytest.fixture
def folder(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The first of a copy of them, in the current folder."""
    shutil.copytree(trained, tmp_path / "work")
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "work" / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return RunsFolder(Path("runs")).runs()[0]


def test_the_page_and_the_packages_have_the_same_names() -> None:
    assert set(EXAMPLES) == set(ndrepro.__all__) == {*re.findall(r"(?m)^## (\w+)$", PAGE)}
    assert provenance.__all__ == ["record"] and ndrepro.record is provenance.record
    for name in ndrepro.__all__:
        assert callable(getattr(ndrepro, name)) and name in dir(ndrepro)
    with pytest.raises(AttributeError, match="no attribute 'verify_all'"):
        ndrepro.verify_all  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("names", "absent"),
    [
        ("ndrepro", r"^(?!ndrepro$)(ndrepro|provenance|torch|numpy|typer|rich|pandas|cryptography)\b"),
        ("ndrepro.verify, ndrepro.diff, ndrepro.read_runs, ndrepro.reproduce", r"^(torch|pandas|typer)\b"),
        ("ndrepro.record", r"^(torch|numpy|pandas|typer)\b"),
    ],
)
def test_a_name_loads_no_more_than_it_needs(names: str, absent: str) -> None:
    code = f"import sys; before = set(sys.modules)\nimport ndrepro; {names}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert [name for name in done.stdout.split() if re.search(absent, name)] == []


def test_every_example_of_the_page_runs(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    said = {}
    for name, example in EXAMPLES.items():
        exec(compile(example, f"docs/reference/python.md, {name}", "exec"), names)
        said[name] = capsys.readouterr().out
    assert said["verify"].startswith("this machine's key\n1 envelope pass")
    assert said["read_runs"].count("lenet_bn_1_digits") == 3
    assert "0 refused, 0 unfinished, 0 without a manifest" in said["read_runs"]
    assert said["diff"].startswith("False") and "seed" in said["diff"]
    assert said["reproduce"].startswith("identical True ")
    assert said["deconvolve"].startswith("2 replaced, 1 removed")
    assert not ndrepro.diff("fits/rate-0.1", Path("fits/rate-0.2")).identical
    # the repetition is no further sample: it has the same seed
    first, repeated = ndrepro.read_runs("runs").distinct()
    assert (len(first), len(repeated)) == (2, 1)


def test_a_recorded_script_verifies_like_a_training(folder: RunFolder) -> None:
    with ndrepro.record("fits/one", name="fit") as session:
        session.log(step=1, loss=0.5)
    verdict = ndrepro.verify("fits/one")
    assert verdict.ok, verdict.failure
    assert {check.status for check in verdict.checks} == {"pass"}
    (session.folder / "metrics.jsonl").write_text("")
    assert not ndrepro.verify("fits/one").ok


def test_a_changed_file_is_reported_and_counts_in_no_table(folder: RunFolder) -> None:
    assert {check.status for check in ndrepro.verify(folder.manifest).checks} == {"pass"}
    folder.weights.write_bytes(b"others")
    verdict = ndrepro.verify(folder.root.name)
    assert not verdict.ok and verdict.changed == ("weights.safetensors",)
    assert ndrepro.verify(folder.root, manifest_only=True).ok
    results = ndrepro.read_runs("runs")
    assert [row.seed for row in results] == [1]
    assert "weights.safetensors" in results.refused[0].reason
    with pytest.raises(NotReproduced, match=r"digests: weights\.safetensors was changed"):
        ndrepro.reproduce(folder.root)


def test_the_keys_given_are_the_only_ones_that_count(folder: RunFolder) -> None:
    own, other = Path("own.pub"), Path("other.pub")
    own.write_text(KeyRing(Path("home").absolute()).public_key().pem)
    other.write_text(KeyRing(Path("elsewhere").absolute()).public_key().pem)
    assert ndrepro.verify(folder.root, keys=[other, own]).signer == "own.pub"
    assert not ndrepro.verify(folder.root, keys=["other.pub"]).ok
    assert [len(ndrepro.read_runs(keys=[key]).refused) for key in (own, other)] == [0, 2]
    comparison = ndrepro.diff(folder.root, folder.manifest, keys=[other])
    assert comparison.sides[0].status == "NOT VERIFIED"
    with pytest.raises(NotFoundError, match=r"no\.pub: no such file"):
        ndrepro.verify(folder.root, keys=["no.pub"])
    Path("text.pub").write_text("no key")
    with pytest.raises(KeyFileError):
        ndrepro.verify(folder.root, keys=["text.pub"])


def test_what_is_not_there_is_named(folder: RunFolder) -> None:
    for function in (ndrepro.verify, ndrepro.reproduce):
        with pytest.raises(RunNotFound, match="no run 'nothing'"):
            function("nothing")
    with pytest.raises(RunNotFound):
        ndrepro.diff("nothing", "nothing")
    with pytest.raises(NotFoundError, match="nowhere"):
        ndrepro.read_runs("nowhere")
    with pytest.raises(NotFoundError, match=r"ledger no\.jsonl: no such file"):
        ndrepro.verify(folder.root, ledger="no.jsonl")
    with pytest.raises(UsageError, match="a challenge or a beacon draws"):
        ndrepro.reproduce(folder.root, challenge="walnut")
    with pytest.raises(UsageError, match="no --in"):
        ndrepro.reproduce(folder.root, image="ndrepro")
