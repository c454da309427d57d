"""Redis dead, hung, empty, or answering errors: the declared mode at once, nothing longer than redis.timeout, normal service within a second of its return."""

import concurrent.futures
import os
import signal
import threading
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


CLOSED = modes("closed")


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
        assert gateway.page("/readyz").status == 200  # every instance has lost it: none is better than this one
    finally:
        redis.signal(signal.SIGCONT)
    back = time.monotonic()
    wait_until(lambda: gateway.status()["redis"]["up"] and status(gateway) == 200, "normal service")
    assert time.monotonic() - back < promised(1.0)
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("mode", ["share", "open", "closed"])
def test_no_redis_at_the_start(start_gateway, sim, redis, mode):
    """In a share the log says what the worker's part is; where nothing is shared there is none."""
    redis.kill()
    gateway = start_gateway(sim.url, redis.url, modes(mode), wait=False)
    told = wait_until(lambda: [line for line in gateway.log() if line["event"] == "redis_mode"], "it is missed")
    assert [line["mode"] for line in told] == [mode] and ("whole of each limit" in told[0].get("fleet", "")) == (mode == "share"), told


def test_a_redis_that_comes_back_empty(start_gateway, sim, redis, start_redis):
    gateway = start_gateway(sim.url, redis.url, CLOSED)
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


def test_who_waits_for_a_place_is_served_by_whichever_line_there_is(start_gateway, sim, redis):
    """The place comes free when Redis takes writes again: who has waited for it meanwhile, here alone, stands in the fleet's line again. No connection breaks."""
    one = {"workers": 1, "upstreams": {"openai": {"limits": {"concurrency": 1}}}, "queue": {"max_wait": "50s"}}
    gateway = start_gateway(sim.url, redis.url, one)
    answers = []
    waits = threading.Thread(target=lambda: answers.append(gateway.ask("openai", "[[sim tokens=1]]")))
    with gateway.open_stream("openai", "[[sim tokens=2000 rate=50]]") as stream:
        assert stream.read_event()
        waits.start()
        wait_until(lambda: gateway.metric("sluice_queue_depth") == 1, "it waits")
        redis.command("CONFIG", "SET", "maxmemory", "1")
        wait_until(lambda: gateway.status()["redis"]["mode"] == "share", "it is full")
        time.sleep(1)  # for longer than anything that is under way
        redis.command("CONFIG", "SET", "maxmemory", "0")
        wait_until(lambda: gateway.status()["redis"]["mode"] == "normal", "it is not")
        time.sleep(1)
        assert not answers and gateway.metric("sluice_queue_depth") == 1
    freed = time.monotonic()
    waits.join()
    assert answers[0].status == 200 and time.monotonic() - freed < promised(2), answers
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("max_wait", ["0s", "200ms"])
def test_who_is_refused_by_a_workers_part_is_told_so(start_gateway, sim, redis, max_wait):
    """One place, two workers: one of them has none, and the other knows of its own calls alone. Whom a caller meets is chance."""
    gateway = start_gateway(sim.url, redis.url, {"workers": 2, "upstreams": {"openai": {"limits": {"concurrency": 1}}}, "queue": {"max_wait": max_wait}})
    wait_until(lambda: gateway.status()["redis"]["live_workers"] == 2, "they know of each other")

    def refusals(away):
        with concurrent.futures.ThreadPoolExecutor(4) as callers:
            answers = list(callers.map(lambda _: gateway.ask("openai", "[[sim tokens=1 latency=1s]]"), range(4)))
        assert sorted(answer.status for answer in answers) in ([200, 429, 429, 429], *([[429] * 4] if away else [])), answers
        return {answer.json()["error"]["message"].split(" The limit concurrency of the upstream is 1.")[1] for answer in answers if answer.status == 429}

    assert not any("Redis" in told for told in refusals(away=False))
    redis.kill()
    wait_until(lambda: gateway.status()["redis"]["workers_without"] == 2, "it is missed")
    has = " Redis is away: this worker has "
    assert all(told.endswith((f"{has}a part of it, and knows of its own calls alone.", f"{has}no place of it.")) for told in refusals(away=True))


def test_an_instance_without_a_place_does_not_speak_of_requests_in_flight(start_gateway, sim, redis):
    """One place, two instances of one worker: the one that has none refuses with nothing in flight, and says why."""
    one = {"workers": 1, "tenants": {"acme": {"limits": {"concurrency": 1}}}}
    fleet = [start_gateway(sim.url, redis.url, one) for _ in range(2)]
    wait_until(lambda: all(gateway.status()["redis"]["live_workers"] == 2 for gateway in fleet), "they know of each other")
    redis.kill()
    wait_until(lambda: all(gateway.status()["redis"]["workers_without"] == 1 for gateway in fleet), "it is missed")
    served, refused = sorted((gateway.ask("openai", "[[sim tokens=1]]") for gateway in fleet), key=lambda answer: answer.status)
    assert (served.status, refused.status) == (200, 429) and refused.json()["error"]["code"] == "too_many_at_once"
    assert refused.json()["error"]["message"] == (
        "No place is free for one more request. Wait as long as Retry-After says. The limit concurrency of the tenant is 1. Redis is away: this worker has no place of it.")


def test_scripts_are_loaded_again(gateway, redis, sim):
    assert status(gateway) == 200
    redis.command("SCRIPT", "FLUSH")
    redis.command("FLUSHALL")
    assert status(gateway) == 200
    at_rest([gateway], redis, sim)


def test_a_full_redis_refuses_new_calls_and_settles_old_ones(start_gateway, sim, start_redis):
    redis = start_redis(options=["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"])
    gateway = start_gateway(sim.url, redis.url, CLOSED)
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
    gateway = start_gateway(sim.url, f"unix://{front.path}", CLOSED)
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
    wait_until(lambda: len(gateway.status()["redis"]["warnings"]) == (1 if warned else 0), "it is on /status")
    gateway.stop()
    assert gateway.stdout().count(f"maxmemory-policy is {policy}: when it is full") == (1 if warned else 0)


@pytest.mark.parametrize("options,limits,warned", [
    ([], {"rpd": 1000}, True), ([], {"rpm": 1000}, False), (["--save", "3600 1"], {"rpd": 1000}, False), (["--appendonly", "yes"], {"tph": 1000}, False)])
def test_a_redis_that_forgets_is_warned_of_where_that_counts(start_gateway, sim, start_redis, options, limits, warned):
    redis = start_redis(options=options)
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": limits}}})
    wait_until(lambda: int(redis.info("commandstats").get("cmdstat_info", "calls=0").split(",")[0][6:]) >= (2 if "rpm" in limits else 3), "it has looked")
    wait_until(lambda: any("nothing over a restart" in warning for warning in gateway.status()["redis"]["warnings"]) == warned, "it is on /status")
    if warned:
        redis.command("CONFIG", "SET", "appendonly", "yes")
        redis.signal(signal.SIGSTOP)
        wait_until(lambda: gateway.status()["redis"]["mode"] == "share", "it is missed")
        redis.signal(signal.SIGCONT)
        wait_until(lambda: gateway.status()["redis"]["warnings"] == [], "it looks again when Redis is back")
    gateway.stop()
    assert gateway.stdout().count("appendonly is no") == (1 if warned else 0)
    assert gateway.stdout().count("appendonly is yes now") == (1 if warned else 0)


@pytest.mark.parametrize("forbid,word", [(("ACL", "SETUSER", "default", "-info", "-config|get"), "NOPERM"), (("ACL", "SETUSER", "default", "-config|get"), "NOPERM"), (None, "ERR unknown command")],
                         ids=["both", "config", "renamed"])
def test_what_may_not_be_asked_is_said_to_be_unknown(start_gateway, sim, start_redis, forbid, word):
    redis = start_redis(options=[] if forbid else ["--rename-command", "CONFIG", "hidden"])
    if forbid:
        redis.command(*forbid)
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"rpd": 1000}}}})
    both = forbid is not None and "-info" in forbid
    unknown = [f"Redis refuses INFO memory ({word}): whether it throws quotas away when it is full, is not known"] * both + [
        f"Redis refuses {'INFO persistence' if both else 'CONFIG GET save'} ({word}): whether it keeps anything over a restart, and limits of an hour or a day, is not known"]
    wait_until(lambda: gateway.status()["redis"]["warnings"] == unknown, "it is said")
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
    assert all(gateway.stdout().count(line) == 1 for line in unknown)
