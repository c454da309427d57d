"""A provider that answers byte for byte what a test says: what the simulator would never send."""

import socket
import threading


def plain(body, content_type="application/json"):
    return (f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


def chunked(body, content_type="application/json", end=True):
    """In one chunk; without `end` it looks cut off behind it."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
    return head + body + b"\r\n" + (b"0\r\n\r\n" if end else b"")


def read_request(connection):
    """Head and body; None when the peer has left."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    length = next((int(value) for name, _, value in fields if name.lower() == b"content-length"), 0)
    while len(body) < length:
        piece = connection.recv(65536)
        if not piece:
            return None
        body += piece
    return head, body


class Provider:
    """Every request but the warm-up's is answered with the same bytes; then, with close=True, its connection is closed."""

    def __init__(self, answer, close=False):
        self.answer, self.close_behind = answer, close
        self.requests = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:  # the test has ended
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            while (request := read_request(connection)) is not None:
                if request[0].startswith(b"HEAD / "):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                self.requests.append(request)
                connection.sendall(self.answer)
                if self.close_behind:
                    return

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
