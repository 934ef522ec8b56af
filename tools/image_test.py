"""Tries the image that `make image` built, as runs use it: ``python tools/image_test.py [--engine E] [--image IMAGE]``.

Numbered, as the lines that it prints:

1. the engine has the image, under this digest;
2. inside there is no network, and nothing of the image can be written;
3. inside there is no compiler and no installer;
4. a small run is trained inside, and recorded and signed outside;
5. outside, what was recorded verifies.

Exit code 0 where all hold, 1 where one does not, 3 where it could not be tried: no engine, no such image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ndrepro.execution.containers.container_spec import Enclosure
from ndrepro.execution.containers.engines import ENGINES, ContainerChoice, find
from ndrepro.protocol.errors import EngineError
from provenance.errors import ProvenanceError

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = "lenet_nd_1_digits"
SMALL = ("--set=train_images=96", "--set=test_images=32", "--set=batch_size=16", "--threads=1")
# prints what is wrong, nothing where all is well
_ENCLOSED = """
import os, socket
names = {name for _, name in socket.if_nameindex()}
reachable = []
for family, address in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
    try:
        # a datagram socket that connects sends nothing: it only needs a route
        socket.socket(family, socket.SOCK_DGRAM).connect((address, 9))
        reachable.append(address)
    except OSError:
        pass
if reachable:
    print("there is a network:", ", ".join(sorted(names)))
for folder in ("/", "/srv/ndrepro", "/opt/ndrepro"):
    try:
        open(os.path.join(folder, "written"), "w")
        print(folder, "can be written")
    except OSError:
        pass
"""
_TOOLS = "for each in gcc cc g++ c++ make pip pip3 uv; do command -v $each || true; done"


class Missed(Exception):
    """What did not hold."""


def check(wanted: ContainerChoice, scratch: Path) -> Iterator[tuple[str, str]]:
    """What held, numbered as above: its name and what was seen. Raises Missed with what did not hold."""
    container = find(wanted, "cpu")
    yield "image", f"{container.image}, {container.digest}, in {container.engine} {container.engine_version}"

    def inside(*command: str) -> str:
        try:
            status, said = ENGINES[wanted.engine].output(wanted.engine, wanted.image, Enclosure(command, {}))
        except EngineError as error:
            raise Missed(error.message) from None
        if status:
            raise Missed(said.strip() or f"{command[0]} ended with exit code {status}")
        return said.strip()

    if wrong := inside("python3", "-c", _ENCLOSED):
        raise Missed(wrong)
    yield "enclosed", "no network, nothing of the image can be written"
    if tools := inside("sh", "-c", _TOOLS):
        raise Missed(f"inside there is {', '.join(tools.split())}")
    yield "bare", "no compiler, no installer"

    words = ["run", EXPERIMENT, "--in", wanted.engine, "--image", wanted.image, "--runs", str(scratch / "runs")]
    run = _ndrepro(scratch, *words, *SMALL)
    yield "run", f"{EXPERIMENT}: {run['scores']['step']} steps trained inside, recorded and signed outside"
    verified = _ndrepro(scratch, "verify", EXPERIMENT, "--runs", str(scratch / "runs"))
    yield "verified", f"outside: {len(verified['checks'])} checks"


def _ndrepro(scratch: Path, *words: str) -> dict[str, Any]:
    """What a command of the project answers as JSON, with a key of its own. Raises Missed where it fails."""
    variables = {**os.environ, "NDREPRO_HOME": str(scratch / "keys")}
    command = [sys.executable, "-m", "ndrepro", *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise Missed(done.stderr.strip() or done.stdout.strip())
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main(arguments: Sequence[str]) -> int:
    """The command line above."""
    parser = argparse.ArgumentParser(prog="python tools/image_test.py", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=tuple(ENGINES), default="podman")
    parser.add_argument("--image", help="for podman and docker: ndrepro:latest if left out")
    given = parser.parse_args(arguments)
    number = 0
    with tempfile.TemporaryDirectory(prefix="ndrepro-image-test-") as scratch:
        try:
            for name, seen in check(ContainerChoice.from_words(given.engine, given.image), Path(scratch)):
                number += 1
                print(f"{number:>2} ok   {name + ':':<10} {seen}", flush=True)
        except Missed as error:
            print(f"{number + 1:>2} no   {error}", flush=True)
            return 1
        except ProvenanceError as error:
            print(f"error: {error.message}\n  hint: {error.cure}", file=sys.stderr)
            return 3
    print(f"\nthe image trains: {number} of {number} checks held")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
