"""A fleet in `share`: the load on it while Redis is lost, and what must hold of what the provider received meanwhile: it stays within quota + one burst per loss, and is
all that this allows; nobody waits for Redis, all is as before within a second of its return, and what was served is charged, once.

SLUICE_SOAK=N runs each fault N times, ten at most (`make soak`); SLUICE_LONG=1 holds the promised times, and each fault lasts five seconds."""

import collections
import datetime
import os
import time
import typing

from .client import headers_for, prompt
from .gateway import KEY
from .process import LONG, promised, wait_until
from .rest import at_rest
from .sim import most_in_window

ROUNDS = min(int(os.environ.get("SLUICE_SOAK", "1")), 10)
WORKERS = 2  # of each instance
RATE, BURST = 10, 30  # of the quota, a second
OFFERED = 90
BEFORE, DURING, AFTER = 0.7, 5 if LONG else 1.2, 1.3
TIMEOUT = 0.05
LEDGER = 100  # a day, with a burst that nothing fills: what was charged stands in it, for nothing of it drains
LIMITS = {"rpm": {"limit": RATE * 60, "burst": BURST}, "rpd": {"limit": LEDGER, "burst": 100000}}
CHANGES = {"redis": {"timeout": f"{TIMEOUT * 1000:g}ms"}, "workers": WORKERS, "tenants": {"acme": {"limits": LIMITS}}}


def charged(server, limit="rpd"):
    """What the tenant's ledger says was admitted."""
    tat = server.command("HGET", "sluice:{t:acme}:q", limit)
    seconds, micros = server.command("TIME")
    return 0 if tat is None else round((int(tat) - int(seconds) * 10**6 - int(micros)) * LEDGER / 86400e6)


def mode(gateway):
    """Of all its workers, from where nobody waits for Redis."""
    without = [int(value) for (name, _), value in gateway.metrics().items() if name == "sluice_redis_mode"]
    return {0: "normal", 1: "share"}.get(without[0]) if len(set(without)) == 1 else "mixed"


def all_known(gateways):
    wait_until(lambda: all(gateway.status()["redis"]["live_workers"] == WORKERS * len(gateways) for gateway in gateways), "all know how many they are")


def local(gateways):
    return sum(gateway.status()["quota"]["local_admitted"] for gateway in gateways)


class Course:
    """What happened when; seconds of the clock that the simulator stamps arrivals with, and what separates it from the log's."""

    def __init__(self):
        self.unix = time.time() - self.now()
        self.began = self.applied = self.over = self.normal = None

    @staticmethod
    def now():
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def offer(gateways, start_load, duration, text="[[sim tokens=1]]", rate=OFFERED, **more):
    return start_load([gateway.url + "/v1/chat/completions" for gateway in gateways], connections=48, rate=rate, duration=duration, body=prompt("openai", text, **more)[1],
                      headers={**headers_for("openai", KEY), "Content-Type": "application/json"})


def drive(gateways, fault, away, start_load, during=DURING, longer=0, **more):
    """Load, and the fault in the midst of it, until all is normal again; `away`: those who must say that they are without Redis; `longer`: what it takes to begin.
    Its course, the load's report."""
    course = Course()
    run = offer(gateways, start_load, BEFORE + longer + during + AFTER, **more)
    time.sleep(BEFORE)
    with fault:
        course.began = course.now()
        if away:
            wait_until(lambda: all(mode(gateway) == "share" for gateway in away), "the mode applies", interval=0.002)
            course.applied = course.now()
        time.sleep(max(0, during - (course.now() - course.began)))
        course.over = course.now()
    wait_until(lambda: all(mode(gateway) == "normal" for gateway in gateways), "normal service", interval=0.002)
    course.normal = course.now()
    return course, run.report()


class Asked(typing.NamedTuple):
    """One request of a gateway's log: when it began, in which worker, how long it waited for Redis, what it was answered, and how long it took."""

    at: float
    worker: str
    waited_ms: float
    status: int
    total_ms: float


def asked(gateway, course):
    """The first one first."""
    found = []
    for line in gateway.log():
        if line.get("event") == "request":
            end = datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() - course.unix
            found.append(Asked(end - line["total_ms"] / 1000, line["id"].split(".")[-2], line.get("quota_ms", 0) + line.get("cache_ms", 0), line["status"], line["total_ms"]))
    return sorted(found)


def nobody_waits(gateway, course):
    """G7: 100 ms after the first call in each worker that Redis did not answer well, until it is back, no request waits for it; who did would wait all of its time."""
    first = {}
    for one in asked(gateway, course):
        if course.began < one.at < course.over:
            after = one.at - first.setdefault(one.worker, one.at)
            assert after <= promised(0.1) + 0.005 or one.waited_ms < 0.8 * TIMEOUT * 1000, (gateway.name, after, one)
    assert first, gateway.name


def least_of_shares(gateway, workers, course):
    """Each of its workers admits without Redis what a bucket of its part would, that is empty at first and asked at the same times; but for what may be under way, and a tenth."""
    part, level, since, filled, admitted = RATE / workers, collections.Counter(), {}, collections.Counter(), collections.Counter()
    for one in asked(gateway, course):
        if course.applied < one.at < course.over:
            level[one.worker] = min(BURST / workers, level[one.worker] + part * (one.at - since.get(one.worker, course.applied)))
            since[one.worker] = one.at
            fits = level[one.worker] >= 1
            level[one.worker] -= fits
            filled[one.worker] += fits
            admitted[one.worker] += one.status == 200
    for worker, least in filled.items():
        assert admitted[worker] >= 0.9 * least - 1, (gateway.name, worker, admitted[worker], least)


def within(times, course, burst=BURST, rate=RATE, extra=BURST):
    """I2: in any window burst + rate, and `extra` in those that have the loss or the return in them. With Redis no less than nine tenths of it."""
    span = times[-1] - times[0] + 0.001
    before = [at for at in times if at < course.began]
    without = [at for at in times if course.applied and course.applied < at < course.over]
    after = [at for at in times if at > course.normal]
    for some, allowed in ((times, burst + extra), (before, burst), (without, burst), (after, burst)):
        for window in (0.2, 0.5, 1, 2, 3, span):
            most = most_in_window(some, window)
            assert most <= allowed + rate * window + rate * 0.02, (window, most, allowed, len(times))
    assert len(before) >= 0.9 * (BURST + RATE * (course.began - times[0])) - 1, (len(before), course.began - times[0])
    assert len(after) >= 0.9 * RATE * (times[-1] - course.normal) - 1, (len(after), times[-1] - course.normal)
    if course.applied is None:
        assert len(times) >= 0.9 * (BURST + RATE * span), (len(times), span)


def judge(gateways, sim, course, report, away, burst=BURST, rate=RATE, extra=BURST):
    """I2, I6, G7 and G9; and the figures, in milliseconds where they are times. `away`: those who were without Redis."""
    times = sorted(at for at, *_ in sim.arrivals())
    statuses = {status: count for status, count in report["by_status"].items() if count}
    assert set(statuses) <= {"200", "429"}, (statuses, report["errors"])
    assert statuses["200"] == len(times)
    try:
        within(times, course, burst, rate, extra)
    except AssertionError:
        print("without Redis:", local(gateways), [changes_of(gateway) for gateway in gateways])
        raise
    for gateway in away:
        nobody_waits(gateway, course)
        least_of_shares(gateway, WORKERS * len(gateways), course)
    everyone = [one for gateway in gateways for one in asked(gateway, course)]
    longest, slowest = max(one.waited_ms for one in everyone), max(one.total_ms for one in everyone)
    assert longest <= promised(TIMEOUT + 0.03) * 1000, longest
    assert slowest <= promised(TIMEOUT + 0.2) * 1000, slowest  # the provider answers in 20 ms
    figures = {"normal after ms": (course.normal - course.over) * 1000, "admitted": len(times), "of at most": burst + extra + rate * (times[-1] - times[0]),
               "without Redis": local(gateways), "longest wait ms": longest, "slowest ms": slowest}
    assert course.normal - course.over <= promised(1.0), figures
    return {**({"mode after ms": (course.applied - course.began) * 1000} if course.applied else {}), **figures}


def exactly_charged(server, sim, course, forgets):
    """I1: what the simulator served, each once; but what Redis forgot, which is no more than what was served before, or was on its way."""
    served = len(sim.arrivals())
    missing = served - charged(server)
    known_before = sum(at < course.began + 0.1 for at, *_ in sim.arrivals())
    assert 0 <= missing <= (known_before if forgets else 0), (missing, served, known_before)
    return missing


def changes_of(gateway):
    return [line["mode"] for line in gateway.log() if line.get("event") == "redis_mode"]


def three_instances_lose(fault, gateways, world, sim, start_load, figures):
    away = gateways if fault.gone else []
    course, report = drive(gateways, fault.upon(world), away, start_load)
    times_lost = max(len(changes_of(gateway)) // 2 for gateway in gateways)
    for gateway in gateways:
        changes = changes_of(gateway)
        assert changes == ["share", "normal"] * (len(changes) // 2) and len(changes) >= 2 * fault.gone, changes
        assert gateway.metric("sluice_redis_mode") == 0
        lines = [line["event"] for line in gateway.log() if line.get("event") in ("redis_up", "redis_down")]
        assert len(lines) <= 60, lines  # of six connections; what comes and goes is not told each time
    # A machine with other work may keep an answer back for so long that it is a loss of its own: one, and it counts.
    unmeant = 0 if fault.flickers else max(0, times_lost - fault.gone)
    assert unmeant <= 1, times_lost
    numbers = judge(gateways, sim, course, report, away, burst=BURST * (1 + unmeant), extra=BURST * fault.losses)
    if fault.gone:
        assert course.applied - course.began <= promised(1.2)  # an idle worker misses its first answer at its next census; then 100 ms
    at_rest(gateways, world.redis, sim)
    figures(fault.name, **numbers, not_charged=exactly_charged(world.redis, sim, course, fault.forgets))
