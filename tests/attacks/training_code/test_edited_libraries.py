"""Attack: one line of an installed library is changed, behind its version and its RECORD.

The library here may also lie: what is edited runs inside of the process that is to report it. So the recorder looks
itself, at the kernel's account of that process and at the files. On the code before these tests the process alone
compared, and both runs of a pair with the same edit were "identical" without a word.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from compared_runs import manifest, put
from site_folders import row, site

from ndrepro.analysis.verdicts.code_claim import code_claim, code_concerns
from ndrepro.protocol.verdicts import CHECKED, FLAGGED, NOT_CHECKED
from provenance.attestation import packages
from provenance.capture.distribution_metadata import recorded_files
from provenance.code.witness import Witness

SOURCE = "def loss():\n    return 2.3\n"
FALSE = "def loss():\n    return 0.0\n"
INFO = "thetorch-2.13.0.dist-info"
MAIN = """
import ctypes, sys, thetorch
ctypes.CDLL(thetorch.library)
print(thetorch.loss(), flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The site-packages of a throw-away environment with a library of Python and machine code, and one it requires."""
    venv.create(tmp_path / "env", symlinks=True)
    (packages,) = (tmp_path / "env").glob("lib/python3*/site-packages")
    psutil = Path(sysconfig.get_path("purelib"), "psutil-0").parent
    record = next(psutil.glob("psutil-*.dist-info/RECORD")).read_bytes()
    library = next(psutil / each.path for each in recorded_files(record) if each.path.endswith(".so"))
    here = "import os\nlibrary = os.path.join(os.path.dirname(__file__), 'core.so')\n"
    site(
        packages,
        {
            "thetorch/__init__.py": here + "from thetorch.functional import loss\n",
            "thetorch/functional.py": SOURCE,
            f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: thetorch\nVersion: 2.13.0\nRequires-Dist: helper (>=1)\n",
            f"{INFO}/RECORD": row("thetorch/__init__.py", here + "from thetorch.functional import loss\n")
            + row("thetorch/functional.py", SOURCE),
            "helper.py": "",
            "helper-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: helper\nVersion: 1\n",
            "helper-1.dist-info/RECORD": row("helper.py", ""),
        },
    )
    shutil.copyfile(library, packages / "thetorch" / "core.so")
    with (packages / INFO / "RECORD").open("a") as lines:
        lines.write(row("thetorch/core.so", "").replace(row("", "").split("=")[1].split(",")[0], _digest(library)))
    return packages


def _digest(path: Path) -> str:
    import base64
    import hashlib

    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()


@contextmanager
def process(
    packages: Path, tmp_path: Path, restore: Callable[[], None] = lambda: None
) -> Iterator[tuple[Witness, str]]:
    """A recorder's witness of a process that has imported the library and goes on; what the process printed.

    ``restore`` is called when it has, before the witness looks.
    """
    python = packages.parents[2] / "bin" / "python"
    witness = Witness(str(python), str(tmp_path / "run"), tmp_path / "code", least_seconds=0.02)
    words = [python, "-B", "-c", MAIN, tmp_path / "run"]
    started = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdin is not None and started.stdout is not None
    try:
        printed = started.stdout.readline().strip()
        restore()
        while not witness._listed:  # it has compared them once
            witness.look()
            time.sleep(0.02)
        yield witness, printed
    finally:
        started.stdin.close()
        started.wait()
        started.stdout.close()


def recorded(found: dict[str, Any]) -> tuple[str, ...]:
    """The concerns about a run whose recorder saw this."""
    return code_concerns(manifest(put("machine.imported_files", found["imported_files"])))


def test_an_untouched_library_is_no_concern(environment: Path, tmp_path: Path) -> None:
    """The control. The Python files of the library, its machine code, and what it requires are compared."""
    with process(environment, tmp_path) as (witness, printed):
        pass
    found = witness.end()
    assert printed == "2.3"
    assert found["imported_files"]["checked"] == 4 and found["imported_files"]["edited"] == {}
    assert sorted(found["imported_files"]["imported"]) == ["helper", "thetorch"]
    assert found["loaded_code"]["foreign"] == {}
    assert recorded(found) == ()


@pytest.mark.parametrize("restored", [False, True])
def test_one_edited_line_is_found_even_where_it_is_restored_before_the_end(
    restored: bool, environment: Path, tmp_path: Path
) -> None:
    target = environment / "thetorch" / "functional.py"
    status = target.stat()
    with process(environment, tmp_path):
        pass  # the honest file's digest is remembered
    target.write_text(FALSE)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    with process(environment, tmp_path) as (witness, printed):
        assert printed == "0.0"
        if restored:
            target.write_text(SOURCE)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = witness.end()
    assert list(found["imported_files"]["edited"]) == ["thetorch/functional.py"]
    assert recorded(found) == ("edited libraries: 1 file (thetorch: thetorch/functional.py)",)


def test_an_edit_made_while_the_run_lasts_is_found(environment: Path, tmp_path: Path) -> None:
    with process(environment, tmp_path) as (witness, _):
        (environment / "helper.py").write_text("EDITED = True\n")
    assert list(witness.end()["imported_files"]["edited"]) == ["helper.py"]


def test_machine_code_is_compared_and_an_edited_record_does_not_vouch_for_a_later_edit(
    environment: Path, tmp_path: Path
) -> None:
    core = environment / "thetorch" / "core.so"
    with process(environment, tmp_path) as (witness, _):
        new = core.with_name("new.so")
        new.write_bytes(core.read_bytes() + b"\0")
        new.replace(core)
        lines = (environment / INFO / "RECORD").read_text().splitlines(keepends=True)
        false = [
            line.split("sha256=")[0] + f"sha256={_digest(core)},1\n" if "core.so" in line else line for line in lines
        ]
        (environment / INFO / "RECORD").write_text("".join(false))
    assert list(witness.end()["imported_files"]["edited"]) == ["thetorch/core.so"]


def test_machine_code_that_is_restored_once_it_is_loaded_is_found(environment: Path, tmp_path: Path) -> None:
    core = environment / "thetorch" / "core.so"
    honest = core.read_bytes()
    core.write_bytes(honest + b"\0")
    with process(environment, tmp_path, restore=lambda: _replace(core, honest)) as (witness, _):
        assert core.read_bytes() == honest
    (found,) = witness.end()["imported_files"]["edited"].values()
    assert "replaced after" in found["actual"]["unavailable"]


def _replace(path: Path, content: bytes) -> None:
    path.with_name("new").write_bytes(content)
    path.with_name("new").replace(path)


def test_a_library_mapped_from_elsewhere_is_seen_from_outside(environment: Path, tmp_path: Path) -> None:
    stray = tmp_path / "stray.so"
    shutil.copyfile(environment / "thetorch" / "core.so", stray)
    init = environment / "thetorch" / "__init__.py"
    init.write_text(f"library = {str(stray)!r}\nfrom thetorch.functional import loss\n")
    with process(environment, tmp_path) as (witness, _):
        pass
    found = witness.end()["loaded_code"]["foreign"]
    assert list(found) == [str(stray)] and found[str(stray)]["kind"] == "library"


def test_a_process_that_is_not_there_to_be_seen_is_a_concern(environment: Path, tmp_path: Path) -> None:
    witness = Witness(sys.executable, str(tmp_path / "nobody"), tmp_path / "code")
    witness.look()
    found = {"checked": 1, "edited": {}, "witness": witness.end()["imported_files"]}
    (concern,) = code_concerns(manifest(put("machine.imported_files", found)))
    assert concern.startswith("libraries compared by the training process alone: the recorder saw no library")


EDITED = {"torch/optim/sgd.py": {"distribution": "torch", "recorded": "01" * 32, "actual": "02" * 32}}
NOTHING_ELSE: dict[str, Any] = {"count": 0, "foreign": {}, "system": {}}
STRAY = {"count": 1, "foreign": {"/tmp/x.so": {"kind": "library", "sha256": "03" * 32}}, "system": {}}


def test_an_edited_library_on_either_side_leaves_no_clean_verdict() -> None:
    nothing = put("machine.imported_files", {"checked": 9, "edited": {}})
    clean = manifest(nothing, put("machine.loaded_code", NOTHING_ELSE))
    edited = manifest(put("machine.imported_files", {"checked": 9, "edited": EDITED}))
    stray = manifest(nothing, put("machine.loaded_code", STRAY))
    assert code_claim(clean, [clean]).status == CHECKED, "the control"
    for of_earlier_code in (manifest(), manifest(nothing), manifest(put("machine.loaded_code", NOTHING_ELSE))):
        assert code_claim(of_earlier_code, [clean]).status == NOT_CHECKED, "removed, or from before it was recorded"
        assert code_claim(clean, [of_earlier_code]).status == NOT_CHECKED
    for original, repetition, side in ((edited, clean, "the recorded run"), (clean, edited, "the repetition")):
        found = code_claim(original, [repetition])
        assert found.status == FLAGGED
        assert found.evidence == f"{side}: edited libraries: 1 file (torch: torch/optim/sgd.py)"
    both = code_claim(edited, [stray, stray])
    assert both.status == FLAGGED and both.evidence.endswith(
        "; the repetition: code that belongs to no distribution: 1 file (library /tmp/x.so)"
    )


def test_what_the_recorder_saw_of_a_process_that_records_nothing() -> None:
    """Code of an earlier commit, which its author chooses: before, nothing of it was in the manifest."""
    seen = {"imported_files": {"imported": ["torch"], "checked": 9, "edited": EDITED}, "loaded_code": STRAY}
    found = packages.machine({}, {}, seen)
    assert (found["imported_files"]["edited"], found["loaded_code"]["foreign"]) == (EDITED, STRAY["foreign"])
    clean = {"imported_files": {"imported": [], "checked": 9, "edited": {}}, "loaded_code": NOTHING_ELSE}
    assert packages.machine({}, {}, clean) == {}, "not checked: the process itself has not looked"
