"""The pools of the whole program: bounds that hold over workers, upstreams and tenants; what is told of them; streams that hold nobody up."""

import concurrent.futures
import contextlib
import json
import os
import random
import re
import statistics

import pytest

from support import load
from support.client import headers_for, prompt
from support.gateway import CREDENTIALS, KEY
from support.process import wait_until
from support.rest import at_rest

LONG = os.environ.get("SLUICE_LONG") == "1"
OTHER_KEY, ONES_KEY = "another-key-of-the-tests", "the-key-of-a-tenant-with-one"


def pools(gateway, upstream="openai", pool="calls"):
    return gateway.status()["upstreams"][upstream]["pools"][pool]


def ask_all(gateway, count, dialect="openai", key=KEY, behaviour="tokens=1", stream=False):
    """So many calls at once, each over a connection of its own; their statuses."""
    with concurrent.futures.ThreadPoolExecutor(count) as callers:
        answers = callers.map(lambda _: gateway.ask(dialect, f"[[sim {behaviour}]]", key=key, stream=stream), range(count))
        return [answer.status for answer in answers]


def test_a_burst_from_cold_keeps_the_bound_of_the_instance(start_gateway, sim, redis):
    """Four workers, five connections: together, and not at least one each or more."""
    gateway = start_gateway(sim.url, redis.url, {"workers": 4, "upstreams": {"openai": {"pool": {"preset": "cli", "min": None, "start": None, "max": None,
                                                                                                 "streams": None}}}})
    assert pools(gateway)["opened"] == 0  # nothing before the first call
    statuses = ask_all(gateway, 100, behaviour="tokens=1 latency=20ms")
    told = pools(gateway)
    print(f"100 at once from cold over 4 workers: {statuses.count(200)} served, at most {told['peak']} connections at once, {told['opened']} opened")
    assert statuses == [200] * 100
    assert sim.stats()["max_in_flight"] == 5
    assert told["peak"] == 5 and told["limit"] == 5
    at_rest([gateway], redis, sim)


@pytest.fixture
def two(tls_front, sim, authority):
    """The provider over HTTP/2 and TLS: its URL, and what an upstream has to say for it."""
    return tls_front(sim.port).url, {"ca_file": str(authority.certificate)}


def test_a_burst_from_cold_over_http2_keeps_the_bound_too(start_gateway, sim, redis, two):
    """Four workers, five connections, three streams each: fewer than there are calls, and than the workers would like."""
    url, trust = two
    gateway = start_gateway(url, redis.url, {"workers": 4, "upstreams": {"openai": {
        **trust, "pool": {"min": 0, "start": 1, "max": 5, "streams_per_connection": 3, "http": "2", "connect_timeout": "30s"}}}})
    statuses = ask_all(gateway, 100, behaviour="tokens=1 latency=20ms")
    told = pools(gateway)
    print(f"100 at once from cold over HTTP/2, 4 workers: {statuses.count(200)} served, at most {told['peak']} connections at once, {told['opened']} opened")
    assert statuses == [200] * 100
    assert 1 <= told["peak"] <= 5 and sim.stats()["max_in_flight"] <= 15
    at_rest([gateway], redis, sim)


def test_any_worker_may_use_all_connections(start_gateway, sim, redis):
    """As many calls at once as there are connections are all under way at once, whichever workers they came to."""
    gateway = start_gateway(sim.url, redis.url, {"workers": 4, "upstreams": {"openai": {"pool": {"min": 0, "start": 1, "max": 6, "connect_timeout": "10s"}}}})
    for _ in range(5):
        sim.reset()
        assert ask_all(gateway, 6, behaviour="tokens=1 latency=300ms") == [200] * 6
        assert sim.stats()["max_in_flight"] == 6
    at_rest([gateway], redis, sim)


def test_a_tenant_has_its_bound_and_holds_nobody_up(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {
        "workers": 3, "tenants": {"acme": {"pool": {"max": 3}}, "other": {"keys": [OTHER_KEY]}, "one": {"keys": [ONES_KEY], "pool": {"max": 1}}},
        "upstreams": {"openai": {"pool": {"max": 50, "tenant_max": 20, "connect_timeout": "500ms"}}}})
    with contextlib.ExitStack() as stack:
        for _ in range(3):  # all that it may have, streams and plain calls together
            assert stack.enter_context(gateway.open_stream("openai", "[[sim tokens=100 rate=10]]")).read_event()
        refused = gateway.ask("openai", "[[sim tokens=1]]")
        assert refused.status == 503 and refused.json()["error"]["code"] == "upstream_busy" and refused.headers["Retry-After"] == "1"
        assert "all 3 connections that the tenant may occupy are in use" in refused.json()["error"]["message"]
        assert stack.enter_context(gateway.open_stream("openai", "[[sim tokens=100 rate=10]]", key=ONES_KEY)).read_event()
        assert "the 1 connection that the tenant may occupy is in use" in gateway.ask("openai", "[[sim tokens=1]]", key=ONES_KEY).json()["error"]["message"]
        assert ask_all(gateway, 20, key=OTHER_KEY) == [200] * 20
        assert gateway.ask("gemini", "[[sim tokens=1]]").status == 200  # the bound is of one upstream
    wait_until(lambda: pools(gateway, pool="streams")["active"] == 0, "they are gone")
    sim.reset()
    assert ask_all(gateway, 24, behaviour="tokens=1 latency=20ms") == [200] * 24
    assert sim.stats()["max_in_flight"] == 3
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("max_wait", ["0s", "100ms"])
def test_whose_places_are_in_use_is_not_sent_round_the_endpoints(start_gateway, start_sim, redis, max_wait):
    """They are of the whole upstream: at each further endpoint it would wait in vain, and hold what its neighbours may need. Another upstream may have one."""
    sims = [start_sim() for _ in range(4)]
    gateway = start_gateway(sims[0].url, redis.url, {
        "queue": {"max_wait": max_wait}, "tenants": {"acme": {"pool": {"max": 1}}},
        "upstreams": {"openai": {"endpoints": [{"url": sim.url} for sim in sims]},
                      "second": {"dialect": "openai", "endpoints": [{"url": sims[0].url}], "credential": CREDENTIALS["openai"]}},
        "models": {"gpt-4o": {"targets": [{"upstream": "openai"}, {"upstream": "openai", "model": "gpt-4o-mini"}, {"upstream": "second"}]}}})
    with gateway.open_stream("openai", "[[sim tokens=2000 rate=50]]") as stream:
        assert stream.read_event()
        refused = gateway.ask("openai", "[[sim tokens=1]]")
        elsewhere = gateway.ask("openai", "[[sim tokens=1]]", model="gpt-4o")
    assert refused.status == 503 and "the 1 connection that the tenant may occupy is in use" in refused.json()["error"]["message"]
    assert elsewhere.status == 200
    lines = wait_until(lambda: (told := {line["outcome"]: line for line in gateway.log() if line["event"] == "request"}) and len(told) == 3 and told, "logged")
    assert [lines[outcome]["attempts"] for outcome in ("upstream_busy", "ok")] == [1, 2], lines
    at_rest([gateway], redis)


@pytest.mark.parametrize("max_wait", ["0s", "100ms"])
def test_whose_place_comes_free_meanwhile_has_it_at_the_next_attempt(start_gateway, start_sim, redis, max_wait):
    """That there was none is no reason to stay away when the other upstream has failed the call too."""
    sims = [start_sim(), start_sim("status=503")]
    gateway = start_gateway(sims[0].url, redis.url, {
        "queue": {"max_wait": max_wait}, "tenants": {"acme": {"pool": {"max": 1}}},
        "upstreams": {"openai": {"retry": {"budget": "100%"}},
                      "second": {"dialect": "openai", "endpoints": [{"url": sims[1].url}], "credential": CREDENTIALS["openai"]}},
        "models": {"gpt-4o": {"targets": [{"upstream": "openai"}, {"upstream": "second"}]}}})
    with concurrent.futures.ThreadPoolExecutor(1) as callers, gateway.open_stream("openai", "[[sim tokens=2000 rate=50]]") as stream:
        assert stream.read_event()
        late = callers.submit(gateway.ask, "openai", "[[sim tokens=1]]", model="gpt-4o")
        wait_until(lambda: sims[1].stats()["received"] == 1, "it was tried elsewhere")
        stream.leave()
        assert late.result().status == 200
    assert sims[1].stats()["received"] == 1
    at_rest([gateway], redis)


def test_who_has_no_place_does_not_wait_for_another_upstreams_pause(start_gateway, start_sim, redis):
    sims = [start_sim(), start_sim("status=429 retry=4s")]
    gateway = start_gateway(sims[0].url, redis.url, {
        "queue": {"max_wait": "0s"}, "tenants": {"acme": {"pool": {"max": 1}}},
        "upstreams": {"openai": {"retry": {"budget": "100%"}},
                      "second": {"dialect": "openai", "endpoints": [{"url": sims[1].url}], "credential": CREDENTIALS["openai"], "retry": {"budget": "100%"}}},
        "models": {"gpt-4o": {"targets": [{"upstream": "openai"}, {"upstream": "second"}]}}})
    with gateway.open_stream("openai", "[[sim tokens=2000 rate=50]]") as stream:
        assert stream.read_event()
        refused = [gateway.ask("openai", "[[sim tokens=1]]", model="gpt-4o") for _ in range(3)]
    assert [(answer.status, answer.json()["error"]["code"]) for answer in refused] == [(503, "upstream_busy")] * 3
    assert sims[1].stats()["received"] == 1  # and then it is paused
    at_rest([gateway], redis)


def test_waiting_for_a_connection_counts_apart(start_gateway, sim, redis):
    """It is neither a line's time nor the provider's; who waited in vain tells it too."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"pool": {"min": 1, "start": 1, "max": 1, "connect_timeout": "400ms"}}}})

    def timing(answer):
        return {name: float(spent) for name, spent in re.findall(r"(\w+);dur=([\d.]+)", answer.headers["Server-Timing"])}

    alone = timing(gateway.ask("openai", "[[sim tokens=1]]"))
    assert "pool" not in alone and alone["upstream"] > 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.ask, "openai", "[[sim tokens=1 latency=300ms]]")
        wait_until(lambda: pools(gateway)["active"] == 1, "it is called")
        second = gateway.ask("openai", "[[sim tokens=1 latency=50ms]]")
        assert first.result().status == second.status == 200 and "pool" not in timing(first.result())
    waited = timing(second)  # the simulator's timers may be some milliseconds early
    assert waited["pool"] > 100 and 40 <= waited["upstream"] <= second.seconds * 1000 - waited["pool"] and "queue" not in waited, waited
    with gateway.open_stream("openai", "[[sim tokens=1]]") as stream:  # its pool is another
        assert stream.read_all()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(gateway.ask, "openai", "[[sim tokens=1 latency=2s]]")
        wait_until(lambda: pools(gateway)["active"] == 1, "it is called")
        assert gateway.ask("openai", "[[sim tokens=1]]").json()["error"]["code"] == "upstream_busy" and first.result().status == 200
    lines = wait_until(lambda: (told := [line for line in gateway.log() if line["event"] == "request"]) and len(told) == 6 and told, "they are logged")
    waits = sorted((line["pool_ms"], line["outcome"]) for line in lines if "pool_ms" in line)
    assert [outcome for _, outcome in waits] == ["ok", "upstream_busy"] and abs(waits[0][0] - waited["pool"]) < 0.02 and 400 <= waits[1][0], waits
    at_rest([gateway], redis, sim)


def test_who_gives_up_waiting_for_a_connection_has_waited_too(start_gateway, sim, redis):
    """By leaving, and by the deadline that it set: in the metric, the log, the answer; and nothing of that is called the provider's time."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"pool": {"min": 0, "start": 1, "max": 1, "connect_timeout": "30s"}}}})
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(gateway.ask, "openai", "[[sim tokens=1 latency=3s]]")
        wait_until(lambda: pools(gateway)["active"] == 1, "it is called")
        with pytest.raises(TimeoutError):
            gateway.ask("openai", "[[sim tokens=1]]", timeout=0.5)
        waiting = pool.submit(gateway.ask, "openai", "[[sim tokens=1]]", headers={"x-stainless-timeout": "0.3"})
        wait_until(lambda: sorted(("waits_for" in each, each.get("waits_for")) for each in gateway.page("/requests").json()["requests"]) ==
                   [(False, None), (True, "connection")], "one of the two is not called yet")
        late = waiting.result()
        assert first.result().status == 200
    assert late.status == 504 and late.json()["error"]["code"] == "deadline"
    timing = {name: float(spent) for name, spent in re.findall(r"(\w+);dur=([\d.]+)", late.headers["Server-Timing"])}
    assert timing["pool"] >= 300 and "upstream" not in timing, timing
    lines = wait_until(lambda: (told := {line["outcome"]: line for line in gateway.log() if line["event"] == "request"}) and len(told) == 3 and told, "logged")
    assert lines["client_gone"]["pool_ms"] > 300 and lines["deadline"]["pool_ms"] >= 300 and "pool_ms" not in lines["ok"], lines
    assert gateway.metric("sluice_pool_wait_seconds_count", upstream="openai") == 3
    assert gateway.metric("sluice_pool_wait_seconds_sum", upstream="openai") > 0.6 and pools(gateway)["waited_seconds"] > 0.6
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("bounds", ["pool", "instance", "pool over HTTP/2"])
def test_who_does_not_wait_has_what_is_idle_at_another_worker(start_gateway, sim, redis, two, bounds):
    """With `max_wait: 0` a connection that is in use is not waited for; one that is idle is had, whichever worker has it."""
    url, trust = two if bounds == "pool over HTTP/2" else (sim.url, {})
    pool = {"min": 0, "start": 1, "http": "2" if trust else "1.1", "streams_per_connection": 1, **({} if bounds == "instance" else {"max": 1})}
    gateway = start_gateway(url, redis.url, {"workers": 3, "queue": {"max_wait": "0s"}, **({"pool": {"max": 1}} if bounds == "instance" else {}),
                                             "upstreams": {name: {**trust, "pool": pool} for name in ("openai", "gemini", "anthropic", "plain")}})
    assert [gateway.ask("openai", "[[sim tokens=1 latency=20ms]]").status for _ in range(30)] == [200] * 30
    with concurrent.futures.ThreadPoolExecutor(1) as callers:
        first = callers.submit(gateway.ask, "openai", "[[sim tokens=1 latency=2s]]")
        wait_until(lambda: pools(gateway)["active"] == 1, "it is called")
        refused = [gateway.ask("openai", "[[sim tokens=1]]") for _ in range(6)]  # whichever worker they come to
        assert first.result().status == 200
    assert [answer.status for answer in refused] == [503] * 6 and {answer.json()["error"]["code"] for answer in refused} == {"upstream_busy"}
    assert sorted(answer.seconds for answer in refused)[3] < 0.2, [answer.seconds for answer in refused]
    assert pools(gateway)["peak"] == 1
    at_rest([gateway], redis, sim)


def test_who_does_not_wait_has_all_places_that_are_free(start_gateway, sim, redis):
    """As many at once as there may be, and a tenant's bound with them."""
    gateway = start_gateway(sim.url, redis.url, {"workers": 4, "queue": {"max_wait": "0s"}, "tenants": {"acme": {"pool": {"max": 3}}, "other": {"keys": [OTHER_KEY]}},
                                                 "upstreams": {"openai": {"pool": {"min": 1, "start": 1, "max": 4}}}})
    for _ in range(5):
        assert ask_all(gateway, 4, key=OTHER_KEY, behaviour="tokens=1 latency=200ms") == [200] * 4
        assert ask_all(gateway, 3, behaviour="tokens=1 latency=200ms") == [200] * 3
    assert sorted(ask_all(gateway, 4, behaviour="tokens=1 latency=1s")) == [200, 200, 200, 503]
    assert sorted(ask_all(gateway, 5, key=OTHER_KEY, behaviour="tokens=1 latency=1s")) == [200] * 4 + [503]
    assert pools(gateway)["peak"] == 4
    at_rest([gateway], redis, sim)


def test_the_instance_has_its_bound_over_all_upstreams(start_gateway, sim, redis):
    """What is idle at one upstream makes room for another; streams have their own bound."""
    gateway = start_gateway(sim.url, redis.url, {"workers": 2, "pool": {"max": 8, "streams": 2}, "upstreams": {
        name: {"pool": {"min": 0, "start": 1}} for name in ("openai", "gemini", "anthropic", "plain")}})

    def open_now():
        return sum(pools(gateway, upstream)[state] for upstream in ("openai", "gemini", "anthropic", "plain") for state in ("active", "idle"))

    with gateway.open_stream("openai", "[[sim tokens=100 rate=10]]") as one, gateway.open_stream("gemini", "[[sim tokens=100 rate=10]]") as two:
        assert one.read_event() and two.read_event()
        for dialect in ("openai", "gemini", "anthropic"):
            assert ask_all(gateway, 30, dialect, behaviour="tokens=1 latency=10ms") == [200] * 30
            assert open_now() <= 8
    ceded = sum(gateway.metric("sluice_pool_recycled_total", upstream=name, reason="ceded") for name in ("openai", "gemini"))
    assert ceded >= 8
    for name in ("openai", "gemini", "anthropic"):  # who waits under the instance's bound has no connection yet
        assert 1 <= pools(gateway, name)["peak"] <= min(8, pools(gateway, name)["opened"]), pools(gateway, name)
    assert sim.stats()["max_in_flight"] <= 10
    at_rest([gateway], redis, sim)


def test_who_waits_for_the_instances_bound_is_told_of_it(start_gateway, sim, redis):
    """And so is who looks at a pool that has room, and in which calls wait; also after a reload."""
    short = {"pool": {"min": 0, "connect_timeout": "400ms"}}
    roomy = {"endpoints": [{"url": sim.url}, {"url": sim.url.replace("127.0.0.1", "localhost")}], "pool": {"min": 0, "start": 10}}
    gateway = start_gateway(sim.url, redis.url, {"pool": {"max": 2, "streams": 3}, "upstreams": {**{name: short for name in ("openai", "gemini")}, "plain": roomy}})
    assert [pools(gateway, name)["limit"] for name in ("openai", "gemini")] == [2, 2] and pools(gateway, pool="streams")["limit"] == 3
    assert [(pools(gateway, "plain", pool)["limit"], pools(gateway, "plain", pool)["size"]) for pool in ("calls", "streams")] == [(2, 2), (3, 3)]
    assert gateway.metric("sluice_pool_size", upstream="plain", pool="calls") == 2
    with concurrent.futures.ThreadPoolExecutor(2) as callers:
        first = [callers.submit(gateway.ask, "gemini", "[[sim tokens=1 latency=1500ms]]") for _ in range(2)]
        wait_until(lambda: pools(gateway, "gemini")["active"] == 2, "they are called")
        refused = gateway.ask("openai", "[[sim tokens=1]]")
        assert [call.result().status for call in first] == [200, 200]
    assert refused.status == 503 and refused.json()["error"]["code"] == "upstream_busy"
    assert "all 2 connections of this instance, to all upstreams together, are in use" in refused.json()["error"]["message"], refused.json()
    gateway.reload({"pool": {"max": 5}})
    wait_until(lambda: pools(gateway)["limit"] == 5, "another bound")
    assert gateway.metric("sluice_pool_limit", upstream="openai", pool="calls") == 5
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("http", ["1.1", "2"])
def test_steady_work_at_the_bound_reuses(start_gateway, sim, redis, two, http):
    """Four workers, as many calls at a time as there may be connections, unevenly spread: places go to whoever has work, and do not wander with every call."""
    url, trust = two if http == "2" else (sim.url, {})
    gateway = start_gateway(url, redis.url, {"workers": 4, "upstreams": {"openai": {
        **trust, "pool": {"min": 0, "start": 16, "max": 16, "http": http, "streams_per_connection": 4, "connect_timeout": "30s"}}}})
    path, body = prompt("openai", "[[sim tokens=1 latency=5ms]]", False)
    report = load.run(gateway.url + path, connections=16, requests=4000, body=body, headers=headers_for("openai", KEY))
    told = pools(gateway)
    reuse = told["reused"] / 4000
    print(f"4 workers, 16 at once, max 16, HTTP/{http}: {told['opened']} opened, {told['recycled']['ceded']} ceded, {reuse:.2%} reused")
    assert report["by_status"] == {"200": 4000}
    assert reuse >= 0.98 and told["peak"] <= 16
    at_rest([gateway], redis, sim)


def test_sizes_change_with_the_pools_running(start_gateway, sim, redis):
    """A reload that changes sizes alone closes nothing, and what is counted goes on."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"pool": {"min": 1, "start": 4, "max": 8}}}})
    assert ask_all(gateway, 8, behaviour="tokens=1 latency=50ms") == [200] * 8
    before = pools(gateway)
    gateway.reload({"upstreams": {"openai": {"pool": {"max": 40, "start": 30}}}})
    wait_until(lambda: pools(gateway)["limit"] == 40, "the new bound")
    after = pools(gateway)
    assert (after["opened"], after["size"], after["idle"]) == (before["opened"], 4, before["idle"])  # `start` is where a pool begins
    assert ask_all(gateway, 40, behaviour="tokens=1 latency=100ms") == [200] * 40
    assert pools(gateway)["peak"] > 8
    gateway.reload({"upstreams": {"openai": {"pool": {"max": 3, "start": 2}}}})
    wait_until(lambda: pools(gateway)["idle"] <= 3, "what is too many is closed")
    assert pools(gateway)["size"] == 3 and pools(gateway)["recycled"]["surplus"] > 0
    at_rest([gateway], redis, sim)


def test_what_is_held_past_its_deadline_is_taken_back(start_gateway, sim, redis):
    """A provider that sends a byte now and then keeps every other deadline."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"timeout": {"total": "500ms"}, "retry": {"attempts": 1}, "pool": {"streams": 1}}}})
    for _ in range(3):
        answer = gateway.ask("openai", "[[sim tokens=1000 drip=20]]", stream=True)
        assert not answer.complete or "timeout" in answer.text
    wait_until(lambda: gateway.metric("sluice_pool_leaks_total", upstream="openai", pool="streams") == 3, "they are counted")
    assert pools(gateway, pool="streams")["leaks"] == 3
    lines = [line for line in gateway.log() if line["event"] == "pool_leak"]
    assert len(lines) == 1 and "held past its deadline by the upstream" in lines[0]["message"] and "openai, streams" in lines[0]["message"]
    assert gateway.ask("openai", "[[sim tokens=1]]", stream=True).complete  # its one place is free
    at_rest([gateway], redis, sim)


def test_all_figures_are_told(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"workers": 2})
    for _ in range(50):
        assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
    told = pools(gateway)
    assert told["limit"] == 64 and told["size"] == 2 and 1 <= told["opened"] <= 3 and told["peak"] == told["opened"] == told["opened_last_minute"]
    assert told["reused"] >= 47 and 0 < told["handshake_ms"] < 1000 and told["saved_seconds"] > 0
    assert told["leaks"] == 0 and told["recycled"] == dict.fromkeys(("age", "idle", "surplus", "validation", "ceded"), 0)
    labels = {"upstream": "openai", "pool": "calls"}
    assert gateway.metric("sluice_pool_limit", **labels) == 64 and gateway.metric("sluice_pool_size", **labels) == 2
    assert gateway.metric("sluice_pool_peak", **labels) == told["peak"] and gateway.metric("sluice_pool_utilization", **labels) == 0
    assert gateway.metric("sluice_pool_reused_total", **labels) == told["reused"]
    assert abs(gateway.metric("sluice_pool_saved_seconds_total", **labels) - told["saved_seconds"]) < 0.001
    with gateway.open_stream("openai", "[[sim tokens=100 rate=10]]") as stream:
        assert stream.read_event()
        assert gateway.metric("sluice_pool_utilization", upstream="openai", pool="streams") == 0.5
        assert pools(gateway, pool="streams")["utilization"] == 0.5
    at_rest([gateway], redis, sim)


def cut(gateway, seed):
    """One call that ends somewhere in the middle: by its provider, or by its client."""
    chance = random.Random(seed)
    fault = chance.choice(("reset", "fin", "truncate", "badchunk", "garbage", "client", "client"))
    place = "" if chance.random() < 0.2 else f"@{chance.randrange(600)}"
    if fault != "client":
        gateway.ask("openai", f"[[sim tokens=40 fault={fault}{place}]]", stream=chance.random() < 0.5)
        return
    with gateway.open_stream("openai", "[[sim tokens=40 rate=2000]]") as stream:
        for _ in range(chance.randrange(4)):
            stream.read_event()
        stream.leave(reset=chance.random() < 0.5)


def test_a_thousand_cuts_leave_the_pools_whole(start_gateway, sim, redis):
    """As many calls as there are connections are under way at once afterwards: no place is lost, of the instance's, the endpoint's or the tenant's."""
    most = 12
    gateway = start_gateway(sim.url, redis.url, {
        "workers": 2, "pool": {"max": most, "streams": most}, "tenants": {"acme": {"pool": {"max": 2 * most}}},
        "upstreams": {"openai": {"retry": {"attempts": 1}, "pool": {"min": 0, "max": most, "streams": most},
                                 "breaker": {"error_rate": 0, "slow_rate": 0, "unreachable": 0, "failures": 0}}}})
    with concurrent.futures.ThreadPoolExecutor(24) as callers:
        for each in callers.map(lambda seed: cut(gateway, seed), range(1000)):
            assert each is None
    at_rest([gateway], redis, sim)
    told = {kind: pools(gateway, pool=kind) for kind in ("calls", "streams")}
    print(f"1000 calls cut: {json.dumps(told)}")
    for kind, pool in told.items():
        assert (pool["active"], pool["waiting"], pool["leaks"]) == (0, 0, 0) and pool["idle"] <= pool["peak"] <= most, (kind, pool)
    for stream in (False, True):
        sim.reset()
        assert ask_all(gateway, 2 * most, behaviour="tokens=1 latency=300ms", stream=stream) == [200] * 2 * most
        assert sim.stats()["max_in_flight"] == most


def percentile(gateway, calls):
    """p99 of short calls, 16 at a time, to a provider that takes 30 ms, in milliseconds. Nearer ones are nobody's providers, and what another program on this
    machine does would be all that is seen of them."""
    path, body = prompt("openai", "[[sim tokens=1 latency=30ms]]", False)
    report = load.run(gateway.url + path, connections=16, requests=calls, body=body, headers=headers_for("openai", KEY))
    assert report["by_status"] == {"200": calls}, report
    return report["latency_us"]["p99"] / 1000


def beside_silent_streams(start_gateway, url, redis, upstream, told):
    """Two gateways that differ in nothing else are asked in turn, so that what else the machine does meets both."""
    streams, rounds, calls = 500, 20 if LONG else 6, 500
    busy, still = (start_gateway(url, redis.url, {"upstreams": {"openai": upstream}}) for _ in range(2))
    with contextlib.ExitStack() as stack:
        for _ in range(streams):
            stack.enter_context(busy.open_stream("openai", "[[sim tokens=2 fault=stall@1]]"))
        assert pools(busy, pool="streams")["active"] == streams
        percentile(busy, 100), percentile(still, 100)  # both are warm
        pairs = [(percentile(busy, calls), percentile(still, calls)) for _ in range(rounds)]
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"p99 of short calls beside {streams} silent streams{told}: {statistics.median(one for one, _ in pairs):.2f} ms, "
              f"without: {statistics.median(other for _, other in pairs):.2f} ms; median ratio of {rounds} rounds {ratio:.3f}: {json.dumps(pairs)}")
        assert pools(busy, pool="streams")["active"] == streams  # none of them ended meanwhile
        assert ratio < 1.10


def test_silent_streams_slow_no_short_call(start_gateway, sim, redis):
    """500 open streams that say nothing, each over a connection of its own."""
    beside_silent_streams(start_gateway, sim.url, redis, {"pool": {"streams": 500, "max": 16}}, "")


def test_silent_streams_over_http2_slow_no_short_call(start_gateway, sim, redis, two):
    """The same over the few connections that they need."""
    url, trust = two
    beside_silent_streams(start_gateway, url, redis, {**trust, "pool": {"streams": 8, "max": 16, "http": "2"}}, " over HTTP/2")
