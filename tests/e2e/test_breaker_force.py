"""POST /breakers/{upstream} on one instance of three: all heed it at once, also those that begin later; what is asked wrongly forces nothing. GET /breakers, /status and
`sluice status` say how it is."""

import json
import signal
import socket
import subprocess
import threading
import time

import pytest

from support.client import request
from support.gateway import KEY
from support.process import binary, promised, wait_until
from support.routes import reloaded

FAILING = {"min_calls": 5, "error_rate": "50%", "open_for": "1h", "open_most": "1h"}
RESTLESS = {"upstreams": {"openai": {"breaker": FAILING, "retry": {"attempts": 1}}}}
SOON = 0.5  # seconds, until all workers heed it


@pytest.fixture
def start_fleet(start_gateway, sim, redis):
    """Three instances, one of them with two workers."""
    def begin(changes=None, **openai):
        return [start_gateway(sim.url, redis.url, {"workers": workers, "upstreams": {"openai": {**RESTLESS["upstreams"]["openai"], **openai}}, **(changes or {})})
                for workers in (1, 2, 1)]
    return begin


def force(gateway, how, upstream="openai", **more):
    return request(f"{gateway.admin_url}/breakers/{upstream}", method="POST", body={"force": how, **more})


def endpoints(gateway, upstream="openai"):
    page = gateway.page("/breakers")
    assert page.status == 200 and page.headers["content-type"] == "application/json", page
    return page.json()["upstreams"][upstream]["endpoints"]


def outcome(gateway, **more):
    """200, or the code of the refusal."""
    answer = gateway.ask("openai", "[[sim tokens=2]]", **more)
    return 200 if answer.status == 200 else answer.json()["error"].get("code")


def outcomes(gateway, calls=8, **more):
    """Of calls in a row, which reach all its workers."""
    return {outcome(gateway, **more) for _ in range(calls)}


def heeded(fleet, wanted, **more):
    """All instances do what was wanted, within the time that is promised."""
    end = time.monotonic() + promised(SOON)
    for gateway in fleet:
        wait_until(lambda: outcomes(gateway, **more) == {wanted}, f"{gateway.name} heeds it", max(0.1, end - time.monotonic()))


def test_forced_open_nobody_calls_and_auto_all_do_again(start_fleet, sim):
    fleet = start_fleet()
    assert all(outcomes(gateway) == {200} for gateway in fleet)
    answer = force(fleet[1], "open")
    assert (answer.status, answer.json()) == (200, {"upstream": "openai", "force": "open", "breakers": 1})
    heeded(fleet, "breaker_open")
    sim.reset()
    for gateway in fleet:
        refused = gateway.ask("openai", "Hello")
        assert refused.status == 503 and int(refused.headers["retry-after"]) >= 1 and "sluice; error=destination_unavailable" in refused.headers["proxy-status"]
        assert outcomes(gateway, calls=20) == {"breaker_open"}
        assert gateway.ask("anthropic", "[[sim tokens=2]]").status == 200  # which has breakers of its own
        found, = endpoints(gateway)
        assert (found["url"], found["state"], found["force"], found["in_flight"]) == (sim.url, "closed", "open", 0) and found["wait_ms"] > 0
        assert gateway.metric("sluice_breaker_state", upstream="openai") == 2 and gateway.metric("sluice_breaker_state", upstream="anthropic") == 0
    assert sim.stats()["received"] == 3
    assert force(fleet[2], "auto").status == 200
    heeded(fleet, 200)
    assert all(endpoints(gateway)[0]["force"] == "auto" and gateway.metric("sluice_breaker_state", upstream="openai") == 0 for gateway in fleet)


def test_forced_closed_all_call_whatever_fails_and_auto_judges_again(start_fleet, sim):
    fleet = start_fleet()
    sim.set("status=500")
    assert force(fleet[0], "closed").json()["breakers"] == 1
    for gateway in fleet:
        wait_until(lambda: endpoints(gateway)[0]["force"] == "closed", "it has heard")
    sim.reset()
    for gateway in fleet * 3:
        assert "breaker_open" not in outcomes(gateway)
    assert sim.stats()["received"] == 3 * 3 * 8
    wait_until(lambda: endpoints(fleet[0])[0]["window"]["failed"] > 0, "they are counted")
    assert force(fleet[1], "auto").status == 200
    wait_until(lambda: any("breaker_open" in outcomes(gateway) for gateway in fleet), "it is judged")
    heeded(fleet, "breaker_open")
    found, = endpoints(fleet[2])
    assert (found["state"], found["force"], found["trips"], found["alone"]) == ("open", "auto", 1, False) and 0 < found["wait_ms"] <= 3600_000
    sim.clear()
    assert outcomes(fleet[0]) == {"breaker_open"}  # until it is taken back
    assert force(fleet[0], "closed").status == 200
    heeded(fleet, 200)
    assert force(fleet[0], "auto").status == 200
    heeded(fleet, 200)
    found, = endpoints(fleet[1])
    assert (found["state"], found["trips"]) == ("closed", 0)


def test_it_outlives_an_instance_all_of_them_and_what_redis_knew(start_fleet, start_gateway, sim, redis):
    fleet = start_fleet()
    assert force(fleet[0], "open").status == 200
    heeded(fleet, "breaker_open")
    sim.reset()
    fleet[0].stop()
    late = start_gateway(sim.url, redis.url, RESTLESS)
    wait_until(lambda: endpoints(late)[0]["force"] == "open", "it has heard")
    assert outcomes(late) == {"breaker_open"}
    redis.command("FLUSHALL")
    for gateway in [*fleet[1:], late]:
        gateway.ask("openai", "Hello")
        assert outcomes(gateway) == {"breaker_open"}
    wait_until(lambda: [outcome(gateway) for gateway in (*fleet[1:], late)] and redis.command("EXISTS", f"sluice:{{b:openai {sim.url}}}:s"), "Redis has it again")
    for gateway in [*fleet[1:], late]:
        gateway.stop()
    later = start_gateway(sim.url, redis.url, RESTLESS)
    wait_until(lambda: endpoints(later)[0]["force"] == "open", "it has heard")
    assert outcomes(later) == {"breaker_open"} and sim.stats()["received"] == 0
    assert force(later, "auto").status == 200
    heeded([later], 200)


def test_one_endpoint_alone(start_fleet, start_sim, sim):
    """Calls go to the other; the whole upstream is opened and closed endpoint by endpoint."""
    other = start_sim()
    fleet = start_fleet(endpoints=[{"url": sim.url, "region": "here"}, {"url": other.url}])
    assert force(fleet[0], "open", endpoint=sim.url).json()["breakers"] == 1
    for gateway in fleet:
        wait_until(lambda: [found["force"] for found in endpoints(gateway)] == ["open", "auto"], "it has heard")
        assert [found["region"] for found in endpoints(gateway)] == ["here", None]
    heeded(fleet, 200)
    sim.reset()
    other.reset()
    assert all(outcomes(gateway) == {200} for gateway in fleet)
    assert (sim.stats()["received"], other.stats()["received"]) == (0, 24)
    assert force(fleet[1], "open").json()["breakers"] == 2
    heeded(fleet, "breaker_open")
    assert force(fleet[1], "auto", endpoint=other.url).json()["breakers"] == 1
    heeded(fleet, 200)
    assert sim.stats()["received"] == 0


def test_closed_by_hand_heeds_no_pause(start_fleet, sim):
    """A provider that asks to be left alone for longer than anybody believes."""
    fleet = start_fleet()
    sim.set("status=429 retry=90000s", times=1)
    assert outcome(fleet[0]) == "rate_limit_exceeded"
    heeded(fleet, "upstream_limited")
    assert force(fleet[1], "closed").status == 200
    heeded(fleet, 200)
    assert force(fleet[2], "auto").status == 200
    heeded(fleet, "upstream_limited")


def test_by_hand_counts_before_a_pause(start_gateway, sim, redis):
    """Open: the refusal is the hand's, and says its time. Closed: what the provider asks for longer than cap is not waited for."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"breaker": {"open_for": "1s"}, "retry": {"budget": "100%", "cap": "1s"}}}})
    sim.set("status=429 retry=60s")
    assert outcome(gateway) == "rate_limit_exceeded" and outcome(gateway) == "upstream_limited"
    assert force(gateway, "open").status == 200
    wait_until(lambda: outcome(gateway) == "breaker_open", "it is open")
    assert gateway.ask("openai", "x").headers["Retry-After"] == "1"
    assert force(gateway, "closed").status == 200
    wait_until(lambda: outcome(gateway) == "rate_limit_exceeded", "it is called")
    before = sim.stats()["received"]
    answer = gateway.ask("openai", "x")
    assert answer.status == 429 and answer.seconds < promised(1) and sim.stats()["received"] == before + 1


def test_one_model_alone(start_fleet, sim):
    """Where models have breakers of their own: a model's is taken, the endpoint's stands for all the others."""
    fleet = start_fleet(breaker={**FAILING, "per_model": True})
    models = ("gpt-4o", "gpt-4o-mini")
    assert force(fleet[0], "open", model="gpt-4o").json()["breakers"] == 1
    heeded(fleet, "breaker_open", model="gpt-4o")
    assert all(outcomes(gateway, model="gpt-4o-mini") == {200} for gateway in fleet)
    for gateway in fleet:
        found, = endpoints(gateway)
        assert {name: found["models"][name]["force"] for name in models} == {"gpt-4o": "open", "gpt-4o-mini": "auto"} and found["force"] == "auto"
    assert force(fleet[1], "open").status == 200
    for model in models:
        heeded(fleet, "breaker_open", model=model)
    assert force(fleet[2], "closed", model="gpt-4o").status == 200
    heeded(fleet, 200, model="gpt-4o")
    assert all(outcomes(gateway, model="gpt-4o-mini") == {"breaker_open"} for gateway in fleet)
    for how in ({"model": "gpt-4o"}, {}):
        assert force(fleet[0], "auto", **how).status == 200
    for model in models:
        heeded(fleet, 200, model=model)


def shown(gateway, *options):
    return subprocess.run([binary("sluice"), "status", "--admin", gateway.admin_url, *options], stdout=subprocess.PIPE, text=True, check=True, timeout=30).stdout


def test_status_tells_what_is_not_called(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {**RESTLESS, "workers": 2})
    assert "not called freely" not in shown(gateway)
    with gateway.open_stream("openai", "[[sim tokens=200 rate=20]]") as one, gateway.open_stream("openai", "[[sim tokens=200 rate=20 unique=on]]") as two:
        one.read_event()
        two.read_event()
        assert [found["in_flight"] for found in endpoints(gateway)] == [2]
    assert force(gateway, "open").status == 200
    sim.set("status=429 retry=600s", model="claude-haiku-4-5")
    gateway.ask("anthropic", "Hello", model="claude-haiku-4-5")
    wait_until(lambda: endpoints(gateway, "anthropic")[0]["pauses"], "it pauses")
    status = gateway.status()["upstreams"]
    assert {"state", "force", "in_flight", "window", "pauses"} <= set(status["openai"]["endpoints"][0]) and status["openai"]["endpoints"][0]["force"] == "open"
    pause, = status["anthropic"]["endpoints"][0]["pauses"]
    assert pause["model"] == "claude-haiku-4-5" and 500_000 < pause["left_ms"] <= 600_000
    lines = sorted(line.split() for line in shown(gateway).split("not called freely")[1].split("\n\n")[0].splitlines()[1:])
    assert ["anthropic", sim.url, "claude-haiku-4-5", "paused"] == lines[0][:4] and 500 < float(lines[0][4]) <= 600
    assert ["openai", sim.url, "forced", "open", "3600.0", "0"] == lines[1] and len(lines) == 2


WRONG = {
    "no JSON": (b"force=open", 400, "not JSON"), "cut": (b'{"force": "open"', 400, "not JSON"), "array": (b'["open"]', 400, "not a JSON object"),
    "twice": (b'{"force": "open", "force": "auto"}', 400, "duplicate"), "empty": (b"{}", 400, 'The member "force" is not there'),
    "other word": (b'{"force": "shut"}', 400, '"force" is "shut", and not "open", "closed" or "auto"'), "no word": (b'{"force": true}', 400, '"force" is true'),
    "endpoint unknown": (b'{"force": "open", "endpoint": "http://127.0.0.1:1"}', 400, '"endpoint" is "http://127.0.0.1:1", and not the url of one of its endpoints'),
    "endpoint null": (b'{"force": "open", "endpoint": null}', 400, '"endpoint" is null'),
    "model without": (b'{"force": "open", "model": "gpt-4o"}', 400, "this upstream is without breaker.per_model"),
    "endpoint alone": (b'{"model": "gpt-4o"}', 400, "breaker.per_model"), "unknown member": (b'{"force": "open", "forse": 1}', 400, 'the member "forse"'),
}
NAMES = {"unknown": "opemai", "cut": "opena", "longer": "openai2", "more behind": "openai/x", "escaped": "open%61i", "long": "x" * 500}


def is_forced(redis):
    return [key for key in redis.command("KEYS", "sluice:{b:*:s") if redis.command("HGET", key, "force") not in (None, "0", 0)]


@pytest.mark.parametrize("what", WRONG)
def test_what_is_asked_wrongly_is_told_and_forces_nothing(gateway, redis, what):
    body, status, why = WRONG[what]
    answer = request(f"{gateway.admin_url}/breakers/openai", method="POST", body=body)
    error = json.loads(answer.body)["error"]
    assert answer.status == status and why in error and "Allowed: " in error and '"open", "closed" or "auto"' in error, answer
    assert not is_forced(redis) and outcome(gateway) == 200


def test_models_of_a_name_that_is_none(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"breaker": {"per_model": True}}}})
    for model in "", "x" * 257, 7:
        answer = force(gateway, "open", model=model)
        assert answer.status == 400 and "a name of 1 to 256 bytes" in answer.json()["error"], answer
    assert not is_forced(redis)
    assert force(gateway, "open", model="x" * 256).status == 200 and len(is_forced(redis)) == 1


def test_a_model_by_the_name_that_clients_use(start_gateway, sim, redis):
    """It would stop nobody: the breaker has the name that the upstream uses. That is told; where another model's target has it, it is meant."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"breaker": {"per_model": True}}}, "models": {
        "fast": {"targets": [{"upstream": "openai", "model": "gpt-4o"}]}, "gpt-4o-mini": {"targets": [{"upstream": "openai", "model": "gpt-4.1-mini"}]},
        "cheap": {"targets": [{"upstream": "openai", "model": "gpt-4o-mini"}]}}})
    answer = force(gateway, "open", model="fast")
    assert answer.status == 400 and '"model" is "fast", and not what this upstream calls it, "gpt-4o".' in answer.json()["error"], answer
    assert not is_forced(redis) and outcome(gateway, model="fast") == 200
    assert force(gateway, "open", model="gpt-4o").status == 200 and outcome(gateway, model="fast") == "breaker_open"
    assert force(gateway, "open", model="gpt-4o-mini").status == 200 and outcome(gateway, model="cheap") == "breaker_open"
    assert outcome(gateway, model="gpt-4o-mini") == 200


def test_names_and_methods_that_are_none(gateway, redis):
    for name in NAMES.values():
        answer = force(gateway, "open", upstream=name)
        assert answer.status == 404 and "Allowed: " in answer.json()["error"], answer
        assert all(upstream in answer.json()["error"] for upstream in ("gemini", "openai", "anthropic", "plain"))
    for path in "/breakers/", "/breaker", "/breakersopenai", "/breakers/{upstream}x":
        assert request(gateway.admin_url + path, method="POST", body={"force": "open"}).status in (404, 405), path
    for method, path, allowed in (("GET", "/breakers/openai", "POST"), ("DELETE", "/breakers/openai", "POST"), ("POST", "/breakers", "GET, HEAD")):
        answer = request(gateway.admin_url + path, method=method)
        assert (answer.status, answer.headers["allow"]) == (405, allowed), answer
    assert request(f"{gateway.admin_url}/breakers/openai", method="POST", body=b"").status == 400
    assert not is_forced(redis) and "/breakers/{upstream}" in gateway.page("/").text


def test_only_who_may_forces(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"admin_token": "token-of-sixteen-bytes"})
    bearer = {"Authorization": "Bearer token-of-sixteen-bytes"}
    for status, headers in ((401, {}), (401, {"Authorization": f"Bearer {KEY}"}), (403, {**bearer, "Origin": "http://evil.example"})):
        assert request(f"{gateway.admin_url}/breakers/openai", method="POST", body={"force": "open"}, headers=headers).status == status
    assert request(f"{gateway.admin_url}/breakers").status == 401 and not is_forced(redis)
    assert request(f"{gateway.admin_url}/breakers/openai", method="POST", body={"force": "open"}, headers=bearer).status == 200


def test_without_redis_it_says_so(start_gateway, start_redis, sim):
    """One that hangs, and one that is gone; and it works again when Redis does."""
    redis = start_redis()
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "500ms"}})
    redis.signal(signal.SIGSTOP)
    hung = force(gateway, "open")
    assert hung.status == 503 and "Ask again" in hung.json()["error"] and hung.seconds < 0.5 + promised(0.5)
    wait_until(lambda: endpoints(gateway)[0]["alone"], "it says that it judges alone")
    redis.signal(signal.SIGCONT)
    wait_until(lambda: force(gateway, "auto").status == 200, "it is back")
    wait_until(lambda: not endpoints(gateway)[0]["alone"] and endpoints(gateway)[0]["force"] == "auto", "it hears")
    redis.kill()
    assert force(gateway, "open").status == 503 and endpoints(gateway)[0]["force"] == "auto"


def test_who_leaves_meanwhile_leaves_nothing_behind(start_gateway, start_redis, sim):
    """In the middle of the body, and while Redis is waited for."""
    redis = start_redis()
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "1s"}})
    head = b"POST /breakers/openai HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.admin_port), 10) as connection:
        connection.sendall(head + b'{"force":')
        assert gateway.page("/breakers").status == 200
    redis.signal(signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", gateway.admin_port), 10) as connection:
        connection.sendall(head + b'{"force": "open"}')
        assert gateway.page("/requests").status == 200
    assert force(gateway, "closed").status == 503
    redis.signal(signal.SIGCONT)
    wait_until(lambda: force(gateway, "auto").status == 200, "it is back")
    assert outcome(gateway) == 200


def test_a_model_forced_open_stays_so_over_a_reload(start_gateway, sim, redis):
    """Also where its pools are opened anew, and nobody has asked for it since."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"breaker": {"per_model": True}}}})
    assert force(gateway, "open", model="gpt-4o").status == 200 and outcome(gateway, model="gpt-4o") == "breaker_open"
    reloaded(gateway, {"upstreams": {"openai": {"pool": {"max": 63}}}})
    assert endpoints(gateway)[0]["models"]["gpt-4o"]["force"] == "open"
    assert outcomes(gateway, model="gpt-4o") == {"breaker_open"} and sim.stats()["received"] == 0
    assert outcome(gateway, model="gpt-4o-mini") == 200


def test_a_request_from_before_a_reload_brings_no_old_rule_back(start_gateway, sim, redis):
    """It is the first to look at the fallback's breaker, when the rule has changed long since."""
    never = {"min_calls": 1000, "error_rate": 0, "slow_rate": 0, "unreachable": 0, "open_for": "1h", "open_most": "1h"}
    gateway = start_gateway(sim.url, redis.url, {
        "upstreams": {"openai": {"breaker": {**never, "per_model": True, "failures": 50}, "retry": {"attempts": 1}}},
        "models": {"a": {"targets": [{"upstream": "openai", "model": "gpt-4o"}], "fallback": ["b"]},
                   "b": {"targets": [{"upstream": "openai", "model": "gpt-4o-mini"}]}}})
    sim.set("latency=1500ms status=503", model="gpt-4o")
    old = threading.Thread(target=lambda: gateway.ask("openai", "x", model="a"))
    old.start()
    wait_until(lambda: sim.stats()["received"] == 1, "it is under way")
    reloaded(gateway, {"upstreams": {"openai": {"breaker": {"failures": 3}}}})
    old.join()
    assert sim.model_stats("gpt-4o-mini")["received"] == 1
    sim.set("status=500", model="gpt-4o-mini")
    wait_until(lambda: gateway.ask("openai", "x", model="b").status == 503, "three in a row open it")
    assert sim.model_stats("gpt-4o-mini")["received"] < 10


def test_it_ends_while_redis_is_waited_for(start_gateway, start_redis, sim):
    redis = start_redis()
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "10s"}})
    redis.signal(signal.SIGSTOP)
    with socket.create_connection(("127.0.0.1", gateway.admin_port), 10) as connection:
        connection.sendall(b'POST /breakers/openai HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n{"force": "open"}')
        assert gateway.page("/breakers").status == 200
        gateway.signal(signal.SIGTERM)
        assert gateway.wait() == 0, gateway.stderr()
    redis.signal(signal.SIGCONT)
