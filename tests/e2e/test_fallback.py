"""When no place of a model will do: another place, what is stale, another model, a refusal that says when to come again. Each tells that it is that."""

import signal
import threading

import pytest

from support import client
from support.client import error_of, headers_for, prompt
from support.crowd import Reading, crowd
from support.gateway import KEY
from support.process import wait_until
from support.rest import at_rest
from support.routes import DEADLY, QUICK, forget, quiet, received, upstream

NARROW = "key-of-the-narrow-one"
COLD = {"temperature": 0}
LASTING = {**QUICK, "open_for": "10s", "open_most": "10s"}  # as long as the test looks at it


def with_fallback(start_gateway, sims, redis, changes=None, breaker=QUICK, endpoints=None, **of_fallback):
    """m, at the first simulators; n is asked instead, at the last one. The tenant narrow may use m alone."""
    upstreams = {"first": upstream(*(endpoints or sims[:-1]), breaker=breaker), "second": upstream(sims[-1], breaker=breaker)}
    models = {"m": {"targets": [{"upstream": "first", "model": "gpt-4o-mini"}], "fallback": ["n"]},
              "n": {"targets": [{"upstream": "second", "model": "gpt-4.1-mini"}], **of_fallback}}
    return start_gateway(sims[0].url, redis.url, {"upstreams": upstreams, "models": models, "tenants": {"narrow": {"keys": [NARROW], "models": ["m"]}},
                                                  "coalesce": {"window": "0s"}, **(changes or {})})


def of_fallback(answer, sim):
    """It is n's, whole, and says so."""
    return (answer.status == 200 and answer.headers["X-Sluice-Model"] == "n" and f'next-hop="{sim.url}"' in answer.headers["Proxy-Status"]
            and answer.headers["Proxy-Status"].endswith(', fallback model"'))


def of_itself(answer):
    return answer.status == 200 and answer.headers["X-Sluice-Model"] is None


def anew(answer):
    """Neither out of the cache nor out of a flight that has just ended: a client has its last byte before Redis hears of the end."""
    return not {"hit", "collapsed"} & set(answer.headers["Cache-Status"].split("; "))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("trouble", ["busy", "gone"])
def test_the_fallback_answers(start_gateway, start_sim, redis, trouble, stream):
    """After calls that failed, and, once the breaker is open, without any. It counts as what it is: the fallback's tokens."""
    sims = [start_sim(control=DEADLY), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis)
    more = {"stream_options": {"include_usage": True}} if stream else {}  # without it nobody reports tokens

    def ask():
        return gateway.ask("openai", "[[sim tokens=7]]", stream, model="m", **more)

    assert of_itself(ask())
    own = gateway.metric("sluice_tokens_total", model="m", kind="output")
    if trouble == "gone":
        sims[0].down("refuse")
    else:
        sims[0].set("status=503")
    for _ in range(10):
        answer = ask()
        assert of_fallback(answer, sims[1]), (answer, dict(answer.headers))
        assert not stream or answer.body.endswith(b"data: [DONE]\n\n")
    wait_until(lambda: gateway.metric("sluice_tokens_total", model="n", kind="output") == 70, "its tokens are counted")
    assert gateway.metric("sluice_fallbacks_total", **{"from": "m", "to": "n"}) == 10 == gateway.metric("sluice_fallbacks_total")
    assert gateway.metric("sluice_tokens_total", model="m", kind="output") == own
    print(f"{trouble}: of 10 requests the first model's place saw {sims[0].stats()['received'] - 1 if trouble == 'busy' else 0} calls")
    if trouble == "busy":
        sims[0].clear()
    else:
        sims[0].up()
    wait_until(lambda: of_itself(ask()), "the model itself answers again")
    quiet(gateway)


def test_an_open_breaker_costs_no_call(start_gateway, start_sim, redis):
    sims = [start_sim(), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis, breaker=LASTING)
    sims[0].set("status=503")
    wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]", model="m") and gateway.metric("sluice_breaker_state", upstream="first") == 2, "its breaker is open")
    forget(*sims)
    for _ in range(20):
        assert of_fallback(gateway.ask("openai", "[[sim tokens=1]]", model="m"), sims[1])
    assert received(*sims) == [0, 20]
    quiet(gateway)


def test_the_error_of_the_last_that_was_called_is_its_own(start_gateway, start_sim, redis):
    """The fallback was looked at, and is open: the answer, its fields and its count are those of the model that gave it."""
    sims = [start_sim(), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis, breaker=LASTING)
    force = {"force": "open"}
    assert client.request(f"{gateway.admin_url}/breakers/second", method="POST", body=force).status == 200
    answer = gateway.ask("openai", "[[sim status=500]]", model="m")
    assert answer.status == 500 and answer.headers["X-Sluice-Model"] is None and "fallback" not in (answer.headers["Proxy-Status"] or "")
    wait_until(lambda: gateway.metric("sluice_requests_total", model="m", upstream="first", status="500") == 1, "it is the first one's")
    assert received(*sims)[1] == 0
    quiet(gateway)


def test_the_fallbacks_limits_count(start_gateway, start_sim, redis):
    """Its own, and no others: when they are used up there is nothing left to ask; the first model's and its upstream's are untouched."""
    sims = [start_sim(), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis, breaker=LASTING, limits={"rpm": {"limit": 1, "burst": 3}, "tpm": 100_000})
    sims[0].set("status=503")
    wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]", model="m", key=NARROW).status == 503 and gateway.metric("sluice_breaker_state", upstream="first") == 2,
               "the first model's breaker is open")
    forget(*sims)
    answers = [gateway.ask("openai", "[[sim tokens=5]]", model="m") for _ in range(5)]
    assert [answer.status for answer in answers[:3]] == [200] * 3 and all(of_fallback(answer, sims[1]) for answer in answers[:3])
    for answer in answers[3:]:
        assert answer.status in (429, 503) and int(answer.headers["Retry-After"]) >= 1 and answer.headers["X-Sluice-Model"] is None, (answer, dict(answer.headers))
    assert received(*sims) == [0, 3]
    direct = gateway.ask("openai", "[[sim tokens=5]]", model="n")
    assert direct.status == 429 and error_of("openai", direct) == "rate_limited", direct
    print(f"the fallback's limit of 3 used up: then {[(answer.status, error_of('openai', answer), answer.headers['Retry-After']) for answer in answers[3:]]}")
    quiet(gateway)


def test_who_may_not_use_it_is_refused(start_gateway, start_sim, redis):
    sims = [start_sim(control=DEADLY), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis, breaker=LASTING)
    sims[0].down("refuse")
    answers = [gateway.ask("openai", "[[sim tokens=1]]", model="m", key=NARROW) for _ in range(5)]
    for answer in answers:
        assert answer.status in (502, 503) and answer.headers["X-Sluice-Model"] is None and answer.headers["Proxy-Status"].startswith("sluice; error="), answer
    last = answers[-1]
    assert last.status == 503 and error_of("openai", last) == "breaker_open" and 1 <= int(last.headers["Retry-After"]) <= 10, (last, dict(last.headers))
    assert received(sims[1]) == [0] and gateway.metric("sluice_fallbacks_total") == 0
    assert of_fallback(gateway.ask("openai", "[[sim tokens=1]]", model="m"), sims[1])  # who may use it
    quiet(gateway)


def test_it_is_not_kept_as_the_models_answer(start_gateway, start_sim, redis):
    sims = [start_sim(), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis)
    sims[0].set("status=503")
    for count in (1, 2):
        answer = wait_until(lambda: (answer := gateway.ask("openai", "[[sim tokens=5]]", model="m", **COLD)) and anew(answer) and answer, "it is asked for")
        assert of_fallback(answer, sims[1]) and "stored" not in answer.headers["Cache-Status"], dict(answer.headers)
        assert received(sims[1]) == [count]
    sims[0].clear()
    answer = wait_until(lambda: (answer := gateway.ask("openai", "[[sim tokens=5]]", model="m", **COLD)) and of_itself(answer) and answer, "the model itself answers again")
    assert "stored" in answer.headers["Cache-Status"], dict(answer.headers)
    again = wait_until(lambda: (again := gateway.ask("openai", "[[sim tokens=5]]", model="m", **COLD)) and "hit" in again.headers["Cache-Status"] and again, "it is kept")
    assert again.body == answer.body and again.headers["X-Sluice-Model"] is None
    quiet(gateway)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_who_reads_along_has_the_same(start_gateway, start_sim, redis, stream):
    """One call of the fallback for 30 clients of three instances: all have the same bytes, and are told whose."""
    sims = [start_sim(), start_sim()]
    gateways = [with_fallback(start_gateway, sims, redis, breaker=LASTING) for _ in range(3)]
    sims[0].set("status=503")
    wait_until(lambda: gateways[0].ask("openai", "[[sim tokens=1]]", model="m") and all(g.metric("sluice_breaker_state", upstream="first") == 2 for g in gateways), "all know")
    forget(*sims)
    path, body = prompt("openai", "[[sim latency=1s tokens=30 rate=100 unique=on]]", stream, model="m", **COLD)
    readings = crowd([Reading(0.02 * i, gateways[i % 3].url + path, body, headers_for("openai", KEY)) for i in range(30)])
    assert all(r.status == 200 and r.complete for r in readings), readings
    assert len({r.body for r in readings}) == 1 and received(*sims) == [0, 1]
    assert {r.headers.get("x-sluice-model") for r in readings} == {"n"}
    at_rest(gateways, redis)


def test_a_shared_answer_keeps_to_who_may_have_it(start_gateway, start_sim, redis):
    """With scope shared two tenants share flights; one of them may not use the fallback, and does not get it by reading along."""
    sims = [start_sim(), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis, {"cache": {"scope": "shared"}}, breaker=LASTING)
    sims[0].set("status=503")
    wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]", model="m") and gateway.metric("sluice_breaker_state", upstream="first") == 2, "it is open")
    path, body = prompt("openai", "[[sim latency=1s tokens=5]]", model="m", **COLD)
    wide, narrow = crowd([Reading(delay, gateway.url + path, body, headers_for("openai", key)) for delay, key in ((0, KEY), (0.3, NARROW))])
    assert wide.status == 200 and wide.headers["x-sluice-model"] == "n"
    assert narrow.status == 503 and "x-sluice-model" not in narrow.headers, (narrow, narrow.headers)
    quiet(gateway)


def test_what_is_tried_in_which_order(start_gateway, start_sim, redis):
    """Another endpoint, what is stale, another model, a refusal that says when to come again: one is taken away after the other."""
    sims = [start_sim(control=DEADLY) for _ in range(3)]
    endpoints = [{"url": sims[0].url, "priority": 0}, {"url": sims[1].url, "priority": 1}]
    times = {"cache": {"ttl": "1s", "stale_while_revalidate": "0s", "stale_if_error": "1h"}}
    gateway = with_fallback(start_gateway, sims, redis, times, LASTING, endpoints)

    def ask(key=KEY):
        return gateway.ask("openai", "[[sim tokens=5 unique=on]]", model="m", key=key, **COLD)

    def until(condition, what):
        answer = wait_until(lambda: (answer := ask()) and condition(answer) and answer, what)
        print(f"{what}: {answer.status}, " + ", ".join(f"{name}: {answer.headers[name]}" for name in
                                                       ("Cache-Status", "Proxy-Status", "X-Sluice-Model", "Retry-After") if answer.headers[name]))
        return answer

    well = until(lambda answer: "stored" in answer.headers["Cache-Status"], "all is well")
    assert well.headers["Proxy-Status"] is None
    sims[0].down("refuse")
    other = until(anew, "the first endpoint is gone")
    assert other.status == 200 and other.headers["Proxy-Status"] == f'sluice; next-hop="{sims[1].url}"; details="attempt 2"' and other.headers["X-Sluice-Model"] is None
    sims[1].down("refuse")
    stale = until(anew, "both endpoints are gone")
    assert stale.status == 200 and "fwd=stale" in stale.headers["Cache-Status"] and "detail=SIE" in stale.headers["Cache-Status"] and stale.headers["X-Sluice-Model"] is None
    assert stale.headers["Proxy-Status"] is None  # no endpoint gave it
    assert stale.body == other.body and received(sims[2]) == [0]
    assert client.request(f"{gateway.admin_url}/cache/purge", body={"all": True}).status == 200
    degraded = until(lambda answer: "fwd=stale" not in answer.headers["Cache-Status"], "what was stale is purged")
    assert of_fallback(degraded, sims[2])
    sims[2].down("refuse")
    refused = until(lambda answer: answer.status == 503, "the fallback is gone")
    assert 1 <= int(refused.headers["Retry-After"]) <= 10 and refused.headers["Proxy-Status"].startswith("sluice; error=") and error_of("openai", refused) == "breaker_open"
    for sim in sims:
        sim.up()
    quiet(gateway)


def test_a_chain_of_fallbacks_is_paid_for(start_gateway, start_sim, redis):
    """The first one costs nothing; each further one behind calls that failed is paid from the budget of the upstream that was asked first."""
    sim, requests, budget = start_sim("status=503"), 40, 0.2
    steady = upstream(sim, breaker={**QUICK, "failures": 0}, retry={"attempts": 1, "budget": f"{budget:.0%}"})
    names = [f"m{number}" for number in range(17)]
    models = {name: {"targets": [{"upstream": "first", "model": "gpt-4o-mini"}]} for name in names}
    models[names[0]]["fallback"] = names[1:]
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"first": steady}, "models": models, "coalesce": {"when": "never"}, "cache": {"when": "never"}})
    assert gateway.ask("openai", "x", model=names[0]).status == 503 and received(sim) == [2]  # nothing has been paid in
    for _ in range(requests - 1):
        assert gateway.ask("openai", "x", model=names[0]).status == 503
    calls = received(sim)[0]
    print(f"{requests} requests, each of them to a chain of 17 models that all fail: {calls} calls")
    assert 2 * requests < calls <= (2 + budget) * requests
    quiet(gateway)


def test_a_cut_429_says_when_also_behind_a_fallback(start_gateway, start_sim, provider, redis):
    """The provider's Retry-After, and not that of the fallback, whose quota is used up."""
    sim, place = start_sim(), provider(b"HTTP/1.1 429 Busy\r\nContent-Type: application/json\r\nRetry-After: 30\r\nContent-Length: 9000\r\n\r\n{", close=True)
    retry = {"cap": "1s"}
    upstreams = {"first": upstream({"url": place.url}, retry=retry), "second": upstream(sim, retry=retry, limits={"rpm": {"limit": 1, "burst": 1}})}
    models = {"m": {"targets": [{"upstream": "first"}], "fallback": ["n"]}, "n": {"targets": [{"upstream": "second", "model": "gpt-4o-mini"}]}}
    gateway = start_gateway(sim.url, redis.url, {"upstreams": upstreams, "models": models})
    assert gateway.ask("openai", "x", model="n").status == 200
    answer = gateway.ask("openai", "x", model="m")
    assert (answer.status, error_of("openai", answer), answer.headers["Retry-After"]) == (429, "upstream_limited", "30"), answer
    quiet(gateway)


def test_what_was_paid_for_and_not_made_pays_for_the_next(start_gateway, start_sim, redis):
    """m fails; its first fallback has used up its day, and is full at its other place: the second one is asked for what that other call was paid."""
    sims = [start_sim("status=503"), start_sim("status=429 quota=day"), start_sim(), start_sim()]
    steady = {"breaker": {**QUICK, "failures": 0}}
    upstreams = {"first": upstream(sims[0], retry={"attempts": 1, "budget": "100%"}, **steady), "spent": upstream(sims[1], **steady),
                 "full": upstream(sims[2], limits={"rpm": {"limit": 1, "burst": 1}}), "well": upstream(sims[3])}
    models = {name: {"targets": [{"upstream": u, "model": "gpt-4o-mini"} for u in of]} for name, *of in
              (("m", "first"), ("n", "spent", "full"), ("o", "well"), ("full", "full"))}
    models["m"]["fallback"] = ["n", "o"]
    gateway = start_gateway(sims[0].url, redis.url, {"upstreams": upstreams, "models": models})
    assert gateway.ask("openai", "x", model="full").status == 200
    answer = gateway.ask("openai", "x", model="m")
    assert answer.status == 200 and answer.headers["X-Sluice-Model"] == "o" and received(*sims) == [1, 1, 1, 1], answer
    quiet(gateway)


def test_the_fallback_has_a_time_of_its_own(start_gateway, start_sim, redis):
    """What the model let pass is not the fallback's fault: it answers, and its breaker learns of no failure."""
    sims = [start_sim("latency=10s"), start_sim("latency=50ms")]
    brief = {name: upstream(sim, timeout={"total": "500ms"}) for name, sim in zip(("first", "second"), sims)}
    gateway = with_fallback(start_gateway, sims, redis, {"upstreams": brief})
    for _ in range(3):
        answer = gateway.ask("openai", "[[sim tokens=1]]", model="m")
        assert of_fallback(answer, sims[1]), answer
    assert gateway.metric("sluice_attempts_total", upstream="second", result="failed") == 0
    quiet(gateway)


def test_who_has_no_time_left_is_not_blamed(start_gateway, start_sim, redis):
    """Half a second is left for the second place, which takes longer: the request ends, and nothing is learnt of that place."""
    sims = [start_sim("latency=10s"), start_sim("latency=2s")]
    retry = {"attempts": 2, "budget": "100%", "timeout_base": "1ms"}
    places = [{"url": sim.url, "priority": priority} for priority, sim in enumerate(sims)]
    waiting = upstream(*places, retry=retry, timeout={"first_byte_plain": "1s", "total": "1500ms"})
    gateway = start_gateway(sims[0].url, redis.url, {"upstreams": {"one": waiting}, "models": {"m": {"targets": [{"upstream": "one", "model": "gpt-4o-mini"}]}}})
    assert gateway.ask("openai", "[[sim tokens=1]]", model="m").status == 504
    assert received(*sims) == [1, 1]
    assert gateway.metric("sluice_attempts_total", upstream="one", result="failed") == 1
    assert gateway.metric("sluice_attempts_total", upstream="one", result="nothing") == 1
    quiet(gateway)


def lines_of(gateway, count):
    wait_until(lambda: sum(line["event"] == "request" for line in gateway.log()) == count, "all are logged")
    return [line for line in gateway.log() if line["event"] == "request"]


def test_the_log_names_the_model_that_was_asked_for(start_gateway, start_sim, redis):
    sims = [start_sim(), start_sim()]
    gateway = with_fallback(start_gateway, sims, redis)
    assert of_itself(gateway.ask("openai", "[[sim tokens=1]]", model="m"))
    sims[0].set("status=503")
    assert of_fallback(gateway.ask("openai", "[[sim tokens=1]]", model="m"), sims[1])
    told = [[line.get(name) for name in ("model", "asked_model", "upstream", "upstream_model")] for line in lines_of(gateway, 2)]
    assert told == [["m", None, "first", "gpt-4o-mini"], ["n", "m", "second", "gpt-4.1-mini"]]


def test_the_log_names_no_place_that_was_not_called(start_gateway, start_sim, redis):
    """The second place is chosen, and Redis, which does not answer any more, grants it no quota."""
    sims = [start_sim("latency=600ms status=503"), start_sim()]
    place = {"url": sims[1].url, "region": "west"}
    changes = {"redis": {"on_failure": "closed", "timeout": "300ms"}, "tenants": {"acme": {"limits": {"rpm": 100000}}},
               "upstreams": {"one": upstream(sims[0], retry={"budget": "100%"}), "two": upstream(place)}, "coalesce": {"window": "0s"},
               "models": {"m": {"targets": [{"upstream": "one", "model": "gpt-4o"}, {"upstream": "two", "model": "gpt-4o-mini"}]}}}
    gateway = start_gateway(sims[0].url, redis.url, changes)
    asked = threading.Thread(target=lambda: gateway.ask("openai", "[[sim tokens=1]]", model="m"))
    asked.start()
    wait_until(lambda: received(*sims) == [1, 0], "the first is called")
    redis.signal(signal.SIGSTOP)
    asked.join()
    redis.signal(signal.SIGCONT)
    line = lines_of(gateway, 1)[0]
    assert (line["outcome"], line["attempts"], received(*sims)) == ("quota_unavailable", 1, [1, 0])
    assert "upstream_model" not in line and "region" not in line
    quiet(gateway)
