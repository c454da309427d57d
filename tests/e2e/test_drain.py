"""How an instance ends and changes at the awkward moment: asked twice, without Redis, while it still warms up."""

import http.client
import re
import signal
import socket
import threading

import pytest

from support.client import request
from support.process import free_port, wait_until

PATIENT = {"drain": {"wait": "0s", "deadline": "60s"}}


class Silent:
    """A provider that takes connections and never says a word: who warms up on it waits for the whole 10 s."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.taken = []
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()
        return self

    def _accept(self):
        while True:
            try:
                self.taken.append(self.listener.accept()[0])
            except OSError:
                return

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        for each in self.taken:
            each.close()


def drain(gateway):
    assert request(f"{gateway.admin_url}/drain", method="POST", body=b"").status == 202


def test_being_told_again_is_no_reason_to_hurry(start_gateway, sim, redis):
    """A preStop hook posts /drain, then SIGTERM comes: what can end ends all the same."""
    gateway = start_gateway(sim.url, redis.url, PATIENT)
    with gateway.open_stream("openai", "[[sim tokens=40 rate=20]]") as stream:
        assert stream.read_event()
        drain(gateway)
        drain(gateway)
        gateway.signal(signal.SIGTERM)
        assert stream.read_all().rstrip().endswith(b"[DONE]")
    assert gateway.wait() == 0


def test_an_interrupt_ends_the_waiting_alone(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"drain": {"wait": "300s", "deadline": "600s"}})
    with gateway.open_stream("openai", "[[sim tokens=40 rate=20]]") as stream:
        assert stream.read_event()
        drain(gateway)
        gateway.signal(signal.SIGINT)
        assert stream.read_all().rstrip().endswith(b"[DONE]")
    assert gateway.wait() == 0


def test_a_second_signal_cuts_and_says_so(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"drain": {"wait": "300s", "deadline": "600s"}})
    with gateway.open_stream("openai", "[[sim tokens=10000 rate=20]]") as stream:
        assert stream.read_event()
        gateway.signal(signal.SIGTERM)
        wait_until(lambda: request(f"{gateway.url}/readyz").status == 503, "it drains")
        gateway.signal(signal.SIGINT)
        assert gateway.wait() == 1
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            stream.read_all()


def test_two_signals_at_once_end_it_in_order(start_gateway, sim, redis):
    """The drain has begun, and its first look is due when all ends: it must find nobody to look at."""
    for _ in range(4):
        gateway = start_gateway(sim.url, redis.url, PATIENT)
        for number in signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT:
            gateway.signal(number)
        assert gateway.wait() == 1 and "a second signal" in gateway.stdout()


def test_a_settle_that_redis_never_answers_holds_nobody(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"drain": {"wait": "0s", "deadline": "300s"}, "tenants": {"acme": {"limits": {"rpm": 1000}}}})
    with gateway.open_stream("openai", "[[sim tokens=20 rate=20]]") as stream:
        assert stream.read_event()
        redis.signal(signal.SIGSTOP)
        assert stream.read_all().rstrip().endswith(b"[DONE]")
    wait_until(lambda: gateway.status()["quota"]["unsettled"] == 1, "the settle waits")
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


@pytest.mark.parametrize("comes_back", [True, False])
def test_the_end_of_a_shared_answer_is_waited_for(start_gateway, sim, redis, comes_back):
    """A second at most: who reads along elsewhere takes over then."""
    gateway = start_gateway(sim.url, redis.url, {"drain": {"wait": "0s", "deadline": "300s"}, "redis": {"timeout": "10s"}})
    with gateway.open_stream("openai", "[[sim tokens=20 rate=20]]", temperature=0) as stream:
        assert stream.read_event()
        redis.signal(signal.SIGSTOP)
        assert stream.read_all().rstrip().endswith(b"[DONE]")
    wait_until(lambda: gateway.status()["cache"]["flights"]["unfinished"] == 1, "its end waits")
    gateway.signal(signal.SIGTERM)
    wait_until(lambda: "no new connections" in gateway.stdout(), "it drains")
    if comes_back:
        redis.signal(signal.SIGCONT)
    assert gateway.wait() == 0
    assert ("the ends of 1 shared answers" in gateway.stdout()) == (not comes_back)
    redis.signal(signal.SIGCONT)
    assert len(redis.keys("sluice:{c:*}:v")) == comes_back


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_end_may_come_before_it_is_warm(start_gateway, sim, redis, end):
    with Silent() as silent:
        gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"endpoints": [{"url": silent.url}]}}}, wait=False)
        wait_until(lambda: silent.taken, "it warms up")
        gateway.signal(end)
        assert gateway.wait(9) == 0  # not after the 10 s that warming up may take


def test_a_reload_may_come_before_it_is_warm(start_gateway, sim, redis):
    with Silent() as silent:
        gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"endpoints": [{"url": silent.url}]}}}, wait=False)
        wait_until(lambda: silent.taken, "it warms up")
        gateway.reload({"upstreams": {"openai": {"endpoints": [{"url": sim.url}]}}})
        gateway.wait_ready(gateway.ready)
        assert gateway.ask("openai", "[[sim tokens=1]]").status == 200


def test_what_was_in_the_way_of_warming_is_told(start_gateway, sim, redis):
    nobody = f"http://127.0.0.1:{free_port()}"
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"endpoints": [{"url": nobody}]}}})
    assert re.search(r'"warm_up","message":"upstream openai: 0 of 1 connections to http://127.0.0.1:[0-9]+ could be opened: [^"]*connect', gateway.stdout())


@pytest.mark.parametrize("least, told", [(1, {"worker 1 of 2": "0 of 1"}), (3, {"worker 1 of 2": "0 of 2", "worker 2 of 2": "0 of 1"})])
def test_each_worker_tells_of_its_part_of_warming(start_gateway, sim, redis, least, told):
    """Who has none says nothing; no line stands twice."""
    nobody = f"http://127.0.0.1:{free_port()}"
    gateway = start_gateway(sim.url, redis.url, {"workers": 2, "upstreams": {"openai": {"endpoints": [{"url": nobody}], "pool": {"min": least, "start": 3}}}})
    found = re.findall(r'"warm_up","message":"upstream openai, (worker [12] of 2): (0 of [0-9]) connections to [^"]* could be opened: [^"]*connect', gateway.stdout())
    assert sorted(found) == sorted(told.items()) and gateway.stdout().count('"warm_up"') == len(told)


def test_pools_are_warm_after_a_reload_too(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    gateway.reload({"upstreams": {"openai": {"pool": {"min": 3, "start": 3}}}})
    wait_until(lambda: gateway.status()["upstreams"]["openai"]["pools"]["calls"]["idle"] == 3, "three are open")
