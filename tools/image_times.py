"""The same image with reproducible times, from an archive as `docker save` writes it.

docker's classic image store cannot set the times of the files in an image (the containerd store can, by an exporter
that writes an archive). So there the image is saved, each file of a layer that was built gets the time that was asked
for at the latest, and the result is loaded. Layers of the base image stay as they are.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from ndrepro.execution.containers.image_archive import image_entry, read_member


def with_times(source: Path, target: Path, seconds: int) -> None:
    """Write the image of ``source`` to ``target``; no file that was built is later than ``seconds`` since 1970."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        entry = image_entry(old)
        config = json.loads(read_member(old, entry["Config"]))
        built = _built(config, seconds)
        layers: list[str] = []
        for name, is_built in zip(entry["Layers"], built, strict=True):
            with tempfile.TemporaryFile(dir=target.parent) as layer:
                content = old.extractfile(name)
                assert content is not None
                if is_built:
                    _rewrite(content, layer, seconds)
                else:
                    shutil.copyfileobj(content, layer)
                layers.append(_add_layer(new, layer))
        config["rootfs"]["diff_ids"] = [f"sha256:{layer}" for layer in layers]
        data = json.dumps(config, separators=(",", ":")).encode()
        name = f"{hashlib.sha256(data).hexdigest()}.json"
        _add(new, name, data)
        paths = [f"{layer}.tar" for layer in layers]
        _add(new, "manifest.json", json.dumps([{**entry, "Config": name, "Layers": paths}]).encode())


def _built(config: dict[str, Any], seconds: int) -> list[bool]:
    """For each layer whether it is the build's, which has given it its time; the others are the base image's."""
    stamp = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    history = [step for step in config["history"] if not step.get("empty_layer")]
    return [step.get("created") == stamp for step in history]


def _rewrite(source: IO[bytes], target: IO[bytes], seconds: int) -> None:
    with tarfile.open(fileobj=source) as old, tarfile.open(fileobj=target, mode="w") as new:
        for member in old:
            member.mtime = min(int(member.mtime), seconds)
            kept = {key: value for key, value in member.pax_headers.items() if key not in ("mtime", "atime", "ctime")}
            member.pax_headers = kept
            new.addfile(member, old.extractfile(member) if member.isreg() else None)


def _add_layer(archive: tarfile.TarFile, layer: IO[bytes]) -> str:
    """Add a layer under its digest, once."""
    layer.seek(0)
    digest = hashlib.file_digest(layer, "sha256").hexdigest()  # type: ignore[arg-type]
    name = f"{digest}.tar"
    if name not in archive.getnames():
        info = tarfile.TarInfo(name)
        info.size = layer.tell()
        layer.seek(0)
        archive.addfile(info, layer)
    return digest


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
