"""Installed packages offer networks and data sets by name: really installed, recorded as own ones, clashes refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recorded_runs import ROOT

from ndrepro.execution.own_sources import offered
from ndrepro.execution.own_sources.network_files import NetworkFiles
from ndrepro.protocol.errors import DataError, UsageError

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "tinynets"
version = "1.5"
[project.entry-points."ndrepro.networks"]
tiny_net = "tinynets.nets:Tiny"
lenet = "tinynets.nets:Tiny"
broken = "tinynets.nets"
[project.entry-points."ndrepro.datasets"]
dots = "tinynets:dots.npz"
gone = "tinynets:gone.npz"
digits = "tinynets:dots.npz"
"""
NETS = """
import yaml_of_another_package_that_is_never_looked_into as other
from tinynets.parts import head
Tiny = head
"""


def write_package(folder: Path, nets: str) -> Path:
    package = folder / "tinynets"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("from torch import nn\nhead = nn.Linear\n")
    (package / "nets.py").write_text(nets)
    images, labels = np.random.RandomState(0).randint(0, 256, (12, 8, 8), dtype=np.uint8), np.arange(12) % 2
    np.savez(package / "dots.npz", x_train=images[:8], y_train=labels[:8], x_test=images[8:], y_test=labels[8:])
    return folder


def install(source: Path, *where: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *where]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--no-compile"]
    subprocess.run([*pip, *offline, str(source)], check=True, env={**os.environ, "PIP_CONFIG_FILE": os.devnull})


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package that is installed into a folder on the path; it is never imported."""
    root = tmp_path_factory.mktemp("offered")
    install(write_package(root / "source", NETS), "install", "--target", str(root / "site"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root / "site"))
        patch.chdir(root)
        yield root / "site" / "tinynets"


def test_names_stand_for_what_the_package_declares(package: Path) -> None:
    assert offered.with_offers("tiny_net_bn_5_dots", None) == ("tinynets.nets:Tiny_bn_5_own", package / "dots.npz")
    assert offered.with_offers("tiny_net_nd_2", None) == ("tinynets.nets:Tiny_nd_2", None)
    assert offered.with_offers("resnet18_bn_2_dots", None) == ("resnet18_bn_2_own", package / "dots.npz")
    for name in ("lenet_bn_5_digits", "vgg16_nd_full_100", "a.b:C_bn_1_digits", "nothing_bn_1", "vgg16"):
        assert offered.with_offers(name, None) == (name, None)
    assert "tinynets" not in sys.modules


def test_names_of_this_project_and_what_cannot_be_meant_are_refused(package: Path) -> None:
    refused = {offer.name: offer.refused for offer in (*offered.networks(), *offered.datasets()) if offer.refused}
    assert refused == {
        "lenet": "a name of this project",
        "digits": "a name of this project",
        "broken": "no MODULE:CALLABLE",
    }
    with pytest.raises(UsageError, match="refused: no MODULE:CALLABLE"):
        offered.with_offers("broken_bn_1_digits", None)
    with pytest.raises(UsageError, match="data set of an installed package"):
        offered.with_offers("lenet_bn_1_dots", package)
    with pytest.raises(DataError, match=r"gone\.npz .tinynets 1\.5.: no such file"):
        offered.with_offers("lenet_bn_1_gone", None)


def test_its_files_are_those_of_its_own_package_alone(package: Path) -> None:
    files = NetworkFiles.find("tinynets.nets:Tiny", Path.cwd())
    assert sorted(files.files) == ["tinynets/__init__.py", "tinynets/nets.py", "tinynets/parts.py"]
    with pytest.raises(UsageError, match="no file tinynets/nets"):
        NetworkFiles.find("tinynets.nets:Other", Path.cwd())
    (package / "nets.py").write_text(NETS + "# changed\n")
    assert NetworkFiles.find("tinynets.nets:Tiny", Path.cwd()).digest != files.digest


def test_a_run_of_an_installed_network_is_recorded_as_one_of_the_current_folder(tmp_path: Path) -> None:
    """In an environment of its own, so that the training process finds the package installed as well."""
    nets = (
        "from torch import nn\nfrom tinynets.parts import head\n"
        "def Tiny(num_classes, in_channels, image_size):\n"
        "    return nn.Sequential(nn.Flatten(), head(in_channels * image_size ** 2, num_classes))\n"
    )
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "ndrepro.pth").write_text(f"{next(p for p in sys.path if p.endswith('site-packages'))}\n{ROOT}\n")
    install(write_package(tmp_path / "source", nets), "--python", str(python), "install")
    variables = {**os.environ, "NDREPRO_HOME": str(tmp_path / "home")}

    def ndrepro(*words: str) -> Any:
        command = [str(python), "-P", "-m", "ndrepro", *words, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    ran = ndrepro("run", "tiny_net_bn_1_dots", "--set", "batch_size=4", "--threads", "1")
    assert ran["experiment"] == "tinynets.nets.Tiny_bn_1_own"
    kept = sorted(path.relative_to(ran["folder"]).as_posix() for path in Path(ran["folder"], "network").rglob("*.py"))
    assert kept == ["network/tinynets/__init__.py", "network/tinynets/nets.py", "network/tinynets/parts.py"]
    request = json.loads(Path(ran["folder"], "request.json").read_text())["experiment"]
    assert request["arch"] == "tinynets.nets:Tiny"
    assert request["network_source"] == NetworkFiles.read(Path(ran["folder"], "network")).digest
    assert ndrepro("verify", ran["folder"])["ok"]
    names = ndrepro("list", "--names")["offered"]["networks"]
    assert [each["name"] for each in names if not each["refused"]] == ["tiny_net"]
