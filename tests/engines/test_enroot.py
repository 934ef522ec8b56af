"""Runs in real Enroot, where it is installed: its packages are published as files of its releases and in no registry.

Elsewhere these tests are skipped, in CI too, and only the command line is tested (tests/execution/containers). They
passed with Enroot 4.1.2, built from its source, without its hook for control groups of the first version.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest
from real_engines import SMALL, run

from ndrepro.execution.containers import enroot
from ndrepro.execution.containers.container_spec import Enclosure
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.layout import RunFolder

pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("enroot") is None, reason="enroot is not installed, and no registry has it"),
]


def test_a_container_has_what_was_named_and_no_network(
    squashfs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, foreign, site = (tmp_path / name for name in ("own", "foreign", "enroot/environ.d"))
    for folder in (own, foreign, site):
        folder.mkdir(parents=True)
    (site / "site.env").write_text("SITE=1\n", encoding="utf-8")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("ACCOUNT", "not to be told")
    script = (
        f"touch {own}/x && ! touch {foreign}/x && ! touch /srv/x && touch /tmp/x && command -v python3 && env && "
        "python3 -c 'import socket; print([name for _, name in socket.if_nameindex()])'"
    )
    enclosure = Enclosure(("sh", "-c", script), {"GIVEN": "two words"}, writable=(own,), readable=(foreign,))
    status, said = enroot.output("enroot", squashfs, enclosure)
    assert status == 0, said
    assert (own / "x").stat().st_uid == os.getuid()
    assert "/opt/ndrepro/bin/python3" in said and "GIVEN=two words" in said
    assert "SITE=" not in said and "not to be told" not in said
    assert set(eval(said.splitlines()[-1])) <= {"lo", "tunl0", "sit0", "ip6tnl0", "gre0", "erspan0", "gretap0"}


def test_a_run_in_it_verifies_and_is_reproduced(squashfs: str, tmp_path: Path) -> None:
    words, keys = [sys.executable, "-m", "ndrepro"], str(tmp_path / "keys")
    place = ["--in=enroot", f"--image={squashfs}", f"--runs={tmp_path / 'runs'}"]
    said = run(*words, "run", "lenet_nd_1_digits", *SMALL, *place, "--quiet", NDREPRO_HOME=keys)
    manifest = read_recorded(RunFolder(Path(said.strip()))).manifest
    assert manifest.external_parameters["container"]["digest"] == enroot.find("enroot", squashfs).digest
    assert manifest.machine["container"]["engine"] == "enroot"
    run(*words, "verify", said.strip(), NDREPRO_HOME=keys)
    again = run(*words, "reproduce", said.strip(), f"--runs={tmp_path / 'runs'}", NDREPRO_HOME=keys)
    assert "verdict    identical" in again
