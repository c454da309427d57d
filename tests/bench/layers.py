"""Where Sluice's CPU goes: each part alone, by its own bench, and what is left of the whole.

The parts run in programs of their own, each with an event loop of its own, so their sum counts the loop more than once: what is left for the rest
is rather too small than too large.
"""

import re
import statistics
import subprocess

import peers
from figures import cpu, drive
from support.process import Process, binary

RUNS = 3


class HttpEcho(Process):
    """svc/http alone: it reads the request, hashes the body and answers some 150 bytes."""

    def __init__(self, folder):
        super().__init__([binary("tests/http-echo"), "127.0.0.1:0"], folder, "http-echo")
        self.wait_ready(lambda: self.stdout().endswith("\n"))
        self.port = int(self.stdout().strip().rsplit(":", 1)[1])


def http(folder, body):
    echo = HttpEcho(folder)
    try:
        drive(echo.port, 64, 0.3, body)
        before = cpu([echo.pid])
        report = drive(echo.port, 64, 1, body)
        return (cpu([echo.pid]) - before) / report["completed"]
    finally:
        echo.stop()


def said(name, *arguments):
    """What a part's bench prints."""
    done = subprocess.run([binary(f"tests/bench/{name}"), *arguments], stdout=subprocess.PIPE, text=True, timeout=300, check=True)
    return done.stdout


def number(text, pattern):
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no line like {pattern!r} in what a part's bench printed:\n{text}")
    return [float(group) for group in found.groups()]


def scanner():
    return number(said("bench_json"), r"^chat, one long message .* bytes +([\d.]+) us")[0]


def limiter():
    """(Redis' CPU, ours) for the two calls of one request, admit and settle."""
    redis_us, own_us = number(said("bench_limiter", "5000"), r"^three buckets and a lease, used as reserved +([\d.]+) +([\d.]+)")
    return 2 * redis_us, 2 * own_us


def pool():
    return number(said("bench_pool", "10000", "pool"), r"^64 at once.*pool +([\d.]+)")[0]


def measure(folder, body, whole):
    """[(layer, µs of CPU a request, what was measured)], and Redis' share, which is no part of the sum."""
    pairs = [limiter() for _ in range(RUNS)]
    rows = [
        ("svc/http", statistics.median(http(folder, body) for _ in range(RUNS)), "http-echo under the same load, 0.2 KB down"),
        ("lib/json_scan", statistics.median(scanner() for _ in range(RUNS)), "one chat request of 2 KB"),
        ("lib/limiter, lib/redis", statistics.median(own for _, own in pairs), "admit and settle, three scopes, 64 at once"),
        ("lib/pool", statistics.median(pool() for _ in range(RUNS)), "2 KB up, 1 KB down, 64 at once; libcurl included"),
    ]
    rows.append(("the rest", whole - sum(row[1] for row in rows), "flow, dialect, header fields, estimate, access log"))
    return rows, statistics.median(server for server, _ in pairs)


def show(rows, redis_us, whole, nginx):
    print(f"\n  {'budget per layer':<26}{'µs/request':>12}{'share':>8}   measured as")
    for layer, spent, how in rows:
        print(f"  {layer:<26}{spent:>12.1f}{100 * spent / whole:>7.0f}%   {how}")
    print(f"  {'Sluice, whole':<26}{whole:>12.1f}{100:>7.0f}%   the rounds above")
    print(f"  {'nginx, whole':<26}{nginx:>12.1f}{100 * nginx / whole:>7.0f}%   the rounds above")
    print(f"  {'Redis, apart':<26}{redis_us:>12.1f}{'':>8}   its own CPU for the limiter's two calls, alone")
