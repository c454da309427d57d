"""The simulated provider itself: what tests of the gateway believe of it is proved here."""

import base64
import hashlib
import json
import math
import socket
import struct
import threading
import time
import zlib

import pytest

from support import client, load
from support.client import ask, error_of, headers_for, prompt, request, stream, text_of
from support.process import descriptors, wait_until

DIALECTS = ["gemini", "openai", "anthropic"]


def usage_of(dialect, body):
    if dialect == "gemini":
        usage = body["usageMetadata"]
        return usage["promptTokenCount"], usage["candidatesTokenCount"]
    usage = body["usage"]
    return (usage["input_tokens"], usage["output_tokens"]) if dialect == "anthropic" else (
        usage["prompt_tokens"], usage["completion_tokens"])


# ---- answers ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whole_answer_echoes_nonce_and_counts_tokens(sim, dialect):
    text = "hello [[sim nonce=n-1 tokens=7]]"
    answer = ask(sim, dialect, text)
    assert answer.status == 200
    assert client.answer_text(dialect, answer) == text_of("n-1", 7)
    assert usage_of(dialect, answer.json()) == (math.ceil(len(text) / 4), 7)
    stats = sim.stats()
    assert (stats["received"], stats["completed"], stats["output_tokens"]) == (1, 1, 7)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_stream_has_every_token_once_and_in_order(sim, dialect):
    answer = ask(sim, dialect, "[[sim nonce=abc tokens=50 chunk=3]]", True)
    assert answer.status == 200 and answer.complete
    assert client.answer_text(dialect, answer) == text_of("abc", 50)
    assert sim.stats()["output_tokens"] == 50


def test_openai_stream_sequence_and_usage(sim):
    answer = ask(sim, "openai", "[[sim nonce=a tokens=2]]", True, stream_options={"include_usage": True})
    data = [event["data"] for event in answer.events()]
    assert data[-1] == "[DONE]"
    chunks = [json.loads(d) for d in data[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["completion_tokens"] == 2
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_anthropic_stream_sequence(sim):
    answer = ask(sim, "anthropic", "[[sim nonce=a tokens=2]]", True)
    assert [event["event"] for event in answer.events()] == [
        "message_start", "content_block_start", "ping", "content_block_delta", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop"]
    last = json.loads(answer.events()[-2]["data"])
    assert last["delta"]["stop_reason"] == "end_turn" and last["usage"]["output_tokens"] == 2


def test_gemini_stream_as_sse_and_as_array(sim):
    path, body = prompt("gemini", "[[sim nonce=a tokens=3]]", True)
    events = request(sim.url + path, body=body, headers=headers_for("gemini"))
    assert events.body.endswith(b"\r\n\r\n") and events.headers["content-type"] == "text/event-stream"
    array = request(sim.url + path.replace("?alt=sse", ""), body=body, headers=headers_for("gemini"))
    assert array.headers["content-type"].startswith("application/json")
    assert array.json() == [json.loads(event["data"]) for event in events.events()]
    assert "finishReason" not in array.json()[0]["candidates"][0]
    assert array.json()[-1]["candidates"][0]["finishReason"] == "STOP"
    assert array.json()[-1]["usageMetadata"]["candidatesTokenCount"] == 3


def test_responses_event_family(sim):
    body = {"model": "gpt-4o", "input": "[[sim nonce=r tokens=2]]", "stream": True}
    answer = request(sim.url + "/v1/responses", body=body, headers=headers_for("openai"))
    assert [event["event"] for event in answer.events()] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed"]
    events = [json.loads(event["data"]) for event in answer.events()]
    assert [event["sequence_number"] for event in events] == list(range(10))
    whole = request(sim.url + "/v1/responses", body={**body, "stream": False}, headers=headers_for("openai")).json()
    done = events[-1]["response"]
    assert done["output"][0]["content"][0]["text"] == whole["output"][0]["content"][0]["text"] == text_of("r", 2)
    assert done["usage"]["output_tokens"] == 2


def test_completions_and_choices(sim):
    body = {"model": "gpt-3.5-turbo-instruct", "prompt": "[[sim nonce=c tokens=2]]", "n": 3}
    answer = request(sim.url + "/v1/completions", body=body, headers=headers_for("openai")).json()
    assert [choice["text"] for choice in answer["choices"]] == [text_of("c", 2)] * 3
    assert answer["usage"]["completion_tokens"] == 6
    streamed = request(sim.url + "/v1/completions", body={**body, "stream": True}, headers=headers_for("openai"))
    texts = ["", "", ""]
    for event in streamed.events()[:-1]:
        for choice in json.loads(event["data"])["choices"]:
            texts[choice["index"]] += choice["text"]
    assert texts == [text_of("c", 2)] * 3


@pytest.mark.parametrize("dialect", DIALECTS)
def test_maximum_cuts_the_answer(sim, dialect):
    more = {"generationConfig": {"maxOutputTokens": 4}} if dialect == "gemini" else {"max_tokens": 4}
    body = ask(sim, dialect, "[[sim nonce=m tokens=9]]", **more).json()
    assert usage_of(dialect, body)[1] == 4
    reason = {"gemini": lambda b: b["candidates"][0]["finishReason"], "anthropic": lambda b: b["stop_reason"],
              "openai": lambda b: b["choices"][0]["finish_reason"]}[dialect](body)
    assert reason == {"gemini": "MAX_TOKENS", "anthropic": "max_tokens", "openai": "length"}[dialect]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dialect,usual,filtered", [("gemini", "STOP", "SAFETY"), ("openai", "stop", "content_filter"),
                                                    ("anthropic", "end_turn", "refusal")])
def test_filter_ends_the_answer_as_the_provider_does(sim, dialect, usual, filtered, streaming):
    def reasons(words):
        answer = ask(sim, dialect, f"[[sim nonce=f tokens=3 {words}]]", streaming)
        assert answer.complete and client.answer_text(dialect, answer) == text_of("f", 3)
        bodies = [json.loads(e["data"]) for e in answer.events() if e["data"] != "[DONE]"] if streaming else [answer.json()]
        told = {"gemini": lambda b: b["candidates"][0].get("finishReason"), "openai": lambda b: b["choices"][0]["finish_reason"],
                "anthropic": lambda b: b.get("delta", b).get("stop_reason")}[dialect]
        return [reason for reason in map(told, bodies) if reason is not None]

    assert (reasons(""), reasons("filter=off"), reasons("filter=on")) == ([usual], [usual], [filtered])


def test_filter_ends_every_choice(sim):
    body = {"model": "gpt-4o", "prompt": "[[sim nonce=f tokens=3 filter=on]]", "n": 2}
    whole = request(sim.url + "/v1/completions", body=body, headers=headers_for("openai")).json()
    assert [choice["finish_reason"] for choice in whole["choices"]] == ["content_filter"] * 2
    events = request(sim.url + "/v1/completions", body={**body, "stream": True}, headers=headers_for("openai")).events()
    last = [json.loads(event["data"])["choices"][0] for event in events[-3:-1]]
    assert [(choice["index"], choice["finish_reason"]) for choice in last] == [(0, "content_filter"), (1, "content_filter")]


def test_filter_leaves_a_response_incomplete(sim):
    body = {"model": "gpt-4o", "input": "[[sim nonce=f tokens=3 filter=on]]"}
    whole = request(sim.url + "/v1/responses", body=body, headers=headers_for("openai")).json()
    last = request(sim.url + "/v1/responses", body={**body, "stream": True}, headers=headers_for("openai")).events()[-1]
    assert last["event"] == json.loads(last["data"])["type"] == "response.incomplete"
    for response in (whole, json.loads(last["data"])["response"]):
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "content_filter"})
        assert response["output"][0]["content"][0]["text"] == text_of("f", 3)


def test_embeddings_float_and_base64_agree(sim):
    body = {"model": "text-embedding-3-small", "input": ["[[sim nonce=e]]", "two"], "dimensions": 256}
    floats = request(sim.url + "/v1/embeddings", body=body, headers=headers_for("openai")).json()
    packed = request(sim.url + "/v1/embeddings", body={**body, "encoding_format": "base64"}, headers={
        **headers_for("openai"), "x-sim": "nonce=e"}).json()
    for one, other in zip(floats["data"], packed["data"]):
        unpacked = struct.unpack("<256f", base64.b64decode(other["embedding"]))
        assert unpacked == pytest.approx(one["embedding"], rel=1e-6)
        assert sum(x * x for x in unpacked) == pytest.approx(1, rel=1e-4)
    assert floats["data"][0]["embedding"] != floats["data"][1]["embedding"]


def test_gemini_embeddings_and_counts(sim):
    headers = headers_for("gemini")
    content = {"parts": [{"text": "12345678"}]}
    single = request(sim.url + "/v1beta/models/gemini-embedding-001:embedContent", body={"content": content}, headers=headers)
    assert len(single.json()["embedding"]["values"]) == 3072
    batch = request(sim.url + "/v1beta/models/text-embedding-004:batchEmbedContents", headers=headers, body={
        "requests": [{"model": "models/text-embedding-004", "content": content, "outputDimensionality": 64}] * 3})
    assert [len(e["values"]) for e in batch.json()["embeddings"]] == [64] * 3
    count = request(sim.url + "/v1beta/models/gemini-2.5-pro:countTokens", body={"contents": [content]}, headers=headers)
    assert count.json()["totalTokens"] == 2
    path, body = prompt("anthropic", "12345678")
    assert request(sim.url + "/v1/messages/count_tokens", body=body, headers=headers_for("anthropic")).json() == {"input_tokens": 2}


def test_images_cost_and_do_not_slow(sim):
    image = base64.b64encode(bytes(5 << 20)).decode()
    body = {"contents": [{"parts": [{"text": "what?"}, {"inlineData": {"mimeType": "image/png", "data": image}}]}]}
    answer = request(sim.url + "/v1beta/models/gemini-2.5-pro:generateContent", body=body, headers=headers_for("gemini"))
    assert answer.json()["usageMetadata"]["promptTokenCount"] == 2 + 258
    assert sim.stats()["largest_body"] > len(image)


TOOLS = {
    "gemini": {"tools": [{"functionDeclarations": [{"name": "weather", "parameters": {
        "type": "OBJECT", "properties": {"city": {"type": "STRING"}, "days": {"type": "INTEGER"}}}}]}]},
    "openai": {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]},
    "anthropic": {"tools": [{"name": "weather", "input_schema": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}]},
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("streaming", [False, True])
def test_tool_calls(sim, dialect, streaming):
    answer = ask(sim, dialect, "[[sim nonce=t]]", streaming, **TOOLS[dialect])
    bodies = [json.loads(e["data"]) for e in answer.events() if e["data"] != "[DONE]"] if streaming else [answer.json()]
    if dialect == "gemini":
        name, arguments = next((p["functionCall"]["name"], p["functionCall"]["args"]) for b in bodies
                               for p in b["candidates"][0]["content"]["parts"])
    elif dialect == "openai":
        calls = [c for b in bodies for choice in b["choices"] for c in choice.get("delta", choice.get("message")).get(
            "tool_calls", [])]
        name, arguments = calls[0]["function"]["name"], json.loads("".join(c["function"]["arguments"] for c in calls))
    elif streaming:
        name = next(b["content_block"]["name"] for b in bodies if b["type"] == "content_block_start")
        arguments = json.loads("".join(b["delta"]["partial_json"] for b in bodies if b["type"] == "content_block_delta"))
    else:
        name, arguments = bodies[0]["content"][0]["name"], bodies[0]["content"][0]["input"]
    assert (name, arguments) == ("weather", {"city": "t", "days": 7})


def test_tool_result_is_answered_by_text(sim):
    body = {"model": "gpt-4o", **TOOLS["openai"], "messages": [
        {"role": "user", "content": "[[sim nonce=t tokens=2]]"}, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]}
    answer = request(sim.url + "/v1/chat/completions", body=body, headers=headers_for("openai")).json()
    assert answer["choices"][0]["message"]["content"] == text_of("t", 2)


def test_same_request_same_bytes(sim):
    first, second = (ask(sim, "openai", "[[sim nonce=s tokens=9]]", True).body for _ in range(2))
    assert first == second
    assert ask(sim, "openai", "[[sim nonce=s tokens=9 unique=on]]", True).body != first


def test_echo(sim):
    answer = request(sim.url + "/anything/a/b?c=d", body="x" * 100000, method="PUT", headers={"X-One": "1"}).json()
    assert (answer["method"], answer["path"], answer["query"], answer["body_length"]) == ("PUT", "/anything/a/b", "c=d", 100000)
    assert answer["body_sha256"] == hashlib.sha256(b"x" * 100000).hexdigest()
    assert ["X-One", "1"] in answer["headers"]


# ---- models, keys, errors ---------------------------------------------------------------------------------------------------------


def test_model_lists_in_each_shape(sim):
    openai = request(sim.url + "/v1/models", headers=headers_for("openai")).json()
    anthropic = request(sim.url + "/v1/models", headers=headers_for("anthropic")).json()
    gemini = request(sim.url + "/v1beta/models?key=k").json()
    assert openai["object"] == "list" and "gpt-4o" in [m["id"] for m in openai["data"]]
    assert anthropic["has_more"] is False and anthropic["data"][0]["type"] == "model"
    assert "models/gemini-2.5-pro" in [m["name"] for m in gemini["models"]]
    assert request(sim.url + "/v1/models/gpt-4o", headers=headers_for("openai")).json()["id"] == "gpt-4o"
    assert request(sim.url + "/v1/models/gpt-9", headers=headers_for("openai")).status == 404


@pytest.mark.parametrize("dialect,status,name", [("gemini", 400, "INVALID_ARGUMENT"), ("openai", 401, "invalid_api_key"),
                                                 ("anthropic", 401, "authentication_error")])
def test_wrong_key(start_sim, dialect, status, name):
    sim = start_sim(key="the-right-one")
    answer = ask(sim, dialect, "hi")
    assert (answer.status, error_of(dialect, answer)) == (status, name)
    assert ask(sim, dialect, "hi", headers=headers_for(dialect, "the-right-one")).status == 200


@pytest.mark.parametrize("dialect,name", [("gemini", "NOT_FOUND"), ("openai", "model_not_found"), ("anthropic", "not_found_error")])
def test_unknown_model(sim, dialect, name):
    answer = ask(sim, dialect, "hi", model="no-such-model")
    assert (answer.status, error_of(dialect, answer)) == (404, name)
    sim.configure(models="no-such-model")
    assert ask(sim, dialect, "hi", model="no-such-model").status == 200


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("body", ["{", "[]", '{"model":"gpt-4o"}', '{"a":1}x', '{"messages":[}'])
def test_bad_bodies(sim, dialect, body):
    path, _ = prompt(dialect, "")
    answer = request(sim.url + path, body=body, headers=headers_for(dialect))
    assert answer.status == 400
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503, 529])
def test_status_on_demand(sim, dialect, status):
    answer = ask(sim, dialect, f"[[sim status={status} retry=2s]]")
    assert answer.status == status and answer.json()["error"]["message"]
    if status == 429 and dialect == "gemini":
        details = {d["@type"].rsplit(".", 1)[1]: d for d in answer.json()["error"]["details"]}
        assert details["RetryInfo"]["retryDelay"] == "2s"
    if status == 429 and dialect != "gemini":
        assert answer.headers["retry-after"] == "2"
    if status == 529 and dialect == "anthropic":
        assert answer.json()["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_own_request_limit(start_sim, dialect):
    sim = start_sim(limits="rpm=3")
    answers = [ask(sim, dialect, "hi") for _ in range(5)]
    assert [a.status for a in answers] == [200, 200, 200, 429, 429]
    if dialect == "openai":
        assert answers[0].headers["x-ratelimit-remaining-requests"] == "2"
        assert 50 < int(answers[3].headers["retry-after"]) <= 60
    elif dialect == "anthropic":
        assert answers[3].headers["anthropic-ratelimit-requests-remaining"] == "0"
    else:
        kinds = [d["@type"].rsplit(".", 1)[1] for d in answers[3].json()["error"]["details"]]
        assert kinds == ["QuotaFailure", "Help", "RetryInfo"]


def test_own_token_and_concurrency_limits(sim):
    sim.limits(tpm=100)
    assert ask(sim, "openai", "[[sim tokens=90 nonce=a]]").status == 200
    assert ask(sim, "openai", "x" * 40).status == 429
    sim.limits(concurrency=1)
    path, body = prompt("openai", "[[sim tokens=100 rate=50]]", True)
    with stream(sim.url + path, body, headers_for("openai")) as open_stream:
        open_stream.read_event()
        assert ask(sim, "openai", "hi").status == 429
    wait_until(lambda: sim.stats()["in_flight"] == 0, "the stream is gone")
    assert ask(sim, "openai", "hi").status == 200


# ---- time -------------------------------------------------------------------------------------------------------------------------


def test_latency_and_rate_are_at_least_what_was_asked(sim):
    assert ask(sim, "openai", "[[sim latency=150ms]]").seconds >= 0.14
    assert ask(sim, "openai", "[[sim tokens=21 rate=100]]", True).seconds >= 0.19


def test_behaviour_by_rule_model_and_header(sim):
    sim.set("status=503", model="gpt-4o*", times=2)
    assert [ask(sim, "openai", "x").status for _ in range(3)] == [503, 503, 200]
    assert ask(sim, "anthropic", "x", model="sim-529").status == 529
    assert ask(sim, "gemini", "[[sim status=500]]", headers={"x-sim": "status=404"}).status == 404
    sim.set("status=500 chance=50%")
    seen = {ask(sim, "openai", "x").status for _ in range(40)}
    assert seen == {200, 500}
    sim.clear()
    assert ask(sim, "openai", "x").status == 200
    with pytest.raises(RuntimeError, match="latency=fast"):
        sim.set("latency=fast")


# ---- faults -----------------------------------------------------------------------------------------------------------------------


def raw(sim, words, streaming=False, read=None):
    """The bytes that come back, and how the connection ended: "fin", "reset" or "open"."""
    _, body = prompt("openai", f"[[sim nonce=f tokens=20 {words}]]", streaming)
    body = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n\r\n"
    received, end = b"", "open"
    with socket.create_connection(("127.0.0.1", sim.port), 10) as connection:
        connection.sendall(head.encode() + body)
        connection.settimeout(0.5)
        try:
            while read is None or len(received) < read:
                piece = connection.recv(65536)
                if not piece:
                    end = "fin"
                    break
                received += piece
        except ConnectionResetError:
            end = "reset"
        except socket.timeout:
            pass
    return received, end


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("position", [0, 1, 100])
@pytest.mark.parametrize("fault,end", [("reset", "reset"), ("fin", "fin"), ("stall", "open")])
def test_cut_at_a_byte(sim, fault, end, position, streaming):
    received, how = raw(sim, f"fault={fault}@{position}", streaming)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and len(body) == position and how == end


@pytest.mark.parametrize("fault,end", [("reset", "reset"), ("fin", "fin"), ("stall", "open")])
def test_cut_before_the_head(sim, fault, end):
    assert raw(sim, f"fault={fault}") == (b"", end)


def test_other_faults(sim):
    short, how = raw(sim, "fault=truncate")
    head, _, body = short.partition(b"\r\n\r\n")
    assert how == "fin" and f"content-length: {2 * len(body)}".encode()[:-1] in head
    garbage, how = raw(sim, "fault=garbage")
    assert how == "fin" and not garbage.startswith(b"HTTP")
    extra, how = raw(sim, "fault=extra")
    assert how == "open" and extra.endswith(b"}\nHTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
                                                                          b"content-length: 20\r\n\r\nnot asked for by you")
    bad, how = raw(sim, "fault=badchunk@50", True)
    assert how == "fin" and b"\r\nzz\r\n" in bad
    early, _ = raw(sim, "fault=early")
    assert early.startswith(b"HTTP/1.1 103 ") and b"\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n" in early


def test_stream_without_marker_ends_cleanly(sim):
    for dialect, marker in (("openai", b"[DONE]"), ("anthropic", b"message_stop"), ("gemini", b"finishReason")):
        answer = ask(sim, dialect, "[[sim tokens=5 fault=nomarker]]", True)
        assert answer.complete and marker not in answer.body and answer.body
        answer = ask(sim, dialect, "[[sim tokens=5 fault=event@2]]", True)
        assert answer.complete and b"overloaded" in answer.body


def test_line_without_end_and_bomb(sim):
    received, how = raw(sim, "fault=longline size=1MiB", True)
    assert how == "fin" and len(received) > 1 << 20 and received.count(b"\ndata:") == 1
    answer = ask(sim, "openai", "[[sim fault=bomb size=64MiB]]")
    assert answer.headers["content-encoding"] == "gzip" and len(answer.body) < 1 << 20
    unpacked = zlib.decompress(answer.body, wbits=31)
    assert len(unpacked) == 64 << 20 and not any(unpacked[:: 1 << 16])


def test_drip_and_slice(sim):
    began = time.monotonic()
    received, _ = raw(sim, "fault=fin@20 drip=2000")
    assert len(received.partition(b"\r\n\r\n")[2]) == 20 and time.monotonic() - began >= 0.2
    sliced = ask(sim, "anthropic", "[[sim nonce=z tokens=3 slice=7]]", True)
    assert client.answer_text("anthropic", sliced) == text_of("z", 3)


# ---- the ledger -------------------------------------------------------------------------------------------------------------------


def test_client_that_leaves_is_billed_for_what_was_sent(sim):
    path, body = prompt("openai", "[[sim nonce=gone tokens=1000 rate=200]]", True)
    with stream(sim.url + path, body, headers_for("openai")) as open_stream:
        for _ in range(6):
            open_stream.read_event()
        assert sim.stats()["in_flight"] == 1
        open_stream.leave()
    left = time.clock_gettime(time.CLOCK_BOOTTIME)
    abort = wait_until(sim.aborts, "the abort is seen")[0]
    assert abort["nonce"] == "gone" and 5 <= abort["output_tokens"] < 1000
    assert abort["left_us"] / 1e6 <= left + 1 and sim.stats()["output_tokens"] == abort["output_tokens"]


def test_duplicates_are_seen(sim):
    for nonce in ("one", "two", "one"):
        ask(sim, "openai", f"[[sim nonce={nonce}]]")
    ask(sim, "openai", "no nonce")
    ask(sim, "openai", "no nonce")
    assert (sim.stats()["duplicate_nonces"], sim.stats()["last_duplicate"]) == (1, "one")
    sim.reset()
    assert sim.stats()["received"] == sim.stats()["duplicate_nonces"] == 0


def test_arrivals_hold_time_model_and_tokens(sim):
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    ask(sim, "openai", "x" * 40 + "[[sim tokens=3]]")
    ask(sim, "gemini", "[[sim status=500]]")
    after = time.clock_gettime(time.CLOCK_BOOTTIME)
    (at, model, tokens_in, tokens_out, status), second = sim.arrivals()
    assert before <= at <= second[0] <= after
    assert (model, tokens_in, tokens_out, status) == ("gpt-4o-mini", 14, 3, 200)
    assert second[1:] == ("gemini-2.5-flash", 0, 0, 500)


def test_keep_alive_and_pipelining(sim):
    _, body = prompt("openai", "[[sim nonce=p tokens=1 latency=5ms]]")
    body = json.dumps(body).encode()
    one = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer k\r\nContent-Length: {len(body)}\r\n\r\n"
           ).encode() + body
    with socket.create_connection(("127.0.0.1", sim.port), 10) as connection:
        connection.sendall(one * 5)
        received = b""
        while received.count(b"p.0 ") < 5:
            received += connection.recv(65536)
    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert sim.stats()["received"] == 5


def test_chunked_body_and_expect(sim):
    _, body = prompt("openai", "[[sim nonce=q tokens=1]]")
    body = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer k\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sim.port), 10) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        for byte in body:
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")
        assert b"q.0 " in connection.recv(65536)


def test_many_streams_at_once_stay_apart(sim):
    failures = []

    def one(i):
        nonce = f"s{i}"
        answer = ask(sim, DIALECTS[i % 3], f"[[sim nonce={nonce} tokens=40 rate=400]]", True)
        if client.answer_text(DIALECTS[i % 3], answer) != text_of(nonce, 40):
            failures.append(i)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and sim.stats()["max_in_flight"] > 1 and sim.stats()["in_flight"] == 0


def test_descriptors_return_to_the_base_line(sim):
    base = descriptors(sim.pid)
    report = load.run(sim.url + prompt("openai", "")[0], connections=200, requests=1000, headers=headers_for("openai"),
                      body=prompt("openai", "[[sim nonce={{n}} tokens=5]]", True)[1], options=["--fresh"])
    assert report["by_status"] == {"200": 1000} and report["errors"] == {}
    wait_until(lambda: descriptors(sim.pid) == base, "descriptors are given back")


# ---- the load generator -------------------------------------------------------------------------------------------------------------


def test_load_counts_what_the_simulator_counts(sim):
    path, body = prompt("openai", "[[sim nonce={{n}} tokens=5]]", True)
    report = load.run(sim.url + path, connections=8, requests=500, headers=headers_for("openai"), body=body)
    stats = sim.stats()
    assert report["completed"] == stats["completed"] == 500 and stats["duplicate_nonces"] == 0
    assert report["connections_opened"] == 8


def test_open_loop_charges_waiting(sim):
    path, body = prompt("openai", "[[sim latency=100ms]]")
    report = load.run(sim.url + path, connections=1, requests=20, rate=100, headers=headers_for("openai"), body=body)
    # 20 requests of 100 ms, one after the other, offered within 200 ms: the last waits for those before it
    assert report["latency_us"]["max"] >= 1_700_000
    closed = load.run(sim.url + path, connections=1, requests=3, headers=headers_for("openai"), body=body)
    assert closed["seconds"] >= 0.28


def test_load_names_its_errors(sim):
    path, body = prompt("openai", "[[sim tokens=100 nonce={{n}}]]", True)
    target = dict(headers=headers_for("openai"), body=body)
    sim.set("fault=fin@300", times=3)
    report = load.run(sim.url + path, connections=1, requests=5, **target)
    assert report["errors"] == {"closed": 3} and report["by_status"] == {"200": 2}
    sim.set("rate=200")
    left = load.run(sim.url + path, connections=5, requests=5, options=["--abort-after", "500"], **target)
    assert left["errors"] == {"aborted": 5}
    sim.set("fault=stall")
    assert load.run(sim.url + path, connections=1, requests=1, options=["-t", "0.2"], **target)["errors"] == {"timeout": 1}
