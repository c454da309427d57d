"""Child processes that cannot outlive their test: killed by the kernel when the test runner dies, by their pid when the test ends."""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("SLUICE_BUILD", ROOT / "build")).resolve()
DEADLINE = 30.0  # seconds for "it happens at all"; nothing is measured by it

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def binary(name):
    """A program of this build; a test that needs one that is not built fails, it is not skipped."""
    path = BUILD / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not built; run `make` first")
    return str(path)


def free_port():
    """A port that was free a moment ago, for programs that cannot bind port 0 themselves."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, what, deadline=DEADLINE, interval=0.01):
    """Calls `condition` until it gives something true, and returns that; fails with `what` when the deadline is over."""
    end = time.monotonic() + deadline
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= end:
            raise TimeoutError(f"{what}: not within {deadline} s")
        time.sleep(interval)


class Process:
    """One child. What it prints goes to files in `folder`, so that a full pipe never stops it."""

    def __init__(self, arguments, folder, name, env=None, cwd=None):
        self.name = name
        self.arguments = [str(a) for a in arguments]
        self.stdout_path = pathlib.Path(folder) / f"{name}.out"
        self.stderr_path = pathlib.Path(folder) / f"{name}.err"
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.child = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, cwd=cwd,
                                          preexec_fn=die_with_parent)

    @property
    def pid(self):
        return self.child.pid

    def stdout(self):
        return self.stdout_path.read_text(errors="replace")

    def stderr(self):
        return self.stderr_path.read_text(errors="replace")

    def alive(self):
        return self.child.poll() is None

    def wait_ready(self, ready):
        """Until `ready()` is true; a child that ends instead is an error with its last words."""

        def check():
            if not self.alive():
                raise RuntimeError(f"{self.name} ended with {self.child.returncode}\n{self.stdout()[-2000:]}\n{self.stderr()[-4000:]}")
            return ready()

        return wait_until(check, f"{self.name} is ready")

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, timeout=DEADLINE):
        return self.child.wait(timeout)

    def kill(self):
        """SIGKILL, and gone when it returns."""
        if self.alive():
            self.child.kill()
        self.child.wait(DEADLINE)

    def stop(self, timeout=DEADLINE):
        """SIGTERM; SIGKILL for one that does not listen. The exit code."""
        if self.alive():
            self.child.send_signal(signal.SIGCONT)
            self.child.terminate()
            try:
                self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.child.kill()
        return self.child.wait(DEADLINE)


def cpu_seconds(pid):
    """User and system time of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmRSS")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
