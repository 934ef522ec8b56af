"""Programs in containers and in conda's environments: what is seen is recorded, and nothing of this machine instead."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from image_statements import Build, statements
from recorded_programs import Programs, RecordedProgram

from ndrepro.execution.containers.command_image import command_image
from ndrepro.execution.containers.image_attestation import beside, write
from ndrepro.execution.verification.program_checks import CHECKS
from ndrepro.protocol.program_record import IMAGE, IMAGE_ATTESTATION
from provenance.attestation.ledger import Ledger
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.digest import file_digest

BUILD = Build(
    *("ndrepro:latest", frozenset[str](), "b" * 40, "", "base", "", "d" * 64, "podman", "4.3.1", "amd64"),
    *("2026-11-21T09:30:00Z", "2026-11-21T09:31:00Z"),
)
PODMAN, APPTAINER = Path("/missing/podman"), Path("/missing/apptainer")


@pytest.mark.parametrize(
    ("executable", "words", "image"),
    [
        (PODMAN, ("podman", "run", "fedora:40", "python", "-v", "x.py"), "fedora:40"),
        (
            PODMAN,
            ("podman", "run", "--rm", "-it", "-v", "/a:/a", "-e", "X", "--name=run", "--gpus", "all", "a/b", "x"),
            "a/b",
        ),
        (PODMAN, ("podman", "--log-level=debug", "run", "-itv", "/a:/b", "a"), "a"),
        (PODMAN, ("podman", "run", "--rm"), ""),
        (PODMAN, ("podman", "ps"), None),
        (APPTAINER, ("apptainer", "exec", "--nv", "-B", "/a:/b", "--pwd", "/a", "i.sif", "python", "-x"), "i.sif"),
        (APPTAINER, ("apptainer", "run", "docker://fedora"), "docker://fedora"),
        (Path("/bin/sh"), ("sh", "run", "a"), None),
    ],
)
def test_the_image_of_a_command_is_found_behind_its_options(
    executable: Path, words: Sequence[str], image: str | None, tmp_path: Path
) -> None:
    found = command_image(executable, words, tmp_path, tmp_path)
    assert (found.image if found else None) == image
    assert found is None or (not found.sha256 and found.reason), "nothing is there: the reason is"


def test_the_image_file_of_a_container_is_a_dependency_and_nothing_inside_is_said_to_be_known(
    programs: Programs,
) -> None:
    Path("apptainer").write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    Path("apptainer").chmod(0o755)
    Path("image.sif").write_bytes(b"an image")
    recorded = programs.record("./apptainer", "exec", "image.sif", "true")
    image = recorded.manifest.dependency(IMAGE)
    assert image is not None and image.digest == {"sha256": hashlib.sha256(b"an image").hexdigest()}
    assert (image.uri, image.annotations) == ("image.sif", {"engine": "apptainer"})
    assert recorded.record.unobserved.startswith("it ran in a container of apptainer")
    assert programs.record("true").manifest.dependency(IMAGE) is None, "the control"


def test_a_command_refers_to_the_signed_statements_on_its_image_and_says_why_to_no_others(programs: Programs) -> None:
    Path("apptainer").write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    Path("apptainer").chmod(0o755)
    image, command = Path("image.sif"), ("./apptainer", "exec", "image.sif", "true")
    image.write_bytes(b"an image")
    digests = frozenset({f"sha256:{file_digest(image).sha256}"})
    write(beside(image), statements(replace(BUILD, digests=digests), "{}"), programs.home)
    recorded = programs.record(*command)
    attestation = recorded.manifest.dependency(IMAGE_ATTESTATION)
    assert attestation is not None and attestation.digest == {"sha256": file_digest(beside(image)).sha256}
    ledger = Ledger(programs.runs.ledger)
    trust = TrustPolicy.load(programs.home)
    assert verify(recorded.folder.root, trust=trust, ledger=ledger, extra_checks=CHECKS).ok
    image.write_bytes(b"another image")
    finished = programs.finish(*command)
    manifest = RecordedProgram.of(finished.folder).manifest
    described = manifest.dependency(IMAGE)
    assert finished.outcome == "completed" and manifest.dependency(IMAGE_ATTESTATION) is None
    assert described is not None and "another image" in str((described.annotations or {})["attestation"])
    assert any("statements on the image: not referred to" in note for note in finished.notes)


def test_packages_and_files_of_another_file_system_are_not_taken_for_those_here(programs: Programs) -> None:
    """The program sees other folders under paths that exist here as well, as in a container."""
    space = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*space, "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    for folder, version in (("packages", "1.0"), ("inside", "2.0")):
        Path(folder, f"thing-{version}.dist-info").mkdir(parents=True)
        Path(folder, f"thing-{version}.dist-info", "METADATA").write_text(f"Name: thing\nVersion: {version}\n")
        Path(folder, "data.txt").write_text(version)
    here = Path.cwd() / "packages"
    program = f"import sys; sys.path.append({str(here)!r}); open({str(here / 'data.txt')!r}).read()"
    Path("program.py").write_text(program)
    recorded = programs.record(sys.executable, "program.py")
    assert recorded.record.distributions["thing"] == "1.0" and "packages/data.txt" in recorded.listed("inputs")
    mounted = f"mount --bind inside packages && exec {sys.executable} program.py"
    recorded = programs.record(*space, "sh", "-c", mounted)
    assert recorded.record.distributions["thing"] == "2.0"
    assert "packages/data.txt" not in recorded.listed("inputs")
    thing = recorded.manifest.dependency("distribution:thing")
    assert thing is not None and "not on this machine" in str(thing.digest)


def test_conda_packages_of_the_interpreter_are_recorded(programs: Programs, tmp_path: Path) -> None:
    prefix = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    (prefix / "conda-meta").mkdir()
    package = {"name": "mkl", "version": "2024.0", "build": "h1", "channel": "main", "sha256": "0" * 64}
    (prefix / "conda-meta" / "mkl-2024.0-h1.json").write_text(json.dumps(package))
    manifest = programs.record(str(prefix / "bin" / "python"), "-c", "pass").manifest
    assert manifest.machine["conda"]["mkl"]["version"] == "2024.0"  # type: ignore[index]
