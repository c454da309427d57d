"""The official SDKs of OpenAI, Anthropic and Google, with base URL and key replaced and nothing else. They come from npm, pinned by the lock file beside
their scripts; a machine without npm skips them, CI has it."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess

import pytest

from support.client import text_of
from support.gateway import Gateway
from support.process import BUILD, ROOT, wait_until
from support.rest import counted
from support.sim import Sim

HERE = ROOT / "tests" / "e2e" / "sdk"
INSTALLED = BUILD / "sdk"
KEYS = {"good": "key-of-the-sdk-tests", "narrow": "key-of-a-narrow-tenant",
        **{f"{how}_{dialect}": f"key-{how}-{dialect}" for how in ("limited", "patient", "retrying") for dialect in ("openai", "anthropic", "gemini")}}
WITHOUT_NPM = shutil.which("npm") is None or shutil.which("node") is None

pytestmark = pytest.mark.skipif(WITHOUT_NPM and not os.environ.get("CI"), reason="npm is missing (apt-get install npm)")


def install():
    """npm ci, once for each lock file."""
    lock = (HERE / "package-lock.json").read_bytes()
    done = INSTALLED / "installed-lock.json"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    if not done.exists() or done.read_bytes() != lock:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, INSTALLED / name)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=INSTALLED, check=True, timeout=300)
        done.write_bytes(lock)
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, INSTALLED / script.name)


def tenants():
    made = {"acme": {"keys": [KEYS["good"]]}, "narrow": {"keys": [KEYS["narrow"]], "models": ["listed-openai"]}}
    for name, key in KEYS.items():
        if name.startswith("limited"):
            made[name] = {"keys": [key], "limits": {"rpm": {"limit": 6, "burst": 1}}}
        if name.startswith("patient"):
            made[name] = {"keys": [key], "limits": {"rps": {"limit": 1, "burst": 1}}}
        if name.startswith("retrying"):
            made[name] = {"keys": [key]}
    return made


def run(script, **settings):
    done = subprocess.run(["node", script], cwd=INSTALLED, stdout=subprocess.PIPE, check=True, timeout=300,
                          env={**os.environ, "SLUICE_SDK": json.dumps(settings), "NO_PROXY": "*"})
    return json.loads(done.stdout)


def refusals():
    """The table of svc/refusal.h: code → (status, type in each SDK's dialect)."""
    rows = re.findall(r'X\((\w+), *(\d+), *(?:true|false), *"([^"]*)", *"([^"]*)", *"([^"]*)"', (ROOT / "svc" / "refusal.h").read_text())
    assert len(rows) > 20
    return {code: (int(status), {"openai": openai, "google": google, "anthropic": anthropic})
            for code, status, openai, google, anthropic in rows if code not in ("none", "client_gone")}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each SDK saw, by scenario: one gateway, one simulator, one run of each SDK."""
    install()
    folder = tmp_path_factory.mktemp("sdk")
    sim = Sim(folder)
    models = {f"listed-{d}": {"targets": [{"upstream": d}]} for d in DIALECT.values()}
    upstreams = {d: {"timeout": {"idle": "2s"}} for d in DIALECT.values()}
    gateway = Gateway(folder, sim.url, changes={"tenants": tenants(), "models": models, "upstreams": upstreams, "redis": {"timeout": "5s"}})
    results = {}
    try:
        with concurrent.futures.ThreadPoolExecutor(len(SDKS)) as pool:
            runs = {sdk: pool.submit(run, f"{sdk}.mjs", url=gateway.url, keys=KEYS, provider=sim.url) for sdk in SDKS}
            results = {sdk: done.result() for sdk, done in runs.items()}
        left = {f"{how}-{dialect}" for how in ("abort", "leave") for dialect in DIALECT.values()}
        results["aborts"] = wait_until(lambda: left <= {a["nonce"] for a in sim.aborts()} and sim.aborts(), "the simulator saw who left")
        results["counted"] = lambda **labels: counted([gateway], **labels)
        yield results
    finally:
        gateway.stop()
        sim.stop()


@pytest.fixture(scope="module")
def met():
    """met(sdk, status, fields, retries): what an SDK makes of an answer, without the gateway; all cases run at once, see sdk/words.mjs."""
    install()
    cases = [{"sdk": sdk, "status": status, "fields": fields, "retries": retries}
             for sdk in SDKS for status, fields, retries in [*FIELDS.values(), *((status, {}, 0) for status in STATUSES)]]
    results = [(case, result) for case, result in zip(cases, run("words.mjs", cases=cases))]

    def find(sdk, status, fields, retries):
        wanted = {"sdk": sdk, "status": status, "fields": fields, "retries": retries}
        return next(result for case, result in results if case == wanted)

    return find


SDKS = ["openai", "anthropic", "google"]
DIALECT = {"openai": "openai", "anthropic": "anthropic", "google": "gemini"}
STATUSES = sorted({status for status, _ in refusals().values()})
CLASSES = {400: "BadRequestError", 401: "AuthenticationError", 403: "PermissionDeniedError", 404: "NotFoundError", 429: "RateLimitError"}
FIELDS = {"finer": (429, {"retry-after-ms": "300", "Retry-After": "60"}, 1), "seconds": (429, {"Retry-After": "2"}, 1),
          "never": (502, {"x-should-retry": "false"}, 1), "again": (400, {"x-should-retry": "true", "retry-after-ms": "1"}, 1),
          "unsaid": (503, {}, 1)}
NONCE = {"openai": "o", "anthropic": "a", "google": "g"}


def expect(told, sdk, scenario):
    result = told[sdk][scenario]
    assert "error" not in result, result
    return result


def class_of(sdk, status):
    if sdk == "google":
        return "ApiError"
    return CLASSES.get(status, "InternalServerError" if status >= 500 else "APIError")


def refused(told, sdk, scenario, code):
    """A refusal of the gateway's own: its class, status, code and type are those of the table, and its id is where the SDK looks."""
    error, (status, types) = told[sdk][scenario], refusals()[code]
    assert (error["error"], error["status"], error["code"], error["type"]) == (class_of(sdk, status), status, code, types[sdk]), error
    assert re.fullmatch(r"[A-Za-z0-9._-]+", error["request_id"]), error


@pytest.mark.parametrize("sdk", SDKS)
class TestEverySdk:
    def test_plain(self, told, sdk):
        answer = expect(told, sdk, "plain")
        assert (answer["text"], answer["usage"]) == (text_of(NONCE[sdk], 5), 5)

    def test_stream(self, told, sdk):
        answer = expect(told, sdk, "stream")
        assert answer["text"] == text_of(NONCE[sdk], 9) and answer["count"] >= 9

    @pytest.mark.parametrize("scenario", ["tools", "tools_stream"])
    def test_tools(self, told, sdk, scenario):
        answer = expect(told, sdk, scenario)
        assert (answer["tool"], answer["input"]) == ("weather", {"city": "t"})

    def test_stream_usage(self, told, sdk):
        assert expect(told, sdk, {"anthropic": "stream_final"}.get(sdk, "stream_usage"))["usage"] == 9

    def test_the_sdks_own_helper_for_streams(self, told, sdk):
        assert expect(told, sdk, "helper")["text"] == text_of(NONCE[sdk], 9)

    def test_image_of_five_megabytes(self, told, sdk):
        assert expect(told, sdk, "image")["text"] == text_of(NONCE[sdk], 2)

    def test_model_list(self, told, sdk):
        answer = expect(told, sdk, "models")
        wanted = {"openai": "listed-openai", "anthropic": "listed-anthropic", "google": "models/listed-gemini"}[sdk]
        assert wanted in answer["names"] and answer["one"] == wanted

    def test_abort(self, told, sdk):
        assert expect(told, sdk, "abort")["count"] >= 5
        left = next(abort for abort in told["aborts"] if abort["nonce"] == f"abort-{DIALECT[sdk]}")
        assert left["output_tokens"] < 1000  # of 5,000: the upstream was told

    def test_abort_before_the_answer(self, told, sdk):
        assert told[sdk]["leave"]["error"] == {"google": "DOMException"}.get(sdk, "APIUserAbortError")
        assert next(abort for abort in told["aborts"] if abort["nonce"] == f"leave-{DIALECT[sdk]}")

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_the_providers_errors(self, told, sdk, status):
        error = told[sdk][f"provider_{status}"]
        assert (error["status"], error["error"]) == (status, class_of(sdk, status)), error

    @pytest.mark.parametrize("scenario,code", [("wrong_key", "invalid_api_key"), ("forbidden", "model_not_allowed"), ("limited", "rate_limited"),
                                               ("bad_request", "invalid_request"), ("upstream_broken", "upstream_broken")])
    def test_refusals(self, told, sdk, scenario, code):
        refused(told, sdk, scenario, code)

    def test_unknown_model(self, told, sdk):
        assert (told[sdk]["unknown_model"]["error"], told[sdk]["unknown_model"]["status"]) == (class_of(sdk, 404), 404)

    @pytest.mark.parametrize("scenario", ["broken_stream", "no_marker"])
    def test_half_a_stream_raises(self, told, sdk, scenario):
        """Also one that ended cleanly without its marker, which these SDKs take for a whole one when they meet it alone."""
        assert "error" in told[sdk][scenario], told[sdk][scenario]

    def test_an_error_inside_a_stream_is_raised(self, told, sdk):
        """The gateway's own, of a provider that fell silent, and one that the provider sent."""
        ours, theirs, (status, types) = told[sdk]["stalled_stream"], told[sdk]["provider_event"], refusals()["upstream_timeout"]
        assert (ours["error"], ours["code"], ours["type"]) == ({"google": "ApiError"}.get(sdk, "APIError"), "upstream_timeout", types[sdk]), ours
        assert theirs["error"] == ours["error"] and "overloaded" in theirs["message"].lower()
        assert (ours["status"], theirs["status"]) == ((status, 503) if sdk == "google" else (None, None))
        assert sdk != "google" or ours["message"].startswith("got status")  # its words for an error inside a stream

    def test_retry_after_a_429_succeeds(self, told, sdk):
        """One request a second is allowed: the SDK gets all its answers."""
        answer = expect(told, sdk, "limited_retry")
        assert answer["done"] and answer["ms"] >= 1900
        # Two of the three calls wait once, and as long as our fields say; who goes by his own half seconds would have come four times.
        assert told["counted"](tenant=f"patient_{DIALECT[sdk]}", outcome="rate_limited") <= 3


@pytest.mark.parametrize("sdk,name", [("openai", "APIConnectionTimeoutError"), ("anthropic", "APIConnectionTimeoutError"), ("google", None)])
def test_timeout(told, sdk, name):
    error = told[sdk]["timeout"]
    assert "error" in error and 900 <= error["ms"] < 5000
    if name:
        assert error["error"] == name


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_what_is_not_to_be_retried_is_sent_once(told, sdk):
    """The SDK would try a 502 twice more. This one may have been billed: x-should-retry says no."""
    refused(told, sdk, "sent_once", "upstream_broken")
    assert told["counted"](tenant=f"retrying_{sdk}") == 1


@pytest.mark.parametrize("sdk", SDKS)
class TestWhatTheSdksGoBy:
    """Facts of these versions on which the gateway's answers rest; nothing here is sent through it."""

    @pytest.mark.parametrize("status", STATUSES)
    def test_class_of_each_status(self, met, sdk, status):
        error = met(sdk, status, {}, 0)
        assert (error["error"], error["status"], error["times"]) == (class_of(sdk, status), status, 1)

    def test_the_finer_wait_wins(self, met, sdk):
        result = met(sdk, *FIELDS["finer"])
        assert result.get("good") and result["times"] == 2 and result["waited"] < 30000
        assert result["waited"] >= 290

    def test_retry_after_in_seconds(self, met, sdk):
        result = met(sdk, *FIELDS["seconds"])
        assert result.get("good") and result["times"] == 2
        assert result["waited"] >= {"google": 900}.get(sdk, 1990)  # Google's reads no field, and waits a second first

    def test_x_should_retry(self, met, sdk):
        obeys = sdk != "google"
        assert met(sdk, *FIELDS["never"])["times"] == (1 if obeys else 2)
        assert met(sdk, *FIELDS["again"])["times"] == (2 if obeys else 1)
        assert met(sdk, *FIELDS["unsaid"])["times"] == 2


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_request_id(told, sdk):
    assert expect(told, sdk, "plain")["id"]


@pytest.mark.parametrize("sdk", ["openai", "google"])
def test_embeddings(told, sdk):
    answer = expect(told, sdk, "embeddings")
    assert answer["count"] == 2 and answer["length"] > 100


def test_the_rest_of_openai(told):
    assert expect(told, "openai", "responses")["text"] == text_of("o", 4) == expect(told, "openai", "responses_stream")["text"]
    assert expect(told, "openai", "completions")["text"] == text_of("o", 3)
    assert expect(told, "openai", "responses_helper")["text"] == text_of("o", 4)
    assert expect(told, "openai", "completions_stream")["text"] == text_of("o", 3)
    error = told["openai"]["stalled_responses"]
    assert (error["error"], error["code"]) == ("APIError", "upstream_timeout")


def test_the_rest_of_anthropic(told):
    assert expect(told, "anthropic", "count")["count"] > 0
    assert told["anthropic"]["provider_529"]["status"] == 529


def test_the_rest_of_google(told):
    assert expect(told, "google", "count")["count"] > 0
