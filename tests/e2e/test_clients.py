"""Clients that leave, in every stage: the upstream is freed within 200 ms, the lease within a second."""

import contextlib
import json
import socket
import struct
import time

import pytest

from support.client import MODELS, headers_for, prompt
from support.gateway import KEY
from support.process import promised, wait_until
from support.rest import at_rest, counted, leases

UPSTREAM_FREE, LEASE_FREE = promised(0.2), promised(1.0)
LIMITS = {"tenants": {"acme": {"limits": {"concurrency": 5, "tpm": 1000000}}}}


def connect(gateway):
    return socket.create_connection(("127.0.0.1", gateway.port), 30)


def message(dialect="openai", text="hello", stream=False, key=KEY, **more):
    path, body = prompt(dialect, text, stream)
    body = json.dumps(body).encode()
    fields = {**headers_for(dialect, key), "Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(body)), **more}
    return f"POST {path} HTTP/1.1\r\n".encode() + "".join(f"{n}: {v}\r\n" for n, v in fields.items()).encode() + b"\r\n" + body


def leave(connection, how):
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "half-close":
        connection.shutdown(socket.SHUT_WR)
        return time.monotonic(), connection
    connection.close()
    return time.monotonic(), None


def freed(gateway, redis, sim, left):
    wait_until(lambda: sim.stats()["in_flight"] == 0, "the upstream is free")
    upstream = time.monotonic() - left
    wait_until(lambda: not any(leases(redis).values()), "the lease is free")
    lease = time.monotonic() - left
    assert upstream <= UPSTREAM_FREE and lease <= LEASE_FREE, (upstream, lease)
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("stage", ["head", "body", "first byte", "stream"])
def test_a_client_that_leaves(start_gateway, sim, redis, stage, how):
    gateway = start_gateway(sim.url, redis.url, LIMITS)
    whole = message(text="[[sim latency=60s tokens=5]]" if stage == "first byte" else "[[sim tokens=100000 rate=100]]", stream=stage == "stream")
    connection = connect(gateway)
    connection.sendall(whole[:60] if stage == "head" else whole[:-20] if stage == "body" else whole)
    if stage == "stream":
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    if stage == "body":
        wait_until(lambda: [r["stage"] for r in gateway.requests()["requests"]] == ["body"], "the gateway has begun it")
    if stage in ("first byte", "stream"):
        wait_until(lambda: sim.stats()["in_flight"] == 1, "the upstream has it")
        assert sum(leases(redis).values()) >= 1
    left, kept = leave(connection, how)
    freed(gateway, redis, sim, left)
    if stage != "head":
        wait_until(lambda: counted([gateway], outcome="client_gone") == 1, "it is counted")
    assert sim.stats()["received"] == (1 if stage in ("first byte", "stream") else 0)
    if kept is not None:
        kept.close()


@pytest.mark.parametrize("part", ["half", "whole"])
def test_resets_that_come_with_the_request(start_gateway, sim, redis, part):
    """The kernel tells of bytes and reset in one event; the bytes are read first, and the reset must not be forgotten."""
    gateway = start_gateway(sim.url, redis.url)
    whole = message(text="[[sim latency=60s]]")
    for _ in range(300):
        connection = connect(gateway)
        connection.sendall(whole[:-20] if part == "half" else whole)
        leave(connection, "reset")
    wait_until(lambda: gateway.status()["clients"]["connections"] == 0, "all are gone", deadline=5)
    at_rest([gateway], redis, sim)


def test_a_client_that_leaves_while_quota_is_asked(start_gateway, sim, redis, proxy, folder):
    """Redis' answer comes late: the reservation is given back all the same."""
    front = proxy(f"unix:{redis.path}", str(folder / "front.sock"))
    gateway = start_gateway(sim.url, f"unix://{front.path}", {**LIMITS, "redis": {"timeout": "5s"}})
    front.tell("delay 300")
    connection = connect(gateway)
    connection.sendall(message())
    wait_until(lambda: any(r["stage"] == "quota" for r in gateway.requests()["requests"]), "it asks for quota")
    leave(connection, "close")
    wait_until(lambda: counted([gateway], outcome="client_gone") == 1, "it is counted")
    front.clear()
    wait_until(lambda: not any(leases(redis).values()), "the lease is free")
    assert sim.stats()["received"] == 0
    at_rest([gateway], redis, sim)


def test_a_slow_reader_pauses_the_upstream(start_gateway, sim, redis):
    """64 MiB are not taken in for a client that reads nothing; when it reads, all of them come."""
    gateway = start_gateway(sim.url, redis.url, LIMITS)
    connection = connect(gateway)
    connection.sendall(message(text="[[sim size=64MiB]]"))
    assert connection.recv(100).startswith(b"HTTP/1.1 200")
    before = memory(gateway)
    time.sleep(0.5)  # time in which an upstream that is not paused would send it all
    assert memory(gateway) - before < 8 << 20
    total, data = 100, b"x"
    connection.settimeout(20)
    while total < 64 << 20 and data:
        data = connection.recv(1 << 20)
        total += len(data)
    assert total >= 64 << 20
    connection.close()
    at_rest([gateway], redis, sim)


def memory(gateway):
    with open(f"/proc/{gateway.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def test_a_client_that_takes_nothing_is_dropped(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {**LIMITS, "client": {"write_stall": "500ms"}})
    connection = connect(gateway)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(message(text="[[sim size=64MiB]]"))
    wait_until(lambda: counted([gateway], outcome="client_gone") == 1, "it is dropped")
    connection.close()
    at_rest([gateway], redis, sim)


def test_the_sdks_deadline(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, LIMITS)
    for field in ("x-stainless-timeout", "X-Server-Timeout"):
        answer = gateway.ask("openai", "[[sim latency=60s]]", headers={field: "0.3"})
        assert answer.status == 504 and answer.json()["error"]["code"] == "deadline" and 0.25 <= answer.seconds <= promised(0.45)
    assert gateway.ask("openai", "[[sim tokens=30 rate=10]]", True, headers={"x-stainless-timeout": "2"}).complete  # a stream that has begun goes on
    at_rest([gateway], redis, sim)


def test_ten_thousand_idle_connections(start_gateway, sim, redis):
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(10000, hard - 2000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, wanted + 1000), hard))
    gateway = start_gateway(sim.url, redis.url, LIMITS)
    before, idle = memory(gateway), []
    try:
        for _ in range(wanted):
            idle.append(connect(gateway))
        wait_until(lambda: gateway.status()["clients"]["connections"] == wanted, "all are there")
        assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
        assert (memory(gateway) - before) / wanted < 4096
    finally:
        for connection in idle:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_until(lambda: gateway.status()["clients"]["connections"] == 0, "all have gone")


ENDS = {"gone": "client_gone", "deadline": "deadline", "first byte": "upstream_timeout", "total": "upstream_timeout"}
TIMEOUTS = {"first byte": {"first_byte": "300ms", "first_byte_plain": "300ms"}, "total": {"total": "300ms"}}


@pytest.mark.parametrize("where,how", [("slot", "gone"), ("slot", "deadline"), *(("connection", how) for how in ENDS)])
def test_who_ends_before_anything_was_sent_pays_nothing(start_gateway, sim, redis, how, where):
    """It waits for the only connection of the pool, or for one to a host that does not answer; then its client leaves, or its time is over."""
    limits = {"rpd": {"limit": 100, "burst": 100}, "tpd": {"limit": 1000000, "burst": 1000000}}
    with contextlib.ExitStack() as stack:
        url = sim.url if where == "slot" else stack.enter_context(black_hole())
        gateway = start_gateway(sim.url, redis.url, {
            "tenants": {"acme": {"limits": limits}}, "models": {MODELS["openai"]: {"targets": [{"upstream": "openai"}], "limits": limits}},
            "upstreams": {"openai": {"endpoints": [{"url": url}], "limits": limits, "timeout": TIMEOUTS.get(how, {}), "pool": {"min": 0, "start": 1, "max": 1}}}})
        if where == "slot":
            stack.enter_context(connect(gateway)).sendall(message(text="[[sim latency=60s tokens=1]]"))
            wait_until(lambda: sim.stats()["in_flight"] == 1, "the first runs")
        before = owed(redis)
        second = stack.enter_context(connect(gateway))
        second.sendall(message(**({"x-stainless-timeout": "1"} if how == "deadline" else {})))
        stages = ["upstream"] * (2 if where == "slot" else 1)
        if how == "gone":
            wait_until(lambda: [r["stage"] for r in gateway.requests()["requests"]] == stages, "it waits")
            second.close()
        wait_until(lambda: counted([gateway], outcome=ENDS[how]) == 1, "it has ended")
        wait_until(lambda: gateway.status()["quota"]["unsettled"] == 0, "it is settled")
        assert all(owed(redis)[bucket] <= before.get(bucket, 0) for bucket in owed(redis)), (before, owed(redis))


def owed(redis):
    """{(key, limit): microseconds until that bucket is full again}"""
    now = sum(int(part) * unit for part, unit in zip(redis.command("TIME"), (1000000, 1)))
    pairs = [(key, redis.command("HGETALL", key)) for key in redis.keys("sluice:*:q")]
    return {(key, fields[i]): max(0, int(fields[i + 1]) - now) for key, fields in pairs for i in range(0, len(fields), 2) if ":" not in fields[i]}


@contextlib.contextmanager
def black_hole():
    """An address where connecting takes for ever: its queue is full, and nobody accepts."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
