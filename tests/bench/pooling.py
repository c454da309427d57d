"""Pooling pays: what warm connections to a provider far away spare, beside clients that open one for each call; and what is spared by asking once.

    clients, a connection for each call ──TLS──► the link, 40 ms there and back ──► nginx, TLS ──► the simulated provider, 10 ms
    clients, kept connections ──► Sluice ──TLS──► the same link …

The link (tests/support/programs/latency_relay.c) delays each way by 20 ms and makes TCP's hand-shake a round trip. So a call of its own connection takes three round trips
over TLS 1.3, four over 1.2, and one through Sluice, where all but the first calls find a connection. The clients do what such clients do
(tests/bench/load_channel.h): each time they look the name up, shake hands and verify the certificate, and none resumes a session. Two things are in their favour: the name is looked up
on this machine, as if a resolver here had it stored (a real one takes a round trip when it has not), and the trusted certificates are read once.

What the ratio depends on: the provider's 10 ms are those of a short call (an embedding, a small classification). They count once on either side, so at 200 ms
there is less to gain: (40 + 200) / (120 + 200) = 0.75. Sluice stands beside its clients; one that is far away from them gains less, too.

The clients' rate is the highest that the machine reaches with them (a closed loop of as many as gain anything); there they wait for the machine, too, whose
cores shake hands for both sides. So the same is shown for a few calls a second, which wait for nothing but the link. Sluice gets either rate in an open loop,
whose latency counts from when a call was due.
"""

import concurrent.futures
import os
import pathlib
import statistics

import agents
import peers
from figures import checked
from support.client import request
from support.latency import LatencyRelay
from support.process import wait_until
from support.redis_server import RedisServer
from support.sim import Sim
from support.tls import Authority, NginxFront

ROUND_TRIP, SERVICE = 40, 10  # milliseconds
BEHAVIOUR = f"tokens=24 latency={SERVICE}ms"
CROWDS = (32, 64, 128, 256, 512)  # clients in a closed loop
FEW = 100  # calls a second
AT_ONCE = 100
VERSIONS = ("1.3", "1.2")
HELD = 50000  # requests a minute; one in fifty more are offered, because the last answer comes after the last call
TRACE, AGENTS = 1500, 24


class Far:
    """The provider behind the link, and Sluice with warm connections in front of it; ended in reverse."""

    def __init__(self, folder):
        self.folder, self.started = folder, []
        try:
            self.redis = self._start(RedisServer(folder, name="far-redis"))
            self.sim = self._start(Sim(folder, BEHAVIOUR, name="far-sim"))
            self.authority = Authority(folder, name="far-ca")
            key, certificate = self.authority.issue("far")
            front = self._start(NginxFront(folder, self.sim.port, key, certificate, name="far-tls", connections=8192, protocols="TLSv1.2 TLSv1.3"))
            self.link = self._start(LatencyRelay(folder, front.port, ROUND_TRIP))
            self.sluice = self.start_sluice("far-sluice")
            wait_until(lambda: self.pool()["active"] + self.pool()["idle"] >= AT_ONCE, "the pool is warm")
        except BaseException:
            self.stop()
            raise

    def _start(self, process):
        self.started.append(process)
        return process

    def start_sluice(self, name, changes=None):
        return self._start(peers.Sluice(self.folder, f"127.0.0.1:{self.link.port}", self.redis, name, ca=self.authority.certificate, changes=changes,
                                        pool={"min": AT_ONCE, "start": AT_ONCE, "max": AT_ONCE}))

    def pool(self):
        return request(f"{self.sluice.admin_url}/status").json()["upstreams"]["openai"]["pools"]["calls"]

    def stop(self):
        while self.started:
            self.started.pop().stop()

    # ---- the two ways ----

    def apart(self, body, connections, version="1.3", requests=None, rate=None, duration=None):
        """The clients are a process for each core: their hand-shakes are too much for one. Latencies of all of them together, and how long the slower one took."""
        parts = min(os.cpu_count(), connections, requests or connections)
        records = [f"{self.folder}/calls-{part}" for part in range(parts)]

        def one(part):
            return checked(f"https://localhost:{self.link.port}{peers.PATH}", connections=share(connections, part, parts), body=body, headers=peers.HEADERS,
                           requests=requests and share(requests, part, parts), rate=rate and rate / parts, duration=duration,
                           options=("--fresh", "--tls", version, "--ca", self.authority.certificate, "--record", records[part]))

        with concurrent.futures.ThreadPoolExecutor(parts) as processes:
            reports = list(processes.map(one, range(parts)))
        latencies = sorted(int(line.split()[1]) for record in records for line in pathlib.Path(record).read_text().splitlines())
        return {"seconds": max(report["seconds"] for report in reports),
                "latency_us": {"mean": statistics.mean(latencies), **{f"p{rank}": latencies[len(latencies) * rank // 100] for rank in (50, 95)}}}

    def pooled(self, body, **how):
        return checked(f"http://127.0.0.1:{self.sluice.port}{peers.PATH}", body=body, headers=peers.HEADERS, **how)


def share(count, part, parts):
    return count // parts + (part < count % parts)


def reach(count, report):
    """Calls a second of a closed loop, by Little's law: its beginning and its end count for nothing."""
    return count * 1e6 / report["latency_us"]["mean"]


def crowd(far, body, seconds):
    """As many clients as it takes for the highest rate, give or take a twentieth: more would only wait for one another. And what each crowd reached."""
    reached = {}
    for count in CROWDS:
        reached[count] = reach(count, far.apart(body, count, duration=seconds))
        if reached[count] < 0.9 * max(reached.values()):
            break
    return next(count for count, rate in reached.items() if rate >= 0.95 * max(reached.values())), reached


def side_by_side(far, body, seconds, count, rate=None):
    """`count` clients, at that rate or the highest that they reach; then Sluice at the same."""
    apart = {version: far.apart(body, count, version, rate=rate, duration=seconds) for version in VERSIONS}
    rate = rate or max(reach(count, report) for report in apart.values())
    pooled = far.pooled(body, connections=512, rate=rate, duration=seconds)
    return {"rate": rate, "pooled": pooled["latency_us"], **{version: report["latency_us"] for version, report in apart.items()}}


def round_of(far, body, count, seconds):
    before = far.pool()
    many, few = side_by_side(far, body, seconds, count), side_by_side(far, body, seconds / 2, 512, FEW)
    burst = [(far.apart(body, AT_ONCE, requests=AT_ONCE)["seconds"], far.pooled(body, connections=AT_ONCE, requests=AT_ONCE)["seconds"])
             for _ in range(3)]
    opened, reused = (far.pool()[what] - before[what] for what in ("opened", "reused"))
    return {"many": many, "few": few, "reused": reused / (reused + opened),
            "burst_apart": statistics.median(one for one, _ in burst), "burst_pooled": statistics.median(two for _, two in burst),
            "burst": statistics.median(two / one for one, two in burst)}


def play(sluice, made):
    """All calls, in order, AGENTS at a time."""

    def one(call):
        answer = request(f"http://127.0.0.1:{sluice.port}{call.path}", body=call.body, headers=peers.HEADERS)
        if answer.status != 200 or not answer.complete:
            raise RuntimeError(f"the trace: {answer}")
        return answer

    with concurrent.futures.ThreadPoolExecutor(AGENTS) as crew:
        answers = list(crew.map(one, made))
    for call, answer in zip(made, answers):
        told = answer.headers.get("Cache-Status", "")
        if not call.shareable and ("hit" in told or "collapsed" in told):
            raise RuntimeError(f"the trace: what may not be shared was: {told}")


def spared(far, seed=20):
    """What the provider received of a trace, and what it costs: each call for itself, and with cache and coalescing."""
    made = agents.calls(TRACE, seed)
    again, shareable = agents.repeats(made)
    found = {"calls": len(made), "again": again, "shareable": shareable}
    never = {"when": "never"}
    for name, changes in (("each", {"cache": never, "coalesce": never}), ("shared", None)):
        sluice = far.start_sluice(f"far-{name}", changes)
        far.sim.reset()
        play(sluice, made)
        received = [call for call in far.sim.calls() if call["model"] in agents.PRICES]
        found[name] = {"calls": len(received), "cost": agents.cost(received)}
        sluice.stop()
    if found["each"]["calls"] != len(made):
        raise RuntimeError(f"the trace: {len(made)} calls, of which the provider received {found['each']['calls']} with nothing shared")
    return found


def measure(folder, body, rounds, seconds, say):
    far = Far(folder)
    try:
        say("how many clients there are to be")
        count, reached = crowd(far, body, seconds / 2)
        measured = []
        for number in range(rounds):
            say(f"far away, round {number + 1} of {rounds}")
            measured.append(round_of(far, body, count, seconds))
        say(f"{HELD} requests a minute")
        held = far.pooled(body, connections=512, rate=1.02 * HELD / 60, duration=7 * seconds)
        say("the trace")
        return {"clients": count, "reached": reached, "rounds": measured, "held": held, "trace": spared(far)}
    finally:
        far.stop()


def report(table, found):
    rounds, held, traced = found["rounds"], found["held"], found["trace"]

    def median_of(what, figure, unit, target=None, **bounds):
        values = [figure(one) for one in rounds]
        table.add(what, statistics.median(values), unit, target, values, **bounds)

    print(f"\n  a provider {ROUND_TRIP} ms away that takes {SERVICE} ms, over TLS. Clients that open a connection for each call: "
          + ", ".join(f"{count} reach {rate:.0f}/s" for count, rate in found["reached"].items()))
    for which, title in (("many", f"calls of {found['clients']} clients, and through Sluice"), ("few", "calls of few clients, and through Sluice")):
        median_of(title, lambda one: one[which]["rate"], "/s")
        for name, title in (*((version, f"a connection a call, TLS {version}") for version in VERSIONS), ("pooled", "through Sluice")):
            for percentile in ("p50", "p95"):
                median_of(f"  {title}, {percentile}", lambda one: one[which][name][percentile] / 1e3, "ms")
        for version in VERSIONS:
            median_of(f"  p95 through Sluice over theirs, TLS {version}", lambda one: one[which]["pooled"]["p95"] / one[which][version]["p95"], "×", 0.45)
    median_of("calls through Sluice on a connection kept", lambda one: 100 * one["reused"], "%", at_least=98)
    median_of(f"{AT_ONCE} calls at once, a connection each", lambda one: 1e3 * one["burst_apart"], "ms")
    median_of(f"{AT_ONCE} calls at once, through Sluice", lambda one: 1e3 * one["burst_pooled"], "ms")
    median_of("  the one over the other", lambda one: one["burst"], "×", 0.5)
    table.add("requests a minute held through Sluice", 60 * held["rate"], "", at_least=HELD)
    table.add("  the same, p95", held["latency_us"]["p95"] / 1e3, "ms")
    print(f"  a trace of {traced['calls']} calls by {AGENTS} agents at a time: {traced['again'] / traced['calls']:.0%} repeat an earlier one (assumed), "
          f"{traced['shareable'] / traced['calls']:.0%}, that is {traced['shareable']} calls, may be given its answer\n"
          f"    the provider received {traced['each']['calls']} calls for ${traced['each']['cost']:.4f}; with cache and coalescing "
          f"{traced['shared']['calls']} for ${traced['shared']['cost']:.4f}")
    table.add("calls of the trace, over those with nothing shared", traced["shared"]["calls"] / traced["each"]["calls"], "×", 0.75)
    table.add("cost of the trace, over that with nothing shared", traced["shared"]["cost"] / traced["each"]["cost"], "×", 0.75)
