"""Child processes that cannot outlive their test: killed by the kernel when the test runner dies, by their pid when the test ends."""

import ctypes
import errno
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("SLUICE_BUILD", ROOT / "build")).resolve()
DEADLINE = 30.0  # seconds for "it happens at all"; nothing is measured by it
LONG = bool(os.environ.get("SLUICE_LONG"))  # the long form of the tests that have one, on a machine without other work


def sanitized():
    """Whether the build under test is one with a sanitizer."""
    return BUILD.name in ("asan", "tsan")


def promised(seconds):
    """The bound to hold where a promise says `seconds`: these in the long form; ten times as much in the suite, which may run under sanitizers beside
    other work, and tells there only what waits for the wrong thing."""
    return seconds if LONG else 10 * seconds

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


_claims = []  # the ports given out, each held by a socket until this process ends


def _ports():
    """Those that the kernel gives to no outgoing connection, from a random one on."""
    end = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first, end = 10240, end if end > 20480 else 65536
    start = random.randrange(first, end)
    return [*range(start, end), *range(first, start)]


def free_port():
    """A port for a program that cannot bind port 0 itself: nobody listens there, and no other run of the tests is given it. Its claim is the name of an
    abstract unix socket, which the kernel frees with this process; to bind the port itself until then would keep the program from it."""
    for port in _ports():
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            claim.bind(f"\0sluice-test-port-{port}")
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        _claims.append(claim)
        return port
    raise RuntimeError("no free port")


def accepts(port):
    """Whether somebody answers at that port of the loopback."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def program(name):
    """The path of an installed program; servers may lie where only root's PATH looks."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return found


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
