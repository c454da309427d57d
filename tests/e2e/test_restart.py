"""Restarts that nobody notices: SIGTERM, drain, and a fleet behind HAProxy that is restarted one by one under load."""

import http.client
import pathlib
import signal
import threading
import time

import pytest

from support import load
from support.client import headers_for, prompt, request
from support.gateway import KEY
from support.process import LONG, Process, free_port, program, wait_until
from support.rest import at_rest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_what_can_end_ends_and_what_cannot_is_told(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"drain": {"wait": "300ms", "deadline": "2s"}})
    short = gateway.open_stream("openai", "[[sim tokens=20 rate=20]]")
    long = gateway.open_stream("anthropic", "[[sim tokens=10000 rate=20]]")
    assert short.read_event() and long.read_event()
    gateway.signal(signal.SIGTERM)
    wait_until(lambda: request(f"{gateway.url}/readyz").status == 503, "not ready at once")
    assert request(f"{gateway.admin_url}/readyz").text == "draining\n"
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200  # still accepted while load balancers look away
    assert short.read_all().rstrip().endswith(b"[DONE]")
    events = []
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        while event := long.read_event():
            events.append(event)
    assert events[-1].startswith(b"event: error") and b"draining" in events[-1]
    assert gateway.wait(10) == 0
    assert not redis.command("ZRANGE", "sluice:{t:acme}:l", 0, -1)
    short.leave()
    long.leave()


def test_an_idle_instance_leaves_at_once(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"drain": {"wait": "60s", "deadline": "90s"}})
    gateway.signal(signal.SIGINT)  # at a terminal nobody waits for load balancers
    assert gateway.wait(10) == 0


def test_drain_by_the_admin_plane(gateway):
    assert request(f"{gateway.admin_url}/drain", method="POST", body=b"").status == 202
    assert gateway.wait(10) == 0


class HAProxy(Process):
    """In front of the fleet, as docker/haproxy.cfg has it."""

    def __init__(self, folder, ports, name="haproxy"):
        self.port = free_port()
        servers = "".join(f"    server s{i} 127.0.0.1:{port} check inter 100ms fall 1 rise 1\n" for i, port in enumerate(ports))
        path = pathlib.Path(folder) / "haproxy.cfg"
        path.write_text(f"global\n    maxconn 4000\ndefaults\n    mode http\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n"
                        f"    option redispatch 1\n    retries 3\n    retry-on conn-failure empty-response\n"
                        f"listen fleet\n    bind 127.0.0.1:{self.port}\n    balance leastconn\n    option httpchk\n"
                        f"    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host sluice\n    http-check expect status 200\n{servers}")
        super().__init__([program("haproxy"), "-db", "-f", path], folder, name)
        self.url = f"http://127.0.0.1:{self.port}"
        self.wait_ready(self._answers)

    def _answers(self):
        try:
            return request(f"{self.url}/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False


def test_rolling_restarts_under_load(start, start_gateway, sim, redis):
    changes = {"drain": {"wait": "500ms", "deadline": "20s"}}
    gateways = [start_gateway(sim.url, redis.url, changes) for _ in range(3)]
    front = start(HAProxy, [g.port for g in gateways])
    restarts, stop, outcomes = (20 if LONG else 4), threading.Event(), []

    def drive(text, stream):
        path, body = prompt("openai", text, stream)
        while not stop.is_set():
            outcomes.append(load.run(front.url + path, connections=8, duration=1, body=body,
                                     headers={**headers_for("openai", KEY), "Content-Type": "application/json"}))

    drivers = [threading.Thread(target=drive, args=("[[sim tokens=5 latency=5ms]]", False)),
               threading.Thread(target=drive, args=("[[sim tokens=20 rate=100]]", True))]
    for driver in drivers:
        driver.start()
    try:
        for i in range(restarts):
            old = gateways[i % 3]
            old.signal(signal.SIGTERM)
            assert old.wait(30) == 0
            new = restart(old)
            gateways[i % 3] = new
            wait_until(new.ready, "the new one is ready")
            time.sleep(0.3)  # three of HAProxy's checks
    finally:
        stop.set()
        for driver in drivers:
            driver.join()
        for gateway in gateways:
            gateway.child.terminate()
    total = sum(o["requests"] for o in outcomes)
    failed = sum(o["requests"] - o["by_status"].get("200", 0) for o in outcomes)
    errors = [o["errors"] for o in outcomes if any(o["errors"].values())]
    assert total > 100 * restarts / 4 and failed == 0, (total, failed, errors, [o["by_status"] for o in outcomes])
    for gateway in gateways:
        assert gateway.wait(30) == 0


def restart(old):
    """The same configuration and the same port, in a new process."""
    new = object.__new__(type(old))
    new.__dict__.update(old.__dict__)
    Process.__init__(new, old.arguments, old.folder, old.name + "r")
    return new


def test_reload(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"rph": {"limit": 2, "burst": 2}}}}})
    with gateway.open_stream("openai", "[[sim tokens=60 rate=30]]") as stream:
        assert stream.read_event()
        assert [gateway.ask("openai", "[[sim tokens=1]]").status for _ in range(2)] == [200, 429]
        gateway.reload({"tenants": {"acme": {"limits": {"rph": None, "rpm": 1000}}}, "upstreams": {"openai": {"pool": {"max": 7}}}})
        wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]").status == 200, "the new limit")
        assert stream.read_all().rstrip().endswith(b"[DONE]")  # under the old one to its end
    for count, broken in enumerate(('{"listen": ', "", "#"), 1):
        gateway.config_path.write_text(broken)
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: sum("before it stays" in line.get("message", "") for line in gateway.log()) == count, "it is refused")
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
    gateway.reload({"workers": 2})
    wait_until(lambda: any("workers: from 1 to 2: needs a restart" in line.get("message", "") for line in gateway.log()), "it says why")
    gateway.reload({"workers": 1, "tenants": {"acme": None, "other": {"keys": ["another-key-of-tests"]}}})
    wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]").status == 401, "the key is gone")
    assert gateway.ask("openai", "[[sim tokens=1]]", key="another-key-of-tests").status == 200
    at_rest([gateway], redis, sim)


def test_counters_survive_replaced_pools(start_gateway, sim, redis):
    def counted(gateway):
        return [gateway.metric(f"sluice_pool_{name}_total", upstream="openai") for name in ("opened", "reused")]

    def limits(gateway):
        return {dict(labels)["upstream"]: value for (name, labels), value in gateway.metrics().items()
                if name == "sluice_pool_limit" and dict(labels)["pool"] == "calls"}

    gateway = start_gateway(sim.url, redis.url)
    assert {"plain", "openai"} <= limits(gateway).keys()
    for number in range(3):
        pool = {"max": 10 + number, "min": 1, "start": 1}
        opened, reused = counted(gateway)
        with gateway.open_stream("openai", "[[sim tokens=30 rate=60]]") as stream:
            assert stream.read_event()
            assert [gateway.ask("openai", "[[sim tokens=1]]").status for _ in range(5)] == [200] * 5
            gateway.reload({"upstreams": {"openai": {"pool": pool}, "plain": None}})
            wait_until(lambda: limits(gateway).get("openai") == pool["max"], "the next pool")
            assert "plain" not in limits(gateway)  # nor what its pool had last
            assert stream.read_all().rstrip().endswith(b"[DONE]")
        # the pools that went have told all: six requests, each over a new connection or an open one
        wait_until(lambda: sum(counted(gateway)) >= opened + reused + 6, "all is counted")
        assert counted(gateway)[0] >= opened and counted(gateway)[1] >= reused
    at_rest([gateway], redis, sim)
