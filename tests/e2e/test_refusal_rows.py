"""Every row of svc/refusal.h reached from outside, in each dialect's shape: the table itself is read here, so a row without a way to it
fails. Those that end a request before it is charged change no key; those after it give back what was not used."""

import contextlib
import http.client
import json
import signal
import socket

import pytest

from support.client import MODELS, Answer, headers_for, prompt, request
from support.gateway import KEY, merge
from support.process import free_port, wait_until
from support.refusals import HEADER, ROWS, check_shape
from support.rest import at_rest, counted

DIALECTS = ["gemini", "openai", "anthropic", "http"]
MODEL_DIALECTS = DIALECTS[:3]
# Not for a caller's eyes: no refusal at all, a caller who has left, and the defect that must not be.
UNSEEN = {"none", "client_gone", "internal"}


def call(gateway, dialect, words="tokens=1", key=KEY, headers=None, text="", **more):
    """A call of the dialect that the simulator answers as `words` say."""
    if dialect == "http":
        fields = {"Authorization": f"Bearer {key}", "X-Sim": words, **(headers or {})}
        return request(f"{gateway.url}/plain/anything", body=text.encode() or b"{}", headers=fields)
    return gateway.ask(dialect, f"[[sim {words}]]{text}", key=key, headers=headers, **more)


def cut_short(gateway, dialect, promised, sent, words="tokens=1"):
    """A socket on which a call has begun whose body does not come: `promised` bytes are announced, `sent` of them come."""
    path = "/plain/anything" if dialect == "http" else prompt(dialect, "hello")[0]
    fields = {**headers_for("openai" if dialect == "http" else dialect, KEY), "Host": "gateway", "Content-Type": "application/json",
              "Content-Length": str(promised), "X-Sim": words}
    connection = socket.create_connection(("127.0.0.1", gateway.port), 30)
    connection.sendall(f"POST {path} HTTP/1.1\r\n".encode() + "".join(f"{n}: {v}\r\n" for n, v in fields.items()).encode() + b"\r\n"
                       + b'{"x":"'.ljust(sent, b"a")[:sent])
    return connection


def read_answer(connection):
    response = http.client.HTTPResponse(connection)
    response.begin()
    return Answer(response.status, response.headers, response.read())


# ---- a way to each row: (changes of the configuration, dialects, the call) ----------------------------------------------------------------

EVERY_UPSTREAM = [*MODEL_DIALECTS, "plain"]


def upstreams(**changes):
    return {"upstreams": {name: changes for name in EVERY_UPSTREAM}}


def limits(**of_tenant):
    return {"tenants": {"acme": {"limits": of_tenant}}}


def two_keys(gateway, dialect):
    return call(gateway, dialect, headers={"Authorization": f"Bearer {KEY}", "x-api-key": "another-key-than-that", "x-goog-api-key": "a-third-key-of-all"})


def raw(body, method="POST", path=None, **fields):
    def ask(gateway, dialect):
        return request(gateway.url + (path or prompt(dialect, "hello")[0]), method=method, body=body,
                       headers={**headers_for(dialect, KEY), "Content-Type": "application/json", **fields})
    return ask


def nowhere(gateway, dialect):
    path = {"gemini": "/v1beta/nothing", "openai": "/v1/nothing", "anthropic": "/v1/messages/nothing", "http": "/nobody/here"}[dialect]
    return request(gateway.url + path, body={}, headers=headers_for("openai" if dialect == "http" else dialect, KEY))


def slow_body(gateway, dialect):
    with cut_short(gateway, dialect, 100, 10) as connection:
        return read_answer(connection)


def under_way(gateway, dialect, stage="upstream"):
    """A socket on which a call has begun that the provider answers in a minute; or that is as far as that stage."""
    body = b"{}" if dialect == "http" else json.dumps(prompt(dialect, "[[sim latency=60s]]")[1]).encode()
    connection = cut_short(gateway, dialect, len(body), 0, "latency=60s")
    connection.sendall(body)
    wait_until(lambda: any(r["stage"] == stage for r in gateway.requests()["requests"]), f"one is in {stage}")
    return connection


def beside_one_that_waits(gateway, dialect):
    with under_way(gateway, dialect), under_way(gateway, dialect, "queue"):
        return call(gateway, dialect)


def beside_another(gateway, dialect):
    """The same call again while one holds what there is."""
    with under_way(gateway, dialect):
        return call(gateway, dialect)


def beside_a_large_body(gateway, dialect):
    """A quarter of the memory limit is for bodies: 4 MiB here, most of it taken by somebody else."""
    with cut_short(gateway, dialect, 3 << 20, (3 << 20) - 1):
        wait_until(lambda: gateway.status()["requests"]["body_bytes"] >= (3 << 20) - 1, "the first body is held")
        return call(gateway, dialect, text="x" * (2 << 20))


def while_draining(gateway, dialect):
    with under_way(gateway, dialect) as connection:
        gateway.signal(signal.SIGTERM)
        return read_answer(connection)


def again(gateway, dialect):
    assert call(gateway, dialect).status == 200
    return call(gateway, dialect)


def when_it_is_open(gateway, dialect):
    """Three failures in a row: the breaker of this upstream opens."""
    for _ in range(3):
        assert call(gateway, dialect, "status=500").status == 500
    name = "plain" if dialect == "http" else dialect
    wait_until(lambda: gateway.metric("sluice_breaker_state", upstream=name) == 2, "it is left alone")
    return call(gateway, dialect)


def when_it_has_had_enough(gateway, dialect):
    assert call(gateway, dialect, "status=429 retry=30s").status == 429
    return call(gateway, dialect)


def with_tools(gateway, dialect):
    """What the only target of the model cannot do."""
    tools = {"openai": [{"type": "function", "function": {"name": "f"}}], "anthropic": [{"name": "f", "input_schema": {"type": "object"}}],
             "gemini": [{"functionDeclarations": [{"name": "f"}]}]}
    return call(gateway, dialect, tools=tools[dialect])


def without_tools(dialect):
    return {MODELS[dialect]: {"targets": [{"upstream": dialect, "capabilities": {"tools": False}}]}}


QUICK = {"first_byte": "300ms", "first_byte_plain": "300ms"}
TOKENS = {"tpd": {"limit": 100000, "burst": 100}}

WAYS = {
    "invalid_request": ({}, DIALECTS, two_keys),
    "invalid_json": ({}, MODEL_DIALECTS, raw(b"{")),
    "exceeds_limit": (limits(**TOKENS), MODEL_DIALECTS, lambda g, d: call(g, d, text="x" * 8000)),
    "invalid_api_key": ({}, DIALECTS, lambda g, d: call(g, d, key="wrong-key-of-somebody")),
    "model_not_allowed": ({"tenants": {"acme": {"models": ["only-this-one"]}}, "models": {"only-this-one": {"targets": [{"upstream": "openai"}]}}},
                          DIALECTS, call),
    "unknown_path": ({}, DIALECTS, nowhere),
    "model_not_found": ({"upstreams": {d: {"default": False} for d in MODEL_DIALECTS}}, MODEL_DIALECTS, call),
    "method_not_allowed": ({}, MODEL_DIALECTS, raw(None, "GET")),
    "request_timeout": ({"client": {"body": "300ms"}}, DIALECTS, slow_body),
    "body_too_large": ({"max_body": "64KiB"}, DIALECTS, lambda g, d: call(g, d, text="x" * 70000)),
    "unsupported_media": ({}, MODEL_DIALECTS, raw(b"{}", **{"Content-Encoding": "gzip"})),
    "rate_limited": (limits(rph={"limit": 1, "burst": 1}), DIALECTS, again),
    "too_many_at_once": (limits(concurrency=1), DIALECTS, beside_another),
    "model_unable": ({"models": {name: row for d in MODEL_DIALECTS for name, row in without_tools(d).items()}}, MODEL_DIALECTS, with_tools),
    "breaker_open": (upstreams(breaker={"failures": 3}), DIALECTS, when_it_is_open),
    "upstream_limited": ({}, DIALECTS, when_it_has_had_enough),
    "upstream_unreachable": (None, DIALECTS, call),
    "upstream_broken": ({}, DIALECTS, lambda g, d: call(g, d, "fault=reset")),
    "upstream_invalid": ({}, DIALECTS, lambda g, d: call(g, d, "fault=garbage")),
    "queue_full": ({**upstreams(limits={"concurrency": 1}), "queue": {"max_wait": "1m", "depth": 1}}, DIALECTS, beside_one_that_waits),
    "upstream_busy": ({**upstreams(pool={"min": 0, "start": 1, "max": 1}), "queue": {"max_wait": "200ms"}}, DIALECTS, beside_another),
    "quota_unavailable": ({**limits(rpm=1000), "redis": {"on_failure": "closed"}}, DIALECTS, call),
    "overloaded": ({"memory_limit": "16MiB"}, DIALECTS, beside_a_large_body),
    "draining": ({"drain": {"wait": "0s", "deadline": "1s"}}, DIALECTS, while_draining),
    "upstream_timeout": (upstreams(timeout=QUICK), DIALECTS, lambda g, d: call(g, d, "latency=60s")),
    "not_stored": ({}, DIALECTS, lambda g, d: call(g, d, headers={"cache-control": "only-if-cached"})),
    "deadline": ({}, DIALECTS, lambda g, d: call(g, d, "latency=60s", headers={"x-stainless-timeout": "0.3"})),
}
BEFORE_THE_CHARGE = {"invalid_request", "invalid_json", "exceeds_limit", "invalid_api_key", "model_not_allowed", "unknown_path", "model_not_found",
                     "method_not_allowed", "request_timeout", "body_too_large", "unsupported_media", "not_stored", "overloaded"}
GIVEN_BACK = {"upstream_unreachable", "upstream_busy"}  # nothing was sent


def test_each_row_has_a_way():
    assert len(ROWS) == HEADER.read_text().count("\tX(") and set(WAYS) == set(ROWS) - UNSEEN


@contextlib.contextmanager
def hung(redis, really):
    if really:
        redis.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        redis.signal(signal.SIGCONT)


def dump(redis):
    return {key: redis.command("DUMP", key) for key in redis.keys() if not key.startswith("sluice:{fleet}")}  # who lives is told by and by


def owed(redis):
    """How long the tenant's bucket of requests takes to be full again, in microseconds."""
    tat = float(redis.command("HGET", "sluice:{t:acme}:q", "rpd") or 0)
    seconds, micros = redis.command("TIME")
    return tat - int(seconds) * 1e6 - int(micros)


@pytest.mark.parametrize("code", sorted(WAYS))
def test_a_row(start_gateway, sim, redis, code):
    changes, dialects, ask = WAYS[code]
    row, url = ROWS[code], sim.url
    if changes is None:
        changes, url = {}, f"http://127.0.0.1:{free_port()}"
    counting = {"tenants": {"acme": {"limits": {"rpd": 10}}}, "upstreams": {"plain": {"forward_headers": ["x-sim"]}}}
    number = 0
    for dialect in dialects:
        redis.command("FLUSHALL")
        gateway = start_gateway(url, redis.url, merge(counting, changes))
        before = dump(redis)
        with hung(redis, code == "quota_unavailable"):
            answer = ask(gateway, dialect)
        check_shape(dialect, row, answer)
        number += 1
        if code == "draining":
            assert gateway.wait(10) == 0
            continue
        wait_until(lambda: counted([gateway], outcome=code) == 1, "it is counted")
        at_rest([gateway], redis, sim if changes is not None and url == sim.url else None)
        if code in BEFORE_THE_CHARGE:
            assert dump(redis) == before == {}
        if code in GIVEN_BACK:
            held = 86400e6 / 10 if code == "upstream_busy" else 0  # the first one's own
            assert owed(redis) <= held, (dialect, owed(redis))
        gateway.stop()
    assert number == len(dialects)
