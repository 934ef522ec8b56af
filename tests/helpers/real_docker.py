"""Docker daemons for tests: each on a socket of its own, without a network, with all its state in one folder.

What they differ in is what users' daemons differ in: the store of images, whether they remap users, and whether they
are root's or an ordinary user's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

CONFIGURATIONS = {
    "containerd": {"features": {"containerd-snapshotter": True}},
    "classic": {"features": {"containerd-snapshotter": False}},
    "remapped": {"features": {"containerd-snapshotter": False}, "userns-remap": "builder"},
    "rootless": {"features": {"containerd-snapshotter": False}},
}
# the ordinary user that .ci/engines has put into that root
USER = 2000
# Docker's own script makes the namespaces; a network device that only root may open would stop it
_ROOTLESS = f"""
export HOME="$0" XDG_RUNTIME_DIR="$0" PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs tmpfs /dev/net && mknod -m 666 /dev/net/tun c 10 200
exec setpriv --reuid {USER} --regid {USER} --clear-groups /usr/share/docker.io/contrib/dockerd-rootless.sh "$@"
"""
_ALONE = {"bridge": "none", "iptables": False, "ip6tables": False, "shutdown-timeout": 1}


class Daemon:
    """One daemon; ``variables`` are those with which clients reach it, ``caller`` the words that make one its user."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder / kind
        self.folder.mkdir()
        self.socket = self.folder / "docker.sock"
        program = shutil.which("dockerd")
        assert program is not None
        path = f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}"  # its own client, which has buildx
        self.variables = {"DOCKER_HOST": f"unix://{self.socket}", "PATH": path}
        settings = self.folder / "daemon.json"
        settings.write_text(json.dumps({**CONFIGURATIONS[kind], **_ALONE}), encoding="utf-8")
        self.caller: list[str] = []
        start: list[str | Path] = [program]
        if kind == "rootless":
            os.chown(self.folder, USER, USER)
            # as that user, who may read a checkout in a home folder that nobody else may enter
            self.caller = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
            self.caller += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
            start = [Path(program).with_name("newest-debian"), "sh", "-c", _ROOTLESS, self.folder]
        words = [*start, "--config-file", settings, "-H", f"unix://{self.socket}", "-p", self.folder / "pid"]
        words += ["--data-root", self.folder / "data", "--exec-root", self.folder / "run"]
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, words)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_ready(self, seconds: float = 60.0) -> None:
        """Until it answers."""
        deadline = time.monotonic() + seconds
        while subprocess.run(["docker", "info"], env={**os.environ, **self.variables}, capture_output=True).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError((self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.2)

    def stop(self) -> None:
        """End it, and with it what it runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
