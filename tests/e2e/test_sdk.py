"""The official SDKs of OpenAI, Anthropic and Google, with base URL and key replaced and nothing else. They come from npm, pinned by the lock file beside
their scripts; a machine without npm skips them, CI has it."""

import json
import os
import shutil
import subprocess

import pytest

from support.client import text_of
from support.gateway import Gateway
from support.process import BUILD, ROOT, wait_until
from support.sim import Sim

HERE = ROOT / "tests" / "e2e" / "sdk"
INSTALLED = BUILD / "sdk"
KEYS = {"good": "key-of-the-sdk-tests", "narrow": "key-of-a-narrow-tenant",
        **{f"{how}_{dialect}": f"key-{how}-{dialect}" for how in ("limited", "patient") for dialect in ("openai", "anthropic", "gemini")}}
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
    return made


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each SDK saw, by scenario: one gateway, one simulator, one run of each SDK."""
    install()
    folder = tmp_path_factory.mktemp("sdk")
    sim = Sim(folder)
    models = {f"listed-{d}": {"targets": [{"upstream": d}]} for d in ("openai", "anthropic", "gemini")}
    gateway = Gateway(folder, sim.url, changes={"tenants": tenants(), "models": models})
    results = {}
    try:
        for sdk in ("openai", "anthropic", "google"):
            settings = {"url": gateway.url, "keys": KEYS}
            done = subprocess.run(["node", f"{sdk}.mjs"], cwd=INSTALLED, stdout=subprocess.PIPE, check=True, timeout=180,
                                  env={**os.environ, "SLUICE_SDK": json.dumps(settings), "NO_PROXY": "*"})
            results[sdk] = json.loads(done.stdout)
        results["aborts"] = wait_until(lambda: len(sim.aborts()) >= 3 and sim.aborts(), "the simulator saw who left")
        yield results
    finally:
        gateway.stop()
        sim.stop()


SDKS = ["openai", "anthropic", "google"]
NONCE = {"openai": "o", "anthropic": "a", "google": "g"}


def expect(told, sdk, scenario):
    result = told[sdk][scenario]
    assert "error" not in result, result
    return result


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
        assert expect(told, sdk, scenario)["tool"] == "weather"

    def test_image_of_five_megabytes(self, told, sdk):
        assert expect(told, sdk, "image")["text"] == text_of(NONCE[sdk], 2)

    def test_model_list(self, told, sdk):
        answer = expect(told, sdk, "models")
        wanted = {"openai": "listed-openai", "anthropic": "listed-anthropic", "google": "models/listed-gemini"}[sdk]
        assert wanted in answer["names"] and answer["one"] == wanted

    def test_abort(self, told, sdk):
        assert expect(told, sdk, "abort")["count"] >= 5
        nonce = "abort-" + {"google": "gemini"}.get(sdk, sdk)
        left = next(abort for abort in told["aborts"] if abort["nonce"] == nonce)
        assert left["output_tokens"] < 1000  # of 5,000: the upstream was told

    def test_provider_500(self, told, sdk):
        error = told[sdk]["provider_500"]
        assert error["status"] == 500 and error["error"] == {"google": "ApiError"}.get(sdk, "InternalServerError")

    def test_upstream_broken(self, told, sdk):
        error = told[sdk]["upstream_broken"]
        assert error["status"] == 502 and error["error"] == {"google": "ApiError"}.get(sdk, "InternalServerError")

    def test_broken_stream_raises(self, told, sdk):
        assert "error" in told[sdk]["broken_stream"], told[sdk]["broken_stream"]

    @pytest.mark.parametrize("scenario,status,name", [("wrong_key", 401, "AuthenticationError"), ("unknown_model", 404, "NotFoundError"),
                                                      ("forbidden", 403, "PermissionDeniedError"), ("limited", 429, "RateLimitError")])
    def test_errors_are_of_their_class(self, told, sdk, scenario, status, name):
        error = told[sdk][scenario]
        assert (error["status"], error["error"]) == (status, {"google": "ApiError"}.get(sdk, name)), error

    def test_retry_after_a_429_succeeds(self, told, sdk):
        """One request a second is allowed: the SDK waits as our fields say, and gets all its answers."""
        answer = expect(told, sdk, "limited_retry")
        assert answer["done"] and answer["ms"] >= 1900


@pytest.mark.parametrize("sdk,name", [("openai", "APIConnectionTimeoutError"), ("anthropic", "APIConnectionTimeoutError"), ("google", None)])
def test_timeout(told, sdk, name):
    error = told[sdk]["timeout"]
    assert "error" in error and 900 <= error["ms"] < 5000
    if name:
        assert error["error"] == name


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_bad_request(told, sdk):
    assert (told[sdk]["bad_request"]["error"], told[sdk]["bad_request"]["status"]) == ("BadRequestError", 400)


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
    assert expect(told, "openai", "stream_usage")["usage"] == 9
    assert told["openai"]["provider_429"]["error"] == "RateLimitError"


def test_the_rest_of_anthropic(told):
    assert expect(told, "anthropic", "stream_final")["usage"] == 9
    assert expect(told, "anthropic", "count")["count"] > 0
    assert told["anthropic"]["provider_429"]["error"] == "RateLimitError"
    assert told["anthropic"]["provider_529"]["status"] == 529


def test_the_rest_of_google(told):
    assert expect(told, "google", "count")["count"] > 0
