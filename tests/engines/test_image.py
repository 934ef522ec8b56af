"""The image: the same commit gives the same bits, and nothing is in it that a run does not need."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import locks
import pytest
from bill_of_materials import check
from cpu_lock import entries
from real_engines import BASE, ROOT, SMALL, build, need, run

from ndrepro.execution.containers import engines, image_attestation
from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.execution.containers.image_archive import ImageArchive
from ndrepro.execution.containers.image_attestation import beside
from ndrepro.execution.environments.lockfile import read_pins
from provenance.attestation.dsse import verify_envelope
from provenance.attestation.trust import TrustPolicy
from provenance.capture.distribution_metadata import normalized
from provenance.errors import ManifestError

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1200)]
# enough for the build's every step, without the gigabyte of torch
QUERY = "${Package} ${Version}\\n"
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
SMALL_LOCK = ("psutil", "numpy", "packaging", "nvidia-ml-py")


class Attested(NamedTuple):
    """A built image: its name, the digest that the build printed, and the key home with the statements on it."""

    tag: str
    digest: str
    home: Path


def inside(image: str, *command: str) -> str:
    words = ["podman", "run", "--rm", "--network=none", "--read-only", "--tmpfs=/tmp", f"--entrypoint={command[0]}"]
    return run(*words, image, *command[1:])


def layers(image: str) -> list[str]:
    return list(json.loads(run("podman", "image", "inspect", "--format", "{{json .RootFS.Layers}}", image)))


def small_lock(cpu_lock: Path, target: Path, *names: str) -> Path:
    pins = [text for name, text in entries(cpu_lock.read_text(encoding="utf-8")) if name in names]
    target.write_text("".join(pins), encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def attested(clone: Path, cpu_lock: Path, base: str, scratch: Path) -> Iterator[Attested]:
    """A small image with signed statements on it."""
    lock, home = small_lock(cpu_lock, scratch / "attested.lock", *SMALL_LOCK[1:]), scratch / "image-keys"
    tag = "localhost/ndrepro-attested:latest"
    yield Attested(tag, build(clone, tag, base, lock, "--attest", NDREPRO_HOME=str(home)), home)
    run("podman", "rmi", "--force", tag)


def test_two_builds_of_a_commit_have_one_digest(
    clone: Path, cpu_lock: Path, base: str, scratch: Path, attested: Attested
) -> None:
    """The second from another folder, cloned later, by somebody whose files and archives nobody else may read."""
    lock = small_lock(cpu_lock, scratch / "small.lock", *SMALL_LOCK)
    first = build(clone, "localhost/ndrepro-once:latest", base, lock, "--no-cache")
    private = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "tar.umask",
        "GIT_CONFIG_VALUE_0": "0077",
        "TZ": "Asia/Tokyo",
    }
    before = os.umask(0o077)
    try:
        run("git", "clone", "--quiet", str(clone), str(scratch / "elsewhere"))
        again = build(scratch / "elsewhere", "localhost/ndrepro-again:latest", base, lock, "--no-cache", **private)
    finally:
        os.umask(before)
    elsewhere, label = scratch / "elsewhere", '{{index .Labels "org.opencontainers.image.revision"}}'
    run(*GIT, "commit", "--quiet", "--allow-empty", "--message=the same files", cwd=elsewhere)
    earlier = layers("localhost/ndrepro-again:latest")
    build(elsewhere, "localhost/ndrepro-again:latest", base, lock)
    revision = run("podman", "image", "inspect", "--format", label, "localhost/ndrepro-again:latest").strip()
    assert revision == run("git", "rev-parse", "HEAD", cwd=elsewhere).strip(), (
        "no earlier commit's image out of a cache"
    )
    # below: the base, Python, torch and its CUDA libraries, the other libraries
    later, below = layers("localhost/ndrepro-again:latest"), 4
    assert (earlier[:below], set(earlier[below:]) & set(later[below:])) == (later[:below], set())
    others = layers(attested.tag)
    run("podman", "rmi", "--force", *(f"localhost/ndrepro-{name}:latest" for name in ("once", "again")))
    assert first == again
    assert first != attested.digest, "the control: another lock, another image"
    assert [a == b for a, b in zip(later[:below], others, strict=False)] == [True, True, True, False], "one layer"


def test_statements_on_an_image_are_kept_with_its_archive_and_hold_for_no_other(
    clone: Path, scratch: Path, attested: Attested
) -> None:
    archive, home = scratch / "kept" / "attested.tar", attested.home
    words = [sys.executable, str(clone / "tools" / "image.py"), "save", "--engine=podman", f"--tag={attested.tag}"]
    run(*words, f"--out={archive}", cwd=clone, NDREPRO_HOME=str(home))
    found, keys = engines.find(ContainerChoice("podman", attested.tag), "cpu"), TrustPolicy.load(home).keys()
    kept = beside(archive).read_bytes()
    image_attestation.check(kept, found.digests, keys)
    assert found.identifier == ImageArchive.read(archive).configuration
    provenance, bill = (json.loads(verify_envelope(line, keys).payload) for line in kept.splitlines())
    source, *_ = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"]["gitCommit"] == run("git", "rev-parse", "HEAD", cwd=clone).strip()
    assert "base-files" in {each["name"] for each in bill["predicate"]["components"]}
    with pytest.raises(ManifestError, match="another image"):
        image_attestation.check(kept, [f"sha256:{'0' * 64}"], keys)


def test_cosign_verifies_both_statements_by_the_runbooks_commands(attested: Attested) -> None:
    need("cosign", "jq")
    (block,) = re.findall(r"(?ms)^ *```console\n(.*?)```", (ROOT / "runbooks/laptop.md").read_text(encoding="utf-8"))
    (statements,) = (attested.home / "images").glob("*.jsonl")
    digest = statements.name.partition(".")[0]
    text = block.replace(".venv/bin/ndrepro", f"{sys.executable} -m ndrepro").replace("DIGEST", digest)
    bill = text.replace("sed -n 1p", "sed -n 2p").replace("slsaprovenance1", "cyclonedx")
    other = text.replace(f"--digest {digest}", f"--digest {'0' * 64}")
    assert len({text, bill, other}) == 3
    wanted = [(text, True, "Verified OK"), (bill, True, "Verified OK"), (other, False, "does not match any digest")]
    for commands, holds, said in wanted:
        words, variables = ["bash", "-euo", "pipefail", "-c", commands], {"NDREPRO_HOME": str(attested.home)}
        done = subprocess.run(
            words, cwd=statements.parent, env={**os.environ, **variables}, capture_output=True, text=True
        )
        (statements.parent / "key.pub").unlink()
        assert (done.returncode == 0, said in done.stderr) == (holds, True), done.stderr


def test_a_changed_hash_stops_the_build(clone: Path, cpu_lock: Path, base: str, scratch: Path) -> None:
    text = next(text for name, text in entries(cpu_lock.read_text(encoding="utf-8")) if name == "packaging")
    lock = scratch / "forged.lock"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", text), encoding="utf-8")
    with pytest.raises(AssertionError, match="exit code"):
        build(clone, "localhost/ndrepro-forged:latest", base, lock)


def test_the_image_has_no_root_no_compiler_and_no_installer(image: str) -> None:
    assert inside(image, "id", "-u").strip() == "65534"
    tools = inside(image, "sh", "-c", "command -v gcc cc g++ c++ make pip pip3 uv || true")
    assert tools == ""
    assert inside(image, "sh", "-c", "find / -xdev -name __pycache__ | head -1") == ""
    with pytest.raises(AssertionError, match="Read-only file system"):
        inside(image, "touch", "/srv/ndrepro/x")


def test_labels_name_the_commit_its_date_and_the_base(image: str, clone: Path) -> None:
    labels = json.loads(run("podman", "image", "inspect", "--format", "{{json .Labels}}", image))
    commit, created = run("git", "show", "-s", "--format=%H %cI", "HEAD", cwd=clone).split()
    assert labels["org.opencontainers.image.revision"] == commit
    assert labels["org.opencontainers.image.created"].startswith(created[:4])
    assert labels["org.opencontainers.image.base.name"] == BASE


def test_a_run_inside_the_image_alone_verifies(image: str) -> None:
    script = """
        export NDREPRO_HOME=/tmp/keys
        ndrepro run lenet_nd_1_digits --set train_images=96 --set test_images=32 --threads 1 --runs /tmp/runs
        ndrepro verify lenet_nd_1_digits --runs /tmp/runs
    """
    assert "\nverified" in f"\n{inside(image, 'sh', '-euc', script).lower()}"


def test_a_compiled_network_is_refused_before_training_for_want_of_a_compiler(image: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "ndrepro", "run", "lenet_nd_1_digits", *SMALL, "--set=compile=true"]
    words += ["--in=podman", f"--image={image}", f"--runs={tmp_path / 'runs'}"]
    done = subprocess.run(words, env={**os.environ, "NDREPRO_HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 3 and "error: compile=true: there is no g++" in done.stderr, done.stderr
    assert "hint: " in done.stderr and "the image that `make image` builds has none" in done.stderr
    assert not list(tmp_path.glob("runs/*/*/metrics.jsonl")), "no step was trained"


def test_the_bill_of_materials_has_every_wheel_every_package_and_the_base(
    image: str, clone: Path, cpu_lock: Path
) -> None:
    words = [sys.executable, str(clone / "tools" / "image.py"), "sbom", "--engine", "podman", "--tag", image]
    text = run(*words, cwd=clone)
    check(text)
    with pytest.raises(ValueError, match="not CycloneDX"):
        check(text.replace('"container"', '"vessel"'))
    document = json.loads(text)
    listed: dict[str, dict[str, Any]] = {"pypi": {}, "deb": {}}
    for component in document["components"]:
        listed[component["purl"].removeprefix("pkg:").partition("/")[0]][component["name"]] = component
    assert len(listed["pypi"]) + len(listed["deb"]) == len(document["components"])

    lock = cpu_lock.read_text(encoding="utf-8")
    hashes = {(pin.name, pin.version): pin.hashes for pin in read_pins(lock, cpu_lock.name)}
    libraries = {(normalized(name), each["version"]): each["hashes"] for name, each in listed["pypi"].items()}
    assert libraries.keys() == locks.pins_here(lock).items()
    assert all(f"sha256:{wheel['content']}" in hashes[pin] for pin, (wheel,) in libraries.items())
    installed = dict(line.split() for line in inside(image, "dpkg-query", "-W", "-f", QUERY).splitlines())
    assert {name: component["version"] for name, component in listed["deb"].items()} == installed

    found = document["metadata"]["component"]
    assert found["version"] == run("podman", "image", "inspect", "--format", "{{.Digest}}", image).strip()
    (base,) = found["pedigree"]["ancestors"]
    assert base["version"] == run("podman", "image", "inspect", "--format", "{{.Digest}}", base["name"]).strip()


def lint(dockerfile: Path) -> tuple[int, str]:
    program = str(Path(sys.executable).with_name("hadolint"))
    done = subprocess.run([program, str(dockerfile)], capture_output=True, text=True)
    return done.returncode, done.stdout


def test_the_dockerfile_has_no_lint(tmp_path: Path) -> None:
    assert lint(ROOT / "Dockerfile") == (0, "")
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (tmp_path / "Dockerfile").write_text(text.replace("# hadolint ignore=DL3008\n", "", 1), encoding="utf-8")
    code, said = lint(tmp_path / "Dockerfile")
    assert (code, "DL3008" in said) == (1, True), "the control"


def try_image(image: str) -> tuple[int, list[str], str]:
    words = [sys.executable, str(ROOT / "tools" / "image_test.py"), "--engine=podman", f"--image={image}"]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_the_image_is_tried_as_runs_use_it_and_another_does_not_pass(image: str, base: str) -> None:
    code, lines, error = try_image(image)
    assert (code, lines[-1]) == (0, "the image trains: 5 of 5 checks held"), (lines, error)
    code, lines, _ = try_image(base)
    assert (code, len(lines), lines[-1].startswith(" 2 no   ")) == (1, 2, True), lines
    code, lines, error = try_image("localhost/no-such-image")
    assert (code, lines) == (3, [])
    assert error.startswith("error: podman has no image localhost/no-such-image\n  hint: ")
