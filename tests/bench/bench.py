"""Measures Sluice beside nginx and HAProxy: the same simulated provider, the same load, in turn, several rounds, medians.

    bench.py BUILD [--quick] [--rounds N] [--streams N] [--json FILE]

These machines are noisy: only what one run shows side by side counts, and CPU per request (from the kernel's own accounting of each process) is
steadier than throughput. Sluice runs with its quotas on: tenant (requests and tokens), model and upstream limits, so two script calls a request. Fair to
nginx: one worker, 64 connections kept to the upstream, access log on. Beside each figure stands its target; nothing fails by timing.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

KEY = "key-of-the-bench"
TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # microseconds


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--quick", action="store_true", help="one short round, few streams")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--streams", type=int)
    parser.add_argument("--json", type=pathlib.Path)
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 5)
    given.seconds = 2 if given.quick else 4
    given.streams = given.streams or (300 if given.quick else 5000)
    return given


GIVEN = arguments()
os.environ["SLUICE_BUILD"] = GIVEN.build

from support import load  # noqa: E402
from support.client import request  # noqa: E402
from support.process import Process, free_port, wait_until  # noqa: E402
from support.redis_server import RedisServer  # noqa: E402
from support.sim import Sim  # noqa: E402
from support.tls import Authority, NginxFront  # noqa: E402

HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 1950}]})


# ---- the peers ------------------------------------------------------------------------------------------------------------------


def accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Nginx(Process):
    def __init__(self, folder, upstream):
        self.port = free_port()
        path = pathlib.Path(folder) / "nginx.conf"
        temporary = "".join(f"{kind}_temp_path {folder}/nginx-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        path.write_text(f"""worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 20000; }}
http {{ access_log {folder}/nginx.log; {temporary}
upstream up {{ server {upstream}; keepalive 64; }}
server {{ listen 127.0.0.1:{self.port}; location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
""")
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        super().__init__([program, "-e", f"{folder}/nginx.err", "-p", folder, "-c", path], folder, "nginx")
        self.wait_ready(lambda: accepts(self.port))

    def processes(self):
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [self.pid, *map(int, children)]


class HAProxy(Process):
    def __init__(self, folder, upstream):
        self.port = free_port()
        path = pathlib.Path(folder) / "haproxy.cfg"
        path.write_text(f"""global
    maxconn 4000
    nbthread 1
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    http-reuse always
listen door
    bind 127.0.0.1:{self.port}
    server up {upstream} pool-max-conn 64
""")
        super().__init__([shutil.which("haproxy") or "/usr/sbin/haproxy", "-db", "-f", path], folder, "haproxy")
        self.wait_ready(lambda: accepts(self.port))

    def processes(self):
        return [self.pid]


class Sluice(Process):
    def __init__(self, folder, upstream, redis, name="sluice", ca=None, streams=100):
        self.port, self.admin = free_port(), free_port()
        much = {"limit": "100M", "burst": "10M"}
        endpoint = f"https://localhost:{upstream.split(':')[1]}" if ca else f"http://{upstream}"
        openai = {"dialect": "openai", "default": True, "endpoints": [{"url": endpoint}], "limits": {"rpm": much},
                  "credential": {"header": "Authorization", "value": "Bearer upstream"},
                  "pool": {"min": 4, "start": 4, "max": 100, "streams": streams, "http": "1.1"}, **({"ca_file": str(ca)} if ca else {})}
        config = {"listen": f"127.0.0.1:{self.port}", "admin": f"127.0.0.1:{self.admin}", "workers": 1,
                  # A machine that is busy with other things may keep Redis waiting; a run of refusals would measure nothing.
                  "redis": {"url": redis.url, "timeout": "1s"},
                  "upstreams": {"openai": openai}, "models": {"gpt-4o-mini": {"targets": [{"upstream": "openai"}], "limits": {"rpm": much}}},
                  "tenants": {"bench": {"keys": [KEY], "limits": {"rpm": much, "tpm": {"limit": "1000G", "burst": "100G"}}}},
                  "drain": {"wait": "0s", "deadline": "5s"}}
        path = pathlib.Path(folder) / f"{name}.yaml"
        path.write_text(json.dumps(config))
        super().__init__([pathlib.Path(GIVEN.build) / "sluice", "serve", "-c", path], folder, name)
        self.wait_ready(lambda: accepts(self.admin) and request(f"http://127.0.0.1:{self.admin}/readyz").status == 200)

    def processes(self):
        return [self.pid]


# ---- figures --------------------------------------------------------------------------------------------------------------------


def cpu(pids):
    """Microseconds of CPU that these processes have used, user and system."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) * TICK
    return total


def memory(pid):
    """Resident KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def own_memory(pid):
    """KiB of it, with what is shared with other processes divided among them."""
    with open(f"/proc/{pid}/smaps_rollup") as maps:
        return next(int(line.split()[1]) for line in maps if line.startswith("Pss:"))


def drive(port, connections, seconds):
    return load.run(f"http://127.0.0.1:{port}{PATH}", connections=connections, duration=seconds, body=BODY, headers=HEADERS)


def measure(name, port, pids, redis, seconds):
    before, redis_before = cpu(pids), cpu([redis.pid])
    report = drive(port, 64, seconds)
    done = report["completed"]
    used, redis_used = cpu(pids) - before, cpu([redis.pid]) - redis_before
    if report["by_status"] != {"200": done}:
        raise RuntimeError(f"{name}: {report['by_status']} {report['errors']}")
    one = drive(port, 1, max(1, seconds / 2))
    return {"cpu_us": used / done, "redis_us": redis_used / done, "rate": report["rate"], "p50_64": report["latency_us"]["p50"],
            "p99_64": report["latency_us"]["p99"], "p50_1": one["latency_us"]["p50"], "p99_1": one["latency_us"]["p99"]}


def medians(rounds):
    return {name: {figure: statistics.median(one[name][figure] for one in rounds) for figure in rounds[0][name]} for name in rounds[0]}


def calls_per_request(redis, port):
    redis.command("CONFIG", "RESETSTAT")
    report = drive(port, 16, 1)
    calls = sum(int(value.split("calls=")[1].split(",")[0]) for name, value in redis.info("commandstats").items() if name.startswith("cmdstat_evalsha"))
    return calls / report["completed"]


def per_stream(folder, sim, redis, count, authority=None):
    """KiB of resident memory that an open stream costs, and of the idle process."""
    front, ca = f"127.0.0.1:{sim.port}", None
    if authority is not None:
        key, pem = authority.issue("bench")
        tls = NginxFront(folder, sim.port, key, pem, http2=False, name="tls")
        front, ca = f"127.0.0.1:{tls.port}", authority.certificate
    sluice = Sluice(folder, front, redis, "streams-tls" if ca else "streams", ca, streams=count)
    try:
        drive(sluice.port, 8, 1)
        idle = memory(sluice.pid)
        body = json.dumps({"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "[[sim tokens=100000 rate=1]]"}]})
        clients = load.Load(folder, f"http://127.0.0.1:{sluice.port}{PATH}", name="streams-load", connections=count, duration=60, body=body, headers=HEADERS)
        page = f"http://127.0.0.1:{sluice.admin}/metrics"

        def streaming():
            return f'sluice_in_flight{{stage="stream"}} {count}\n' in request(page).text

        try:
            wait_until(streaming, f"{count} streams", deadline=50, interval=0.2)
            return (memory(sluice.pid) - idle) / count, idle
        finally:
            clients.child.terminate()
            clients.wait(30)
    finally:
        sluice.stop()
        if authority is not None:
            tls.stop()


# ---- the table -------------------------------------------------------------------------------------------------------------------


def progress(what):
    """What goes on now, on a terminal alone; the next line takes its place."""
    if sys.stdout.isatty():
        print(f"\r{what:<60}\r", end="", flush=True)


def show(what, value, unit, target=None, least=False):
    met = "" if target is None else "   met" if (value >= target if least else value <= target) else "   NOT met"
    wanted = "" if target is None else f"   target {'≥' if least else '≤'} {target:g} {unit}"
    print(f"  {what:<52} {value:>10.1f} {unit:<6}{wanted}{met}")


def print_peers(figures):
    print(f"\n  {'':<10}{'CPU µs/request':>16}{'requests/s':>12}{'p50 µs, 64':>12}{'p99 µs, 64':>12}{'p50 µs, 1':>12}{'p99 µs, 1':>12}")
    for name, f in figures.items():
        print(f"  {name:<10}{f['cpu_us']:>16.1f}{f['rate']:>12.0f}{f['p50_64']:>12.0f}{f['p99_64']:>12.0f}{f['p50_1']:>12.0f}{f['p99_1']:>12.0f}")
    print()


def part(program, pattern, *arguments):
    """What a part's own bench says in the first group of `pattern`: microseconds."""
    done = subprocess.run([pathlib.Path(GIVEN.build) / "tests/bench" / program, *arguments], stdout=subprocess.PIPE, text=True, timeout=600, check=True)
    found = re.search(pattern, done.stdout, re.M)
    if found is None:
        raise RuntimeError(f"{program} says nothing like {pattern}:\n{done.stdout}")
    return [float(figure) for figure in found.groups()]


def layers(whole):
    """Microseconds of the gateway's own CPU a request, by layer: each part alone, by its own bench, in the same shape as the whole's load. Alone, a part
    has the caches for itself: the rest is the flow's own work and what the parts cost each other."""
    calls = "5000" if GIVEN.quick else "20000"
    question, answer = part("bench_json", r"^chat, one long message +\d+ bytes +([\d.]+) us(?:.|\n)*^a plain answer +\d+ bytes +([\d.]+) us")
    script, = part("bench_limiter", r"^tenant: rpm tpm; model, upstream: rpm; refund +[\d.]+ +([\d.]+)", calls)
    budget = {"HTTP with the client: svc/http, llhttp": part("bench_http", r"^64 at once.* server +([\d.]+)", calls)[0],
              "question and answer: lib/json_scan": question + answer,
              "two script calls: lib/limiter, lib/redis": 2 * script,
              "HTTP with the upstream: lib/pool, libcurl": part("bench_pool", r"^64 at once.* pool +([\d.]+)", calls, "pool")[0]}
    budget["flow, fields, counters, log line: the rest"] = whole - sum(budget.values())
    progress("")
    print("\n  Budget: µs of CPU a request, by layer (each part alone, at 64 at once)")
    for layer, spent in [*budget.items(), ("the whole, as measured above", whole)]:
        print(f"  {layer:<52} {spent:>10.1f} µs {100 * spent / whole:>7.0f} %")
    return budget


def enough_descriptors(streams):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    most = (hard - 500) // 2
    if streams > most:
        print(f"only {most} streams: the process may open {hard} files")
    return min(streams, most)


def main():
    GIVEN.streams = enough_descriptors(GIVEN.streams)
    folder = tempfile.mkdtemp(prefix="sluice-bench-")
    started = []
    result = {}
    try:
        redis = RedisServer(folder)
        sim = Sim(folder, "tokens=55")
        upstream = f"127.0.0.1:{sim.port}"
        peers = {"nginx": Nginx(folder, upstream), "haproxy": HAProxy(folder, upstream), "sluice": Sluice(folder, upstream, redis)}
        started = [redis, sim, *peers.values()]
        result["idle_kib"], result["idle_pss_kib"] = memory(peers["sluice"].pid), own_memory(peers["sluice"].pid)
        rounds = []
        for number in range(GIVEN.rounds):
            progress(f"round {number + 1} of {GIVEN.rounds}")
            one = {"direct": measure("direct", sim.port, [sim.pid], redis, GIVEN.seconds)}
            one.update({name: measure(name, peer.port, peer.processes(), redis, GIVEN.seconds) for name, peer in peers.items()})
            rounds.append(one)
        result["peers"] = figures = medians(rounds)
        result["redis_calls"] = calls_per_request(redis, peers["sluice"].port)
        progress("")
        print(f"{len(BODY)} bytes up, about 1 KB down; medians of {GIVEN.rounds} round{'s' * (GIVEN.rounds > 1)} of {GIVEN.seconds} s")
        print_peers(figures)
        show("Sluice's CPU over nginx's", figures["sluice"]["cpu_us"] / figures["nginx"]["cpu_us"], "×", 3)
        show("added latency at one connection, p50", figures["sluice"]["p50_1"] - figures["direct"]["p50_1"], "µs")
        show("added latency at one connection, p99", figures["sluice"]["p99_1"] - figures["direct"]["p99_1"], "µs", 1000)
        show("script calls a request", result["redis_calls"], "")
        show("Redis' own CPU a request", figures["sluice"]["redis_us"], "µs")
        show("idle memory, no TLS upstream", result["idle_kib"] / 1024, "MiB", 16)
        show("of it, shared libraries divided among their users", result["idle_pss_kib"] / 1024, "MiB")
        for process in peers.values():
            process.stop()
        progress(f"opening {GIVEN.streams} streams")
        result["stream_kib"], _ = per_stream(folder, sim, redis, GIVEN.streams)
        show(f"memory of an open stream, of {GIVEN.streams}, plain", result["stream_kib"], "KiB", 48)
        result["stream_tls_kib"], _ = per_stream(folder, sim, redis, GIVEN.streams, Authority(folder))
        show(f"memory of an open stream, of {GIVEN.streams}, TLS upstream", result["stream_tls_kib"], "KiB", 112)
        progress("measuring the parts")
        result["layers_us"] = layers(figures["sluice"]["cpu_us"])
        if GIVEN.json:
            GIVEN.json.write_text(json.dumps(result, indent=1) + "\n")
    finally:
        for process in reversed(started):
            process.stop()
        shutil.rmtree(folder, ignore_errors=True)


began = time.monotonic()
main()
print(f"\n{time.monotonic() - began:.0f} s")
