"""What is stored is given again, byte for byte, to whom it may be given, as long as it may be; and what must not be stored is not."""

import json
import os
import signal
import time

import pytest

from support import client
from support.client import headers_for, prompt
from support.gateway import KEY, merge
from support.process import promised, wait_until
from support.rest import at_rest
from test_flights import COLD, DIALECTS, fleet, received

TOKENS = "[[sim tokens=4 unique=on]]"


def ask(gateway, text=TOKENS, dialect="openai", stream=False, headers=None, **more):
    return gateway.ask(dialect, text, stream, headers=headers, **merge(COLD[dialect], more))


def said(answer):
    """What Cache-Status says of this cache, without the key."""
    return answer.headers["cache-status"].partition("; key=")[0]


def stored(redis, *gateways):
    """The key of the one answer that is stored; it is written behind the answer to the client, and until the instance has heard that it was, it gives what it
    has itself."""
    key = wait_until(lambda: redis.keys("sluice:*:v"), "the answer is stored")[0]
    wait_until(lambda: all(g.metric("sluice_flights", role="unfinished") == 0 for g in gateways), "its end has been heard")
    return key


def script_calls(gateway):
    """What requests called of Redis: not what comes by the clock (who lives, what a breaker counted) or for the page that tells it."""
    return sum(value for (name, labels), value in gateway.metrics().items()
               if name == "sluice_redis_seconds_count" and dict(labels)["script"] not in ("census", "report", "peek"))


def becomes_local(gateway, text=TOKENS, **how):
    """Asks until the worker gives its own copy: the first hit of Redis brings it there, once the window of the flight is over."""

    def own():
        before = gateway.metric("sluice_cache_total", result="local")
        answer = ask(gateway, text, **how)
        assert answer.status == 200
        return answer if gateway.metric("sluice_cache_total", result="local") > before else None

    return wait_until(own, "the worker gives its own copy")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stored_answer_is_given_again(start_gateway, sim, redis, dialect, stream):
    """On the other instance, at once, byte for byte, with its age; a slow stream comes whole."""
    gateways = fleet(start_gateway, sim, redis, {"coalesce": {"window": "0s"}}, 2)
    first = ask(gateways[0], "[[sim tokens=30 rate=60 unique=on]]", dialect, stream)
    stored(redis, *gateways)
    again = ask(gateways[1], "[[sim tokens=30 rate=60 unique=on]]", dialect, stream)
    assert first.status == again.status == 200 and first.body == again.body and again.complete
    assert received(sim) == 1
    assert said(first) == "sluice; fwd=uri-miss; stored"
    assert said(again).startswith("sluice; hit; ttl=3") and "age" in again.headers and "age" not in first.headers
    assert again.headers["content-type"] == first.headers["content-type"]
    assert not any(name.lower().startswith("ratelimit") for name in again.headers.keys())
    assert "cache;dur=" in again.headers["server-timing"] and "upstream" not in again.headers["server-timing"]
    if stream:
        assert again.seconds < first.seconds / 2
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("path,body", [("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hello"}),
                                       ("/v1/messages/count_tokens", {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "hello"}]}),
                                       ("/v1beta/models/gemini-2.5-flash:countTokens", {"contents": [{"parts": [{"text": "hello"}]}]}),
                                       ("/v1beta/models/gemini-embedding-001:embedContent", {"content": {"parts": [{"text": "hello"}]}})])
def test_embeddings_and_counts_always_are(start_gateway, sim, redis, path, body):
    gateway = start_gateway(sim.url, redis.url)
    answers = [client.request(gateway.url + path, body=body, headers=headers_for("anthropic", KEY)) for _ in range(3)]
    assert [a.status for a in answers] == [200] * 3 and len({a.body for a in answers}) == 1
    assert received(sim) == 1
    at_rest([gateway], redis, sim)


def test_temperature_decides(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    for temperature in (0.1, 1, None, "0"):
        for _ in range(2):
            answer = gateway.ask("openai", TOKENS, temperature=temperature)
            assert said(answer) == "sluice; fwd=bypass"
    for temperature in (0, 0.0, -0.0):
        assert gateway.ask("openai", TOKENS, temperature=temperature).status == 200
    assert received(sim) == 9
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("when,headers,shared", [("always", {}, True), ("asked", {}, False), ("asked", {"Cache-Control": "max-age=60"}, True), ("never", {"Cache-Control": "max-age=60"}, False)])
def test_when(start_gateway, sim, redis, when, headers, shared):
    gateway = start_gateway(sim.url, redis.url, {"cache": {"when": when}, "coalesce": {"when": "never"}})
    for _ in range(2):
        assert gateway.ask("openai", TOKENS, headers=headers).status == 200
    assert received(sim) == (1 if shared else 2)
    at_rest([gateway], redis, sim)


def test_a_hit_costs_one_call_and_the_next_none(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    first = ask(gateway)
    stored(redis, gateway)
    before = script_calls(gateway)
    assert said(ask(gateway)).startswith("sluice; hit")
    assert script_calls(gateway) - before == 1
    own = becomes_local(gateway)
    before = script_calls(gateway)
    for _ in range(20):
        assert ask(gateway).body == first.body == own.body
    assert script_calls(gateway) == before and received(sim) == 1
    at_rest([gateway], redis, sim)


def test_what_changes_elsewhere_is_not_given_from_here(start_gateway, sim, redis):
    """The local copy of one instance, when another replaces the answer: within 100 ms the new one is given."""
    gateways = fleet(start_gateway, sim, redis, {"coalesce": {"window": "0s"}}, 2)
    old = becomes_local(gateways[0])
    new = ask(gateways[1], headers={"Cache-Control": "no-cache"})
    replaced = time.monotonic()
    assert new.body != old.body
    wait_until(lambda: ask(gateways[0]).body == new.body, "the new answer")
    assert time.monotonic() - replaced < promised(0.1)
    at_rest(gateways, redis, sim)


def test_a_listener_that_is_lost_switches_the_local_copies_off(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    becomes_local(gateway)
    for client_line in redis.command("CLIENT", "LIST").splitlines():
        fields = dict(word.split("=", 1) for word in client_line.split())
        if fields.get("sub") not in (None, "0"):
            redis.command("CLIENT", "KILL", "ID", fields["id"])
    hits = gateway.metric("sluice_cache_total", result="hit")
    assert ask(gateway).status == 200
    wait_until(lambda: ask(gateway) and gateway.metric("sluice_cache_total", result="hit") > hits, "Redis is asked")
    becomes_local(gateway)  # and it is back
    at_rest([gateway], redis, sim)


def test_cache_control(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    none = ask(gateway, headers={"Cache-Control": "only-if-cached"})
    assert none.status == 504 and none.json()["error"]["code"] == "not_stored" and received(sim) == 0
    kept_out = ask(gateway, headers={"Cache-Control": "no-store"})
    assert kept_out.status == 200 and said(kept_out) == "sluice; fwd=bypass" and redis.keys("sluice:{c:*") == []
    first = ask(gateway)
    assert ask(gateway, headers={"Cache-Control": "only-if-cached"}).body == first.body
    assert ask(gateway, headers={"Cache-Control": "max-age=60"}).body == first.body
    assert received(sim) == 2
    second = ask(gateway, headers={"Cache-Control": "no-cache"})
    assert said(second) == "sluice; fwd=request; stored" and second.body != first.body
    assert ask(gateway).body == second.body and received(sim) == 3
    third = ask(gateway, headers={"Cache-Control": "max-age=0"})
    assert third.body not in (first.body, second.body) and received(sim) == 4
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("dialect", DIALECTS + ["plain"])
def test_only_if_cached_is_refused_in_the_callers_dialect(start_gateway, sim, redis, dialect):
    gateway = start_gateway(sim.url, redis.url)
    headers = {"Cache-Control": "only-if-cached"}
    if dialect == "plain":
        answer = client.request(f"{gateway.url}/plain/echo", headers={**headers_for("openai", KEY), **headers})
    else:
        answer = ask(gateway, TOKENS, dialect, headers=headers)
    assert answer.status == 504 and "not_stored" in answer.text.lower() and answer.headers["x-should-retry"] == "false"
    assert received(sim) == 0
    at_rest([gateway], redis, sim)


def test_an_age_that_is_too_old(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    first = ask(gateway)
    stored(redis, gateway)
    wait_until(lambda: int(ask(gateway).headers["age"]) >= 2, "it is two seconds old")
    assert ask(gateway, headers={"Cache-Control": "max-age=3600"}).body == first.body
    assert ask(gateway, headers={"Cache-Control": "max-age=1"}).body != first.body
    at_rest([gateway], redis, sim)


def test_stale_while_revalidate(start_gateway, sim, redis):
    """The stale answer at once, to all; one refresh in the whole fleet; then the new one. The refresh is nobody's request."""
    changes = {"cache": {"ttl": "1s", "stale_while_revalidate": "1h", "stale_if_error": "0s"}, "coalesce": {"window": "0s"}}
    gateways = fleet(start_gateway, sim, redis, changes, 3)
    text = "[[sim latency=400ms tokens=4 unique=on]]"
    first = ask(gateways[0], text)

    def stale():
        answer = ask(gateways[1], text)
        assert answer.body == first.body and answer.seconds < promised(0.3)
        return "ttl=-" in said(answer)

    wait_until(stale, "it is stale")
    for _ in range(5):
        for gateway in gateways:
            assert ask(gateway, text).seconds < promised(0.3)
    assert received(sim) == 2
    fresh = wait_until(lambda: (lambda a: a if a.body != first.body else None)(ask(gateways[2], text)), "the new one")
    assert fresh.status == 200
    assert sum(g.metric("sluice_refreshes_total", outcome="ok") for g in gateways) >= 1
    wait_until(lambda: all(g.status()["requests"]["in_flight"] == 0 for g in gateways), "all have ended")
    assert sum(g.metric("sluice_cache_total", result="stale") for g in gateways) >= 15
    at_rest(gateways, redis, sim)


def test_a_refresh_that_fails_is_not_tried_by_everybody(start_gateway, sim, redis):
    changes = {"cache": {"ttl": "1s", "stale_while_revalidate": "1h"}, "coalesce": {"window": "0s"}}
    gateways = fleet(start_gateway, sim, redis, changes, 2)
    first = ask(gateways[0])
    sim.set("status=503")
    wait_until(lambda: received(sim) == 2 or not ask(gateways[1]), "a refresh is tried")
    began, before = time.monotonic(), received(sim)
    while time.monotonic() - began < 2.0:
        for gateway in gateways:
            answer = ask(gateway)
            assert answer.status == 200 and answer.body == first.body
    assert received(sim) - before <= 4
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("failure,status", [("status=503", "; fwd-status=503"), ("status=500", "; fwd-status=500"), ("status=429", "; fwd-status=429"), ("fault=reset", ""), ("fault=garbage", "")])
def test_stale_if_error(start_gateway, sim, redis, failure, status):
    changes = {"cache": {"ttl": "1s", "stale_while_revalidate": "0s", "stale_if_error": "1h"}, "coalesce": {"window": "0s"}}
    gateways = fleet(start_gateway, sim, redis, changes, 2)
    first = ask(gateways[0])
    wait_until(lambda: int(redis.command("HGET", stored(redis, *gateways), "fresh")) < time.time() * 1e6, "it is stale")
    sim.set(failure)
    for gateway in gateways:
        answer = ask(gateway)
        assert answer.status == 200 and answer.body == first.body, answer
        assert said(answer) == f"sluice; fwd=stale{status}; detail=SIE"
    assert received(sim) == 3
    sim.clear()
    assert ask(gateways[0]).body != first.body
    assert sum(g.metric("sluice_cache_total", result="stale_error") for g in gateways) == 2
    at_rest(gateways, redis, sim)


def test_without_stale_if_error_a_failure_is_one(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"cache": {"ttl": "1s", "stale_while_revalidate": "0s", "stale_if_error": "0s"}, "coalesce": {"window": "0s"}})
    assert ask(gateway).status == 200
    stored(redis, gateway)
    wait_until(lambda: redis.keys("sluice:*:v") == [], "it has expired")
    sim.set("status=503")
    assert ask(gateway).status == 503
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("words", ["status=500", "status=400", "status=429", "filter=on", "fault=truncate", "fault=nomarker", "fault=event@2"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_never_stored(start_gateway, sim, redis, dialect, stream, words):
    """Errors, answers that a content policy stopped, cut ones, ones with an error inside."""
    if not stream and words in ("fault=nomarker", "fault=event@2"):
        pytest.skip("a fault of streams")
    gateway = start_gateway(sim.url, redis.url)
    ask(gateway, f"[[sim tokens=8 {words}]]", dialect, stream)
    wait_until(lambda: gateway.metric("sluice_flights", role="unfinished") == 0 and gateway.metric("sluice_flights", role="leading") == 0, "the flight has ended")
    assert redis.keys("sluice:*:v") == []
    assert received(sim) == 1
    at_rest([gateway], redis, sim)


def test_large_answers_are_compressed(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    first = ask(gateway, "[[sim tokens=4 size=200KiB]]")
    stored(redis, gateway)
    again = ask(gateway, "[[sim tokens=4 size=200KiB]]")
    assert first.body == again.body and said(again).startswith("sluice; hit") and len(first.body) > 200 * 1024
    assert int(redis.command("HSTRLEN", stored(redis, gateway), "body")) < len(first.body) / 2
    at_rest([gateway], redis, sim)


POISON = {
    "another body": lambda r, key: r.command("HSET", key, "body", "{}"),
    "half a body": lambda r, key: r.command("HSET", key, "body", "{\"id\":"),
    "no head": lambda r, key: r.command("HDEL", key, "head"),
    "a head of nothing": lambda r, key: r.command("HSET", key, "head", ""),
    "no sum": lambda r, key: r.command("HDEL", key, "sum"),
    "a length that lies": lambda r, key: r.command("HSET", key, "raw", "99999999"),
    "no times": lambda r, key: r.command("HDEL", key, "fresh"),
    "times of nonsense": lambda r, key: r.command("HSET", key, "made", "soon"),
    "another type": lambda r, key: (r.command("DEL", key), r.command("SET", key, "x", "EX", "60")),
}


@pytest.mark.parametrize("how", POISON)
def test_a_poisoned_entry_is_a_miss(start_gateway, sim, redis, how):
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    first = ask(gateway)
    POISON[how](redis, stored(redis, gateway))
    second = ask(gateway)
    assert second.status == 200 and second.body != first.body and second.complete
    assert received(sim) == 2
    at_rest([gateway], redis, sim)


def test_an_entry_of_another_key_is_a_miss(start_gateway, sim, redis):
    """Copied as it is under the key of another request: nobody gets another's answer."""
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    ask(gateway, TOKENS + " one")
    one = stored(redis, gateway)
    ask(gateway, TOKENS + " two")
    two = wait_until(lambda: set(redis.keys("sluice:*:v")) - {one}, "the second is stored")
    stored(redis, gateway)
    redis.command("COPY", one, two.pop(), "REPLACE")
    answer = ask(gateway, TOKENS + " two")
    assert said(answer).startswith("sluice; fwd") and received(sim) == 3
    at_rest([gateway], redis, sim)


def test_a_full_redis_of_its_own_costs_hits_never_requests(start_gateway, sim, redis, start_redis):
    full = start_redis(options=["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"])
    gateway = start_gateway(sim.url, redis.url, {"cache": {"redis": full.url}, "tenants": {"acme": {"limits": {"rpm": 10000}}}})
    for number in range(40):
        assert ask(gateway, f"{TOKENS} {number}").status == 200
    for stream in (False, True):
        assert ask(gateway, "[[sim tokens=30 rate=100]] the same", stream=stream).complete
    assert received(sim) == 42
    assert redis.keys("sluice:{c*") == []
    at_rest([gateway], redis, sim)


def test_a_redis_of_its_own_that_dies_costs_hits_never_requests(start_gateway, sim, redis, start_redis):
    answers = start_redis(name="answers")
    gateway = start_gateway(sim.url, redis.url, {"cache": {"redis": answers.url}, "coalesce": {"window": "0s"}, "redis": {"timeout": "200ms"}})
    first = ask(gateway)
    assert ask(gateway).body == first.body
    answers.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            answer = ask(gateway)
            assert answer.status == 200 and answer.seconds < promised(0.3)
    finally:
        answers.signal(signal.SIGCONT)
    wait_until(lambda: said(ask(gateway)).startswith("sluice; hit"), "it is asked again")
    answers.kill()
    assert ask(gateway).status == 200
    assert gateway.page("/readyz").status == 200
    os.unlink(answers.path)
    start_redis(name="answers")
    at_rest([gateway], redis, sim)


def test_a_full_redis_that_is_shared_keeps_its_quotas(start_gateway, sim, start_redis):
    """Answers stop being stored before the memory is full: quotas are written to the end."""
    redis = start_redis(options=["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"])
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"rpm": 100000}}}})

    def fill(number):
        assert ask(gateway, f"[[sim tokens=40 unique=on]] {number}").status == 200
        return gateway.metric("sluice_answers_full") == 1

    numbers = iter(range(100000))
    wait_until(lambda: fill(next(numbers)), "it is nearly full", interval=0)
    stored_then = len(redis.keys("sluice:*:v"))
    assert stored_then > 100
    for _ in range(300):
        fill(next(numbers))
    assert len(redis.keys("sluice:*:v")) <= stored_then + 5
    assert int(redis.info("memory")["used_memory"]) < 4 * 1024 * 1024
    at_rest([gateway], redis, sim)


def test_dialect_http_follows_what_the_answer_says(start_gateway, sim, redis, provider):
    def answer(fields):
        return ("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n" + "".join(f"{f}\r\n" for f in fields) + "\r\nok").encode()

    def calls(fields, when="always", method=None):
        upstream = provider(answer(fields))
        gateway = start_gateway(upstream.url, redis.url, {"cache": {"when": when}, "coalesce": {"window": "0s"}})
        path = f"/plain/page?q={len(upstream.url)}{fields}".replace(" ", "").replace("'", "")
        first, second = [client.request(gateway.url + path, method=method, headers=headers_for("openai", KEY)) for _ in range(2)]
        assert first.status == second.status == 200
        assert ("; stored" in first.headers["cache-status"]) == (len(upstream.requests) == 1), (fields, first)
        return len(upstream.requests)

    assert calls([]) == 1
    assert calls([], "deterministic") == 2
    assert calls([], method="PUT") == 2
    assert calls(["Cache-Control: no-store"]) == 2
    assert calls(["Cache-Control: private"]) == 2
    assert calls(["Cache-Control: max-age=0"]) == 2
    assert calls(["Cache-Control: max-age=60"]) == 1
    assert calls(["Vary: *"]) == 2


@pytest.mark.parametrize("was,now", [("7", 7), ("0", 0), ("-7", 0), ("soon", 0), ("9" * 30, 2**31), (None, 0)])
def test_an_answer_that_was_old_when_it_came_has_one_age(start_gateway, redis, provider, was, now):
    age = f"Age: {was}\r\n" if was else ""
    upstream = provider(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{age}Content-Length: 2\r\n\r\nok".encode())
    gateway = start_gateway(upstream.url, redis.url, {"cache": {"when": "always"}, "coalesce": {"window": "0s"}})
    first = client.request(gateway.url + "/plain/page", headers=headers_for("openai", KEY))
    assert first.headers.get_all("age") == ([was] if was else None)
    stored(redis, gateway)
    again = client.request(gateway.url + "/plain/page", headers=headers_for("openai", KEY))
    assert "hit" in said(again) and len(upstream.requests) == 1
    assert [int(each) for each in again.headers.get_all("age")] == [now] or now < int(again.headers["age"]) < now + 30
    assert len(again.headers.get_all("age")) == 1
    at_rest([gateway], redis)


def test_a_clock_that_was_set_back_makes_no_age_below_nothing(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}})
    assert ask(gateway).status == 200
    redis.command("HINCRBY", stored(redis, gateway), "made", 3_600_000_000)
    again = ask(gateway)
    assert "hit" in said(again) and again.headers["age"] == "0"
    at_rest([gateway], redis, sim)


def test_every_key_has_an_expiry(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    for stream in (False, True):
        for dialect in DIALECTS:
            assert ask(gateway, TOKENS, dialect, stream).status == 200
    keys = redis.keys("sluice:*")
    assert any(key.endswith(":v") for key in keys) and any(key.endswith(":f") for key in keys)
    assert all(0 < int(redis.command("PTTL", key)) for key in keys)
    ttl = max(int(redis.command("PTTL", key)) for key in keys if key.endswith(":v"))
    assert 24 * 3600_000 < ttl <= 25 * 3600_000
    at_rest([gateway], redis, sim)


def test_a_client_that_leaves_while_it_is_given_a_stored_answer(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    path, body = prompt("openai", "[[sim tokens=4 size=900KiB]]", **COLD["openai"])
    whole = client.request(gateway.url + path, body=body, headers=headers_for("openai", KEY))
    assert whole.status == 200
    for _ in range(5):
        connection, _ = client.connect(gateway.url)
        connection.request("POST", path, body=json.dumps(body), headers={**headers_for("openai", KEY), "Content-Type": "application/json"})
        connection.sock.recv(1000)
        connection.sock.close()
    assert client.request(gateway.url + path, body=body, headers=headers_for("openai", KEY)).body == whole.body
    at_rest([gateway], redis, sim)
