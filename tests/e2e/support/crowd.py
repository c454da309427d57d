"""Many clients at once in one thread: each begins when it is told to, and keeps when which of its bytes came."""

import heapq
import json
import selectors
import socket
import time
import urllib.parse

from .client import sse


class Reading:
    """What one client got: head, body (its framing taken off), and `marks`: (time.monotonic, bytes of the body so far)."""

    def __init__(self, delay, url, body, headers, leaves_after=None):
        """`leaves_after`: the seconds from its beginning until it goes away, whatever it has by then."""
        parts = urllib.parse.urlsplit(url)
        self.delay, self.address = delay, (parts.hostname, parts.port)
        content = json.dumps(body).encode() if not isinstance(body, bytes) else body
        lines = [f"POST {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: application/json",
                 f"Content-Length: {len(content)}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.request = "\r\n".join(lines).encode() + content
        self.url, self.leaves_after = url, leaves_after
        self.began = self.ended = None
        self.status, self.headers, self.body = None, {}, b""
        self.complete, self.error = False, None
        self.marks = []
        self._raw, self._rest, self._length = b"", b"", None

    @property
    def seconds(self):
        return self.ended - self.began

    def json(self):
        return json.loads(self.body)

    def events(self):
        return sse(self.body)

    @property
    def cache_status(self):
        return self.headers.get("cache-status", "")

    @property
    def leads(self):
        return self.status == 200 and "fwd=uri-miss" in self.cache_status and "collapsed" not in self.cache_status

    def __repr__(self):
        return f"<{self.status} {self.cache_status[:40]} {len(self.body)} bytes{'' if self.complete else ', cut'} {self.error or ''} {self.body[-120:]!r}>"

    def _take(self, data, now):
        """True: the answer is over."""
        if self.status is None:
            self._raw += data
            head, blank, data = self._raw.partition(b"\r\n\r\n")
            if not blank:
                return False
            first, *lines = head.decode().split("\r\n")
            self.status = int(first.split(" ")[1])
            self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            self._length = None if "chunked" in self.headers.get("transfer-encoding", "") else int(self.headers.get("content-length", 0))
        if self._length is not None:
            self.body += data
            self.complete = len(self.body) >= self._length
        else:
            self._unchunk(data)
        if self.body and (not self.marks or self.marks[-1][1] < len(self.body)):
            self.marks.append((now, len(self.body)))
        return self.complete

    def _unchunk(self, data):
        self._rest += data
        while not self.complete:
            size, line, rest = self._rest.partition(b"\r\n")
            if not line:
                return
            length = int(size, 16)
            if len(rest) < length + 2:
                return
            self.body += rest[:length]
            self._rest = rest[length + 2:]
            self.complete = length == 0

    def time_of(self, offset):
        """When it had so many bytes."""
        return next(at for at, count in self.marks if count >= offset)


def crowd(readings, timeout=60.0, during=None):
    """Runs them all to their ends; `during(now)`, if given, is called some hundred times a second meanwhile. Returns them."""
    selector = selectors.DefaultSelector()
    start = time.monotonic()
    waiting = [(reading.delay, number, reading) for number, reading in enumerate(readings)]
    heapq.heapify(waiting)
    leaving = []
    open_now = 0

    def end(sock, reading, error=None):
        nonlocal open_now
        selector.unregister(sock)
        sock.close()
        reading.ended, reading.error = time.monotonic(), error
        open_now -= 1

    try:
        while (waiting or open_now) and time.monotonic() - start < timeout:
            now = time.monotonic() - start
            while waiting and waiting[0][0] <= now:
                reading = heapq.heappop(waiting)[2]
                sock = socket.create_connection(reading.address, 10)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.sendall(reading.request)
                sock.setblocking(False)
                selector.register(sock, selectors.EVENT_READ, reading)
                reading.began = time.monotonic()
                open_now += 1
                if reading.leaves_after is not None:
                    heapq.heappush(leaving, (now + reading.leaves_after, id(reading), sock, reading))
            while leaving and leaving[0][0] <= now:
                _, _, sock, reading = heapq.heappop(leaving)
                if reading.ended is None:
                    end(sock, reading, "left")
            pause = min(0.01, max(0.0, waiting[0][0] - (time.monotonic() - start))) if waiting else 0.01
            for key, _ in selector.select(pause):
                try:
                    data = key.fileobj.recv(262144)
                except BlockingIOError:
                    continue
                except ConnectionError as error:
                    end(key.fileobj, key.data, type(error).__name__)
                    continue
                if not data:
                    end(key.fileobj, key.data, "closed")
                elif key.data._take(data, time.monotonic()):
                    end(key.fileobj, key.data)
            if during is not None:
                during(time.monotonic() - start)
    finally:
        for key in list(selector.get_map().values()):
            end(key.fileobj, key.data, "timeout")
        selector.close()
    return readings


def lags(leader, follower):
    """By how much later the follower had each of the bytes that it did not find there when it came; sorted."""
    late = []
    for at, count in follower.marks[1:]:  # the first brings what was there already
        late.append(at - leader.time_of(count))
    return sorted(late)
