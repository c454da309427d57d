"""What passes through: byte for byte in three dialects, streams as they come, cut answers never as whole ones."""

import hashlib
import http.client
import json
import socket

import pytest

from support import client
from support.client import MODELS, headers_for, prompt, request, text_of
from support.gateway import KEY, UPSTREAM_KEY
from support.process import wait_until
from support.rest import at_rest, counted

DIALECTS = ["gemini", "openai", "anthropic"]


def direct(sim, dialect, text, stream=False, **more):
    path, body = prompt(dialect, text, stream, **more)
    return request(sim.url + path, body=body, headers=headers_for(dialect))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_byte_for_byte(gateway, sim, redis, dialect, stream):
    text = "[[sim nonce=same tokens=40]] Grüße, \"quoted\" \\ and 1.10"
    through, straight = gateway.ask(dialect, text, stream), direct(sim, dialect, text, stream)
    assert through.status == 200 and through.complete
    assert through.body == straight.body
    assert through.headers["content-type"] == straight.headers["content-type"]
    at_rest([gateway], redis, sim)
    assert counted([gateway], outcome="ok", status="200") == 1


def test_gemini_array_stream(gateway, sim):
    body = {"contents": [{"parts": [{"text": "[[sim nonce=array tokens=9]]"}]}]}
    path = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    through = request(gateway.url + path, body=body, headers=headers_for("gemini", KEY))
    assert through.body == request(sim.url + path, body=body, headers=headers_for("gemini")).body
    assert through.body.rstrip().endswith(b"]")


def test_the_request_goes_up_bit_for_bit(start_gateway, sim, redis):
    """Numbers, escapes and blanks as the client wrote them; of the head only what the list lets through."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"endpoints": [{"url": sim.url + "/anything"}]}}})
    raw = (b'{ "model":"gpt-4o-mini" ,\n "temperature": 0.10, "seed":12345678901234567890, '
           b'"messages":[{"role":"user","content":"\\u00e9\\/ \xc3\xa9"}] }')
    got = request(gateway.url + "/v1/chat/completions?key=" + KEY, body=raw,
                  headers={"Content-Type": "application/json", "Cookie": "a=b", "OpenAI-Beta": "x=v2", "X-Other": "no", "User-Agent": "test/1",
                           "OpenAI-Organization": "org", "traceparent": "00-1-2-01", "Connection": "x-remove, keep-alive"}).json()
    assert (got["method"], got["path"], got["query"]) == ("POST", "/anything/v1/chat/completions", "")
    assert got["body_sha256"] == hashlib.sha256(raw).hexdigest() and got["body_length"] == len(raw)
    names = {name.lower(): value for name, value in got["headers"]}
    assert names.pop("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert names.pop("host") == sim.url.split("//")[1]
    assert names == {"content-type": "application/json", "openai-beta": "x=v2", "user-agent": "test/1", "traceparent": "00-1-2-01",
                     "accept-encoding": "identity", "via": "1.1 sluice", "content-length": str(len(raw))}, names


def test_usage_is_asked_for_and_taken_out_again(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"tpm": 100000}}}})
    text = "[[sim nonce=usage tokens=12]]"
    asked = direct(sim, "openai", text, True, stream_options={"include_usage": True}).body
    told = next(event for event in asked.split(b"\n\n") if b'"choices":[]' in event) + b"\n\n"
    assert gateway.ask("openai", text, True).body == asked.replace(told, b"")  # the client did not ask, and is not told
    assert gateway.metric("sluice_tokens_total", kind="output") == 12
    assert gateway.ask("openai", text, True, stream_options={"include_usage": True}).body == asked
    assert gateway.metric("sluice_tokens_total", kind="output") == 24
    at_rest([gateway], redis, sim)


def test_a_renamed_model_is_exchanged_and_nothing_else(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"models": {"fast": {"targets": [{"upstream": "openai", "model": "gpt-4o-mini"}]},
                                                            "gem": {"targets": [{"upstream": "gemini", "model": "gemini-2.5-flash"}]}}})
    assert gateway.ask("openai", "[[sim tokens=3]]", model="fast").json()["model"] == "gpt-4o-mini"
    assert gateway.ask("gemini", "[[sim tokens=3]]", model="gem").status == 200
    assert gateway.ask("openai", "[[sim tokens=3]]", model="gpt-4o").status == 200

    def logged():
        return [(line["model"], line.get("upstream_model")) for line in gateway.log() if line["event"] == "request"]

    wait_until(lambda: len(logged()) == 3, "all three are logged")
    assert logged() == [("fast", "gpt-4o-mini"), ("gem", "gemini-2.5-flash"), ("gpt-4o", None)]
    assert sim.model_stats("gpt-4o-mini")["completed"] == 1


def test_embeddings_counts_and_lists(gateway, sim):
    for path, body in (("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}),
                       ("/v1beta/models/gemini-embedding-001:embedContent", {"content": {"parts": [{"text": "x"}]}}),
                       ("/v1beta/models/gemini-2.5-flash:countTokens", {"contents": [{"parts": [{"text": "x y z"}]}]}),
                       ("/v1/messages/count_tokens", {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "x"}]})):
        through = request(gateway.url + path, body=body, headers=headers_for("anthropic", KEY))
        assert (through.status, through.body) == (200, request(sim.url + path, body=body, headers={**headers_for("openai"), **headers_for("gemini"), **headers_for("anthropic")}).body), path


@pytest.mark.parametrize("dialect", ["gemini", "openai", "anthropic"])
def test_a_lone_surrogate_in_a_prompt_passes(gateway, sim, dialect):
    """json.dumps, like JSON.stringify, writes it as an escape."""
    path, body = prompt(dialect, "Q \ud83d Q [[sim nonce=half tokens=1]]")
    through = request(gateway.url + path, body=json.dumps(body), headers={"Content-Type": "application/json", **headers_for(dialect, KEY)})
    straight = request(sim.url + path, body=json.dumps(body), headers={"Content-Type": "application/json", **headers_for(dialect)})
    assert (through.status, through.body) == (200, straight.body)


@pytest.mark.parametrize("size", [5, 19])
def test_large_bodies_go_through(gateway, sim, size):
    image = "A" * (size * 1024 * 1024)
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "[[sim nonce=big tokens=2]]"}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}]}]}
    answer = request(gateway.url + "/v1/chat/completions", body=body, headers=headers_for("openai", KEY))
    assert answer.status == 200 and client.answer_text("openai", answer) == text_of("big", 2)
    assert gateway.status()["requests"]["body_bytes"] == 0


# ---- cut answers ---------------------------------------------------------------------------------------------------------------


def read_raw(gateway, dialect, text, stream):
    """The answer's bytes off the wire, and whether it ended as HTTP ends."""
    path, body = prompt(dialect, text, stream)
    body = json.dumps(body).encode()
    fields = {**headers_for(dialect, KEY), "Host": "gateway", "Content-Type": "application/json", "Content-Length": str(len(body))}
    head = f"POST {path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields.items()) + "\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), 30) as connection:
        connection.sendall(head.encode() + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        try:
            return response.status, response.read(), True
        except (http.client.IncompleteRead, ConnectionError) as cut:
            return response.status, getattr(cut, "partial", b""), False


@pytest.mark.parametrize("fault", ["reset@700", "fin@700", "truncate@700", "badchunk@700"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_cut_answer_never_looks_whole(gateway, sim, redis, dialect, stream, fault):
    if fault.startswith("badchunk") and not stream:
        fault += " framing=chunked"
    status, body, whole = read_raw(gateway, dialect, f"[[sim tokens=60 fault={fault}]]", stream)
    assert status == 200 and not whole, (status, body, whole)
    if stream:
        last = body.strip().rpartition(b"\n")[2]  # Gemini's is bare JSON
        assert b"upstream_broken" in last.lower() or not body.endswith((b"\n\n", b"\r\n\r\n")), body[-300:]
        assert b"[DONE]" not in body and b"message_stop" not in body
    assert counted([gateway], status="200") == counted([gateway], outcome="upstream_broken") + counted([gateway], outcome="upstream_invalid") == 1
    at_rest([gateway], redis, sim)
    line = next(line for line in gateway.log() if line["event"] == "request")
    assert line["failed"].startswith(f"{dialect} 200 {line['upstream_outcome']} ") and line["upstream_outcome"] in ("reset", "truncated", "garbage"), line


@pytest.mark.parametrize("fault,status,code", [("reset", 502, "upstream_broken"), ("fin", 502, "upstream_broken"), ("garbage", 502, "upstream_invalid")])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_answer_is_told_in_the_callers_dialect(gateway, sim, redis, dialect, fault, status, code):
    answer = gateway.ask(dialect, f"[[sim fault={fault}]]")
    assert answer.status == status and code.upper() in answer.text.upper(), answer
    assert sim.stats()["received"] == 1  # never sent twice
    at_rest([gateway], redis, sim)


def test_a_stream_without_its_marker_is_not_whole(gateway):
    status, body, whole = read_raw(gateway, "openai", "[[sim tokens=5 fault=nomarker]]", True)
    assert status == 200 and not whole and b"upstream_broken" in body


def test_the_providers_own_errors_pass(gateway, sim):
    for dialect in DIALECTS:
        for wanted in (400, 429, 500, 503):
            text, model = f"[[sim status={wanted} retry=7s]]", f"{MODELS[dialect]}-{wanted}"  # who said when to come again is not asked before
            through, straight = gateway.ask(dialect, text, model=model), direct(sim, dialect, text, model=model)
            assert (through.status, through.body) == (wanted, straight.body)
            assert through.headers["retry-after"] == straight.headers["retry-after"]
    assert counted([gateway], outcome="upstream_error") == 12


def test_an_error_inside_a_stream_passes_as_it_is(gateway, sim):
    for dialect in DIALECTS:
        text = "[[sim nonce=in tokens=9 fault=event@4]]"
        assert gateway.ask(dialect, text, True).body == direct(sim, dialect, text, True).body


def test_dialect_http(gateway, sim):
    """Any API under its upstream's name: method, path, query and body as they are; the client's key stays here."""
    for method, body in (("GET", None), ("GET", b'{"query":{}}'), ("GET", b""), ("POST", b"\x00\x01 anything"), ("PUT", b"x" * 300000),
                         ("DELETE", None), ("DELETE", b"x")):
        got = request(gateway.url + "/plain/anything/a%20b?c=d&key=" + KEY, method=method, body=body).json()
        assert (got["method"], got["path"], got["query"]) == (method, "/anything/a%20b", "c=d")
        assert got["body_sha256"] == hashlib.sha256(body or b"").hexdigest()
        assert KEY not in json.dumps(got)
    missing = request(gateway.url + "/nobody/here", headers={"Authorization": f"Bearer {KEY}"})
    assert missing.status == 404 and missing.headers["content-type"] == "application/problem+json"


def test_a_body_that_nobody_takes_is_refused_not_dropped(gateway, sim):
    before = sim.stats()["received"]
    for body in (b"x", iter([b"x"])):
        answer = request(gateway.url + "/plain/anything", method="HEAD", body=body, headers={"Authorization": f"Bearer {KEY}"})
        assert answer.status == 400
    assert sim.stats()["received"] == before


def test_head_and_early_answers(gateway, sim):
    answer = request(gateway.url + "/plain/__sim/stats", method="HEAD", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status == 200 and answer.body == b""
    assert gateway.ask("openai", "[[sim tokens=3 fault=early]]").status == 200
    assert MODELS["openai"] in sim.stats()["models"]
