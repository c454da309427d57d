"""A small HTTP client over http.client, and Server-Sent Events. Tests that break the protocol use sockets themselves."""

import http.client
import json
import socket
import struct
import time
import urllib.parse


class Answer:
    def __init__(self, status, headers, body, complete=True, seconds=0.0):
        self.status = status
        self.headers = headers  # http.client's: any case, get_all for repeated ones
        self.body = body
        self.complete = complete  # False: the transfer ended before the body did
        self.seconds = seconds

    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()

    def events(self):
        return sse(self.body)

    def __repr__(self):
        return f"<{self.status} {len(self.body)} bytes{'' if self.complete else ', cut'}: {self.body[:200]!r}>"


def connect(url, timeout=30.0):
    """A connection to the origin of `url`, and the path to ask it for."""
    parts = urllib.parse.urlsplit(url)
    target = parts.path + ("?" + parts.query if parts.query else "")
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), target or "/"


def request(url, method=None, body=None, headers=None, timeout=30.0):
    """One request on its own connection. A body that is cut is an Answer with complete=False; no head at all raises."""
    connection, target = connect(url, timeout)
    headers = dict(headers or {})
    if isinstance(body, (dict, list)):
        body = json.dumps(body)
        headers.setdefault("Content-Type", "application/json")
    if isinstance(body, str):
        body = body.encode()
    began = time.monotonic()
    try:
        connection.request(method or ("GET" if body is None else "POST"), target, body=body, headers=headers)
        response = connection.getresponse()
        complete = True
        try:
            content = response.read()
        except http.client.IncompleteRead as cut:
            content, complete = cut.partial, False
        except (ConnectionError, socket.timeout):
            content, complete = b"", False
        return Answer(response.status, response.headers, content, complete, time.monotonic() - began)
    finally:
        connection.close()


class Stream:
    """An answer that is read piece by piece, and left when the test likes: `with stream(url, body) as s: s.read_event()`."""

    def __init__(self, url, body, headers=None, timeout=30.0):
        self.connection, target = connect(url, timeout)
        headers = {"Content-Type": "application/json", **(headers or {})}
        self.connection.request("POST", target, body=json.dumps(body).encode(), headers=headers)
        self.socket = self.connection.sock
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
        self.pending = b""

    def read_event(self):
        """The next event's bytes, its blank line included; b"" at a clean end; raises when the transfer is cut."""
        while True:
            for blank in (b"\r\n\r\n", b"\n\n"):
                at = self.pending.find(blank)
                if at >= 0:
                    event, self.pending = self.pending[: at + len(blank)], self.pending[at + len(blank):]
                    return event
            piece = self.response.read1(65536)
            if not piece:
                if self.pending:
                    raise http.client.IncompleteRead(self.pending)
                return b""
            self.pending += piece

    def read_all(self):
        """To the end; one that is cut raises with all that came, what had been read with an earlier event included."""
        rest, self.pending = self.pending, b""
        try:
            return rest + self.response.read()
        except http.client.IncompleteRead as cut:
            raise http.client.IncompleteRead(rest + cut.partial) from cut

    def leave(self, reset=False):
        """Goes away in the middle; with reset=True by RST. The moment, on time.monotonic."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.response.close()
        self.connection.close()
        self.socket.close()
        return time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


def stream(url, body, headers=None, timeout=30.0):
    return Stream(url, body, headers, timeout)


def sse(body):
    """Server-Sent Events (WHATWG HTML section 9.2): a list of {"event", "data"}; an unfinished event at the end is dropped."""
    events, name, data = [], "", []
    text = body.decode().replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    for line in lines[:-1]:
        if line == "":
            if data:
                events.append({"event": name or "message", "data": "\n".join(data)})
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return events


def text_of(nonce, tokens):
    """What the simulator answers: each token names its request and its place."""
    return "".join(f"{nonce}.{i} " for i in range(tokens))


def headers_for(dialect, key="any"):
    if dialect == "gemini":
        return {"x-goog-api-key": key}
    if dialect == "anthropic":
        return {"x-api-key": key, "anthropic-version": "2023-06-01"}
    return {"Authorization": f"Bearer {key}"}


MODELS = {"gemini": "gemini-2.5-flash", "openai": "gpt-4o-mini", "anthropic": "claude-sonnet-4-5"}


def prompt(dialect, text, stream=False, model=None, **more):
    """(path, body) of a call for an answer in the dialect."""
    model = model or MODELS[dialect]
    if dialect == "gemini":
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        return f"/v1beta/models/{model}:{verb}", {"contents": [{"role": "user", "parts": [{"text": text}]}], **more}
    body = {"model": model, "messages": [{"role": "user", "content": text}], **({"stream": True} if stream else {}), **more}
    if dialect == "anthropic":
        return "/v1/messages", {"max_tokens": 4096, **body}
    return "/v1/chat/completions", body


def answer_text(dialect, answer):
    """The text of an answer to prompt(): whole or a stream."""
    if "text/event-stream" in (answer.headers.get("content-type") or ""):
        return "".join(_piece(dialect, event["data"]) for event in answer.events())
    body = answer.json()
    if dialect == "gemini":
        return "".join(part.get("text", "") for part in body["candidates"][0]["content"]["parts"])
    if dialect == "anthropic":
        return "".join(block.get("text", "") for block in body["content"])
    return body["choices"][0]["message"]["content"]


def _piece(dialect, data):
    if data == "[DONE]":
        return ""
    event = json.loads(data)
    if dialect == "gemini":
        return "".join(part.get("text", "") for c in event.get("candidates", []) for part in c["content"]["parts"])
    if dialect == "anthropic":
        return event.get("delta", {}).get("text", "") if event["type"] == "content_block_delta" else ""
    return "".join(c["delta"].get("content") or "" for c in event.get("choices", []))


def ask(sim, dialect, text, streaming=False, headers=None, **more):
    """One call of that dialect, straight to the simulator."""
    path, body = prompt(dialect, text, streaming, **more)
    return request(sim.url + path, body=body, headers={**headers_for(dialect), **(headers or {})})


def error_of(dialect, answer):
    """The word by which a program tells the provider's errors apart."""
    error = answer.json()["error"]
    return error["status"] if dialect == "gemini" else error["type"] if dialect == "anthropic" else error["code"] or error["type"]
