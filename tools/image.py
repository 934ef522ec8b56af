"""Builds the image and what is made of it, from the commit that is checked out: ``python tools/image.py COMMAND``.

    build   the image, from Dockerfile, under the tag ndrepro:COMMIT (twelve digits) and ndrepro:latest
    sif     an Apptainer file of that image; one that is there already, of this very image, is kept
    save    the image as an archive (--out), to be kept with the runs that were made in it
    sbom    its bill of materials, CycloneDX 1.6, on standard output or in --out

Only what is committed goes in, laid out as git archives it. Its time in the image is the commit's, that of the
libraries below it the date of the distribution's archive that the Dockerfile pins: whoever builds the same commit on
the same base gets the same digest, and two commits with the same lock share every layer but the project's. The builder
is podman or docker, whichever is there (``--engine``). Where packages come from elsewhere, --wheels, --pip-conf, --ca
and the environment's variables of proxies reach the build with either, and leave nothing in the image. With --platform
linux/arm64 it is for another processor than this machine's, which must then emulate it (Debian: qemu-user-static).

With --attest, how the image was built and its bill of materials are signed with this machine's key; runs in the image
then name these statements. ``sif`` and ``save`` put a copy beside their file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from image_times import with_times

from ndrepro.execution.containers import docker_engine
from ndrepro.execution.containers.engines import ContainerChoice, find
from ndrepro.execution.containers.image_archive import ImageArchive, copy_attestation
from ndrepro.execution.containers.image_attestation import beside, find_statements, write_for_file
from provenance.attestation.key_home import default_home
from provenance.errors import ProvenanceError

ROOT = Path(__file__).resolve().parents[1]
TAG = "ndrepro:latest"
# what an image of the libraries is called, with a digest of what it is made of
LIBRARIES = "localhost/ndrepro-libraries"
# build arguments that both builders know of themselves, in either case, and keep out of the image
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


def main(arguments: Sequence[str]) -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(prog="python tools/image.py", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=("build", "sif", "save", "sbom"))
    parser.add_argument("--engine", choices=("podman", "docker"), default=None)
    parser.add_argument("--tag", default=TAG)
    parser.add_argument("--base", help="another base image than the Dockerfile's")
    parser.add_argument("--lock", type=Path, help="another lock than runtime.lock")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels to install instead of asking an index")
    parser.add_argument("--pip-conf", type=Path, metavar="FILE", help="pip's configuration during the build")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="certificates (PEM) that the build trusts")
    parser.add_argument(
        "--platform", default="", metavar="OS/PROCESSOR", help="e.g. linux/arm64; by default this machine's"
    )
    parser.add_argument("--no-cache", action="store_true")
    parser.add_argument("--attest", action="store_true", help="sign the build's provenance and bill of materials")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    engine = given.engine or next((each for each in ("podman", "docker") if shutil.which(each)), None)
    if engine is None:
        sys.exit("error: neither podman nor docker is there\n  hint: install one, e.g. apt install podman")
    try:
        if given.command == "build":
            started = datetime.now(UTC)
            options = sources(given)
            built = build(engine, given.tag, given.base, given.lock, options, given.no_cache, given.platform)
            if given.attest:
                attest(engine, given.tag, started, given.lock)
            print(built)
        elif given.command == "sif":
            print(to_sif(engine, given.tag, given.out or ROOT / "dist" / "ndrepro.sif"))
        elif given.command == "save":
            print(save(engine, given.tag, given.out or ROOT / "dist" / "ndrepro.tar"))
        else:
            text = sbom(engine, given.tag)
            given.out.write_text(text, encoding="utf-8") if given.out else print(text, end="")
    except ProvenanceError as error:
        sys.exit(f"error: {error.message}\n  hint: {error.cure}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {error.cmd[0]} ended with exit code {error.returncode}\n  hint: see what it printed above")
    return 0


def build(
    engine: str, tag: str, base: str | None, lock: Path | None, sources: list[str], no_cache: bool, platform: str = ""
) -> str:
    """Build and tag; the image's digest. ``lock`` takes the place of the tree's own, ``sources`` are options."""
    commit = git("rev-parse", "HEAD")
    seconds = int(git("show", "--no-patch", "--format=%ct", "HEAD"))
    created = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    choices = {"REVISION": commit, "CREATED": created}
    choices |= {"BASE_IMAGE": base, "BASE_DIGEST": base_digest(engine, base)} if base else {}
    with tempfile.TemporaryDirectory(prefix="ndrepro-image-") as scratch:
        tree = Path(scratch)
        export(tree)
        # a file among those copied: builders' caches look at files, and podman's not at the values of arguments
        (tree / "image.txt").write_text("".join(f"{name} {value}\n" for name, value in choices.items()))
        (tree / "image.txt").chmod(0o644)
        if lock is not None:
            shutil.copyfile(lock, tree / "runtime.lock")
            (tree / "runtime.lock").chmod(0o644)
        words = [word for name, value in choices.items() for word in ("--build-arg", f"{name}={value}")]
        words += [*sources, *(["--no-cache"] if no_cache else [])]
        words += ["--platform", platform] if platform else []
        libraries = libraries_tag(tree, choices, platform)
        if no_cache or not is_there(engine, libraries):
            build_stage(engine, [*words, "--target", "libraries", str(tree)], [libraries], archive_seconds(tree))
        words += ["--build-arg", f"LIBRARIES={libraries}", str(tree)]
        build_stage(engine, words, [tag, f"ndrepro:{commit[:12]}"], seconds)
    return digest(engine, tag)


def libraries_tag(tree: Path, choices: Mapping[str, str], platform: str = "") -> str:
    """The name of the image of the libraries, by what it is made of: base, platform, lock and Dockerfile."""
    base = "".join(f"{name} {choices.get(name, '')}\n" for name in ("BASE_IMAGE", "BASE_DIGEST"))
    made_of = [(base + platform).encode(), (tree / "runtime.lock").read_bytes(), (tree / "Dockerfile").read_bytes()]
    return f"{LIBRARIES}:{hashlib.sha256(b''.join(made_of)).hexdigest()[:12]}"


def archive_seconds(tree: Path) -> int:
    """The date of the distribution's archive that the Dockerfile pins, in seconds since 1970."""
    pinned = re.search(r"(?m)^ARG APT_SNAPSHOT=(\d{8}T\d{6})Z$", (tree / "Dockerfile").read_text(encoding="utf-8"))
    if pinned is None:
        sys.exit("error: Dockerfile: no ARG APT_SNAPSHOT=\n  hint: name the archive's date, as 20260901T000000Z")
    return int(datetime.strptime(pinned[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp())


def is_there(engine: str, tag: str) -> bool:
    """Whether the engine has an image of that name."""
    return subprocess.run([engine, "image", "inspect", tag], capture_output=True).returncode == 0


def build_stage(engine: str, words: Sequence[str], tags: Sequence[str], seconds: int) -> None:
    """Build under names; no file that is made is later than ``seconds`` since 1970."""
    words = [*(word for tag in tags for word in ("--tag", tag)), *words]
    if engine == "podman":
        subprocess.run(["podman", "build", "--timestamp", str(seconds), *words], check=True, stdout=sys.stderr)
    else:
        build_with_docker(words, tags[0], seconds)


def sources(given: argparse.Namespace) -> list[str]:
    """The builder's options for where packages come from: a context, secrets, and arguments that no layer keeps."""
    for path in (given.wheels, given.pip_conf, given.ca):
        if path is not None and not path.exists():
            sys.exit(f"error: {path}: no such file or folder\n  hint: tools/cpu_lock.py fetches wheels")
    words = ["--build-context", f"wheels={given.wheels.resolve()}"] if given.wheels else []
    for name, path in (("pip_conf", given.pip_conf), ("ca", given.ca)):
        words += ["--secret", f"id={name},src={path.resolve()}"] if path else []
    proxies = [name for name in os.environ if name.lower() in PROXIES and os.environ[name]]
    return words + [word for name in sorted(proxies) for word in ("--build-arg", f"{name}={os.environ[name]}")]


def build_with_docker(words: Sequence[str], tag: str, seconds: int) -> None:
    """Build to an archive with reproducible times, load it, and check that the engine then has that very image.

    The containerd store has an exporter for that; the classic one has none, see ``image_times``.
    """
    command = ["docker", "buildx", "build", "--provenance=false", "--build-arg", f"SOURCE_DATE_EPOCH={seconds}"]
    with tempfile.TemporaryDirectory(prefix="ndrepro-archive-") as scratch:
        archive = Path(scratch, "image.tar")
        if "io.containerd.snapshotter" in said("docker", "info", "--format", "{{json .DriverStatus}}"):
            exporter = f"type=docker,dest={archive},rewrite-timestamp=true"
            subprocess.run([*command, "--output", exporter, *words], check=True, stdout=sys.stderr)
        else:
            subprocess.run([*command, "--load", *words], check=True, stdout=sys.stderr)
            saved = Path(scratch, "saved.tar")
            subprocess.run(["docker", "save", "--output", str(saved), tag], check=True, stdout=sys.stderr)
            with_times(saved, archive, seconds)
            saved.unlink()
        subprocess.run(["docker", "load", "--quiet", "--input", str(archive)], check=True, stdout=sys.stderr)
        built, loaded = ImageArchive.read(archive).digests, digest("docker", tag)
    if loaded not in built:
        sys.exit(
            f"error: docker has {tag} as {loaded}, built was {' or '.join(sorted(built))}\n"
            "  hint: another process may have loaded an image of that name: build again"
        )


def export(tree: Path) -> None:
    """The committed files in ``tree``, with the modes that git knows and no others."""
    with tempfile.TemporaryFile() as archive:
        words = ["git", "-c", "tar.umask=0022", "archive", "--format=tar", "HEAD"]
        subprocess.run(words, cwd=ROOT, stdout=archive, check=True)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as opened:
            opened.extractall(tree, filter="tar")
    if git("status", "--porcelain", "--untracked-files=no"):
        print("note: what is changed and not committed is not in the image", file=sys.stderr)


def digest(engine: str, tag: str) -> str:
    """The digest by which the engine knows the image."""
    field = "{{.Digest}}" if engine == "podman" else "{{.Id}}"
    return said(engine, "image", "inspect", "--format", field, tag)


def base_digest(engine: str, base: str) -> str:
    """The digest of a base image's manifest: the one that its name pins, else of what the name means now, fetched if
    need be; "" for an image that docker's classic store has and no registry: it has no manifest."""
    pinned = base.partition("@")[2]
    if pinned:
        return pinned
    if subprocess.run([engine, "image", "inspect", base], capture_output=True).returncode:
        subprocess.run([engine, "pull", base], check=True, stdout=sys.stderr)
    if engine == "podman":
        return digest(engine, base)
    known = said(engine, "image", "inspect", "--format", "{{range .RepoDigests}}{{println .}}{{end}}", base)
    return known.splitlines()[0].rpartition("@")[2] if known else ""


def to_sif(engine: str, tag: str, target: Path) -> str:
    """The image as one file that Apptainer runs; its path."""
    if shutil.which("apptainer") is None:
        sys.exit("error: apptainer is not there\n  hint: install it, or run this where it is")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".sif-", dir=target.parent) as scratch:
        if target.exists() and engine == "podman" and identifier(engine, tag, target) == file_identifier(target):
            print(f"note: {target} is of this image already", file=sys.stderr)
            return str(target)
        archive = Path(scratch, "image.tar")
        docker_engine.save(engine, tag, archive)
        definition = Path(scratch, "image.def")
        image = identifier(engine, tag, archive)
        label = f"ndrepro.image.identifier {image}"
        definition.write_text(f"Bootstrap: docker-archive\nFrom: {archive}\n\n%labels\n    {label}\n", encoding="utf-8")
        words = ["apptainer", "build", "--force", "--mksquashfs-args", "-comp zstd -Xcompression-level 3"]
        subprocess.run([*words, str(target), str(definition)], check=True, stdout=sys.stderr)
    made_of, home = find(ContainerChoice(engine, tag), "cpu"), default_home()
    found = find_statements(engine, tag, made_of.digests, home)
    if found is None:
        beside(target).unlink(missing_ok=True)
    else:
        write_for_file(found.read_bytes(), made_of.digests, target, home)
    return str(target)


def file_identifier(file: Path) -> str:
    """The digest of the image's configuration that an Apptainer file is labelled with; "" of any other file."""
    done = subprocess.run(["apptainer", "inspect", "--json", "--labels", str(file)], capture_output=True, text=True)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(done.stdout)["data"]["attributes"]["labels"]["ndrepro.image.identifier"])
    return ""


def save(engine: str, tag: str, target: Path) -> str:
    """The image as one archive, which `podman load` and `docker load` take; its path. None is written over."""
    if target.exists():
        sys.exit(f"error: {target} is there already\n  hint: name another file with --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".save-", dir=target.parent) as scratch:
        archive = Path(scratch, "image.tar")
        docker_engine.save(engine, tag, archive)
        archive.rename(target)
    copy_attestation(find(ContainerChoice(engine, tag), "cpu"), target, default_home())
    return str(target)


def identifier(engine: str, tag: str, archive: Path) -> str:
    """The digest of the image's configuration: it stays the same in every file that is made of the image."""
    if engine == "podman":
        return "sha256:" + said(engine, "image", "inspect", "--format", "{{.Id}}", tag)
    return ImageArchive.read(archive).configuration


def sbom(engine: str, tag: str) -> str:
    """The bill of materials of the image, asked inside it."""
    from bill_of_materials import LISTING, bill

    words = [engine, "run", "--rm", "--network", "none", "--entrypoint", "python3", tag, "-c", LISTING]
    listing = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    labels = json.loads(said(engine, "image", "inspect", "--format", "{{json .Config.Labels}}", tag))
    return bill(tag, digest(engine, tag), labels, listing)


def attest(engine: str, tag: str, started: datetime, lock: Path | None) -> None:
    """Sign how the image was built and what is in it, and put that into the key home."""
    from image_statements import Build, statements

    from ndrepro.execution.containers.image_attestation import kept_at, write
    from provenance.formats.digest import file_digest
    from provenance.formats.strict_json import timestamp
    from provenance.redaction.redact import redact_text

    image = find(ContainerChoice(engine, tag), "cpu")
    labels = json.loads(said(engine, "image", "inspect", "--format", "{{json .Config.Labels}}", tag))
    remote = subprocess.run(["git", "remote", "get-url", "origin"], cwd=ROOT, capture_output=True, text=True).stdout
    commit, inside = git("rev-parse", "HEAD"), labels["org.opencontainers.image.revision"]
    if inside != commit:
        sys.exit(f"error: {tag} is of commit {inside}, checked out is {commit}\n  hint: build again with --no-cache")
    made = Build(
        image=tag,
        digests=image.digests,
        commit=commit,
        remote=redact_text(remote.strip()),
        base=labels["org.opencontainers.image.base.name"],
        base_digest=labels["org.opencontainers.image.base.digest"],
        lock=file_digest(lock or ROOT / "runtime.lock").sha256,
        engine=engine,
        engine_version=image.engine_version,
        machine=said(engine, "image", "inspect", "--format", "{{.Architecture}}", tag),
        started=timestamp(started),
        finished=timestamp(),
    )
    path = kept_at(default_home(), image.identifier)
    write(path, statements(made, sbom(engine, tag)), default_home())
    print(f"attested   {path}", file=sys.stderr)


def git(*arguments: str) -> str:
    """What git answers, on one line."""
    return said("git", *arguments)


def said(*command: str) -> str:
    """The output of a command, without its newline."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
