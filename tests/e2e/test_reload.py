"""SIGHUP at awkward moments and with awkward files: it is done or refused, in words, and nothing stands still for it."""

import json
import os
import signal
import subprocess

import pytest

from support.client import request
from support.gateway import configuration
from support.process import binary, descriptors, die_with_parent, free_port, wait_until
from support.tls import Authority


def refused(gateway):
    return [line["message"] for line in gateway.log() if line["event"] == "reload_refused"]


def lives(gateway):
    return request(f"{gateway.admin_url}/healthz", timeout=5).status == 200 and gateway.ask("openai", "[[sim tokens=1]]").status == 200


@pytest.mark.parametrize("what", ["configuration", "secret"])
def test_a_pipe_that_nobody_writes_to(gateway, folder, what):
    pipe = gateway.config_path if what == "configuration" else folder / "secret"
    if what == "secret":
        gateway.config["tenants"]["acme"]["keys"].append("${file:secret}")
        gateway.write_config(gateway.config)
    else:
        pipe.unlink()
    os.mkfifo(pipe)
    gateway.signal(signal.SIGHUP)
    wait_until(lambda: "before it stays" in "".join(refused(gateway)), "it is refused")
    assert "it is not a regular file" in refused(gateway)[0]
    assert lives(gateway)
    gateway.signal(signal.SIGTERM)
    assert gateway.wait() == 0


def test_a_configuration_of_a_pipe_starts_once(folder, sim, redis):
    """serve -c <(…)"""
    port, admin = free_port(), free_port()
    path, out = folder / "c.json", folder / "out"
    path.write_text(json.dumps(configuration(sim.url, redis.url, f"127.0.0.1:{port}", f"127.0.0.1:{admin}")))
    with open(out, "wb") as log:
        child = subprocess.Popen(["bash", "-c", f"exec {binary('sluice')} serve -c <(cat {path})"], stdout=log, preexec_fn=die_with_parent)

    def answers(path):
        try:
            return request(f"http://127.0.0.1:{admin}{path}", timeout=5).status == 200
        except OSError:
            return False

    try:
        wait_until(lambda: answers("/readyz"), "it is ready")
        child.send_signal(signal.SIGHUP)
        wait_until(lambda: "it is not a regular file" in out.read_text(), "it is refused")
        assert answers("/healthz")
        child.terminate()
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()


def test_certificates_that_were_replaced(start_gateway, start_sim, redis, authority, tls_front, folder):
    """The same path with another content: trusted, or trusted no more, from the reload on."""
    sim = start_sim()
    ours, other, trusted = authority.certificate.read_bytes(), Authority(folder, "other").certificate.read_bytes(), folder / "trusted.pem"
    trusted.write_bytes(other)
    upstream = {"endpoints": [{"url": tls_front(sim.port).url}], "ca_file": str(trusted)}
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": upstream}})
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 502
    for content, status in ((ours, 200), (other, 502), (other + ours, 200)):
        trusted.write_bytes(content)
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]").status == status, "it is read again")


def test_certificates_that_stayed_keep_their_connections(start_gateway, start_sim, redis, authority, tls_front):
    sim = start_sim()
    upstream = {"endpoints": [{"url": tls_front(sim.port).url}], "ca_file": str(authority.certificate), "pool": {"min": 1, "max": 1, "start": 1}}
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": upstream}})
    for count in range(3):
        assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: sum(line["event"] == "reload" for line in gateway.log()) == count + 1, "it is reloaded")
    assert gateway.status()["upstreams"]["openai"]["pools"]["calls"]["opened"] == 1


def test_pools_that_were_replaced_keep_nothing(start_gateway, sim, redis):
    """What pools were opened with has changed, and a stream goes on over the old ones: their floor is not kept beside the new one's."""
    floor = 12
    gateway = start_gateway(sim.url, redis.url, {"workers": 2, "upstreams": {"openai": {"pool": {"min": floor, "start": floor, "max": 2 * floor}}}})

    def idle():
        return gateway.status()["upstreams"]["openai"]["pools"]["calls"]["idle"]

    wait_until(lambda: idle() == floor, "it is warm")
    with gateway.open_stream("openai", "[[sim tokens=100000 rate=50]]") as stream:
        assert stream.read_event()
        before = descriptors(gateway.pid)
        gateway.reload({"upstreams": {"openai": {"timeout": {"connect": "7s"}}}})
        wait_until(lambda: any(line["event"] == "reload" for line in gateway.log()) and idle() == floor, "the new ones are warm")
        wait_until(lambda: descriptors(gateway.pid) < before + floor / 2, "the old ones keep nothing")
        assert stream.read_event()


def takes_signals(gateway):
    with open(f"/proc/{gateway.pid}/status") as status:
        caught = next(int(line.split()[1], 16) for line in status if line.startswith("SigCgt"))
    return caught & 1 << signal.SIGHUP - 1


def test_asked_for_while_redis_starts(start_gateway, sim):
    """The embedded Redis comes first, and takes its time; what was asked for meanwhile is done when the server is there."""
    gateway = start_gateway(sim.url, "embedded", wait=False)
    wait_until(lambda: takes_signals(gateway), "it takes signals")
    gateway.reload({"tenants": {"acme": {"keys": ["another-key-of-the-tests"]}}})
    gateway.wait_ready(gateway.ready)
    wait_until(lambda: any(line["event"] == "reload" for line in gateway.log()), "it is reloaded")
    assert gateway.ask("openai", "[[sim tokens=1]]", key="another-key-of-the-tests").status == 200


def test_asked_for_while_it_drains(gateway):
    with gateway.open_stream("openai", "[[sim tokens=100000 rate=50]]") as stream:
        assert stream.read_event()
        gateway.signal(signal.SIGTERM)
        wait_until(lambda: request(f"{gateway.admin_url}/readyz").status == 503, "it drains")
        gateway.signal(signal.SIGHUP)
        wait_until(lambda: refused(gateway), "it says so")
    assert gateway.wait() == 0
