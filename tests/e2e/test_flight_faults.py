"""A leader killed, stopped or cut off at any step ends in one take-over, never in mixed bytes; Redis deaf, dead or forgetful costs calls, never answers.

SLUICE_SOAK=N runs each kill N times (`make soak`: 50); else once."""

import os
import re
import signal
import threading
import time

import pytest

from support import client
from support.client import headers_for, prompt
from support.crowd import Reading, crowd
from support.gateway import KEY
from support.process import promised, wait_until
from support.rest import at_rest
from test_flights import COLD, all_whole_and_alike, clients, cold, fleet, received

ROUNDS = int(os.environ.get("SLUICE_SOAK", "1"))
LEASE = 3.0
ID = {"openai": re.compile(rb'"id":"(chatcmpl-[^"]+)"'), "anthropic": re.compile(rb'"id":"(msg_[^"]+)"'), "gemini": re.compile(rb'"responseId": ?"([^"]+)"')}
END = {"openai": b"data: [DONE]\n\n", "anthropic": b'"type":"message_stop"}\n\n'}

# moment → what the simulator is told, and how many bytes of the answer the followers must have when the leader dies
MOMENTS = {
    "after join": ("latency=800ms tokens=20 rate=100", 0),
    "after the first chunk": ("latency=50ms tokens=60 rate=30", 1),
    "before finish": ("latency=50ms tokens=60 rate=60", 15000),
}


def one_answer(reading):
    """All of it is of one call of the simulator, and what is complete is whole."""
    ids = set(ID["openai"].findall(reading.body))
    assert len(ids) <= 1, ids
    if reading.complete and reading.status == 200:
        assert reading.body.endswith(END["openai"]), reading
    return ids.pop() if ids else None


class Watch:
    """Waits, in the crowd's loop, until each follower has so many bytes; then strikes once."""

    def __init__(self, sim, calls, followers, least, strike):
        self.sim, self.calls, self.followers, self.least, self.strike = sim, calls, followers, least, strike
        self.at = None

    def __call__(self, now):
        if self.at is None and all(f.began and len(f.body) >= self.least for f in self.followers) and self.ready():
            self.strike()
            self.at = time.monotonic()

    def ready(self):
        return self.least > 0 or time.monotonic() - self.followers[-1].began > 0.15


def strike_round(start_gateway, sim, gateways, number, moment, number_of_signal):
    """One leader, three followers on two other instances; the leader's process is struck at the moment."""
    words, least = MOMENTS[moment]
    text = f"[[sim {words} unique=on]] {moment} {number}"
    path, body = cold("openai", text, True)
    headers = headers_for("openai", KEY)
    before = received(sim)
    leader = Reading(0, gateways[0].url + path, body, headers)
    followers = [Reading(0.15 + 0.05 * i, gateways[1 + i % 2].url + path, body, headers) for i in range(3)]
    watch = Watch(sim, before + 1, followers, least, lambda: gateways[0].signal(number_of_signal))
    if number_of_signal == signal.SIGSTOP:
        def during(now):
            watch(now)
            if watch.at and time.monotonic() - watch.at > LEASE + 1.5:
                gateways[0].signal(signal.SIGCONT)
    else:
        during = watch
    crowd([leader, *followers], during=during, timeout=40)
    assert watch.at is not None, "the moment never came"
    check_round(sim, before, leader, followers, watch.at, number_of_signal)


def check_round(sim, before, leader, followers, struck, number_of_signal):
    calls = received(sim) - before
    assert calls <= 2, calls
    for reading in [leader, *followers]:
        one_answer(reading)
    for follower in followers:
        had_bytes = any(at <= struck for at, _ in follower.marks)
        if not had_bytes:
            assert follower.status == 200 and follower.complete, follower
            first = follower.marks[0][0]
            assert first - struck < promised(LEASE + 1) + 0.8, first - struck
        elif not follower.complete:
            assert follower.status == 200 and b'"error"' in follower.body.rsplit(b"\n\n", 2)[-2], follower
            assert follower.ended - struck < promised(LEASE + 1)
    if number_of_signal == signal.SIGSTOP and leader.status == 200 and leader.complete:
        assert leader.body.endswith(END["openai"])


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_leader_that_is_killed(start_gateway, sim, redis, moment):
    gateways = fleet(start_gateway, sim, redis)
    for number in range(ROUNDS):
        strike_round(start_gateway, sim, gateways, number, moment, signal.SIGKILL)
        gateways[0].kill()
        at_rest(gateways[1:])
        gateways[0] = start_gateway(sim.url, redis.url)
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_leader_that_is_stopped(start_gateway, sim, redis, moment):
    """SIGSTOP past its lease, then CONT: somebody else led meanwhile; what it says then is refused, its own client has its own answer or none."""
    gateways = fleet(start_gateway, sim, redis)
    for number in range(ROUNDS):
        strike_round(start_gateway, sim, gateways, number, moment, signal.SIGSTOP)
        gateways[0].signal(signal.SIGCONT)
        at_rest(gateways)
    at_rest(gateways, redis, sim)


def test_no_hint_arrives(start_gateway, sim, redis, proxy, folder):
    """All that PUBLISH brings is swallowed: flights complete all the same, a beat later at most."""
    between = proxy(f"unix:{redis.path}", str(folder / "deaf.sock"))
    between.tell("drop-pushes on")
    gateways = fleet(start_gateway, sim, redis, {"redis": {"url": f"unix://{folder}/deaf.sock"}}, 3)
    for stream in (True, False):
        before = received(sim)
        readings = crowd(clients(gateways, "openai", f"[[sim latency=300ms tokens=60 rate=40 unique=on]] {stream}", 5, 0.25, stream))
        all_whole_and_alike(readings)
        assert received(sim) == before + 1
    assert between.count("dropped") > 0
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("stream", [True, False])
def test_redis_killed_in_mid_flight(start_gateway, sim, redis, start_redis, stream):
    """The leader's own worker completes for all that follow there; elsewhere who has nothing yet asks anew, who has bytes is told. Nothing is mixed."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    words = "latency=300ms tokens=60 rate=40" if stream else "latency=1500ms tokens=60"
    path, body = cold("openai", f"[[sim {words} unique=on]]", stream)
    headers = headers_for("openai", KEY)
    readings = [Reading(0 if i == 0 else 0.1 + 0.02 * i, gateways[i % 2].url + path, body, headers) for i in range(10)]
    struck = []

    def during(now):
        if not struck and now > 0.5:
            struck.append(redis.kill())

    crowd(readings, during=during)
    own, others = readings[0::2], readings[1::2]
    all_whole_and_alike(own)
    for reading in others:
        one_answer(reading) if stream else None
        assert reading.complete or b'"error"' in reading.body, reading
    assert received(sim) <= 2
    os.unlink(redis.path)
    at_rest(gateways, start_redis(name=redis.name), sim)


def test_redis_comes_back_and_the_flight_is_shared_again(start_gateway, sim, redis, start_redis):
    """A flight that began without Redis is published when it is there: who comes then on another instance reads along."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    redis.kill()
    wait_until(lambda: not any(g.status()["redis"]["up"] for g in gateways), "it is missed")
    path, body = cold("openai", "[[sim latency=50ms tokens=160 rate=20 unique=on]]", True)
    leader = Reading(0, gateways[0].url + path, body, headers_for("openai", KEY))
    thread = threading.Thread(target=crowd, args=([leader],))
    thread.start()
    wait_until(lambda: received(sim) == 1, "the leader asks")
    os.unlink(redis.path)
    again = start_redis(name=redis.name)
    wait_until(lambda: again.keys("sluice:*:f"), "the flight is published")
    follower = Reading(0, gateways[1].url + path, body, headers_for("openai", KEY))
    crowd([follower])
    thread.join()
    all_whole_and_alike([leader, follower])
    assert received(sim) == 1
    at_rest(gateways, again, sim)


@pytest.mark.parametrize("after", ["close", "mute"])
def test_replies_of_redis_are_lost(start_gateway, sim, redis, proxy, folder, after):
    """Each fifth reply: the command ran, its answer never came. Every client has one whole answer; the calls are few."""
    between = proxy(f"unix:{redis.path}", str(folder / "lossy.sock"))
    gateways = fleet(start_gateway, sim, redis, {"redis": {"url": f"unix://{folder}/lossy.sock", "timeout": "200ms"}}, 2)
    between.tell("skip 12")
    between.tell(f"after-drop {after}")
    between.tell("drop-reply-every 5")
    for number in range(6):
        readings = crowd(clients(gateways, "openai", f"[[sim latency=100ms tokens=40 rate=40 unique=on]] {number}", 3, 0.2, True))
        for reading in readings:
            one_answer(reading)
        assert sum(r.complete for r in readings) >= 3, readings
    assert received(sim) <= 24
    between.clear()
    at_rest(gateways, redis, sim)


def test_flights_forgotten_by_redis(start_gateway, sim, redis):
    """FLUSHALL in mid-flight: the leader's worker completes, elsewhere they ask anew or are told; later flights are whole."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    readings = clients(gateways, "openai", "[[sim latency=50ms tokens=60 rate=40 unique=on]]", 3, 0.2, True)
    struck = []

    def during(now):
        if not struck and now > 0.6:
            struck.append(redis.command("FLUSHALL"))

    crowd(readings, during=during)
    for reading in readings:
        one_answer(reading)
    assert received(sim) <= 2
    all_whole_and_alike(crowd(clients(gateways, "openai", "[[sim tokens=20 rate=40]] after", 3, 0.2, True)))
    at_rest(gateways, redis, sim)


@pytest.mark.parametrize("deadline", ["x-stainless-timeout", "X-Server-Timeout"])
def test_the_leaders_deadline_is_its_own(start_gateway, sim, redis, deadline):
    """Its client gives up before the first byte; the call goes on for who follows, and costs one."""
    gateways = fleet(start_gateway, sim, redis, None, 2)
    path, body = cold("openai", "[[sim latency=1500ms tokens=5 unique=on]]")
    leader = Reading(0, gateways[0].url + path, body, {**headers_for("openai", KEY), deadline: "0.6"})
    others = [Reading(0.2, g.url + path, body, headers_for("openai", KEY)) for g in gateways]
    crowd([leader, *others])
    assert leader.status == 504 and b'"deadline"' in leader.body
    all_whole_and_alike(others)
    assert received(sim) == 1
    at_rest(gateways, redis, sim)


def test_an_instance_that_drains_hands_its_flights_on(start_gateway, sim, redis):
    """Its leader is ended with the drain; who followed elsewhere and had nothing yet is served by another."""
    gateways = fleet(start_gateway, sim, redis, {"drain": {"wait": "0s", "deadline": "1s"}}, 2)
    path, body = cold("openai", "[[sim latency=2500ms tokens=5 unique=on]]")
    leader = Reading(0, gateways[0].url + path, body, headers_for("openai", KEY))
    follower = Reading(0.3, gateways[1].url + path, body, headers_for("openai", KEY))
    struck = []

    def during(now):
        if not struck and now > 0.6:
            struck.append(gateways[0].signal(signal.SIGTERM))

    crowd([leader, follower], during=during)
    assert leader.status == 503 and follower.status == 200 and follower.complete, (leader, follower)
    assert received(sim) == 2
    at_rest(gateways[1:], redis, sim)
