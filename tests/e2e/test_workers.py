"""Several workers on one instance: asked, scraped, reloaded and drained at the same time; the numbers add up all the same."""

import concurrent.futures
import itertools
import signal
import socket
import threading

import pytest

from support.client import request
from support.process import free_port, wait_until
from support.rest import at_rest, counted

WORKERS, CALLERS, CALLS = 3, 12, 25


def start_workers(start_gateway, sim, redis, changes=None):
    """Redis gets all the time it may have: a busy machine is not what is asked about."""
    usual = {"workers": WORKERS, "redis": {"timeout": "10s"}, "tenants": {"acme": {"limits": {"rpm": 1000000, "concurrency": 500}}}}
    return start_gateway(sim.url, redis.url, {**usual, **(changes or {})})


def test_scrapes_and_reloads_under_way_lose_nothing(start_gateway, sim, redis):
    gateway = start_workers(start_gateway, sim, redis)
    assert gateway.status()["workers"] == WORKERS
    over, scrapes = threading.Event(), []

    def reloads():
        return gateway.stdout().count('"event":"reload"')

    def scrape():
        for page in itertools.cycle(("/metrics", "/status", "/requests", "/config")):
            if over.is_set():
                return
            scrapes.append(request(gateway.admin_url + page).status)

    def reload():
        for size in itertools.cycle((3, 2)):
            if over.is_set():
                return
            before = reloads()
            gateway.reload({"upstreams": {"openai": {"pool": {"min": size, "start": size}}}})
            wait_until(lambda: reloads() > before, "it is reloaded")

    def call(number):
        dialect = ("openai", "gemini", "anthropic")[number % 3]
        answers = [gateway.ask(dialect, "[[sim tokens=3]]", stream=i % 2 == 0) for i in range(CALLS)]
        return [200 if answer.status == 200 and answer.complete else repr(answer) for answer in answers]

    others = [threading.Thread(target=scrape), threading.Thread(target=scrape), threading.Thread(target=reload)]
    for each in others:
        each.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(CALLERS) as callers:
            statuses = list(itertools.chain(*callers.map(call, range(CALLERS))))
    finally:
        over.set()
        for each in others:
            each.join()
    assert set(statuses) == {200} and set(scrapes) == {200} and len(scrapes) >= 4
    assert reloads() >= 2 and "reload_refused" not in gateway.stdout()
    at_rest([gateway], redis, sim)
    assert counted([gateway], status="200") == CALLERS * CALLS == sim.stats()["received"]
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


def test_a_drain_reaches_every_worker(start_gateway, sim, redis):
    gateway = start_workers(start_gateway, sim, redis, {"drain": {"wait": "0s", "deadline": "60s"}})
    streams = [gateway.open_stream("openai", "[[sim tokens=30 rate=20]]") for _ in range(CALLERS)]
    assert all(stream.read_event() for stream in streams)
    gateway.signal(signal.SIGTERM)
    assert all(stream.read_all().rstrip().endswith(b"[DONE]") for stream in streams)
    for stream in streams:
        stream.leave()
    assert gateway.wait() == 0


def test_who_comes_too_late_is_refused_at_once(start_gateway, sim, redis, tmp_path):
    """And does not stand in a queue that nobody accepts from any more until the last call has ended. A successor may listen there; who came before is served."""
    path, port = tmp_path / "late.sock", free_port()
    gateway = start_workers(start_gateway, sim, redis, {"listen": [f"127.0.0.1:{port}", f"unix:{path}"], "drain": {"wait": "0s", "deadline": "60s"}})
    gateway.url = f"http://127.0.0.1:{port}"
    with gateway.open_stream("openai", "[[sim tokens=100 rate=20]]") as stream, socket.socket() as successor:
        assert stream.read_event()
        gateway.signal(signal.SIGTERM)
        wait_until(lambda: "no new connections from now on" in gateway.stdout(), "the wait is over")
        wait_until(lambda: not path.exists(), "it listens no more")
        assert gateway.child.poll() is None and stream.read_event()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        successor.bind(("127.0.0.1", port))
        successor.listen()
        assert stream.read_all().rstrip().endswith(b"[DONE]")
    assert gateway.wait() == 0
