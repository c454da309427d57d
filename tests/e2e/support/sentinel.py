"""A Redis that fails over: a master, two replicas, three Sentinels, all real, on ports of their own."""

import pathlib
import socket

from .process import Process, free_port, program, wait_until
from .redis_server import RedisServer, encode, read_reply

NAME = "main"
QUESTIONS = 2  # of a gateway's, each time


class Sentinel(Process):
    """One redis-server --sentinel; it rewrites its configuration, so that is a file of its own."""

    def __init__(self, folder, master_port, name, down_after_ms=500, quorum=2, epoch=0, password=None):
        self.port, self.password = free_port(), password
        home = pathlib.Path(folder) / name
        home.mkdir()
        path = home / "sentinel.conf"
        path.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {home}\nsentinel monitor {NAME} 127.0.0.1 {master_port} {quorum}\n"
                        f"sentinel down-after-milliseconds {NAME} {down_after_ms}\nsentinel failover-timeout {NAME} 3000\nsentinel parallel-syncs {NAME} 2\n"
                        f"sentinel config-epoch {NAME} {epoch}\n" + (f"requirepass {password}\n" if password else ""))
        super().__init__([program("redis-server"), path, "--sentinel"], folder, name)
        self.wait_ready(lambda: self.master() is not None)

    def command(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            with connection.makefile("rb") as reader:
                if self.password:
                    connection.sendall(encode("AUTH", self.password))
                    read_reply(reader)
                connection.sendall(encode(*words))
                return read_reply(reader)

    def wait_for_looks(self, count, connections):
        """Until it has been asked that often over each of so many connections. How many new ones were made for that."""
        first, own = self._stats(), 0

        def looked():
            nonlocal own
            own += 1
            commands = self._stats()["total_commands_processed"] - first["total_commands_processed"]
            return commands - own * (2 if self.password else 1) >= count * connections * QUESTIONS

        wait_until(looked, f"it is asked {count} times", interval=0.1)
        return self._stats()["total_connections_received"] - first["total_connections_received"] - own - 1

    def _stats(self):
        return {name: int(value) for name, _, value in (line.partition(":") for line in self.command("INFO", "stats").splitlines()) if value.isdigit()}

    def master(self):
        """The port that it names; None: it does not answer."""
        try:
            return int(self.command("SENTINEL", "get-master-addr-by-name", NAME)[1])
        except (OSError, RuntimeError, TypeError):
            return None

    def knows(self):
        """How many replicas and other Sentinels it has found."""
        fields = self.command("SENTINEL", "MASTER", NAME)
        fields = dict(zip(fields[::2], fields[1::2]))
        return int(fields["num-slaves"]), int(fields["num-other-sentinels"])


class Watched:
    """start(kind, …): the fixture of that name."""

    def __init__(self, start, folder, replicas=2, sentinels=3, down_after_ms=500):
        self.servers = [start(RedisServer, port=True, options=["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"])]
        master = self.servers[0].port
        for _ in range(replicas):
            self.servers.append(start(RedisServer, port=True, options=["--replicaof", "127.0.0.1", master, "--repl-diskless-sync-delay", "0"]))
        wait_until(lambda: all(s.info("replication").get("master_link_status", "up") == "up" for s in self.servers), "the replicas are in step", deadline=30)
        self.sentinels = [start(Sentinel, master, down_after_ms=down_after_ms) for _ in range(sentinels)]
        wait_until(lambda: all(s.knows() == (replicas, sentinels - 1) for s in self.sentinels), "the Sentinels know all", deadline=30)

    @property
    def url(self):
        return "sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels) + f"/{NAME}"

    def elect_no_more(self):
        """However long a busy machine keeps the new master from answering: what the old one knew is compared with the one elected after it."""
        for sentinel in self.sentinels:
            sentinel.command("SENTINEL", "SET", NAME, "down-after-milliseconds", 60000)

    def elections(self):
        """As many as the Sentinel has seen that saw most of them."""
        return max(sentinel.stdout().count("+switch-master ") for sentinel in self.sentinels)

    def master(self):
        """The server that most name."""
        named = [s.master() for s in self.sentinels]
        return next((s for s in self.servers if named.count(s.port) * 2 > len(named)), None)
