"""Sentinels that say anything: no real one can be brought to. What one says depends on its seed and on how many connections it has had, on nothing else."""

import contextlib
import random
import socket
import struct
import threading
import time

from .redis_server import encode

TRUTH_EPOCH = 5


def _array(*parts):
    return b"*%d\r\n" % len(parts) + b"".join(parts)


def address(host, port):
    return encode(host, port)


def configuration(epoch):
    """What a client reads of SENTINEL MASTER."""
    return encode("name", "main", "config-epoch", epoch)


def odd_addresses(port):
    good = address("127.0.0.1", port)
    return [*(address("127.0.0.1", number) for number in (0, -1, 70000, 10**23)), address("", 1), address("x" * 255, 1), address("x" * 256, 1), address("x" * 100000, 1),
            address("127.0.0.1\0more", port), address("%n%s%x", 1), address("nobody.invalid", 1), address("::1", port), address(b"\xff\xfe", 2), encode("127.0.0.1"),
            _array(b"$9\r\n127.0.0.1\r\n", b":%d\r\n" % port), _array(encode("a"), _array()), good + good, b"*-1\r\n", b"$-1\r\n", b"*0\r\n", b"*1000000000\r\n",
            b"$999999999\r\n", b"*2\r\n" * 20, b"-NOAUTH Authentication required.\r\n", b"-ERR\r\n", b":12\r\n", b"+OK\r\n", b"rubbish\r\n", b""]


def odd_configurations(chance):
    return [*(configuration(epoch) for epoch in (-1, 0, 2**63 - 1, 2**70, "x", chance.randrange(100))), _array(encode("config-epoch"), _array()), encode("config-epoch"),
            encode(*["config-epoch"] * 1000), configuration(1) * 2, b"*1\r\n$1\r\na\r\n", b"*-1\r\n", b"*0\r\n", b"-NOPERM no\r\n", b":1\r\n", b""]


def read_command(reader):
    """Its words; None: the client has left."""
    line = reader.readline()
    if not line:
        return None
    return [reader.read(int(reader.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]


def asks_who(words):
    return words[1:2] == [b"get-master-addr-by-name"]


def lie(words, port, chance):
    if words[0] == b"AUTH":
        return chance.choice([b"+OK\r\n", b"-ERR no password is set\r\n"])
    if not asks_who(words):
        return chance.choice(odd_configurations(chance))
    return chance.choice(odd_addresses(port)) if chance.random() < 0.5 else address("127.0.0.1", port)


class LyingSentinel:
    """It names one server, after `pause` seconds, and `pause_more` later the epoch. With `lies` (ports) it names one of these every second time, else it says what is odd; and that broken, cut, late, twice, and when
    nobody asked."""

    def __init__(self, seed, named):
        self.seed = seed
        self.lock = threading.Lock()
        self.asked = self.connections = 0
        self.open = {}  # by their number
        self.names(named)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def names(self, port, epoch=TRUTH_EPOCH, pause=0, pause_more=0):
        self.lies = ()
        self.word = port, epoch, pause, pause_more
        self.told = set()

    def listeners(self):
        """Over how many of its connections it has named that one."""
        with self.lock:
            return len(self.told & self.open.keys())

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        with self.lock:
            for connection in self.open.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):  # the test has ended
            while True:
                connection, _ = self.listener.accept()
                with self.lock:
                    number, self.connections = self.connections, self.connections + 1
                    self.open[number] = connection
                threading.Thread(target=self._serve, args=(connection, number), daemon=True).start()

    def _serve(self, connection, number):
        chance = random.Random(f"{self.seed}/{number}")
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reader:
            if not self.lies or chance.random() >= 0.05:
                while (words := read_command(reader)) is not None and self._answer(connection, number, words, chance):
                    pass
        with self.lock:
            del self.open[number]

    def _answer(self, connection, number, words, chance):
        """Whether the connection is to live on."""
        with self.lock:
            self.asked += 1
        lies = self.lies
        if lies:
            return self._lie(connection, words, chance, lies)
        told, (port, epoch, pause, pause_more) = self.told, self.word
        if asks_who(words):
            time.sleep(pause)
            connection.sendall(address("127.0.0.1", port))
            told.add(number)
        elif words[0] == b"AUTH":
            connection.sendall(b"-ERR no password is set\r\n")
        else:
            time.sleep(pause_more)
            connection.sendall(configuration(epoch))
        return True

    def _lie(self, connection, words, chance, ports):
        out = lie(words, chance.choice(ports), chance)
        how = chance.random()
        if how < 0.02:  # a reset
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if how < 0.1:
            connection.sendall(out[:chance.randrange(len(out) + 1)])
            return False
        if how < 0.2:
            time.sleep(chance.random() * 0.6)  # a client waits for half of that
        if how > 0.9 and out:
            cut = chance.randrange(len(out))
            connection.sendall(out[:cut])
            time.sleep(chance.random() * 0.4)
            out = out[cut:]
        connection.sendall(out + (b"+unsolicited\r\n" if 0.2 < how < 0.23 else b""))
        return True
