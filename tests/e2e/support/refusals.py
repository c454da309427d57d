"""What the gateway itself refuses with: the rows of svc/refusal.h, read there, and the shape of each in a dialect."""

import pathlib
import re

HEADER = pathlib.Path(__file__).resolve().parents[3] / "svc" / "refusal.h"
ROW = re.compile(r'X\((\w+), *(\d+), *(true|false), *"([^"]*)", *"([^"]*)", *"([^"]*)", *"([^"]*)"\)')
# They say when to come again.
TELL_WHEN = {"rate_limited", "queue_full", "too_many_at_once", "quota_unavailable", "overloaded", "upstream_busy", "draining", "breaker_open", "upstream_limited"}


class Row:
    def __init__(self, found):
        self.code, status, retry, self.openai, self.gemini, self.anthropic, self.text = found
        self.status, self.retry = int(status), retry


ROWS = {row.code: row for row in (Row(found) for found in ROW.findall(HEADER.read_text()))}


def three_words_each(text):
    words = re.findall(r"\w+", text.lower())
    return set(zip(words, words[1:], words[2:]))


def check_shape(dialect, row, answer):
    """Status, media type, body and fields as the row and the dialect have them. The message."""
    body, told = answer.json(), answer.headers
    assert answer.complete and answer.status == row.status, answer
    assert told["content-type"] == ("application/problem+json" if dialect == "http" else "application/json")
    if dialect == "gemini":
        error = body["error"]
        assert list(body) == ["error"] and (error["code"], error["status"]) == (row.status, row.gemini), body
        info, asked = error["details"]
        assert (info["@type"], info["reason"], info["domain"]) == ("type.googleapis.com/google.rpc.ErrorInfo", row.code.upper(), "sluice")
        message, number = error["message"], asked["requestId"]
    elif dialect == "openai":
        error = body["error"]
        assert list(body) == ["error"] and (error["type"], error["code"], error["param"]) == (row.openai, row.code, None), body
        message, number = error["message"], None
    elif dialect == "anthropic":
        error = body["error"]
        assert (body["type"], error["type"], error["code"]) == ("error", row.anthropic, row.code), body
        message, number = error["message"], body["request_id"]
        assert told["request-id"] == number
    else:
        assert (body["type"], body["status"], body["code"]) == ("about:blank", row.status, row.code) and body["title"], body
        message, number = body["detail"], body["request_id"]
    assert message.startswith(row.text) and not three_words_each(row.text) & three_words_each(message[len(row.text):]), message  # it says nothing twice
    assert number in (None, told["x-request-id"]) and re.fullmatch(r"[A-Za-z0-9._-]+", told["x-request-id"])
    assert told["x-should-retry"] == row.retry
    if "retry-after" in told:
        seconds, milliseconds = int(told["retry-after"]), int(told["retry-after-ms"])
        assert seconds >= 1 and seconds == -(-milliseconds // 1000)  # whole seconds, rounded up
    assert ("retry-after" in told) == (row.code in TELL_WHEN)
    assert ("proxy-status" in told) == (row.code.startswith("upstream_") or row.code == "breaker_open")
    assert ("www-authenticate" in told) == (row.status == 401)
    return message
