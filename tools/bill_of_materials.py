"""The bill of materials of an image, CycloneDX 1.6: what is in it, by package URL, and what it was built on.

    LISTING (run inside the image) ── its answer ──> bill(…) ──> JSON text

Each Python distribution comes with the SHA-256 of the wheel that it was installed from, which is the one that its
index publishes; each package of Debian or Ubuntu with its version; the base image with its digest. The same image
gives the same bytes: the serial number is made from the image's digest, the time is the commit's.

In goes JSON, nothing is asked of an engine here. A text that the format's own schema does not allow is not given out.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.utils import canonicalize_name, parse_wheel_filename

# asked inside the image: what is installed, what it came from, and which system it is
LISTING = """
import json
from importlib.metadata import distributions
lines = lambda path: [line.split() for line in open(path)]
print(json.dumps({
    "distributions": {each.metadata["Name"]: each.version for each in distributions()},
    "wheels": lines("/opt/ndrepro/wheels.sha256"),
    "packages": lines("/usr/share/ndrepro/packages.txt"),
    "system": dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)["ID"].strip('"'),
}))
"""
_BASE_NAME = "org.opencontainers.image.base.name"
_BASE_DIGEST = "org.opencontainers.image.base.digest"


def bill(name: str, digest: str, labels: Mapping[str, str], listing: Mapping[str, Any]) -> str:
    """The bill as text. ``digest`` is the image's ``sha256:…``, ``labels`` its own, ``listing`` what LISTING printed.

    Raises ValueError where a distribution's wheel is not listed, or the result is not CycloneDX.
    """
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"oci:{digest}"))
    bom.metadata.timestamp = datetime.fromisoformat(labels["org.opencontainers.image.created"])
    base = _container(labels[_BASE_NAME].partition("@")[0], labels[_BASE_DIGEST])
    bom.metadata.component = _container(name, digest, Pedigree(ancestors=[base]))
    bom.components.update([*_distributions(listing), *_packages(listing)])
    bom.register_dependency(bom.metadata.component, bom.components)
    text = JsonV1Dot6(bom).output_as_string(indent=1) + "\n"
    check(text)
    return text


def check(text: str) -> None:
    """Raises ValueError, with the place and what is wrong there, where ``text`` is not what CycloneDX 1.6 allows."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        where = "/".join(map(str, getattr(error.data, "absolute_path", ())))
        raise ValueError(f"not CycloneDX 1.6: {where}: {getattr(error.data, 'message', error.data)}")


def _container(name: str, digest: str, pedigree: Pedigree | None = None) -> Component:
    content = HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))
    kind = ComponentType.CONTAINER
    return Component(name=name, version=digest, type=kind, bom_ref=digest, hashes=[content], pedigree=pedigree)


def _distributions(listing: Mapping[str, Any]) -> Iterator[Component]:
    """Each Python distribution with the hash of its wheel, whose name says which build of it this is."""
    files = [(PurePosixPath(path).name, digest) for digest, path in listing["wheels"]]
    wheels = {parse_wheel_filename(file)[:2]: (file, digest) for file, digest in files}
    versions = {(str(name), str(version)): of for (name, version), of in wheels.items()}
    for name, version in listing["distributions"].items():
        key = (canonicalize_name(name), version)
        if key not in versions:
            raise ValueError(f"{name} {version} is installed and no wheel of it is listed: {sorted(versions)}")
        file, digest = versions[key]
        url = PackageURL("pypi", None, key[0], version, qualifiers={"file_name": file})
        yield _library(name, version, url, [HashType(alg=HashAlgorithm.SHA_256, content=digest)])


def _packages(listing: Mapping[str, Any]) -> Iterator[Component]:
    """Each package of the distribution that the base image is."""
    for name, version, architecture in listing["packages"]:
        url = PackageURL("deb", listing["system"], name, version, qualifiers={"arch": architecture})
        yield _library(name, version, url, [])


def _library(name: str, version: str, url: PackageURL, hashes: list[HashType]) -> Component:
    return Component(name=name, version=version, purl=url, bom_ref=str(url), hashes=hashes)
