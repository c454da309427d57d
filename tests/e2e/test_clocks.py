"""Somebody sets a wall clock while calls go on: a gateway's own is nothing to it, and Redis' costs no more than it was set."""

import datetime
import time

import pytest

from support import share
from support.clock import Clock
from support.rest import at_rest
from support.share import BURST, RATE
from support.sim import most_in_window


def told(gateway):
    """How many seconds the times in its log are apart."""
    times = [datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")) for line in gateway.log()]
    return (max(times) - min(times)).total_seconds()


PATIENT = {**share.CHANGES, "redis": {"timeout": "2s"}}  # Redis is well all the time, and a machine that is not must not look as if it were lost


def test_gateways_whose_clocks_are_set(start_gateway, start_load, sim, redis, folder):
    """By a minute, one ahead and one back, and again: no limit, no lease, no deadline is by them."""
    clocks = [Clock(folder, f"gateway{index}") for index in range(3)]
    gateways = [start_gateway(sim.url, redis.url, PATIENT, env=clock.env) for clock in clocks]
    share.all_known(gateways)
    run = share.offer(gateways, start_load, 3)
    time.sleep(0.5)
    for shift in (60, -60, 0):
        clocks[0].set(shift)
        clocks[1].set(-shift)
        time.sleep(0.6)
    report = run.report()
    assert set(status for status, count in report["by_status"].items() if count) == {"200", "429"}
    times = sorted(at for at, *_ in sim.arrivals())
    span = times[-1] - times[0] + 0.001
    for window in (0.2, 0.5, 1, 2, span):
        assert most_in_window(times, window) <= BURST + RATE * window + 0.1, window
    assert len(times) >= 0.9 * (BURST + RATE * span)
    assert all("redis_mode" not in gateway.stdout() for gateway in gateways)
    assert [told(gateway) > 100 for gateway in gateways] == [True, True, False]
    at_rest(gateways, redis, sim)
    assert share.charged(redis) == len(times)


@pytest.mark.parametrize("shift", [2, -2])
def test_a_redis_whose_clock_is_set(start_gateway, start_load, sim, start_redis, folder, shift):
    """Ahead it refills what the time that it skips is worth; back it admits nothing for that long, which is what it had said of a later time. Then all is as before."""
    clock = Clock(folder, "redis")
    redis = start_redis(env=clock.env)
    gateways = [start_gateway(sim.url, redis.url, PATIENT) for _ in range(3)]
    share.all_known(gateways)
    run = share.offer(gateways, start_load, 4.5)
    time.sleep(0.7)
    clock.set(shift)
    assert abs(int(redis.command("TIME")[0]) - time.time() - shift) <= 1
    report = run.report()
    assert set(status for status, count in report["by_status"].items() if count) == {"200", "429"}
    times = sorted(at for at, *_ in sim.arrivals())
    for window in (0.2, 0.5, 1, 2, times[-1] - times[0] + 0.001):
        assert most_in_window(times, window) <= BURST + max(0, shift) * RATE + RATE * window + 0.1, window
    assert sum(at > times[-1] - 1.5 for at in times) >= 0.9 * RATE * 1.5
    assert all("redis_mode" not in gateway.stdout() for gateway in gateways)
    at_rest(gateways, redis, sim)
