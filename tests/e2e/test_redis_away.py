"""Redis dead, hung, empty, or answering errors: the declared mode at once, nothing longer than redis.timeout, normal service within a second of its return."""

import os
import signal
import time

import pytest

from support.gateway import merge
from support.process import promised, wait_until
from support.rest import at_rest, counted

TIMEOUT = 0.2  # seconds
LIMITS = {"tenants": {"acme": {"limits": {"rpm": 100000}}}, "redis": {"timeout": f"{TIMEOUT * 1000:g}ms"}}


def status(gateway):
    return gateway.ask("openai", "[[sim tokens=1]]").status


def modes(mode):
    return merge(LIMITS, {"redis": {"on_failure": mode}})


@pytest.mark.parametrize("mode,wanted", [("closed", 503), ("open", 200)])
def test_a_hung_redis(start_gateway, sim, redis, mode, wanted):
    gateway = start_gateway(sim.url, redis.url, modes(mode))
    assert status(gateway) == 200
    redis.signal(signal.SIGSTOP)
    try:
        for _ in range(5):
            answer = gateway.ask("openai", "[[sim tokens=1]]")
            assert answer.status == wanted and answer.seconds < promised(TIMEOUT + 0.1), answer
        if mode == "closed":
            assert answer.json()["error"]["code"] == "quota_unavailable" and answer.headers["retry-after"] == "1"
    finally:
        redis.signal(signal.SIGCONT)
    back = time.monotonic()
    wait_until(lambda: gateway.status()["redis"]["up"] and status(gateway) == 200, "normal service")
    assert time.monotonic() - back < promised(1.0)
    at_rest([gateway], redis, sim)


def test_a_redis_that_comes_back_empty(start_gateway, sim, redis, start_redis):
    gateway = start_gateway(sim.url, redis.url, LIMITS)
    assert status(gateway) == 200
    with gateway.open_stream("openai", "[[sim tokens=200 rate=50]]") as stream:
        assert stream.read_event()
        redis.child.kill()
        redis.child.wait()
        wait_until(lambda: status(gateway) == 503, "it is missed")
        os.unlink(redis.path)
        again = start_redis(name=redis.name)
        assert again.path == redis.path
        back = time.monotonic()
        wait_until(lambda: status(gateway) == 200, "normal service")
        assert time.monotonic() - back < promised(1.0)
        assert stream.read_all().rstrip().endswith(b"[DONE]")  # a stream outlives its Redis
    at_rest([gateway], again, sim)


def test_scripts_are_loaded_again(gateway, redis, sim):
    assert status(gateway) == 200
    redis.command("SCRIPT", "FLUSH")
    redis.command("FLUSHALL")
    assert status(gateway) == 200
    at_rest([gateway], redis, sim)


def test_a_full_redis_refuses_new_calls_and_settles_old_ones(start_gateway, sim, start_redis):
    redis = start_redis(options=["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"])
    gateway = start_gateway(sim.url, redis.url, LIMITS)
    with gateway.open_stream("openai", "[[sim tokens=10000 rate=50]]") as stream:
        assert stream.read_event()
        size = 1 << 20
        while size > 64:
            try:
                redis.command("APPEND", "filler", "x" * size)
            except RuntimeError as full:
                assert "OOM" in str(full)
                size //= 2
        assert status(gateway) == 503
    wait_until(lambda: gateway.status()["quota"]["leases"] == 0 and gateway.status()["quota"]["unsettled"] == 0, "settled though full")
    redis.command("DEL", "filler")
    wait_until(lambda: status(gateway) == 200, "normal service")
    at_rest([gateway], redis, sim)


def test_errors_of_redis(start_gateway, sim, redis, proxy, folder):
    front = proxy(f"unix:{redis.path}", str(folder / "front.sock"))
    gateway = start_gateway(sim.url, f"unix://{front.path}", LIMITS)
    assert status(gateway) == 200
    front.tell("error-every 1")
    assert status(gateway) == 503
    front.clear()
    wait_until(lambda: status(gateway) == 200, "normal service")
    assert gateway.metric("sluice_redis_errors_total") >= 1
    at_rest([gateway], redis, sim)


def test_a_process_that_slept_past_its_leases_is_fenced(start_gateway, sim, redis):
    """SIGSTOP for longer than a lease: what ran meanwhile may have been given to others, so it stops."""
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"concurrency": 1}}}})
    with gateway.open_stream("openai", "[[sim tokens=10000 rate=20]]") as stream:
        assert stream.read_event()
        gateway.signal(signal.SIGSTOP)
        time.sleep(11)  # longer than a lease lives
        gateway.signal(signal.SIGCONT)
        rest = b""
        try:
            while piece := stream.read_event():
                rest = piece
        except Exception:
            pass
        assert b"quota_unavailable" in rest
    wait_until(lambda: counted([gateway], outcome="quota_unavailable") == 1, "it is counted")
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("memory,policy,warned", [("50mb", "allkeys-lru", True), ("50mb", "volatile-ttl", True), ("50mb", "noeviction", False), ("0", "allkeys-lru", False)])
def test_a_redis_that_may_evict_is_warned_of(start_gateway, sim, start_redis, memory, policy, warned):
    redis = start_redis(options=["--maxmemory", memory, "--maxmemory-policy", policy])
    gateway = start_gateway(sim.url, redis.url, {"workers": 2})
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
    wait_until(lambda: redis.info("commandstats").get("cmdstat_info", "").startswith("calls="), "it has looked")
    gateway.stop()
    assert gateway.stdout().count(f"maxmemory-policy is {policy}") == (1 if warned else 0)
