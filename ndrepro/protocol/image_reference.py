"""A container image as an environment of a study: which engine, which image, and the digest that makes it this one.

    podman:NAME[:TAG]@sha256:…       docker:NAME[:TAG]@sha256:…
    apptainer:FILE.sif@sha256:…      enroot:FILE.sqsh@sha256:…

The digest has to be there. A tag is moved by the next build and a file is written anew, and then a study would go on
in another image under the same name. It is the image's own: of its configuration (its ID, which stays when it is saved
and loaded elsewhere), or of its manifest, as registries have it; for Apptainer and Enroot that of the file. What the
image is called is no part of what it is: a run in it is the same run whatever the image was called then, and wherever
a file lay. The engine is: each sets up a container in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import UsageError

MAIN = "main"  # the environment that ndrepro itself runs in, as manifests call it
ENGINES = ("docker", "podman", "apptainer", "enroot")
# those whose images are files
FILE_ENGINES = ("apptainer", "enroot")
_PIN = "@sha256:"
_NAMING = ("engine", "identifier", "digest")
_SHOWN = 12  # hexadecimal digits, as the engines themselves shorten an ID


@dataclass(frozen=True)
class PinnedImage:
    """One image: ``digest`` is "sha256:" and 64 hexadecimal digits. Law: ``from_text(str(image)) == image``."""

    engine: str
    image: str
    digest: str

    @classmethod
    def from_text(cls, text: str) -> PinnedImage:
        """Read an environment's name. Raises UsageError that begins with ``environment=``."""
        engine, colon, rest = text.partition(":")
        if not colon or engine not in ENGINES:
            raise UsageError(f"environment={text!r}: no container image", f"one begins with {', '.join(_PREFIXES)}")
        image, pin, digits = rest.rpartition(_PIN)
        if not pin or not image:
            name, ask = "NAME", f"{engine} image inspect --format '{{{{.Id}}}}' NAME"
            if engine in FILE_ENGINES:
                name, ask = "FILE", "sha256sum FILE"
            raise UsageError(
                f"environment={text!r}: no digest, so another image may be called that tomorrow",
                f"write {engine}:{name}{_PIN}…; `{ask}` prints it",
            )
        if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
            raise UsageError(
                f"environment={text!r}: {digits!r} is no SHA-256", f"{_PIN} and 64 lower-case hexadecimal digits"
            )
        return cls(engine, image, f"sha256:{digits}")

    def __str__(self) -> str:
        return f"{self.engine}:{self.reference}"

    @property
    def reference(self) -> str:
        """The image with its digest, as ``--image`` takes it."""
        return f"{self.image}@{self.digest}"

    @property
    def key(self) -> str:
        """Equal for one image whatever it is called."""
        return f"{self.engine}@{self.digest}"

    @property
    def label(self) -> str:
        """Short, for tables and figures: podman:00be816f81ca."""
        return f"{self.engine}:{self.digest.partition(':')[2][:_SHOWN]}"


_PREFIXES = tuple(f"{engine}:" for engine in ENGINES)


def is_image(environment: str) -> bool:
    """Whether an environment's name is that of an image, well formed or not; no cell of the version matrix is."""
    return environment.startswith(_PREFIXES)


def key_of(environment: str) -> str:
    """What makes an environment this one: its name, or the image's engine and digest. Raises UsageError."""
    return PinnedImage.from_text(environment).key if is_image(environment) else environment


def located(environment: str) -> str:
    """The environment as it is found from any folder: an image file by its absolute path. Raises UsageError."""
    if not environment.startswith(tuple(f"{engine}:" for engine in FILE_ENGINES)):
        return environment
    image = PinnedImage.from_text(environment)
    return str(replace(image, image=str(Path(image.image).absolute())))


def label_of(environment: str) -> str:
    """The environment for people: its name, an image's short one. Raises UsageError."""
    return PinnedImage.from_text(environment).label if is_image(environment) else environment


def location_words(environment: str) -> str:
    """Where runs in that environment are, for people: in an image, "in podman:00be816f81ca", or in none."""
    return f"in {label_of(environment)}" if is_image(environment) else "outside of containers"


def recorded_in(environment: str, container: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Where a recorded run was, under every name that a study may ask for it, that for people first.

    ``environment`` and ``container`` are those of its request, or of its manifest's external parameters: a run in a
    container has the name of the environment that it would have had outside, which says nothing.
    """
    if not container:
        return (environment or MAIN,)
    engine, digests = container["engine"], own_digests(**{name: container[name] for name in _NAMING})
    return tuple(str(PinnedImage(engine, container["image"], digest)) for digest in digests)


def own_digests(engine: str, identifier: str, digest: str) -> tuple[str, ...]:
    """The digests by which an image is asked for: its ID, which stays when it is loaded elsewhere, then its manifest's.

    Of an image file its own alone: the ID in its label is whatever its maker wrote.
    """
    digests = (digest,) if engine in FILE_ENGINES else (identifier, digest)
    return tuple(dict.fromkeys(filter(None, digests)))
