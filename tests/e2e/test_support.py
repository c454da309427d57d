"""The tools of the tests: a fault that is not one, or a front that is no TLS, would let every test that uses it pass."""

import pathlib
import socket
import ssl
import subprocess
import urllib.request

import pytest

from support import client, process
from support.client import headers_for, prompt, request, text_of
from support.gateway import merge, parse_series
from support.process import Process, free_port, wait_until
from support.redis_server import encode, read_reply
from support.sim import most_in_window


def ask(url, text, streaming=False):
    path, body = prompt("openai", text, streaming)
    return request(url + path, body=body, headers=headers_for("openai"))


def test_a_process_ends_with_its_runner(folder):
    script = ("import os, sys, time; sys.path.insert(0, sys.argv[1]); from support.process import Process\n"
              "child = Process(['sleep', '600'], sys.argv[2], 'sleeper'); print(child.pid, flush=True); os.kill(os.getpid(), 9)")
    done = subprocess.run(["python3", "-c", script, str(pathlib.Path(__file__).parent), str(folder)], stdout=subprocess.PIPE)
    pid = int(done.stdout)

    def is_gone():
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_until(is_gone, "the child is gone")


def test_a_child_that_fails_is_told_with_its_last_words(folder):
    child = Process(["sh", "-c", "echo why >&2; exit 3"], folder, "failing")
    with pytest.raises(RuntimeError, match="ended with 3(.|\n)*why"):
        child.wait_ready(lambda: False)


def test_no_port_is_given_twice():
    """Nor to two runs at a time: each of four gives out ports while the others do, in less than twice the room of them all."""
    script = ("import sys; sys.path.insert(0, sys.argv[1]); from support import process; process._ports = lambda: range(20000, 20800); "
              "print(*(process.free_port() for _ in range(100)), flush=True); sys.stdin.read()")
    runs = [subprocess.Popen(["python3", "-c", script, str(pathlib.Path(__file__).parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(4)]
    try:
        given = [port for run in runs for port in run.stdout.readline().split()]
    finally:
        for run in runs:
            run.communicate()
    assert len(given) == len(set(given)) == 400


def test_a_port_in_use_is_not_given():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process, "_ports", lambda: [port])
            with pytest.raises(RuntimeError, match="no free port"):
                free_port()


def test_redis_server(start_redis):
    redis = start_redis(port=True, password="secret")
    assert redis.command("SET", "sluice:a", "1") == "OK"
    assert redis.eternal_keys() == ["sluice:a"]
    assert redis.command("PEXPIRE", "sluice:a", 60000) == 1 and redis.eternal_keys() == []
    with socket.create_connection(("127.0.0.1", redis.port), 5) as plain, plain.makefile("rb") as reader:
        plain.sendall(encode("GET", "sluice:a"))
        with pytest.raises(RuntimeError, match="NOAUTH"):
            read_reply(reader)


@pytest.mark.parametrize("program,http2,versions", [("nghttpx", None, ["2", "1.1"]), ("nginx", True, ["2", "1.1"]),
                                                    ("nginx", False, ["1.1"])])
def test_tls_fronts(sim, tls_front, authority, program, http2, versions):
    options = {} if http2 is None else {"http2": http2}
    front = tls_front(sim.port, program=program, **options)
    for version in versions:
        told = subprocess.run(["curl", "-sS", "--cacert", authority.certificate, "--http2" if version == "2" else "--http1.1",
                               "-o", "/dev/null", "-w", "%{http_version} %{http_code}", front.url + "/anything"],
                              stdout=subprocess.PIPE, check=True, timeout=30)
        assert told.stdout.decode().split() == [version, "200"]
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(front.url + "/anything", timeout=10)


def test_expired_and_foreign_certificates(sim, tls_front, authority):
    trust = ssl.create_default_context(cafile=authority.certificate)
    for name, options, why in (("old", {"days": -1}, "expired"), ("other", {"hosts": ("example.org",)}, "mismatch")):
        front = tls_front(sim.port, certificate=authority.issue(name, **options))
        with pytest.raises(urllib.error.URLError, match=why):
            urllib.request.urlopen(front.url + "/anything", context=trust, timeout=10)


def test_proxy_passes_bytes_whole(sim, proxy):
    link = proxy(f"tcp:127.0.0.1:{sim.port}")
    link.tell("slice 3")
    answer = ask(link.url, "[[sim nonce=p tokens=20]]", True)
    assert answer.complete and client.answer_text("openai", answer) == text_of("p", 20)
    with pytest.raises(RuntimeError, match="error"):
        link.tell("no such fault")


def test_proxy_faults(sim, proxy):
    link = proxy(f"tcp:127.0.0.1:{sim.port}")
    link.tell("delay 150")
    assert ask(link.url, "x").seconds >= 0.29  # there and back
    link.clear()
    link.tell("cut-after 600")
    assert not ask(link.url, "[[sim tokens=50]]", True).complete
    link.tell("refuse on")
    with pytest.raises((OSError, client.http.client.HTTPException)):
        ask(link.url, "x")
    link.clear()
    path, body = prompt("openai", "[[sim tokens=1000 rate=50]]", True)
    with client.stream(link.url + path, body, headers_for("openai")) as stream:
        assert stream.read_event()
        link.tell("reset")
        with pytest.raises((OSError, client.http.client.HTTPException)):
            while stream.read_event():
                pass
    wait_until(sim.aborts, "the simulator saw it leave")


def test_proxy_drops_every_third_reply_of_redis_after_it_was_executed(redis, proxy, folder):
    path = str(folder / "proxy.sock")
    link = proxy(f"unix:{redis.path}", listen_path=path)
    link.tell("drop-reply-every 3")
    lost = 0
    for _ in range(9):
        with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as reader:
            connection.connect(path)
            connection.sendall(encode("INCR", "n"))
            try:
                read_reply(reader)
            except OSError:
                lost += 1
    assert lost == link.count("dropped") == 3 and redis.command("GET", "n") == "9"
    link.clear()
    link.tell("error-every 1 LOADING not yet")
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as reader:
        connection.connect(path)
        connection.sendall(encode("PING"))
        with pytest.raises(RuntimeError, match="LOADING"):
            read_reply(reader)


def test_small_tools():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None, "e": 4}, "d": [5]}) == {"a": {"c": 2, "e": 4}, "d": [5]}
    assert parse_series('x_total{b="1",a="q\\"r"}') == ("x_total", (("a", 'q"r'), ("b", "1")))
    assert parse_series("y") == ("y", ())
    assert most_in_window([0, 1, 2, 10, 10.5, 11.9], 2) == 3
    assert client.sse(b": c\ndata: a\ndata: b\r\n\r\nevent: e\ndata:x\n\ndata: unfinished") == [
        {"event": "message", "data": "a\nb"}, {"event": "e", "data": "x"}]
