"""Who is measured: nginx, HAProxy and Sluice in front of one simulated provider, each with one worker and an access log.

Fair to nginx: 64 connections are kept to the upstream (without them it costs 2.3 times as much). Sluice has its quotas on: requests and tokens of
the tenant, requests of the model and of the upstream, none of them so low that it denies; and patience with Redis (2 s), because on a machine with other
work a reply may well take longer than the 50 ms of the default, and a refusal is no measure.
"""

import json
import pathlib

from support.client import request
from support.process import Process, accepts, binary, free_port, program

KEY = "key-of-the-bench"
MODEL = "gpt-4o-mini"
PATH = "/v1/chat/completions"
HEADERS = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}


class Nginx(Process):
    def __init__(self, folder, upstream):
        self.port = free_port()
        path = pathlib.Path(folder) / "nginx.conf"
        temporary = "".join(f"{kind}_temp_path {folder}/nginx-{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        path.write_text(f"""
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/nginx.log; {temporary}
    upstream provider {{ server {upstream}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{self.port};
        location / {{ proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
""")
        super().__init__([program("nginx"), "-e", f"{folder}/nginx.err", "-p", folder, "-c", path], folder, "nginx")
        self.wait_ready(lambda: accepts(self.port))

    def processes(self):
        """The master and its worker."""
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
    server provider {upstream} pool-max-conn 64
""")
        super().__init__([program("haproxy"), "-db", "-f", path], folder, "haproxy")
        self.wait_ready(lambda: accepts(self.port))

    def processes(self):
        return [self.pid]


class Sluice(Process):
    """`ca` makes the upstream one over TLS that this authority vouches for; `streams` is how many may be open at once, `pool` what else of the pool differs;
    `changes` take the place of whole sections; `program` is another build."""

    def __init__(self, folder, upstream, redis, name="sluice", ca=None, streams=100, pool=None, changes=None, program=None):
        self.port, self.admin = free_port(), free_port()
        self.admin_url = f"http://127.0.0.1:{self.admin}"
        much = {"limit": "100M", "burst": "10M"}
        endpoint = f"https://localhost:{upstream.split(':')[1]}" if ca else f"http://{upstream}"
        openai = {"dialect": "openai", "default": True, "endpoints": [{"url": endpoint}], "limits": {"rpm": much},
                  "credential": {"header": "Authorization", "value": "Bearer upstream"},
                  "pool": {"min": 4, "start": 4, "max": 100, "streams": streams, "http": "1.1", **(pool or {})}}
        if ca:
            openai["ca_file"] = str(ca)
        config = {"listen": f"127.0.0.1:{self.port}", "admin": f"127.0.0.1:{self.admin}", "workers": 1, "redis": {"url": redis.url, "timeout": "2s"},
                  "upstreams": {"openai": openai}, "models": {MODEL: {"targets": [{"upstream": "openai"}], "limits": {"rpm": much}}},
                  "tenants": {"bench": {"keys": [KEY], "limits": {"rpm": much, "tpm": {"limit": "1000G", "burst": "100G"}}}},
                  "drain": {"wait": "0s", "deadline": "5s"}, **(changes or {})}
        path = pathlib.Path(folder) / f"{name}.yaml"
        path.write_text(json.dumps(config))
        super().__init__([program or binary("sluice"), "serve", "-c", path], folder, name)
        self.wait_ready(lambda: accepts(self.admin) and request(f"{self.admin_url}/readyz").status == 200)

    def processes(self):
        return [self.pid]

    def streaming(self):
        """How many requests are in the stage of a stream, by the program's own count."""
        for line in request(f"{self.admin_url}/metrics", timeout=30).text.splitlines():
            if line.startswith('sluice_in_flight{stage="stream"}'):
                return int(float(line.rsplit(" ", 1)[1]))
        raise RuntimeError("/metrics does not tell sluice_in_flight of the stage stream")
