"""Which signals a program has had itself: those of the group and of the terminal, and not those for the recorder."""

from __future__ import annotations

import json
import subprocess
import sys

from recorded_programs import ROOT

SCRIPT = """
import json, os, signal, time
from ndrepro.execution.programs.arriving_signals import ArrivingSignals

def read(signals):
    while not (found := signals.read()):
        time.sleep(0.001)
    return [[each.number, each.shared] for each in found if each.number != signal.SIGCHLD]

signal.signal(signal.SIGUSR2, signal.SIG_IGN)
with ArrivingSignals() as signals:
    found = []
    os.killpg(0, signal.SIGTERM)
    found.append(read(signals))
    os.kill(os.getpid(), signal.SIGTERM)
    found.append(read(signals))
    os.killpg(0, signal.SIGINT)
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR1)
    found.append(sorted(read(signals)))
    sentinel = signals.sentinel
print(json.dumps([found, os.path.exists(f"/proc/{sentinel}"), list(signal.pthread_sigmask(signal.SIG_BLOCK, []))]))
"""


def test_what_is_sent_to_the_group_is_shared_and_what_is_sent_to_this_process_is_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=True, start_new_session=True
    )
    found, sentinel_lives, blocked = json.loads(done.stdout)
    assert found == [[[15, True]], [[15, False]], [[2, True], [10, False]]], "an ignored signal is left alone"
    assert (sentinel_lives, blocked) == (False, [])
