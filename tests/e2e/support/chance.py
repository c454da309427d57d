"""A configuration by chance that `sluice check` finds fine, and a call that fits it: all from one random.Random, so that a seed brings the same again."""

import json

from .client import headers_for, prompt
from .crowd import Reading
from .gateway import CREDENTIALS

MODELS = {"openai": ["gpt-4o", "gpt-4o-mini", "gpt-4.1"], "anthropic": ["claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-1"],
          "gemini": ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.0-flash"]}
TENANTS = {name: f"key-of-{name}-in-these-tests" for name in ("acme", "beta", "gamma")}
# Of each kind what most calls pass, what a busy second fills, and what hardly any call passes.
REQUESTS = {"rps": (1000, 20, 1), "rpm": (100000, 600, 5), "rph": (1000000, 36000, 30), "rpd": (10000000, 1000000, 50)}
TOKENS = {"tpm": (100000000, 200000, 500), "tph": (1000000000, 10000000, 5000), "tpd": (10000000000, 200000000, 20000)}
CONCURRENCY = (1000, 3, 1)
WIDE, TIGHT = (7, 2, 1), (2, 6, 1)
TOTAL, MAX_WAIT = 3.0, 2.0  # seconds, the longest that are drawn


def some(chance, share=0.5, **values):
    """One of its values for each key; or, with a chance of 1 - share, not that key."""
    return {key: chance.choice(those) for key, those in values.items() if chance.random() < share}


def limits(chance, tokens, weights):
    """None to three, of any kind; a scope that has none has no key for it, or an empty one."""
    drawn = {}
    for kind in chance.sample([*REQUESTS, "concurrency", "concurrency", *(TOKENS if tokens else ())], chance.choice((0, 0, 0, 1, 1, 1, 2, 3))):
        count = chance.choices({**REQUESTS, **TOKENS, "concurrency": CONCURRENCY}[kind], weights)[0]
        bursts = (1 if kind in REQUESTS else 100, max(1, count // 10), count, 2 * count)
        drawn[kind] = count if kind == "concurrency" else chance.choice((count, {"limit": count, "burst": chance.choice(bursts)}, {"limit": count, "strict": chance.random() < 0.5}))
    return {"limits": drawn} if drawn or chance.random() < 0.1 else {}


# ---- upstreams ---------------------------------------------------------------------------------------------------------------------------


def pool(chance, floor):
    """`floor`: whether something may be opened ahead."""
    most = chance.choice((1, 3, 20))
    least = chance.randint(0, min(most, 2)) if floor else 0
    sizes = chance.choice(({"preset": chance.choice(("cli", "backend", "batch", "multi_tenant")), "min": 0},
                           {"min": least, "start": chance.randint(least, most), "max": most, "streams": chance.choice((1, 4, 30))}))
    return {**sizes, **some(chance, 0.4, connect_timeout=("50ms", "1s"), idle_timeout=("1s", "5m"), max_age=("1s", "1h"), validate_after=("0s", "1s"), tenant_max=(0, 1, 4), http=("auto", "1.1"))}


def breaker(chance):
    return {**some(chance, 0.5, preset=("default", "fragile", "simple"), per_model=(True, False), min_calls=(1, 5, 20), error_rate=("0%", "20%", "90%"), unreachable=(0, 1, 5), failures=(0, 3),
                   slow=("20ms", "1s"), slow_rate=("0%", "50%"), slow_min_calls=(2, 500), probes=(1, 3), window=("1s", "10s")),
            "open_for": chance.choice(("50ms", "300ms", "1s")), "open_most": chance.choice(("1s", "2s"))}


def upstream(chance, dialect, places, nowhere, default):
    """At some of these simulators; seldom at one more place where nobody is."""
    dead = chance.random() < 0.15
    urls = chance.sample(places, chance.choice((1, 1, 2))) + ([nowhere] if dead else [])
    drawn = {"dialect": dialect, "endpoints": [{"url": url, **some(chance, 0.2, region=("east", "west"), priority=(0, 1), weight=(1, 5), lane=("any", "realtime", "batch"))} for url in urls],
             "pool": pool(chance, not dead), "breaker": breaker(chance), **limits(chance, dialect != "http", TIGHT),
             "timeout": {"connect": "500ms", "first_byte": chance.choice(("200ms", "1s")), "first_byte_plain": chance.choice(("200ms", "1s")), "idle": chance.choice(("200ms", "1s")),
                         "total": chance.choice(("1s", f"{TOTAL:g}s"))},
             "retry": {**some(chance, 0.7, attempts=(1, 2, 4), budget=("0%", "20%", "100%"), resend=(True, False)), "base": chance.choice(("1ms", "50ms")), "timeout_base": chance.choice(("1ms", "50ms")),
                       "cap": chance.choice(("50ms", "500ms"))}}
    if chance.random() < 0.25:
        drawn["health"] = {"path": "/v1beta/models" if dialect == "gemini" else "/v1/models", "interval": "300ms", "timeout": "200ms"}
    if dialect == "http":
        return {**drawn, "forward_headers": ["x-sim"]}
    return {**drawn, "credential": CREDENTIALS[dialect], **({"default": True} if default else {}), **some(chance, 0.3, usage=("ask", "as_is"))}


def upstreams(chance, places, nowhere):
    drawn, served = {}, set()
    for dialect in chance.choices((*MODELS, "http"), weights=(4, 3, 3, 2), k=chance.choice((1, 1, 2, 3))):
        default = dialect != "http" and dialect not in served and chance.random() < 0.7
        served.add(dialect)
        drawn[f"{dialect}{len(drawn)}"] = upstream(chance, dialect, places, nowhere, default)
    return drawn


# ---- models, tenants, and the rest -------------------------------------------------------------------------------------------------------


def target(chance, dialect, name, least_weight):
    return {"upstream": name, "model": chance.choice(MODELS[dialect]), "price": {"input": chance.choice((1, 3)), "output": 5}, "weight": chance.choice((least_weight, 1, 5)),
            **({"capabilities": some(chance, 0.5, tools=(False,), media=(False,), context=(30, 100000))} if chance.random() < 0.15 else {})}


def models(chance, upstreams):
    """Up to three of each dialect; a fallback is one that was drawn before, so that none leads back."""
    drawn = {}
    for dialect, known in MODELS.items():
        serving, before = [name for name, one in upstreams.items() if one["dialect"] == dialect], []
        for name in chance.sample([*known, f"own-{dialect}"], chance.randint(0, 3)) if serving else ():
            drawn[name] = {"targets": [target(chance, dialect, chance.choice(serving), place > 0 and 0 or 1) for place in range(chance.choice((1, 1, 2, 3)))],
                           **some(chance, 0.4, strategy=("priority", "weighted", "cost", "latency", "load"), affinity=(True, False)), **limits(chance, True, TIGHT)}
            if before and chance.random() < 0.5:
                drawn[name]["fallback"] = chance.sample(before, chance.randint(1, len(before)))
            before.append(name)
    return drawn


def tenants(chance, upstreams, models):
    drawn = {}
    web = [name for name, one in upstreams.items() if one["dialect"] == "http"]
    default = any(one.get("default") for one in upstreams.values())
    for name in ["acme", *chance.sample(["beta", "gamma"], chance.randint(0, 2))]:
        allowed = chance.sample([*models, *web], chance.randint(1, len(models) + len(web))) if (models or web) and chance.random() < 0.3 else []
        tokens = any(one in models for one in allowed) or (not allowed and bool(models or default))
        drawn[name] = {"keys": [TENANTS[name]], **({"models": allowed} if allowed else {}), **limits(chance, tokens, WIDE), **some(chance, 0.3, priority=("any", "high", "medium", "low")),
                       **({"pool": {"max": chance.choice((1, 3, 50))}} if chance.random() < 0.2 else {})}
    return drawn


def queue(chance, models):
    drawn = {"max_wait": chance.choice(("0s", "200ms", *[f"{MAX_WAIT:g}s"] * 3)), "depth": chance.choice((1, 3, 10, 1000)), "weights": some(chance, 0.3, high=(1, 10), medium=(1, 3), low=(1, 7))}
    if models and chance.random() < 0.3:
        drawn["groups"] = {"few": {"models": chance.sample(list(models), chance.randint(1, len(models))), "share": chance.choice(("1%", "30%", "99%"))}}
    return drawn


def birth(chance):
    """What only a restart changes, beside the addresses."""
    return {"workers": chance.randint(1, 3), "redis": {"timeout": chance.choice(("20ms", "50ms", "200ms", "1s"))}, "cache": some(chance, 0.3, max_body=("1KiB", "1MiB"), local=(0, "1MiB")),
            "coalesce": some(chance, 0.3, window=("0s", "1s"))}


def configuration(chance, places, nowhere):
    """All that a reload may change. `places`: the simulators' URLs; `nowhere`: one where nobody listens."""
    whole = {"upstreams": upstreams(chance, places, nowhere), "redis": {"on_failure": chance.choice(("share", "share", "share", "open", "closed"))}, "drain": {"wait": "0s", "deadline": "5s"},
             "cache": some(chance, 0.6, when=("deterministic", "always", "asked", "never"), ttl=("1s", "1h"), stale_while_revalidate=("0s", "10m"), stale_if_error=("0s", "24h"),
                           scope=("tenant", "shared", "user"), count_hits=(True, False)),
             "coalesce": some(chance, 0.6, when=("deterministic", "always", "asked", "never"), streams=(True, False)),
             **some(chance, 0.3, allow_anonymous=(True, False), region=("east", "west"), max_body=("20MiB", "20MiB", "1KiB"))}
    whole["models"] = models(chance, whole["upstreams"])
    whole["tenants"] = tenants(chance, whole["upstreams"], whole["models"])
    whole["queue"] = queue(chance, whole["models"])
    if chance.random() < 0.2:
        whole["pool"] = some(chance, 0.7, max=(15, 100), streams=(1, 30))  # up to nine endpoints have up to two open ahead
        whole["upstreams"] = {name: {**one, "pool": {**one["pool"], "min": min(1, one["pool"].get("min", 0))}} for name, one in whole["upstreams"].items()}
    return whole


# ---- calls -------------------------------------------------------------------------------------------------------------------------------

WELL = ("tokens=1", "tokens=3 latency=30ms", "tokens=20 rate=200", "tokens=40 slice=7", "tokens=5 framing=chunked fresh=on", "tokens=3 fault=early", "tokens=8 usage=off", "tokens=2 cached=3")
ILL = ("status=500", "status=503 retry=1s", "status=529", "status=429 retry=200ms", "status=429", "status=429 quota=day", "status=400", "status=500 chance=50%", "latency=30s", "fault=reset", "fault=fin",
       "fault=reset@head", "fault=reset@200", "fault=stall", "fault=stall@100", "fault=truncate", "fault=badchunk@50", "fault=garbage", "fault=extra", "fault=event@2", "fault=nomarker", "drip=50",
       "fault=longline size=300KiB", "filter=on", "tokens=300 rate=20")
STATUSES = {400, 404, 429, 500, 503, 529}  # that the simulator answers by these words, or to a model that it does not know


def text(chance, number):
    """A call's nonce, what the simulator is told by it, and what makes it longer."""
    return f"n-{number}", chance.choice(WELL if chance.random() < 0.85 else ILL), chance.choice(("", "", "x" * 200, "y" * 4000))


def reachable(config, tenant):
    """[(dialect, name)]: what this one may ask for; None: and what nobody may."""
    allowed = config["tenants"][tenant].get("models") if tenant else None
    found = [(config["upstreams"][model["targets"][0]["upstream"]]["dialect"], name) for name, model in config["models"].items()]
    for name, one in config["upstreams"].items():
        found += [("http", name)] if one["dialect"] == "http" else [(one["dialect"], model) for model in MODELS[one["dialect"]]] if one.get("default") else []
    found = [one for one in found if not allowed or one[1] in allowed]
    return found if found and tenant else [*found, ("openai", "nobodys-model")]


def fields(chance, number):
    told = {"X-Request-Id": f"call-{number}", **some(chance, 0.3, Priority=[f"u={n}" for n in range(8)]), **some(chance, 0.1, **{"X-Sluice-Session": ("one", "two")}),
            **some(chance, 0.12, **{"Cache-Control": ("no-cache", "no-store", "max-age=5", "only-if-cached")})}
    deadline = chance.choice((0.05, 0.3, 1.5)) if chance.random() < 0.25 else None
    return {**told, **({"x-stainless-timeout": f"{deadline:g}"} if deadline else {})}, deadline


def call(chance, config, number, delay, gateway, repeated):
    """One call, not yet begun. `repeated`: the (nonce, words, padding) of those that come more than once."""
    tenant = chance.choice(list(config["tenants"]))
    dialect, name = chance.choice(reachable(config, tenant if chance.random() < 0.95 else None))
    nonce, words, padding = chance.choice(repeated) if repeated and chance.random() < 0.4 else text(chance, number)
    stream, most, told = chance.random() < 0.5, chance.choice((None, None, None, 10, 500)), fields(chance, number)
    key = TENANTS[tenant] if chance.random() < 0.98 else "a-key-of-nobody"
    leaves = chance.choice((0.001, 0.05, 0.3)) if chance.random() < 0.08 else None
    if dialect == "http":
        path, body, headers = f"/{name}/anything/{nonce}", json.dumps({"a": nonce}).encode(), {"Authorization": f"Bearer {key}", "X-Sim": words}
    else:
        path, body = prompt(dialect, f"[[sim nonce={nonce} {words}]]" + padding, stream, name, **more(chance, dialect, most))
        headers = headers_for(dialect, key)
    made = Reading(delay, gateway.url + path, body, {**headers, **told[0]}, leaves)
    made.dialect, made.name, made.nonce, made.words, made.stream, made.most = dialect, name, nonce, words, stream and dialect != "http", most
    made.id, made.deadline, made.gateway = told[0]["X-Request-Id"], told[1], gateway
    return made


def more(chance, dialect, most):
    """Members of a call's body beside its prompt."""
    cold = {"temperature": 0} if chance.random() < 0.5 else {}
    if dialect == "gemini":
        return {"generationConfig": {**cold, **({"maxOutputTokens": most} if most else {})}}
    return {**cold, **({"max_tokens": most} if most else {})}
