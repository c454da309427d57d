"""Whatever valid configuration the program is given, and whatever callers, provider and Redis do then: it lives, answers each call once, with one outcome that is in the table and in time, gives
no caller what is another's and nothing cut as if it were whole, refuses for limits that there are, and is at rest afterwards as it was at its start.

Configurations, calls and faults are drawn (support/chance.py). SLUICE_SOAK=N has N rounds (`make soak`), else two; SLUICE_SEED=N has that one, which a run has printed."""

import collections
import concurrent.futures
import datetime
import json
import os
import random
import re
import subprocess
import time

import pytest

from support import chance as draw
from support import share
from support.client import answer_text, text_of
from support.crowd import crowd
from support.gateway import merge
from support.process import binary, cpu_seconds, free_port, promised, wait_until
from support.redis_faults import FAULTS
from support.refusals import ROWS, check_shape
from support.rest import at_rest
from support.sim import Sim

ROUNDS = int(os.environ.get("SLUICE_SOAK", "2"))
SEEDS = [int(os.environ["SLUICE_SEED"])] if "SLUICE_SEED" in os.environ else [random.SystemRandom().randrange(10**6) for _ in range(ROUNDS)]
SPAN = 5.0  # seconds in which calls begin
LOSSES = [fault for fault in FAULTS.values() for _ in range(2 if fault.gone else 1)]
LONGEST = draw.MAX_WAIT + 3 * draw.TOTAL  # a call, its fallbacks, and the waiting for them
NONCE = re.compile(rb"\bn-\d+\b(?=\.)")
NAMED = re.compile(r"The limit (\w+) of the (tenant|model|upstream) is (\d+)[.;]")
LINE = re.compile(r"Its line holds (\d+)\.")
IDENTICAL = "It was refused for an identical request."  # whose refusal names the limit
NO_UPSTREAMS = {"upstreams": {"openai": None, "gemini": None, "anthropic": None, "plain": None}}  # of the usual configuration
OUTCOMES = {*ROWS, "ok", "upstream_error"} - {"none", "internal"}
END = {"openai": b"data: [DONE]", "gemini": b"finishReason", "anthropic": b"message_stop"}


# ---- a round -----------------------------------------------------------------------------------------------------------------------------


def is_fine(gateway, config):
    """By `sluice check`, with the addresses that this gateway has."""
    path = gateway.folder / "drawn.yaml"
    path.write_text(json.dumps(config))
    done = subprocess.run([binary("sluice"), "check", path], capture_output=True, text=True)
    assert done.returncode == 0 and "fine" in done.stdout, (done.stdout, done.stderr, json.dumps(config))


def begin(start_gateway, chance, place, world, born, first):
    made = [start_gateway(place, world.url, merge(merge(NO_UPSTREAMS, first), born), name=f"sluice{i}", wait=False) for i in range(chance.choice((1, 1, 2)))]
    for gateway in made:
        gateway.wait_ready(gateway.ready)
    return made


def reload(gateways, configs):
    for gateway, config in zip(gateways, configs):
        gateway.config = config
        gateway.reload({})


def wait_for_reloads(gateways, count):
    """The moment at which the last of them was, on time.monotonic."""

    def reloads(gateway):
        lines = [line for line in gateway.log() if line["event"].startswith("reload")]
        assert all(line["event"] == "reload" for line in lines), lines
        return lines if len(lines) == count else None

    last = [wait_until(lambda: reloads(gateway), f"{gateway.name} is reloaded, {count}")[-1]["time"] for gateway in gateways]
    return datetime.datetime.fromisoformat(max(last).replace("Z", "+00:00")).timestamp() - time.time() + time.monotonic()


def drawn_calls(chance, before, after, turn, gateways):
    """In the order of their beginnings, some of them in bursts; those behind `turn` are drawn for the configuration that comes with it."""
    rate, bursts = chance.choice((40, 90, 150)), [chance.uniform(0, SPAN) for _ in range(3)]
    repeated = [draw.text(chance, n) for n in range(1000000, 1000006)]
    delays = sorted(min(SPAN, chance.choice(bursts) + chance.uniform(0, 0.1)) if chance.random() < 0.3 else chance.uniform(0, SPAN) for _ in range(int(rate * SPAN)))
    return [draw.call(chance, before if delay < turn else after, number, delay, chance.choice(gateways), repeated) for number, delay in enumerate(delays)]


def lose_redis(plan, world):
    for fault, before, during in plan:
        time.sleep(before)
        with fault.upon(world):
            time.sleep(during)


def drive(chance, world, calls, turn, reload_now):
    """All calls to their ends, and up to two faults of Redis meanwhile, one after the other; when the reload was asked for (time.monotonic)."""
    plan = [(chance.choice(LOSSES), chance.uniform(0.2, 1.0), chance.uniform(0.3, 2.2)) for _ in range(chance.choice((0, 1, 1, 2)))]
    print("faults:", [(fault.name, round(before, 2), round(during, 2)) for fault, before, during in plan])
    asked = []

    def during(now):
        if now >= turn and not asked:
            asked.append(time.monotonic())
            reload_now()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ends = pool.submit(crowd, calls, SPAN + LONGEST + promised(1), during)
        lose_redis(plan, world)  # here: what a thread starts ends with it
        ends.result()
    return asked[0]


# ---- what must hold ----------------------------------------------------------------------------------------------------------------------


def names_a_limit(call, line, message, configs):
    """What the refusal speaks of stands in one of these, where this call can have met it."""
    kind, scope, count = NAMED.search(message).groups()
    for config in configs:
        models = {call.name, line.get("model"), *config["models"].get(call.name, {}).get("fallback", ())}
        named = {"tenant": [config["tenants"].get(line["tenant"], {})], "model": [config["models"].get(name, {}) for name in models],
                 "upstream": [one for one in config["upstreams"].values() if one["dialect"] == call.dialect]}[scope]
        found = [one.get("limits", {}).get(kind) for one in named]
        depth = LINE.search(message)
        if any(limit is not None and int(count) == (limit["limit"] if isinstance(limit, dict) else limit) for limit in found) and (not depth or int(depth[1]) == config["queue"]["depth"]):
            return True
    return False


def check_refusal(call, line, configs):
    code = line["outcome"]
    message = check_shape(call.dialect, ROWS[code], call)
    if code in ("rate_limited", "too_many_at_once", "queue_full") and not (IDENTICAL in message and line.get("cache") == "collapsed"):
        assert NAMED.search(message) and names_a_limit(call, line, message, configs), message


def check_whole(call, line):
    """Of an answer that looks whole: it is, and all of it is this call's."""
    if call.dialect == "http":
        if "fault" not in call.words:
            assert call.nonce.encode() in call.body and call.json()["method"] == "POST"
        return
    assert not call.stream or END[call.dialect] in call.body or line["outcome"] == "upstream_error"
    if line["outcome"] == "ok":
        words = answer_text(call.dialect, call)
        count = len(words.split())
        assert words == text_of(call.nonce, count), words[:200]
        if call.words in draw.WELL and count:
            assert count == min(int(re.match(r"tokens=(\d+)", call.words)[1]), call.most or 10**6), (count, call.words, call.most)


def check_answer(call, line, configs):
    outcome = line["outcome"]
    assert outcome in OUTCOMES - {"client_gone"} and line["status"] == call.status
    if outcome in ROWS and call.status == ROWS[outcome].status:
        check_refusal(call, line, configs)
    elif call.status != 200:  # the provider's own
        assert call.status in draw.STATUSES and call.complete == (outcome == "upstream_error")
    elif call.complete and b'"error"' not in call.body:
        assert outcome == "ok"
        check_whole(call, line)
    else:  # who reads along does not look into what it passes on
        assert outcome != "ok" or (call.complete and line.get("cache") == "collapsed")


def check_time(call, line):
    """By the log; but a call that goes on for others when its own client was told that its deadline passed is told of at its end."""
    took = min(line["total_ms"] / 1000, call.seconds)
    assert took <= promised(LONGEST)
    if call.deadline:
        until_head = line.get("first_byte_ms", 0) / 1000 if line["status"] == 200 else took
        assert until_head <= call.deadline + promised(0.1)


def check(call, lines, configs):
    """I3, I4, I6 and G9 of one call."""
    assert call.error != "timeout"
    others = set(NONCE.findall(call.body)) - {call.nonce.encode()}
    assert not others, others
    if call.leaves_after is None or call.error != "left":
        assert call.status is not None and len(lines) == 1
        check_time(call, lines[0])
        check_answer(call, lines[0], configs)
    else:
        assert len(lines) <= 1 and all(line["outcome"] in OUTCOMES for line in lines)


def check_all(calls, gateways, asked, done, before, after):
    told = collections.defaultdict(list)
    for gateway in gateways:
        for line in gateway.log():
            if line["event"] == "request":
                told[line["id"]].append(line)
    for call in calls:
        configs = ([before] if call.began < done + promised(0.1) else []) + ([after] if call.ended > asked else [])
        try:
            check(call, told[call.id], configs)
        except Exception as error:
            raise AssertionError(f"{call!r}\nasked with {call.words!r}, deadline {call.deadline}, leaves {call.leaves_after}: {call.request[:2000]!r}\ntold: {told[call.id]}") from error
    assert not set(told) - {call.id for call in calls}
    return collections.Counter((line["outcome"], line["status"]) for lines in told.values() for line in lines)


def rests(gateways, sims, world):
    """And does not run about meanwhile."""
    at_rest(gateways, world.redis, sims[0])
    for sim in sims[1:]:
        wait_until(lambda: sim.stats()["in_flight"] == 0, "the simulators at rest")
    before = [cpu_seconds(gateway.pid) for gateway in gateways]
    time.sleep(0.5)
    busy = [cpu_seconds(gateway.pid) - spent for gateway, spent in zip(gateways, before)]
    assert max(busy) < 0.25, busy


@pytest.mark.parametrize("seed", SEEDS)
def test_any_configuration_under_any_faults(start, start_gateway, world, figures, seed):
    print(f"SLUICE_SEED={seed}")
    chance = random.Random(seed)
    sims = [start(Sim, "latency=5ms") for _ in range(2)]
    places, nowhere = [sim.url for sim in sims], f"http://127.0.0.1:{free_port()}"
    born, before, after = draw.birth(chance), draw.configuration(chance, places, nowhere), draw.configuration(chance, places, nowhere)
    gateways = begin(start_gateway, chance, places[0], world, born, before)
    firsts = [gateway.config for gateway in gateways]
    seconds = [merge({key: gateway.config[key] for key in ("listen", "admin", "redis")}, merge(after, born)) for gateway in gateways]
    for config in (firsts[0], seconds[0]):
        is_fine(gateways[0], config)
    turn = chance.uniform(1, 4)
    calls = drawn_calls(chance, before, after, turn, gateways)
    asked = drive(chance, world, calls, turn, lambda: reload(gateways, seconds))
    done = wait_for_reloads(gateways, 1)
    wait_until(lambda: all(share.mode(gateway) == "normal" for gateway in gateways), "all is normal again")
    reload(gateways, firsts)  # what was open at the start may be open at the end
    wait_for_reloads(gateways, 2)
    rests(gateways, sims, world)
    outcomes = check_all(calls, gateways, asked, done, before, after)
    assert sum(outcomes.values()) == sum(gateway.metric("sluice_requests_total") for gateway in gateways)
    assert [gateway.stop() for gateway in gateways] == [0] * len(gateways)
    print(dict(outcomes))
    figures("configurations by chance", calls=len(calls), answered=outcomes["ok", 200], outcomes=len(outcomes))
