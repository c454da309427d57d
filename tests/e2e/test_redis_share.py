"""Three instances that share a Redis with faults of every kind: what must hold is in support/share.py."""

import contextlib
import os
import threading

import pytest

from support import share
from support.process import wait_until
from support.redis_faults import OF_THE_SERVER
from support.rest import at_rest
from support.share import mode
from support.sim import most_in_window


@pytest.mark.parametrize("round", range(share.ROUNDS))
@pytest.mark.parametrize("fault", OF_THE_SERVER, ids=lambda fault: fault.name)
def test_three_instances_lose_redis(start_fleet, world, sim, start_load, figures, fault, round):
    share.three_instances_lose(fault, start_fleet(), world, sim, start_load, figures)


def test_streams_outlive_redis_and_are_held_again(start_gateway, sim, redis, start_redis):
    """What began with Redis and without it, in the same concurrency: Redis comes back empty and knows of both."""
    limits = {"tenants": {"acme": {"limits": {"concurrency": 8}}}, "redis": {"timeout": "50ms"}}
    gateway = start_gateway(sim.url, redis.url, limits)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(gateway.open_stream("openai", "[[sim tokens=80 rate=20]]"))]
        assert streams[0].read_event()
        redis.child.kill()
        redis.child.wait()
        wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]").status == 200 and mode(gateway) == "share", "it goes on")
        streams += [stack.enter_context(gateway.open_stream("openai", "[[sim tokens=80 rate=20]]")) for _ in range(3)]
        assert all(stream.read_event() for stream in streams[1:])
        os.unlink(redis.path)
        again = start_redis(name=redis.name)
        wait_until(lambda: again.command("ZCOUNT", "sluice:{t:acme}:l", 0, "+inf") == 4, "all four are held")
        assert mode(gateway) == "normal"
        for stream in streams:
            assert stream.read_all().rstrip().endswith(b"[DONE]")
    at_rest([gateway], again, sim)


def test_who_waits_in_line_goes_on_waiting(start_gateway, sim, redis, start_redis):
    """Ten at once where two a second may: Redis dies with the line in it, comes back empty, and all are served in their time."""
    limits = {"upstreams": {"openai": {"limits": {"rpm": {"limit": 120, "burst": 1}}}}, "queue": {"max_wait": "8s"}, "redis": {"timeout": "50ms"}}
    gateway = start_gateway(sim.url, redis.url, limits)
    answers = []
    clients = [threading.Thread(target=lambda: answers.append(gateway.ask("openai", "[[sim tokens=1]]"))) for _ in range(10)]
    for client in clients:
        client.start()
    wait_until(lambda: sim.stats()["received"] >= 2, "the line moves")
    redis.child.kill()
    redis.child.wait()
    wait_until(lambda: mode(gateway) == "share", "it is missed")
    before = sim.stats()["received"]
    wait_until(lambda: sim.stats()["received"] >= before + 3, "the line moves without Redis")
    os.unlink(redis.path)
    again = start_redis(name=redis.name)
    for client in clients:
        client.join()
    assert [answer.status for answer in answers] == [200] * 10
    times = sorted(at for at, *_ in sim.arrivals())
    for window in (0.4, 1, 2, 4):
        assert most_in_window(times, window) <= 1 + 2 * window + 1 + 0.1, window
    at_rest([gateway], again, sim)
