"""The HTTP server, then the whole gateway, behind nginx, HAProxy and nghttpx: whatever a proxy makes of an ambiguous request, no byte of
a body becomes a request of its own, and no answer reaches another client. Then slow clients, while honest ones are served.

Every answer of http-echo names the X-Id and the target it understood, and every token of the simulator's the request that it answers.
Proxies keep their connections, and answers come late, so that a request left over on such a connection would be answered to whoever
comes next: the probe."""

import concurrent.futures
import json
import socket
import subprocess

import pytest

from support.client import answer_text, headers_for, prompt, request, text_of
from support.gateway import KEY
from support.process import DEADLINE, Process, accepts, binary, free_port, program, wait_until
from support.rest import at_rest, counted

ATTACKER = "key-of-the-attacker"


def with_both(post, evil, coding):
    body = b"0\r\n\r\n" + evil
    length = b"Content-Length: %d\r\n" % len(body)
    return [post + length + coding + b"\r\n\r\n" + body, post + coding + b"\r\n" + length + b"\r\n" + body]


def carriers(prefix=b"", fields=b""):
    """Requests that some parser, somewhere, ends too early or too late. `fields`: more lines of each head."""
    evil = b"GET " + prefix + b"/smuggled HTTP/1.1\r\nHost: x\r\n" + fields + b"X-Id: evil\r\nX-Rest: "
    post = b"POST " + prefix + b"/carrier HTTP/1.1\r\nHost: x\r\n" + fields + b"X-Id: carrier\r\n"
    codings = [b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: xchunked",
               b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: \x0bchunked",
               b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding\r\n : chunked", b"X: y\nTransfer-Encoding: chunked",
               b"X: y\rTransfer-Encoding: chunked", b"Transfer_Encoding: chunked", b"transfer-encoding: CHUNKED",
               b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x", b" Transfer-Encoding: chunked",
               b"Transfer-Encoding: chunked\x00", b"Transfer-Encoding: chunked;a=b"]
    for coding in codings:
        yield from with_both(post, evil, coding)
    rest = evil
    for lengths in (b"Content-Length: 0\r\nContent-Length: %d", b"Content-Length: %d\r\nContent-Length: 0", b"Content-Length: 0, %d",
                    b"Content-Length: +%d", b"Content-Length : %d", b"Content-Length: %d ", b"Content-Length: 0%d", b"Content-Length: 0x%x",
                    b"Content-Length: -%d", b"Content-Length: %d\r\nContent-Length : 0", b"Content_Length: %d"):
        yield post + lengths % len(rest) + b"\r\n\r\n" + rest
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    for body in (b"5;\nxx\r\nhello\r\n0\r\n\r\n", b"0\n\r\n" + rest, b"0\r\n\n" + rest, b"0;a\r\r\n\r\n" + rest, b"10000000000000000\r\n" + rest,
                 b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n" + rest, b"0\r\nContent-Length: 60\r\n\r\n" + rest, b"-1\r\n" + rest):
        yield chunked + body
    yield b"GET " + prefix + b"/carrier HTTP/1.1\r\nHost: x\r\n" + fields + b"Content-Length: %d\r\n\r\n" % len(rest) + rest
    yield post + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(rest) + rest
    yield post + b"Connection: Content-Length\r\nContent-Length: %d\r\n\r\n" % len(rest) + rest
    yield post.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + rest


class Echo(Process):
    def __init__(self, folder, delay=0, name="http-echo"):
        super().__init__([binary("tests/http-echo"), "-d", str(delay), "127.0.0.1:0"], folder, name)
        self.wait_ready(lambda: self.stdout_path.read_text().endswith("\n"))
        self.port = int(self.stdout_path.read_text().rsplit(":", 1)[1])


class Front(Process):
    def __init__(self, arguments, folder, name, port):
        self.port = port
        super().__init__(arguments, folder, name)
        self.wait_ready(lambda: accepts(port))


def nginx(folder, backend):
    port, settings = free_port(), folder / "nginx.conf"
    settings.write_text(f"""daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{}}
http {{ access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
uwsgi_temp_path {folder}; scgi_temp_path {folder};
upstream b {{ server 127.0.0.1:{backend}; keepalive 2; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection "";
proxy_set_header Host x; proxy_request_buffering off; }} }} }}""")
    return Front([program("nginx"), "-p", folder, "-c", settings], folder, "nginx", port)


def haproxy(folder, backend):
    port, settings = free_port(), folder / "haproxy.cfg"
    settings.write_text(f"""defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  http-reuse always
listen l
  bind 127.0.0.1:{port}
  server s 127.0.0.1:{backend} pool-max-conn 2
""")
    return Front([program("haproxy"), "-db", "-f", settings], folder, "haproxy", port)


def nghttpx(folder, backend):
    port, settings = free_port(), folder / "nghttpx.conf"
    settings.write_text("")
    return Front([program("nghttpx"), f"--conf={settings}", f"--frontend=127.0.0.1,{port};no-tls", f"--backend=127.0.0.1,{backend}",
                  "--workers=1", "--errorlog-file=/dev/stderr", "--accesslog-file=/dev/null"], folder, "nghttpx", port)


def ask(port, name):
    """One honest request on a connection of its own: status and what was understood."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as s:
        s.sendall(b"POST /probe/%s HTTP/1.1\r\nHost: x\r\nX-Id: %s\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody" % (name, name))
        answer = b""
        while piece := s.recv(65536):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer
    return json.loads(body[body.index(b"{"):body.rindex(b"}") + 1])


def check_probe(port, name):
    seen = ask(port, name)
    assert (seen["id"], seen["target"], seen["length"]) == (name.decode(), f"/probe/{name.decode()}", 4), seen


def requests_of(port):
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as s:
        s.sendall(b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = b""
        while piece := s.recv(65536):
            answer += piece
    return json.loads(answer[answer.index(b"{"):])["requests"]


@pytest.mark.parametrize("front", [nginx, haproxy, nghttpx])
def test_no_body_becomes_a_request(start, folder, front):
    echo = start(Echo, delay=20)
    proxy = front(folder, echo.port)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for count, carrier in enumerate(carriers()):
                with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as s:
                    s.sendall(carrier)
                    names = [b"p%d-%d" % (count, i) for i in range(3)]
                    for done in [pool.submit(check_probe, proxy.port, name) for name in names]:
                        done.result(DEADLINE)
                check_probe(proxy.port, b"after%d" % count)
        assert requests_of(echo.port) > 4 * (count + 1) + 5  # some carriers were passed on, or this shows nothing
    finally:
        proxy.stop()


def check_answer(url, name):
    """An honest call on a connection of its own: its own answer, whole."""
    path, body = prompt("openai", f"[[sim nonce={name} tokens=8]]")
    answer = request(url + path, body=body, headers=headers_for("openai", KEY), timeout=DEADLINE)
    assert answer.status == 200 and answer_text("openai", answer) == text_of(name, 8), (name, answer)


@pytest.mark.parametrize("front", [nginx, haproxy, nghttpx])
def test_no_body_becomes_a_request_of_the_whole_gateway(start_sim, redis, start_gateway, folder, front):
    """The attacker has a key of its own, and an upstream where every path is answered."""
    sim = start_sim("latency=20ms")
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"attacker": {"keys": [ATTACKER]}}})
    proxy = front(folder, gateway.port)
    url = f"http://127.0.0.1:{proxy.port}"
    try:
        honest = 0
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for count, carrier in enumerate(carriers(b"/plain/anything", b"Authorization: Bearer " + ATTACKER.encode() + b"\r\n")):
                with socket.create_connection(("127.0.0.1", proxy.port), DEADLINE) as s:
                    s.sendall(carrier)
                    for done in [pool.submit(check_answer, url, f"p{count}-{i}") for i in range(3)]:
                        done.result(DEADLINE)
                check_answer(url, f"after{count}")
                honest += 4
        at_rest([gateway], redis, sim)
        assert counted([gateway], tenant="acme") == counted([gateway], tenant="acme", outcome="ok") == honest  # nothing ran under the victim's key
        assert sim.model_stats("gpt-4o-mini")["completed"] == honest
        assert counted([gateway], tenant="attacker") > 5  # some carriers were passed on, or this shows nothing
    finally:
        proxy.stop()


def test_slow_clients_do_not_keep_honest_ones_waiting(start, folder):
    echo = start(Echo)
    tool = program("slowhttptest")
    assert tool, "slowhttptest is not installed"
    attacks = [["-H", "-i", "1"], ["-B", "-i", "1", "-s", "8192"], ["-R", "-a", "10", "-b", "3000"]]
    running = [subprocess.Popen([tool, *attack, "-c", "300", "-r", "200", "-l", "6", "-u", f"http://127.0.0.1:{echo.port}/"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) for attack in attacks]
    try:
        probes = 0
        while any(attack.poll() is None for attack in running):
            check_probe(echo.port, b"honest%d" % probes)
            probes += 1
        assert probes > 100
    finally:
        for attack in running:
            attack.kill()
            attack.wait()
    wait_until(lambda: echo.child.poll() is None and accepts(echo.port), "the server still serves")
