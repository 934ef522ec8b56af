"""Folders of signed runs, made without training, once for all tests of reports."""

from __future__ import annotations

from itertools import product

import pytest
from reviewed_runs import Reviewed
from signed_runs import HOSTILE, SignedRuns, noise, rows

from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.experiment.experiment import Experiment


@pytest.fixture(scope="session")
def table1(tmp_path_factory: pytest.TempPathFactory) -> SignedRuns:
    """One network of table 1, one seed after 20 epochs; and a run each that diverged, failed, is lost, is forged."""
    signed = SignedRuns(tmp_path_factory.mktemp("table1"))
    for run in load_study(find_study("table1")).runs(["main"]):
        one = run.experiment
        if (
            one.arch == "vgg16"
            and one.dataset == "cifar10"
            and one.epochs < 100
            and (one.epochs, one.seed) not in ((20, 1), (20, 2))
        ):
            test = 0.7 + 0.1 * (one.method == "nd") + 0.01 * noise(one.name, one.seed)
            signed.add(one, rows(one.epochs, test), seconds=100.0 * (1 + (one.method == "nd")))
    signed.add(Experiment.from_name("dpn92_bn_1"), rows(1, 0.1, loss=float("nan")))
    signed.add(Experiment.from_name("dpn92_nd_1"), rows(1, 0.3), outcome="failed")
    signed.add(Experiment.from_name("vgg16_bn_1"), rows(1, 0.72), run="20261121T120000Z-repeat")
    forged = signed.add(Experiment.from_name("senet18_nd_1"), rows(1, 0.99)) / "manifest.dsse.json"
    forged.write_bytes(forged.read_bytes().replace(b'"payload":"e', b'"payload":"f', 1))
    signed.add(
        Experiment.from_name("vgg16_nd_1", {"learning_rate": "0.05"}), rows(1, 0.5), run=f"{HOSTILE.replace('/', '')}"
    )
    signed.begin("20261121T130000Z-lost00", f"vgg16_nd_1{HOSTILE}\u202e")
    signed.close()
    return signed


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> SignedRuns:
    """The small study of seeds, whole."""
    signed = SignedRuns(tmp_path_factory.mktemp("seeds"))
    for run in load_study(find_study("seeds_small")).runs():
        one = run.experiment
        test = 0.6 + 0.03 * noise(one.arch, one.method, one.dataset) + 0.04 * noise(one.name, one.seed)
        signed.add(one, rows(one.epochs, test), seconds=5.0)
    signed.close()
    return signed


@pytest.fixture(scope="session")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Reviewed:
    """Seeds in both scenarios on three data sets, some runs of which a reviewer trained again and signed."""
    found = Reviewed(tmp_path_factory.mktemp("reviewed"))
    rates = {"lenet": "0.08", "vgg11": "0.05", "resnet18d": "0.02", "mobilenetv2": "0.01"}
    for dataset, arch, seed, tuned in product(("digits", "svhn", "cifar100"), rates, range(4), (False, True)):
        settings = {"seed": str(seed), **({"learning_rate": rates[arch]} if tuned else {})}
        one = Experiment.from_name(f"{arch}_bn_2_{dataset}", settings)
        test = 0.6 + 0.2 * noise(arch, dataset, tuned) + 0.02 * noise(one.name, seed)
        found.author.add(one, rows(2, test))
    found.author.close()
    found.sign(found.run, found.same, "identical")
    found.sign(found.other, found.unlike, "consistent", differences=["torch: 2.13.0 then, 2.0.1 now"])
    found.sign(found.run, found.same, "close", epochs=[1], home=found.author.home)
    found.sign(found.run, found.same, "identical", home=found.author.root / "stranger")
    return found


@pytest.fixture(scope="session")
def generalization(tmp_path_factory: pytest.TempPathFactory) -> SignedRuns:
    """The small study of generalization, and figures 2a and 2b of the large one."""
    signed = SignedRuns(tmp_path_factory.mktemp("generalization"))
    planned = [*load_study(find_study("generalization_small")).runs(["labels", "pixels"])]
    planned += load_study(find_study("generalization")).runs(["regularisers", "batch_norm"])
    for run in planned:
        one = run.experiment
        fitted = 0.9 if one.arch == "mlp512" and one.corrupt.labels == 1 else 1.0
        signed.add(one, rows(one.epochs, 0.5 - 0.4 * one.corrupt.labels, fitted, loss=0.01))
    signed.close()
    return signed
