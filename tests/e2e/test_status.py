"""`sluice status` of somebody who is no gateway: it says so, ends, and nothing of the answer steers the terminal."""

import http.server
import json
import os
import subprocess
import threading

import pytest

from support.gateway import KEY
from support.process import binary, free_port

STEERING = "\u001b[31mred\u0007\u009b2J\u007f"


@pytest.fixture
def status_of():
    servers = []

    def ask(answer, *options):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, args=(0.01,), daemon=True).start()
        return subprocess.run([binary("sluice"), "status", "--admin", f"http://127.0.0.1:{servers[-1].server_port}", *options],
                              capture_output=True, timeout=30)

    yield ask
    for server in servers:
        server.shutdown()
        server.server_close()


def steers(told):
    text = (told.stdout + told.stderr).decode()
    return [character for character in text if character != "\n" and (ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0)]


@pytest.mark.parametrize("raw", [True, False])
def test_no_control_character_reaches_the_terminal(status_of, raw):
    answer = {"version": STEERING, "instance": "é" + STEERING, "upstreams": {STEERING: {"pools": {STEERING: {"active": 7}}}},
              "quotas": {"tenants": {STEERING: {STEERING: {"limit": 9, "used": 0.5, "left": 8}}}}}
    text = json.dumps(answer, ensure_ascii=not raw).encode()
    told = status_of(text)
    assert told.returncode == 0 and not steers(told), told
    assert told.stdout.decode().count("?[31mred??2J?") == 6 and "é?[31m" in told.stdout.decode() and " 7 " in told.stdout.decode()
    told = status_of(text, "--json")
    assert told.returncode == 0 and json.loads(told.stdout) == answer
    assert [character for character in steers(told) if character != "\u007f"] == []  # which no terminal heeds


NO_STATUS = {"nothing": b"", "null": b"null", "array": b"[]", "long": b"x" * 100000, "no text": b"\xff", "steering": STEERING.encode(),
             "deep": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "more behind": b'{"a":1}{'}


@pytest.mark.parametrize("what", NO_STATUS)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["shown", "json"])
def test_what_is_no_status_is_not_understood(status_of, what, options):
    told = status_of(NO_STATUS[what], *options)
    assert told.returncode == 1 and b"is not understood: " in told.stderr and told.stdout == b"" and not steers(told), told


def test_an_object_of_another_sort_has_nothing_to_show(status_of):
    told = status_of(b'{"requests":{"in_flight":"x"},"upstreams":[1],"redis":null,"instance":{},"quotas":{"tenants":{"a":[1],"b":{"rpm":7}},"models":3}}')
    assert told.returncode == 0 and told.stdout.startswith(b"sluice , instance , up 0 s, not ready")


ANOTHER = "token-of-another-sort"


def complaint(url, *options, token=""):
    told = subprocess.run([binary("sluice"), "status", "--admin", url, *options], capture_output=True, text=True, timeout=30, env={**os.environ, "SLUICE_ADMIN_TOKEN": token})
    assert told.returncode == 1 and not told.stdout and told.stderr.count("\n") == 1, told
    return told.stderr


def test_it_says_what_is_wrong_with_the_token(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"admin_token": "token-of-sixteen-bytes"})
    assert complaint(gateway.admin_url) == f"sluice: {gateway.admin_url} answers /status with 401: give its admin_token with --token or $SLUICE_ADMIN_TOKEN\n"
    for told in complaint(gateway.admin_url, "--token", ANOTHER), complaint(gateway.admin_url, token=ANOTHER):
        assert "with 401: the token that it was given (--token, else $SLUICE_ADMIN_TOKEN) is not its admin_token" in told and ANOTHER not in told


def test_it_asks_whether_this_is_the_admin_address(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    for status, options in ((401, ()), (401, ("--token", ANOTHER)), (404, ("--token", KEY))):
        assert f" with {status}: is this the admin address? --admin or $SLUICE_ADMIN says " in complaint(gateway.url, *options)
    gone = complaint(f"http://127.0.0.1:{free_port()}")
    assert " does not answer: " in gone and "--admin or $SLUICE_ADMIN says where to ask" in gone
