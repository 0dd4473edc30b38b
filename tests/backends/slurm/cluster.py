"""A real Slurm on this machine: slurmctld, one slurmd and munge in a folder of their own, on ports of their own.

Debian: `apt-get install slurm-wlm munge`. Everything runs as root, which slurmd needs; nothing outside the folder is
read or written, so that a Slurm that is set up on the machine is left alone.
"""

import os
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scontrol", "srun", "scancel")
CPUS = 8
_START_DEADLINE_S = 30.0
_STOP_DEADLINE_S = 10.0


def installed() -> bool:
    """Whether a cluster can be started here."""
    return os.geteuid() == 0 and all(map(shutil.which, PROGRAMS))


class Cluster:
    """One node with eight processors, whatever the machine has; `environment` leads Slurm's commands to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Cluster":
        with ExitStack() as stack:
            self._write_configuration()
            stack.callback(self._stop_all)
            self._start("munged", "--foreground", "--force", *self._munge_options())
            self._wait_for("munge", "--no-input", f"--socket={self.folder / 'munge.socket'}")
            self._start("slurmctld", "-D", "-c")
            self._start("slurmd", "-D", "-N", "here")
            self.wait_until_up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.command("scancel", "--user=root", "--full", "--signal=KILL")
        self._stack.close()

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One of Slurm's commands."""
        environment = os.environ | self.environment
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def restart_controller(self) -> None:
        """Ends slurmctld, as for maintenance, and starts it again from what it has saved."""
        self._end("slurmctld")
        self._start("slurmctld", "-D")
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Until the controller takes jobs for the node."""
        self._wait_for("sh", "-c", "sinfo --noheader --format=%T | grep -E 'idle|mixed|allocated'")

    def start_now(self, job_id: str) -> bool:
        """Starts a task that was queued again at once, for which Slurm itself would wait two minutes."""
        waiting = self.command("squeue", "--noheader", f"--jobs={job_id}", "--states=PENDING", "--format=%i").stdout
        return (
            bool(waiting.strip())
            and not self.command("scontrol", "update", f"JobId={job_id}", "StartTime=now").returncode
        )

    def log(self, name: str) -> str:
        """What a daemon wrote."""
        return (self.folder / f"{name}.out").read_text(errors="replace")

    def _munge_options(self) -> list[str]:
        named = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "log-file": "munge.log"}
        options = [f"--{option}={self.folder / name}" for option, name in named.items()]
        return [*options, f"--seed-file={self.folder / 'munge.seed'}"]

    def _write_configuration(self) -> None:
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        controller, node = _free_ports(2)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (self.folder / "slurm.conf").write_text(
            f"""\
ClusterName=tests
SlurmctldHost=localhost
SlurmUser=root
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={self.folder}/munge.socket
CredType=cred/munge
StateSaveLocation={self.folder}/state
SlurmdSpoolDir={self.folder}/spool
SlurmctldPidFile={self.folder}/slurmctld.pid
SlurmdPidFile={self.folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=300
MaxArraySize=101
NodeName=here NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 CPUs={CPUS} RealMemory=20000
PartitionName=main Nodes=here Default=YES MaxTime=INFINITE State=UP
"""
        )

    def _start(self, program: str, *options: str) -> None:
        with (self.folder / f"{program}.out").open("ab") as out:
            self._processes[program] = subprocess.Popen(
                [program, *options], env=os.environ | self.environment, stdout=out, stderr=out, start_new_session=True
            )

    def _wait_for(self, *words: str) -> None:
        deadline_s = time.monotonic() + _START_DEADLINE_S
        while (found := self.command(*words)).returncode:
            ended = [name for name, process in self._processes.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline_s:
                logs = "\n".join(f"{name}:\n{self.log(name)[-2000:]}" for name in self._processes)
                raise RuntimeError(f"Slurm does not start ({ended} ended): {found.stderr}\n{logs}")
            time.sleep(0.1)

    def _end(self, program: str) -> None:
        process = self._processes.pop(program)
        process.terminate()
        try:
            process.wait(_STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _stop_all(self) -> None:
        for program in reversed(list(self._processes)):
            self._end(program)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
