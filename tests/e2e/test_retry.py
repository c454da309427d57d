"""Calls that fail and are made again: which ones, where, how often, and what the client, the log and the quotas are told of it. The simulator's count is the
measure. What storms and what waits is in test_retry_storm.py and test_retry_wait.py."""

import itertools

import pytest

from support.client import MODELS, answer_text, ask, error_of, headers_for, prompt, request, text_of
from support.crowd import crowd
from support.gateway import KEY, merge
from support.process import free_port, wait_until
from support.rest import at_rest
from test_flights import all_whole_and_alike, clients
from support.provider import chunked, plain
from test_odd_answers import CHUNK, EVENTS, google_event, line_of

DIALECTS = ["openai", "gemini", "anthropic"]
UPSTREAMS = [*DIALECTS, "plain"]
CLOSED = {"error_rate": 0, "slow_rate": 0, "unreachable": 0, "failures": 0}  # a breaker that nothing opens
FREE = {"budget": "100%", "timeout_base": "2ms"}  # the first request of all can pay for its repetition
START = b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1}}}\n\n'


def everywhere(**upstream):
    """The same for each upstream: no breaker, and retries that nothing but `retry` holds back."""
    return {"upstreams": {name: merge({"breaker": CLOSED, "retry": FREE}, upstream) for name in UPSTREAMS}}


def endpoints(*urls):
    """The first is asked as long as it has not failed."""
    return [{"url": url, "priority": priority} for priority, url in enumerate(urls)]


def received(sim):
    return sim.stats()["received"]


def retried(gateway, reason):
    return gateway.metric("sluice_retries_total", reason=reason)


def ok(dialect, answer, nonce="n", tokens=3):
    assert (answer.status, answer.complete) == (200, True), answer
    assert answer_text(dialect, answer) == text_of(nonce, tokens)


# ---- what is made again, and what is not ----------------------------------------------------------------------------------------------


def test_failures_of_a_provider_are_made_again(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere())
    for status, dialect, stream in itertools.product((500, 502, 503, 504, 529), DIALECTS, (False, True)):
        sim.reset()
        sim.set(f"status={status}", times=1)
        ok(dialect, gateway.ask(dialect, "[[sim nonce=n tokens=3]]", stream))
        assert received(sim) == 2
    assert retried(gateway, "busy") == 30
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("resend", [False, True])
def test_what_was_sent_whole_is_sent_again_only_where_it_may(start_gateway, sim, redis, resend):
    """A reset before the head: the provider may have done, and billed, it."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={**FREE, "resend": resend}))
    for dialect, stream in itertools.product(DIALECTS, (False, True)):
        sim.reset()
        sim.set("fault=reset", times=1)
        answer = gateway.ask(dialect, "[[sim nonce=n tokens=3]]", stream)
        if resend:
            ok(dialect, answer)
        else:
            assert answer.status == 502 and "upstream_broken" in answer.text.lower(), answer
        assert received(sim) == 1 + resend
        sim.clear()
    assert retried(gateway, "unsure") == 6 * resend
    at_rest([gateway], redis, sim)


# Only 503 says that nothing was done (RFC 9110 section 15.6.4); what may be done twice is section 9.2.2's.
OF_ANY_API = [("GET", "fault=reset", 2), ("POST", "fault=reset", 1), ("GET", "status=500", 2), ("POST", "status=500", 1), ("POST", "status=502", 1),
              ("POST", "status=504", 1), ("POST", "status=503", 2), ("POST", "status=429", 2), ("PUT", "status=500", 2), ("DELETE", "fault=reset", 2),
              ("PATCH", "status=500", 1), ("GET", "status=404", 1)]


def test_of_any_api_what_is_safe_or_refused(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={**FREE, "base": "2ms"}))
    for method, words, calls in OF_ANY_API:
        sim.clear()
        before = sim.stats()["other"]
        sim.set(words, model="anything", times=1)
        answer = request(f"{gateway.url}/plain/anything", method=method, body=None if method in ("GET", "DELETE") else "x", headers=headers_for("openai", KEY))
        assert sim.stats()["other"] - before == calls, (method, words)
        assert answer.status == (200 if calls == 2 else 502 if "reset" in words else int(words[7:])), (method, words, answer)
    assert gateway.metric("sluice_attempts_total", upstream="plain") == sum(calls for *_, calls in OF_ANY_API)
    at_rest([gateway], redis, sim)


def test_what_the_client_did_wrong_is_never_made_again(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere())
    for status in (400, 401, 403, 404, 409, 413, 422):
        sim.set(f"status={status}")
        for dialect, stream in itertools.product(DIALECTS, (False, True)):
            sim.reset()
            answer = gateway.ask(dialect, "x", stream)
            assert received(sim) == 1 and (answer.status, answer.body) == (status, ask(sim, dialect, "x", stream).body)
    assert gateway.metric("sluice_retries_total") == 0
    at_rest([gateway], redis, sim)


def test_what_the_content_filter_ended_is_an_answer(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={**FREE, "resend": True}))
    for dialect, stream in itertools.product(DIALECTS, (False, True)):
        sim.reset()
        answer = gateway.ask(dialect, "[[sim nonce=n tokens=3 filter=on]]", stream)
        assert answer.complete and answer.body == ask(sim, dialect, "[[sim nonce=n tokens=3 filter=on]]", stream).body
        assert received(sim) == 2  # the second is ours
    assert gateway.metric("sluice_retries_total") == 0
    at_rest([gateway], redis, sim)


REFUSED = {"openai": (500, b'{"error":{"message":"no","type":"server_error","param":null,"code":"content_policy_violation"}}'),
           "gemini": (200, b'{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":4}}'),
           "anthropic": (400, b'{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}')}


def failing(status, body, fields="", framing=None):
    """An answer of a provider's byte for byte."""
    if framing == "chunked":
        fields, body = fields + "Transfer-Encoding: chunked\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    else:
        fields += f"Content-Length: {len(body)}\r\n"
    return f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\n{fields}\r\n".encode() + body


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_word_of_policy_ends_it(provider, start_gateway, redis, dialect):
    """Also where the status alone would have it tried again."""
    status, body = REFUSED[dialect]
    upstream = provider(failing(status, body))
    gateway = start_gateway(upstream.url, redis.url, everywhere())
    answer = gateway.ask(dialect, "x")
    assert (answer.status, answer.body, len(upstream.requests)) == (status, body, 1)
    assert gateway.metric("sluice_retries_total") == 0
    at_rest([gateway], redis)


@pytest.mark.parametrize("fault", ["reset", "fin"])
def test_nothing_is_made_again_behind_the_first_byte(start_gateway, sim, redis, fault):
    """Not even where it may be sent twice: half of one answer and half of another are none."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={**FREE, "resend": True}))
    for dialect in DIALECTS:
        sim.reset()
        sim.set(f"rate=200 fault={fault}@2500", times=1)
        answer = gateway.ask(dialect, "[[sim nonce=n tokens=50]]", True)
        assert answer.status == 200 and not answer.complete and received(sim) == 1
        whole = ask(sim, dialect, "[[sim nonce=n tokens=50]]", True).body
        assert len(answer.body) > 1000 and whole.startswith(answer.body), answer
    assert gateway.metric("sluice_retries_total") == 0
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("dialect,stream", [("openai", CHUNK), ("anthropic", START), ("gemini", google_event((0, False)))])
def test_a_stream_that_broke_says_so_instead(provider, start_gateway, redis, dialect, stream):
    upstream = provider(chunked(stream, EVENTS, end=False), close=True)
    gateway = start_gateway(upstream.url, redis.url, everywhere(retry={**FREE, "resend": True}))
    answer = gateway.ask(dialect, "x", True)
    assert answer.status == 200 and not answer.complete and answer.body.startswith(stream)
    assert b"upstream_broken" in answer.body[len(stream):].lower() and len(upstream.requests) == 1
    at_rest([gateway], redis)


# ---- elsewhere ------------------------------------------------------------------------------------------------------------------------


def test_who_cannot_be_reached_is_passed_over_for_free(start_gateway, sim, redis):
    """No budget at all, and no wait: nothing was sent."""
    nobody = f"http://127.0.0.1:{free_port()}"
    gateway = start_gateway(sim.url, redis.url, everywhere(endpoints=endpoints(nobody, sim.url), retry={"budget": 0, "timeout_base": "1h", "base": "1h", "cap": "1h"}))
    for dialect in DIALECTS:
        for stream in (False, True):
            for _ in range(3):
                ok(dialect, gateway.ask(dialect, "[[sim nonce=n tokens=3]]", stream))
    assert received(sim) == 18 and retried(gateway, "unsent") == 18 and retried(gateway, "no_budget") == 0
    at_rest([gateway], redis, sim)


def test_another_endpoint_comes_first(start_gateway, start_sim, redis):
    """And it is not waited for: `base` is an hour."""
    bad, good = start_sim(), start_sim()
    gateway = start_gateway(bad.url, redis.url, everywhere(endpoints=endpoints(bad.url, good.url), retry={"budget": "100%", "base": "1h", "cap": "1h"}))
    for words, dialect, stream in itertools.product(("status=503", "status=500", "status=429"), DIALECTS, (False, True)):
        bad.reset(), good.reset()
        bad.set(words)
        ok(dialect, gateway.ask(dialect, "[[sim nonce=n tokens=3]]", stream))
        assert (received(bad), received(good)) == (1, 1)
    at_rest([gateway], redis, good)


def test_who_says_nothing_is_left_for_another(start_gateway, start_sim, redis):
    bad, good = start_sim(), start_sim()
    gateway = start_gateway(bad.url, redis.url, everywhere(endpoints=endpoints(bad.url, good.url), timeout={"first_byte": "700ms", "first_byte_plain": "700ms"}))
    bad.set("fault=stall")
    for stream in (False, True):
        ok("openai", gateway.ask("openai", "[[sim nonce=n tokens=3]]", stream))
    assert (received(bad), received(good), retried(gateway, "busy")) == (2, 2, 2)
    at_rest([gateway], redis, good)


# ---- what the client is told ------------------------------------------------------------------------------------------------------------


def test_the_last_error_is_passed_on_as_it_came(start_gateway, start_sim, redis):
    first, last = start_sim("status=500"), start_sim("status=503 retry=7s")
    gateway = start_gateway(first.url, redis.url, everywhere(endpoints=endpoints(first.url, last.url), retry={**FREE, "attempts": 2}))
    for dialect, stream in itertools.product(DIALECTS, (False, True)):
        model = MODELS[dialect] + ("-0" if stream else "")  # that which was refused is left alone for 7 s
        answer, own = gateway.ask(dialect, "x", stream, model=model), ask(last, dialect, "x", stream, model=model)
        assert (answer.status, answer.body, answer.headers["content-type"]) == (503, own.body, own.headers["content-type"])
        assert answer.headers["retry-after"] == own.headers["retry-after"] == (None if dialect == "gemini" else "7")
    assert received(first) == 6 and received(last) == 12
    at_rest([gateway], redis, first)


@pytest.mark.parametrize("size,framing,calls", [(64 * 1024, "length", 2), (64 * 1024, "chunked", 2), (64 * 1024 + 1, "length", 1), (3 << 20, "chunked", 1)])
def test_long_errors_come_whole(provider, start_gateway, redis, size, calls, framing):
    """What is longer than any error passes as it comes, and so cannot be tried again."""
    body = b'{"error":{"message":"' + bytes(97 + i % 26 for i in range(size - 24)) + b'"}}'
    assert len(body) == size
    upstream = provider(failing(503, body, framing=framing))
    gateway = start_gateway(upstream.url, redis.url, everywhere(retry={**FREE, "attempts": 2}))
    answer = gateway.ask("openai", "x")
    assert (answer.status, answer.complete, answer.body == body, len(upstream.requests)) == (503, True, True, calls)
    at_rest([gateway], redis)


HALVES = {503: ("", 502, "upstream_broken"), 500: ("", 502, "upstream_broken"), 429: ("Retry-After: 5\r\n", 429, "upstream_limited"), 402: ("", 502, "upstream_broken")}


@pytest.mark.parametrize("status", HALVES)
def test_half_an_error_is_none_to_pass_on(provider, start_gateway, redis, status):
    """Its connection broke in the middle; its head has said what it is, and when to come again."""
    fields, told, code = HALVES[status]
    whole = failing(status, b'{"error":{"message":"' + b"x" * 4000 + b'"}}', fields)
    upstream = provider(whole[:-2000], close=True)
    gateway = start_gateway(upstream.url, redis.url, everywhere(retry={**FREE, "attempts": 2, "cap": "1s"}))
    answer = gateway.ask("openai", "x")
    assert (answer.status, error_of("openai", answer)) == (told, code), answer
    assert len(upstream.requests) == (2 if status >= 500 else 1)
    assert (answer.headers["Retry-After"] == "5") == (status == 429)
    assert retried(gateway, "busy") == (status >= 500) and retried(gateway, "unsure") == 0
    at_rest([gateway], redis)


def test_long_heads_of_many_attempts(provider, start_gateway, redis):
    """Each attempt keeps its head; there is room for as many as there may be, and the last one's is passed on."""
    place = provider(plain(b"{}"))
    retry = {"attempts": 20, "budget": "100%", "base": "1ms", "timeout_base": "1ms", "cap": "1ms"}
    gateway = start_gateway(place.url, redis.url, everywhere(retry=retry))
    for count in range(8, 92, 6):  # long fields, and many; Python reads a hundred
        place.answer = plain(b"{}")
        for _ in range(20):  # they pay for the repetitions
            gateway.ask("openai", "x")
        long = "".join(f"X-Filler-{number}: {'v' * (31000 // count - 20)}\r\n" for number in range(count))
        place.answer = f"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n{long}\r\n{{}}".encode()
        before = len(place.requests)
        answer = gateway.ask("openai", "x")
        assert (answer.status, answer.body, len(place.requests) - before) == (503, b"{}", 20), count
    at_rest([gateway], redis)


def test_attempts_are_counted_with_many_upstreams(start_gateway, sim, redis):
    """Each by its name: only what was called takes one of the series that a metric may have."""
    pool = {"min": 0, "start": 1, "max": 1, "streams": 1}
    many = {f"u{number}": {"dialect": "http", "endpoints": [{"url": sim.url}], "pool": pool} for number in range(600)}
    gateway = start_gateway(sim.url, redis.url, {"upstreams": many})
    for name in ("u0", "u599"):
        assert request(f"{gateway.url}/{name}/anything/x", headers=headers_for("openai", KEY)).status == 200
        assert gateway.metric("sluice_attempts_total", upstream=name, result="ok") == 1


def test_every_page_tells_of_attempts(start_gateway, start_sim, redis):
    nobody = f"http://127.0.0.1:{free_port()}"
    busy, sim = start_sim("status=503"), start_sim()
    gateway = start_gateway(sim.url, redis.url, everywhere(endpoints=endpoints(nobody, busy.url, sim.url)))
    answer = gateway.ask("openai", "[[sim tokens=3]]")
    assert answer.status == 200 and "retry;dur=" in answer.headers["server-timing"], answer.headers["server-timing"]
    assert answer.headers["proxy-status"] == f'sluice; next-hop="{sim.url}"; details="attempt 3"'
    line = line_of(gateway)
    first, second = line["failed"].split("; ")
    assert line["attempts"] == 3 and line["retry_ms"] > 0
    assert first.startswith(f"openai {nobody} connect_failed ") and second.startswith(f"openai {busy.url} 503 ") and second.endswith(" ms")
    assert [gateway.metric("sluice_attempts_total", upstream="openai", result=result) for result in ("ok", "failed", "unreachable")] == [1, 1, 1]
    assert (retried(gateway, "unsent"), retried(gateway, "busy"), gateway.metric("sluice_retries_total")) == (1, 1, 2)
    at_rest([gateway], redis, sim)


def test_one_attempt_is_not_worth_a_word(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere())
    answer = gateway.ask("openai", "[[sim tokens=3]]")
    assert answer.headers["proxy-status"] is None and "retry" not in answer.headers["server-timing"]
    line = line_of(gateway)
    assert line["attempts"] == 1 and "failed" not in line and "retry_ms" not in line


# ---- who pays -------------------------------------------------------------------------------------------------------------------------


def test_a_tenant_pays_once_and_an_upstream_for_each(start_gateway, sim, redis):
    """Two calls for one request; the one that failed gives its tokens back."""
    count, tokens = {"limit": 100, "burst": 100}, {"limit": 100000, "burst": 100000}
    gateway = start_gateway(sim.url, redis.url, merge(everywhere(), {
        "upstreams": {"openai": {"limits": {"rpd": count, "tpd": tokens}}},
        "tenants": {"acme": {"limits": {"rpd": count, "tpd": tokens}}},
        "models": {"gpt-4o-mini": {"targets": [{"upstream": "openai"}], "limits": {"rpd": count, "tpd": tokens}}}}))
    sim.set("status=503", times=1)
    answer = gateway.ask("openai", "[[sim tokens=30]]", max_tokens=4000)
    assert answer.status == 200 and received(sim) == 2
    assert '"rpd";r=99;' in answer.headers["ratelimit"]
    at_rest([gateway], redis, sim)
    quotas = gateway.status()["quotas"]
    assert [quotas[scope][name]["rpd"]["left"] for scope, name in (("tenants", "acme"), ("models", "gpt-4o-mini"), ("upstreams", "openai"))] == [99, 98, 98]
    stats = sim.stats()
    used = stats["input_tokens"] + stats["output_tokens"]
    for scope, name in (("tenants", "acme"), ("models", "gpt-4o-mini"), ("upstreams", "openai")):
        left = quotas[scope][name]["tpd"]["left"]
        assert 100000 - used - 1 <= left <= 100000 - used + 100, (scope, left, used)  # 100: what comes back in a minute


def test_an_upstreams_limit_ends_the_trying(start_gateway, sim, redis):
    """Room for one call: the second is denied, and the client has the error of the first."""
    gateway = start_gateway(sim.url, redis.url, merge(everywhere(limits={"rpd": {"limit": 1, "burst": 1}}),
                                                      {"tenants": {"acme": {"limits": {"rpd": {"limit": 100, "burst": 100}}}}}))
    sim.set("status=503")
    answer = gateway.ask("openai", "x")
    assert received(sim) == 1 and (answer.status, answer.body) == (503, ask(sim, "openai", "x").body)
    assert gateway.metric("sluice_quota_denied_total", scope="upstream", limit="rpd") == 1
    at_rest([gateway], redis, sim)
    assert gateway.status()["quotas"]["tenants"]["acme"]["rpd"]["left"] == 99


def test_a_call_that_was_never_sent_costs_nobody(start_gateway, redis, sim):
    nobody = f"http://127.0.0.1:{free_port()}"
    count = {"limit": 100, "burst": 100}
    gateway = start_gateway(nobody, redis.url, merge(everywhere(limits={"rpd": count}), {"tenants": {"acme": {"limits": {"rpd": count}}}}))
    answer = gateway.ask("openai", "x")
    assert answer.status == 502 and error_of("openai", answer) == "upstream_unreachable"
    at_rest([gateway], redis)
    quotas = gateway.status()["quotas"]
    assert quotas["tenants"]["acme"]["rpd"]["left"] == quotas["upstreams"]["openai"]["rpd"]["left"] == 100


# ---- with followers -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_followers_do_not_see_the_first_attempt(start_gateway, sim, redis, dialect):
    """One leads and twenty follow on three instances; the first call is refused while they wait."""
    gateways = [start_gateway(sim.url, redis.url, everywhere()) for _ in range(3)]
    sim.set("status=503 latency=400ms", times=1)
    readings = crowd(clients(gateways, dialect, "[[sim tokens=40 rate=40 unique=on]]", 7, 0.7, True))
    all_whole_and_alike(readings)
    assert received(sim) == 2 and sum(r.leads for r in readings) == 1
    at_rest(gateways, redis, sim)


def test_followers_of_a_leader_that_fails_for_good_do_not_storm(start_gateway, sim, redis):
    """All attempts fail: what the fleet calls is at most what its requests and their budget allow, and everybody is told."""
    gateways = [start_gateway(sim.url, redis.url, everywhere(retry={**FREE, "attempts": 3, "budget": "50%"})) for _ in range(2)]
    sim.set("status=503 latency=100ms")
    readings = crowd(clients(gateways, "openai", "[[sim tokens=40]]", 10, 0.1, True))
    assert {r.status for r in readings} == {503} and all(r.complete for r in readings), readings
    assert received(sim) <= 1.5 * len(readings)
    print(f"{received(sim)} calls for {len(readings)} requests that were alike")
    at_rest(gateways, redis, sim)
