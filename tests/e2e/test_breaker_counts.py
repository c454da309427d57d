"""What a breaker counts, and what it does not; what opens it; and what each instance does with it while Redis is away."""

import http.client
import json
import os
import signal
import socket
import struct
import time

import pytest

from support.breakers import CLOSED, OPEN, attempts, changes, counts, opening, record, ruled, state, trips, wait_for_counts, wait_for_state
from support.client import headers_for, prompt
from support.crowd import Reading, crowd
from support.gateway import KEY, merge
from support.process import promised, wait_until
from support.provider import chunked
from support.rest import at_rest
from support.routes import load

DIALECTS = ["openai", "gemini", "anthropic"]
NOBODY_ELSE = {"slow_rate": "0", "unreachable": 0, "open_for": "60s"}  # a rule for one thing alone


def calls_of(gateway, count, words, stream=False, dialect="openai"):
    path, body = prompt(dialect, f"[[sim {words}]]", stream)
    return [Reading(0, gateway.url + path, body, headers_for(dialect, KEY)) for _ in range(count)]


def several(*how):
    """So many calls at once."""
    return crowd(calls_of(*how))


# ---- what is a failure -----------------------------------------------------------------------------------------------------------

FAILURES = {
    "5xx": ("status=529", "both"),
    "no head": ("fault=reset", "both"),
    "no first byte": ("fault=stall", "both"),
    "garbage": ("fault=garbage", "both"),
    "cut": ("fault=truncate@400", "both"),
    "reset in the middle": ("fault=reset@400", "both"),
    "a bad chunk": ("fault=badchunk@400", "both"),
    "stalls": ("fault=stall@400", "both"),
    "no marker": ("fault=nomarker", "stream"),
    "an error in band": ("fault=event@3", "stream"),
}
HASTY = {"timeout": {"idle": "300ms", "first_byte": "400ms", "first_byte_plain": "400ms"}}


@pytest.mark.parametrize("way", FAILURES)
def test_what_is_a_failure(start_gateway, sim, redis, way):
    """Each counts once, as failed, in each dialect, streamed and plain; the last of `min_calls` opens it."""
    words, where = FAILURES[way]
    streams = [True] if where == "stream" else [False, True]
    least = 3 * len(streams)
    gateway = start_gateway(sim.url, redis.url, ruled({**NOBODY_ELSE, "min_calls": least}, **HASTY))
    crowd([call for dialect in DIALECTS for stream in streams
           for call in calls_of(gateway, 3 if stream and len(streams) == 2 else 2, f"tokens=40 {words}", stream, dialect)])
    for dialect in DIALECTS:
        wait_for_counts(redis, least - 1, least - 1, dialect)
        assert state(gateway, dialect) == CLOSED
    crowd([call for dialect in DIALECTS for call in calls_of(gateway, 1, f"tokens=40 {words}", streams[0], dialect)])
    for dialect in DIALECTS:
        wait_for_state([gateway], OPEN, dialect)
        line = opening(gateway, dialect)
        # Behind a good head the last may open it before it has failed itself: by the others, of `min_calls` with it.
        assert (line["why"], line["calls"]) == ("errors", least) and least - 1 <= line["failed"] <= least, line
        assert attempts([gateway], upstream=dialect, result="failed") == attempts([gateway], upstream=dialect) == least
    at_rest([gateway], redis, sim)


IN_BAND = {
    "openai": b'data: {"error":{"message":"overloaded","type":"server_error","param":null,"code":null}}\n\ndata: [DONE]\n\n',
    "anthropic": b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n'
                 b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    "gemini": b'data: {"error":{"code":503,"message":"x","status":"UNAVAILABLE"}}\r\n\r\n'
              b'data: {"candidates":[{"index":0,"content":{"parts":[{"text":"x"}]},"finishReason":"STOP"}]}\r\n\r\n',
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_in_band_is_a_failure_whatever_comes_behind_it(provider, start_gateway, redis, dialect):
    gateway = start_gateway(provider(chunked(IN_BAND[dialect], "text/event-stream")).url, redis.url, ruled({**NOBODY_ELSE, "min_calls": 2}))
    gateway.ask(dialect, "x", True)
    wait_for_counts(redis, 1, 1, dialect)
    gateway.ask(dialect, "x", True)
    assert opening(gateway, dialect)["why"] == "errors"
    at_rest([gateway], redis)


@pytest.mark.parametrize("words,calls,result", [("status=400", 6, "ok"), ("status=404", 6, "ok"), ("status=429", 0, "nothing"), ("tokens=40", 6, "ok")])
def test_what_is_no_failure(start_gateway, sim, redis, words, calls, result):
    """Any failure would open it at once."""
    gateway = start_gateway(sim.url, redis.url, ruled({**NOBODY_ELSE, "min_calls": 1, "error_rate": "1%"}))
    for dialect in DIALECTS:
        for stream in (False, True):
            several(gateway, 3, words, stream, dialect)
        assert attempts([gateway], upstream=dialect, result=result) == attempts([gateway], upstream=dialect) == 6
    several(gateway, 1, "tokens=1")  # what is told of at the same time or later
    for dialect in DIALECTS:
        wait_for_counts(redis, calls + (dialect == "openai"), 0, dialect)
        assert state(gateway, dialect) == CLOSED and changes(gateway, upstream=dialect) == []
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_says_nothing(start_gateway, sim, redis, reset):
    """Before the head: nothing is known. In the middle of an answer: it began well."""
    gateway = start_gateway(sim.url, redis.url, ruled({**NOBODY_ELSE, "min_calls": 1, "error_rate": "1%"}))
    path, body = prompt("openai", "[[sim latency=20s]]", True)
    waiting = []
    for _ in range(4):
        connection = socket.create_connection(("127.0.0.1", gateway.port))
        content = json.dumps(body).encode()
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
                           f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        waiting.append(connection)
    wait_until(lambda: sim.stats()["in_flight"] == 4, "they are under way")
    for connection in waiting:
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    wait_until(lambda: attempts([gateway], result="nothing") == 4, "they are over")
    for _ in range(4):
        with gateway.open_stream("openai", "[[sim tokens=1000 rate=20]]") as stream:
            assert stream.read_event()
            stream.leave(reset)
    wait_until(lambda: attempts([gateway], result="ok") == 4, "they are over")
    wait_for_counts(redis, 4, 0)
    assert state(gateway) == CLOSED and changes(gateway) == []
    at_rest([gateway], redis, sim)


# ---- slow ------------------------------------------------------------------------------------------------------------------------


def test_slow_first_bytes_of_streams(start_gateway, sim, redis):
    """The 20th slow one opens it; plain answers that take as long, and 20 quick streams, do not."""
    slow = {"slow": "500ms", "slow_rate": "1%", "slow_min_calls": 20, "unreachable": 0, "open_for": "60s"}
    gateway = start_gateway(sim.url, redis.url, ruled(slow))
    crowd(calls_of(gateway, 40, "latency=700ms tokens=1") + calls_of(gateway, 19, "latency=700ms tokens=1", True))
    several(gateway, 19, "tokens=1", True, "gemini")
    wait_until(lambda: counts(redis) == (59, 0, 19, 19) and counts(redis, "gemini")[:3] == (19, 0, 19), "all are told of")
    assert state(gateway) == state(gateway, "gemini") == CLOSED
    several(gateway, 1, "latency=700ms tokens=1", True)
    wait_for_state([gateway], OPEN)
    line = opening(gateway)
    assert (line["why"], line["first_bytes"], line["slow"]) == ("slow", 20, 20)
    several(gateway, 5, "tokens=1", True, "gemini")
    wait_for_counts(redis, 24, 0, "gemini")
    assert state(gateway, "gemini") == CLOSED or counts(redis, "gemini")[3] > 0
    at_rest([gateway], redis, sim)


# ---- unreachable ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mortal(start_sim):
    return start_sim(control="127.0.0.1:0")


# Others' connections that were reset are looked at every five seconds only; what is at rest would have to wait for that.
ONE = {"upstreams": {name: None for name in ("gemini", "anthropic", "plain")}}


def connections(gateway, upstream="openai"):
    return sum(pool["idle"] + pool["active"] for pool in gateway.status()["upstreams"][upstream]["pools"].values())


def test_unreachable_in_a_row_over_the_fleet(start_gateway, mortal, redis):
    """2 + 2 + 1 over three instances; at once, and not with the next report; and it comes back with the first calls that try it."""
    rule = {"open_for": "500ms", "probes": 2}
    gateways = [start_gateway(mortal.url, redis.url, merge(ONE, ruled(rule, ["openai"]))) for _ in range(3)]
    mortal.down("refuse")
    for gateway in gateways:
        wait_until(lambda: connections(gateway) == 0, "its connections are gone")
    for gateway in [*gateways[:2], *gateways[:2]]:
        assert gateway.ask("openai", "x").json()["error"]["code"] == "upstream_unreachable"
    wait_until(lambda: record(redis).get("unreachable") == "4", "four are told of")
    assert all(state(gateway) == CLOSED for gateway in gateways)
    began = time.time()
    gateways[2].ask("openai", "x")
    late = max(opening(gateway)["at"] for gateway in gateways) - began
    print(f"the fifth refused call began {late * 1000:.1f} ms before all had opened")
    assert late <= promised(0.1)
    assert any(line["why"] == "unreachable" and line["in_a_row"] == 5 for gateway in gateways for line in changes(gateway, "open"))
    assert trips(gateways) == 1 and attempts(gateways, result="unreachable") == attempts(gateways) == 5
    mortal.up()
    wait_until(lambda: all(gateway.ask("openai", "x").status == 200 for gateway in gateways), "it is back")
    wait_for_state(gateways, CLOSED)
    at_rest(gateways, redis, mortal)


def test_health_checks_find_out_without_clients(start_gateway, mortal, redis):
    rule = {"open_for": "500ms", "probes": 2}
    health = {"path": "/v1/models", "interval": "100ms", "timeout": "10s"}
    gateways = [start_gateway(mortal.url, redis.url, merge(ONE, ruled(rule, ["openai"], health=health))) for _ in range(3)]
    mortal.down("refuse")
    wait_for_state(gateways, OPEN)
    mortal.up()
    wait_for_state(gateways, CLOSED)
    assert mortal.stats()["received"] == 0 == attempts(gateways)
    assert all(line["why"] in ("unreachable", "as Redis says", "a probe failed") for gateway in gateways for line in changes(gateway, "open"))
    at_rest(gateways, redis, mortal)


# ---- presets and models -------------------------------------------------------------------------------------------------------------------


def in_turn(gateway, words, **more):
    return [gateway.ask("openai", f"[[sim tokens=1 {'status=503' if word == 'f' else ''}]]", **more).status for word in words]


@pytest.mark.parametrize("preset,passes,opens,why,seconds", [
    ("simple", "ffff" "s" "ffff", "f", ("failures in a row", "in_a_row", 5), 60),
    ("fragile", "ss" "f" "s" "f" "sssss", "f", ("errors", "failed", 3), 60),
    ("fragile", "ffff", "f", ("failures in a row", "in_a_row", 5), 60),
    ("default", "s" "ffff" "ffff" "f" "sssssssss", "ff", ("errors", "failed", 11), 30)])
def test_presets(start_gateway, sim, redis, preset, passes, opens, why, seconds):
    gateway = start_gateway(sim.url, redis.url, ruled({"preset": preset}))
    in_turn(gateway, passes)
    wait_for_counts(redis, len(passes), passes.count("f"))
    assert state(gateway) == CLOSED
    in_turn(gateway, opens)
    wait_for_state([gateway], OPEN)
    line = opening(gateway)
    assert (line["why"], line[why[1]]) == (why[0], why[2]) and seconds - 1 < line["open_ms"] / 1000 <= seconds, line
    at_rest([gateway], redis, sim)


def test_three_in_a_row_that_are_not_reached_open_a_fragile_one(start_gateway, mortal, redis):
    gateway = start_gateway(mortal.url, redis.url, ruled({"preset": "fragile"}))
    mortal.down("refuse")
    wait_until(lambda: connections(gateway) == 0, "its connections are gone")
    for _ in range(2):
        gateway.ask("openai", "x")
    wait_until(lambda: record(redis).get("unreachable") == "2", "two are told of")
    assert state(gateway) == CLOSED
    gateway.ask("openai", "x")
    wait_for_state([gateway], OPEN)
    assert opening(gateway)["why"] == "unreachable"


@pytest.mark.parametrize("per_model", [True, False])
def test_a_model_of_its_own_breaker(start_gateway, sim, redis, per_model):
    gateways = [start_gateway(sim.url, redis.url, ruled({"min_calls": 4, "open_for": "60s", "per_model": per_model})) for _ in range(2)]
    sim.set("status=503", model="gpt-4o-mini")
    for gateway in gateways:
        in_turn(gateway, "ss", model="gpt-4o-mini")
    for gateway in gateways:
        assert opening(gateway)["name"].endswith(" gpt-4o-mini") == per_model
        assert in_turn(gateway, "s", model="gpt-4o-mini") == [503]
        assert in_turn(gateway, "s", model="gpt-4o") == [200 if per_model else 503]
        assert state(gateway) == (CLOSED if per_model else OPEN)
    assert sim.model_stats("gpt-4o-mini")["received"] == 4 and trips(gateways) == 1
    at_rest(gateways, redis, sim)


def test_models_that_nobody_asks_for_make_room(start_gateway, sim, redis):
    """A thousand breakers of models an endpoint; where clients make the names up, those of the names of now."""
    gateway = start_gateway(sim.url, redis.url, ruled({"per_model": True, "window": "1s"}))

    def models():
        return gateway.page("/breakers").json()["upstreams"]["openai"]["endpoints"][0]["models"]

    assert load([gateway], 1005, name="made-up-{{n}}")["by_status"] == {"404": 1005}
    assert 1 < len(models()) <= 1000
    wait_until(lambda: gateway.ask("openai", "x", model="gpt-4o").status == 200 and "gpt-4o" in models(), "it has a breaker of its own")
    assert len(models()) < 1000
    at_rest([gateway], redis, sim)


def test_a_model_with_a_call_under_way_is_not_forgotten(start_gateway, sim, redis):
    """Its stream lasts longer than the window, and fails in the end: that is known, however many others were asked for meanwhile."""
    gateway = start_gateway(sim.url, redis.url, ruled({"per_model": True, "window": "1s"}))
    with gateway.open_stream("openai", "[[sim tokens=60 rate=20 fault=truncate@7500]]", model="gpt-4o-mini") as stream:
        stream.read_event()
        assert load([gateway], 1005, name="made-up-{{n}}")["by_status"] == {"404": 1005}
        wait_until(lambda: gateway.ask("openai", "x", model="gpt-4o").status == 200 and "gpt-4o" in gateway.page("/breakers").text, "others have made room")
        with pytest.raises(http.client.IncompleteRead):
            stream.read_all()
    wait_until(lambda: record(redis, model="gpt-4o-mini").get("failures") == "1", "its failure is told of")
    at_rest([gateway], redis, sim)


def test_models_that_failed_once_make_room(start_gateway, sim, redis):
    """Half open for good, for nobody asks for them any more."""
    gateway = start_gateway(sim.url, redis.url, ruled({"per_model": True, "window": "1s", "failures": 1, "open_for": "300ms", "open_most": "300ms"}))
    sim.set("status=503")
    load([gateway], 1005, name="made-up-{{n}}")
    sim.clear()
    wait_until(lambda: gateway.ask("openai", "x", model="gpt-4o").status == 200 and "gpt-4o" in gateway.page("/breakers").json()["upstreams"]["openai"]["endpoints"][0]["models"],
               "it has a breaker of its own")
    at_rest([gateway], redis, sim)


# ---- Redis is away ------------------------------------------------------------------------------------------------------------------------


AWAY = merge(ruled({"min_calls": 5, "open_for": "60s"}), {"redis": {"timeout": "200ms", "on_failure": "open"}})


def break_by_itself(gateways, sim):
    """Redis does not answer, and the provider fails: the first instance opens, by what it saw itself, and the others know nothing of it."""
    told = [len(changes(gateway)) for gateway in gateways]
    sim.set("status=503")
    wait_until(lambda: refused(gateways[0]), "the first has opened")
    line = wait_until(lambda: changes(gateways[0])[told[0]:], "it is told")[0]
    assert line["to"] == "open" and line["alone"] and line["why"] == "errors" and line["calls"] >= 5, line
    for gateway, count in zip(gateways[1:], told[1:]):
        before = sim.stats()["received"]
        assert not refused(gateway) and sim.stats()["received"] == before + 1
        assert state(gateway) == CLOSED and len(changes(gateway)) == count
    assert state(gateways[0]) == OPEN
    sim.clear()


def refused(gateway):
    """By its breaker; else the simulator fails it."""
    answer = gateway.ask("openai", "x")
    assert answer.status == 503, answer
    return answer.json()["error"]["code"] == "breaker_open"


def as_one(gateways, sim, redis):
    """The failures of all together open it for all."""
    sim.set("status=503")
    assert [refused(gateway) for gateway in [*gateways, *gateways][:5]] == [False] * 5
    wait_for_state(gateways, OPEN)
    assert record(redis)["state"] == "1"
    sim.clear()
    assert all(refused(gateway) for gateway in gateways)
    for gateway in gateways:
        assert "alone" not in wait_until(lambda: changes(gateway, "open"), "it is told")[-1]


def test_a_redis_that_is_hung(start_gateway, sim, redis):
    """Each breaks by itself; then all are as Redis says, which may have got what was sent to it meanwhile; and from then on it is one breaker again."""
    gateways = [start_gateway(sim.url, redis.url, AWAY) for _ in range(3)]
    redis.signal(signal.SIGSTOP)
    try:
        break_by_itself(gateways, sim)
    finally:
        redis.signal(signal.SIGCONT)
    back = time.monotonic()
    wait_until(lambda: {state(gateway) for gateway in gateways} == {OPEN if record(redis).get("state") == "1" else CLOSED}, "all are as Redis says")
    print(f"as Redis says {time.monotonic() - back:.2f} s after it was back")
    redis.command("FLUSHALL")
    wait_for_state(gateways, CLOSED)
    as_one(gateways, sim, redis)
    at_rest(gateways, redis, sim)


def test_a_redis_that_comes_back_empty(start_gateway, sim, redis, start_redis):
    """What was known stays known while it is away; then nothing is; what one instance found out by itself meanwhile neither."""
    gateways = [start_gateway(sim.url, redis.url, AWAY) for _ in range(3)]
    as_one(gateways, sim, redis)
    redis.kill()
    assert all(refused(gateway) for gateway in gateways)
    os.unlink(redis.path)
    again = start_redis(name=redis.name)
    wait_for_state(gateways, CLOSED)
    again.kill()
    break_by_itself(gateways, sim)
    os.unlink(redis.path)
    again = start_redis(name=redis.name)
    wait_for_state(gateways, CLOSED)
    assert all(gateway.ask("openai", "[[sim tokens=1]]").status == 200 for gateway in gateways)
    wait_until(lambda: all(gateway.status()["redis"]["up"] for gateway in gateways), "Redis is reached")
    again.command("FLUSHALL")
    as_one(gateways, sim, again)
    at_rest(gateways, again, sim)
