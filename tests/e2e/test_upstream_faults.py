"""The provider refuses, falls silent, breaks off or talks nonsense, under load from two instances. Whatever it does: no cut answer looks whole (G5), no byte of one
answer is in another (I4), every request ends in time with one outcome (G9, I6), nothing is left behind (I1, I5), and what is well again is used again.

SLUICE_SOAK=N runs each fault N times, ten at most (`make soak`); else once."""

import collections
import itertools
import json
import os
import re
import signal
import threading

import pytest

from support.client import headers_for, prompt, request
from support.crowd import Reading, crowd
from support.gateway import KEY
from support.process import free_port, promised, wait_until
from support.rest import at_rest
from support.sim import Sim
from support.tls import NghttpxFront, NginxFront

ROUNDS = min(int(os.environ.get("SLUICE_SOAK", "1")), 10)
DIALECTS = ["openai", "gemini", "anthropic"]
DEADLINE = 5  # seconds that each client's SDK says that it waits for the answer to begin
LONGEST = 4.0  # what a request may take in all: timeout.total, and a second attempt within it
MARKS = {"openai": b"data: [DONE]", "gemini": b"finishReason", "anthropic": b"message_stop"}
NONCE = re.compile(rb"n-\d+-\d+-\d+(?=\.)")

# Soon over, and soon tried again: a test has no minute to wait. The breaker is left to do its work.
UPSTREAM = {"timeout": {"connect": "500ms", "first_byte": "700ms", "first_byte_plain": "700ms", "idle": "500ms", "total": "3s"},
            "breaker": {"open_for": "200ms", "open_most": "400ms", "window": "2s"}, "retry": {"base": "50ms", "cap": "200ms", "timeout_base": "10ms"},
            "pool": {"min": 0, "start": 1, "connect_timeout": "2s"}}
CHANGES = {"upstreams": {dialect: UPSTREAM for dialect in DIALECTS}}
NUMBERS = itertools.count(1)


class Fault:
    """How it is brought about and ended, and what the clients may see of it."""

    def __init__(self, begin, end=lambda sim: sim.clear(), count=12, answers=False, large=False):
        self.begin, self.end, self.count, self.answers, self.large = begin, end, count, answers, large


def words(text, **more):
    return Fault(lambda sim: sim.set(text), **more)


def down(how):
    return Fault(lambda sim: sim.down(how), end=lambda sim: sim.up())


FAULTS = {
    "refused": down("refuse"),
    "a black hole": down("blackhole"),
    "garbage": down("garbage"),
    "reset in the middle, 1 at once": words("fault=reset@300", count=1),
    "reset in the middle, 10 at once": words("fault=reset@300", count=10),
    "end in the middle": words("fault=fin@300", count=10),
    "half the body": words("fault=truncate", count=10),
    "reset after the request": words("fault=reset"),
    "silence behind the head": words("fault=stall@head"),
    "silence in the middle": words("fault=stall@300"),
    "one byte a second": words("drip=1", count=4),
    "a line without end": words("fault=longline size=64MiB", count=2, large=True),
    "a bomb": words("fault=bomb", count=2, answers=True, large=True),
    "100 MB of JSON": words("size=100MB tokens=10", count=2, answers=True, large=True),
    "bytes past the end": words("fault=extra", answers=True),
    "a chunk that is none": words("fault=badchunk"),
    "an error inside": words("fault=event@3"),
    "no marker": words("fault=nomarker"),
    "429 for 500 at once": words("status=429 retry=300ms", count=500),
    "30 % errors": words("status=503 chance=30%", count=60, answers=True),
}


def readings(gateways, count, fault):
    """Plain calls and streams of three dialects at both instances by turns; each knows its own nonce."""
    made = []
    for i in range(count):
        dialect, stream, gateway = DIALECTS[i % 3], i // 3 % 2 == 0, gateways[i % len(gateways)]
        nonce = f"{fault}-{os.getpid()}-{next(NUMBERS)}-{i}"
        path, body = prompt(dialect, f"[[sim tokens=30 nonce={nonce}]]", stream)
        fields = {**headers_for(dialect, KEY), "x-stainless-timeout": str(DEADLINE)}
        reading = Reading(0.002 * i if count < 100 else 0, gateway.url + path, body, fields)
        reading.fields, reading.nonce, reading.dialect, reading.stream = fields, nonce.encode(), dialect, stream
        made.append(reading)
    return made


def read_large(made):
    """The same for bodies of many megabytes, which a crowd would copy too often."""

    def read(reading):
        path = reading.url
        answer = request(path, body=json.loads(reading.request.partition(b"\r\n\r\n")[2]), headers=reading.fields, timeout=60)
        reading.status, reading.body, reading.complete = answer.status, answer.body, answer.complete
        reading.began, reading.ended = 0, answer.seconds

    threads = [threading.Thread(target=read, args=(reading,)) for reading in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return made


def outcome(reading):
    """"whole", "cut", "refused"; and what must hold of each."""
    assert reading.status is not None and reading.error != "timeout", reading
    others = {nonce for nonce in NONCE.findall(reading.body)} - {reading.nonce}
    assert not others, (reading.nonce, others)
    if reading.status != 200:
        assert reading.complete and b"error" in reading.body, reading
        return "refused"
    if not reading.complete or b'"error"' in reading.body:
        return "cut"
    if reading.body.startswith(b"\x1f\x8b"):  # as packed as it came: nothing is unpacked here
        return "whole"
    assert not reading.stream or MARKS[reading.dialect] in reading.body, reading
    return "whole"


def judge(name, fault, all_of_them, sim):
    counts = collections.Counter(outcome(reading) for reading in all_of_them)
    slowest = max(reading.seconds for reading in all_of_them)
    print(f"{name}: {dict(counts)}, the slowest {slowest:.2f} s, {sim.stats()['received']} calls")
    assert slowest < promised(LONGEST + 0.1)
    if not fault.answers:
        assert counts["whole"] == 0 or name in ("one byte a second", "an error inside", "no marker"), counts
    return counts


def is_well(gateways):
    for gateway in gateways:
        for dialect in DIALECTS:
            wait_until(lambda: gateway.ask(dialect, "well?").status == 200, f"{dialect} is well again")


@pytest.mark.parametrize("name", list(FAULTS))
def test_fault(start, start_gateway, redis, name):
    fault = FAULTS[name]
    sim = start(Sim, "latency=5ms", control="127.0.0.1:0")
    gateways = [start_gateway(sim.url, redis.url, CHANGES) for _ in range(2)]
    for number in range(ROUNDS):
        sim.reset()
        fault.begin(sim)
        made = readings(gateways, fault.count, "n")
        judge(name, fault, read_large(made) if fault.large else crowd(made, timeout=60), sim)
        fault.end(sim)
        is_well(gateways)
        at_rest(gateways, redis, sim)


# ---- names and certificates ------------------------------------------------------------------------------------------------------------


def endpoints(url, ca=None):
    return {"upstreams": {dialect: {**UPSTREAM, "endpoints": [{"url": url}], "allow_plaintext": True, **({"ca_file": str(ca)} if ca else {})} for dialect in DIALECTS}}


def refused_by_all(gateways, redis, sim, code):
    """Before the breakers are open, and when they let somebody try again; in between they refuse."""
    for number in range(ROUNDS):
        wait_until(lambda: any(code in reading.body.lower() for reading in crowd(readings(gateways, 1, "n"), timeout=60)), "somebody tries it")
        all_of_them = crowd(readings(gateways, 12, "n"), timeout=60)
        assert all(reading.status in (502, 503) for reading in all_of_them), all_of_them
        print(f"{code}: {collections.Counter(r.status for r in all_of_them)}, the slowest {max(r.seconds for r in all_of_them):.2f} s")
    assert sim.stats()["received"] == 0
    at_rest(gateways, redis, sim)


def test_a_name_that_nobody_knows(start_gateway, sim, redis):
    gateways = [start_gateway(sim.url, redis.url, endpoints(f"http://nobody.invalid:{free_port()}")) for _ in range(2)]
    refused_by_all(gateways, redis, sim, b"upstream_unreachable")


@pytest.mark.parametrize("why", ["wrong", "expired"])
def test_a_certificate_that_is_not_to_be_believed(start, start_gateway, sim, redis, authority, folder, why):
    key, certificate = authority.issue("bad", ("elsewhere.example",) if why == "wrong" else ("localhost", "127.0.0.1"), -1 if why == "expired" else 2)
    front = start(NginxFront, sim.port, key, certificate)
    gateways = [start_gateway(sim.url, redis.url, endpoints(front.url, authority.certificate)) for _ in range(2)]
    refused_by_all(gateways, redis, sim, b"upstream_unreachable")


# ---- HTTP/2: RST_STREAM and GOAWAY -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("how", ["RST_STREAM", "GOAWAY"])
def test_http2(start, start_gateway, sim, redis, authority, how, count):
    """A stream that is reset is cut, and told so; an edge that says that it leaves lets those end that it has."""
    key, certificate = authority.issue("edge")
    front = start(NghttpxFront, sim.port, key, certificate)
    changes = endpoints(front.url, authority.certificate)
    for upstream in changes["upstreams"].values():
        upstream["pool"] = {**UPSTREAM["pool"], "http": "2"}
        upstream["breaker"] = {"error_rate": "0"}  # each round's streams all begin
    gateways = [start_gateway(sim.url, redis.url, changes) for _ in range(2)]
    for number in range(ROUNDS):
        sim.set("fault=reset@300" if how == "RST_STREAM" else "tokens=30 rate=60")
        streams = [r for r in readings(gateways, 6 * count, "n") if r.stream][:count]
        left = []

        def leave(now):
            if how == "GOAWAY" and not left and all(r.body for r in streams):
                left.append(now)
                front.signal(signal.SIGQUIT)

        counts = collections.Counter(outcome(r) for r in crowd(streams, timeout=60, during=leave))
        print(f"{how}, {count} streams: {dict(counts)}")
        assert counts == {"cut" if how == "RST_STREAM" else "whole": count}
        sim.clear()
        if how == "GOAWAY":
            front.wait()
            front = start(NghttpxFront, sim.port, key, certificate, port=front.port)
        is_well(gateways)
        at_rest(gateways, redis, sim)
