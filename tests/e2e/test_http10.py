"""An answer without a length to an HTTP/1.0 client ends with its connection: whatever cuts it must reset that connection, or it looks whole."""

import json
import signal
import socket

import pytest

from support.client import headers_for, prompt
from support.gateway import KEY
from support.process import wait_until
from support.rest import at_rest, counted

AT_ONCE = {"drain": {"wait": "0s", "deadline": "1s"}}


def ask(gateway, text, window=None):
    """A connection whose answer has begun; `window` small: the client hardly takes any of it."""
    path, body = prompt("openai", text, True)
    body = json.dumps(body).encode()
    fields = {**headers_for("openai", KEY), "Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(body))}
    connection = socket.socket()
    if window is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", gateway.port))
    connection.sendall(f"POST {path} HTTP/1.0\r\n".encode() + "".join(f"{n}: {v}\r\n" for n, v in fields.items()).encode() + b"\r\n" + body)
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    return connection


def rest(connection):
    data = b""
    with connection:
        while piece := connection.recv(65536):
            data += piece
    return data


def is_reset(connection):
    with pytest.raises(ConnectionResetError):
        assert rest(connection)[-100:] == b"what was cut looks whole"


def test_a_whole_answer_ends_in_order(gateway, sim, redis):
    assert rest(ask(gateway, "[[sim tokens=20 rate=100]]")).endswith(b"data: [DONE]\n\n")
    assert len(rest(ask(gateway, "[[sim size=3MiB]]", window=4096))) > 3 << 20
    at_rest([gateway], redis, sim)


def test_a_reader_that_stands_still(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"client": {"write_stall": "500ms"}})
    connection = ask(gateway, "[[sim size=64MiB]]", window=4096)
    wait_until(lambda: counted([gateway], outcome="client_gone") == 1, "it is dropped")
    is_reset(connection)


def test_the_upstream_is_cut_while_much_is_unsent(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    connection = ask(gateway, "[[sim size=3MiB fault=reset@2900000]]", window=4096)
    is_reset(connection)


def test_a_slow_reader_at_the_drain_deadline(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, AT_ONCE)
    connection = ask(gateway, "[[sim size=64MiB]]", window=4096)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0
    is_reset(connection)


def test_a_second_signal(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    connection = ask(gateway, "[[sim tokens=1000 rate=50]]")
    gateway.signal(signal.SIGTERM)
    wait_until(lambda: '"draining"' in gateway.stdout(), "it has heard the first")
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 1
    is_reset(connection)


def test_a_crash(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    connection = ask(gateway, "[[sim tokens=1000 rate=50]]")
    gateway.kill()
    is_reset(connection)
