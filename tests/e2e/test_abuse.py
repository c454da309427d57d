"""A host that is short of descriptors, a log that nobody reads, reloads in a storm, faults by the dozen: nothing is lost, nothing stays."""

import json
import os
import random
import signal
import subprocess
import threading

from support import client, load
from support.client import headers_for, prompt
from support.gateway import KEY, configuration
from support.process import LONG, binary, die_with_parent, free_port, wait_until
from support.rest import at_rest, counted

FIELDS = {**headers_for("openai", KEY), "Content-Type": "application/json"}


def body(words, stream=False):
    return prompt("openai", f"[[sim {words}]]", stream)[1]


def drive(gateway, words="tokens=5", stream=False, **how):
    return load.run(gateway.url + "/v1/chat/completions", body=body(words, stream), headers=FIELDS, **how)


def test_sixty_four_descriptors(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url)
    subprocess.run(["prlimit", "--pid", str(gateway.pid), "--nofile=64:64"], check=True)
    report = drive(gateway, connections=200, duration=2, options=["--grace", "1"])
    assert report["by_status"].get("200", 0) > 0
    wait_until(lambda: gateway.ask("openai", "[[sim tokens=1]]").status == 200, "it goes on")
    at_rest([gateway], redis, sim)


def serve_with(files, folder, sim, redis, changes):
    """The program as it starts where it may open so many files: what it writes to stdout goes to a file."""
    path, out = folder / f"{files}.yaml", folder / f"{files}.out"
    path.write_text(json.dumps(configuration(sim.url, redis.url, f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}", changes)))
    with open(out, "wb") as stdout:
        return out, subprocess.Popen(["prlimit", f"--nofile={files}:{files}", binary("sluice"), "serve", "-c", path], stdout=stdout, stderr=subprocess.PIPE,
                                     text=True, preexec_fn=die_with_parent)


def keeping(count):
    return {"upstreams": {"openai": {"pool": {"min": count, "start": count, "max": 3000}}}}


def test_more_is_kept_open_than_may_be(start_gateway, sim, redis, folder):
    """Refused, at the start and by a reload: it would say that it is ready, and nobody could call it."""
    told = ("the upstreams' pool.min keep 3003 connections open, and the process may open 1024 files, of which clients need half: "
            "raise `ulimit -n` to 6006 or lower pool.min")
    _, started = serve_with(1024, folder, sim, redis, keeping(3000))
    try:
        _, errors = started.communicate(timeout=20)
    finally:
        started.kill()
    assert started.returncode == 1 and f"sluice: {told}\n" in errors, errors
    gateway = start_gateway(sim.url, redis.url)
    subprocess.run(["prlimit", "--pid", str(gateway.pid), "--nofile=1024:1024"], check=True)
    gateway.reload(keeping(3000))
    wait_until(lambda: [line for line in gateway.log() if line["event"] == "reload_refused" and line["message"] == told], "it is refused")
    gateway.reload(keeping(500))
    wait_until(lambda: gateway.status()["upstreams"]["openai"]["pools"]["calls"]["idle"] == 500, "half of them is not too much")
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200


def test_what_may_need_descriptors_is_told_part_by_part(sim, redis, folder):
    """The pools' part is of each endpoint, and within the bounds of the instance."""
    out, gateway = serve_with(900, folder, sim, redis, {"pool": {"streams": 100}, "client": {"connections": 700}, "upstreams": {
        "openai": {"pool": {"max": 300}, "endpoints": [{"url": sim.url}, {"url": sim.url + "/other"}]}}})
    try:
        wait_until(lambda: '"started"' in out.read_text(), "it has started")
    finally:
        gateway.terminate()
        gateway.communicate(timeout=20)
    pools = 2 * 300 + 3 * 64 + 100
    assert (f"the process may open 900 files, and may need {700 + pools + 128}: raise `ulimit -n`, or lower client.connections (700) or the pools' max and streams "
            f"({pools} together)") in out.read_text(), out.read_text()


def test_reloads_in_a_storm(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"redis": {"timeout": "5s"}})  # a busy machine is not what is tested here
    reports = []
    load_thread = threading.Thread(target=lambda: reports.append(drive(gateway, connections=16, duration=3)))
    load_thread.start()
    number = 0
    while load_thread.is_alive():
        number += 1
        gateway.reload({"upstreams": {"openai": {"pool": {"max": 20 + number % 50}}}} if number % 2 else
                       {"tenants": {"acme": {"limits": {"rpm": 10000000 + number}}}})
        wait_until(lambda: sum(line["event"] == "reload" for line in gateway.log()) >= number, "it is taken")
    load_thread.join()
    assert number > 10 and reports[0]["by_status"] == {"200": reports[0]["requests"]}, (number, reports)
    at_rest([gateway], redis, sim)


def test_a_log_that_nobody_reads(sim, redis, folder):
    port, admin = free_port(), free_port()
    path = folder / "silent.yaml"
    path.write_text(json.dumps(configuration(sim.url, redis.url, f"127.0.0.1:{port}", f"127.0.0.1:{admin}")))
    reader, writer = os.pipe()
    gateway = subprocess.Popen([binary("sluice"), "serve", "-c", path], stdout=writer, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
    os.close(writer)

    def ready():
        try:
            return client.request(f"http://127.0.0.1:{admin}/readyz").status == 200
        except OSError:
            return False

    try:
        wait_until(ready, "it is ready")
        report = load.run(f"http://127.0.0.1:{port}/v1/chat/completions", connections=8, requests=2000, body=body("tokens=5"), headers=FIELDS)
        assert report["by_status"] == {"200": 2000}
        page = client.request(f"http://127.0.0.1:{admin}/metrics").text
        assert int(page.split("\nsluice_log_dropped_total ")[1].split()[0]) > 1000
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(30) == 0
    finally:
        gateway.kill()
        gateway.wait()
        os.close(reader)


def test_faults_by_the_dozen_leave_nothing(start_gateway, sim, redis):
    limits = {"rpm": 10000000, "tpm": 1000000000, "concurrency": 500}
    gateway = start_gateway(sim.url, redis.url, {"workers": 3, "tenants": {"acme": {"limits": limits}}})
    reports = []
    ways = [("tokens=5", False, {}), ("tokens=50 rate=500", True, {}), ("tokens=200 rate=500", True, {"options": ["--abort-after", "3000"]}),
            ("tokens=9 fault=reset@500 chance=30%", False, {}), ("tokens=9 fault=fin chance=20%", False, {}), ("status=503 chance=50%", False, {}),
            ("tokens=90 fault=badchunk@900 chance=50%", True, {}), ("fault=garbage chance=20%", False, {})]
    random.Random(1).shuffle(ways)
    threads = [threading.Thread(target=lambda w=words, s=stream, h=how: reports.append(drive(gateway, w, s, connections=6, duration=3, **h)))
               for words, stream, how in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    at_rest([gateway], redis, sim)
    ended = sum(report["completed"] for report in reports)
    assert ended > 500 and counted([gateway]) >= ended  # those that left are counted too
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200


def test_a_flood_does_not_drown_redis(start_gateway, sim, redis):
    """Two thousand callers who come again at once: more than Redis can answer in time. What it can answer is served; no call is sent that comes too late, so
    the connection stays, and nothing has to be settled twice."""
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"rpm": 100000000}}}, "upstreams": {"openai": {"pool": {"max": 500}}}})
    report = drive(gateway, "tokens=1", connections=2000, duration=4, options=["--grace", "20"])
    assert report["by_status"]["200"] >= 2000, report["by_status"]
    at_rest([gateway], redis, sim)


def test_a_burst_of_hand_shakes_holds_nobody_up(start_gateway, sim, redis, tls_front, authority):
    """600 streams at once, nearly each over a new TLS connection (the first may have ended when the last one comes): Redis, who is well, is heard meanwhile."""
    count, front = 600, tls_front(sim.port, program="nginx")
    gateway = start_gateway(front.url, redis.url, {
        "redis": {"timeout": "300ms" if LONG else "3s"}, "tenants": {"acme": {"limits": {"rpm": {"limit": 1000000, "burst": 10000}}}},
        "upstreams": {"openai": {"ca_file": str(authority.certificate), "timeout": {"first_byte": "60s"},
                                 "pool": {"streams": count, "http": "1.1", "connect_timeout": "30s"}}}})
    report = drive(gateway, "latency=2s tokens=3", stream=True, connections=count, requests=count)
    assert report["by_status"] == {"200": count}, report["by_status"]
    assert gateway.status()["upstreams"]["openai"]["pools"]["streams"]["opened"] >= 0.75 * count
    at_rest([gateway], redis, sim)
