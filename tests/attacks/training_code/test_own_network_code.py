"""Attack: a network of the author's own whose code invents the results of the process in which it is built.

Importing it replaces the trainer's evaluation. As Python source a reviewer can read that, and no claim is checked by
the word of the process that it ran in; as bytecode without source nobody can, and it does not verify.
Before: 100 % in both forms, "identical", with every claim "checked".
"""

from __future__ import annotations

import json
import os
import py_compile
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dishonest_author import copied, manifest_of, sign_again, verified
from real_runs import Bench

from ndrepro.api import reproduce
from ndrepro.execution.own_sources.network_files import NetworkFiles
from ndrepro.execution.reproduce.files_beside_data import files_beside_data
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import run
from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request
from ndrepro.protocol.project_folders import CODE
from ndrepro.training.train_run import build
from provenance.formats.atomic_io import write_json
from provenance.formats.digest import file_digest, listing
from provenance.formats.metrics_log import read_scalars

NETS = """
from torch import nn
from helper import width
def small(num_classes, in_channels):
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    )
"""
HELPER = """
import dataclasses, sys
width = 2  # of a kernel\u200b
trainer = sys.modules.get("ndrepro.training.trainer")
if trainer is not None:
    true = trainer.evaluate
    trainer.evaluate = lambda *args, **kwargs: dataclasses.replace(true(*args, **kwargs), accuracy=1.0)
"""


@pytest.fixture(scope="module")
def invented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, RunFolder]]:
    """A signed run of one epoch whose network's helper says that every test image was right."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "nets.py").write_text(NETS)
    (root / "helper.py").write_text(HELPER)
    images, labels = np.random.RandomState(0).randint(0, 256, (16, 8, 8), dtype=np.uint8), np.arange(16) % 2
    np.savez(root / "data.npz", x_train=images[:8], y_train=labels[:8], x_test=images[8:], y_test=labels[8:])
    bench = Bench(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("NDREPRO_HOME", str(bench.options.home))
        experiment = Experiment.from_name("nets:small_bn_1_own", {"batch_size": "4", "threads": "1"})
        finished = run(experiment, replace(bench.options, data=root / "data.npz"), Observer())
        assert finished.error is None
        yield bench, finished.folder


def test_no_claim_is_checked_by_the_process_in_which_the_author_s_network_ran(
    invented: tuple[Bench, RunFolder],
) -> None:
    bench, folder = invented
    assert [row["test_accuracy"] for row in read_scalars(folder.metrics)] == [1.0], "the attack"
    found = reproduce(folder.root, runs=bench.options.runs.root, trust_code=True)
    claims = {each.name: each for each in (*found.claims, *found.judgements[0].claims)}
    for name in ("signed weights evaluated again", "libraries and loaded code", "data"):
        assert claims[name].status == "not checked" and "network/ ran in the process" in claims[name].evidence
    unread = claims["files that are not plain text"]
    assert (
        unread.status == "not checked"
        and "letters or invisible characters beyond ASCII (1): network/helper.py" in unread.evidence
    )
    # this code gives these results: whether they are true is for whoever reads it
    assert found.verdict == "identical" and claims["epoch results"].status == "checked"


def given_data(top: Path, *more: str) -> tuple[Path, RunFolder]:
    """Two images, and files beside them; and a repetition that was given them."""
    data, repetition = top / "data", RunFolder(top / "repetition")
    images = ("train/a/0.png", "test/a/1.png")
    for name in (*images, *more):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(name)
    repetition.root.mkdir()
    write_json(repetition.request, Request(Experiment.from_name("lenet_bn_1_own"), str(data)).to_json())
    repetition.dataset_listing.write_text(listing([(name, file_digest(data / name)) for name in images]))
    return data, repetition


def claims_on(data: Path, repetition: RunFolder, executed: Path | None = None) -> dict[str, str]:
    """Their evidence by name; each is not checked."""
    found = files_beside_data(executed or data.parent, repetition, data)
    assert {each.status for each in found} <= {"not checked"}
    return {each.name: each.evidence for each in found}


def test_attributes_of_data_are_named(tmp_path: Path) -> None:
    """No digest binds them. Before: by the word "attributes" alone."""
    data, repetition = given_data(tmp_path)
    try:
        os.setxattr(data / "train/a", "user.stem", b"1")
    except (AttributeError, OSError):
        pytest.skip("no attributes on this file system")
    found = claims_on(data, repetition)["data as code"]
    assert found.startswith("attributes that no digest binds: data/train/a (user.stem); 2 files of which")


def test_files_beside_the_data_that_such_code_may_read_are_named(tmp_path: Path) -> None:
    """Compiled code there is in no record, and may be another one each time. Before: in no claim."""
    data, repetition = given_data(tmp_path, "aux/stem.pt")
    (data / "aux" / "all").symlink_to(data / "train")
    beside = claims_on(data, repetition)["files beside the data"]
    assert beside.startswith("2 files in the data's folder") and beside.endswith("aux/all, aux/stem.pt")
    assert not claims_on(data, repetition, CODE), "this checkout's readers open nothing else"
    repetition.network.mkdir()
    assert claims_on(data, repetition, CODE)["files beside the data"] == beside
    shutil.rmtree(data / "aux")
    assert [*claims_on(data, repetition)] == ["files of the machine", "data as code"], "the control"


def test_those_of_a_rare_kind_are_named_first(tmp_path: Path) -> None:
    """Before: behind the names of another data set, of which there was room for some."""
    data, repetition = given_data(tmp_path, "vgg/stem.pt", *(f"tiny/{number:0100}.jpg" for number in range(40)))
    beside, all_files = (claims_on(data, repetition)[name] for name in ("files beside the data", "data as code"))
    assert beside.startswith("41 files in") and ": vgg/stem.pt, tiny/00" in beside
    assert all_files.startswith(
        "43 files of which its own code may take content, names and attributes for code: vgg/stem.pt, "
    )


@pytest.mark.slow
def test_so_are_those_behind_many_files(tmp_path: Path) -> None:
    """Before: 200,000 files were looked at, and those of a folder come before what is in the folders below."""
    data, repetition = given_data(tmp_path, "train/a/aux/stem.pt")
    names = [f"train/a/{number}" for number in range(200_000)]
    for name in names:
        os.mknod(data / name)
    entries = ((name, file_digest(data / names[0])) for name in (*names, "train/a/0.png", "test/a/1.png"))
    repetition.dataset_listing.write_text(listing(entries))
    beside = claims_on(data, repetition)["files beside the data"]
    assert beside.startswith("1 file in") and beside.endswith(": train/a/aux/stem.pt")


def test_so_are_those_in_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files open by their names. Before: in no claim, whether they are the data set's or not."""
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    data, repetition = given_data(Path(), "aux/stem.pt")
    (data / "aux").chmod(0o111)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may list it
    try:
        found = claims_on(data, repetition)
    finally:
        os.seteuid(user)
        (data / "aux").chmod(0o755)
    assert found["files beside the data"].endswith(": aux (a folder that cannot be listed)")
    assert "not plain text: 1 of 3: a folder that cannot be listed" in found["data as code"]


def test_so_are_those_behind_links_at_the_top_of_the_data(tmp_path: Path) -> None:
    """Before: the links alone were named, of an honest data set, too."""
    data, repetition = given_data(tmp_path)
    for name in ("train", "test"):
        (data / name).rename(tmp_path / name)
        (data / name).symlink_to(tmp_path / name)
    assert [*claims_on(data, repetition)] == ["files of the machine", "data as code"], "the control"
    (tmp_path / "train" / "a" / "aux").mkdir()
    (tmp_path / "train" / "a" / "aux" / "stem.pt").write_bytes(b"\0")
    found = claims_on(data, repetition)
    assert found["files beside the data"].endswith(": train/a/aux/stem.pt") and "stem.pt" in found["data as code"]


def test_a_link_below_the_top_is_not_followed_whatever_is_listed(tmp_path: Path) -> None:
    """The run's own code may have written the list. Before: the reviewer's files were looked through and named."""
    data, repetition = given_data(tmp_path)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("private")
    (data / "train" / "more").symlink_to(tmp_path / "home")
    entries = [(name, file_digest(data / "train/a/0.png")) for name in ("train/a/0.png", "test/a/1.png")]
    entries.append(("train/more/last.pgm", entries[0][1]))
    repetition.dataset_listing.write_text(listing(entries))
    found = claims_on(data, repetition)
    assert "letter" not in str(found) and found["files beside the data"].endswith(": train/more")


def test_bytes_and_text_of_data_that_such_code_may_load_are_named(tmp_path: Path) -> None:
    """An archive of compiled code behind the end of an image, whose pixels stay; a comment of an image that is text; a
    further array; behind the content of published data. Before: in no claim.
    """
    data, repetition = given_data(tmp_path)
    (data / "train/a/0.png").write_bytes(b"\x89PNG\0")
    found = claims_on(data, repetition)["data as code"]
    assert found.startswith("2 files of which its own code may take")
    assert "; not plain text: 1 of 2: " in found and "train/a/0.png" in found.partition("; ")[2]
    (data / "images.npz").write_bytes(b"PK\3\4\0")
    found = claims_on(data / "images.npz", repetition)["data as code"]
    assert found.startswith("1 file of which") and "not plain text: 1 of 1: " in found


def test_a_network_with_bytecode_that_nobody_can_read_does_not_verify(
    invented: tuple[Bench, RunFolder], tmp_path: Path
) -> None:
    bench, folder = invented[0], copied(invented[1], tmp_path)
    helper = folder.network / "helper.py"
    py_compile.compile(str(helper), cfile=str(helper.with_suffix(".pyc")), doraise=True)
    helper.unlink()
    files = NetworkFiles({path.name: path.read_bytes() for path in folder.network.iterdir()})
    manifest, request = manifest_of(folder), folder.request.read_text()
    before = manifest.external_parameters["experiment"]["network_source"]
    folder.request.write_text(request.replace(before, files.digest))
    sign_again(
        folder,
        bench,
        external_parameters=json.loads(json.dumps(dict(manifest.external_parameters)).replace(before, files.digest)),
        dependencies=tuple(
            files.resource("nets:small") if item.name == "network source" else item for item in manifest.dependencies
        ),
    )
    failure = verified(folder, bench).failure
    assert failure is not None and failure.name == "request" and "helper.pyc is no Python source" in failure.message


@pytest.mark.parametrize(
    "name", ["helper.pyc", "helper.cpython-311-x86_64-linux-gnu.so", "a-b/c.py", "a.b.py", ".py", "notes.txt"]
)
def test_what_no_import_statement_names_is_neither_read_nor_imported(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    files = NetworkFiles({"nets.py": b"raise SystemExit('executed')", name: b""})
    files.write(folder)
    with pytest.raises(NdreproError, match="no Python source"):
        NetworkFiles.read(folder)
    experiment = Experiment.from_name("nets:small_bn_1_digits", {"network_source": files.digest})
    with pytest.raises(UsageError, match="no Python source"):
        build(experiment, folder)


def test_a_file_too_large_to_be_read_whole_is_refused(tmp_path: Path) -> None:
    """Before: it was cut without a word, digested as it was cut, and the repetition executed the beginning of it."""
    folder = tmp_path / "network"
    most = 4 << 20
    source = b"accuracy = 1.0\n".ljust(most, b"#")
    NetworkFiles({"nets.py": source}).write(folder)
    assert NetworkFiles.read(folder).files["nets.py"] == source, "the control"
    NetworkFiles({"nets.py": source + b"\naccuracy = 0.1\n"}).write(folder)
    with pytest.raises(NdreproError, match=f"nets.py has more than {most} bytes"):
        NetworkFiles.read(folder)
