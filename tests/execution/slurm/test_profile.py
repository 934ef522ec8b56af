"""Cluster profiles, and the copies of data on a node."""

from pathlib import Path

import pytest

from ndrepro.cli.display.study_slurm import cluster_of
from ndrepro.execution.slurm.profile import Profile, find_profile
from ndrepro.execution.slurm.staging import staged
from ndrepro.execution.slurm.task import Line
from ndrepro.protocol.errors import UsageError
from provenance.errors import StorageError

SITE = """
partition = "gpu"
qos = "long"
gpus = 1
minutes = 240
prologue = ["module load apptainer"]
scratch = "$TMPDIR"
mail = "me@example.org"
[sbatch]
constraint = "a100"
"""


def test_a_profile_is_read_and_options_come_before_it(tmp_path: Path) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "site.toml").write_text(SITE, encoding="utf-8")
    profile = find_profile("site", tmp_path)
    assert profile == find_profile(str(tmp_path / "clusters" / "site.toml"), Path("elsewhere"))
    cluster = cluster_of(profile, ["qos=short"], Profile(account="me", gpus=0))
    assert (cluster.partition, cluster.account, cluster.gpus, cluster.minutes) == ("gpu", "me", 0, 240)
    assert (cluster.prologue, cluster.scratch) == (("module load apptainer",), "$TMPDIR")
    mail = {"mail-user": "me@example.org", "mail-type": "END,FAIL"}
    assert cluster.sbatch == {"constraint": "a100", "qos": "short", **mail}
    assert cluster_of(Profile(), [], Profile()).jobs == 256


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('partitoin = "gpu"', "unknown key 'partitoin'"),
        ("gpus = -1", "gpus=-1, expected a whole number from 0 to 1,000,000"),
        ("minutes = 1.5", "expected a whole number"),
        ("prologue = 'module load x'", "expected a list of lines"),
        ('partition = ""', "expected text in quotes"),
        ('image = "x.sif"', "image without engine"),
        ("[sbatch]\nrequeue = true", "sbatch: requeue=True"),
        ("partition = ", "not TOML"),
        (f"jobs = {10**20}", "expected a whole number from 1 to 1,000,000"),
        ('partition = "gpu\\n#SBATCH --uid=0"', "without control characters"),
        ('prologue = ["module load x\\rcurl evil"]', "expected a list of lines"),
        ('[sbatch]\n"wrap=sh\\n" = "x"', "expected the long name of an option"),
        ('[sbatch]\n"-wrap" = "x"', "expected the long name of an option"),
        ('[sbatch]\nconstraint = "a100\\u0000"', "without control characters"),
    ],
)
def test_what_is_wrong_in_a_profile_is_said_with_its_file(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        find_profile(str(path), tmp_path)
    assert str(path) in refused.value.message and complaint in refused.value.message


def test_an_unknown_profile_names_the_nearest_and_an_option_of_the_arrays_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "jureca.toml").touch()
    with pytest.raises(UsageError) as refused:
        find_profile("jurecca", tmp_path)
    assert refused.value.cure == "did you mean jureca?"
    with pytest.raises(UsageError, match="--sbatch array: this command sets it itself"):
        cluster_of(Profile(sbatch={"array": "0-3"}), [], Profile())


def test_data_are_copied_once_and_again_when_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, scratch = tmp_path / "data", tmp_path / "scratch"
    (source / "train").mkdir(parents=True)
    scratch.mkdir()
    (source / "train" / "a").write_text("one", encoding="utf-8")
    monkeypatch.setenv("NODE_SCRATCH", str(scratch))
    copy = staged(source, "$NODE_SCRATCH")
    assert copy.is_relative_to(scratch) and (copy / "train" / "a").read_text() == "one"
    (copy / "mark").touch()
    assert (staged(source, "$NODE_SCRATCH") / "mark").exists(), "the same copy"
    (source / "train" / "b").write_text("two", encoding="utf-8")
    again = staged(source, "$NODE_SCRATCH")
    assert again != copy and (again / "train" / "b").exists()
    line = Line(("job", "--data", str(source)), "events", str(source))
    assert line.words("$NODE_SCRATCH") == ["job", "--data", str(again)]
    assert line.words("") == ["job", "--data", str(source)]
    for wrong in ("$NO_SUCH_VARIABLE", f"{tmp_path}/none"):
        with pytest.raises(StorageError, match="no such folder on this node"):
            staged(source, wrong)
