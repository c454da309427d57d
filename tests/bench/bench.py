"""Measures Sluice beside nginx and HAProxy: the same simulated provider, the same load, in turn, several rounds, medians.

    bench.py BUILD [--quick] [--only PART] [--rounds N] [--seconds N] [--streams N] [--before PROGRAM] [--json FILE]

Parts: `peers` (beside nginx and HAProxy; what is stored; the layers; streams), `pooling` (pooling.py: beside clients that open a connection for each call).

These machines are noisy: only what one run shows side by side counts, so ratios and differences are taken within a round, and CPU per request (the
kernel's own account of each process) is steadier than throughput. Each round begins with another of them. Beside each figure stands its target. No
figure fails the bench; an answer other than 200, or a stream that does not open, does.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import sys
import tempfile
import time

PARTS = ("peers", "pooling")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true", help="one short round, 1000 streams, no budget per layer")
    parser.add_argument("--only", choices=PARTS, metavar="PART", help=f"one part of {', '.join(PARTS)}; default: all of them")
    parser.add_argument("--rounds", type=int, help="default 5; quick: 1")
    parser.add_argument("--seconds", type=float, help="of load for each in each round; default 4, quick: 2")
    parser.add_argument("--streams", type=int, help="open at once; default 5000, quick: 1000")
    parser.add_argument("--before", type=pathlib.Path, metavar="PROGRAM", help="a sluice of an earlier build, measured in the same rounds")
    parser.add_argument("--json", type=pathlib.Path, help="writes all figures to this file")
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 5)
    given.seconds = given.seconds or (2 if given.quick else 4)
    given.streams = given.streams or (1000 if given.quick else 5000)
    return given


GIVEN = arguments()
os.environ["SLUICE_BUILD"] = GIVEN.build

import hits  # noqa: E402
import layers  # noqa: E402
import peers  # noqa: E402
import pooling  # noqa: E402
from figures import Table, cpu, drive, machine, memory  # noqa: E402
from support import load  # noqa: E402
from support.process import wait_until  # noqa: E402
from support.redis_server import RedisServer  # noqa: E402
from support.sim import Sim  # noqa: E402
from support.tls import Authority, NginxFront  # noqa: E402

BODY = json.dumps({"model": peers.MODEL, "messages": [{"role": "user", "content": "x" * 1977}]})  # 2 KiB
ANSWER = "tokens=24"  # 1 KiB
STREAM = json.dumps({"model": peers.MODEL, "stream": True, "messages": [{"role": "user", "content": "[[sim tokens=100000 rate=1]]"}]})
MANY = 64


# ---- rounds ------------------------------------------------------------------------------------------------------------------------


def measure(port, pids, others):
    """One peer in one round; `others` are processes whose CPU is told apart: {name: pid}."""
    apart = {name: cpu([pid]) for name, pid in others.items()}
    before = cpu(pids)
    many = drive(port, MANY, GIVEN.seconds, BODY)
    done = many["completed"]
    figures = {"cpu_us": (cpu(pids) - before) / done, **{f"{name}_us": (cpu([pid]) - apart[name]) / done for name, pid in others.items()}}
    one = drive(port, 1, max(GIVEN.seconds / 2, 0.2), BODY)
    for connections, report in ((MANY, many), (1, one)):
        for percentile in ("p50", "p99"):
            figures[f"{percentile}_{connections}"] = report["latency_us"][percentile]
    return {**figures, "rate": many["rate"], "down": many["body_bytes"] / done}


def run_rounds(targets, others):
    """[{name: figures}]; targets: {name: (port, its processes)}. The first to go changes from round to round."""
    names = list(targets)
    for port, _ in targets.values():
        drive(port, MANY, 0.3, BODY)
    rounds = []
    for number in range(GIVEN.rounds):
        say(f"round {number + 1} of {GIVEN.rounds}")
        order = names[number % len(names):] + names[:number % len(names)]
        rounds.append({name: measure(*targets[name], others) for name in order})
    for one in rounds:
        for name in names:
            for figure in ("p50_1", "p99_1", f"p50_{MANY}", f"p99_{MANY}"):
                one[name][f"added_{figure}"] = one[name][figure] - one["direct"][figure]
            one[name]["over_nginx"] = one[name]["cpu_us"] / one["nginx"]["cpu_us"]
        if "before" in one:
            one["sluice"]["over_before"] = one["sluice"]["cpu_us"] / one["before"]["cpu_us"]
    return rounds


def medians(rounds, names):
    return {name: {figure: statistics.median(one[name][figure] for one in rounds) for figure in rounds[0][name]} for name in names}


def redis_calls(redis, port):
    """{command: calls a request}; Redis counts what scripts call, too."""
    redis.command("CONFIG", "RESETSTAT")
    done = drive(port, 16, 1, BODY)["completed"]
    calls = {name[8:]: int(value.split("calls=")[1].split(",")[0]) / done for name, value in redis.info("commandstats").items()
             if name.startswith("cmdstat_")}
    return {name: count for name, count in calls.items() if count >= 0.005}  # not what this program and timers asked


# ---- streams -----------------------------------------------------------------------------------------------------------------------


def per_stream(folder, sim, redis, count, authority=None):
    """(KiB of resident memory, µs of CPU) that an open stream costs. They are opened one after the other: a burst of TLS handshakes is another matter."""
    name, rate = ("streams-tls", 100) if authority else ("streams", 1000)
    upstream, ca, front = f"127.0.0.1:{sim.port}", None, None
    if authority is not None:
        key, certificate = authority.issue("bench")
        front = NginxFront(folder, sim.port, key, certificate, name="tls", connections=4 * count + 512)
        upstream, ca = f"127.0.0.1:{front.port}", authority.certificate
    try:
        sluice = peers.Sluice(folder, upstream, redis, name, ca, streams=count)
        try:
            drive(sluice.port, 8, 1, BODY)
            idle, before = memory(sluice.pid), cpu([sluice.pid])
            clients = load.Load(folder, f"http://127.0.0.1:{sluice.port}{peers.PATH}", name=f"{name}-load", connections=count,
                                requests=count, rate=rate, body=STREAM, headers=peers.HEADERS, options=("--timeout", 900))
            try:
                wait_until(lambda: sluice.streaming() == count or not clients.alive(), f"{count} open streams", deadline=60 + 4 * count / rate,
                           interval=0.2)
                if clients.alive():
                    return (memory(sluice.pid) - idle) / count, (cpu([sluice.pid]) - before) / count
            except TimeoutError:
                pass
            finally:
                open_now = sluice.streaming() if sluice.alive() else 0
                clients.stop()
            told = json.loads(clients.stdout())
            raise RuntimeError(f"{open_now} of {count} streams are open ({name}): answers {told['by_status']}, errors {told['errors']}")
        finally:
            sluice.stop()
    finally:
        if front is not None:
            front.stop()


def enough_descriptors():
    """Each stream is two descriptors of one process: of Sluice, and of nginx in front of TLS."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = (hard - 500) // 2
    if GIVEN.streams > most:
        print(f"only {most} streams instead of {GIVEN.streams}: a process may open {hard} files")
        GIVEN.streams = most


# ---- the tables --------------------------------------------------------------------------------------------------------------------


def say(text):
    """On the terminal only, until the next line stands there."""
    if sys.stderr.isatty():
        print(f"{text:<60}", end="\r", file=sys.stderr, flush=True)


COLUMNS = (("CPU µs/req", "cpu_us"), ("simulator", "sim_us"), ("Redis", "redis_us"), ("requests/s", "rate"), ("p50, 1", "p50_1"), ("p99, 1", "p99_1"),
           ("p50, 64", f"p50_{MANY}"), ("p99, 64", f"p99_{MANY}"))


def print_peers(figures):
    added = [(f"+{title}", f"added_{figure}") for title, figure in COLUMNS[4:]]
    for title, columns in (("", COLUMNS), ("added, µs", added)):
        print(f"\n  {title:<10}" + "".join(f"{name:>12}" for name, _ in columns))
        for name, found in figures.items():
            if title == "" or name != "direct":
                print(f"  {name:<10}" + "".join(f"{found[figure]:>12.1f}" for _, figure in columns))
    print()


def report_rounds(table, rounds, names, calls, idle):
    sluice = [one["sluice"] for one in rounds]

    def median_of(what, figure, unit, target=None):
        values = [one[figure] for one in sluice]
        table.add(what, statistics.median(values), unit, target, values)

    median_of("CPU a request over nginx's", "over_nginx", "×", 3)
    if GIVEN.before:
        median_of("CPU a request over the build before's", "over_before", "×", 1.05)
    for connections in (1, MANY):
        median_of(f"added latency, {connections} connection{'s' * (connections > 1)}, p50", f"added_p50_{connections}", "µs")
        median_of(f"added latency, {connections} connection{'s' * (connections > 1)}, p99", f"added_p99_{connections}", "µs",
                  1000 if connections == 1 else None)
    median_of("Redis' own CPU a request", "redis_us", "µs")
    table.add("script calls a request", calls.get("evalsha", 0), "")
    inner = {name: count for name, count in calls.items() if name != "evalsha"}
    table.add("commands inside the scripts a request", sum(inner.values()), "")
    print("    " + ", ".join(f"{name} {count:.1f}" for name, count in sorted(inner.items(), key=lambda pair: -pair[1])))
    table.add("idle memory, no TLS upstream", idle / 1024, "MiB", 16)


def run_peers(folder, table, result):
    started = []

    def start(process):
        started.append(process)
        return process

    try:
        redis = start(RedisServer(folder))
        sim = start(Sim(folder, ANSWER))
        upstream = f"127.0.0.1:{sim.port}"
        three = {"nginx": start(peers.Nginx(folder, upstream)), "haproxy": start(peers.HAProxy(folder, upstream)),
                 "sluice": start(peers.Sluice(folder, upstream, redis))}
        if GIVEN.before:
            three["before"] = start(peers.Sluice(folder, upstream, redis, "before", program=GIVEN.before))
        idle = memory(three["sluice"].pid)
        targets = {"direct": (sim.port, [sim.pid]), **{name: (peer.port, peer.processes()) for name, peer in three.items()}}
        busy, ours = machine(), our_cpu(started)
        rounds = run_rounds(targets, {"sim": sim.pid, "redis": redis.pid})
        strangers = 1 - (our_cpu(started) - ours) / max(machine()[0] - busy[0], 1)
        result.update(rounds=rounds, medians=medians(rounds, list(targets)), strangers=strangers,
                      redis_calls=redis_calls(redis, three["sluice"].port))
        figures = result["medians"]
        print(f"{len(BODY)} bytes up, {figures['direct']['down']:.0f} down, {MANY} connections; medians of {GIVEN.rounds} rounds of {GIVEN.seconds:g} s; "
              f"{max(strangers, 0):.0%} of the CPU used meanwhile was other work's")
        print_peers(figures)
        report_rounds(table, rounds, list(targets), result["redis_calls"], idle)
        say("what is stored")
        stored = hits.Hits(folder, upstream, redis, three["nginx"])
        try:
            result["hits"] = [stored.round(GIVEN.seconds) for _ in range(GIVEN.rounds)]
        finally:
            stored.stop()
        hits.report(table, result["hits"])
        for peer in three.values():
            peer.stop()
        if not GIVEN.quick:
            say("the layers")
            whole, nginx = figures["sluice"]["cpu_us"], figures["nginx"]["cpu_us"]
            rows, redis_us = layers.measure(folder, BODY, whole)
            result["layers"] = {"rows": rows, "redis_us": redis_us}
        for title, target, authority in (("plain", 48, None), ("TLS upstream", 112, Authority(folder))):
            say(f"opening {GIVEN.streams} streams, {title}")
            kib, opening_us = per_stream(folder, sim, redis, GIVEN.streams, authority)
            table.add(f"an open stream, of {GIVEN.streams}, {title}", kib, "KiB", target)
            table.add(f"CPU to open it, {title}", opening_us, "µs")
        if not GIVEN.quick:
            layers.show(rows, redis_us, whole, nginx)
    finally:
        for process in reversed(started):
            process.stop()


def run_pooling(folder, table, result):
    result["pooling"] = pooling.measure(folder, BODY, GIVEN.rounds, GIVEN.seconds / 3, say)
    pooling.report(table, result["pooling"])


def our_cpu(started):
    """Of everything that this bench runs: the processes that live, the loads that have ended, and itself."""
    pids = [pid for process in started for pid in (process.processes() if hasattr(process, "processes") else [process.pid])]
    ended, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    return cpu(pids) + sum(usage.ru_utime + usage.ru_stime for usage in (ended, own)) * 1e6


def main():
    enough_descriptors()
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="sluice-bench-")
    table, result = Table(), {"rounds_of_seconds": GIVEN.seconds, "streams": GIVEN.streams, "body_bytes": len(BODY)}
    error = None
    try:
        if GIVEN.only != "pooling":
            run_peers(folder, table, result)
        if GIVEN.only != "peers":
            run_pooling(folder, table, result)
    except (OSError, RuntimeError) as failure:  # TimeoutError is an OSError
        error = result["error"] = f"{type(failure).__name__}: {failure}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["figures"] = table.rows
    if GIVEN.json:
        GIVEN.json.write_text(json.dumps(result, indent=1))
    missed = [row["what"] for row in table.rows if row["met"] is False]
    judged = sum(row["met"] is not None for row in table.rows)
    print(f"\n{judged - len(missed)} of {judged} targets met{': not ' if missed else ''}{'; '.join(missed)}. {time.monotonic() - began:.0f} s")
    if error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)


main()
