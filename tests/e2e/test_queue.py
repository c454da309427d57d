"""Waiting in the fleet's lines: who goes first, what of the quota is used, what a place costs whom. The simulator's arrivals are the measure; the order itself is
proved in simulated time by tests/lua/test_line_load.c."""

import json
import re
import signal
import subprocess
import threading
import time

import pytest

from support import client, load
from support.client import headers_for, prompt
from support.crowd import Reading, crowd
from support.gateway import CREDENTIALS, KEY
from support.process import LONG, binary, promised, wait_until
from support.rest import at_rest, counted, told_once
from support.sim import most_in_window

SECONDS = 60 if LONG else 10
KEYS = {"acme": KEY, "bolt": "client-key-of-another-tenant"}
URGENCY = {"high": "u=1", "medium": "u=3", "low": "u=6"}


def limited(limits, queue=None, **more):
    return {"upstreams": {"openai": {"limits": limits, "pool": {"max": 300}}}, "queue": {"max_wait": "3s", **(queue or {})},
            "tenants": {name: {"keys": [key]} for name, key in KEYS.items()}, **more}


def fleet(start_gateway, sim, redis, changes, count=3):
    return [start_gateway(sim.url, redis.url, changes) for _ in range(count)]


def chat(text="[[sim tokens=3]]", **more):
    return prompt("openai", text, **more)[1]


def offers(gateways, lane, tenant, rate, seconds):
    """The load of one lane of one tenant, open-loop over these instances: how to start it."""
    return [gateway.url + "/v1/chat/completions" for gateway in gateways], {
        "connections": int(rate * 4) + 1, "duration": seconds, "rate": rate, "body": chat(),
        "headers": {**headers_for("openai", KEYS[tenant]), "Content-Type": "application/json", "Priority": URGENCY[lane]}}


def together(start_load, plans):
    """All loads at once; {name: report}."""
    running = {name: start_load(urls, **how) for name, (urls, how) in plans.items()}
    return {name: each.report() for name, each in running.items()}


def served(reports):
    return {name: report["by_status"].get("200", 0) for name, report in reports.items()}


def three_times(gateways, rate, seconds, homes=None):
    """Three times `rate` in all: a third in each lane, that of high by two tenants. `homes`: which instance takes each lane; None: all of them."""
    def at(lane):
        return gateways if homes is None else [gateways[homes[lane]]]
    return {("high", "acme"): offers(at("high"), "high", "acme", rate / 2, seconds), ("high", "bolt"): offers(at("high"), "high", "bolt", rate / 2, seconds),
            ("medium", "acme"): offers(at("medium"), "medium", "acme", rate, seconds), ("low", "acme"): offers(at("low"), "low", "acme", rate, seconds)}


def check_shares(counts, lanes=0.10, tenants=0.05):
    high = counts["high", "acme"] + counts["high", "bolt"]
    total = sum(counts.values())
    shares = {"high": high / total, "medium": counts["medium", "acme"] / total, "low": counts["low", "acme"] / total}
    print(f"shares {', '.join(f'{lane} {9 * share:.2f}' for lane, share in shares.items())} of 9; tenants {counts['high', 'acme']} and {counts['high', 'bolt']}")
    for lane, due in {"high": 5, "medium": 3, "low": 1}.items():
        assert abs(9 * shares[lane] - due) <= lanes * due, (lane, shares)
    assert abs(counts["high", "acme"] - counts["high", "bolt"]) <= tenants * high / 2, counts


# Short, the lanes are not served longer than their lines are; so the ends weigh: the line that is left when nobody comes any more is served in another order.
SLACK = {} if LONG else {"lanes": 0.25, "tenants": 0.12}


def check_quota(sim, limit, seconds):
    """Strict, a minute: never more in one. And 99 % of it used in the time that was offered."""
    times = sorted(at for at, *_ in sim.arrivals())
    worst, used = most_in_window(times, 60), sum(at <= times[0] + seconds for at in times) / (limit * seconds / 60)
    print(f"{len(times)} calls, {worst} in the worst minute of {limit}; {100 * used:.2f} % used")
    assert worst <= limit
    assert used >= (0.99 if LONG else 0.9)  # a busy machine misses turns


@pytest.mark.parametrize("homes", [None, {"high": 0, "medium": 1, "low": 2}], ids=["everywhere", "one lane each"])
def test_three_times_the_quota_is_shared_by_weight(start_gateway, start_load, sim, redis, homes):
    limit = 3600
    gateways = fleet(start_gateway, sim, redis, limited({"rpm": limit}))
    reports = together(start_load, three_times(gateways, limit / 60, SECONDS, homes))
    check_shares(served(reports), **SLACK)
    check_quota(sim, limit, SECONDS)
    refused = {status for report in reports.values() for status in report["by_status"]} - {"200"}
    assert refused <= {"429"}, refused
    for lane in URGENCY:
        waits = sum(gateway.metric("sluice_queue_wait_seconds_count", priority=lane) for gateway in gateways)
        late = sum(gateway.metric("sluice_queue_wait_seconds_bucket", priority=lane, le="5") for gateway in gateways)
        assert waits > 0 and waits == late, (lane, waits, late)  # 3 s at most, and what it takes to say so
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_an_instance_that_dies_costs_the_others_nothing(start_gateway, start_load, sim, redis, how):
    """Also when half of those who wait leave: the quota is used as if nothing had been."""
    limit, seconds = 3600, max(SECONDS, 10)
    gateways = fleet(start_gateway, sim, redis, limited({"rpm": limit}))
    plans = three_times(gateways[:2], limit / 60, seconds)
    plans["lost"] = offers(gateways[2:], "high", "acme", limit / 60, seconds)
    plans["leavers"] = ([gateway.url + "/v1/chat/completions" for gateway in gateways[:2]],
                        {**offers(gateways[:2], "high", "acme", limit / 60, seconds)[1], "options": ["--timeout", "0.3"]})
    running = {name: start_load(urls, **spec) for name, (urls, spec) in plans.items()}
    time.sleep(seconds / 3)
    gateways[2].signal(how)
    for name, each in running.items():
        if name != "lost":
            each.report()
    if how == signal.SIGSTOP:
        gateways[2].signal(signal.SIGCONT)
    check_quota(sim, limit, seconds)
    for gateway in gateways[:2]:
        wait_until(lambda: gateway.status()["requests"]["in_flight"] == 0, f"{gateway.name} at rest")
        told_once(gateway)


def ask_in_thread(gateway, answers, **how):
    thread = threading.Thread(target=lambda: answers.append(gateway.ask("openai", "[[sim tokens=3]]", **how)))
    thread.start()
    return thread


def waiting(gateway):
    return gateway.metric("sluice_queue_depth")


def held_place(gateway, sim):
    """Somebody has the only place: a slow stream, which the test ends."""
    stream = gateway.open_stream("openai", "[[sim tokens=1000 rate=2/s]]")
    wait_until(lambda: sim.stats()["in_flight"] == 1, "the place is taken")
    return stream


def send_only(gateway):
    """A request whose client waits without reading; closing the socket is leaving."""
    connection, target = client.connect(gateway.url + "/v1/chat/completions")
    connection.request("POST", target, body=json.dumps(chat()).encode(), headers={"Content-Type": "application/json", **headers_for("openai", KEY)})
    return connection.sock


def test_who_leaves_frees_its_place_at_once(start_gateway, sim, redis):
    """60 wait at three instances, and leave: nobody is left in the line, and the next one has the place that comes free."""
    gateways = fleet(start_gateway, sim, redis, limited({"concurrency": 1}, {"max_wait": "10m"}))
    place = held_place(gateways[0], sim)
    crowd = [send_only(gateways[i % 3]) for i in range(60)]
    wait_until(lambda: sum(map(waiting, gateways)) == 60, "all wait")
    began = time.monotonic()
    for each in crowd:
        each.close()
    wait_until(lambda: sum(map(waiting, gateways)) == 0 and not redis.keys("sluice:{u:openai}:[wf]"), "all have left")
    print(f"60 left the line in {1000 * (time.monotonic() - began):.0f} ms")
    assert time.monotonic() - began <= promised(0.5)
    answers = []
    last = ask_in_thread(gateways[2], answers)
    wait_until(lambda: waiting(gateways[2]) == 1, "one waits")
    place.leave()
    last.join(30)
    assert answers[0].status == 200 and "queue;dur=" in answers[0].headers["server-timing"]
    assert counted(gateways, outcome="client_gone") == 61
    at_rest(gateways, redis, sim)


def test_a_full_line_is_503_and_says_when(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, limited({"rpm": {"limit": 60, "burst": 1}}, {"max_wait": "1m", "depth": 3}))
    answers = []
    assert gateways[0].ask("openai", "[[sim tokens=3]]").status == 200
    threads = []
    for i in range(3):
        threads.append(ask_in_thread(gateways[i], answers))
        wait_until(lambda: sum(map(waiting, gateways)) == i + 1, "it waits")
    refused = gateways[0].ask("openai", "[[sim tokens=3]]")
    assert refused.status == 503 and client.error_of("openai", refused) == "queue_full" and refused.headers["x-should-retry"] == "true"
    queue = gateways[0].status()["queue"]
    assert queue["waiting"] == {"high": 0, "medium": 1, "low": 0} and queue["lines"]["upstream openai"]["here"] == queue["waiting"], queue
    shown = subprocess.run([binary("sluice"), "status", "--admin", gateways[0].admin_url], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert re.search(r"^waiting for room in +high +medium +low +in the fleet h/m/l, .*\nupstream openai +0 +1 +0 +(\?|0/[23]/0)$", shown, re.M), shown
    told = int(refused.headers["retry-after-ms"]) / 1000
    assert 1 <= told <= 4, told  # three are before it, a second each, some of the first one's gone by
    for thread in threads:
        thread.join(30)
    assert [answer.status for answer in answers] == [200] * 3
    assert gateways[0].ask("openai", "[[sim tokens=3]]").status == 200
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
def test_who_cannot_be_in_time_is_told_at_once(start_gateway, sim, redis, dialect):
    """By the queue's own patience, or by the deadline that the client's SDK sends."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {dialect: {"limits": {"rph": {"limit": 60, "burst": 1}}}}, "queue": {"max_wait": "2m"}})
    assert gateway.ask(dialect, "[[sim tokens=3]]").status == 200
    began = time.monotonic()
    for headers in ({"x-stainless-timeout": "20"}, {"X-Server-Timeout": "20"}):
        refused = gateway.ask(dialect, "[[sim tokens=3]]", headers=headers)
        assert refused.status == 429 and 50 <= int(refused.headers["retry-after"]) <= 60
        assert "cannot be this one's turn" in refused.text
    assert time.monotonic() - began <= promised(1)
    at_rest([gateway], redis, sim)


def test_the_line_of_a_model_is_no_other_models(start_gateway, sim, redis):
    """What waits for its own model's limit holds nobody up who wants another model of the same upstream."""
    models = {name: {"targets": [{"upstream": "openai", "model": "gpt-4o-mini"}], "limits": {"rpm": {"limit": 60, "burst": 1}}} for name in ("slow", "other")}
    gateway = start_gateway(sim.url, redis.url, {"models": models, "queue": {"max_wait": "20s"}})
    answers = []
    assert gateway.ask("openai", "[[sim tokens=3]]", model="slow").status == 200
    threads = [ask_in_thread(gateway, answers, model="slow") for _ in range(2)]
    wait_until(lambda: waiting(gateway) == 2, "two wait")
    quick = gateway.ask("openai", "[[sim tokens=3]]", model="other")
    assert quick.status == 200 and "queue" not in quick.headers["server-timing"] and waiting(gateway) > 0
    for thread in threads:
        thread.join(30)
    assert [answer.status for answer in answers] == [200, 200]
    at_rest([gateway], redis, sim)


def test_all_targets_are_looked_at_before_one_is_waited_for(start_gateway, sim, redis):
    limits = {"rpm": {"limit": 60, "burst": 1}}
    changes = {"upstreams": {"openai": {"limits": limits}, "second": second(sim, limits=limits)},
               "models": {"both": {"targets": [{"upstream": "openai"}, {"upstream": "second"}]}}, "queue": {"max_wait": "20s"}}
    gateway = start_gateway(sim.url, redis.url, changes)
    timings = [gateway.ask("openai", "[[sim tokens=3]]", model="both").headers["server-timing"] for _ in range(3)]
    assert ["queue" in timing for timing in timings] == [False, False, True], timings
    assert [counted([gateway], upstream=name) for name in ("openai", "second")] == [2, 1]
    at_rest([gateway], redis, sim)


def second(sim, **more):
    """Another upstream beside openai, at the same simulator."""
    return {"dialect": "openai", "endpoints": [{"url": sim.url}], "credential": CREDENTIALS["openai"], **more}


def test_the_shortest_wait_is_taken(start_gateway, sim, redis):
    slow, quick = ({"rpm": {"limit": limit, "burst": 1}} for limit in (6, 60))
    changes = {"upstreams": {"openai": {"limits": slow}, "second": second(sim, limits=quick)},
               "models": {"both": {"targets": [{"upstream": "openai"}, {"upstream": "second"}]}}, "queue": {"max_wait": "20s"}}
    gateway = start_gateway(sim.url, redis.url, changes)
    timings = [gateway.ask("openai", "[[sim tokens=3]]", model="both").headers["server-timing"] for _ in range(4)]
    assert ["queue" in timing for timing in timings] == [False, False, True, True], timings
    assert [counted([gateway], upstream=name) for name in ("openai", "second")] == [1, 3]
    at_rest([gateway], redis, sim)


def two_targets(sim, limits, **more):
    changes = {"upstreams": {"openai": {"limits": limits}, "second": second(sim, limits=limits)},
               "models": {"both": {"targets": [{"upstream": name, "model": "gpt-4o-mini"} for name in ("openai", "second")]}}}
    return {**changes, **more}


def test_a_burst_has_the_room_of_all_targets(start_gateway, sim, redis):
    """They all hear the same waits before anybody stands in a line, and choose the same one: who cannot be in time there is served by the other."""
    gateway = start_gateway(sim.url, redis.url, two_targets(sim, {"rpm": {"limit": 60, "burst": 1}}, queue={"max_wait": "6s"}))
    for _ in range(2):
        assert gateway.ask("openai", "[[sim tokens=3]]", model="both").status == 200
    path, body = prompt("openai", "[[sim tokens=3]]", model="both")
    readings = crowd([Reading(0, gateway.url + path, body, headers_for("openai", KEY)) for _ in range(9)])
    assert [reading.status for reading in readings] == [200] * 9, readings
    at_rest([gateway], redis, sim)


def test_what_is_asked_again_looks_at_all_that_are_left(start_gateway, sim, redis):
    """It waits at the first, which fails; the second would take too long, and the third is waited for."""
    upstreams = {"openai": {"limits": {"rpm": {"limit": 60, "burst": 1}}, "retry": {"budget": "100%", "timeout_base": "2ms"}},
                 "second": second(sim, limits={"rpm": {"limit": 2, "burst": 1}}), "third": second(sim, limits={"rpm": {"limit": 50, "burst": 1}})}
    models = {"all": {"targets": [{"upstream": name, "model": "gpt-4o-mini"} for name in upstreams]}}
    gateway = start_gateway(sim.url, redis.url, {"upstreams": upstreams, "models": models, "queue": {"max_wait": "10s"}})
    for _ in upstreams:
        assert gateway.ask("openai", "[[sim tokens=3]]", model="all").status == 200
    sim.set("status=500", times=1)
    again = gateway.ask("openai", "[[sim tokens=3]]", model="all")
    assert again.status == 200 and counted([gateway], upstream="third") == 2, (again, again.headers["proxy-status"])
    at_rest([gateway], redis, sim)


def test_a_model_does_not_stand_still_for_one_of_its_upstreams(start_gateway, sim, redis):
    """a has its model's only place next, but openai's places are taken for long: b, who comes later, goes elsewhere meanwhile."""
    changes = {"upstreams": {"openai": {"limits": {"concurrency": 2}}, "second": second(sim)}, "queue": {"max_wait": "30s"},
               "models": {"both": {"targets": [{"upstream": name, "model": "gpt-4o-mini"} for name in ("openai", "second")], "limits": {"concurrency": 1}},
                          "long": {"targets": [{"upstream": "openai", "model": "gpt-4o-mini"}]}}}
    gateway = start_gateway(sim.url, redis.url, changes)

    def reading(delay, tokens, model):
        path, body = prompt("openai", f"[[sim tokens={tokens} rate=10]] {delay}", True, model=model)
        return Reading(delay, gateway.url + path, body, headers_for("openai", KEY))

    _, a, one, other, b = readings = [reading(0, 15, "both"), reading(0.3, 1, "both"), reading(0.6, 90, "long"), reading(0.8, 90, "long"), reading(1.2, 1, "both")]
    crowd(readings)
    assert all(reading.status == 200 and reading.complete for reading in readings), readings
    assert b.ended < one.ended < a.ended < other.ended + 5 and counted([gateway], upstream="second") == 1
    at_rest([gateway], redis, sim)


def test_waiting_comes_before_falling_back(start_gateway, sim, redis):
    targets = [{"upstream": "openai", "model": "gpt-4o-mini"}]
    models = {"first": {"targets": targets, "limits": {"rpm": {"limit": 60, "burst": 1}}, "fallback": ["spare"]}, "spare": {"targets": targets}}
    gateway = start_gateway(sim.url, redis.url, {"models": models, "queue": {"max_wait": "1500ms"}})
    answers = []
    assert gateway.ask("openai", "[[sim tokens=3]]", model="first").status == 200
    waits = ask_in_thread(gateway, answers, model="first")
    wait_until(lambda: waiting(gateway) == 1, "one waits")
    falls = gateway.ask("openai", "[[sim tokens=3]]", model="first")  # its turn would come in 2 s
    assert falls.status == 200 and falls.headers["x-sluice-model"] == "spare"
    waits.join(30)
    assert answers[0].status == 200 and "x-sluice-model" not in answers[0].headers
    at_rest([gateway], redis, sim)


def crowd_of(gateway, count):
    answers = []
    threads = [ask_in_thread(gateway, answers) for _ in range(count)]
    wait_until(lambda: waiting(gateway) >= count - 4, "they wait")
    return threads, answers


def test_who_waited_looks_once_more_where_it_goes(start_gateway, sim, redis):
    """A provider that was taken out while they waited is not called by them; nor one that asked for time."""
    gateway = start_gateway(sim.url, redis.url, limited({"rpm": {"limit": 120, "burst": 1}}, {"max_wait": "30s"}))
    threads, answers = crowd_of(gateway, 12)
    assert client.request(gateway.admin_url + "/breakers/openai", body={"force": "open"}).status == 200
    before = len(sim.calls())
    for thread in threads:
        thread.join(20)
    assert len(sim.calls()) <= before + 1  # one may have been on its way
    assert {answer.status for answer in answers} <= {200, 503} and [answer.status for answer in answers].count(503) >= 8
    assert client.request(gateway.admin_url + "/breakers/openai", body={"force": "auto"}).status == 200
    wait_until(lambda: gateway.ask("openai", "[[sim tokens=3]]").status == 200, "it is called again")
    threads, answers = crowd_of(gateway, 12)
    sim.set("status=429 retry=60s", times=1)
    for thread in threads:
        thread.join(20)
    assert [answer.status for answer in answers].count(429) >= 8, answers
    at_rest([gateway], redis, sim)


def test_no_queue_is_no_waiting(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, limited({"concurrency": 1}, {"max_wait": "0s"}))
    place = held_place(gateway, sim)
    assert gateway.ask("openai", "[[sim tokens=3]]").status == 429
    place.leave()
    at_rest([gateway], redis, sim)
