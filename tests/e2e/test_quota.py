"""One quota, whatever the number of instances: what the simulator received is the measure."""

import threading
import time

import pytest

from support import load
from support.client import headers_for, prompt
from support.gateway import KEY
from support.process import LONG, promised, wait_until
from support.rest import at_rest, counted, leases
from support.sim import most_in_window

SECONDS = 60 if LONG else 12


def fleet(start_gateway, sim, redis, changes, count=3, **options):
    return [start_gateway(sim.url, redis.url, changes, **options) for _ in range(count)]


def urls(gateways, path="/v1/chat/completions"):
    return [gateway.url + path for gateway in gateways]


def chat(text="[[sim tokens=5]]", **more):
    return prompt("openai", text, **more)[1]


def offer(gateways, rate, seconds, body=None, connections=60):
    return load.run(urls(gateways), connections=connections, duration=seconds, rate=rate, body=body or chat(),
                    headers={**headers_for("openai", KEY), "Content-Type": "application/json"})


def received(sim):
    return sorted(at for at, *_ in sim.arrivals())


def test_one_request_quota_over_three_instances(start_gateway, sim, redis):
    """600 a minute, burst 60, offered ten times as much: in no window more than burst + rate × window, and 99 % of it used."""
    rate, burst = 10, 60
    gateways = fleet(start_gateway, sim, redis, {"tenants": {"acme": {"limits": {"rpm": {"limit": rate * 60, "burst": burst}}}}})
    report = offer(gateways, 100, SECONDS)
    times = received(sim)
    for window in (0.5, 1, 2, 5, 10, SECONDS):
        assert most_in_window(times, window) <= burst + rate * window + rate * 0.02, window  # 20 ms of ways apart
    assert len(times) >= 0.99 * (burst + rate * SECONDS) - 1, len(times)
    assert report["by_status"]["200"] == len(times) and report["by_status"]["429"] > 0
    assert counted(gateways, outcome="rate_limited") == report["by_status"]["429"]
    at_rest(gateways, redis, sim)


def test_a_denied_request_changes_no_key(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"rph": {"limit": 3, "burst": 3}}}}})
    assert [gateway.ask("openai", "[[sim tokens=1]]").status for _ in range(4)] == [200, 200, 200, 429]
    at_rest([gateway], redis, sim)

    def state():
        return {key: (redis.command("TYPE", key), redis.command("DUMP", key)) for key in redis.quotas()}

    before = state()
    for _ in range(20):
        denied = gateway.ask("openai", "[[sim tokens=1]]")
        assert denied.status == 429
    assert state() == before
    asked = {script: gateway.metric("sluice_redis_seconds_count", script=script) for script in ("admit", "settle")}
    assert asked == {"admit": 24, "settle": 3} and 0 < gateway.metric("sluice_redis_seconds_sum") < 60
    assert denied.headers["server-timing"].startswith("quota;dur=")
    assert 1190 <= int(denied.headers["retry-after"]) <= 1200
    assert abs(int(denied.headers["retry-after-ms"]) - 1000 * int(denied.headers["retry-after"])) <= 1000


def test_strict_limits_hold_in_every_window(start_gateway, sim, redis):
    """A model's limit is strict when it gives no burst: no window of one period passes it, as the simulator received."""
    limit, window = (600, 60) if LONG else (60, 1)
    name = "rpm" if LONG else "rps"
    gateways = fleet(start_gateway, sim, redis, {"models": {"gpt-4o-mini": {"targets": [{"upstream": "openai"}], "limits": {name: limit}}}})
    seconds = 130 if LONG else 12
    offer(gateways, 1499, seconds, connections=100)  # never a multiple of the limit's spacing
    times = received(sim)
    # What was admitted while something stood still comes in a bunch behind it: a minute's guard swallows that, a second's does not.
    late = 0 if LONG else max(after - before for before, after in zip(times, times[1:]))
    assert most_in_window(times, window - late) <= limit
    assert len(times) <= limit * (seconds / window + 1) + 100  # who waits at its end is served behind it
    assert len(times) >= (0.97 if LONG else 0.9) * limit / window * (seconds - 0.2), len(times)  # a busy machine misses turns of 17 ms
    at_rest(gateways, redis, sim)


def test_one_token_quota_over_three_instances(start_gateway, sim, redis):
    """Known usage: 10 tokens a call, reserved and used. The same bound and the same use as for requests."""
    per_call, rate, burst = 10, 200, 600
    limits = {"tpm": {"limit": rate * 60, "burst": burst}}
    gateways = fleet(start_gateway, sim, redis, {"tenants": {"acme": {"limits": limits}}})
    body = chat("[[sim tokens=6]]", max_tokens=6)
    for gateway in gateways:  # the estimate learns what the prompt costs: 16 bytes are 4 tokens
        for _ in range(3):
            assert load.run(urls([gateway]), requests=1, body=body, headers={**headers_for("openai", KEY), "Content-Type": "application/json"})["by_status"] == {"200": 1}
    at_rest(gateways, redis, sim)
    sim.reset()
    began = time.monotonic()
    offer(gateways, 200, SECONDS, body)
    took = time.monotonic() - began
    used = sum(tokens_in + tokens_out for _, _, tokens_in, tokens_out, status in sim.arrivals() if status == 200)
    assert used % per_call == 0
    times = received(sim)
    for window in (1, 3, 5):
        assert most_in_window(times, window) * per_call <= burst + rate * (window + 0.05) + 3 * 40, window  # what three instances held reserved
    assert used <= burst + rate * took + 3 * 40
    assert used >= 0.95 * rate * SECONDS, used
    at_rest(gateways, redis, sim)


def tokens_left(redis, limit, period, burst):
    """The bucket `tpm` of the tenant as Redis holds it: what could be taken now (lua/admit.lua: tat is the time at which it is full again)."""
    tat = float(redis.command("HGET", "sluice:{t:acme}:q", "tpm"))
    seconds, micros = redis.command("TIME")
    now = int(seconds) * 1e6 + int(micros)
    return burst - max(0.0, tat - now) * limit / period


def test_k_of_a_hundred_and_the_bucket_after(start_gateway, sim, redis):
    """A token limit with room for k: exactly k of a hundred at once reach the simulator; afterwards the bucket is what it says it used."""
    limit = 6000  # a minute, so slow that nothing comes back meanwhile
    limits = {"tph": {"limit": limit, "burst": limit}}
    gateways = fleet(start_gateway, sim, redis, {"tenants": {"acme": {"limits": limits}}})
    body = {**chat("[[sim tokens=100 latency=1500ms]]", max_tokens=592), "stream": True}  # 8 of input, 592 of output: 600 reserved each
    path = "/v1/chat/completions"
    report = load.run(urls(gateways, path), connections=100, requests=100, body=body,
                      headers={**headers_for("openai", KEY), "Content-Type": "application/json"})
    k = sim.stats()["received"]
    assert report["by_status"]["200"] == k == report["requests"] - report["by_status"]["429"]
    reserved = sum(g.metric("sluice_tokens_total", kind="input") for g in gateways)
    assert 9 <= k <= 10, (k, reserved)
    at_rest(gateways, redis, sim)
    stats = sim.stats()
    used = stats["input_tokens"] + stats["output_tokens"]
    tat = float(redis.command("HGET", "sluice:{t:acme}:q", "tph"))
    seconds, micros = redis.command("TIME")
    owed = (tat - int(seconds) * 1e6 - int(micros)) * limit / 3600e6  # tokens that have yet to come back
    assert used - limit / 3600 * 10 <= owed <= used + 1, (owed, used)


def test_aborted_streams_are_charged_from_what_was_seen(start_gateway, sim, redis):
    limits = {"tph": {"limit": 1000000, "burst": 1000000}}
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": limits}}})
    for dialect in ("openai", "anthropic", "gemini"):
        for _ in range(2):  # what a token of this model is long
            assert gateway.ask(dialect, "[[sim tokens=400]]", True).status == 200
    at_rest([gateway], redis, sim)
    before = gateway.metric("sluice_requests_total", outcome="client_gone")
    for dialect in ("openai", "anthropic", "gemini"):
        sim.reset()
        redis.command("DEL", "sluice:{t:acme}:q")
        with gateway.open_stream(dialect, "[[sim tokens=4000 rate=1000]]") as stream:
            for _ in range(500):
                assert stream.read_event()
        at_rest([gateway], redis, sim)
        abort = wait_until(sim.aborts, "the simulator saw it")[0]
        billed = abort["output_tokens"] + 8
        tat = float(redis.command("HGET", "sluice:{t:acme}:q", "tph"))
        seconds, micros = redis.command("TIME")
        charged = (tat - int(seconds) * 1e6 - int(micros)) * 1000000 / 3600e6 + 1000000 / 3600 * 0.5
        assert abs(charged - billed) <= 0.1 * billed + 1000000 / 3600, (dialect, charged, billed)
        before += 1
        assert gateway.metric("sluice_requests_total", outcome="client_gone") == before


@pytest.mark.parametrize("every,mode", [(10, "closed"), (10, "share")])
def test_lost_replies_charge_nothing_twice(start_gateway, sim, redis, proxy, folder, every, mode):
    """Every tenth reply of Redis is dropped after the script ran: the bucket still equals what was served."""
    limit = 100000
    front = proxy(f"unix:{redis.path}", str(folder / "front.sock"))
    changes = {"tenants": {"acme": {"limits": {"rpd": limit}}}, "redis": {"on_failure": mode}}
    gateways = [start_gateway(sim.url, f"unix://{front.path}", changes) for _ in range(2)]
    front.tell(f"drop-reply-every {every}")
    report = load.run(urls(gateways), connections=8, requests=400, body=chat(), headers={**headers_for("openai", KEY), "Content-Type": "application/json"})
    assert front.count("dropped") > 20
    front.clear()
    assert report["by_status"]["200"] == sim.stats()["received"]
    assert report["by_status"]["200"] + report["by_status"].get("503", 0) == 400
    assert (report["by_status"].get("503", 0) > 0) == (mode == "closed")
    at_rest(gateways, redis, sim)
    tat = float(redis.command("HGET", "sluice:{t:acme}:q", "rpd"))
    seconds, micros = redis.command("TIME")
    owed = (tat - int(seconds) * 1e6 - int(micros)) * limit / 86400e6
    served = sim.stats()["received"]
    assert served - limit / 86400 * 60 <= owed <= served + 0.01, (owed, served)
    wait_until(lambda: not any(leases(redis).values()), "no lease outlives its expiry", deadline=15)


# ---- concurrency -----------------------------------------------------------------------------------------------------------------


def test_concurrency_over_three_instances_and_a_killed_one(start_gateway, sim, redis):
    limits = {"openai": {"limits": {"concurrency": 50}, "pool": {"max": 200}}}
    gateways = fleet(start_gateway, sim, redis, {"upstreams": limits, "queue": {"max_wait": "30s"}})
    report = load.run(urls(gateways), connections=500 if LONG else 200, duration=4, body=chat("[[sim tokens=2 latency=50ms]]"),
                      headers={**headers_for("openai", KEY), "Content-Type": "application/json"})
    assert set(report["by_status"]) == {"200"} and report["by_status"]["200"] > 500  # who finds no place waits for one
    assert 45 <= sim.stats()["max_in_flight"] <= 50
    at_rest(gateways, redis, sim)

    victim, others = gateways[0], gateways[1:]
    threads = [threading.Thread(target=quietly, args=(victim,), daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sim.stats()["in_flight"] == 20, "the victim holds 20")
    victim.child.kill()
    killed = time.monotonic()
    wait_until(lambda: sim.stats()["in_flight"] == 0, "the provider is rid of them")

    def all_usable():
        sim.reset()
        load.run(urls(others), connections=60, requests=60, body=chat("[[sim tokens=2 latency=300ms]]"),
                 headers={**headers_for("openai", KEY), "Content-Type": "application/json"})
        return sim.stats()["max_in_flight"] == 50

    wait_until(all_usable, "all 50 are usable again", deadline=60)
    assert time.monotonic() - killed <= promised(12.5)
    at_rest(others, redis, sim)


def quietly(gateway):
    try:
        gateway.ask("openai", "[[sim tokens=2 latency=60s]]")
    except OSError:
        pass  # it was killed
