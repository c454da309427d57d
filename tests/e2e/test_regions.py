"""A region dies under load and comes back; checks find out what no client has to try.

The death has a configuration that is quick, SLUICE_SOAK=N times. With SLUICE_LONG=1 it also dies once with the default one, on three instances, and the
promise is held: within 30 s everything goes elsewhere."""

import datetime
import os
import time

import pytest

from support.client import headers_for, prompt
from support.gateway import KEY, UPSTREAM_KEY
from support.process import LONG, wait_until
from support.provider import plain
from support.routes import DEADLY, QUICK, forget, load, model, quiet, received, reloaded, upstream

ROUNDS = int(os.environ.get("SLUICE_SOAK", "1"))
PROMISED = 30.0  # seconds until the last call that is no trial went to the dead region
TROUBLES = ["blackhole", "refuse", "garbage"]
QUICKER = {
    "timeout": {"connect": "500ms", "first_byte": "500ms", "first_byte_plain": "500ms"},
    "breaker": {"window": "2s", "min_calls": 10, "open_for": "1s", "open_most": "1s", "probes": 1},
    "health": {"path": "/v1/models", "interval": "300ms", "timeout": "300ms"},
}
DEFAULT = {"breaker": {}, "retry": {}, "health": {"path": "/v1/models"}}


def regions(start_gateway, sims, redis, count, changes):
    """All instances are in `here`, which counts more than priority; the other two regions take over by that."""
    endpoints = [{"url": sim.url, "region": name, "priority": priority} for sim, name, priority in zip(sims, ("here", "near", "far"), (7, 1, 2))]
    spread = {**upstream(*endpoints), **changes}
    return [start_gateway(sims[0].url, redis.url, {"region": "here", "upstreams": {"spread": spread}, "models": {"m": model("spread")}}) for _ in range(count)]


class Seen:
    """A line of a request's log: when it began and ended, whether it failed, and whether it met that place in trouble."""

    def __init__(self, line, sim):
        self.ended = datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
        self.began = self.ended - line["total_ms"] / 1000
        self.failed = line["status"] != 200 or line["outcome"] != "ok"
        self.met = sim.url in line.get("failed", "") or (self.failed and line.get("region") == "here")  # its client may have left before the call failed


def seen(gateways, sim, since):
    lines = [Seen(line, sim) for gateway in gateways for line in gateway.log() if line["event"] == "request"]
    return sorted((line for line in lines if line.ended >= since), key=lambda line: line.began)


def states(gateways, sim):
    return {gateway.metric("sluice_breaker_state", upstream="spread", endpoint=sim.url) for gateway in gateways}


def all_go_to(gateways, sims, place):
    forget(*sims)
    load(gateways, 60)
    return received(*sims)[place] == 60


def die_and_return(gateways, sims, start_load, how, lasting):
    """(the figures of one death, the lines of what was asked meanwhile)"""
    wait_until(lambda: all_go_to(gateways, sims, 0), "the region here has all of it", deadline=120)
    loads = []
    for stream in (False, True):
        path, body = prompt("openai", "[[sim tokens=5]]", stream, model="m")
        loads.append(start_load([gateway.url + path for gateway in gateways], connections=64, duration=lasting, rate=50, body=body,
                                headers=headers_for("openai", KEY), options=["--timeout", 120, "--grace", 90]))
    wait_until(lambda: received(sims[0])[0] > 100, "it is under load")
    died = time.time()
    sims[0].down(how)
    wait_until(lambda: 0 not in states(gateways, sims[0]), "all instances know", deadline=120)
    opened = time.time()
    for each in loads:
        each.report()
    sims[0].up()
    back = time.time()
    wait_until(lambda: all_go_to(gateways, sims, 0), "the region here has all of it again", deadline=600)
    return died, opened, back, time.time()


def tell_and_judge(gateways, sims, how, times, open_for, probes):
    """What it came to. The seconds until the last call that was no trial."""
    died, opened, back, returned = times
    lines = [line for line in seen(gateways, sims[0], died) if line.began < back]
    met, failed = [line for line in lines if line.met], [line for line in lines if line.failed]
    trials = [line for line in met if line.began > opened]
    last = max((line.began for line in met if line.began <= opened), default=died) - died
    print(f"{how}: of {len(lines)} requests {len(met)} met the dead region and {len(failed)} failed; all instances knew after {opened - died:.1f} s, the last that was no "
          f"trial began {last:.1f} s after it died; {len(trials)} trials in {back - opened:.0f} s; it had all again {returned - back:.1f} s after it came back")
    assert len(lines) > 100 and met and received(sims[2]) == [0]
    assert len(trials) <= probes * ((back - opened) / open_for + 2), [round(line.began - opened, 2) for line in trials]
    assert all(line.met for line in failed)
    return last


@pytest.mark.parametrize("how,default", [(how, default) for default in ((False, True) if LONG else (False,)) for how in TROUBLES])
def test_a_region_dies_under_load(start_gateway, start_sim, start_load, redis, how, default):
    """It goes elsewhere, but for the trials that the breaker makes; when the region is back it is used again, by itself."""
    sims = [start_sim(control=DEADLY) for _ in range(3)]
    gateways = regions(start_gateway, sims, redis, 3 if default else 2, DEFAULT if default else QUICKER)
    for _ in range(1 if default else ROUNDS):
        times = die_and_return(gateways, sims, start_load, how, 100 if default else 2)
        last = tell_and_judge(gateways, sims, how, times, *((30, 3) if default else (1, 1)))
        assert last <= PROMISED or not default
    quiet(*gateways)


# ---- checks -----------------------------------------------------------------------------------------------------------------------------

CHECKED = {"health": {"path": "/v1/models", "interval": "100ms", "timeout": "300ms"}}
# what alone opens it: who answers no check is as little there as who takes no connection
OPENS = {"refuse": {"unreachable": 3, "failures": 0}, "blackhole": {"unreachable": 3, "failures": 0}, "garbage": {"unreachable": 0, "failures": 3}}


@pytest.mark.parametrize("how", TROUBLES)
def test_checks_know_before_any_client(start_gateway, start_sim, redis, how):
    """A place without traffic dies and comes back, and no client's request has met it."""
    sims = [start_sim(control=DEADLY) for _ in range(3)]
    endpoints = [{"url": sim.url, "priority": place} for place, sim in enumerate(sims)]
    gateway = start_gateway(sims[0].url, redis.url, {"upstreams": {"spread": upstream(*endpoints, breaker={**QUICK, **OPENS[how]}, **CHECKED)}, "models": {"m": model("spread")}})
    assert gateway.ask("openai", "[[sim tokens=1]]", model="m").status == 200
    sims[1].down(how)
    wait_until(lambda: states([gateway], sims[1]) == {2}, "it is known to be gone")
    assert received(*sims) == [1, 0, 0]
    sims[0].down(how)
    wait_until(lambda: 0 not in states([gateway], sims[0]), "so is the first")
    for sim in sims[:2]:
        sim.up()
    wait_until(lambda: states([gateway], sims[0]) == {0} == states([gateway], sims[1]), "they are known to be back")
    assert received(*sims) == [1, 0, 0] and gateway.metric("sluice_requests_total") == 1
    assert gateway.ask("openai", "[[sim tokens=1]]", model="m").status == 200 and received(*sims) == [2, 0, 0]
    quiet(gateway)


def test_what_a_check_carries_and_how_often_it_comes(start_gateway, sim, redis, provider):
    """The credential, and no client's key; one for each instance and interval, however many workers it has."""
    place = provider(plain(b"{}"))
    checked = upstream({"url": place.url + "/behind"}, health={"path": "/v1/models", "interval": "500ms", "timeout": "1s"})
    began = time.monotonic()
    gateways = [start_gateway(sim.url, redis.url, {"workers": 2, "upstreams": {"spread": checked}, "models": {"m": model("spread")}}) for _ in range(2)]
    wait_until(lambda: len(place.requests) >= 8, "it has been checked")
    heads = [head for head, _ in place.requests]
    most = 2 * ((time.monotonic() - began) / 0.45 + 1)
    print(f"two instances of two workers, every 500 ms: {len(heads)} checks, {most:.0f} at most")
    assert len(heads) <= most
    for head in heads:
        assert head.startswith(b"GET /behind/v1/models HTTP/1.1\r\n") and f"Authorization: Bearer {UPSTREAM_KEY}".encode() in head and KEY.encode() not in head, head
    quiet(*gateways)


def test_what_is_gone_is_checked_no_more(start_gateway, sim, redis, provider):
    """Also while an answer that began before the reload still holds it."""
    place = provider(plain(b"{}"))
    checked = upstream({"url": sim.url, "priority": 0}, {"url": place.url, "priority": 1}, health={"path": "/v1/models", "interval": "100ms"})
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"checked": checked}, "models": {"m": model("checked")}})
    with gateway.open_stream("openai", "[[sim tokens=40 rate=20]]", model="m") as stream:
        wait_until(lambda: place.requests, "it has been checked")
        reloaded(gateway, {"upstreams": {"checked": {"health": {"path": None}}}})
        count = len(place.requests) + 1  # one may be on its way
        assert stream.read_all().endswith(b"data: [DONE]\n\n")  # so many intervals later
    assert len(place.requests) <= count
    quiet(gateway)


def test_a_check_carries_the_credential_of_now(start_gateway, sim, redis, provider):
    """Also when a reload leaves the connections alone."""
    place = provider(plain(b"{}"))
    changes = {"upstreams": {"checked": upstream({"url": place.url}, health={"path": "/v1/models", "interval": "100ms"})}, "models": {"m": model("checked")}}
    gateway = start_gateway(sim.url, redis.url, changes)
    wait_until(lambda: place.requests, "it has been checked")
    reloaded(gateway, {"upstreams": {"checked": {"credential": {"value": "Bearer another-key-of-the-tests"}}}})
    count = len(place.requests) + 1  # one may be on its way
    wait_until(lambda: len(place.requests) > count, "it has been checked again")
    assert b"Authorization: Bearer another-key-of-the-tests" in place.requests[-1][0]
    quiet(gateway)
