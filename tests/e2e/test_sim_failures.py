"""The simulated provider: quotas that are used up, a provider that is gone, and what it tells of every call."""

import calendar
import email.utils
import http.client
import json
import socket
import time

import pytest

from support.client import ask, error_of, headers_for, prompt, request, stream
from support.process import wait_until

# ---- quotas -----------------------------------------------------------------------------------------------------------------------


def quota_of_google(answer):
    details = {d["@type"].rsplit(".", 1)[1]: d for d in answer.json()["error"]["details"]}
    return details.get("QuotaFailure", {"violations": [{}]})["violations"][0].get("quotaId"), details.get("RetryInfo", {}).get("retryDelay")


def test_quotas_in_googles_words(sim):
    minute, day, credit = (ask(sim, "gemini", f"[[sim quota={quota} retry=35s]]") for quota in ("minute", "day", "credit"))
    assert [a.status for a in (minute, day, credit)] == [429] * 3 and {a.json()["error"]["status"] for a in (minute, day, credit)} == {
        "RESOURCE_EXHAUSTED"}
    assert quota_of_google(minute) == ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "35s")
    assert quota_of_google(day) == ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "35s")
    assert quota_of_google(ask(sim, "gemini", "[[sim quota=day]]"))[1] is None
    assert quota_of_google(credit)[0] is None and "credits are depleted" in credit.json()["error"]["message"]
    array = request(sim.url + "/v1beta/models/gemini-2.5-pro:streamGenerateContent", headers={**headers_for("gemini"), "x-sim": "quota=day"},
                    body=prompt("gemini", "x")[1])
    assert array.status == 429 and array.json()[0]["error"]["code"] == 429


def test_quotas_in_openais_words(sim):
    day = ask(sim, "openai", "[[sim quota=day retry=432s]]")
    assert (day.status, error_of("openai", day)) == (429, "rate_limit_exceeded")
    assert "on requests per day (RPD): Limit 250, Used 250, Requested 1." in day.json()["error"]["message"]
    assert (day.headers["x-ratelimit-reset-requests"], day.headers["x-ratelimit-remaining-requests"], day.headers["retry-after"],
            day.headers["retry-after-ms"]) == ("7m12s", "0", "432", "432000")
    assert ask(sim, "openai", "[[sim quota=day]]").headers["x-ratelimit-reset-requests"] == "24h0m0s"
    minute = ask(sim, "openai", "[[sim quota=minute retry=20ms]]")
    assert "on requests per min (RPM): " in minute.json()["error"]["message"]
    assert [minute.headers[name] for name in ("x-ratelimit-reset-requests", "retry-after", "retry-after-ms")] == ["20ms", "1", "20"]
    credit = ask(sim, "openai", "[[sim quota=credit]]")
    assert (credit.status, credit.json()["error"]["type"], credit.json()["error"]["code"]) == (429, "insufficient_quota", "insufficient_quota")
    assert "retry-after" not in credit.headers and "x-ratelimit-reset-requests" not in credit.headers


def test_quotas_in_anthropics_words(sim):
    minute, day, credit = (ask(sim, "anthropic", f"[[sim quota={quota} retry=3s]]") for quota in ("minute", "day", "credit"))
    assert [a.status for a in (minute, day, credit)] == [429, 429, 400]
    assert [error_of("anthropic", a) for a in (minute, day, credit)] == ["rate_limit_error"] * 2 + ["invalid_request_error"]
    assert "requests per minute" in minute.json()["error"]["message"] and "daily rate limit" in day.json()["error"]["message"]
    assert credit.json()["error"]["message"].startswith("Your credit balance is too low")
    for answer, name in ((minute, "requests"), (day, "tokens")):
        assert (answer.headers["retry-after"], answer.headers[f"anthropic-ratelimit-{name}-remaining"]) == ("3", "0")
        reset = calendar.timegm(time.strptime(answer.headers[f"anthropic-ratelimit-{name}-reset"], "%Y-%m-%dT%H:%M:%SZ"))
        assert 0 <= reset - email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() <= 5


def test_quota_is_a_rule_like_others(sim):
    assert ask(sim, "openai", "x", model="sim-quota").status == 429
    sim.set("quota=day", model="gpt-4o*", times=1)
    assert [ask(sim, "openai", "x").status for _ in range(2)] == [429, 200]
    with pytest.raises(RuntimeError, match="quota=year"):
        sim.set("quota=year")
    answer = request(sim.url + "/anything", headers={"x-sim": "status=503 retry=200ms"})
    assert (answer.status, answer.headers["retry-after"], answer.headers["retry-after-ms"]) == (503, "1", "200")


# ---- a provider that is gone --------------------------------------------------------------------------------------------------------


@pytest.fixture
def mortal(start_sim):
    return start_sim(control="127.0.0.1:0", key="k")


def checks(sim, timeout=10):
    """The statuses of health checks, or the errors' names."""
    def one(method, path, headers):
        try:
            return request(sim.url + path, method=method, headers=headers, timeout=timeout).status
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
    return [one("GET", "/v1/models", headers_for("openai", "k")), one("GET", "/v1beta/models", headers_for("gemini", "k")),
            one("GET", "/v1/models", {}), one("HEAD", "/", {})]


HEALTHY = [200, 200, 401, 404]


@pytest.mark.parametrize("how,seen", [("refuse", "ConnectionRefusedError"), ("blackhole", "TimeoutError"), ("garbage", "BadStatusLine")])
def test_down_takes_everything_and_ends(mortal, how, seen):
    assert checks(mortal) == HEALTHY
    for _ in range(2):
        mortal.down(how)
        assert checks(mortal, timeout=0.2) == [seen] * 4
        mortal.up()
        assert checks(mortal) == HEALTHY
    mortal.down(how)
    mortal.clear()
    assert checks(mortal) == HEALTHY


def test_down_goes_from_one_to_another(mortal):
    for how, seen in (("refuse", "ConnectionRefusedError"), ("blackhole", "TimeoutError"), ("garbage", "BadStatusLine"),
                      ("refuse", "ConnectionRefusedError"), ("garbage", "BadStatusLine")):
        mortal.down(how)
        assert checks(mortal, timeout=0.2) == [seen] * 4
    with pytest.raises(RuntimeError, match="not understood"):
        mortal.down("sideways")
    assert checks(mortal) == ["BadStatusLine"] * 4


def test_down_by_socket_file(start_sim, folder):
    sim = start_sim(control="127.0.0.1:0", listen=f"unix:{folder}/provider")

    def reached():
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(f"{folder}/provider")
                connection.sendall(b"HEAD / HTTP/1.1\r\nHost: s\r\n\r\n")
                return connection.recv(12)
            except ConnectionRefusedError:
                return None

    assert reached() == b"HTTP/1.1 404"
    sim.down("refuse")
    assert reached() is None
    sim.up()
    assert reached() == b"HTTP/1.1 404"


def test_without_an_address_of_its_own_nothing_goes_down(sim):
    with pytest.raises(RuntimeError, match="needs --control"):
        sim.down("refuse")
    assert ask(sim, "openai", "x").status == 200


def test_refusing_cuts_what_is_under_way(mortal):
    path, body = prompt("openai", "[[sim tokens=1000 rate=200]]", True)
    with stream(mortal.url + path, body, headers_for("openai", "k")) as open_stream:
        open_stream.read_event()
        mortal.down("refuse")
        with pytest.raises((OSError, http.client.HTTPException)):
            while True:
                open_stream.read_event()
    stats = mortal.stats()
    assert (stats["in_flight"], stats["at_once"], stats["broken"], stats["aborted"]) == (0, 0, 1, 0)


def test_a_black_hole_keeps_what_comes_and_gives_it_back(mortal):
    """Also the rest of an answer that is under way when it opens."""
    path, body = prompt("openai", "[[sim nonce=deep tokens=60 rate=200]]", True)
    with stream(mortal.url + path, body, headers_for("openai", "k")) as open_stream:
        first = open_stream.read_event()
        mortal.down("blackhole")
        with socket.create_connection(("127.0.0.1", mortal.port), 10) as connection:
            connection.sendall(b"HEAD / HTTP/1.1\r\nHost: s\r\n\r\n")
            connection.settimeout(0.5)  # more than the stream would have needed
            with pytest.raises(socket.timeout):
                connection.recv(1)
            assert mortal.stats()["in_flight"] == 1
            mortal.up()
            connection.settimeout(10)
            assert connection.recv(12) == b"HTTP/1.1 404"
        events = [first]
        while events[-1] is not None and "[DONE]" not in str(events[-1]):
            events.append(open_stream.read_event())
    assert "deep.59 " in str(events)


# ---- the ledger -------------------------------------------------------------------------------------------------------------------


def test_calls_tell_all_of_an_arrival(sim):
    before = time.time()
    ask(sim, "openai", "[[sim nonce=one latency=50ms]]", headers={"x-request-id": "r-1"})
    path, body = prompt("gemini", "[[sim nonce=two status=503]]")
    request(sim.url + path + "?key=k", body=body, headers={"x-sim-id": "s-1", "x-request-id": "r-2"})
    path, body = prompt("openai", "[[sim nonce=three rate=5 tokens=100]]", True)
    with stream(sim.url + path, body, headers_for("openai")) as open_stream:
        open_stream.read_event()
        one, two, three = sim.calls()
    assert [(c["nonce"], c["id"], c["status"], c["path"]) for c in (one, two, three)] == [
        ("one", "r-1", 200, "/v1/chat/completions"), ("two", "s-1", 503, "/v1beta/models/gemini-2.5-flash:generateContent"),
        ("three", "", 0, "/v1/chat/completions")]
    assert one["ended_us"] - one["at_us"] >= 40_000 and three["ended_us"] == 0
    assert before - 1 <= one["unix_us"] / 1e6 <= two["unix_us"] / 1e6 <= time.time() + 1
    assert abs((two["unix_us"] - one["unix_us"]) - (two["at_us"] - one["at_us"])) < 1_000_000
    wait_until(lambda: sim.calls()[2]["ended_us"] > 0, "the end of a call that was left is noted")


def at_once(sim):
    stats = sim.stats()
    return stats["at_once"], stats["most_at_once"], stats["in_flight"]


def test_at_once_is_from_the_head_to_the_last_byte(sim):
    """Lists and our own pages do not count."""
    request(sim.url + "/v1/models", headers=headers_for("openai"))
    assert at_once(sim) == (0, 0, 0)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nContent-Length: 100\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sim.port), 10) as connection:
        connection.sendall(head[:-2])
        assert at_once(sim) == (0, 0, 0)
        connection.sendall(b"\r\n")
        wait_until(lambda: at_once(sim) == (1, 1, 0), "a call counts from its head on")
        path, body = prompt("openai", "[[sim fault=stall]]")
        with socket.create_connection(("127.0.0.1", sim.port), 10) as other:
            text = json.dumps(body).encode()
            other.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
            wait_until(lambda: at_once(sim) == (2, 2, 1), "two are here")
    wait_until(lambda: at_once(sim) == (0, 2, 0), "whose connection died is gone")
    sim.reset()
    assert at_once(sim) == (0, 0, 0)
    for _ in range(3):
        ask(sim, "openai", "x")
    request(sim.url + "/anything", body="x")
    assert at_once(sim) == (0, 1, 0)
