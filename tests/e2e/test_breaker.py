"""One breaker for the fleet: what counts as a failure, and what does not; how fast all know it; how few try the provider again.

SLUICE_SOAK=N repeats each fault N times (`make soak`); SLUICE_LONG=1 holds the promised times."""

import contextlib
import http.client
import os
import signal
import threading
import time

import pytest

from support.breakers import (CLOSED, HALF_OPEN, OPEN, attempts, came, changes, ended, epoch, most_at_once, open_until, record, ruled, state, stretches,
                              trips, wait_for_state)
from support.client import headers_for, prompt
from support.crowd import Reading, crowd
from support.gateway import KEY, merge
from support.process import promised, wait_until
from support.rest import at_rest, tickets

ROUNDS = int(os.environ.get("SLUICE_SOAK", "1"))
DIALECTS = ["openai", "gemini", "anthropic"]


def fleet(start_gateway, sim, redis, changes, count=3):
    return [start_gateway(sim.url, redis.url, changes) for _ in range(count)]


def reading(gateway, delay, words="", dialect="openai"):
    """A client that tells by its nonce which instance it goes through."""
    path, body = prompt(dialect, f"[[sim nonce={gateway.name} {words}]]")
    return Reading(delay, gateway.url + path, body, headers_for(dialect, KEY))


def steady(gateways, seconds, rate, words=""):
    """Calls at this rate for so long, to the instances in turn."""
    return [reading(gateways[i % len(gateways)], i / rate, words) for i in range(int(seconds * rate))]


def of(calls, *gateways):
    return [call for call in calls if call["nonce"] in [gateway.name for gateway in gateways]]


# ---- how fast ------------------------------------------------------------------------------------------------------------------


def trip_round(gateways, sim, redis):
    """Well at first, then 60 % errors until it opens, then well: [seconds from the crossing of the threshold to the opening, for each instance]."""
    rate, open_for = 120, 1.5
    sim.reset()
    sim.set("tokens=1")
    crowd(steady(gateways, 0.2, rate))
    sim.set("status=503 chance=60% tokens=1")
    until, end = None, time.time() + 30
    while until is None or time.time() < until + 0.3:
        assert time.time() < end, "it never opened"
        crowd(steady(gateways, 0.1, rate))
        if until is None and record(redis).get("state") == "1":
            until = open_until(redis)
            sim.set("tokens=1")
    calls = sim.calls()
    opened = [changes(gateway, "open")[0]["at"] for gateway in gateways]
    assert min(opened) == pytest.approx(until - open_for, abs=promised(0.05))
    assert any(came(call) >= until - 0.001 for call in calls), "nobody tried it again"
    return latenesses(calls, opened, until, gateways)


def latenesses(calls, opened, until, gateways):
    late = []
    shut = [came(call) for call in calls if max(opened) + promised(0.1) <= came(call) < until - 0.001]
    assert not shut, (len(shut), shut[0] - max(opened), until - shut[-1])
    for gateway, at in zip(gateways, opened):
        crossed = stretches([call for call in calls if ended(call) <= at + 0.01])  # the simulator notes an end after it has sent it
        assert crossed, "it opened though the threshold was not crossed"
        # One that ends before: the rate has fallen under the threshold again, and then nobody has to have opened.
        late.append(max([at - crossed[-1][0]] + [end - begin for begin, end in crossed[:-1]]))
        last = max(came(call) for call in of(calls, gateway) if came(call) < until - 0.001)
        assert last <= at + promised(0.1), f"{gateway.name} still called {last - at:.3f} s after it had opened"
    return late


def test_the_fleet_opens_within_750_ms(start_gateway, sim, redis):
    """60 % errors through three instances: from the moment that the simulator's own record crosses the threshold. While it is open no call comes."""
    late = []
    for _ in range(ROUNDS):
        gateways = fleet(start_gateway, sim, redis, ruled({"open_for": "1500ms"}))
        late += trip_round(gateways, sim, redis)
        for gateway in gateways:
            gateway.stop()
        redis.command("FLUSHALL")
    print(f"open {' '.join(f'{seconds * 1000:.0f}' for seconds in sorted(late))} ms after the threshold was crossed")
    assert max(late) <= promised(0.75)


def test_one_trip_is_counted_once(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, ruled({"open_for": "60s"}))
    sim.set("status=503")
    crowd([reading(gateway, 0.01 * i) for i in range(20) for gateway in gateways])
    wait_for_state(gateways, OPEN)
    assert trips(gateways, upstream="openai") == trips(gateways) == 1
    lines = [changes(gateway, "open")[0] for gateway in gateways]
    assert all((line["trips"], line["from"]) == (1, "closed") and 59000 < line["open_ms"] <= 60000 for line in lines), lines
    told = [line for line in lines if line["why"] == "errors"]  # an instance may learn of it from the answer to a report of its own: "as Redis says"
    assert told and all(20 <= line["calls"] == line["failed"] for line in told), lines
    received = sim.stats()["received"]
    for gateway in gateways:
        answer = gateway.ask("openai", "x")
        assert answer.status == 503 and answer.json()["error"]["code"] == "breaker_open" and 55 <= int(answer.headers["retry-after"]) <= 60, answer
    assert sim.stats()["received"] == received == attempts(gateways, result="failed", upstream="openai") == attempts(gateways)
    sim.clear()
    assert gateways[0].ask("gemini", "x").status == 200  # another upstream's breaker is another
    assert attempts(gateways, result="ok", upstream="gemini") == 1
    at_rest(gateways, redis, sim)


# ---- half open --------------------------------------------------------------------------------------------------------------------


QUICK = {"min_calls": 5, "open_for": "300ms", "probes": 3}


def trip(gateway, sim, redis):
    """Opens it by failures through one instance, as many as it takes after what went well before, and forgets them at the simulator."""
    sim.clear()
    sim.set("status=503")
    wait_until(lambda: gateway.ask("openai", "x").json()["error"]["code"] == "breaker_open", "it is open", interval=0.002)
    assert record(redis)["state"] == "1"
    sim.clear()
    sim.reset()


def hammer(gateways, seconds, words="", pause=0.02):
    """New clients all the time, at each instance."""
    return [reading(gateway, i * pause, words) for gateway in gateways for i in range(int(seconds / pause))]


def test_never_more_probes_at_once_than_allowed(start_gateway, sim, redis):
    """Answers that tell nothing (429) keep it half open: many clients at three instances, and the simulator never has more than the probes."""
    gateways = fleet(start_gateway, sim, redis, ruled(QUICK))
    trip(gateways[0], sim, redis)
    sim.set("latency=150ms status=429")
    crowd(hammer(gateways, 1.5))
    calls, stats = sim.calls(), sim.stats()
    assert stats["most_at_once"] == most_at_once(calls) == 3, (stats["most_at_once"], most_at_once(calls))
    assert len(calls) > 6 and min(came(call) for call in calls) >= open_until(redis) - 0.001
    assert all(state(gateway) == HALF_OPEN for gateway in gateways)
    sim.clear()
    wait_until(lambda: gateways[1].ask("openai", "x").status == 200 and record(redis).get("state") == "0", "it closes")
    wait_for_state(gateways, CLOSED)
    at_rest(gateways, redis, sim)


def test_so_many_good_probes_close_it(start_gateway, sim, redis):
    """Until the moment that Redis says it closed at, no more than the probes; then all pass."""
    gateways = fleet(start_gateway, sim, redis, ruled(QUICK))
    for _ in range(ROUNDS):
        trip(gateways[0], sim, redis)
        until = open_until(redis)
        sim.set("latency=300ms tokens=1")
        readings = crowd(hammer(gateways, 1.0))
        wait_for_state(gateways, CLOSED)
        calls, closed = sim.calls(), epoch(redis)
        probes = [call for call in calls if came(call) < closed]
        assert most_at_once(probes) == 3 <= len(probes) < 6, probes
        assert until - 0.001 <= came(probes[0]) and closed >= min(ended(call) for call in probes)
        assert len(calls) > 3 and sum(r.status == 200 for r in readings) == len(calls)
        print(f"half open to closed: {closed - came(probes[0]):.3f} s with probes of 0.3 s")
    for gateway in gateways:
        assert [line["to"] for line in changes(gateway)] == ["open", "half_open", "closed"] * ROUNDS
    whys = {line["why"] for gateway in gateways for line in changes(gateway, "closed")}
    assert "the probes went well" in whys <= {"the probes went well", "as Redis says"}  # who was told of it by the answer to his own report
    at_rest(gateways, redis, sim)


def test_a_probe_that_fails_opens_it_for_twice_as_long(start_gateway, sim, redis):
    gateways = fleet(start_gateway, sim, redis, ruled({**QUICK, "open_most": "500ms"}))
    trip(gateways[0], sim, redis)
    lengths = [open_until(redis) - epoch(redis)]
    sim.set("status=503")
    for _ in range(2):
        was = epoch(redis)
        wait_until(lambda: crowd(hammer(gateways, 0.1)) and epoch(redis) > was, "a probe failed")
        lengths.append(open_until(redis) - epoch(redis))
    assert lengths == pytest.approx([0.3, 0.5, 0.5], abs=0.001), lengths
    sim.clear()
    wait_until(lambda: all(gateway.ask("openai", "x").status == 200 for gateway in gateways), "it closes")
    at_rest(gateways, redis, sim)


# ---- who holds a ticket, and dies or sleeps ------------------------------------------------------------------------------------------


def hold_tickets(gateway, sim, count, words):
    """So many probes of this instance are at the simulator, in the hands of a thread that does not wait for them."""
    streams = [Background(gateway, words) for _ in range(count)]
    wait_until(lambda: sim.stats()["in_flight"] == count, f"{count} probes are under way")
    return streams


class Background(threading.Thread):
    """A call whose answer nobody waits for."""

    def __init__(self, gateway, words):
        super().__init__(daemon=True)
        self.gateway, self.words, self.answer = gateway, words, None
        self.start()

    def run(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.answer = self.gateway.ask("openai", f"[[sim nonce={self.gateway.name} {self.words}]]")


def half_open(gateways, sim, redis):
    trip(gateways[0], sim, redis)
    wait_for_state(gateways, HALF_OPEN)


@pytest.mark.parametrize("probes", [1, 3])
def test_places_of_a_killed_instance_are_free_at_once(start_gateway, sim, redis, probes):
    changes_of_rule = ruled({**QUICK, "probes": probes})
    gateways = fleet(start_gateway, sim, redis, changes_of_rule)
    times = []
    for _ in range(ROUNDS):
        half_open(gateways, sim, redis)
        hold_tickets(gateways[0], sim, probes, "latency=20s")
        crowd(hammer(gateways[1:], 0.3))
        assert len(sim.calls()) == len(tickets(redis)) == probes, "somebody probed though all places were taken"
        killed = time.time()
        gateways[0].kill()
        sim.set("latency=100ms tokens=1")
        crowd(hammer(gateways[1:], 0.6))
        calls, closed = sim.calls(), epoch(redis)
        others = of(calls, *gateways[1:])
        times.append(min(came(call) for call in others) - killed)
        assert most_at_once([call for call in others if came(call) < closed]) == probes
        wait_for_state(gateways[1:], CLOSED)
        at_rest(gateways[1:], redis, sim)
        gateways[0] = start_gateway(sim.url, redis.url, changes_of_rule)
    print(f"probes: {probes}: another instance probed {' '.join(f'{seconds * 1000:.0f}' for seconds in sorted(times))} ms after the kill")
    assert max(times) <= promised(0.25)
    at_rest(gateways, redis, sim)


def test_a_stopped_instance_keeps_its_places(start_gateway, sim, redis):
    """SIGSTOP in the middle of two of three probes, then CONT: they count, at the simulator too, until their calls have ended."""
    gateways = fleet(start_gateway, sim, redis, ruled(QUICK))
    for _ in range(ROUNDS):
        half_open(gateways, sim, redis)
        held = hold_tickets(gateways[0], sim, 2, "latency=1200ms tokens=1")
        gateways[0].signal(signal.SIGSTOP)
        try:
            sim.set("latency=100ms status=429")  # neither opens nor closes it
            crowd(hammer(gateways[1:], 0.8))
            calls = sim.calls()
            assert most_at_once(calls) == 3 and len(calls) > 5, len(calls)
            assert most_at_once(of(calls, *gateways[1:])) == 1
            assert sim.stats()["in_flight"] == 2 and sim.stats()["most_at_once"] == 3
        finally:
            gateways[0].signal(signal.SIGCONT)
        for each in held:
            each.join(30)
        assert [each.answer.status for each in held] == [200, 200]
        crowd(hammer(gateways, 0.3))
        assert sim.stats()["most_at_once"] == 3
        sim.clear()
        wait_until(lambda: gateways[1].ask("openai", "x").status == 200 and record(redis).get("state") == "0", "it closes")
        wait_for_state(gateways, CLOSED)
    at_rest(gateways, redis, sim)


def test_a_stopped_instances_place_is_free_when_its_call_must_have_ended(start_gateway, sim, redis):
    """The only ticket is with a process that sleeps: another has it when connect_timeout + total + 1 s are over, no sooner; what the sleeper says then is of old."""
    gateways = fleet(start_gateway, sim, redis, merge(ruled({**QUICK, "probes": 1}, timeout={"total": "300ms"}, pool={"connect_timeout": "200ms"}),
                                                      {"queue": {"max_wait": "0s"}}))
    for _ in range(ROUNDS):
        half_open(gateways, sim, redis)
        before = time.time()
        hold_tickets(gateways[0], sim, 1, "latency=250ms status=503")
        held = time.time()
        gateways[0].signal(signal.SIGSTOP)
        try:
            while time.time() < before + 30 and record(redis).get("state") == "1":
                crowd(hammer(gateways[1:], 0.2, "tokens=1"))
            first = min(came(call) for call in of(sim.calls(), *gateways[1:]))
            assert before + 1.5 <= first <= held + 1.5 + promised(0.3), (first - before, first - held)
            assert record(redis)["state"] == "0"
        finally:
            gateways[0].signal(signal.SIGCONT)
        wait_for_state(gateways, CLOSED)
        assert all(gateway.ask("openai", "x").status == 200 for gateway in gateways)
    at_rest(gateways, redis, sim)


def test_full_memory_gives_no_more_places(start_gateway, sim, redis):
    """Redis refuses what grows; tickets it gives all the same, or each worker would give its own."""
    rule = {"error_rate": 0, "slow_rate": 0, "unreachable": 0, "failures": 2, "open_for": "1s", "open_most": "1s", "probes": 1}
    gateways = [start_gateway(sim.url, redis.url, {"workers": 2, **ruled(rule)}) for _ in range(3)]
    sim.set("status=503")
    for gateway in gateways[:1] * 2:
        gateway.ask("openai", "x")
    wait_for_state(gateways, OPEN)
    redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    redis.command("CONFIG", "SET", "maxmemory", "1mb")
    sim.clear()
    sim.reset()
    wait_for_state(gateways, HALF_OPEN)
    threads = [threading.Thread(target=gateway.ask, args=("openai", "[[sim latency=500ms tokens=1]]")) for gateway in gateways for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most_at_once(sim.calls()) == 1
    wait_for_state(gateways, CLOSED)
