"""bfloat16 is for convolutions and products; whitening and losses stay float32; what cannot be had is refused."""

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch
from deconv_shapes import with_fast_kernel
from real_runs import Bench

from ndrepro.analysis.verdicts.code_claim import code_concerns
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.errors import DeviceError, NdreproError, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.study.study_schema import from_document
from ndrepro.training.compute import determinism, precision
from ndrepro.training.layers.deconv import Deconv2d, Delinear
from ndrepro.training.layers.whitening import inverse_sqrt
from ndrepro.training.train_run import build
from provenance.attestation.dsse import read_envelope
from provenance.attestation.statement import Statement

pytestmark = pytest.mark.numerics

CPU = torch.device("cpu")


def experiment(name: str = "lenet_nd_1_digits", **settings: str) -> Experiment:
    return Experiment.from_name(name, settings)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("layer", "x"),
    [(Deconv2d(6, 8, 3), drawn(4, 6, 12, 12)), (Delinear(48, 10, block=24), drawn(64, 48))],
    ids=["Deconv2d", "Delinear"],
)
@pytest.mark.parametrize("kernel", ["reference", "fast"])
def test_statistics_and_roots_are_those_of_float32(layer: torch.nn.Module, x: torch.Tensor, kernel: str) -> None:
    layer = with_fast_kernel(layer) if kernel == "fast" else copy.deepcopy(layer)
    under_autocast = copy.deepcopy(layer)
    plain = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = under_autocast(x)
    assert out.dtype == torch.bfloat16 and plain.dtype == torch.float32
    assert torch.equal(layer.running_deconv, under_autocast.running_deconv)
    assert torch.equal(layer.running_mean, under_autocast.running_mean)
    assert 0 < (out.float() - plain).abs().max() < 0.05 * plain.abs().max()
    out.float().sum().backward()
    assert {each.grad.dtype for each in under_autocast.parameters() if each.grad is not None} == {torch.float32}


def test_under_plain_autocast_the_roots_would_be_others() -> None:
    """The control."""
    x = drawn(64, 24)
    covariance = x.T @ x / 64 + 1e-5 * torch.eye(24)
    exact = inverse_sqrt(covariance, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = inverse_sqrt(covariance, 5)
    assert (rounded.float() - exact).abs().max() > 1e-3


def test_the_plain_way_is_the_network_itself() -> None:
    net = build(experiment())
    assert precision.forward_of(net, experiment(), CPU) is net
    assert precision.forward_of(net, experiment(precision="fp32"), CPU) is net


@pytest.mark.parametrize("name", ["lenet_bn_1_digits", "lenet_nd_1_digits"])
def test_scores_in_bfloat16_come_out_as_float32_and_near(name: str) -> None:
    net = build(experiment(name)).eval()
    images = drawn(8, 3, 32, 32)
    plain = net(images)
    scores = precision.forward_of(net, experiment(name, precision="bf16"), CPU)(images)
    assert scores.dtype == torch.float32
    assert 0 < (scores - plain).abs().max() < 0.05 * plain.abs().max()


def test_tf32_is_what_was_asked_for_else_what_the_level_has() -> None:
    allowed = {
        (level, asked): precision.allows_tf32(experiment(determinism=level, precision=asked))
        for level in ("free", "deterministic")
        for asked in ("auto", "fp32", "tf32", "bf16")
    }
    assert [key for key, value in allowed.items() if value] == [
        ("free", "auto"),
        ("free", "tf32"),
        ("deterministic", "tf32"),
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"precision": "fp16"}, "precision='fp16' is not known"),
        ({"precision": "tf32", "device": "cpu"}, "precision=tf32 with device=cpu"),
        ({"precision": "bf16", "determinism": "canonical"}, "precision=bf16 under determinism=canonical"),
        ({"compile": "true", "determinism": "canonical"}, "compile=true under determinism=canonical"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_run(settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        experiment(**settings)


def test_what_this_machine_cannot_do_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="precision=tf32 on the CPU"):
        precision.check(experiment(precision="tf32"), CPU)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(NdreproError, match=r"compile=true: there is no g\+\+") as refused:
        precision.check(experiment(compile="true"), CPU)
    assert "install a C++ compiler" in refused.value.cure and "train outside of it" in refused.value.cure


@pytest.mark.slow
def test_a_run_in_bfloat16_is_recorded_as_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    bench = Bench(tmp_path_factory.mktemp("bf16"))
    plain, ended = bench.run("lenet_bn_2_digits"), bench.run("lenet_bn_2_digits", precision="bf16")
    assert ended.outcome == "completed", ended.error
    told = Statement.from_bytes(read_envelope(ended.folder.manifest.read_bytes())[1]).manifest
    assert told.external_parameters["experiment"]["precision"] == "bf16"
    assert plain.scores is not None and ended.scores is not None
    assert 0 < abs(plain.scores.train_loss - ended.scores.train_loss) < plain.scores.train_loss


def test_studies_can_vary_them() -> None:
    axes = {
        "processes": [1, 2],
        "statistics": ["global", "process"],
        "precision": ["auto", "fp32", "tf32", "bf16"],
        "drops": ["0.5", "0.3,0.6"],
        "schedule": ["step"],
    }
    grids = {"main": {"axes": axes}, "compiled": {"axes": {"compile": [False, True]}, "settings": {"drop": 5}}}
    settings = {"arch": "lenet", "method": "nd", "epochs": 1, "dataset": "digits"}
    study = from_document("mini", {"title": "t", "settings": settings, "grids": grids})
    assert len(list(study.runs())) == 34


def test_flags_say_what_reductions_may_be_in_bfloat16() -> None:
    assert "matmul_bf16_reduced_precision" in determinism.flags()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler, and there is none here")
@pytest.mark.skipif(
    not os.environ.get("CI") and not os.environ.get("NDREPRO_TEST_COMPILER"),
    reason="compiling costs half a minute of processor: in CI, or with NDREPRO_TEST_COMPILER=1",
)
def test_a_compiled_run_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "kernels"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    bench = Bench(tmp_path)
    few = {"deconv.n_iter": "1"}  # fewer kernels to make
    plain, compiled = bench.run("mlp512_nd_1_digits", **few), bench.run("mlp512_nd_1_digits", compile="true", **few)
    assert compiled.outcome == "completed", compiled.error
    assert plain.scores is not None and compiled.scores is not None
    assert compiled.scores.test_loss == pytest.approx(plain.scores.test_loss, rel=1e-2)
    assert list((tmp_path / "kernels").rglob("*.cpp")), "kernels were made"
    # by the recorder, too, who finds them where it had them kept
    assert not code_concerns(read_recorded(compiled.folder).manifest)
    diverging = {**few, "learning_rate": "1e30"}
    plain, compiled = (bench.run("mlp512_nd_1_digits", **diverging, compile=each) for each in ("false", "true"))
    assert str(compiled.error) == str(plain.error), "the same step and layer"
    assert "step 2: layer" in str(plain.error) and "covariance of its input is not finite" in str(plain.error)
