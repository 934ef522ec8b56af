"""A neighbour on the machine joins a run of several processes in the place of one of them, and sends what he likes.

Before, documents were gathered as torch's objects: what he sent was unpickled, that is executed, in the user's process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROCESS = """
import os, sys
import torch
from ndrepro.protocol.errors import PeerLost
from ndrepro.training.compute.batch_share import Share
from ndrepro.training.process_group import Several

class Executed:
    def __reduce__(self):
        return os.mkdir, (sys.argv[2],)

if os.environ["RANK"] == "0":
    group = Several(Share(0, 2), 0, "process", torch.device("cpu"))
    try:
        print(group._gather({"data": [1, 2**63 - 1]}))
    except PeerLost as error:
        print("refused:", error.message)
elif sys.argv[1] == "document":
    print(Several(Share(1, 2), 1, "process", torch.device("cpu"))._gather({"data": None}))
else:
    torch.distributed.init_process_group("gloo")
    if sys.argv[1] == "pickle":
        torch.distributed.all_gather_object([None, None], Executed())
    elif sys.argv[1] == "large":
        torch.distributed.all_gather([torch.zeros(1, dtype=torch.int64)] * 2, torch.tensor([1 << 40]))
"""


def joined(word: str, target: Path) -> list[str]:
    """What each of two processes prints, of which the second is the neighbour's."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common |= {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, word, str(target)],
            env={**common, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in range(2)
    ]
    return [process.communicate()[0] for process in processes]


@pytest.mark.parametrize(("word", "why"), [("pickle", "no document"), ("large", "bytes")])
def test_what_he_sends_is_no_code(tmp_path: Path, word: str, why: str) -> None:
    first, _ = joined(word, tmp_path / "executed")
    assert not (tmp_path / "executed").exists()
    assert "refused:" in first and why in first, first


def test_two_processes_of_a_run_exchange_documents(tmp_path: Path) -> None:
    """The control."""
    assert joined("document", tmp_path) == ["[{'data': [1, 9223372036854775807]}, {'data': None}]\n"] * 2
