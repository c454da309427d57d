"""Identical requests in flight cost one upstream call, across the fleet, streams included: the simulator counts the calls, the clients compare bytes."""

import random
import statistics
import threading
import time

import pytest

from support import client
from support.client import headers_for, prompt
from support.crowd import Reading, crowd, lags
from support.gateway import KEY, merge
from support.process import promised, wait_until
from support.rest import at_rest

DIALECTS = ["openai", "gemini", "anthropic"]
COLD = {"gemini": {"generationConfig": {"temperature": 0}}, "openai": {"temperature": 0}, "anthropic": {"temperature": 0}}
NO_WINDOW = {"coalesce": {"window": "0s"}}


def fleet(start_gateway, sim, redis, changes=None, count=3, **options):
    return [start_gateway(sim.url, redis.url, changes, **options) for _ in range(count)]


def cold(dialect, text, stream=False, **more):
    """(path, body) at temperature 0."""
    return prompt(dialect, text, stream, **merge(COLD[dialect], more))


def clients(gateways, dialect, text, count, spread, stream, key=KEY, headers=None, seed=1):
    """`count` for each instance, begun at random moments of `spread` seconds."""
    path, body = cold(dialect, text, stream)
    rng = random.Random(seed)
    return [Reading(rng.uniform(0, spread), gateway.url + path, body, {**headers_for(dialect, key), **(headers or {})})
            for gateway in gateways for _ in range(count)]


def received(sim):
    return sim.stats()["received"]


def all_whole_and_alike(readings):
    assert all(r.status == 200 and r.complete for r in readings), [r for r in readings if r.status != 200 or not r.complete][:5]
    assert len({r.body for r in readings}) == 1
    assert len({r.headers["content-type"] for r in readings}) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_streams_of_three_instances_are_one_call(start_gateway, sim, redis, dialect):
    """3 instances × 100 clients that join at random times of the stream: one call, all bytes alike, and the followers hardly later than the leader."""
    gateways = fleet(start_gateway, sim, redis)
    readings = crowd(clients(gateways, dialect, "[[sim tokens=100 rate=40 unique=on]]", 100, 1.6, True))
    all_whole_and_alike(readings)
    assert received(sim) == 1
    leaders = [r for r in readings if r.leads]
    assert len(leaders) == 1, leaders
    followers = [r for r in readings if not r.leads and len(r.marks) > 5]
    assert len(followers) > 200
    middle = statistics.median(statistics.median(lags(leaders[0], r)) for r in followers)
    print(f"{dialect}: the median follower's bytes come {middle * 1000:.1f} ms behind the leader's")
    assert middle <= promised(0.06)
    elsewhere = [r for r in followers if not r.url.startswith(leaders[0].url[:leaders[0].url.index("/", 8)])]
    far = statistics.median(statistics.median(lags(leaders[0], r)) for r in elsewhere)
    print(f"{dialect}: of other instances {far * 1000:.1f} ms")
    assert far <= promised(0.06)
    assert sum(g.metric("sluice_coalesced_total", where="fleet") for g in gateways) >= 2
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_plain_requests_of_three_instances_are_one_call(start_gateway, sim, redis, dialect):
    gateways = fleet(start_gateway, sim, redis)
    readings = crowd(clients(gateways, dialect, "[[sim latency=1500ms tokens=60 unique=on]]", 100, 1.0, False))
    all_whole_and_alike(readings)
    assert received(sim) == 1
    assert sum(r.leads for r in readings) == 1
    at_rest(gateways, redis, sim)


def test_a_flight_that_has_ended_is_joined_within_the_window(start_gateway, sim, redis):
    """With the cache off: who comes within coalesce.window still gets it, on any instance; who comes later asks."""
    gateways = fleet(start_gateway, sim, redis, {"cache": {"when": "never"}, "coalesce": {"window": "5s"}}, 2)
    path, body = cold("openai", "[[sim tokens=3 unique=on]]")
    answers = [client.request(g.url + path, body=body, headers=headers_for("openai", KEY)) for g in (*gateways, *gateways)]
    assert len({a.body for a in answers}) == 1 and received(sim) == 1
    at_rest(gateways, redis, sim)


def test_without_window_and_cache_an_ended_flight_is_gone(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, {"cache": {"when": "never"}, "coalesce": {"window": "0s"}}, 2)
    for g in (*gateways, *gateways):
        assert g.ask("openai", "[[sim tokens=3]]", **COLD["openai"]).status == 200
        wait_until(lambda: all(each.metric("sluice_flights", role="unfinished") == 0 for each in gateways), "Redis has heard the end")
    assert received(sim) == 4
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("changes,calls", [({"coalesce": {"when": "never"}, "cache": {"when": "never"}}, 6), ({"coalesce": {"streams": False}, "cache": {"when": "never"}}, 6),
                                           ({"coalesce": {"when": "asked"}, "cache": {"when": "never"}}, 6)])
def test_who_may_not_be_coalesced_is_not(start_gateway, sim, redis, changes, calls):
    gateways = fleet(start_gateway, sim, redis, changes, 2)
    readings = crowd(clients(gateways, "openai", "[[sim tokens=20 rate=20]]", 3, 0.2, True))
    assert all(r.status == 200 and r.complete for r in readings)
    assert received(sim) == calls
    at_rest(gateways, redis, sim)


def test_requests_that_are_not_deterministic_are_not_coalesced(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, None, 2)
    path, body = prompt("openai", "[[sim tokens=20 rate=20]]", True)
    readings = crowd([Reading(0.02 * i, g.url + path, body, headers_for("openai", KEY)) for i in range(2) for g in gateways])
    assert received(sim) == 4 and all("fwd=bypass" in r.cache_status for r in readings)
    at_rest(gateways, redis, sim)


def test_two_tenants_share_nothing_unless_told(start_gateway, sim, redis):
    tenants = {"tenants": {"other": {"keys": ["key-of-the-other"]}}}
    gateways = fleet(start_gateway, sim, redis, tenants, 2)
    both = clients(gateways, "openai", "[[sim tokens=20 rate=20 unique=on]]", 2, 0.2, True) + clients(gateways, "openai", "[[sim tokens=20 rate=20 unique=on]]", 2, 0.2, True, "key-of-the-other")
    readings = crowd(both)
    assert all(r.status == 200 and r.complete for r in readings) and received(sim) == 2
    assert len({r.body for r in readings[:4]}) == 1 and len({r.body for r in readings[4:]}) == 1 and readings[0].body != readings[4].body
    again = [g.ask("openai", "[[sim tokens=20 rate=20 unique=on]]", stream=True, key=key, **COLD["openai"]) for g in gateways for key in (KEY, "key-of-the-other")]
    assert received(sim) == 2
    assert [a.body for a in again] == [readings[0].body, readings[4].body] * 2
    at_rest(gateways, redis, sim)


def test_scope_shared_is_one_call_for_all_tenants(start_gateway, sim, redis):
    changes = {"tenants": {"other": {"keys": ["key-of-the-other"]}}, "cache": {"scope": "shared"}}
    gateways = fleet(start_gateway, sim, redis, changes, 2)
    readings = crowd(clients(gateways, "openai", "[[sim tokens=20 rate=20 unique=on]]", 2, 0.2, True)
                     + clients(gateways, "openai", "[[sim tokens=20 rate=20 unique=on]]", 2, 0.2, True, "key-of-the-other"))
    all_whole_and_alike(readings)
    assert received(sim) == 1
    at_rest(gateways, redis, sim)


def test_scope_user_tells_the_keys_of_a_tenant_apart(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"keys": [KEY, "second-key-of-acme"]}}, "cache": {"scope": "user"}})
    for key in (KEY, "second-key-of-acme", KEY, "second-key-of-acme"):
        assert gateway.ask("openai", "[[sim tokens=3]]", key=key, **COLD["openai"]).status == 200
    assert received(sim) == 2
    at_rest([gateway], redis, sim)


def test_a_slow_follower_slows_nobody_and_gets_everything(start_gateway, sim, redis):
    """It reads nothing until the others are done; so does the leader's own client in the second round."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    for number, slow_leads in enumerate((False, True)):
        text = f"[[sim tokens=3000 rate=6000 chunk=20 unique=on]] {number}"
        path, body = cold("openai", text, True)
        fast = clients(gateways, "openai", text, 5, 0.1, True)
        if slow_leads:
            with client.stream(gateways[0].url + path, body, headers_for("openai", KEY)) as slow:
                began = time.monotonic()
                crowd(fast)
                taken = time.monotonic() - began
                rest = slow.read_all()
        else:
            for reading in fast:
                reading.delay += 0.3
            lead = Reading(0, gateways[0].url + path, body, headers_for("openai", KEY))
            done = threading.Thread(target=crowd, args=([lead, *fast],))
            done.start()
            wait_until(lambda: received(sim) == number + 1, "the leader asks")
            with client.stream(gateways[1].url + path, body, headers_for("openai", KEY)) as slow:
                began = time.monotonic()
                done.join()
                taken = time.monotonic() - began
                rest = slow.read_all()
        all_whole_and_alike(fast)
        assert rest == fast[0].body
        assert received(sim) == number + 1
        assert taken < promised(3.0)
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_of_which_little_may_be_shared_is_whole(start_gateway, sim, redis, stream):
    """However small cache.max_body is beside what comes at once: who leads gets all of it, and nothing of it is kept."""
    gateway = start_gateway(sim.url, redis.url, {"cache": {"max_body": "1KiB"}})
    alone = start_gateway(sim.url, redis.url, {"cache": {"when": "never"}, "coalesce": {"when": "never"}})
    words = "tokens=3000 chunk=200 framing=chunked"
    answers = [g.ask("openai", f"[[sim {words}]]", stream, **COLD["openai"]) for g in (gateway, alone)]
    assert all(a.status == 200 and a.complete and len(a.body) > 16384 for a in answers)
    assert answers[0].body == answers[1].body
    assert redis.keys("sluice:*:v") == []
    at_rest([gateway, alone], redis, sim)


def test_an_answer_too_large_to_be_kept_is_whole_for_all(start_gateway, sim, redis):
    """Nobody knows how long it will be; who waited for it, and cannot have it, asks for himself: no answer is cut."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    readings = crowd(clients(gateways, "openai", "[[sim latency=500ms size=8MiB tokens=4 framing=chunked]]", 4, 0.1, False))
    all_whole_and_alike(readings)
    assert len(readings[0].body) > 8 * 1024 * 1024 and received(sim) <= len(readings)
    at_rest(gateways, redis, sim)


def test_errors_of_the_provider_reach_all_and_are_not_kept(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, NO_WINDOW)
    readings = crowd(clients(gateways, "openai", "[[sim latency=600ms status=503]]", 5, 0.3, False))
    assert {r.status for r in readings} == {503} and len({r.body for r in readings}) == 1 and all(r.complete for r in readings)
    assert received(sim) == 1
    assert gateways[0].ask("openai", "[[sim latency=600ms status=503]]", **COLD["openai"]).status == 503
    assert received(sim) == 2
    assert redis.keys("sluice:*:v") == []
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("fault,code", [("fault=reset", "upstream_broken"), ("fault=garbage", "upstream_invalid")])
def test_who_follows_a_failure_fails_with_it(start_gateway, sim, redis, fault, code):
    """All fail together, by one call: nobody tries again behind the leader's back."""
    gateways = fleet(start_gateway, sim, redis)
    readings = crowd(clients(gateways, "openai", f"[[sim latency=600ms {fault}]]", 5, 0.3, False))
    assert {r.status for r in readings} == {502} and received(sim) == 1, readings
    assert all(f'"{code}"'.encode() in r.body for r in readings), readings[0]
    at_rest(gateways, redis, sim)


def test_a_cut_stream_looks_cut_to_all(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis)
    readings = crowd(clients(gateways, "openai", "[[sim tokens=100 rate=50 fault=reset@6000]]", 5, 0.25, True))
    assert received(sim) == 1 and all(r.status == 200 and not r.complete for r in readings), readings
    assert all(b'"error"' in r.body.split(b"\n\n")[-2] for r in readings if r.body.endswith(b"\n\n"))
    assert redis.keys("sluice:*:v") == []
    at_rest(gateways, redis, sim)


def test_the_leaders_client_may_leave(start_gateway, sim, redis):
    """Before and behind the first byte: the call goes on for the others, here or elsewhere; one call in all."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    for number, (where, words) in enumerate([(0, "latency=700ms"), (1, "latency=700ms"), (0, "latency=50ms"), (1, "latency=50ms")]):
        text = f"[[sim {words} tokens=40 rate=40 unique=on]] {number}"
        path, body = cold("openai", text, True)
        follower = Reading(0, gateways[where].url + path, body, headers_for("openai", KEY))
        thread = threading.Thread(target=crowd, args=([follower],))
        leader = leaving(gateways[0], path, body)
        wait_until(lambda: received(sim) == number + 1, "the leader asks")
        thread.start()
        wait_until(lambda: any(r["stage"] == "follow" for g in gateways for r in g.requests()["requests"]), "one follows")
        leader.close()
        wait_until(lambda: gateways[0].metric("sluice_requests_total", outcome="client_gone") == number or not thread.is_alive(), "it is seen")
        thread.join()
        assert follower.status == 200 and follower.complete and follower.body.rstrip().endswith(b"[DONE]"), follower
        assert received(sim) == number + 1
    wait_until(lambda: gateways[0].metric("sluice_requests_total", outcome="client_gone") == 4, "the leaders' clients are counted as gone")
    assert sim.stats()["aborted"] == 0
    at_rest(gateways, redis, sim)


def leaving(gateway, path, body):
    """A connection that has asked and reads nothing."""
    reading = Reading(0, gateway.url + path, body, headers_for("openai", KEY))
    connection, _ = client.connect(gateway.url)
    connection.connect()
    connection.sock.sendall(reading.request)
    return connection.sock


def test_the_last_to_leave_ends_the_call(start_gateway, sim, redis):
    """A leader without its client goes on while one follows, here or elsewhere; when that one leaves, the upstream sees it within 200 ms."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    for number, where in enumerate((0, 1)):
        path, body = cold("openai", f"[[sim tokens=500 rate=10]] {number}", True)
        leader = leaving(gateways[0], path, body)
        wait_until(lambda: received(sim) == number + 1, "the leader asks")
        follower = leaving(gateways[where], path, body)
        wait_until(lambda: any(r["stage"] == "follow" for r in gateways[where].requests()["requests"]), "one follows")
        leader.close()
        follower.recv(65536)
        assert sim.stats()["in_flight"] == 1
        left = time.clock_gettime(time.CLOCK_BOOTTIME)
        follower.close()
        wait_until(lambda: sim.stats()["in_flight"] == 0, "the call is ended")
        assert sim.aborts()[-1]["left_us"] / 1e6 - left < promised(0.2)
    assert received(sim) == 2
    at_rest(gateways, redis, sim)


def test_nobody_else_means_the_call_ends_at_once(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, None, 2)
    path, body = cold("openai", "[[sim tokens=500 rate=10]]", True)
    leader = leaving(gateways[0], path, body)
    wait_until(lambda: received(sim) == 1, "the leader asks")
    left = time.clock_gettime(time.CLOCK_BOOTTIME)
    leader.close()
    wait_until(lambda: sim.stats()["in_flight"] == 0, "the call is ended")
    assert sim.aborts()[-1]["left_us"] / 1e6 - left < promised(0.2)
    at_rest(gateways, redis, sim)


def test_a_leader_that_is_refused_passes_the_lead_on(start_gateway, sim, redis):
    """Tenants share their answers; the first has no quota left. It is refused, the other asks, and of the first one's crowd nobody asks for himself."""
    changes = {"cache": {"scope": "shared"}, "tenants": {"acme": {"limits": {"rph": {"limit": 1, "burst": 1}}}, "other": {"keys": ["key-of-the-other"]}}}
    gateways = fleet(start_gateway, sim, redis, changes, 2)
    assert gateways[0].ask("openai", "[[sim tokens=1]] the only one", **COLD["openai"]).status == 200
    readings = crowd(clients(gateways, "openai", "[[sim latency=300ms tokens=5]]", 5, 0.0, False)
                     + clients(gateways, "openai", "[[sim latency=300ms tokens=5]]", 5, 0.05, False, "key-of-the-other"))
    others = readings[10:]
    assert all(r.status == 200 and r.complete for r in others) and len({r.body for r in others}) == 1, others
    assert {r.status for r in readings[:10]} <= {200, 429}
    refused = [r for r in readings[:10] if r.status == 429]
    assert all(int(r.headers["retry-after"]) > 3000 for r in refused)
    assert received(sim) == 2
    at_rest(gateways, redis, sim)


def test_an_answer_that_is_too_large_is_not_waited_for(start_gateway, sim, redis):
    """Plain: its length says so at once. A stream: those who read along when it grows too large get all of it; who comes then asks for himself."""
    gateways = fleet(start_gateway, sim, redis, {"cache": {"max_body": "16KiB"}}, 2)
    readings = crowd(clients(gateways, "openai", "[[sim latency=500ms tokens=10 size=40KiB unique=on]]", 4, 0.3, False))
    assert all(r.status == 200 and r.complete for r in readings) and received(sim) == 8
    assert not [r for r in readings if "stored" in r.headers["cache-status"]]
    before = received(sim)
    readings = crowd(clients(gateways, "openai", "[[sim tokens=300 rate=300 unique=on]]", 4, 0.05, True))
    all_whole_and_alike(readings)
    assert len(readings[0].body) > 32 * 1024 and received(sim) == before + 1
    readings = crowd(clients(gateways, "openai", "[[sim tokens=300 rate=300 unique=on]]", 2, 0.0, True))
    assert all(r.status == 200 and r.complete for r in readings) and received(sim) == before + 5
    assert redis.keys("sluice:*:v") == []
    at_rest(gateways, redis, sim)


def test_hits_and_followers_cost_no_quota(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"rph": {"limit": 1, "burst": 1}}}}})
    assert [gateway.ask("openai", "[[sim tokens=1]]", **COLD["openai"]).status for _ in range(4)] == [200] * 4
    assert gateway.ask("openai", "[[sim tokens=2]]", **COLD["openai"]).status == 429
    at_rest([gateway], redis, sim)


def test_hits_and_followers_count_where_told(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"cache": {"count_hits": True}, "tenants": {"acme": {"limits": {"rph": {"limit": 3, "burst": 3}}}}})
    assert [gateway.ask("openai", "[[sim tokens=1]]", **COLD["openai"]).status for _ in range(4)] == [200, 200, 200, 429]
    assert received(sim) == 1
    at_rest([gateway], redis, sim)


def test_workers_of_one_instance_are_a_fleet(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"workers": 3})
    readings = crowd(clients([gateway], "openai", "[[sim tokens=40 rate=40 unique=on]]", 30, 0.5, True))
    all_whole_and_alike(readings)
    assert received(sim) == 1
    assert gateway.metric("sluice_coalesced_total", where="fleet") > 0 and gateway.metric("sluice_coalesced_total", where="worker") > 0
    at_rest([gateway], redis, sim)


def scripts(gateways):
    """How often each script of flights was answered, over all gateways."""
    return {name: sum(g.metric("sluice_redis_seconds_count", script=name) for g in gateways) for name in ("join", "append", "finish", "follow")}


def test_each_script_of_a_flight_is_timed_by_its_name(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, None, 2)
    assert gateways[0].ask("openai", "[[sim tokens=1]] alone", **COLD["openai"]).status == 200
    wait_until(lambda: scripts(gateways)["finish"] == 1, "the answer is stored")
    alone = scripts(gateways)
    assert alone["join"] == 1 and alone["follow"] == 0, alone
    all_whole_and_alike(crowd(clients(gateways, "openai", "[[sim tokens=20 rate=20 unique=on]]", 2, 0.2, True)))
    wait_until(lambda: scripts(gateways)["finish"] == 2, "the second is stored")
    shared = scripts(gateways)
    assert shared["join"] > 1 and shared["append"] > alone["append"] and shared["follow"] > 0, shared
    at_rest(gateways, redis, sim)
