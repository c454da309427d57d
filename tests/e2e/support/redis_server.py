"""A real redis-server of its own: unix socket and, when asked for, a port; nothing on disk."""

import pathlib
import socket

from .process import Process, free_port, program


class RedisServer(Process):
    def __init__(self, folder, port=False, password=None, options=(), name="redis", env=None):
        self.folder = pathlib.Path(folder)
        self.path = str(self.folder / f"{name}.sock")
        self.password = password
        self.port = port if port > 1 else free_port() if port else 0
        arguments = [program("redis-server"), "--port", self.port, "--unixsocket", self.path, "--unixsocketperm", "700", "--save", "",
                     "--appendonly", "no", "--dir", str(self.folder), "--daemonize", "no", *options]
        if self.port:
            arguments += ["--bind", "127.0.0.1"]
        if password:
            arguments += ["--requirepass", password]
        super().__init__(arguments, folder, name, env=env)
        self.wait_ready(self._answers)

    @property
    def url(self):
        return f"unix://{self.path}"

    @property
    def tcp_url(self):
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}/0"

    def _answers(self):
        try:
            return self.command("PING") == "PONG"
        except (OSError, RuntimeError):
            return False

    def command(self, *words):
        """One command on its own connection; errors of Redis raise RuntimeError."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(self.path)
            with connection.makefile("rb") as reader:
                if self.password:
                    connection.sendall(encode("AUTH", self.password))
                    read_reply(reader)
                connection.sendall(encode(*words))
                return read_reply(reader)

    def keys(self, pattern="*"):
        return sorted(self.command("KEYS", pattern))

    def quotas(self):
        """All keys but those of breakers and of who lives: what these count is told of by and by."""
        return [key for key in self.keys() if not key.startswith(("sluice:{b:", "sluice:{fleet}"))]

    def info(self, section):
        lines = self.command("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def eternal_keys(self):
        """Keys of ours without an expiry; there must never be one."""
        return [key for key in self.keys("sluice:*") if self.command("PTTL", key) == -1]


def encode(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def read_reply(reader):
    """One RESP2 reply; text is decoded."""
    line = reader.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the reply was cut")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        if rest == b"-1":
            return None
        return reader.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return None if rest == b"-1" else [read_reply(reader) for _ in range(int(rest))]
    raise RuntimeError(f"not RESP2: {line!r}")
