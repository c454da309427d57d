"""Redis is lost a second time, or while something else happens: a reload, a stopped instance, calls of very different costs. What support/share.py asks for holds all
the same."""

import contextlib
import signal
import time

import pytest

from support import share
from support.gateway import merge
from support.process import LONG, promised, wait_until
from support.redis_faults import FAULTS, World
from support.rest import at_rest
from support.share import BURST, RATE, mode
from support.sim import most_in_window

LIFE = 3  # seconds that an instance is believed to live after it was last heard


def all_are(gateways, what):
    wait_until(lambda: all(mode(gateway) == what for gateway in gateways), what, interval=0.002)


@contextlib.contextmanager
def again(upon, world, gateways, lasting):
    """The fault for the second time, as soon as all is normal after the first, which lasted so long."""
    with upon(world):
        all_are(gateways, "share")
        time.sleep(lasting)
    all_are(gateways, "normal")
    with upon(world):
        yield


@pytest.mark.parametrize("round", range(share.ROUNDS))
@pytest.mark.parametrize("fault", [FAULTS[name] for name in (("stalled", "killed") if LONG else ("stalled",))], ids=lambda fault: fault.name)
def test_a_second_loss_after_a_long_one(start_fleet, start_load, sim, world, figures, fault, round):
    """By its return Redis has forgotten who lives, and it is lost again before all have been heard: each goes on with its part, and not with more."""
    gateways = start_fleet()
    course, report = share.drive(gateways, again(fault.upon, world, gateways, LIFE + 0.5), gateways, start_load, during=2.5, longer=LIFE + 1)
    times = sorted(at for at, *_ in sim.arrivals())
    assert report["by_status"]["200"] == len(times)
    second = [at for at in times if course.applied < at < course.over]
    for window in (0.2, 1, 2, 2.5):
        assert most_in_window(second, window) <= BURST + RATE * window + 0.1, window
    for window in (1, 3, 5, times[-1] - times[0] + 0.001):
        assert most_in_window(times, window) <= 3 * BURST + RATE * window + 0.1, window
    for gateway in gateways:
        share.nobody_waits(gateway, course)
        share.least_of_shares(gateway, 6, course)
    assert course.normal - course.over <= promised(1)
    share.all_known(gateways)
    at_rest(gateways, world.redis, sim)
    missing = len(times) - share.charged(world.redis)
    assert 0 <= missing <= (len(times) if fault.forgets else 0)
    figures(f"second loss, {fault.name}", normal_after_ms=(course.normal - course.over) * 1000, admitted=len(times), of_at_most=3 * BURST + RATE * (times[-1] - times[0]),
            in_the_second=len(second), of_its_quota=RATE * (course.over - course.applied), not_charged=missing)


@pytest.mark.parametrize("round", range(share.ROUNDS))
def test_an_instance_is_stopped_while_alone(start_fleet, start_load, sim, world, figures, round):
    """It wakes up when Redis has been back for longer than it was believed to live: what it had admitted by itself is charged then, once."""
    gateways = start_fleet()
    sleeper, others = gateways[2], gateways[:2]
    course = share.Course()
    load = [share.offer([gateway], start_load, 8, rate=share.OFFERED / 3) for gateway in gateways]
    time.sleep(share.BEFORE)
    with FAULTS["stalled"].upon(world):
        all_are(gateways, "share")
        wait_until(lambda: share.local([sleeper]) >= 3, "it admits by itself")
        sleeper.signal(signal.SIGSTOP)
        time.sleep(0.3)
    over = course.now()
    all_are(others, "normal")
    back = course.now() - over
    wait_until(lambda: all(gateway.status()["redis"]["live_workers"] == 4 for gateway in others), "it is believed dead")
    sleeper.signal(signal.SIGCONT)
    share.all_known(gateways)
    all_are(gateways, "normal")
    reports = [run.report() for run in load]
    times = sorted(at for at, *_ in sim.arrivals())
    assert sum(report["by_status"]["200"] for report in reports) == len(times)
    for window in (0.5, 1, 2, 4, times[-1] - times[0] + 0.001):
        # the sleeper's share besides: what it admits before it knows that the others have all again
        assert most_in_window(times, window) <= (2 + 1 / 3) * BURST + RATE * window + 0.2, window
    assert len(times) >= 0.8 * (BURST + RATE * (times[-1] - times[0]))
    assert back <= promised(1)
    at_rest(gateways, world.redis, sim)
    assert share.charged(world.redis) == len(times)
    figures("stopped while alone", others_normal_after_ms=back * 1000, admitted=len(times), of_at_most=(2 + 1 / 3) * BURST + RATE * (times[-1] - times[0]))


def test_a_reload_while_redis_is_away(start_gateway, sim, redis, start_redis):
    """Limits and on_failure are what the new configuration says, at once; and Redis learns of the calls that both let pass."""
    few = {"rpm": {"limit": 60, "burst": 4}, "rpd": share.LIMITS["rpd"]}
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "50ms"}, "workers": 2, "tenants": {"acme": {"limits": few}}})
    ask = lambda: gateway.ask("openai", "[[sim tokens=1]]").status
    assert ask() == 200
    world = World(redis, None, start_redis)
    with FAULTS["killed"].upon(world):
        wait_until(lambda: ask() == 429 and mode(gateway) == "share", "its share is used up")
        gateway.reload({"tenants": {"acme": {"limits": {"rpm": {"limit": 60000, "burst": 2000}}}}})
        wait_until(lambda: [ask() for _ in range(20)] == [200] * 20, "there is more of it")
        gateway.reload({"redis": {"on_failure": "closed"}})
        wait_until(lambda: ask() == 503, "it is closed")
        assert gateway.status()["redis"]["mode"] == "closed"
        before = sim.stats()["received"]
        assert [ask() for _ in range(5)] == [503] * 5 and sim.stats()["received"] == before
        gateway.reload({"redis": {"on_failure": "open"}, "tenants": {"acme": {"limits": {"rpm": {"limit": 60, "burst": 4}}}}})
        wait_until(lambda: ask() == 200, "it is open")
        assert [ask() for _ in range(20)] == [200] * 20  # more than any limit has
        gateway.reload({"redis": {"on_failure": "share"}})
        wait_until(lambda: ask() == 429, "its share again")
    wait_until(lambda: mode(gateway) == "normal", "normal service")
    changes = [line for line in gateway.log() if line["event"] == "redis_mode"]
    assert [line["mode"] for line in changes if line.get("reason") == "reload"] == ["closed", "open", "share"]
    assert changes[-1]["mode"] == "normal"
    at_rest([gateway], world.redis, sim)
    assert "reload_refused" not in gateway.stdout()


TOKENS, TOKENS_BURST = 300, 1800  # of the quota, a second


@pytest.mark.parametrize("round", range(share.ROUNDS))
@pytest.mark.parametrize("fault", [FAULTS[name] for name in (("stalled", "killed") if LONG else ("killed",))], ids=lambda fault: fault.name)
def test_calls_of_very_different_costs(start_fleet, start_load, sim, world, figures, fault, round):
    """From a few tokens to most of what a worker's part of the burst holds, beside one another, and the answers come to less than was reserved."""
    limits = {"tpm": {"limit": TOKENS * 60, "burst": TOKENS_BURST}, "tpd": {"limit": share.LEDGER, "burst": 10**7}}
    gateways = start_fleet(merge(share.CHANGES, {"tenants": {"acme": {"limits": {**limits, "rpm": None, "rpd": None}}}}))
    loads = [share.offer(gateways, start_load, share.BEFORE + 2.5 + share.AFTER, text=f"[[sim tokens={most * 2 // 3}]]", rate=30, max_tokens=most) for most in (3, 30)]
    course, report = share.drive(gateways, fault.upon(world), gateways, start_load, during=2.5, text="[[sim tokens=160]]", rate=30, max_tokens=240)
    reports = [report, *(run.report() for run in loads)]
    arrivals = sorted((at, tokens_in + tokens_out) for at, _, tokens_in, tokens_out, _ in sim.arrivals())
    assert sum(one["by_status"]["200"] for one in reports) == len(arrivals)
    at_rest(gateways, world.redis, sim)
    used = sum(tokens for _, tokens in arrivals)
    span = arrivals[-1][0] - arrivals[0][0]
    without = sum(tokens for at, tokens in arrivals if course.applied < at < course.over)
    assert used <= 2 * TOKENS_BURST + TOKENS * span
    assert without <= TOKENS_BURST + TOKENS * (course.over - course.applied)
    assert used >= 0.8 * (TOKENS_BURST + TOKENS * span) and without >= 0.5 * TOKENS * (course.over - course.applied)
    missing = used - share.charged(world.redis, "tpd")
    before = sum(tokens for at, tokens in arrivals if at < course.began + 0.1)
    assert 0 <= missing <= (before if fault.forgets else 0)
    assert course.normal - course.over <= promised(1)
    for gateway in gateways:
        share.nobody_waits(gateway, course)
    figures(f"mixed costs, {fault.name}", normal_after_ms=(course.normal - course.over) * 1000, tokens=used, of_at_most=2 * TOKENS_BURST + TOKENS * span, without_Redis=without,
            of_its_quota=TOKENS * (course.over - course.applied), not_charged=missing)
