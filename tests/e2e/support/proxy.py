"""The fault proxy (tests/support/fault_proxy.h) in front of a server: what it can be told is listed in that header."""

import subprocess
import threading

from .process import DEADLINE, die_with_parent, binary


class FaultProxy:
    """`target`: "tcp:127.0.0.1:port" or "unix:/path"; `listen_path`: a unix socket to listen on, else a free port."""

    def __init__(self, target, listen_path=None):
        listen = f"unix:{listen_path}" if listen_path else "tcp:127.0.0.1:0"
        self.child = subprocess.Popen([binary("tests/fault-proxy"), "--listen", listen, "--connect", target], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1, preexec_fn=die_with_parent)
        first = self._line()
        if not first.startswith("listening "):
            raise RuntimeError(f"fault-proxy: {first!r}")
        self.path = listen_path
        self.port = None if listen_path else int(first.rsplit(":", 1)[1])
        self.url = None if listen_path else f"http://127.0.0.1:{self.port}"

    def _line(self):
        """Its next line; a child that is silent for too long is killed, so that a test cannot hang here."""
        guard = threading.Timer(DEADLINE, self.child.kill)
        guard.start()
        try:
            return self.child.stdout.readline().strip()
        finally:
            guard.cancel()

    def tell(self, command):
        """One command; it is in force when this returns. Its answer."""
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        answer = self._line()
        if not answer or answer.startswith("error"):
            raise RuntimeError(f"fault-proxy: {command!r}: {answer or 'it ended'}")
        return answer

    def clear(self):
        for command in ("delay 0", "slice 0", "stall off", "refuse off", "drop-reply-every 0", "error-every 0"):
            self.tell(command)

    def count(self, counter):
        """connections, open, replies, dropped, errors, cut, up, down (bytes)"""
        words = self.tell("counters").split()
        return int(words[words.index(counter) + 1])

    def close(self):
        self.child.stdin.close()
        try:
            self.child.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(DEADLINE)
        self.child.stdout.close()
