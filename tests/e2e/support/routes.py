"""Models with several places to go: upstreams at simulators, and what reached which of them."""

from .client import headers_for, prompt
from .gateway import CREDENTIALS, KEY
from .load import run
from .process import wait_until
from .rest import tells_no_secret, told_once

DEADLY = "127.0.0.1:0"  # a simulator's control address, for one that is to be down
# As quick to open and to try again as a test wants it. Only what fails in a row opens it, so that one failure in between does not.
QUICK = {"error_rate": "0", "slow_rate": "0", "unreachable": 2, "failures": 2, "open_for": "300ms", "open_most": "300ms", "probes": 1}
HASTY = {"base": "10ms", "cap": "100ms", "timeout_base": "1ms"}


def upstream(*places, dialect="openai", **more):
    """An upstream at simulators (or endpoints as they stand in the file), with a credential and a breaker that is quick."""
    endpoints = [place if isinstance(place, dict) else {"url": place.url} for place in places]
    return {"dialect": dialect, "endpoints": endpoints, "credential": CREDENTIALS[dialect], "breaker": QUICK, "retry": HASTY,
            "pool": {"min": 0, "start": 2, "max": 64, "streams": 64}, **more}


def model(*targets, **more):
    """target: an upstream's name, or a mapping as in the file. All ask for one name that every simulator knows."""
    return {"targets": [{"model": "gpt-4o-mini", **({"upstream": target} if isinstance(target, str) else target)} for target in targets], **more}


def load(gateways, count, text="[[sim tokens=1]]", name="m", connections=8, headers=None, dialect="openai", more=None, **how):
    """Plain calls by build/sluice-load, dealt out to the gateways; {{n}} in text and body is the call's number, from 1. The report."""
    path, body = prompt(dialect, text, model=name, **(more or {}))
    return run([gateway.url + path for gateway in gateways], requests=count, connections=connections, body=body,
               headers={**headers_for(dialect, KEY), **(headers or {})}, options=["--first", 1], **how)


def received(*sims):
    return [sim.stats()["received"] for sim in sims]


def shares(*sims):
    counts = received(*sims)
    return [count / sum(counts) for count in counts]


def places(sims):
    """Nonce → the places at which its calls arrived."""
    found = {}
    for place, sim in enumerate(sims):
        for call in sim.calls():
            found.setdefault(call["nonce"], set()).add(place)
    return found


def all_went_well(report, count):
    assert report["by_status"] == {"200": count} and not report["errors"], (report["by_status"], report["errors"])


def forget(*sims):
    for sim in sims:
        sim.reset()


def quiet(*gateways):
    """All have ended, are settled, and are told once. What support.rest asks of descriptors waits 5 s where a place was gone: so long may libcurl keep the
    sockets of connections that the peer has reset."""
    for gateway in gateways:
        wait_until(lambda: gateway.status()["requests"]["in_flight"] == 0, f"{gateway.name} at rest")
        wait_until(lambda: gateway.status()["quota"]["leases"] == 0 and gateway.status()["quota"]["unsettled"] == 0, f"{gateway.name} settled")
        told_once(gateway)
        tells_no_secret(gateway)


def reloaded(gateway, changes):
    """Reloads it, and returns when that is done."""
    done = sum(line["event"] == "reload" for line in gateway.log())
    gateway.reload(changes)
    wait_until(lambda: sum(line["event"] == "reload" for line in gateway.log()) > done, f"{gateway.name} is reloaded")
