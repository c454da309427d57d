"""A provider that says when to come again is left alone until then, by the whole fleet; who waits for it may leave, run out of time or be drained; a quota of a day
that is used up sends its requests elsewhere.

SLUICE_SOAK=N runs what the fleet must agree upon N times (`make soak`); else once."""

import http.client
import json
import os
import signal
import threading
import time

import pytest

from support import load
from support.client import MODELS, Answer, error_of, headers_for, prompt
from support.gateway import KEY, merge
from support.process import promised, wait_until
from support.rest import at_rest, counted
from test_retry import DIALECTS, FREE, endpoints, everywhere, ok, received, retried

ROUNDS = pytest.mark.parametrize("number", range(int(os.environ.get("SLUICE_SOAK", "1"))))
TEXT = "[[sim nonce=n tokens=3]]"
CODES = {"openai": "upstream_limited", "gemini": "RESOURCE_EXHAUSTED", "anthropic": "rate_limit_error"}
PATIENT = {"budget": "100%", "base": "1ms", "timeout_base": "1ms", "cap": "1h"}


def aside(work):
    """`work` in a thread of its own, and what it gave: done() waits for that."""
    kept = []

    def run():
        try:
            kept.append(work())
        except (OSError, http.client.HTTPException) as error:
            kept.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def done():
        thread.join(60)
        return kept[0]

    return done


def in_flight(gateway):
    return gateway.status()["requests"]["in_flight"]


def waiting(gateway, count=1):
    """So many requests sit in the stage between two attempts."""
    return sum(r["stage"] == "retry" for r in gateway.requests()["requests"]) == count


def upstream_limited(dialect, answer, most):
    """An honest 429 of ours: to come again when the pause is over, and not much later."""
    assert answer.status == 429 and "upstream_limited" in answer.text.lower() and error_of(dialect, answer) == CODES[dialect], answer
    fine, whole = int(answer.headers["retry-after-ms"]), int(answer.headers["retry-after"])
    assert 0 < fine <= most and (fine + 999) // 1000 == whole and answer.headers["x-should-retry"] == "true"
    return fine


# ---- 429 --------------------------------------------------------------------------------------------------------------------------------


@ROUNDS
def test_after_a_429_no_instance_calls_before_its_time(start_gateway, sim, redis, number):
    """Three instances under load, in three dialects at once. The model alone is held: another of the same upstream goes on."""
    gateways = [start_gateway(sim.url, redis.url, everywhere(retry={"budget": "100%"})) for _ in range(3)]
    other = prompt("openai", TEXT, model="gpt-4o")[1]
    loads = [aside(lambda d=dialect, p=path, b=body, r=rate: load.run([g.url + p for g in gateways], connections=40, duration=3.5, rate=r, body=b,
                                                                      headers={**headers_for(d, KEY), "Content-Type": "application/json"}))
             for dialect, (path, body), rate in [*((d, prompt(d, TEXT), 120) for d in DIALECTS), ("openai", ("/v1/chat/completions", other), 30)]]
    wait_until(lambda: received(sim) > 40, "calls go")
    for dialect in DIALECTS:
        words = "quota=minute retry=2s" if dialect == "gemini" else "status=429 retry=2s"  # Google tells it in the body alone
        sim.set(words, model=MODELS[dialect], times=1)
    wait_until(lambda: sum(c["status"] == 429 and c["ended_us"] > 0 for c in sim.calls()) == 3, "each was refused")
    time.sleep(promised(0.1))  # until the whole fleet has heard it
    for gateway in gateways:
        for dialect in DIALECTS:
            upstream_limited(dialect, gateway.ask(dialect, TEXT), 2000)
    reports = [done() for done in loads]
    for dialect in DIALECTS:
        held_for(sim, MODELS[dialect], 2.0)
    between = [c for c in sim.calls() if c["model"] == "gpt-4o"]
    assert max(after["at_us"] - before["at_us"] for before, after in zip(between, between[1:])) < 1_000_000
    for report in reports[:3]:
        assert set(report["by_status"]) == {"200", "429"}, report
    assert set(reports[3]["by_status"]) == {"200"}
    at_rest(gateways, redis, sim)
    assert sum(retried(g, "limited") for g in gateways) == 3  # those that were refused, and got their answers behind the pause
    assert counted(gateways, outcome="upstream_limited") == sum(r["by_status"]["429"] for r in reports[:3]) + 9


def held_for(sim, model, seconds):
    """From 100 ms behind the 429 on no call came until its time was over; then they went on. The 429 came behind the call that it answers, at once."""
    calls = [c for c in sim.calls() if c["model"] == model]
    refused = next(c["at_us"] for c in calls if c["status"] == 429)
    late = [(c["at_us"] - refused) / 1e6 for c in calls if c["at_us"] > refused]
    print(f"{model}: the last call {max((d for d in late if d < seconds), default=0) * 1000:.0f} ms behind the 429, the next {min(d for d in late if d >= seconds):.3f} s")
    assert not [d for d in late if promised(0.1) < d < seconds], late[:20]
    assert any(d >= seconds for d in late) and any(c["at_us"] < refused for c in calls)


def test_a_500_that_asks_for_more_than_cap_is_not_waited_for(start_gateway, sim, redis):
    """It pauses nobody, so it is this request's wait alone that cap bounds."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={"budget": "100%", "cap": "1s"}))
    sim.set("status=500 retry=5s", times=1)
    assert gateway.ask("openai", TEXT).status == 500 and received(sim) == 1
    at_rest([gateway], redis, sim)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_who_may_wait_has_its_answer_behind_the_pause(start_gateway, sim, redis, dialect):
    """Less than a second: the finer retry-after-ms counts, in Google's words retryDelay."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry=PATIENT))
    sim.set("quota=minute retry=700ms", times=1)
    first = aside(lambda: gateway.ask(dialect, TEXT))
    wait_until(lambda: waiting(gateway), "it waits")
    upstream_limited(dialect, gateway.ask(dialect, TEXT), 700)
    assert received(sim) == 1
    ok(dialect, first())
    one, two = sim.calls()
    assert two["at_us"] - one["at_us"] >= 700_000
    at_rest([gateway], redis, sim)
    line = next(line for line in gateway.log() if line["event"] == "request" and line["attempts"] == 2)
    assert 690 <= line["retry_ms"] <= line["total_ms"] and f"{dialect} 429 " in line["failed"]


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_the_only_target_is_waited_for(start_gateway, sim, redis, status):
    """Whatever it failed with: what it asks for is what it has, but for the tick of the kernel's by which a timer may be early where no pause is kept."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry=PATIENT))
    sim.set(f"status={status} retry=600ms", times=1)
    ok("openai", gateway.ask("openai", TEXT))
    one, two = sim.calls()
    assert two["at_us"] - one["at_us"] >= 590_000
    at_rest([gateway], redis, sim)


def test_it_is_waited_for_whatever_failed_last(start_gateway, start_sim, redis):
    """The other endpoint's quota of the day is used up."""
    first, second = start_sim(), start_sim()
    gateway = start_gateway(first.url, redis.url, everywhere(endpoints=endpoints(first.url, second.url), retry=PATIENT))
    ok("openai", gateway.ask("openai", TEXT))  # pays for the second repetition
    first.set("status=429 retry=600ms", times=1)
    second.set("quota=day")
    ok("openai", gateway.ask("openai", TEXT))
    _, one, two = first.calls()
    assert two["at_us"] - one["at_us"] >= 590_000 and received(second) == 1
    at_rest([gateway], redis, first)


def test_what_one_asks_for_is_not_asked_of_another(start_gateway, start_sim, redis):
    """The first failed without a word; the second wants an hour."""
    first, second = start_sim(), start_sim()
    gateway = start_gateway(first.url, redis.url, everywhere(endpoints=endpoints(first.url, second.url), retry={**PATIENT, "cap": "1s"}))
    ok("openai", gateway.ask("openai", TEXT))  # pays for the second repetition
    first.set("status=503", times=1)
    second.set("status=429 retry=3600s")
    ok("openai", gateway.ask("openai", TEXT))
    assert (received(first), received(second)) == (3, 1)
    at_rest([gateway], redis, first)


def test_longer_than_cap_is_not_waited_for(start_gateway, sim, redis):
    """The client has the provider's own words then."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={"budget": "100%", "cap": "2s"}))
    sim.set("status=429 retry=5s", times=1)
    answer = gateway.ask("openai", TEXT)
    assert (answer.status, answer.headers["retry-after"], error_of("openai", answer)) == (429, "5", "rate_limit_exceeded")
    assert 2000 < upstream_limited("openai", gateway.ask("openai", TEXT), 5000)
    assert received(sim) == 1
    at_rest([gateway], redis, sim)


def test_a_429_without_a_word_is_tried_again_with_jitter(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={**FREE, "base": "20ms"}))
    for dialect in DIALECTS:
        sim.set("status=429", times=1)
        ok(dialect, gateway.ask(dialect, TEXT))
    assert received(sim) == 6 and retried(gateway, "limited") == 3
    at_rest([gateway], redis, sim)


# ---- quotas of a day, and credit ----------------------------------------------------------------------------------------------------------


OTHERS = {"gemini": "gemini-2.5-pro", "openai": "gpt-4o", "anthropic": "claude-opus-4-1"}


@ROUNDS
def test_a_quota_that_is_used_up_sends_all_elsewhere(start_gateway, start_sim, redis, number):
    """A day's, or the credit, in each dialect's words. Who found it is served by the other endpoint; nobody asks the first again, on no instance."""
    empty, full = start_sim(), start_sim()
    gateways = [start_gateway(empty.url, redis.url, everywhere(endpoints=endpoints(empty.url, full.url), retry={"budget": "100%", "base": "1h", "cap": "1h"}))
                for _ in range(2)]
    models = [(d, model) for d in DIALECTS for model in (MODELS[d], OTHERS[d])]
    for dialect, model in models:
        empty.set("quota=day" if model == MODELS[dialect] else "quota=credit", model=model)
        ok(dialect, gateways[0].ask(dialect, TEXT, model=model))
    time.sleep(promised(0.1))  # until the other has heard it
    for _ in range(3):
        for gateway in gateways:
            for dialect, model in models:
                ok(dialect, gateway.ask(dialect, TEXT, model=model))
    assert received(empty) == sum(retried(g, "exhausted") for g in gateways) == len(models)
    at_rest(gateways, redis, full)


OWN = {"openai": "rate_limit_exceeded", "anthropic": "rate_limit_error"}


@pytest.mark.parametrize("dialect", list(OWN))
def test_the_only_target_comes_back_when_its_quota_does(start_gateway, sim, redis, dialect):
    """Never waited for, however short."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry=PATIENT))
    sim.set("quota=day retry=2s", times=1)
    first = gateway.ask(dialect, TEXT)
    assert (first.status, error_of(dialect, first), first.headers["retry-after"]) == (429, OWN[dialect], "2")
    upstream_limited(dialect, gateway.ask(dialect, TEXT), 3000)  # Anthropic's reset is in whole seconds
    assert received(sim) == 1
    ok(dialect, wait_until(lambda: (answer := gateway.ask(dialect, TEXT)).status == 200 and answer, "it comes back"))
    refused, back = sim.calls()
    assert (back["at_us"] - refused["at_us"]) / 1e6 >= 1.999
    at_rest([gateway], redis, sim)


def test_googles_day_ends_at_its_midnight(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere(retry=PATIENT))
    sim.set("quota=day retry=2s", times=1)
    assert gateway.ask("gemini", TEXT).status == 429
    left = upstream_limited("gemini", gateway.ask("gemini", TEXT), 25 * 3600 * 1000)
    midnight = (time.time() + left / 1000) % 86400
    assert min(abs(midnight - 7 * 3600), abs(midnight - 8 * 3600)) < 60  # UTC, by daylight saving
    assert received(sim) == 1


# ---- who waits ----------------------------------------------------------------------------------------------------------------------------


def test_a_deadline_is_kept_while_waiting(start_gateway, sim, redis):
    """What cannot be waited for is not: the provider's error comes at once. What can, and then hangs, ends with the deadline."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry=PATIENT))
    deadline = {"x-stainless-timeout": "1.5"}
    sim.set("status=429 retry=10s", model="gpt-4o", times=1)
    answer = gateway.ask("openai", TEXT, headers=deadline, model="gpt-4o")
    assert (answer.status, answer.headers["retry-after"]) == (429, "10") and answer.seconds < 1.4
    sim.set("latency=60s")
    sim.set("status=429 retry=500ms latency=0ms", times=1)
    answer = gateway.ask("openai", TEXT, headers=deadline)
    assert answer.status == 504 and error_of("openai", answer) == "deadline"
    assert 1.49 <= answer.seconds <= 1.5 + promised(0.1), answer.seconds
    assert received(sim) == 3
    at_rest([gateway], redis, sim)


def test_who_leaves_while_waiting_frees_all(start_gateway, sim, redis):
    limits = {"concurrency": 5, "tpd": {"limit": 100000, "burst": 100000}}
    gateway = start_gateway(sim.url, redis.url, merge(everywhere(retry=PATIENT), {"tenants": {"acme": {"limits": limits}}}))
    sim.set("status=429 retry=30s", times=1)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    path, body = prompt("openai", TEXT)
    connection.request("POST", path, json.dumps(body), {**headers_for("openai", KEY), "Content-Type": "application/json"})
    wait_until(lambda: waiting(gateway), "it waits")
    left = time.monotonic()
    connection.close()
    wait_until(lambda: in_flight(gateway) == 0, "it is gone", interval=0.005)
    assert time.monotonic() - left <= promised(0.2)
    at_rest([gateway], redis, sim)
    assert counted([gateway], outcome="client_gone") == 1 and received(sim) == 1
    quotas = gateway.status()["quotas"]["tenants"]["acme"]
    assert quotas["concurrency"]["left"] == 5 and quotas["tpd"]["left"] >= 99990


def test_a_drain_lets_the_waiting_have_their_answers(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, everywhere(retry=PATIENT))
    dones = []
    for dialect in DIALECTS:
        sim.set("quota=minute retry=900ms", model=MODELS[dialect], times=1)
        dones.append(aside(lambda d=dialect: gateway.ask(d, TEXT)))
    wait_until(lambda: waiting(gateway, 3), "three wait")
    gateway.signal(signal.SIGTERM)
    for dialect, done in zip(DIALECTS, dones):
        ok(dialect, done())
    assert gateway.wait() == 0 and received(sim) == 6


def test_a_drain_does_not_wait_for_long_pauses(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, merge(everywhere(retry=PATIENT), {"drain": {"deadline": "1s"}}))
    sim.set("status=429 retry=60s", times=1)
    done = aside(lambda: gateway.ask("openai", TEXT))
    wait_until(lambda: waiting(gateway), "it waits")
    gateway.signal(signal.SIGTERM)
    answer = done()
    assert isinstance(answer, Answer) and answer.status == 503 and error_of("openai", answer) == "draining", answer
    assert gateway.wait() in (0, 1) and received(sim) == 1
