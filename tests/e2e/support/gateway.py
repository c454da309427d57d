"""The program itself: `sluice serve` with a configuration of its own (JSON is YAML)."""

import copy
import json
import pathlib
import signal

from . import client
from .process import Process, binary, free_port, wait_until
from .rest import own_descriptors

KEY = "client-key-of-the-tests"
UPSTREAM_KEY = "upstream-key-of-the-tests"
CREDENTIALS = {
    "gemini": {"header": "x-goog-api-key", "value": UPSTREAM_KEY},
    "openai": {"header": "Authorization", "value": f"Bearer {UPSTREAM_KEY}"},
    "anthropic": {"header": "x-api-key", "value": UPSTREAM_KEY},
}


def merge(base, changes):
    """`changes` over `base`, mapping by mapping; None takes a key away."""
    merged = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def configuration(upstream_url, redis_url, listen, admin, changes=None):
    """Three upstreams at one simulator, one tenant without limits; `changes` are merged in. Patient with Redis: a machine with other work may well keep a
    reply back for longer than the 50 ms of the default, and no test but those of Redis itself means that."""
    pool = {"min": 1, "start": 2, "max": 64, "streams": 64}
    upstreams = {dialect: {"dialect": dialect, "default": True, "endpoints": [{"url": upstream_url}],
                           "credential": credential, "pool": pool} for dialect, credential in CREDENTIALS.items()}
    upstreams["plain"] = {"dialect": "http", "endpoints": [{"url": upstream_url}], "pool": pool}
    base = {"listen": listen, "admin": admin, "workers": 1, "redis": {"url": redis_url, "timeout": "2s"}, "upstreams": upstreams,
            "drain": {"wait": "0s", "deadline": "10s"}, "tenants": {"acme": {"keys": [KEY]}}}
    return merge(base, changes or {})


class Gateway(Process):
    def __init__(self, folder, upstream_url, redis_url="embedded", changes=None, name="sluice", env=None, wait=True):
        self.folder = pathlib.Path(folder)
        self.config_path = self.folder / f"{name}.yaml"
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.config = configuration(upstream_url, redis_url, f"127.0.0.1:{self.port}", f"127.0.0.1:{self.admin_port}", changes)
        self.write_config(self.config)
        super().__init__([binary("sluice"), "serve", "-c", self.config_path], folder, name, env=env)
        if wait:
            self.wait_ready(self.ready)

    def wait_ready(self, ready):
        result = super().wait_ready(ready)
        self.birth_descriptors = wait_until(lambda: own_descriptors(self), f"{self.name} has all that it needs open")
        return result

    def secrets(self):
        """The keys that are in its configuration in clear."""
        keys = [key for tenant in self.config["tenants"].values() for key in tenant.get("keys", [])]
        values = [upstream.get("credential", {}).get("value", "") for upstream in self.config["upstreams"].values()]
        return {secret.rpartition(" ")[2] for secret in keys + values if secret and not secret.startswith("sha256:")}

    def write_config(self, config):
        self.config_path.write_text(json.dumps(config, indent=1))
        self.config_path.chmod(0o600)

    def reload(self, changes):
        """Writes a changed configuration and sends SIGHUP; what comes of it is the test's to see."""
        self.config = merge(self.config, changes)
        self.write_config(self.config)
        self.signal(signal.SIGHUP)

    def ready(self):
        try:
            return client.request(f"{self.admin_url}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def ask(self, dialect, text, stream=False, key=KEY, headers=None, timeout=60, **more):
        """A call in the dialect; text may hold the simulator's "[[sim …]]"."""
        path, body = client.prompt(dialect, text, stream, **more)
        return client.request(self.url + path, body=body, headers={**client.headers_for(dialect, key), **(headers or {})},
                              timeout=timeout)

    def open_stream(self, dialect, text, key=KEY, **more):
        path, body = client.prompt(dialect, text, True, **more)
        return client.stream(self.url + path, body, client.headers_for(dialect, key))

    def page(self, path):
        """A page of the admin plane."""
        token = self.config.get("admin_token")
        return client.request(self.admin_url + path, headers={"Authorization": f"Bearer {token}"} if token else None)

    def status(self):
        return self.page("/status").json()

    def requests(self):
        return self.page("/requests").json()

    def metrics(self):
        """{("name", (("label", "value"), …)): number}; labels sorted."""
        samples = {}
        for line in self.page("/metrics").text.splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                samples[parse_series(series)] = float(value)
        return samples

    def metric(self, name, **labels):
        """The sum of the series of that name that carry these labels."""
        return sum(value for (series, found), value in self.metrics().items()
                   if series == name and labels.items() <= dict(found).items())

    def log(self):
        """The access log's lines that are JSON, from wherever the program writes them; the last of a file may still be on its way."""
        lines = []
        for text in (self.stdout(), self.stderr()):
            for line in text[:text.rfind("\n") + 1].splitlines():
                if line.startswith("{"):
                    lines.append(json.loads(line))
        return lines


def parse_series(text):
    name, brace, rest = text.partition("{")
    labels, at = [], 0
    while brace and rest[at] != "}":
        equals = rest.index("=", at)
        label, at = rest[at:equals], equals + 2
        value = ""
        while rest[at] != '"':
            if rest[at] == "\\":
                at += 1
                value += {"n": "\n"}.get(rest[at], rest[at])
            else:
                value += rest[at]
            at += 1
        at += 1
        if rest[at] == ",":
            at += 1
        labels.append((label, value))
    return name, tuple(sorted(labels))
