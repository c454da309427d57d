"""Every refusal from outside: status, stable code, the caller's dialect, what to do, and that it costs nothing; and the fields of good answers."""

import json
import re

import pytest

from support.client import MODELS, headers_for, prompt, request
from support.gateway import KEY, UPSTREAM_KEY
from support.process import free_port
from support.rest import at_rest, counted

DIALECTS = ["gemini", "openai", "anthropic"]


def code_of(dialect, answer):
    """The stable code in this dialect's shape; its other members are checked on the way."""
    error = answer.json()["error"]
    if dialect == "gemini":
        assert error["code"] == answer.status and error["status"] and error["message"]
        return error["details"][0]["reason"].lower()
    if dialect == "anthropic":
        assert answer.json()["type"] == "error" and error["type"] and error["message"]
        return error["code"]
    assert error["type"] and error["message"] and error["param"] is None
    return error["code"]


def refused(gateway, dialect, status, code, retry=None, **how):
    answer = gateway.ask(dialect, how.pop("text", "hello"), **how)
    assert (answer.status, code_of(dialect, answer)) == (status, code), answer
    if retry is not None:
        assert answer.headers["x-should-retry"] == ("true" if retry else "false")
    assert re.fullmatch(r"[A-Za-z0-9._-]+", answer.headers["x-request-id"])
    assert answer.headers["request-id"] == (answer.headers["x-request-id"] if dialect == "anthropic" else None)
    return answer


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_caller_does_wrong(start_gateway, sim, redis, dialect):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"models": [MODELS[d] for d in DIALECTS], "limits": {"rpd": 1000, "tpd": {"limit": 100000, "burst": 100}}}},
                                                 "max_body": "64KiB"})
    before = redis.keys()
    refused(gateway, dialect, 401, "invalid_api_key", False, key="wrong-key-of-somebody")
    refused(gateway, dialect, 403, "model_not_allowed", False, model="another-model")
    refused(gateway, dialect, 400, "exceeds_limit", False, text="x" * 8000)
    refused(gateway, dialect, 413, "body_too_large", text="x" * 70000)
    path, body = prompt(dialect, "hello")
    fields = {**headers_for(dialect, KEY), "Content-Type": "application/json"}
    for raw, status, code in ((b"{", 400, "invalid_json"), (b'{"model":"a","model":"b"}', 400, "invalid_json"), (b"[]", 400, "invalid_request"),
                              (b"\xff\xfe", 400, "invalid_json"), (b"", 400, "invalid_json")):
        answer = request(gateway.url + path, method="POST", body=raw, headers=fields)
        assert answer.status == status and code_of(dialect, answer) in (code, "invalid_request"), (raw, answer)
    answer = request(gateway.url + path, body=body, headers={**fields, "Content-Encoding": "gzip"})
    assert (answer.status, code_of(dialect, answer)) == (415, "unsupported_media")
    answer = request(gateway.url + path, method="GET", headers=fields)
    assert (answer.status, code_of(dialect, answer), answer.headers["allow"]) == (405, "method_not_allowed", "POST")
    answer = request(gateway.url + path, body=body, headers={**fields, "x-api-key": "one-key-here", "Authorization": "Bearer another-key"})
    assert answer.status == 400
    assert redis.keys() == before and sim.stats()["received"] == 0
    at_rest([gateway], redis, sim)


def test_unknown_paths_answer_in_the_nearest_dialect(gateway):
    for path, dialect in (("/v1/nothing", "openai"), ("/v1beta/nothing", "gemini"), ("/v1/messages/nothing", "anthropic")):
        answer = request(gateway.url + path, body={}, headers=headers_for(dialect, KEY))
        assert (answer.status, code_of(dialect, answer)) == (404, "unknown_path"), (path, answer)


def test_a_missing_key_is_told_from_an_unknown_one(gateway):
    path, body = prompt("openai", "hello")
    for fields, told in (({}, "No key came in Authorization: Bearer, x-api-key, x-goog-api-key or ?key=."),
                         ({"Authorization": KEY}, "The scheme of Authorization must be Bearer."),
                         ({"Authorization": "Bearer zzzz"}, "The key came in Authorization and is unknown."),
                         ({"x-api-key": "zzzz"}, "The key came in x-api-key and is unknown.")):
        answer = request(gateway.url + path, body=body, headers=fields)
        assert (answer.status, code_of("openai", answer)) == (401, "invalid_api_key")
        assert answer.json()["error"]["message"].endswith(told) and "zzzz" not in answer.text and KEY not in answer.text


ALONE, WITH_VERSION = "The base URL is this gateway's address alone.", "The base URL of this gateway ends in /v1."
MISSED = [("/chat/completions", "openai", "/v1/chat/completions", WITH_VERSION), ("/v1/v1/responses", "openai", "/v1/responses", WITH_VERSION),
          ("/v1/v1/messages", "anthropic", "/v1/messages", ALONE), ("/messages/count_tokens", "anthropic", "/v1/messages/count_tokens", ALONE),
          ("/v1beta/v1beta/models/m:generateContent", "gemini", "/v1beta/models/m:generateContent", ALONE),
          ("/gemini/models/m:streamGenerateContent", "gemini", "/v1beta/models/m:streamGenerateContent", ALONE)]


@pytest.mark.parametrize("path,dialect,meant,base", MISSED)
def test_a_wrong_base_url_is_told(gateway, sim, path, dialect, meant, base):
    """Its SDK shows the answer, because it has its shape, and the answer says which path was meant."""
    answer = request(gateway.url + path, body={}, headers=headers_for(dialect, KEY))
    assert (answer.status, code_of(dialect, answer)) == (404, "unknown_path"), answer
    assert answer.json()["error"]["message"] == f"There is nothing at this path. Did you mean {meant}? {base}"
    stranger = request(gateway.url + path, body={}, headers=headers_for(dialect, "wrong-key-of-somebody"))
    assert stranger.status == 401 and "Did you mean" not in stranger.text and meant not in stranger.text
    assert sim.stats()["received"] == 0


def test_an_upstream_whose_paths_end_like_a_dialects_is_reached(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"chat": {"dialect": "http", "endpoints": [{"url": sim.url + "/anything"}]}}})
    for path in ("/completions", "/v1/messages", "/models/m:generateContent"):
        reached = request(gateway.url + "/chat" + path, body={}, headers=headers_for("openai", KEY))
        assert reached.status == 200 and reached.json()["target"] == "/anything" + path, reached
    missed = request(gateway.url + "/chats/x", body={}, headers=headers_for("openai", KEY))
    assert missed.status == 404 and missed.json()["code"] == "unknown_path" and 'named "chats"' in missed.json()["detail"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_limits_say_when_to_come_again(start_gateway, sim, redis, dialect):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"rpm": {"limit": 6, "burst": 1}, "tpd": 100000}}}})
    good = gateway.ask(dialect, "[[sim tokens=2]]")
    assert good.status == 200
    assert good.headers["ratelimit-policy"] == '"rpm";q=6;w=60, "tpd";q=100000;qu="sluice-tokens";w=86400'
    assert re.fullmatch(r'"rpm";r=0;t=10, "tpd";r=\d+;t=\d+', good.headers["ratelimit"])
    assert good.headers["x-ratelimit-limit-requests"] == "6" and good.headers["x-ratelimit-remaining-requests"] == "0"
    assert good.headers["x-ratelimit-limit-tokens"] == "100000" and good.headers["x-ratelimit-reset-requests"].endswith("s")
    denied = refused(gateway, dialect, 429, "rate_limited", True)
    assert int(denied.headers["retry-after"]) == 10 and 9000 <= int(denied.headers["retry-after-ms"]) <= 10000
    assert gateway.metric("sluice_quota_denied_total", scope="tenant", limit="rpm") == 1
    assert "The limit rpm of the tenant is 6." in denied.text


def test_a_strict_limit_says_that_it_is_one(start_gateway, sim, redis):
    """Sixty an hour, and the second call is refused: who is not told that requests are spaced takes it for a mistake."""
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"limits": {"rph": 60, "concurrency": 100}}}})
    assert gateway.ask("openai", "[[sim tokens=1]]").status == 200
    assert "The limit rph of the upstream is 60; it is strict, so requests are spaced evenly." in refused(gateway, "openai", 429, "rate_limited", True).text


@pytest.mark.parametrize("dialect", DIALECTS)
def test_too_many_at_once(start_gateway, sim, redis, dialect):
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"limits": {"concurrency": 1}}}})
    with gateway.open_stream(dialect, "[[sim tokens=10000 rate=50]]") as stream:
        assert stream.read_event()
        denied = refused(gateway, dialect, 429, "too_many_at_once", True)
        assert int(denied.headers["retry-after"]) >= 1
    at_rest([gateway], redis, sim)
    assert gateway.ask(dialect, "[[sim tokens=1]]").status == 200


def test_a_model_in_the_body_is_the_paths(start_gateway, sim, redis):
    """Who may use one model does not reach another behind its back."""
    name = "gemini-embedding-001"
    gateway = start_gateway(sim.url, redis.url, {"tenants": {"acme": {"models": [name]}}})

    def embed(*models):
        body = {"requests": [{"model": f"models/{model}", "content": {"parts": [{"text": "x"}]}} for model in models]}
        return request(f"{gateway.url}/v1beta/models/{name}:batchEmbedContents", body=body, headers=headers_for("gemini", KEY))

    assert embed(name, name).status == 200
    for models in ((name, "another-model"), ("another-model", name)):
        answer = embed(*models)
        assert (answer.status, code_of("gemini", answer)) == (400, "invalid_request")
    assert sim.stats()["received"] == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_upstream_does_wrong(start_gateway, sim, redis, dialect):
    timeouts = {"first_byte": "300ms", "first_byte_plain": "300ms", "idle": "300ms"}
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {d: {"timeout": timeouts} for d in DIALECTS}})
    answer = refused(gateway, dialect, 504, "upstream_timeout", True, text="[[sim latency=60s]]")
    assert answer.headers["proxy-status"] == "sluice; error=http_response_timeout"
    assert refused(gateway, dialect, 502, "upstream_broken", False, text="[[sim fault=reset]]").headers["proxy-status"]
    stalled = gateway.ask(dialect, "[[sim tokens=50 fault=stall@500]]", True)
    assert not stalled.complete and counted([gateway], outcome="upstream_timeout") == 2
    gone = start_gateway(f"http://127.0.0.1:{free_port()}", redis.url)
    answer = refused(gone, dialect, 502, "upstream_unreachable", True)
    assert answer.headers["proxy-status"] == "sluice; error=destination_unavailable"
    at_rest([gateway, gone], redis, sim)


def test_no_connection_free(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"openai": {"pool": {"min": 0, "start": 1, "max": 1, "streams": 1, "connect_timeout": "200ms"}}}})
    with gateway.open_stream("openai", "[[sim tokens=10000 rate=50]]") as stream:
        assert stream.read_event()
        assert gateway.ask("openai", "[[sim tokens=1]]").status == 200  # streams do not starve plain calls
        refused(gateway, "openai", 503, "upstream_busy", True, text="hello", stream=True)
    at_rest([gateway], redis, sim)


def test_a_model_that_nobody_serves(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"upstreams": {"gemini": {"default": False}}})
    refused(gateway, "gemini", 404, "model_not_found", False)
    at_rest([gateway], redis, sim)


def test_models_are_listed_in_each_shape(start_gateway, sim, redis):
    gateway = start_gateway(sim.url, redis.url, {"models": {"a": {"targets": [{"upstream": "openai"}]}, "b": {"targets": [{"upstream": "gemini"}]},
                                                            "c": {"targets": [{"upstream": "anthropic"}]}}})
    openai = request(gateway.url + "/v1/models", headers=headers_for("openai", KEY)).json()
    gemini = request(gateway.url + "/v1beta/models?key=" + KEY).json()
    anthropic = request(gateway.url + "/v1/models", headers=headers_for("anthropic", KEY)).json()
    assert [m["id"] for m in openai["data"]] == ["a"] and [m["name"] for m in gemini["models"]] == ["models/b"]
    assert [m["id"] for m in anthropic["data"]] == ["c"]
    assert request(gateway.url + "/v1/models/a", headers=headers_for("openai", KEY)).json()["id"] == "a"
    assert request(gateway.url + "/v1/models/nope", headers=headers_for("openai", KEY)).status == 404
    assert request(gateway.url + "/v1/models").status == 401


def test_a_long_list_of_models_is_whole(start_gateway, sim, redis):
    names = [f"m{i:04}-".ljust(200, "x") for i in range(3000)]
    models = {name: {"targets": [{"upstream": "gemini"}]} for name in names}
    models["o"] = {"targets": [{"upstream": "openai"}]}
    gateway = start_gateway(sim.url, redis.url, {"models": models, "tenants": {
        "some": {"keys": ["a-key-for-some-models"], "models": [names[7], "o", names[3], "elsewhere"]}}})

    def listed(key):
        answer = request(gateway.url + "/v1beta/models", headers=headers_for("gemini", key))
        assert answer.status == 200 and answer.complete
        return [model["name"].removeprefix("models/") for model in answer.json()["models"]]

    def found(name, key):
        return request(f"{gateway.url}/v1beta/models/{name}", headers=headers_for("gemini", key)).status

    assert listed(KEY) == names and listed("a-key-for-some-models") == [names[3], names[7]]
    assert [found(name, KEY) for name in (names[0], names[-1], "o", "nope")] == [200, 200, 404, 404]
    assert [found(name, "a-key-for-some-models") for name in (names[3], names[4], "o")] == [200, 404, 404]
    at_rest([gateway], redis, sim)


def test_fields_of_an_answer(gateway):
    answer = gateway.ask("openai", "[[sim tokens=1]]", headers={"X-Request-Id": "mine-1.a", "Via": "1.1 before"})
    assert answer.headers["x-request-id"] == "mine-1.a"
    assert re.fullmatch(r"quota;dur=[\d.]+, upstream;dur=[\d.]+", answer.headers["server-timing"])
    assert answer.headers["via"].endswith("1.1 sluice") and answer.headers["server"] == "sluice"
    assert gateway.ask("openai", "hi", headers={"X-Request-Id": "not valid!"}).headers["x-request-id"] != "not valid!"
    line = next(line for line in gateway.log() if line.get("id") == "mine-1.a")
    assert (line["tenant"], line["model"], line["upstream"], line["outcome"], line["status"]) == ("acme", MODELS["openai"], "openai", "ok", 200)
    assert line["total_ms"] >= line["first_byte_ms"] > 0 and line["tokens"] > 0 and line["path"] == "/v1/chat/completions"


def test_malformed_http_is_told_and_counted(gateway):
    import socket
    for raw, status in ((b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
                        (b"BREW /v1/messages HTTP/1.1\r\nHost: a\r\n\r\n", b"501"), (b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400")):
        with socket.create_connection(("127.0.0.1", gateway.port), 10) as connection:
            connection.sendall(raw)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert answer.split(b" ")[1] == status
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["type"] == "error"  # Anthropic's path, Anthropic's shape
    assert gateway.metric("sluice_client_faults_total") == 3


def test_no_secret_anywhere(start_gateway, start_redis, sim):
    redis = start_redis(port=True, password="canary-redis-password")
    gateway = start_gateway(sim.url, redis.tcp_url, {"tenants": {"acme": {"keys": ["canary-client-key"], "limits": {"rpm": 5}}}, "log_level": "debug",
                                                     "upstreams": {"openai": {"credential": {"header": "Authorization", "value": "Bearer canary-upstream-key"}}}})
    seen = []
    for path in ("/v1/chat/completions", "/v1/chat/completions?key=canary-client-key", "/v1/nothing?key=canary-client-key"):
        for text in ("[[sim tokens=1]]", "[[sim fault=reset]]", "[[sim fault=garbage]]", "[[sim status=401]]"):
            answer = request(gateway.url + path, body=prompt("openai", text)[1], headers=headers_for("openai", "canary-client-key"))
            seen.append(str(answer.headers) + answer.text)
    seen += [request(gateway.admin_url + page).text for page in ("/metrics", "/status", "/requests", "/config", "/")]
    seen += [gateway.stdout(), gateway.stderr(), " ".join(redis.keys()), open(f"/proc/{gateway.pid}/cmdline").read()]
    for secret in ("canary-client-key", "canary-upstream-key", "canary-redis-password", UPSTREAM_KEY):
        assert not [text for text in seen if secret in text], secret
    assert counted([gateway]) == 12


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_models_name_may_be_long_but_not_longer(gateway, dialect):
    """Also one that no limit knows; the provider says what he thinks of it."""
    assert [gateway.ask(dialect, "[[sim tokens=1]]", model="m" * length).status for length in (200, 201, 256, 257)] == [404, 404, 404, 400]
