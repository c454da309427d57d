"""The program seen from a shell: commands, exit codes, boot errors, health, the admin plane."""

import json
import os
import re
import signal
import socket
import subprocess

import pytest

from support.client import request
from support.gateway import KEY, parse_series
from support.process import binary, free_port, wait_until

COMMANDS = ["serve", "check", "config", "status", "top", "pool-size", "flow", "version"]


def sluice(*arguments, env=None, cwd=None):
    return subprocess.run([binary("sluice"), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                          env={**os.environ, **(env or {})}, cwd=cwd)


def test_help_everywhere():
    listed = sluice("help")
    assert listed.returncode == 0 and all(f"  {name} " in listed.stdout for name in COMMANDS)
    for name in COMMANDS:
        told = sluice(name, "--help")
        assert told.returncode == 0 and told.stdout.startswith(f"usage: sluice {name}") and "example: " in told.stdout
    for wrong in ([], ["nonsense"], ["serve", "--nope"], ["check"], ["config"], ["flow", "x"], ["top", "--count", "0"], ["serve", "-c"], ["status", "x"],
                  ["status", "-c", "1"], ["check", "-c", "x"], ["pool-size"]):
        told = sluice(*wrong)
        assert told.returncode == 2 and (told.stderr + told.stdout).strip(), wrong


@pytest.mark.parametrize("typed, told", [
    (["sevre"], 'there is no command "sevre"; did you mean serve?; see sluice help'),
    (["xyzzy"], 'there is no command "xyzzy"; see sluice help'),
    (["top", "--cuont", "3"], "sluice top: unknown option --cuont; did you mean --count?; see sluice top --help"),
    (["status", "--tokne=secret-of-a-typo"], "sluice status: unknown option --tokne; did you mean --token?; see sluice status --help"),
    (["status", "--json=yes"], "sluice status: --json takes no value; see sluice status --help"),
    (["status", "-x"], "sluice status: unknown option -x; see sluice status --help"),
    (["serve", "--config"], "sluice serve: --config needs a value; see sluice serve --help"),
])
def test_what_is_typed_wrong_is_named_with_what_may_be_meant(typed, told):
    said = sluice(*typed)
    assert said.returncode == 2 and told in said.stderr and "secret" not in said.stderr and not said.stdout


def test_pool_size_ends_in_what_check_takes(folder):
    told = sluice("pool-size", "--users", "100", "--response", "8s", "--interval", "30s")
    lines = told.stdout.splitlines()
    assert told.returncode == 0 and len(lines) <= 10 and "3.33 a second x 8s = 26.7 on average" in told.stdout
    assert lines[-1].startswith("pool: {min: 27, start: 41, max: 41}")
    for options, pool in (([], "{min: 27, start: 41, max: 41}"), (["--instances=3"], "{min: 9, start: 18, max: 18}"),
                          (["--streams-per-connection", "20", "--workers", "1"], "{http: 2, streams_per_connection: 20, min: 2, start: 3, max: 3}"),
                          (["--streams-per-connection", "100", "--workers", "2"], "{http: 2, streams_per_connection: 100, min: 2, start: 2, max: 2}")):
        told = sluice("pool-size", "--users", "0.1k", "--response", "8000ms", "--interval", "30s", *options)
        assert told.returncode == 0 and told.stdout.splitlines()[-1].startswith(f"pool: {pool}"), told
        path = folder / "pool.yaml"
        path.write_text(f"upstreams:\n  a:\n    dialect: http\n    endpoints: [{{url: 'http://127.0.0.1:1'}}]\n    {told.stdout.splitlines()[-1]}\n")
        assert sluice("check", path).returncode == 0, sluice("check", path).stderr
    assert "  # of upstreams.NAME; " in told.stdout
    many = [int(sluice("pool-size", "--users", "1", "--response", "1s", "--interval", "1s", "--streams-per-connection", "9", *more).stdout.rsplit(" ", 1)[1])
            for more in ([], ["--workers", "7"])]
    assert many == [len(os.sched_getaffinity(0)), 7]
    one = sluice("pool-size", "--users", "1", "--response", "8s", "--interval", "30s").stdout
    assert one.startswith("One user begins a call every 30s and has the whole answer 8s later.\n")
    assert "0.267 on average" in one and "  min         1: one, which is in use now and then, is kept warm\n" in one
    with open("/dev/full", "w") as full:
        assert subprocess.run([binary("sluice"), "pool-size", "--users", "1", "--response", "1s", "--interval", "1s"], stdout=full,
                              stderr=subprocess.PIPE).returncode == 1


SHARED = "but the workers share it, and a connection belongs to one: so many are kept warm"


@pytest.mark.parametrize("options, told", [
    ("--streams-per-connection 20 --workers 1", "min         2: the average, which is always in use, is kept warm"),
    ("--streams-per-connection 20 --workers 2", "min         2: the average, which is always in use, is kept warm"),
    ("--streams-per-connection 100 --workers 2", "min         2: the average would fit on 1, " + SHARED),
    ("--streams-per-connection 10 --workers 4", "min         4: the average would fit on 3, " + SHARED),
    ("--workers 8", "HTTP/1.1    the workers share all connections, so --workers changes nothing; over HTTP/2 (--streams-per-connection) it does"),
])
def test_pool_size_says_what_the_workers_change(options, told):
    base = ["pool-size", "--users", "100", "--response", "8s", "--interval", "30s"]
    said = sluice(*base, *options.split())
    assert said.returncode == 0 and f"  {told}\n" in said.stdout, said.stdout
    without = sluice(*base).stdout
    assert "HTTP/1.1" not in without and ("streams" in options or said.stdout.splitlines()[-3:] == without.splitlines()[-3:])


@pytest.mark.parametrize("options, told", [
    ("--users 0 --response 8s --interval 30s", '--users: found "0"; allowed: 1 to 1G'),
    ("--users -5 --response 8s --interval 30s", '--users: found "-5"; allowed: 1 to 1G'),
    ("--users 100 --response 0s --interval 30s", '--response: found "0s"; allowed: 1ms to 1d'),
    ("--users 100 --response 8 --interval 30s", '--response: found "8"; allowed: 1ms to 1d, such as 8s'),
    ("--users 100 --response 8s --interval 2d", '--interval: found "2d"; allowed: 1ms to 1d'),
    ("--users 100 --response 8s --interval 5s", "--interval: found 5s, less than --response, 8s"),
    ("--users 100 --response 8s", "--interval is missing; allowed: 1ms to 1d"),
    ("--users 100 --response 8s --interval 30s --instances 0.1", '--instances: found "0.1"; allowed: 1 to 10k'),
    ("--users 100 --response 8s --interval 30s --workers 257", '--workers: found "257"; allowed: 1 to 256'),
    ("--users 1M --response 8s --interval 8s", "more than 10000 connections"),
    ("--users 1 --response 1s --interval 1s now", 'found "now"; allowed: options alone'),
    ("--users 1 --response 1s --intervall 1s", "did you mean --interval?"),
])
def test_pool_size_refuses_nonsense(options, told):
    said = sluice("pool-size", *options.split())
    assert said.returncode == 2 and told in said.stderr and not said.stdout


def test_version_and_flow():
    assert re.match(r"sluice \d+\.\d+\.\d+\n", sluice("version").stdout)
    graph = sluice("flow").stdout
    assert graph.startswith("digraph flow {") and "  quota -> upstream;" in graph and graph.rstrip().endswith("}")


def test_check_tells_file_line_key_and_what_is_allowed(folder):
    path = folder / "wrong.yaml"
    path.write_text("listen: 127.0.0.1:1\nworkes: 2\nupstreams:\n  a:\n    dialect: gemnii\n    endpoints: [{url: 'ftp://x'}]\n    limits: {rpm: many}\n")
    told = sluice("check", path)
    lines = told.stderr.splitlines()
    assert told.returncode == 2 and all(line.startswith(f"{path}:") for line in lines)
    assert f"{path}:2: workes: unknown key; did you mean `workers`?" in lines
    assert f'{path}:5: upstreams.a.dialect: found "gemnii"; allowed: gemini, openai, anthropic, http' in lines
    assert any(line.startswith(f"{path}:7: upstreams.a.limits.rpm: ") for line in lines)
    assert sluice("check", folder / "nowhere.yaml").returncode == 2
    for emptied in ("check", "serve"):
        path.write_text("")
        told = sluice(emptied, *(["-c"] if emptied == "serve" else []), path)
        assert told.returncode == 2 and f"{path}:1: no mapping; allowed: `key: value` lines" in told.stderr


def test_check_warns_and_takes_it_all_the_same(folder):
    path = folder / "odd.yaml"
    path.write_text("upstreams:\n  a:\n    dialect: http\n    endpoints: [{url: 'http://127.0.0.1:1'}]\n    limits: {rps: {limit: 1k, burst: 1}}\n")
    told = sluice("check", path)
    assert told.returncode == 0 and told.stderr.startswith(f"{path}:5: upstreams.a.limits.rps: warning: a burst of 1 ")
    assert told.stdout.startswith(f"{path}: fine, with warnings: 1 upstream, ")


def check_where(files, path):
    return subprocess.run(["prlimit", f"--nofile={files}", binary("sluice"), "check", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_check_warns_of_more_connections_than_may_be_kept_open_here(folder):
    path = folder / "kept.yaml"
    path.write_text("upstreams:\n  a:\n    dialect: http\n    endpoints: [{url: 'http://127.0.0.1:1'}]\n    pool: {min: 600, start: 600, max: 600}\n")
    told = check_where("1024:1024", path)
    assert told.returncode == 0 and told.stdout.startswith(f"{path}: fine, with warnings: 1 upstream, ")
    assert told.stderr == (f"{path}: warning: serve refuses it where a process may open as few files as here: the upstreams' pool.min keep 600 connections open, "
                           "and the process may open 1024 files, of which clients need half: raise `ulimit -n` to 1200 or lower pool.min\n")
    for files in ("1200:1200", "256:1200"):  # serve raises its limit as far as it may
        told = check_where(files, path)
        assert told.returncode == 0 and not told.stderr and told.stdout.startswith(f"{path}: fine: ")


def test_the_example_and_the_defaults_are_right(folder):
    secrets = {"GEMINI_API_KEY": "g" * 20, "OPENAI_API_KEY": "o" * 20, "ACME_KEY": "a" * 20, "INTERN_KEY_SHA256": "0" * 64}
    example = folder / "example.yaml"
    example.write_text(sluice("config", "--example").stdout)
    told = sluice("check", example, env=secrets)
    assert told.returncode == 0 and f"{example}: fine: 2 upstreams, 1 model, 2 tenants" in told.stdout
    told = sluice("check", example, env={name: "" for name in secrets})
    assert told.returncode == 2 and "OPENAI_API_KEY" in told.stderr
    defaults = folder / "defaults.yaml"
    defaults.write_text(sluice("config", "--defaults").stdout + "upstreams: {a: {dialect: http, endpoints: [{url: 'http://127.0.0.1:1'}]}}\n")
    assert sluice("check", defaults).returncode == 0
    assert sluice("config", "--docs").stdout.startswith("| key |")


def test_boot_errors_are_one_clear_line(folder, sim):
    def serve(text, **env):
        path = folder / "boot.yaml"
        path.write_text(text)
        return sluice("serve", "-c", path, env=env)

    upstream = f"upstreams: {{a: {{dialect: http, endpoints: [{{url: '{sim.url}'}}]}}}}\n"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for key in ("listen", "admin"):
            other = "admin" if key == "listen" else "listen"
            told = serve(f"{key}: 127.0.0.1:{port}\n{other}: 127.0.0.1:{free_port()}\n{upstream}")
            assert told.returncode == 1 and str(port) in told.stderr and len(told.stderr.splitlines()) == 1, told
    told = serve(f"listen: 127.0.0.1:{free_port()}\nadmin: 'off'\n{upstream}", PATH="/nowhere")
    assert told.returncode == 1 and "redis-server" in told.stderr
    assert sluice("serve", cwd=folder, env={"SLUICE_CONFIG": ""}).returncode == 2


def test_health_on_both_ports(gateway):
    for url in (gateway.url, gateway.admin_url):
        for page in ("/healthz", "/readyz", "/healthz?", "/readyz?from=a%20probe&x"):
            assert (request(url + page).status, request(url + page).text) == (200, "ok\n")
            assert request(url + page, method="HEAD").body == b""


@pytest.mark.parametrize("body", [b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 100000\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\nnonsense",
                                  b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n"], ids=["whole", "half", "nonsense", "huge"])
def test_no_body_hurts_the_admin_plane(gateway, body):
    for page in (b"GET /status", b"GET /metrics", b"POST /config", b"GET /nothing"):
        with socket.create_connection(("127.0.0.1", gateway.admin_port), 10) as connection:
            connection.sendall(page + b" HTTP/1.1\r\nHost: localhost\r\n" + body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 ")
    assert gateway.page("/status").status == 200


def test_the_admin_plane(gateway):
    gateway.ask("openai", "[[sim tokens=1]]")
    index = request(gateway.admin_url + "/").text
    for page, kind in (("/metrics", "text/plain; version=0.0.4"), ("/status", "application/json"), ("/requests", "application/json"),
                       ("/config", "application/json")):
        answer = request(gateway.admin_url + page)
        assert (answer.status, answer.headers["content-type"]) == (200, kind) and page in index
    nothing = request(gateway.admin_url + "/nothing")
    assert nothing.status == 404 and "nothing at this path" in nothing.json()["error"]
    for page, method, allowed in (("/status", "POST", "GET, HEAD"), ("/drain", "GET", "POST")):
        wrong = request(gateway.admin_url + page, method=method, body=b"")
        assert (wrong.status, wrong.headers["allow"]) == (405, allowed) and wrong.json()["error"]
    with gateway.open_stream("anthropic", "[[sim tokens=1000 rate=20]]") as stream:
        stream.read_event()
        live = gateway.requests()["requests"]
        assert [(r["stage"], r["tenant"], r["upstream"]) for r in live] == [("stream", "acme", "anthropic")]
    status = gateway.status()
    assert status["ready"] and status["workers"] == 1 and status["redis"]["up"]
    assert status["upstreams"]["openai"]["pools"]["calls"]["opened"] >= 1
    config = request(gateway.admin_url + "/config").json()
    assert config["upstreams"]["openai"]["credential"]["value"] == "***" and KEY not in json.dumps(config)


def test_no_page_in_a_browser_drains(gateway):
    for origin in ("http://evil.example", gateway.admin_url, "null"):
        refused = request(gateway.admin_url + "/drain", method="POST", body=b"", headers={"Origin": origin})
        assert refused.status == 403 and refused.json()["error"]
    assert request(gateway.url + "/readyz").status == 200


def test_no_name_of_somebody_else_is_the_admin_plane(start_gateway, sim, redis):
    """DNS rebinding: a page's own name stands for 127.0.0.1 for a while, and its script may read what it gets."""
    gateway = start_gateway(sim.url, redis.url)
    for host, status in (("evil.example", 403), ("evil.example:8081", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example:80", 403),
                         ("localhost", 200), ("LocalHost:1", 200), ("127.0.0.1", 200), ("[::1]:8081", 200), ("10.1.2.3:8081", 200)):
        for page in ("/", "/status", "/requests", "/config", "/metrics"):
            assert request(gateway.admin_url + page, headers={"Host": host}).status == status, (host, page)
        assert request(gateway.admin_url + "/healthz", headers={"Host": host}).status == 200  # whoever looks whether it lives
    refused = request(gateway.admin_url + "/drain", method="POST", body=b"", headers={"Host": "evil.example"})
    assert refused.status == 403 and "admin_token" in refused.json()["error"] and gateway.ready()
    token = start_gateway(sim.url, redis.url, {"admin_token": "token-of-sixteen-bytes"})
    fields = {"Host": "metrics.example", "Authorization": "Bearer token-of-sixteen-bytes"}
    assert request(token.admin_url + "/status", headers=fields).status == 200


def test_metrics_are_what_the_page_says(gateway):
    gateway.ask("openai", "[[sim tokens=7]]")
    text = request(gateway.admin_url + "/metrics").text
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert {"sluice_requests_total": "counter", "sluice_request_seconds": "histogram", "sluice_in_flight": "gauge"}.items() <= types.items()
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels = parse_series(line.rsplit(" ", 1)[0])
            base = re.sub(r"_(bucket|sum|count)$", "", name) if name not in types else name
            assert base in types, name
            float(line.rsplit(" ", 1)[1])
    assert gateway.metric("sluice_tokens_total", kind="output", tenant="acme") == 7
    assert gateway.metric("sluice_pool_connections", upstream="openai") >= 1
    assert gateway.metric("sluice_ready") == 1 and gateway.metric("sluice_build_info") == 1
    assert all(gateway.metric("sluice_redis_seconds_count", script=script) == 0 for script in ("admit", "settle", "join"))  # nothing is limited or shared: no request asked


def test_status_and_top(gateway):
    told = sluice("status", "--admin", gateway.admin_url)
    assert told.returncode == 0 and "ready" in told.stdout and "openai" in told.stdout and ", 1 worker, " in told.stdout
    assert json.loads(sluice("status", "--admin", gateway.admin_url, "--json").stdout)["ready"]
    for count in (["--count", "2"], ["-n", "2"], ["-n2"]):
        told = sluice("top", "--admin", gateway.admin_url + "/", *count)
        assert told.returncode == 0 and told.stdout.count("in flight") == 2 and "\033" not in told.stdout
    told = sluice("status", "--admin", f"http://127.0.0.1:{free_port()}")
    assert told.returncode == 1 and "does not answer" in told.stderr


def test_status_tells_what_is_shared(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"workers": 2})
    shared = lambda: gateway.status()["cache"]  # noqa: E731
    wait_until(lambda: (shared()["up"], shared()["listening"]) == (True, 2), "it listens")
    with gateway.open_stream("openai", "[[sim tokens=1000 rate=20]]", temperature=0) as first, \
            gateway.open_stream("openai", "[[sim tokens=1000 rate=20]]", temperature=0) as second:
        assert first.read_event() and second.read_event()
        flights = shared()["flights"]
        assert flights["leading"] == 1 and flights["seats"] == 2 and flights["unfinished"] == 0 and flights["bytes"] > 0
        told = sluice("status", "--admin", gateway.admin_url).stdout
        assert re.search(r"^flights: leading 1, reading [01], requests in them 2; hot answers 0, .*; store up, 2 listening$", told, re.M), told
    wait_until(lambda: shared()["flights"] == dict.fromkeys(("leading", "reading", "seats", "unfinished", "bytes"), 0), "it is over")
    for _ in range(40):
        gateway.ask("openai", "[[sim tokens=3]]", temperature=0)
    hot = wait_until(lambda: (told := shared()["hot"])["hits"] > 0 and told, "it is hot")
    assert 1 <= hot["entries"] <= 2 and hot["bytes"] > 0 and hot["evicted"] == 0
    redis.kill()
    wait_until(lambda: (shared()["up"], shared()["listening"]) == (False, 0), "it hears nothing any more")
    assert "store DOWN, 0 listening" in sluice("status", "--admin", gateway.admin_url).stdout


def test_the_admin_token(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"admin_token": "token-of-sixteen-bytes"})
    assert request(gateway.admin_url + "/readyz").status == 200
    unknown = request(gateway.admin_url + "/status")
    assert unknown.status == 401 and unknown.headers["www-authenticate"].startswith("Bearer ") and "admin_token" in unknown.json()["error"]
    assert request(gateway.admin_url + "/status", headers={"Authorization": "Bearer token-of-another-sort"}).status == 401
    assert request(gateway.admin_url + "/status", headers={"Authorization": "Bearer token-of-sixteen-bytes"}).status == 200
    assert sluice("status", "--admin", gateway.admin_url, env={"SLUICE_ADMIN_TOKEN": "token-of-sixteen-bytes"}).returncode == 0
    assert "--token" in sluice("status", "--admin", gateway.admin_url).stderr


def test_an_admin_plane_on_a_socket(start_gateway, sim, redis, folder):
    path = f"unix:{folder}/admin.sock"
    start_gateway(sim.url, redis.url, {"admin": path}, wait=False)
    told = wait_until(lambda: (told := sluice("status", "--admin", path)).returncode == 0 and told, "it answers")
    assert "openai" in told.stdout


def test_several_doors(start_gateway, sim, redis, folder):
    path, port = str(folder / "door.sock"), free_port()
    gateway = start_gateway(sim.url, redis.url, {"listen": [f"127.0.0.1:{port}", f"unix:{path}"]}, wait=False)
    gateway.wait_ready(gateway.ready)
    assert request(f"http://127.0.0.1:{port}/healthz").status == 200
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_the_embedded_redis_dies_with_its_gateway(start_gateway, sim, end):
    gateway = start_gateway(sim.url)
    started = next(line for line in gateway.log() if line["event"] == "embedded_redis_ready")
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
    gateway.signal(end)
    gateway.child.wait(30)

    def is_gone():
        try:
            with open(f"/proc/{started['pid']}/stat") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    wait_until(is_gone, "the child Redis is gone")


@pytest.mark.skipif("san" in os.environ.get("SLUICE_BUILD", ""), reason="a sanitizer has more memory than the program")
def test_idle_memory(gateway):
    """Its own. The libraries' pages come to five times as much, differ with the distribution, and are the kernel's to share: `make bench` has the sum."""
    with open(f"/proc/{gateway.pid}/status") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    assert own <= 4 * 1024
