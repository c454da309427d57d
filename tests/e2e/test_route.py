"""Each strategy by the calls that it sends where, told by the simulators that got them."""

from support.client import headers_for, prompt, request
from support.gateway import KEY
from support.load import run
from support.process import wait_until
from support.rest import at_rest
from support.routes import DEADLY, all_went_well, forget, load, model, places, quiet, received, reloaded, shares, upstream

MANY = 10_000
SESSIONS, EACH = 2_000, 5


def two(start_sim, *words):
    return [start_sim(each, control=DEADLY) for each in (words or ("", ""))]


def routed(start_gateway, redis, sims, names, **how):
    """One gateway: an upstream for each simulator, and the model m with these as targets."""
    targets = how.pop("targets", names)
    return start_gateway(sims[0].url, redis.url, {"upstreams": {name: upstream(sim) for name, sim in zip(names, sims)},
                                                  "models": {"m": model(*targets, **how)}})


# ---- priority ---------------------------------------------------------------------------------------------------------------


def test_priority(start_gateway, start_sim, redis):
    """The first takes all; while it is gone the next does, and nobody notices; when it is back it takes all again."""
    sims = two(start_sim)
    gateway = routed(start_gateway, redis, sims, ("first", "second"))
    all_went_well(load([gateway], 200), 200)
    assert received(*sims) == [200, 0]
    sims[0].down("refuse")
    all_went_well(load([gateway], 200), 200)
    assert received(*sims) == [200, 200]
    sims[0].up()
    wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]", model="m") and received(*sims)[0] > 200, "the first is tried again")
    wait_until(lambda: gateway.metric("sluice_breaker_state", upstream="first") == 0, "its breaker closes")
    forget(*sims)
    all_went_well(load([gateway], 200), 200)
    print(f"priority: 200 of 200, 0 of 200 while it was gone, then {received(*sims)}")
    assert received(*sims) == [200, 0]
    quiet(gateway)


# ---- weighted ---------------------------------------------------------------------------------------------------------------


def canary(start_gateway, sims, redis, weight=5):
    changes = {"upstreams": {"main": upstream(sims[0]), "canary": upstream(sims[1])},
               "models": {"m": model({"upstream": "main", "weight": 100 - weight}, {"upstream": "canary", "weight": weight}, strategy="weighted")}}
    return [start_gateway(sims[0].url, redis.url, changes) for _ in range(2)]


def test_a_canary_by_chance(start_gateway, start_sim, redis):
    sims = two(start_sim)
    gateways = canary(start_gateway, sims, redis)
    all_went_well(load(gateways, MANY, connections=32), MANY)
    share = shares(*sims)[1]
    print(f"canary of 5 %, {MANY} requests: {share:.2%}")
    assert sum(received(*sims)) == MANY and abs(share - 0.05) <= 0.01
    at_rest(gateways, redis)


def all_sessions(gateways, sims, times):
    forget(*sims)
    for turn in range(times):
        dealt = gateways[turn % 2:] + gateways[:turn % 2]
        all_went_well(load(dealt, SESSIONS, "[[sim tokens=1 nonce=s{{n}}]]", connections=32, headers={"X-Sluice-Session": "session {{n}}"}), SESSIONS)
    found = places(sims)
    assert len(found) == SESSIONS and all(len(at) == 1 for at in found.values()), "a session was at two targets"
    return {session: at.pop() for session, at in found.items()}


def test_a_canary_by_session(start_gateway, start_sim, redis):
    """A session stays, on whichever instance it asks; a reload that makes the canary heavier moves those alone that it needs."""
    sims = two(start_sim)
    gateways = canary(start_gateway, sims, redis)
    before = all_sessions(gateways, sims, EACH)
    share = sum(before.values()) / SESSIONS
    print(f"canary of 5 %, {SESSIONS} sessions of {EACH}: {share:.2%} of the sessions")
    assert abs(share - 0.05) <= 0.015
    for gateway in gateways:
        reloaded(gateway, {"models": {"m": model({"upstream": "main", "weight": 80}, {"upstream": "canary", "weight": 20}, strategy="weighted")}})
    after = all_sessions(gateways, sims, 1)
    moved, back = [sum(before[session] == way and after[session] != way for session in before) for way in (0, 1)]
    print(f"canary of 20 %: {sum(after.values()) / SESSIONS:.2%}; {moved} sessions moved to it, {back} away from it")
    assert abs(sum(after.values()) / SESSIONS - 0.20) <= 0.03
    assert back == 0 and abs(moved / SESSIONS - 0.15) <= 0.03
    at_rest(gateways, redis)


def test_weight_0_is_for_need_alone(start_gateway, start_sim, redis):
    sims = two(start_sim)
    gateway = routed(start_gateway, redis, sims, ("main", "spare"), targets=["main", {"upstream": "spare", "weight": 0}], strategy="weighted")
    all_went_well(load([gateway], 300), 300)
    assert received(*sims) == [300, 0]
    sims[0].down("refuse")
    all_went_well(load([gateway], 100), 100)
    assert received(*sims) == [300, 100]
    quiet(gateway)


# ---- cost -------------------------------------------------------------------------------------------------------------------


def test_cost(start_gateway, start_sim, redis):
    """What is cheap depends on the request: dear input for the one, dear output for the other. The dearer answers when the cheaper is gone."""
    sims = two(start_sim)
    targets = [{"upstream": "reader", "price": {"input": 0.1, "output": 10}}, {"upstream": "writer", "price": {"input": 10, "output": 0.1}}]
    gateway = routed(start_gateway, redis, sims, ("reader", "writer"), targets=targets, strategy="cost")

    def ask(words, most):
        path, body = prompt("openai", "[[sim tokens=1]]" + "word " * words, model="m", max_tokens=most)
        return request(gateway.url + path, body=body, headers=headers_for("openai", KEY))

    for words, most, cheap in ((2000, 10, 0), (10, 2000, 1)):
        forget(*sims)
        assert all(ask(words, most).status == 200 for _ in range(20))
        print(f"cost: {words} words in, at most {most} tokens out: {received(*sims)}")
        assert received(*sims)[cheap] == 20 and sum(received(*sims)) == 20
        sims[cheap].down("refuse")
        forget(*sims)
        assert all(ask(words, most).status == 200 for _ in range(20))
        assert received(*sims)[1 - cheap] == 20
        sims[cheap].up()
        wait_until(lambda: ask(words, most).status == 200 and received(*sims)[cheap] > 0, "the cheaper one is asked again")
    quiet(gateway)


# ---- latency, load -------------------------------------------------------------------------------------------------------------


def test_latency(start_gateway, start_sim, redis):
    """The faster gets nearly all; when it becomes the slower one, the other does; when it is fast again it is found out."""
    sims = two(start_sim, "latency=10ms", "latency=40ms")
    gateway = routed(start_gateway, redis, sims, ("one", "other"), strategy="latency")
    load([gateway], 50)  # each is measured
    forget(*sims)
    all_went_well(load([gateway], 300), 300)
    print(f"latency 10 ms and 40 ms: {shares(*sims)[0]:.1%} at the faster")
    assert shares(*sims)[0] > 0.9
    sims[0].set("latency=200ms")
    load([gateway], 120, connections=16)  # it is noticed
    forget(*sims)
    all_went_well(load([gateway], 200, connections=16), 200)
    print(f"latency 200 ms and 40 ms: {shares(*sims)[1]:.1%} at the other")
    assert shares(*sims)[1] > 0.9
    sims[0].clear()
    asked = 0
    while True:
        forget(*sims)
        all_went_well(load([gateway], 200, connections=32), 200)
        asked += 200
        if shares(*sims)[0] > 0.9:
            break
        assert asked < 10_000, shares(*sims)
    print(f"latency 10 ms again: found out within {asked} requests")
    at_rest([gateway], redis)


def test_load(start_gateway, start_sim, redis):
    """As many in flight at each, so the shares follow the speed; a weight says how many more one carries."""
    sims = two(start_sim, "latency=40ms", "latency=160ms")
    gateway = routed(start_gateway, redis, sims, ("fast", "slow"), strategy="load")
    all_went_well(load([gateway], 400, connections=20), 400)
    most = [sim.stats()["max_in_flight"] for sim in sims]
    print(f"load, 40 ms and 160 ms: {shares(*sims)[0]:.1%} at the faster, at most {most} at once")
    assert 0.7 <= shares(*sims)[0] <= 0.9 and max(most) <= 13
    reloaded(gateway, {"models": {"m": model({"upstream": "fast", "weight": 1}, {"upstream": "slow", "weight": 4}, strategy="load")}})
    forget(*sims)
    all_went_well(load([gateway], 400, connections=20), 400)
    most = [sim.stats()["max_in_flight"] for sim in sims]
    print(f"load, the slower one with four times the weight: {shares(*sims)[0]:.1%} at the faster, at most {most} at once")
    assert 0.35 <= shares(*sims)[0] <= 0.65
    at_rest([gateway], redis)


# ---- versions of an API ----------------------------------------------------------------------------------------------------------


def test_versions_of_an_api(start_gateway, start_sim, redis):
    """Two upstreams at one host, told apart by the prefix of their url: pools of their own, and a share of the requests for the new one."""
    weight = 10
    sim = start_sim("latency=5ms")
    prefixes = {"gemini-v1": "/v1/projects/stable", "gemini-v1beta": "/v1beta/projects/preview"}
    upstreams = {name: upstream({"url": sim.url + prefix}, dialect="gemini") for name, prefix in prefixes.items()}
    targets = [{"upstream": "gemini-v1", "weight": 100 - weight}, {"upstream": "gemini-v1beta", "weight": weight, "model": "gemini-2.5-pro"}]
    gateway = start_gateway(sim.url, redis.url, {"upstreams": upstreams, "models": {"gemini-2.5-flash": {"targets": targets, "strategy": "weighted"}}})
    path, body = prompt("gemini", "[[sim tokens=1]]")
    all_went_well(run(gateway.url + path, requests=3000, connections=16, body=body, headers=headers_for("gemini", KEY)), 3000)
    calls = sim.calls()
    by = {name: [call for call in calls if call["path"].startswith(prefix + "/")] for name, prefix in prefixes.items()}
    assert {call["model"] for call in by["gemini-v1"]} == {"gemini-2.5-flash"} and {call["model"] for call in by["gemini-v1beta"]} == {"gemini-2.5-pro"}
    share = len(by["gemini-v1beta"]) / 3000
    pools = {name: gateway.metric("sluice_pool_connections", upstream=name, state="idle") for name in prefixes}
    print(f"two versions, {weight} % for the new one: {share:.2%}; idle connections {pools}")
    assert len(calls) == 3000 and abs(share - weight / 100) <= 0.025
    assert pools["gemini-v1"] > pools["gemini-v1beta"] >= 1
    at_rest([gateway], redis)
