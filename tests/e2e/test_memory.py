"""While memory is short connections without a request go first, then new requests are told to come again; what is in flight goes on."""

import pytest

from support import client
from support.process import sanitized, wait_until
from support.rest import at_rest

pytestmark = pytest.mark.skipif(sanitized(), reason="a sanitizer's allocator does not tell what is in use")


def shedding(gateway):
    return gateway.metric("sluice_shedding")


def idle_connection(gateway):
    """One that has had its answer, and stays."""
    connection, target = client.connect(gateway.url + "/healthz")
    connection.request("GET", target)
    connection.getresponse().read()
    return connection


def is_closed(connection):
    connection.sock.settimeout(0.05)
    try:
        return connection.sock.recv(1) == b""
    except TimeoutError:
        return False


def test_what_is_given_up_first(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"memory_limit": "16MiB", "upstreams": {"openai": {"pool": {"max": 2000, "streams": 2000}}}})
    assert shedding(gateway) == 0
    idle = idle_connection(gateway)
    streams = []
    for _ in range(75):
        streams += [gateway.open_stream("openai", "[[sim tokens=100000 rate=1/s]]") for _ in range(20)]
        if shedding(gateway) == 2:
            break
    assert shedding(gateway) == 2
    wait_until(lambda: is_closed(idle), "the idle one is closed")
    refused = gateway.ask("openai", "[[sim tokens=3]]")
    assert refused.status == 503 and client.error_of("openai", refused) == "overloaded" and refused.headers["retry-after"] == "1"
    assert client.request(gateway.url + "/healthz").status == 200
    alive = [stream for stream in streams if stream.status == 200]
    print(f"{len(alive)} streams in {gateway.metric('sluice_memory_bytes') / 2 ** 20:.1f} MiB")
    for stream in alive[:: max(1, len(alive) // 20)]:
        assert b"data:" in stream.read_event()
    for stream in streams:
        stream.leave()
    wait_until(lambda: shedding(gateway) == 0, "there is enough again")
    assert gateway.ask("openai", "[[sim tokens=3]]").status == 200
    said = [line["message"] for line in gateway.log() if line["event"] == "memory"]
    assert 2 <= len(said) <= 6 and "new requests refused" in " ".join(said) and said[-1].endswith("nothing is given up"), said
    at_rest([gateway], redis, sim)
