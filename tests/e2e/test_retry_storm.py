"""Retries that cannot storm: however much fails, the fleet calls no more often than its requests and their budget allow. Each is 2,000 requests in the suite and
10,000 with SLUICE_LONG=1; the bounds on calls are exact in both, what clients see of failures is a promise of the long form."""

import pytest

from support import load
from support.client import headers_for, prompt
from support.gateway import KEY
from support.process import LONG
from support.rest import at_rest
from test_retry import CLOSED, everywhere

REQUESTS = 10000 if LONG else 2000
PER_WORKER = 30  # what a worker's account holds at most, and so the most that it can spend beyond the share of a short time


def storm(start_gateway, sim, redis, words, retry):
    """What the simulator was called, the share of failures that clients saw, and the gateways."""
    gateways = [start_gateway(sim.url, redis.url, everywhere(retry=retry, breaker=CLOSED, pool={"max": 200})) for _ in range(3)]
    sim.set(words)
    report = load.run([gateway.url + "/v1/chat/completions" for gateway in gateways], connections=90, requests=REQUESTS, body=prompt("openai", "[[sim tokens=3]]")[1],
                      headers={**headers_for("openai", KEY), "Content-Type": "application/json"}, options=("-t", 120))
    at_rest(gateways, redis, sim)
    calls = sim.stats()["received"]
    assert sum(report["by_status"].values()) == REQUESTS and set(report["by_status"]) <= {"200", "503"}, report["by_status"]
    told_alike(gateways, calls)
    failed = report["by_status"].get("503", 0) / REQUESTS
    print(f"{words}: {calls / REQUESTS:.4f} calls a request, {100 * failed:.2f} % of the requests failed")
    return calls, failed, gateways


def told_alike(gateways, calls):
    """The gateways' own counts are the simulator's."""
    assert sum(g.metric("sluice_attempts_total", upstream="openai") for g in gateways) == calls
    assert sum(g.metric("sluice_retries_total", reason="busy") for g in gateways) == calls - REQUESTS


def share(percent):
    """Of the requests, in calls that are made again: exactly as many as were paid for."""
    return REQUESTS * percent // 100


def test_a_tenth_that_fails_is_hidden_for_a_fifth_more_calls(start_gateway, sim, redis):
    calls, failed, _ = storm(start_gateway, sim, redis, "status=503 chance=10%", None)
    assert calls - REQUESTS <= share(20)
    assert failed < (0.001 if LONG else 0.01)


def test_a_third_that_fails_is_hidden_for_half_more(start_gateway, sim, redis):
    """Five attempts: with four, 0.81 % fail by chance alone, and the bound would be noise."""
    calls, failed, _ = storm(start_gateway, sim, redis, "status=503 chance=30%", {"budget": "50%", "attempts": 5})
    assert calls - REQUESTS <= share(50)
    assert failed < (0.01 if LONG else 0.03)


@pytest.mark.parametrize("budget", [0, 20, 50])
def test_when_all_fails_the_budget_is_all(start_gateway, sim, redis, budget):
    """No breaker helps. Nothing is lost either: all that was paid in was spent, but for the part of a call that is left in each account."""
    calls, failed, gateways = storm(start_gateway, sim, redis, "status=503", {"budget": f"{budget}%", "timeout_base": "20ms"})
    assert share(budget) - len(gateways) <= calls - REQUESTS <= share(budget)
    assert failed == 1 and sum(g.metric("sluice_retries_total", reason="no_budget") for g in gateways) > 0


def test_a_quiet_hour_pays_for_no_storm(start_gateway, sim, redis):
    """One worker; 1,000 requests that all go well, then all fail: what was saved is thirty calls, not two hundred."""
    gateway = start_gateway(sim.url, redis.url, everywhere(retry={"budget": "20%", "timeout_base": "2ms"}))
    how = {"connections": 20, "body": prompt("openai", "[[sim tokens=3]]")[1], "headers": {**headers_for("openai", KEY), "Content-Type": "application/json"}}
    assert load.run(gateway.url + "/v1/chat/completions", requests=1000, **how)["by_status"] == {"200": 1000}
    sim.reset()
    sim.set("status=503")
    assert load.run(gateway.url + "/v1/chat/completions", requests=100, **how)["by_status"] == {"503": 100}
    calls = sim.stats()["received"]
    assert 100 + PER_WORKER <= calls <= 100 + PER_WORKER + 20
    at_rest([gateway], redis, sim)
