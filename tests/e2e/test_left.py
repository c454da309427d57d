"""What is left of the quotas, as /status, /metrics, `sluice status` and `sluice top` tell it: the fleet's truth, looked at without a trace."""

import select
import signal
import socket
import subprocess
import time

from support.gateway import KEY
from support.process import binary, promised, wait_until
from support.rest import at_rest

RPH = {"limit": 20, "burst": 20}  # so slow that nothing comes back meanwhile
LIMITS = {"tenants": {"acme": {"limits": {"rph": RPH, "concurrency": 5}}},
          "models": {"gpt-4o-mini": {"targets": [{"upstream": "openai"}], "limits": {"tpd": 1000000}}},
          "upstreams": {"openai": {"limits": {"rpd": {"limit": 1000, "burst": 500}}}}}


def quotas(gateway):
    return gateway.status()["quotas"]


def left(gateway, scope="tenants", name="acme", limit="rph"):
    return quotas(gateway)[scope][name][limit]["left"]


def ask(gateway, **more):
    return gateway.ask("openai", "[[sim tokens=5]]", **more).status


def state(redis):
    return {key: redis.command("DUMP", key) for key in redis.quotas()}


def expiries(redis):
    return {key: redis.command("PEXPIRETIME", key) for key in redis.quotas()}


def test_three_instances_agree_on_what_is_left(start_gateway, sim, redis):
    gateways = [start_gateway(sim.url, redis.url, {**LIMITS, "workers": workers}) for workers in (1, 2, 3)]
    assert [left(gateway) for gateway in gateways] == [20, 20, 20]
    for number in range(7):
        assert ask(gateways[number % 3]) == 200
    at_rest(gateways, redis, sim)
    told = [quotas(gateway) for gateway in gateways]
    for each in told:
        rph, places = each["tenants"]["acme"]["rph"], each["tenants"]["acme"]["concurrency"]
        assert (rph["limit"], rph["burst"], rph["left"]) == (20, 20, 13) and 0.34 < rph["used"] <= 0.35
        assert 6 * 180000 < rph["full_in_ms"] <= 7 * 180000  # one in 180 s
        assert places == {"limit": 5, "left": 5, "used": 0.0}
        tpd = each["models"]["gpt-4o-mini"]["tpd"]
        assert tpd["limit"] == 1000000 and tpd["strict"] is True and 0 < tpd["used"] < 0.001 and tpd["left"] < 1000000
        assert each["upstreams"]["openai"]["rpd"]["left"] == 493 and each["more"] == 0
        assert set(each["upstreams"]) == {"openai"}  # who has no limits is not listed
    with gateways[0].open_stream("openai", "[[sim tokens=500 rate=20]]") as stream:
        assert stream.read_event()
        assert {quotas(gateway)["tenants"]["acme"]["concurrency"]["left"] for gateway in gateways} == {4}
    at_rest(gateways, redis, sim)


def test_looking_changes_nothing_and_a_denied_request_neither(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {**LIMITS, "tenants": {"acme": {"limits": {"rph": {"limit": 2, "burst": 2}, "tpd": 100000}}}})
    assert [ask(gateway) for _ in range(3)] == [200, 200, 429]
    at_rest([gateway], redis, sim)
    before, expiry = state(redis), expiries(redis)
    assert {key.rpartition(":")[2] for key in before} == {"q", "tpd"} and len(before) >= 4  # buckets of three scopes, a log
    for _ in range(20):
        assert left(gateway) == 0
        gateway.metrics()
    assert ask(gateway) == 429 and left(gateway) == 0
    assert state(redis) == before and expiries(redis) == expiry
    assert quotas(gateway)["tenants"]["acme"]["rph"]["used"] > 0.99
    assert gateway.metric("sluice_redis_seconds_count", script="peek") >= 22


def test_the_page_comes_without_redis(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {**LIMITS, "redis": {"timeout": "200ms"}})
    assert ask(gateway) == 200 and left(gateway) == 19
    redis.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            began = time.monotonic()
            acme = quotas(gateway)["tenants"]["acme"]
            assert time.monotonic() - began < promised(0.5)
            assert acme == {"rph": {**RPH, "left": None, "used": None, "full_in_ms": None}, "concurrency": {"limit": 5, "left": None, "used": None}}
        assert gateway.metric("sluice_quota_used_ratio") == 0  # no stale one
    finally:
        redis.signal(signal.SIGCONT)
    wait_until(lambda: left(gateway) == 19, "Redis answers again")
    redis.child.kill()
    redis.child.wait()
    assert left(gateway) is None
    told = subprocess.run([binary("sluice"), "status", "--admin", gateway.admin_url], capture_output=True, text=True, timeout=30)
    assert told.returncode == 0 and [line.split() for line in told.stdout.splitlines()][-1] == ["tenant", "acme", "concurrency", "5", "?", "?"]


def test_it_ends_while_a_page_waits_for_redis(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {**LIMITS, "redis": {"timeout": "10s"}})
    redis.signal(signal.SIGSTOP)
    try:
        with socket.create_connection(("127.0.0.1", gateway.admin_port)) as reader, socket.create_connection(("127.0.0.1", gateway.admin_port)) as gone:
            for each in (reader, gone):
                each.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for page in ("/healthz", "/readyz", "/metrics", "/requests", "/config", "/"):  # /metrics looks as well, behind its answer
                assert gateway.page(page).status == 200
            assert select.select([reader, gone], [], [], 0)[0] == []  # none of them waited for Redis; these do
            gone.close()
            gateway.signal(signal.SIGTERM)
            assert gateway.child.wait(timeout=30) == 0
    finally:
        redis.signal(signal.SIGCONT)


def test_the_gauge_tells_the_fullest_name(start_gateway, sim, redis):
    tenants = {"acme": {"limits": {"rph": RPH}}, "zeta": {"keys": ["another-key-of-the-tests"], "limits": {"rph": {"limit": 10, "burst": 10}}}}
    gateway = start_gateway(sim.url, redis.url, {"tenants": tenants})
    assert ask(gateway) == 200 and ask(gateway, key="another-key-of-the-tests") == 200
    at_rest([gateway], redis, sim)
    quotas(gateway)
    shares = {labels: value for (name, labels), value in gateway.metrics().items() if name == "sluice_quota_used_ratio"}
    assert list(shares) == [(("limit", "rph"), ("scope", "tenant"))] and 0.09 < shares[(("limit", "rph"), ("scope", "tenant"))] <= 0.1
    before = gateway.metric("sluice_redis_seconds_count", script="peek")
    for _ in range(5):
        gateway.metrics()
    assert gateway.metric("sluice_redis_seconds_count", script="peek") == before  # once in 10 s


def test_a_scrape_alone_fills_the_gauge(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, LIMITS, wait=False)
    wait_until(gateway.ready, "it is ready")
    wait_until(lambda: gateway.metric("sluice_redis_seconds_count", script="peek") == 3, "the first scrape looks, behind its answer")
    assert gateway.metric("sluice_quota_used_ratio", scope="tenant") == 0
    shares = {labels for (name, labels) in gateway.metrics() if name == "sluice_quota_used_ratio"}
    assert {dict(labels)["scope"] for labels in shares} == {"tenant", "model", "upstream"} and len(shares) == 4


def test_five_hundred_are_asked_and_the_rest_is_counted(start_gateway, sim, redis):
    tenants = {f"tenant-{number:03}": {"keys": [f"a-key-of-many-number-{number:03}"], "limits": {"rph": RPH}} for number in range(600)}
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"keys": [KEY]}, **tenants}, "upstreams": LIMITS["upstreams"],
                                                 "redis": {"timeout": "5s"}})
    found = quotas(gateway)
    assert found["more"] == 101 and len(found["tenants"]) == 499 and set(found["upstreams"]) == {"openai"}
    assert all(limits["rph"]["left"] == 20 for limits in found["tenants"].values())
    redis.command("CONFIG", "RESETSTAT")
    quotas(gateway)
    calls = {name: int(value.split("calls=")[1].split(",")[0]) for name, value in redis.info("commandstats").items()}
    assert calls["cmdstat_evalsha"] - calls.get("cmdstat_zremrangebyscore", 0) == 500  # the second is who lives, told by the clock


def test_status_and_top_list_the_fullest(start_gateway, sim, redis):
    tenants = {f"tenant-{number:02}": {"keys": [f"a-key-of-many-number-{number:02}"], "limits": {"rph": {"limit": 30, "burst": 30}}}
               for number in range(30)}
    gateway = start_gateway(sim.url, redis.url, {"tenants": tenants})
    for number in range(3):
        for _ in range(2 * number + 1):
            assert ask(gateway, key=f"a-key-of-many-number-{number:02}") == 200
    for command in (["status"], ["top", "--count", "1"]):
        told = subprocess.run([binary("sluice"), *command, "--admin", gateway.admin_url], capture_output=True, text=True, timeout=30)
        lines = [line.split() for line in told.stdout.splitlines()]
        assert told.returncode == 0, told
        rows = lines[lines.index(["scope", "name", "quota", "limit", "used", "left", "now"]) + 1:]
        assert len(rows) == 20 and {(row[0], row[2], row[3]) for row in rows} == {("tenant", "rph", "30")}
        assert [row[1] for row in rows[:3]] == ["tenant-02", "tenant-01", "tenant-00"]
        assert [row[5] for row in rows] == ["25", "27", "29"] + ["30"] * 17
        assert 16 < float(rows[0][4].rstrip("%")) <= 16.7 and rows[3][4] == "0.0%"
