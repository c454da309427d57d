"""Who gets what among the places that a model has: by what they can, by session, by lane; and places that come and go under load."""

import json
import subprocess

import pytest

from support.client import error_of, headers_for, prompt, request
from support.crowd import Reading, crowd
from support.gateway import KEY, configuration
from support.process import binary, free_port, wait_until
from support.rest import at_rest
from support.routes import DEADLY, all_went_well, forget, load, model, places, quiet, received, reloaded, upstream

NAMES = {"openai": "gpt-4o-mini", "gemini": "gemini-2.5-flash", "anthropic": "claude-sonnet-4-5"}
PIXEL = "iVBORw0KGgo="
ADDRESS = "https://images.example/one.png"


# ---- what a target can ----------------------------------------------------------------------------------------------------------


def said(dialect, *parts):
    """A call of one message with the text and these parts."""
    text = "[[sim tokens=1]]"
    if dialect == "gemini":
        return f"/v1beta/models/{NAMES[dialect]}:generateContent", {"contents": [{"role": "user", "parts": [{"text": text}, *parts]}]}
    message = {"role": "user", "content": [{"type": "text", "text": text}, *parts]}
    if dialect == "anthropic":
        return "/v1/messages", {"model": NAMES[dialect], "max_tokens": 100, "messages": [message]}
    return "/v1/chat/completions", {"model": NAMES[dialect], "messages": [message]}


def asked_to_respond(*parts):
    return "/v1/responses", {"model": NAMES["openai"], "input": [{"role": "user", "content": [{"type": "input_text", "text": "[[sim tokens=1]]"}, *parts]}]}


def of_anthropic(kind, **source):
    return said("anthropic", {"type": kind, "source": source})


MEDIA = {
    "openai, an image": said("openai", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}),
    "openai, an image's address": said("openai", {"type": "image_url", "image_url": {"url": ADDRESS}}),
    "openai, audio": said("openai", {"type": "input_audio", "input_audio": {"data": PIXEL, "format": "wav"}}),
    "openai, a file": said("openai", {"type": "file", "file": {"file_data": PIXEL, "filename": "a.pdf"}}),
    "openai, a file's name": said("openai", {"type": "file", "file": {"file_id": "file-1"}}),
    "responses, an image": asked_to_respond({"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"}),
    "responses, an image's name": asked_to_respond({"type": "input_image", "file_id": "file-1"}),
    "responses, a file": asked_to_respond({"type": "input_file", "file_data": PIXEL}),
    "responses, a file's address": asked_to_respond({"type": "input_file", "file_url": ADDRESS}),
    "anthropic, an image": of_anthropic("image", type="base64", media_type="image/png", data=PIXEL),
    "anthropic, an image's address": of_anthropic("image", type="url", url=ADDRESS),
    "anthropic, a file's name": of_anthropic("document", type="file", file_id="file_1"),
    "anthropic, an image of a tool": said("anthropic", {"type": "tool_result", "tool_use_id": "t", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}),
    "anthropic, an image's address of a tool": said("anthropic", {"type": "tool_result", "tool_use_id": "t", "content": [
        {"type": "image", "source": {"type": "url", "url": ADDRESS}}]}),
    "gemini, an image": said("gemini", {"inlineData": {"mimeType": "image/png", "data": PIXEL}}),
    "gemini, an image in the other spelling": said("gemini", {"inline_data": {"mime_type": "image/png", "data": PIXEL}}),
    "gemini, a file's address": said("gemini", {"fileData": {"mimeType": "image/png", "fileUri": ADDRESS}}),
    "gemini, a file's address in the other spelling": said("gemini", {"file_data": {"mime_type": "image/png", "file_uri": ADDRESS}}),
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def with_more(call, **more):
    return call[0], {**call[1], **more}


TOOLS = {
    "openai": with_more(said("openai"), tools=[{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]),
    "openai, as it was": with_more(said("openai"), functions=[{"name": "weather", "parameters": SCHEMA}]),
    "responses": with_more(asked_to_respond(), tools=[{"type": "function", "name": "weather", "parameters": SCHEMA}]),
    "anthropic": with_more(said("anthropic"), tools=[{"name": "weather", "input_schema": SCHEMA}]),
    "gemini": with_more(said("gemini"), tools=[{"functionDeclarations": [{"name": "weather", "parameters": SCHEMA}]}]),
}
PLAIN = {"openai": said("openai"), "responses": asked_to_respond(), "anthropic": said("anthropic"), "gemini": said("gemini")}
PLAIN_AGAIN = {f"{name}, no tools": with_more(call, tools=[]) for name, call in PLAIN.items()}


def dialect_of(path):
    return "gemini" if ":" in path else "anthropic" if "messages" in path else "openai"


def ask(gateway, call):
    path, body = call
    return request(gateway.url + path, body=body, headers=headers_for(dialect_of(path), KEY))


def with_target(start_gateway, sims, redis, capabilities):
    """In each dialect a model with that target first, and, if there is a second simulator, one there that can all."""
    upstreams, models = {}, {}
    for dialect, name in NAMES.items():
        kinds = ("limited", "able")[:len(sims)]
        upstreams.update({f"{kind}-{dialect}": upstream(sim, dialect=dialect) for kind, sim in zip(kinds, sims)})
        models[name] = {"targets": [{"upstream": f"{kind}-{dialect}", **({"capabilities": capabilities} if kind == "limited" else {})} for kind in kinds]}
    return start_gateway(sims[0].url, redis.url, {"upstreams": upstreams, "models": models})


@pytest.mark.parametrize("lacking,calls", [({"media": False}, MEDIA), ({"tools": False}, TOOLS)], ids=["media", "tools"])
def test_what_a_target_cannot_goes_elsewhere(start_gateway, start_sim, redis, lacking, calls):
    sims = [start_sim(), start_sim()]
    gateway = with_target(start_gateway, sims, redis, lacking)
    for name, call in {**PLAIN, **PLAIN_AGAIN}.items():
        assert ask(gateway, call).status == 200, name
    others = MEDIA if calls is TOOLS else TOOLS  # it can those
    for name, call in others.items():
        answer = ask(gateway, call)
        assert answer.status == 200, (name, answer)
    assert received(*sims) == [len(PLAIN) + len(PLAIN_AGAIN) + len(others), 0]
    forget(*sims)
    wrong = []
    for name, call in calls.items():
        answer = ask(gateway, call)
        assert answer.status == 200, (name, answer)
        wrong += [name] if received(*sims)[0] else []
        forget(*sims)
    assert not wrong
    at_rest([gateway], redis)


def test_what_is_too_long_goes_elsewhere(start_gateway, start_sim, redis):
    """Input and output together: either may be what is too much."""
    sims = [start_sim(), start_sim()]
    gateway = with_target(start_gateway, sims, redis, {"context": 4000})
    long = {"type": "text", "text": "word " * 40000}
    for call, place in ((with_more(said("openai"), max_tokens=100), 0), (with_more(said("openai", long), max_tokens=100), 1),
                        (with_more(said("openai"), max_tokens=4000), 1), (with_more(said("anthropic", long), max_tokens=100), 1),
                        (said("anthropic"), 0), (said("gemini", {"text": long["text"]}), 1), (said("gemini"), 0)):
        forget(*sims)
        assert ask(gateway, call).status == 200
        assert received(*sims)[place] == 1 and sum(received(*sims)) == 1, call[0]
    at_rest([gateway], redis)


def test_what_no_target_can_is_refused_in_words(start_gateway, sim, redis):
    gateway = with_target(start_gateway, [sim], redis, {"media": False, "tools": False, "context": 4000})
    words = {"openai": "model_unable", "anthropic": "invalid_request_error", "gemini": "INVALID_ARGUMENT"}
    asked = [(call, "Needed: images, audio or files.") for call in MEDIA.values()] + [(call, "Needed: tools.") for call in TOOLS.values()]
    asked += [(with_more(said("anthropic"), max_tokens=4001), " tokens, at most 4000."),
              (with_more(MEDIA["anthropic, an image"], tools=TOOLS["anthropic"][1]["tools"]), "Needed: images, audio or files; tools.")]
    for call, needed in asked:
        answer = ask(gateway, call)
        dialect = dialect_of(call[0])
        assert answer.status == 400 and error_of(dialect, answer) == words[dialect], (call, answer)
        assert needed in answer.json()["error"]["message"] and answer.headers["x-should-retry"] == "false", answer
    assert received(sim) == [0]
    at_rest([gateway], redis)


# ---- sessions ---------------------------------------------------------------------------------------------------------------------

SAID_BY = {
    "the header": ("openai", {"X-Sluice-Session": "session {{n}}"}, {}),
    "user": ("openai", {}, {"user": "session {{n}}"}),
    "prompt_cache_key": ("openai", {}, {"prompt_cache_key": "session {{n}}"}),
    "metadata.user_id": ("anthropic", {}, {"metadata": {"user_id": "session {{n}}"}}),
}
SESSIONS = 60


def where(gateways, sims, who, times=3):
    """Session → its place, which must be one alone for all its calls on both instances."""
    dialect, headers, more = SAID_BY[who]
    forget(*sims)
    for turn in range(times):
        dealt = gateways[turn % 2:] + gateways[:turn % 2]
        all_went_well(load(dealt, SESSIONS, "[[sim tokens=1 nonce=s{{n}}]]", NAMES[dialect], headers=headers, dialect=dialect, more=more), SESSIONS)
    found = places(sims)
    assert len(found) == SESSIONS and all(len(at) == 1 for at in found.values()), found
    return {session: at.pop() for session, at in found.items()}


@pytest.mark.parametrize("who", SAID_BY)
def test_a_session_has_one_endpoint(start_gateway, start_sim, redis, who):
    """One of four that are alike. When it dies its sessions go to one other each, all others stay; when it is back so are they."""
    sims = [start_sim(control=DEADLY) for _ in range(4)]
    dialect = SAID_BY[who][0]
    # where connections are refused the breaker alone keeps calls away; that it opens and tries again does not matter here
    several = upstream(*sims, dialect=dialect, default=True, breaker={"error_rate": "0", "slow_rate": "0", "unreachable": 1, "open_for": "500ms", "probes": 1})
    gateways = [start_gateway(sims[0].url, redis.url, {"upstreams": {dialect: several}}) for _ in range(2)]
    before = where(gateways, sims, who)
    counts = [sum(place == i for place in before.values()) for i in range(4)]
    assert min(counts) > 0, counts
    sims[0].down("refuse")
    during = where(gateways, sims, who)
    assert all(during[session] == place for session, place in before.items() if place != 0)
    assert all(during[session] != 0 for session in before)
    moved = [during[session] for session, place in before.items() if place == 0]
    sims[0].up()
    state = {"endpoint": sims[0].url, "upstream": dialect}
    wait_until(lambda: where(gateways, sims, who, 1) == before and all(g.metric("sluice_breaker_state", **state) == 0 for g in gateways), "they return")
    assert where(gateways, sims, who) == before
    print(f"{who}: {SESSIONS} sessions at four endpoints: {counts}; the first one's moved to {[moved.count(i) for i in range(4)]} and back")
    quiet(*gateways)


def test_without_affinity_a_session_goes_everywhere(start_gateway, start_sim, redis):
    sims = [start_sim(), start_sim()]
    gateway = start_gateway(sims[0].url, redis.url, {"upstreams": {"several": upstream(*sims)}, "models": {"m": model("several", affinity=False)}})
    all_went_well(load([gateway], 100, headers={"X-Sluice-Session": "one"}), 100)
    assert min(received(*sims)) > 20, received(*sims)
    reloaded(gateway, {"models": {"m": model("several", affinity=True)}})
    forget(*sims)
    all_went_well(load([gateway], 100, headers={"X-Sluice-Session": "one"}), 100)
    assert sorted(received(*sims)) == [0, 100]
    at_rest([gateway], redis)


# ---- lanes ------------------------------------------------------------------------------------------------------------------------


def test_lanes(start_gateway, start_sim, redis):
    """What may wait has an endpoint of its own; when one is gone the other does the work of both."""
    sims = [start_sim(control=DEADLY), start_sim(control=DEADLY)]
    lanes = upstream({"url": sims[0].url, "lane": "realtime"}, {"url": sims[1].url, "lane": "batch"}, default=True)
    gateway = start_gateway(sims[0].url, redis.url, {"upstreams": {"openai": lanes}})
    hurried, waiting = ({}, {"Priority": "u=0"}, {"Priority": "u=4"}, {"Priority": "i"}), ({"Priority": "u=5"}, {"Priority": "u=6, i"}, {"Priority": "u=7"})

    def to(all_headers):
        forget(*sims)
        assert all(gateway.ask("openai", "[[sim tokens=1]]", headers=headers).status == 200 for headers in all_headers for _ in range(4))
        return received(*sims)

    assert to(hurried) == [16, 0] and to(waiting) == [0, 12]
    for gone in (1, 0):
        sims[gone].down("refuse")
        assert to(hurried)[gone] == 0 and to(waiting)[1 - gone] == 12
        sims[gone].up()
        wait_until(lambda: to(hurried) == [16, 0] and to(waiting) == [0, 12], "the lanes are as before")
    quiet(gateway)


# ---- places that come and go ----------------------------------------------------------------------------------------------------------


def test_places_come_and_go_under_load(start_gateway, start_sim, start_load, redis):
    """A reload adds and takes away endpoints and targets: what is in flight at one that goes ends there, and no request fails."""
    sims = [start_sim("latency=20ms jitter=20ms") for _ in range(4)]
    one, several = upstream(sims[0]), upstream(*sims[:3])
    gateway = start_gateway(sims[0].url, redis.url, {"upstreams": {"several": one, "other": upstream(sims[3])}, "models": {"m": model("several")}})
    url = gateway.url + prompt("openai", "")[0]
    bodies = [json.dumps(prompt("openai", "[[sim tokens=10]]", stream, model="m")[1]) for stream in (False, True)]
    loads = [start_load(url, connections=16, duration=3, body=body, headers=headers_for("openai", KEY)) for body in bodies]
    states = [({"several": several}, model("several")), ({"several": several}, model("several", "other", strategy="load")),
              ({"several": upstream(sims[1], sims[2])}, model("other", "several", strategy="weighted")), ({"several": one}, model("several"))]
    with gateway.open_stream("openai", "[[sim tokens=100 rate=40]]", model="m") as stream:
        assert stream.read_event()
        count = 0
        while any(load.alive() for load in loads):
            upstreams, m = states[count % len(states)]
            reloaded(gateway, {"upstreams": upstreams, "models": {"m": m}})
            count += 1
        assert stream.read_all().endswith(b"data: [DONE]\n\n")
    reloaded(gateway, {"upstreams": {"several": one}, "models": {"m": model("several")}})  # a pool has descriptors of its own
    reports = [load.report() for load in loads]
    print(f"{count} reloads under {sum(report['requests'] for report in reports)} requests, places: {received(*sims)}")
    for report in reports:
        assert set(report["by_status"]) == {"200"} and not report["errors"], (report["by_status"], report["errors"])
    assert count >= len(states) and min(received(*sims)) > 0
    at_rest([gateway], redis)


def test_a_cycle_of_fallbacks_is_refused(folder):
    models = {name: {**model("openai"), "fallback": [following]} for name, following in (("a", "b"), ("b", "c"), ("c", "a"))}
    for changed, told in (({}, "leads back to the model: a → b → c → a"), ({"c": model("openai")}, None)):
        path = folder / "sluice.yaml"
        path.write_text(json.dumps(configuration("http://127.0.0.1:1", "embedded", "127.0.0.1:2", "127.0.0.1:3", {"models": {**models, **changed}})))
        path.chmod(0o600)
        done = subprocess.run([binary("sluice"), "check", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert (done.returncode != 0) == (told is not None) and (told or "fine") in done.stdout, done.stdout


def test_what_failed_is_not_asked_again_before_its_time(start_gateway, start_sim, redis):
    """Also where another target was to be asked first, and that one's quota refuses."""
    sims = [start_sim(), start_sim()]
    upstreams = {"first": upstream(sims[0], breaker={"unreachable": 0, "error_rate": "0"}, retry={"budget": "100%", "base": "1s", "timeout_base": "1ms"}),
                 "second": upstream(sims[1], limits={"rpm": {"limit": 1, "burst": 1}})}
    gateway = start_gateway(sims[0].url, redis.url, {"upstreams": upstreams, "models": {"m": model("first", "second")}})
    count = 8
    sims[0].set("status=429", times=1)
    assert gateway.ask("openai", "x", model="m").status == 200 and received(*sims) == [1, 1]  # the other one's quota is used up
    sims[0].set("status=429", times=count)
    answers = crowd([Reading(0, gateway.url + path, body, headers_for("openai", KEY)) for path, body in [prompt("openai", "x", model="m")] * count])
    assert all(answer.status == 200 for answer in answers) and received(*sims) == [1 + 2 * count, 1], answers
    waited = [line.get("retry_ms", 0) for line in gateway.log() if line["event"] == "request"][1:]
    print("between the two calls:", ", ".join(f"{wait:.0f} ms" for wait in sorted(waited)))
    assert len(waited) == count and max(waited) > 100  # full jitter: of eight, one in 10^8 is that short
    quiet(gateway)


FULL = {"rpm": {"limit": 1, "burst": 1}}
PATIENT = {"base": "10ms", "timeout_base": "1ms", "cap": "5s"}
NEVER_OPEN = {"error_rate": "0", "slow_rate": "0", "unreachable": 0, "failures": 0}


def beside_a_full_one(start_gateway, redis, first, full, budget):
    """m: the first place, and one whose quota is used up."""
    retry = {**PATIENT, "budget": budget}
    upstreams = {"first": upstream(first, breaker=NEVER_OPEN, retry=retry), "second": upstream(full, limits=FULL, breaker=NEVER_OPEN, retry=retry)}
    gateway = start_gateway(full.url, redis.url, {"upstreams": upstreams, "models": {"m": model("first", "second"), "full": model("second")}})
    assert gateway.ask("openai", "x", model="full").status == 200
    return gateway


def test_a_pause_is_waited_for_where_the_other_is_full(start_gateway, start_sim, redis):
    sims = [start_sim(), start_sim()]
    gateway = beside_a_full_one(start_gateway, redis, *sims, "100%")
    sims[0].set("status=429 retry=300ms", times=1)
    answer = gateway.ask("openai", "x", model="m")
    assert answer.status == 200 and received(*sims) == [2, 1], answer
    one, two = sims[0].calls()
    assert two["at_us"] - one["at_us"] >= 300_000
    quiet(gateway)


def test_what_moved_for_nothing_is_not_repeated_for_nothing(start_gateway, start_sim, redis):
    """A call that was never sent goes elsewhere free of charge; back, where that one is full, it must be paid."""
    sim = start_sim()
    gateway = beside_a_full_one(start_gateway, redis, {"url": f"http://127.0.0.1:{free_port()}"}, sim, "0%")
    for count in (1, 2):
        answer = gateway.ask("openai", "x", model="m")
        assert (answer.status, error_of("openai", answer)) == (502, "upstream_unreachable") and "limit" not in answer.text, answer
        assert gateway.metric("sluice_attempts_total", upstream="first") == count == gateway.metric("sluice_retries_total", reason="no_budget")
    quiet(gateway)
