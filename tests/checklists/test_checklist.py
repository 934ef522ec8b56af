"""No point without evidence: an empty repository has none, a comment that says "seed" gives none, a call does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import sign_run

from ndrepro.checklists import checklist as guidelines
from ndrepro.checklists.checklist import ANTI, ELSEWHERE, FOUND, GAPS, MISSING, Checklist, check_repository, check_run
from ndrepro.checklists.checklist_run import read_run
from ndrepro.checklists.checklist_sources import Sources
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.key_home import default_home
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.signatures.public_key import PublicKey

Make = Callable[..., Path]
BARE = """
import torch
import torchvision
# the seed is 0: torch.manual_seed(0)
seed = "random.seed(1)"
net = torchvision.models.resnet18().cuda()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
data = torch.load("/scratch/me/data.pt")
for x, y in data:
    loss = torch.nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
GOOD = """
import argparse
import hashlib
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

SHA256 = "%s"

class Net(nn.Module):
    \"\"\"A network.\"\"\"

class Images(Dataset):
    \"\"\"Images.\"\"\"

def train(net, loader, optimizer):
    \"\"\"Train.\"\"\"
    torch.manual_seed(3)
    np.random.seed(3)
    torch.use_deterministic_algorithms(True)
    for x, y in loader:
        net(x).sum().backward()
        optimizer.step()
    torch.save(net.state_dict(), "weights.pt")

def test(net, loader):
    \"\"\"Test.\"\"\"
    net.eval()
    print(torch.cuda.get_device_name(0))

def main():
    \"\"\"Everything.\"\"\"
    parser = argparse.ArgumentParser()
    parser.add_argument("--learning-rate", default=0.1)
    loader = DataLoader(Images())

if __name__ == "__main__":
    main()
""" % ("ab" * 32)
README = """# A paper's code

This trains the networks of the paper on CIFAR-10, a data set of 60,000 images, on one NVIDIA V100 with 64 GB RAM.
Trained weights: https://example.org/weights.safetensors holds the pretrained network of the paper.

    pip install -r requirements.txt
    python train.py

| network | accuracy |
| --- | --- |
| Net | 91.20 ± 0.31 |
"""
FULL = {
    "train.py": GOOD,
    "README.md": README,
    "requirements.txt": "torch==2.8.0\nnumpy==2.1.0\n",
    "Dockerfile": "FROM python:3.11.9-slim\n",
    "LICENSE": "MIT License\n",
    "config.json": '{"seeds": [0, 1, 2], "learning_rate": 0.1}\n',
}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a folder of files, a git repository unless told otherwise."""

    def folder(files: dict[str, str], *, git: bool = True) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        if git:
            subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
            subprocess.run(["git", "-C", str(tmp_path), "add", "-A"], check=True)
        return tmp_path

    return folder


def of(folder: Path) -> Checklist:
    return check_repository(Sources(folder), "it")


def statuses(found: Checklist) -> dict[str, str]:
    return {finding.guideline.name: finding.status for finding in found.findings}


def whats(found: Checklist, name: str) -> tuple[list[str], list[str]]:
    finding = next(finding for finding in found.findings if finding.guideline.name == name)
    return [item.what for item in finding.good], [item.what for item in finding.bad]


def test_an_empty_repository_gets_no_point(make: Make) -> None:
    found = of(make({}))
    assert found.points == 0 and found.possible == len(found.findings) == 12
    assert set(statuses(found).values()) == {MISSING}


def test_a_bare_training_script_gets_what_it_has_and_no_more(make: Make) -> None:
    found = of(make({"train.py": BARE}))
    assert statuses(found) == {
        "environment": MISSING, "hardware": ANTI, "seeds": ANTI, "training-and-testing": GAPS, "architecture": MISSING,
        "data": ANTI, "training-regime": ANTI, "source-code": GAPS, "instructions": MISSING, "weights": MISSING,
        "documentation": MISSING, "sensitivity": MISSING,
    }  # fmt: skip
    assert whats(found, "seeds") == ([], ["training, and no seed anywhere"])
    (bad,) = next(finding.bad for finding in found.findings if finding.guideline.name == "seeds")
    assert (bad.evidence[0].place, bad.evidence[0].line) == ("train.py", 12)


def test_a_repository_with_everything_has_every_point_each_with_its_place(make: Make) -> None:
    found = of(make(FULL))
    assert set(statuses(found).values()) == {FOUND} and found.points == 12
    for finding in found.findings:
        assert finding.good and all(item.evidence and item.count for item in finding.good)
        for item in finding.good:
            assert all(evidence.place in FULL for evidence in item.evidence)


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("random.seed(7)", True),
        ("np.random.seed(seed=7)", True),
        ("rng = default_rng(args.seed)", True),
        ("torch.Generator().manual_seed(7)", True),
        ("# random.seed(7)", False),
        ("'random.seed(7)'", False),
        ("seed = 7", False),
        ("random.seed()", False),
        ("random.seed(None)", False),
        ("np.random.seed(int(time.time()))", False),
        ("rng = default_rng()", False),
        ("print(random.seed)", False),
    ],
)
def test_a_seed_counts_when_it_is_really_set(make: Make, line: str, counts: bool) -> None:
    head = "import random, time\nimport numpy as np\nimport torch\nfrom numpy.random import default_rng\n"
    good, _ = whats(of(make({"train.py": head + line + "\n"})), "seeds")
    assert good == (["seeds are set"] if counts else [])


def test_a_seed_in_a_test_or_in_a_file_that_git_does_not_have_counts_nothing(make: Make) -> None:
    folder = make({"tests/test_it.py": "import random\nrandom.seed(1)\n"})
    (folder / "later.py").write_text("import random\nrandom.seed(1)\n", encoding="utf-8")
    assert whats(of(folder), "seeds") == ([], [])
    subprocess.run(["git", "-C", str(folder), "add", "later.py"], check=True)
    assert whats(of(folder), "seeds") == (["seeds are set"], [])


@pytest.mark.parametrize(
    ("files", "name", "good", "bad"),
    [
        ({"requirements.txt": "torch\n"}, "environment", [], ["a dependency without a version"]),
        ({"requirements.txt": "torch>=2\n"}, "environment", [], ["a dependency without a version"]),
        ({"requirements.txt": "# torch==2\n"}, "environment", [], []),
        ({"requirements.txt": "torch==2.8\nnumpy\n"}, "environment", [], ["a dependency without a version"]),
        ({"Dockerfile": "FROM python\n"}, "environment", ["a container recipe"], ["an image without a fixed tag"]),
        ({"Dockerfile": "FROM a:1 AS base\nFROM base\n"}, "environment", ["a container recipe"], []),
        (
            {"t.py": "import torch\ntorch.backends.cudnn.benchmark = True\n"},
            "seeds",
            [],
            ["kernels are chosen by timing"],
        ),
        ({"README.md": "# Code\n\nCode of the paper.\n"}, "documentation", [], ["a README of a few words"]),
        ({"README.md": "# Code\n\nRun python train.py to train.\n"}, "instructions", [], []),
        ({"README.md": "| net | 91.20 |\n| a | 90.10 |\n"}, "sensitivity", [], ["results without a spread"]),
        ({"config.json": '{"seed": 3, "seeds": [3]}'}, "sensitivity", [], []),
        ({"train.ipynb": '{"source": ["loss.backward()"]}'}, "training-and-testing", [], ["notebooks only"]),
        ({"broken.py": "def (:\n"}, "source-code", [], []),
    ],
)
def test_patterns_and_anti_patterns(
    make: Make, files: dict[str, str], name: str, good: list[str], bad: list[str]
) -> None:
    assert whats(of(make(files)), name) == (good, bad)


def test_a_folder_without_git_is_looked_at_and_said_to_be_none(make: Make) -> None:
    found = of(make({"train.py": GOOD, ".venv/lib/x.py": "import random\nrandom.seed(1)\n"}, git=False))
    assert found.notes and "no git repository" in found.notes[0]
    assert whats(found, "source-code") == ([], ["no licence"])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        Sources(tmp_path / "none")


def test_this_project_has_evidence_of_every_guideline() -> None:
    found = check_repository(Sources(Path(__file__).resolve().parents[2]), "ndrepro")
    assert found.points == found.possible == 12
    assert {status for status in statuses(found).values()} <= {FOUND, GAPS}


def test_a_runs_manifest_is_evidence_only_where_it_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "home"))
    folder = sign_run(RunsFolder(tmp_path / "runs"), "lenet_bn_2_digits", "20261121T101501Z-aaaaaa")
    found = check_run(read_run(folder.root, TrustPolicy.load(default_home())), "run")
    assert statuses(found)["documentation"] == statuses(found)["sensitivity"] == ELSEWHERE and found.possible == 10
    assert statuses(found)["seeds"] == GAPS, "a flag changed under way"
    assert statuses(found)["architecture"] == statuses(found)["training-regime"] == FOUND
    assert statuses(found)["environment"] == MISSING, "this manifest has no distributions"
    data = folder.manifest.read_bytes()
    folder.manifest.write_bytes(
        data.replace(b'"payload": "', b'"payload": "A', 1).replace(b'"payload":"', b'"payload":"A', 1)
    )
    assert folder.manifest.read_bytes() != data
    changed = check_run(read_run(folder.root, TrustPolicy.load(default_home())), "run")
    assert changed.points == 0 and "the manifest is no evidence" in changed.notes[0]


def test_a_real_run_shows_everything_that_a_run_can() -> None:
    kept = Path(__file__).resolve().parents[2] / "docs" / "runs" / "vgg16_nd_1"
    public = PublicKey.from_pem((kept / "author.pub").read_bytes())
    trust = TrustPolicy(Path(), None, (TrustedKey(public.pem, public.keyid, "the author", ""),))
    found = check_run(read_run(kept, trust), "run")
    assert found.points == found.possible == 10
    assert "AMD EPYC" in str(found.findings[1].good[0].evidence[0])
    assert check_run(read_run(kept, TrustPolicy(Path(), None, ())), "run").points == 0


def test_markdown_and_json_hold_the_evidence(make: Make) -> None:
    found = of(make({"train.py": BARE}))
    text = guidelines.markdown(found)
    assert "## Random generators get seeds: anti-pattern" in text and "train.py:12" in text
    document = json.loads(json.dumps(found.to_json()))
    seeds = next(item for item in document["guidelines"] if item["name"] == "seeds")
    assert seeds["against"][0]["evidence"][0]["line"] == 12 and seeds["found"] == []
