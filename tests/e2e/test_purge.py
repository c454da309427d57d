"""POST /cache/purge on one instance of two: what is purged is given by neither any more, what is not stays; and what is asked wrongly purges nothing."""

import http.client
import json
import re
import signal
import socket
import time

import pytest

from support.client import request
from support.gateway import KEY
from support.process import promised, wait_until
from support.rest import at_rest

OTHER_KEY = "client-key-of-another-tenant"
TENANTS = {"acme": {"keys": [KEY]}, "other": {"keys": [OTHER_KEY]}}
TEXT = "[[sim tokens=3 unique=on]] What is purged?"
CALLS = [(key, model) for key in (KEY, OTHER_KEY) for model in ("gpt-4o-mini", "gpt-4o")]
PURGED = "sluice:{c}:p"


@pytest.fixture
def fleet(start_gateway, sim, redis):
    """Two instances, one of one worker, which does not hear from Redis of what it purged itself. A call that has ended is not shared as one, so that only what is
    stored is."""
    return [start_gateway(sim.url, redis.url, {"tenants": TENANTS, "workers": workers, "coalesce": {"window": "0s"}}) for workers in (1, 3)]


def ask(gateway, key=KEY, model="gpt-4o-mini"):
    answer = gateway.ask("openai", TEXT, key=key, model=model, temperature=0)
    assert answer.status == 200, answer
    return answer


def is_hot(gateway, key, model, body):
    """Eight calls in a row got a worker's own copy: all whom they reach have one."""
    before = gateway.metric("sluice_cache_total", result="local")
    assert all(ask(gateway, key, model).body == body for _ in range(8))
    return gateway.metric("sluice_cache_total", result="local") == before + 8


def fill(fleet, calls=CALLS):
    """What each call is answered with from now on, by every worker out of its own memory."""
    bodies = {call: ask(fleet[0], *call).body for call in calls}
    for call in calls:
        wait_until(lambda: "; hit" in ask(fleet[0], *call).headers["cache-status"], "it is stored")
        for gateway in fleet:
            wait_until(lambda: is_hot(gateway, *call, bodies[call]), "it is hot")
    return bodies


def purge(gateway, body, **more):
    return request(gateway.admin_url + "/cache/purge", method="POST", body=body, **more)


def key_of(gateway, *call):
    return re.search(r'; key="([0-9a-f]{64})"', ask(gateway, *call).headers["cache-status"])[1]


PURGES = {
    "tenant": (lambda _: {"tenant": "acme"}, "tenant acme", lambda key, model: key == KEY),
    "model": (lambda _: {"model": "gpt-4o"}, "model gpt-4o", lambda key, model: model == "gpt-4o"),
    "both": (lambda _: {"model": "gpt-4o", "tenant": "other"}, "tenant other, model gpt-4o", lambda key, model: (key, model) == (OTHER_KEY, "gpt-4o")),
    "key": (lambda fleet: {"key": key_of(fleet[1], KEY, "gpt-4o").upper()}, None, lambda key, model: (key, model) == (KEY, "gpt-4o")),
    "all": (lambda _: {"all": True}, "everything", lambda key, model: True),
    "unknown model": (lambda _: {"model": "no-such-model"}, "model no-such-model", lambda key, model: False),
}


@pytest.mark.parametrize("name", PURGES)
@pytest.mark.parametrize("through", [0, 1], ids=["first", "second"])
def test_what_is_purged_on_one_is_given_by_none(fleet, sim, redis, name, through):
    make, named, goes = PURGES[name]
    bodies, body = fill(fleet), make(fleet)
    received, before = sim.stats()["received"], time.time()
    answer = purge(fleet[through], body)
    told = answer.json()
    assert answer.status == 200 and set(told) == {"purged", "at_ms"}, answer
    assert told["purged"] == (named or f"key {body['key'].lower()}") and before - 1 < told["at_ms"] / 1000 < time.time() + 1
    gone = [call for call in CALLS if goes(*call)]
    end = time.monotonic() + promised(0.1)
    for call in gone:
        for gateway in fleet:
            wait_until(lambda: ask(gateway, *call).body != bodies[call], "it is purged", max(0, end - time.monotonic()))
    for call in CALLS:
        for gateway in fleet:
            assert all((ask(gateway, *call).body == bodies[call]) == (call not in gone) for _ in range(8)), (gateway.name, call)
    assert sim.stats()["received"] == received + len(gone)  # what is new is stored
    at_rest(fleet, redis, sim)


def what_came(stream, before):
    """All that it got, without the error at its end where it was cut."""
    try:
        return before + stream.read_all()
    except http.client.IncompleteRead as cut:
        got = before + cut.partial
        return got[:got.index(b'data: {"error"')]


def test_a_running_flight_from_before_is_not_joined(start_gateway, sim, redis):
    """Who leads it and who reads along in its worker get all of it; who does so elsewhere is not given the new one's bytes. It is not stored."""
    fleet = [start_gateway(sim.url, redis.url, {"coalesce": {"window": "0s"}}) for _ in range(2)]
    text = "[[sim tokens=40 rate=20 unique=on]]"

    def open_one(gateway):
        return gateway.open_stream("openai", text, temperature=0)

    with open_one(fleet[0]) as leader, open_one(fleet[0]) as beside, open_one(fleet[1]) as elsewhere:
        begins = [stream.read_event() for stream in (leader, beside, elsewhere)]
        assert sim.stats()["received"] == 1 and len(set(begins)) == 1
        assert purge(fleet[0], {"tenant": "acme"}).status == 200
        with open_one(fleet[1]) as second, open_one(fleet[0]) as third:
            new = second.read_all()
            assert third.read_all() == new and sim.stats()["received"] == 2
        whole = begins[0] + leader.read_all()
        assert whole == begins[1] + beside.read_all() != new and whole.endswith(b"[DONE]\n\n")
        assert whole.startswith(what_came(elsewhere, begins[2]))
    for gateway in fleet:
        with open_one(gateway) as stored:
            assert stored.read_all() == new and "; hit" in stored.headers["cache-status"]
    assert sim.stats()["received"] == 2
    at_rest(fleet, redis, sim)


def test_a_running_flight_of_somebody_else_goes_on(start_gateway, sim, redis):
    """Which it is, only Redis knows; who comes now joins all the same, in the leader's worker and elsewhere, and nobody is cut."""
    fleet = [start_gateway(sim.url, redis.url, {"tenants": TENANTS}) for _ in range(2)]
    text = "[[sim tokens=60 rate=20 unique=on]]"
    with fleet[0].open_stream("openai", text, temperature=0) as leader, fleet[1].open_stream("openai", text, temperature=0) as elsewhere:
        begins = [leader.read_event(), elsewhere.read_event()]
        for through in fleet:
            assert purge(through, {"tenant": "other"}).status == 200
            for gateway in fleet:
                with gateway.open_stream("openai", text, temperature=0) as late:
                    assert late.read_event() == begins[0] and "collapsed" in late.headers["cache-status"]
        whole = begins[0] + leader.read_all()
        assert begins[1] + elsewhere.read_all() == whole and whole.endswith(b"[DONE]\n\n") and sim.stats()["received"] == 1


def test_a_flight_that_has_just_ended_is_purged_too(start_gateway, sim, redis):
    """Within the window it is given to who comes late, without being kept."""
    gateway = start_gateway(sim.url, redis.url, {"cache": {"when": "never"}, "coalesce": {"window": "10s"}})
    body = ask(gateway).body
    assert ask(gateway).body == body
    received = sim.stats()["received"]
    assert purge(gateway, {"model": "gpt-4o-mini"}).status == 200
    assert ask(gateway).body != body and sim.stats()["received"] == received + 1


def test_it_is_the_redis_of_answers_that_is_told(start_gateway, start_redis, sim, redis):
    answers = start_redis(name="answers")
    gateway = start_gateway(sim.url, redis.url, {"cache": {"redis": answers.url}})
    at = purge(gateway, {"tenant": "acme", "model": "models/x y"}).json()["at_ms"]
    assert [int(word) // 1000 if word.isdigit() else word for word in answers.command("HGETALL", PURGED)] == ["b:acme models/x y", at]
    assert answers.command("PTTL", PURGED) > 60 * 86400 * 1000 and redis.command("EXISTS", PURGED) == 0


WRONG = {
    "nothing": (b"", "JSON body"), "no JSON": (b"tenant=acme", "not JSON"), "cut": (b'{"tenant": "acme"', "not JSON"), "more behind": (b'{"all": true} x', "not JSON"),
    "twice": (b'{"tenant": "acme", "tenant": "other"}', "duplicate"), "no text": (b'{"model": "\xff"}', "not JSON"), "NUL": (b'{"model": "a\\u0000"}', "not JSON"),
    "deep": (b"[" * 4000, "not JSON"), "array": (b'["all"]', "not a JSON object"), "word": (b"true", "not JSON"), "empty": (b"{}", "empty object"),
    "tenant unknown": (b'{"tenant": "acmee"}', '"tenant" is "acmee", and not the name of a tenant here'), "tenant null": (b'{"tenant": null}', '"tenant" is null'),
    "tenant empty": (b'{"tenant": ""}', '"tenant" is ""'), "model empty": (b'{"model": ""}', '"model" is ""'), "model number": (b'{"model": 4}', '"model" is 4'),
    "model long": (b'{"model": "%s"}' % (b"x" * 257), '"model" is "xxx'), "key short": (b'{"key": "%s"}' % (b"a" * 63), '"key" is "aaa'),
    "key of others": (b'{"key": "%s"}' % (b"g" * 64), "a key as Cache-Status tells it"), "all false": (b'{"all": false}', '"all" is false, and not true'),
    "all and tenant": (b'{"all": true, "tenant": "acme"}', '"all" beside another'), "key and model": (b'{"key": "%s", "model": "m"}' % (b"a" * 64), '"key" beside another'),
    "unknown": (b'{"tenant": "acme", "modle": "gpt-4o"}', 'the member "modle"'),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_asked_wrongly_is_told_and_purges_nothing(gateway, redis, what):
    body, why = WRONG[what]
    answer = purge(gateway, body)
    error = json.loads(answer.body)["error"]
    assert answer.status == 400 and why in error and answer.headers["content-type"] == "application/json", answer
    assert what == "nothing" or all(allowed in error for allowed in ('{"tenant": NAME}', '{"model": NAME}', "64 hexadecimal digits", '{"all": true}'))
    assert redis.command("EXISTS", PURGED) == 0


def test_a_body_that_is_too_large(gateway, redis):
    largest = b'{"all": true}'.ljust(4096)
    assert purge(gateway, largest).status == 200
    redis.command("DEL", PURGED)
    for body in largest + b" ", b" " * 100000:
        for chunked in False, True:
            answer = purge(gateway, iter([body]) if chunked else body)
            assert answer.status == 413 and answer.json()["error"], answer
    assert redis.command("EXISTS", PURGED) == 0 and gateway.page("/status").status == 200


def test_only_who_may_purges(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"admin_token": "token-of-sixteen-bytes"})
    bearer = {"Authorization": "Bearer token-of-sixteen-bytes"}
    for status, headers in ((401, {}), (401, {"Authorization": f"Bearer {KEY}"}), (403, {**bearer, "Origin": "http://evil.example"}), (403, {**bearer, "Origin": "null"})):
        assert purge(gateway, {"all": True}, headers=headers).status == status
    assert request(gateway.url + "/cache/purge", body={"all": True}, headers={"Authorization": f"Bearer {KEY}"}).status == 404
    wrong = request(gateway.admin_url + "/cache/purge", headers=bearer)
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST") and redis.command("EXISTS", PURGED) == 0
    assert purge(gateway, {"all": True}, headers=bearer).status == 200
    assert redis.command("HKEYS", PURGED) == ["*"]


def test_without_redis_it_says_so(start_gateway, start_redis, sim):
    """One that hangs, and one that is gone; and it works again when Redis does."""
    redis = start_redis()
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "500ms"}})
    redis.signal(signal.SIGSTOP)
    hung = purge(gateway, {"all": True})
    assert hung.status == 503 and "Ask again" in hung.json()["error"] and hung.seconds < 0.5 + promised(0.5)
    redis.signal(signal.SIGCONT)
    wait_until(lambda: purge(gateway, {"all": True}).status == 200, "it is back")
    redis.kill()
    assert purge(gateway, {"all": True}).status == 503


def test_who_leaves_meanwhile_leaves_nothing_behind(start_gateway, start_redis, sim):
    """In the middle of the body, and while Redis is waited for; also when the instance ends then."""
    redis = start_redis()
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "10s"}})
    head = b"POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.admin_port), 10) as connection:
        connection.sendall(head + b'{"all":')
        assert gateway.page("/status").status == 200
    redis.signal(signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", gateway.admin_port), 10) as connection:
        connection.sendall(head + b'{"all": true}')
        assert gateway.page("/requests").status == 200
    gateway.signal(signal.SIGTERM)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() in (0, 1)
    redis.signal(signal.SIGCONT)
