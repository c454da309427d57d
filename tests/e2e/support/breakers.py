"""The fleet's breakers as a test sees them: what Redis counts, what each instance thinks and says, and when the provider was called."""

import datetime
import time

from .gateway import CREDENTIALS
from .process import wait_until

CLOSED, HALF_OPEN, OPEN = 0, 1, 2  # as sluice_breaker_state tells them


def ruled(rule, upstreams=tuple(CREDENTIALS), retry=None, **more):
    """A change of the configuration: this rule at these upstreams; none makes a call again, so that a failure is one call, unless `retry` says how."""
    return {"upstreams": {name: {"breaker": rule, "retry": retry or {"attempts": 1}, **more} for name in upstreams}}


def state(gateway, upstream="openai"):
    return gateway.metric("sluice_breaker_state", upstream=upstream)


def wait_for_state(gateways, wanted, upstream="openai"):
    for gateway in gateways:
        wait_until(lambda: state(gateway, upstream) == wanted, f"{gateway.name}'s breaker of {upstream} is in state {wanted}")


def opening(gateway, upstream="openai"):
    """The line that tells of its first opening, which is awaited."""
    return wait_until(lambda: changes(gateway, "open", upstream), f"{gateway.name}'s breaker of {upstream} opens")[0]


def trips(gateways, **labels):
    return sum(gateway.metric("sluice_breaker_opened_total", **labels) for gateway in gateways)


def attempts(gateways, **labels):
    return sum(gateway.metric("sluice_attempts_total", **labels) for gateway in gateways)


def changes(gateway, to=None, upstream="openai"):
    """The lines that tell of a change, oldest first; `at` is their Unix time in seconds."""
    lines = [line for line in gateway.log() if line["event"] == "breaker" and line["name"].startswith(upstream + " ") and to in (None, line["to"])]
    return [{**line, "at": datetime.datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()} for line in lines]


def record(redis, upstream="openai", model=None):
    """What Redis holds of the breaker; {} when nothing."""
    for key in redis.keys(f"sluice:{{b:{upstream} *}}:s"):
        if len(key.split(" ")) == (2 if model is None else 3) and (model is None or key.endswith(f" {model}}}:s")):
            words = redis.command("HGETALL", key)
            return dict(zip(words[::2], words[1::2]))
    return {}


def counts(redis, upstream="openai", model=None):
    """(calls, failed, first bytes, slow) of all its slices, also of those that the window has left."""
    slices = [value.split(" ")[1:] for field, value in record(redis, upstream, model).items() if field.isdigit()]
    return tuple(sum(int(part) for part in column) for column in zip(*slices)) or (0, 0, 0, 0)


def wait_for_counts(redis, calls, failed, upstream="openai", model=None):
    """Until so many have been told of; more than that fails. A call that fails behind a good head is one first, and failed later."""
    wait_until(lambda: counts(redis, upstream, model)[0] >= calls and counts(redis, upstream, model)[1] >= failed,
               f"{upstream} has {calls} calls and {failed} failed, and not {counts(redis, upstream, model)}")
    found = counts(redis, upstream, model)
    assert found[:2] == (calls, failed), found


def open_until(redis, upstream="openai"):
    """The Unix time, in seconds, at which it is half open."""
    return int(record(redis, upstream)["until"]) / 1e6


def epoch(redis, upstream="openai"):
    """The Unix time, in seconds, of the last change."""
    return int(record(redis, upstream)["epoch"]) / 1e6


def came(call):
    """The Unix time, in seconds, at which the simulator got it."""
    return call["unix_us"] / 1e6


def ended(call, now=None):
    return came(call) + (call["ended_us"] - call["at_us"]) / 1e6 if call["ended_us"] else now or time.time()


def most_at_once(calls, end_of=ended):
    """The largest number of these calls that the simulator had at one time."""
    steps = sorted([(came(call), 1) for call in calls] + [(end_of(call), -1) for call in calls])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def stretches(calls, min_calls=20, rate=0.5, window=10.0):
    """[(from, to)] in which, over the calls that had ended in the last `window` seconds, at least `min_calls` were and more than `rate` of them had failed; by
    the ends of calls alone, so the last one lasts to the last end."""
    order = sorted((ended(call), call["status"] >= 500) for call in calls if call["ended_us"])
    found, first, failed, begin = [], 0, 0, None
    for number, (at, bad) in enumerate(order):
        failed += bad
        while order[first][0] <= at - window:
            failed -= order[first][1]
            first += 1
        total = number + 1 - first
        over = total >= min_calls and failed > rate * total
        if over and begin is None:
            begin = at
        elif not over and begin is not None:
            found.append((begin, at))
            begin = None
    return found + ([(begin, order[-1][0])] if begin is not None else [])
