"""`sluice status` of somebody who is no gateway: it says so, ends, and nothing of the answer steers the terminal. And what it says of a Redis that is away."""

import http.server
import json
import os
import re
import signal
import subprocess
import threading

import pytest

from support.gateway import KEY, merge
from support.process import binary, free_port, wait_until
from support.sentinel import Sentinel

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


LIMITED = {"redis": {"timeout": "50ms", "on_failure": "share"}, "tenants": {"acme": {"limits": {"rpm": {"limit": 60, "burst": 3}}}}}


def shown(gateway):
    told = subprocess.run([binary("sluice"), "status", "--admin", gateway.admin_url], capture_output=True, text=True, timeout=30)
    assert told.returncode == 0, told
    return told.stdout


def mode_in_log(gateway):
    return [line["reason"] for line in gateway.log() if line["event"] == "redis_mode" and line["mode"] != "normal"]


def test_it_says_that_redis_is_down_and_what_was_decided_without_it(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, LIMITED)
    assert re.search(r", 1 worker, Redis up$", shown(gateway), re.M), shown(gateway)
    assert 0 <= gateway.status()["redis"]["since_ms"] < 600000
    redis.kill()
    wait_until(lambda: gateway.status()["redis"]["mode"] == "share", "it is missed")
    assert [gateway.ask("openai", "[[sim tokens=1]]").status for _ in range(4)] == [200, 200, 200, 429]
    told = shown(gateway)
    assert re.search(r", Redis DOWN \(share, [^,)]+, \d+ s\)$", told, re.M) and re.search(r"; without Redis: admitted 3, denied 1$", told, re.M), told


def test_it_says_that_redis_refuses_and_what_is_wrong_with_it(start_gateway, sim, redis):
    redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis.command("CONFIG", "SET", "maxmemory", "100mb")
    gateway = start_gateway(sim.url, redis.url, LIMITED)
    wait_until(lambda: "\nwarning: Redis' maxmemory-policy is allkeys-lru: when it is full it may throw quotas away; set maxmemory-policy to noeviction\n" in shown(gateway), "it is warned")
    redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.command("CONFIG", "SET", "maxmemory", "1")
    wait_until(lambda: re.search(r", Redis REFUSES \(share, OOM, \d+ s\)$", shown(gateway), re.M), "it is full")


@pytest.mark.parametrize("url,reason", [("redis://:wrong@127.0.0.1:{port}/0", "WRONGPASS"), ("redis://127.0.0.1:{port}/0", "NOAUTH"),
                                        ("redis://:secret@127.0.0.1:{port}/99", "DB index is out of range")], ids=["another", "none", "database"])
def test_what_redis_says_to_a_wrong_password_is_the_reason(start_gateway, start_redis, sim, url, reason):
    redis = start_redis(port=True, password="secret")
    gateway = start_gateway(sim.url, url.format(port=redis.port), LIMITED, wait=False)
    wait_until(lambda: mode_in_log(gateway), "it is missed")
    assert reason in gateway.status()["redis"]["reason"] and reason in shown(gateway)
    assert [reason in told for told in mode_in_log(gateway)] == [True], mode_in_log(gateway)


def test_redis_own_words_are_told_to_their_end(start_gateway, start_redis, sim):
    redis = start_redis(port=True)
    gateway = start_gateway(sim.url, f"redis://:canary-of-redis@127.0.0.1:{redis.port}/0", LIMITED, wait=False)
    wait_until(lambda: mode_in_log(gateway), "it is missed")
    wanted = "AUTH was refused: ERR AUTH <password> called without any password configured for the default user."
    assert gateway.status()["redis"]["reason"].startswith(wanted) and f"Redis REFUSES (share, {wanted}" in shown(gateway), shown(gateway)


@pytest.mark.parametrize("password", ["canary-of-redis", "canary-of-redis" * 12], ids=["short", "long"])
def test_what_redis_repeats_of_the_password_is_not_told(start_gateway, start_redis, sim, password):
    redis = start_redis(port=True, options=["--rename-command", "AUTH", "hidden"])
    gateway = start_gateway(sim.url, f"redis://:{password}@127.0.0.1:{redis.port}/0", LIMITED, wait=False)
    wait_until(lambda: mode_in_log(gateway), "it is missed")
    assert gateway.status()["redis"]["reason"] == "AUTH was refused: ERR unknown command"
    assert not any("canary-of-redis" in text for text in (shown(gateway), gateway.stdout(), gateway.page("/status").text))


@pytest.mark.parametrize("mode,wanted", [("share", [200, 200, 200, 429]), ("open", [200] * 4), ("closed", [503] * 4)])
def test_a_redis_whose_scripts_were_renamed_away_counts_nothing(start_gateway, start_redis, sim, mode, wanted):
    redis = start_redis(options=["--rename-command", "EVALSHA", "hidden"])
    gateway = start_gateway(sim.url, redis.url, merge(LIMITED, {"redis": {"on_failure": mode}}), wait=False)
    wait_until(lambda: mode_in_log(gateway), "it is missed")
    wait_until(lambda: re.search(rf", Redis REFUSES \({mode}, ERR unknown command, \d+ s\)$", shown(gateway), re.M), "it is told")
    assert [gateway.ask("openai", "[[sim tokens=1]]").status for _ in wanted] == wanted and mode_in_log(gateway) == ["ERR unknown command"]


def test_a_sentinel_is_no_redis(start_gateway, start, start_redis, sim):
    sentinel = start(Sentinel, start_redis(port=True).port)
    gateway = start_gateway(sim.url, f"redis://127.0.0.1:{sentinel.port}", LIMITED, wait=False)
    wait_until(lambda: mode_in_log(gateway), "it is missed")
    wait_until(lambda: re.search(r", Redis REFUSES \(share, ERR unknown command, \d+ s\)$", shown(gateway), re.M), "it is told")


def until_refused(gateway, reason):
    """Each of many looks says so, whatever becomes of the connections meanwhile."""
    wait_until(lambda: re.search(rf", Redis REFUSES \(share, {reason}[^)]*, \d+ s\)$", shown(gateway), re.M), "it is told")
    told = [re.search(r", Redis .*$", shown(gateway), re.M)[0] for _ in range(30)]
    assert all(f"REFUSES (share, {reason}" in line for line in told), told


def test_a_replica_refuses(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, LIMITED)
    redis.command("REPLICAOF", "127.0.0.1", free_port())
    until_refused(gateway, "READONLY")


def test_an_acl_refuses(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, LIMITED)
    redis.command("ACL", "SETUSER", "default", "-evalsha")
    until_refused(gateway, "NOPERM")


def test_a_redis_that_refuses_and_then_dies_is_down(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, LIMITED)
    redis.command("CONFIG", "SET", "maxmemory", "1")
    until_refused(gateway, "OOM")
    redis.kill()
    wait_until(lambda: re.search(r", Redis DOWN \(share, [^,)]+, \d+ s\)$", shown(gateway), re.M), "it is down")
    assert not any("REFUSES" in shown(gateway) for _ in range(20))


def test_a_script_without_end_refuses(start_gateway, start_redis, sim):
    redis = start_redis(options=["--busy-reply-threshold", "100"])
    gateway = start_gateway(sim.url, redis.url, LIMITED)
    endless = threading.Thread(target=lambda: pytest.raises(RuntimeError, redis.command, "EVAL", "while true do end", 0))
    endless.start()
    try:
        until_refused(gateway, "BUSY")
    finally:
        redis.command("SCRIPT", "KILL")
        endless.join()


def test_it_says_why_redis_is_down_before_a_call_has_missed_it(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "5s"}})  # the census is answered that late, and no limit is looked up
    redis.kill()
    wait_until(lambda: not gateway.status()["redis"]["up"], "it is down")
    status = gateway.status()["redis"]
    assert status["mode"] == "normal" and status["reason"] and not status["refuses"], status
    assert re.search(r", Redis DOWN \(no call has missed it yet: [^)]+\)$", shown(gateway), re.M), shown(gateway)


@pytest.mark.parametrize("mode", ["share", "open", "closed"])
def test_it_says_what_passed_and_what_was_refused_without_redis(start_gateway, sim, redis, mode):
    gateway = start_gateway(sim.url, redis.url, merge(LIMITED, {"redis": {"on_failure": mode}}))
    assert [gateway.ask("openai", "[[sim tokens=1]]").status for _ in range(2)] == [200, 200]
    assert re.search(r", admitted 2, denied 0; without Redis: admitted 0, denied 0$", shown(gateway), re.M), shown(gateway)
    redis.kill()
    wait_until(lambda: gateway.status()["redis"]["mode"] == mode, "it is missed")
    passed = [gateway.ask("openai", "[[sim tokens=1]]").status for _ in range(8)].count(200)
    assert passed in {"share": range(1, 8), "open": [8], "closed": [0]}[mode]
    assert re.search(rf", admitted 2, denied 0; without Redis: admitted {passed}, denied {8 - passed}$", shown(gateway), re.M), shown(gateway)
    assert [gateway.metric("sluice_quota_local_total", verdict=verdict) for verdict in ("admitted", "denied")] == [passed, 8 - passed]


REFUSALS = {"readonly": lambda redis: redis.command("REPLICAOF", "127.0.0.1", free_port()), "noperm": lambda redis: redis.command("ACL", "SETUSER", "default", "-evalsha"),
            "oom": lambda redis: redis.command("CONFIG", "SET", "maxmemory", "1"), "timed_out lost": lambda redis: redis.signal(signal.SIGSTOP), "unsent": lambda redis: redis.kill()}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_redis_does_not_answer_well_is_counted_by_kind(start_gateway, sim, redis, kind):
    gateway = start_gateway(sim.url, redis.url, LIMITED)
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200 and gateway.metric("sluice_redis_errors_total") == 0
    REFUSALS[kind](redis)
    try:
        gateway.ask("openai", "[[sim tokens=1]]")
        wait_until(lambda: gateway.status()["redis"]["mode"] == "share", "it is missed")
        gateway.ask("openai", "[[sim tokens=1]]")
        assert sum(gateway.metric("sluice_redis_errors_total", error=one) for one in kind.split()) >= 1, gateway.page("/metrics").text
    finally:
        redis.signal(signal.SIGCONT)
