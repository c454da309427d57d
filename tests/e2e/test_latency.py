"""The tools of the bench "pooling pays": a link whose delay is no round trip, or a client that shakes no hands, would let any ratio pass."""

import contextlib
import os
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from support import load
from support.latency import LatencyRelay
from support.process import free_port, wait_until

ROUND_TRIP = 0.1


@contextlib.contextmanager
def serving(serve):
    """The port of a server that runs `serve(connection)` for each connection, in a thread of its own."""
    threads = []

    def one(connection):
        with connection, contextlib.suppress(OSError):
            serve(connection)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=one, args=(listener.accept()[0],), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    accepting.join(10)
    for thread in threads:
        thread.join(10)


def echo(connection):
    while data := connection.recv(1 << 16):
        connection.sendall(data)
    connection.sendall(b"the end")


def connect(link):
    return socket.create_connection(("127.0.0.1", link.port), 30)


def receive(connection, count):
    got = bytearray()
    while len(got) < count and (data := connection.recv(1 << 16)):
        got += data
    return bytes(got)


@pytest.fixture
def link(start):
    """link(port): the relay in front of that server."""
    return lambda port: start(LatencyRelay, port, round_trip=1000 * ROUND_TRIP)


def descriptors(link):
    return len(os.listdir(f"/proc/{link.pid}/fd"))


def test_a_connection_costs_one_round_trip_and_an_exchange_another(link):
    """Never less. That it is not more, the fastest of some tells on a machine with other work, too."""
    opening, exchanging = [], []
    with serving(echo) as port:
        relay = link(port)
        for _ in range(3):
            began = time.monotonic()
            with connect(relay) as connection:
                for times in (opening, exchanging, exchanging):
                    connection.sendall(b"ping")
                    assert receive(connection, 4) == b"ping"
                    times.append(time.monotonic() - began)
                    began = time.monotonic()
    assert 2 * ROUND_TRIP <= min(opening) < 2.9 * ROUND_TRIP, opening
    assert ROUND_TRIP <= min(exchanging) < 1.9 * ROUND_TRIP, exchanging


def test_what_the_server_says_first_takes_half_a_round_trip_more_than_the_connection(link):
    with serving(lambda connection: connection.sendall(b"220 ready")) as port:
        began = time.monotonic()
        with connect(link(port)) as connection:
            assert receive(connection, 100) == b"220 ready" and time.monotonic() - began >= ROUND_TRIP


def test_pieces_travel_side_by_side(link):
    """20 MB are over 300 pieces each way: one after the other they took half a minute. All of them come, in order."""
    sent = os.urandom(1 << 20) * 20
    with serving(echo) as port, connect(link(port)) as connection:
        began = time.monotonic()
        sender = threading.Thread(target=connection.sendall, args=(sent,), daemon=True)
        sender.start()
        assert receive(connection, len(sent)) == sent
        assert time.monotonic() - began < 10
        sender.join(10)


def test_ends_travel_too(link):
    heard = []

    def serve(connection):
        try:
            echo(connection)
            heard.append("end")
        except ConnectionResetError:
            heard.append("reset")

    with serving(serve) as port:
        relay = link(port)
        before = descriptors(relay)
        with connect(relay) as half:
            half.sendall(b"x")
            half.shutdown(socket.SHUT_WR)
            assert receive(half, 100) == b"xthe end" and heard == ["end"]
        with connect(relay) as broken:
            broken.sendall(b"y")
            assert receive(broken, 1) == b"y"
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_until(lambda: heard == ["end", "reset"], "the server heard of the reset")
        connect(relay).close()  # before its SYN has arrived
        wait_until(lambda: len(heard) == 3 and descriptors(relay) == before, "nothing of the three is left")


def test_a_client_that_is_gone_is_not_sent_to_for_ever(link):
    """It has closed; what comes all the same is answered by a reset, as a kernel does."""
    gone = threading.Event()

    def serve(connection):
        try:
            while True:
                connection.sendall(b"x" * 1000)
        except OSError:
            gone.set()
            raise

    with serving(serve) as port:
        connection = connect(link(port))
        assert receive(connection, 1000)
        connection.close()
        assert gone.wait(30)


def test_a_server_that_is_not_there_is_a_reset_one_round_trip_later(link):
    began = time.monotonic()
    with connect(link(free_port())) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert time.monotonic() - began >= ROUND_TRIP


# ---- clients that open a connection for each call ------------------------------------------------------------------------------------


@pytest.fixture
def tls(authority):
    """(port of a server over TLS that answers each request, the hand-shakes that it has seen)"""
    key, certificate = authority.issue("bench")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    names, seen = [], []
    context.sni_callback = lambda _, name, __: names.append(name)

    def serve(connection):
        with context.wrap_socket(connection, server_side=True) as secure:
            seen.append((secure.version(), secure.session_reused, secure.selected_alpn_protocol(), names.pop()))
            while secure.recv(65536):
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + 2000 * b"x")

    with serving(serve) as port:
        yield port, seen


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_connection_for_each_call_is_a_whole_handshake_for_each(tls, authority, version):
    port, seen = tls
    report = load.run(f"https://localhost:{port}/", requests=5, options=["--fresh", "--ca", authority.certificate, "--tls", version])
    assert (report["by_status"], report["errors"], report["body_bytes"], report["connections_opened"]) == ({"200": 5}, {}, 10000, 5)
    assert seen == [(f"TLSv{version}", False, "http/1.1", "localhost")] * 5
    seen.clear()
    report = load.run(f"https://127.0.0.1:{port}/", connections=2, requests=50, options=["--ca", authority.certificate])
    assert report["by_status"] == {"200": 50} and report["connections_opened"] == 2
    assert seen == [("TLSv1.3", False, "http/1.1", None)] * 2


def test_who_cannot_be_trusted_is_not_asked(tls, authority, tls_front, sim):
    port, _ = tls
    report = load.run(f"https://localhost:{port}/", requests=2)  # the system trusts others
    assert report["errors"] == {"connect": 2} and not report["by_status"]
    other = tls_front(sim.port, program="nginx", certificate=authority.issue("other", hosts=("example.org",)))
    report = load.run(f"https://localhost:{other.port}/", requests=2, options=["--ca", authority.certificate])
    assert report["errors"] == {"connect": 2} and not report["by_status"]
    for wrong in (["--tls", "1.1"], ["--ca", "/nowhere"]):
        told = subprocess.run(load.arguments(f"https://localhost:{port}/", requests=1, options=wrong), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert told.returncode == 2 and told.stderr, wrong


@pytest.mark.parametrize("version, round_trips", [("1.2", 4), ("1.3", 3)])
def test_a_call_of_its_own_connection_takes_the_round_trips_of_its_handshake(tls, authority, link, folder, version, round_trips):
    """TCP one, TLS 1.3 one or 1.2 two, the call one."""
    port, _ = tls
    report = load.run(f"https://localhost:{link(port).port}/", requests=3,
                      options=["--fresh", "--ca", authority.certificate, "--tls", version, "--record", folder / "calls"])
    fastest = min(int(line.split()[1]) for line in (folder / "calls").read_text().splitlines()) / 1e6
    assert report["by_status"] == {"200": 3} and round_trips * ROUND_TRIP <= fastest < (round_trips + 0.9) * ROUND_TRIP
