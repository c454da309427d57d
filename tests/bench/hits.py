"""What a request costs whose answer is stored: out of the worker's own copies, and out of Redis; beside nginx, which asks the provider each time."""

import json
import statistics

import peers
from figures import cpu, drive
from support.process import wait_until

MANY = 64
KEYS = 20000  # of Redis' hits: each request asks for another, so that none is answered by its neighbour's look-up


def body(words):
    """2 KiB at temperature 0; {{n}} becomes a number."""
    return json.dumps({"model": peers.MODEL, "temperature": 0, "messages": [{"role": "user", "content": words + "x" * (1960 - len(words))}]})


SAME, EACH = body("the same"), body("number {{n}} ")


class Hits:
    def __init__(self, folder, upstream, redis, nginx):
        self.redis, self.nginx = redis, nginx
        self.local = peers.Sluice(folder, upstream, redis, "hits-local")
        self.stored = peers.Sluice(folder, upstream, redis, "hits-redis", changes={"cache": {"local": 0}})
        drive(self.stored.port, MANY, None, EACH, requests=KEYS)
        drive(self.local.port, 1, 0.3, SAME)
        wait_until(lambda: int(redis.command("EVAL", "local n = 0 for _, k in ipairs(redis.call('KEYS', 'sluice:*:v')) do n = n + 1 end return n", 0)) > KEYS,
                   "all answers are stored")

    def round(self, seconds):
        """{what: µs of CPU a request}, and how often Redis' scripts were called a request."""
        found = {}
        found["nginx"] = self._cost(self.nginx.port, self.nginx.processes(), SAME, seconds=seconds)
        for name, peer, text, how in (("local", self.local, SAME, {"seconds": seconds}), ("redis", self.stored, EACH, {"requests": KEYS})):
            self.redis.command("CONFIG", "RESETSTAT")
            found[name] = self._cost(peer.port, peer.processes(), text, **how)
            found[f"{name}_calls"] = self._calls() / self.done
        return found

    def _cost(self, port, pids, text, seconds=None, requests=None):
        before = cpu(pids)
        self.done = drive(port, MANY, seconds, text, requests=requests)["completed"]
        return (cpu(pids) - before) / self.done

    def _calls(self):
        stats = self.redis.info("commandstats")
        return int(stats["cmdstat_evalsha"].split("calls=")[1].split(",")[0]) if "cmdstat_evalsha" in stats else 0

    def stop(self):
        self.local.stop()
        self.stored.stop()


def report(table, rounds):
    for name, title, target in (("local", "a hit of the worker's own, CPU over nginx's", 1.5), ("redis", "a hit of Redis, CPU over nginx's", 2)):
        ratios = [one[name] / one["nginx"] for one in rounds]
        table.add(title, statistics.median(ratios), "×", target, ratios)
        table.add("  the same", statistics.median(one[name] for one in rounds), "µs", None, [one[name] for one in rounds])
        table.add("  script calls", statistics.median(one[f"{name}_calls"] for one in rounds), "", 0.01 if name == "local" else 1.01)
