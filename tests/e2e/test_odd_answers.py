"""Answers that no good provider sends: what is whole passes whole, what is not never looks whole, and the marker is what says so."""

import json

import pytest

from support.client import headers_for, request
from support.gateway import KEY
from support.process import wait_until
from support.provider import chunked, plain
from support.rest import at_rest, counted

EVENTS, TPM = "text/event-stream", {"tenants": {"acme": {"limits": {"tpm": 100000}}}}
CHUNK = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
OK = b'{"id":"1","choices":[{"index":0,"message":{"content":"hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'


def candidates(*said):
    return json.dumps({"candidates": [{"index": i, "content": {"parts": [{"text": "x"}]}, **({"finishReason": "STOP"} if end else {})}
                                      for i, end in said]}).encode()


def google_event(*said):
    return b"data: " + candidates(*said) + b"\r\n\r\n"


def ask_array(gateway):
    return request(gateway.url + "/v1beta/models/gemini-2.5-flash:streamGenerateContent", body={"contents": []}, headers=headers_for("gemini", KEY))


def line_of(gateway):
    """What the log tells of the only request."""
    wait_until(lambda: any(line["event"] == "request" for line in gateway.log()), "it is logged")
    return next(line for line in gateway.log() if line["event"] == "request")


# ---- streams -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect,stream", [("openai", CHUNK + DONE), ("anthropic", STOP), ("gemini", google_event((0, True)))])
def test_a_cut_behind_the_marker_is_no_cut(provider, start_gateway, redis, dialect, stream):
    gateway = start_gateway(provider(chunked(stream, EVENTS, end=False), close=True).url, redis.url)
    answer = gateway.ask(dialect, "x", True)
    assert answer.complete and answer.body == stream
    assert counted([gateway], outcome="ok") == 1 and line_of(gateway)["upstream_outcome"]
    at_rest([gateway], redis)


@pytest.mark.parametrize("framing", [plain, chunked])
def test_a_stream_without_its_marker_never_looks_whole(provider, start_gateway, redis, framing):
    gateway = start_gateway(provider(framing(CHUNK * 3, EVENTS)).url, redis.url)
    answer = gateway.ask("openai", "x", True)
    assert not answer.complete and answer.body.startswith(CHUNK * 3) and b"upstream_broken" in answer.body


def test_each_candidate_must_end(provider, start_gateway, redis):
    cut = google_event((0, False), (1, False)) + google_event((0, True))
    gateway = start_gateway(provider(chunked(cut, EVENTS)).url, redis.url)
    assert not gateway.ask("gemini", "x", True, generationConfig={"candidateCount": 2}).complete
    gateway = start_gateway(provider(chunked(cut + google_event((1, True)), EVENTS)).url, redis.url)
    assert gateway.ask("gemini", "x", True, generationConfig={"candidateCount": 2}).complete


def test_blanks_behind_an_array(provider, start_gateway, redis):
    body = b"[" + candidates((0, True)) + b"\n]" + b" \n" * 500
    gateway = start_gateway(provider(chunked(body)).url, redis.url)
    answer = ask_array(gateway)
    assert answer.complete and answer.body == body


@pytest.mark.parametrize("framing", [plain, chunked])
def test_an_array_that_did_not_end_stays_open(provider, start_gateway, redis, framing):
    gateway = start_gateway(provider(framing(b"[" + candidates((0, False)) + b"]" + b"\n" * 100)).url, redis.url)
    answer = ask_array(gateway)
    assert not answer.complete and b"]}\n" not in answer.body and not answer.body.endswith(b"}]")


def test_an_error_inside_a_stream_is_not_ok(provider, start_gateway, redis):
    stream = CHUNK + b'data: {"error":{"message":"overloaded"}}\n\n'
    gateway = start_gateway(provider(chunked(stream, EVENTS)).url, redis.url)
    answer = gateway.ask("openai", "x", True)
    assert answer.complete and answer.body == stream
    assert counted([gateway], outcome="upstream_error", status="200") == 1


@pytest.mark.parametrize("nothing", [b"null", b"{}", b'""'])
def test_an_empty_error_is_none(provider, start_gateway, redis, nothing):
    stream = CHUNK.replace(b'{"id"', b'{"error":' + nothing + b',"id"')
    gateway = start_gateway(provider(chunked(stream, EVENTS)).url, redis.url)
    assert not gateway.ask("openai", "x", True).complete
    gateway = start_gateway(provider(chunked(stream + DONE, EVENTS)).url, redis.url)
    assert gateway.ask("openai", "x", True).complete and counted([gateway], outcome="ok") == 1


# ---- plain answers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [plain, chunked])
@pytest.mark.parametrize("body", [OK[:-20], OK[:-1], b'"', b""], ids=["half", "nearly", "one byte", "nothing"])
def test_half_an_answer_never_looks_whole(provider, start_gateway, redis, framing, body):
    gateway = start_gateway(provider(framing(body)).url, redis.url)
    answer = gateway.ask("openai", "x")
    assert answer.status == 200 and not answer.complete and body.startswith(answer.body)
    assert counted([gateway], outcome="upstream_invalid") == 1
    at_rest([gateway], redis)


DISLIKED = {
    "lone surrogate in a name": OK.replace(b'"id"', b'"\\ud83d":1,"id"'),
    "bad UTF-8": OK.replace(b"hi", b"\xf0\x9f"),
    "byte order mark": b"\xef\xbb\xbf" + OK,
    "repeated": OK[:-1] + b',"usage":null}',
    "long name": OK[:-1] + b',"' + b"k" * 1000 + b'":1}',
    "many names": OK[:-1] + b"".join(b',"k%d":1' % i for i in range(300)) + b"}",
    "deep": OK[:-1] + b',"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    "no JSON": b"<html>",
}


@pytest.mark.parametrize("framing", [plain, chunked])
@pytest.mark.parametrize("name", list(DISLIKED))
def test_what_cannot_be_read_passes_and_is_charged_as_guessed(provider, start_gateway, redis, name, framing):
    gateway = start_gateway(provider(framing(DISLIKED[name])).url, redis.url, TPM)
    answer = gateway.ask("openai", "x", max_tokens=77)
    assert answer.complete and answer.body == DISLIKED[name]
    line = line_of(gateway)
    assert line["outcome"] == "ok" and line["unmetered"]
    assert line["tokens"] == line["tokens_reserved"] > 77
    at_rest([gateway], redis)


@pytest.mark.parametrize("framing", [plain, chunked])
def test_a_lone_surrogate_in_an_answer_is_text(provider, start_gateway, redis, framing):
    body = OK.replace(b"hi", b"\\ud83d")
    gateway = start_gateway(provider(framing(body)).url, redis.url, TPM)
    answer = gateway.ask("openai", "x")
    assert answer.complete and answer.body == body
    assert "unmetered" not in line_of(gateway) and line_of(gateway)["tokens"] == 2


def test_a_lone_surrogate_at_the_end_of_a_stream_is_text(provider, start_gateway, redis):
    event = google_event((0, True)).replace(b'"x"', b'"\\ud83d"').replace(b"}\r", b',"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":7}}\r')
    gateway = start_gateway(provider(chunked(event, EVENTS)).url, redis.url)
    answer = gateway.ask("gemini", "x", True)
    assert answer.complete and answer.body == event
    assert gateway.metric("sluice_tokens_total", kind="output") == 7


def test_the_last_event_cannot_be_read(provider, start_gateway, redis):
    """It may be the marker: the stream passes as what cannot be read does."""
    event = google_event((0, True)).replace(b'"index"', b'"index": 0, "index"')
    gateway = start_gateway(provider(chunked(google_event((0, False)) + event, EVENTS)).url, redis.url)
    assert gateway.ask("gemini", "x", True).complete and line_of(gateway)["unmetered"]
