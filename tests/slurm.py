"""A real SLURM on this machine alone: munge, a controller and one node, for as long as a test takes.

Debian's packages munge, slurmctld, slurmd and slurm-client do it without systemd. The configuration must lie in
``/etc/slurm``, or the ``srun`` of a job does not find it, so this needs to be root on a machine that has no SLURM yet.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

CONFIGURATION = Path("/etc/slurm/slurm.conf")
OURS = "# made by a test of the book, and of no use after it\n"
TEMPLATE = OURS + """\
ClusterName=book
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no SLURM here; empty where there can."""
    programs = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name, path=PATH)]
    if programs:
        return f"needs {', '.join(programs)}: install Debian's munge, slurmctld, slurmd, slurm-client"
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "needs snakemake-executor-plugin-slurm: make cluster"
    if os.getuid():
        return "needs root, to start a SLURM"
    if CONFIGURATION.exists() and not CONFIGURATION.read_text().startswith(OURS):
        return f"{CONFIGURATION} is there already: this machine has a SLURM of its own"
    return ""


PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(what: str, true, processes: dict, seconds: float = 60) -> None:
    """Until it is true; a process that has ended meanwhile will not make it so."""
    deadline = time.monotonic() + seconds
    while not true():
        ended = [name for name, process in processes.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise RuntimeError(f"no {what}: {', '.join(ended) or 'nobody'} ended; see the logs of the test")
        time.sleep(0.2)


def sweep() -> None:
    """End what a test that was killed has left."""
    text = CONFIGURATION.read_text() if CONFIGURATION.exists() else ""
    for name, file in re.findall(r"^(Slurmctld|Slurmd)PidFile=(.+)$", text, flags=re.MULTILINE):
        with contextlib.suppress(OSError, ValueError):
            pid = int(Path(file).read_text())
            if name.lower() in Path("/proc", str(pid), "cmdline").read_text():
                os.kill(pid, signal.SIGTERM)


@contextlib.contextmanager
def running(folder: Path, cores: int):
    """Start it, wait until its node takes jobs, and at the end leave nothing behind."""
    sweep()
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(TEMPLATE.format(host=host, folder=folder, cores=cores, ports=free_ports(2)))
    environment, processes = {**os.environ, "PATH": PATH}, {}

    def start(name, *command):
        with (folder / f"{name}.log").open("w") as log:
            processes[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)

    def idle():
        said = subprocess.run(["sinfo", "-h", "-o", "%T"], text=True, capture_output=True, check=False, env=environment)
        return said.stdout.strip() == "idle"

    try:
        door = Path("/run/munge")
        if subprocess.run(["munge", "-n"], capture_output=True, check=False, env=environment).returncode:
            door.mkdir(exist_ok=True)
            shutil.chown(door, "munge", "munge")
            start("munged", "runuser", "-u", "munge", "--", "munged", "--foreground")
            wait_for("munge", lambda: (door / "munge.socket.2").exists(), processes)
        start("slurmctld", "slurmctld", "-D")
        start("slurmd", "slurmd", "-D", "-N", host)
        wait_for("node", idle, processes)
        yield
    finally:
        for process in reversed(processes.values()):
            process.terminate()
        for process in processes.values():
            process.wait(timeout=60)
        CONFIGURATION.unlink()
