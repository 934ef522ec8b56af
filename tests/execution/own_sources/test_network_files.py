"""Of a network of your own exactly the files are kept that its import executes; finding them executes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ndrepro.execution.own_sources.network_files import NetworkFiles, with_source
from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.experiment.experiment import Experiment

FILES = {
    "mypkg/__init__.py": "raise SystemExit('executed')\n",
    "mypkg/nets.py": "import torch\nfrom . import blocks\nfrom mypkg.deep.more import x\nimport beside\nNet = x\n",
    "mypkg/blocks.py": "from ndrepro.training import models\n",
    "mypkg/deep/__init__.py": "",
    "mypkg/deep/more.py": "x = 1\n",
    "mypkg/unused.py": "",
    "beside.py": "",
    "ndrepro/training/models.py": "",
    "other.py": "",
}
KEPT = {
    *("beside.py", "mypkg/__init__.py", "mypkg/blocks.py", "mypkg/deep/__init__.py", "mypkg/deep/more.py"),
    "mypkg/nets.py",
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_files_are_those_that_the_import_executes(here: Path) -> None:
    assert set(NetworkFiles.find("mypkg.nets:Net", here).files) == KEPT


def test_what_is_kept_is_read_back_and_a_change_is_found(here: Path, tmp_path: Path) -> None:
    experiment, files = with_source(Experiment.from_name("mypkg.nets:Net_bn_1_digits"), None)
    assert files is not None and experiment.network_source == files.digest
    kept = tmp_path / "run" / "network"
    files.write(kept)
    assert NetworkFiles.read(kept) == files
    assert with_source(experiment, kept) == (experiment, files)
    (kept / "beside.py").write_text("x = 2\n")
    with pytest.raises(UsageError, match="not those of the experiment"):
        with_source(experiment, kept)
    (kept / "beside.py").unlink()
    (kept / "beside.py").symlink_to(here / "other.py")
    with pytest.raises(NdreproError, match="cannot be read"):
        NetworkFiles.read(kept)


def test_a_file_that_changed_since_is_another_experiment(here: Path) -> None:
    pinned, _ = with_source(Experiment.from_name("mypkg.nets:Net_bn_1_digits"), None)
    (here / "mypkg" / "unused.py").write_text("x = 1\n")
    assert with_source(pinned, None)[0] == pinned, "the control: this file is not part of it"
    (here / "mypkg" / "blocks.py").write_text("x = 1\n")
    with pytest.raises(UsageError, match="not those of the experiment"):
        with_source(pinned, None)


@pytest.mark.parametrize(
    ("arch", "path", "text", "said"),
    [
        ("absent.nets:Net", "beside.py", "", "no file absent/nets.py"),
        ("loose.nets:Net", "loose/nets.py", "", "no package without an __init__.py"),
        ("mypkg.nets:Net", "mypkg/blocks.py", "def f(:\n", "blocks.py:1"),
        ("mypkg.nets:Nett", "mypkg/unused.py", "", "nets.py has no Nett"),
        ("beside:Net", "beside.py", "class Other: ...\n", "beside.py has no Net"),
        ("mypkg.nets:Net", "beside.py", "password = 'correct-horse-battery'\n", "looks like a password or key"),
    ],
)
def test_what_cannot_be_kept_is_named(arch: str, path: str, text: str, said: str, here: Path) -> None:
    (here / path).parent.mkdir(exist_ok=True)
    (here / path).write_text(text)
    with pytest.raises(UsageError) as caught:
        NetworkFiles.find(arch, here)
    assert said in caught.value.message and caught.value.cure


@pytest.mark.parametrize(
    "code",
    [
        "from torch.nn import Linear as Net\n",
        "try:\n    import fast\n    Net = fast.Net\nexcept ImportError:\n    def Net(num_classes): ...\n",
        "from torch.nn import *\n",
        "globals()['Net'] = object\n",
        "def __getattr__(name): ...\n",
        "with open('/dev/null') as Net: ...\n",
    ],
)
def test_a_name_that_the_code_may_bind_is_left_to_the_training(code: str, here: Path) -> None:
    (here / "beside.py").write_text(code)
    assert "beside.py" in NetworkFiles.find("beside:Net", here).files
