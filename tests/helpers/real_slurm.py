"""A Slurm cluster with accounting, on the loopback, with all its state in one folder; for tests, as root.

Its nodes are all this machine: each has a slurmd of its own, at a port of its own. The partition "main", the
default one, has the first of them, "all" has every one.

Order: munged, mariadbd, slurmdbd, the cluster's entry, slurmctld, slurmd. Each is asked until it answers, none is
waited for blindly. Two devices stand for GPUs. Everything that was started is stopped by its own process.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_SCHEDULING_SECONDS = 2  # as the configuration below has it
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "sbatch", "sacctmgr")


class Cluster:
    """``nodes`` of them; ``variables`` are those with which Slurm's commands reach it.

    ``plugin`` is a line for Slurm's plug-ins of jobs (SPANK), "" for none.
    """

    def __init__(self, folder: Path, nodes: int = 1, plugin: str = "") -> None:
        self.folder = folder
        self.plugin = plugin
        self.host = socket.gethostname().split(".")[0]
        self.nodes = tuple(f"node{number}" for number in range(1, nodes + 1))
        self.ports = _free_ports(2 + nodes)
        self.variables = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Bring it up; a minute at most."""
        for name in ("run", "log", "state", "spool", "db"):
            (self.folder / name).mkdir(parents=True)
        self._write_configuration()
        self._munge()
        self._database()
        self._daemon("slurmdbd", "-D")
        until(lambda: self.ask("sacctmgr", "-n", "show", "cluster") is not None, "slurmdbd")
        self.ask("sacctmgr", "-i", "add", "cluster", "ci")
        self.ask("sacctmgr", "-i", "add", "account", "ci", "cluster=ci")
        self.ask("sacctmgr", "-i", "add", "user", "root", "account=ci", "cluster=ci")
        self._daemon("slurmctld", "-D")
        until(lambda: self.ask("scontrol", "ping") is not None, "slurmctld")
        for node in self.nodes:
            self._daemon("slurmd", "-D", "-N", node)
        ready = ["idle"] * len(self.nodes)
        until(lambda: (self.ask("sinfo", "-h", "-N", "-p", "all", "-o", "%T") or "").split() == ready, "slurmd")

    def stop(self) -> None:
        """Cancel what runs, then end every process that was started, newest first."""
        self.ask("scancel", "--user=root")
        for process in reversed(self._started):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def ask(self, *words: str) -> str | None:
        """What one of Slurm's commands says; None where it fails."""
        done = subprocess.run(words, env={**os.environ, **self.variables}, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else None

    def put_forward(self, job: str) -> None:
        """A job that was put back starts about two minutes later, unless told otherwise."""

        def waits() -> bool:
            return "PENDING" in (self.ask("squeue", "-h", "-j", job, "-o", "%T") or "")

        def leaves() -> bool:
            # Slurm may set its own time after this one: asked again for as long as the job waits
            if waits():
                self.ask("scontrol", "update", f"jobid={job}", "StartTime=now")
                time.sleep(2 * _SCHEDULING_SECONDS)
            return not waits()

        until(waits, f"job {job} to be put back", 60)
        time.sleep(_SCHEDULING_SECONDS)  # in the second in which it was put back another node would refuse it
        until(leaves, f"job {job} to start again", 180)

    def see_through(self, job: str, seconds: float = 300.0) -> None:
        """Until a job is over; whenever it was put back it is put forward."""

        def over() -> bool:
            waiting = self.ask("squeue", "-h", "-j", job, "-o", "%T")
            if "PENDING" in (waiting or ""):
                time.sleep(_SCHEDULING_SECONDS)
                self.ask("scontrol", "update", f"jobid={job}", "StartTime=now")
            return not waiting

        until(over, f"job {job}", seconds)

    def _daemon(self, *words: str, **variables: str) -> None:
        with (self.folder / "log" / f"{words[0]}.out").open("ab") as log:
            process = subprocess.Popen(
                words,
                env={**os.environ, **self.variables, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started.append(process)

    def _munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        run = self.folder / "run"
        run.chmod(0o755)
        sock = run / "munge.sock"
        files = [f"--pid-file={run}/munged.pid", f"--seed-file={run}/munged.seed"]
        files += [f"--log-file={self.folder}/log/munged.log", f"--key-file={key}"]
        self._daemon("munged", "--foreground", "--force", f"--socket={sock}", *files)
        until(sock.exists, "munged")

    def _database(self) -> None:
        folder, sock = self.folder / "db", self.folder / "run" / "mysql.sock"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={folder}", "--user=root", "--skip-test-db"],
            check=True,
            capture_output=True,
        )
        files = [f"--datadir={folder}", f"--socket={sock}", f"--pid-file={self.folder}/run/mariadb.pid"]
        small = ["--skip-networking", "--user=root", "--innodb-buffer-pool-size=64M"]
        self._daemon("mariadbd", "--no-defaults", *files, *small)
        words = ["mariadb", "--no-defaults", f"--socket={sock}", "-e", "CREATE DATABASE IF NOT EXISTS slurm_acct_db"]
        until(lambda: subprocess.run(words, capture_output=True).returncode == 0, "mariadbd")
        self.variables["MYSQL_UNIX_PORT"] = str(sock)

    def _write_configuration(self) -> None:
        folder, (control, database, *ports) = self.folder, self.ports
        gpus = []
        for number in range(2):
            gpus.append(folder / f"fakegpu{number}")
            subprocess.run(["mknod", str(gpus[-1]), "c", "1", "3"], check=True)
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in gpus), encoding="utf-8")
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (1 << 20) * 8 // 10
        here = f"NodeHostname={self.host} NodeAddr=127.0.0.1 CPUs=4 RealMemory={memory} Gres=gpu:2 State=UNKNOWN"
        machines = "\n".join(
            f"NodeName={name} Port={port} {here}" for name, port in zip(self.nodes, ports, strict=True)
        )
        auth = f"AuthType=auth/munge\nAuthInfo=socket={folder}/run/munge.sock\n"
        (folder / "plugstack.conf").write_text(self.plugin, encoding="utf-8")
        (folder / "slurm.conf").write_text(
            f"""ClusterName=ci
SlurmctldHost={self.host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
{auth}SlurmctldPort={control}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
JobRequeue=1
KillWait=10
MinJobAge=3600
MaxArraySize=5
ReturnToService=2
CommunicationParameters=NoInAddrAny
SlurmdParameters=config_overrides
MpiDefault=none
PlugStackConfig={folder}/plugstack.conf
GresTypes=gpu
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database}
AccountingStoragePass={folder}/run/munge.sock
AccountingStorageTRES=gres/gpu
{machines}
PartitionName=main Nodes={self.nodes[0]} Default=YES MaxTime=60 State=UP DefMemPerCPU=1500
PartitionName=all Nodes={",".join(self.nodes)} MaxTime=60 State=UP DefMemPerCPU=1500
""",
            encoding="utf-8",
        )
        private = folder / "slurmdbd.conf"
        private.write_text(
            f"""{auth}DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={database}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageUser=root
StorageLoc=slurm_acct_db
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
""",
            encoding="utf-8",
        )
        private.chmod(0o600)


def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def missing() -> list[str]:
    """Programs that a cluster needs and that are not there."""
    return [program for program in PROGRAMS if shutil.which(program) is None]
