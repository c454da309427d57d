"""What must hold when nothing is in flight, whatever happened before."""

from .process import descriptors, wait_until


def leases(redis):
    """Reservations that are open: members with a positive expiry; tombstones have a negative one."""
    return {key: redis.command("ZCOUNT", key, 0, "+inf") for key in redis.keys("sluice:*:l")}


def tickets(redis):
    """Places at half-open breakers that are held: tickets that have not run out, of workers that are heard. What a killed one held is taken from it by the next
    who asks."""
    now = int("".join(part.rjust(6, "0") for part in redis.command("TIME")))
    held = [(key, ticket) for key in redis.keys("sluice:{b:*}:p") for ticket in redis.command("ZRANGEBYSCORE", key, f"({now}", "+inf")]
    return [(key, ticket) for key, ticket in held if redis.command("PUBSUB", "NUMSUB", ticket.split(" ", 2)[2])[1] > 0]


def own_descriptors(gateway):
    """What the process holds open beside connections of clients and connections to upstreams, which come and go by right; None while
    something moves."""
    before = gateway.status()
    count = descriptors(gateway.pid)
    after = gateway.status()
    shared = after["cache"]
    if not after["redis"]["up"] or not shared["up"] or shared["listening"] != after["workers"] or _connections(before) != _connections(after):
        return None
    return count - _connections(after)


def _connections(status):
    pools = [pool for upstream in status["upstreams"].values() for pool in upstream["pools"].values()]
    return status["clients"]["connections"] + sum(pool["active"] + pool["idle"] for pool in pools)


def at_rest(gateways, redis=None, sim=None):
    """Waits until all have ended; then: no request, no lease, no settle without its answer, no ticket of a breaker, each request logged and counted once, no
    descriptor more than at the start, no secret told, every key has an expiry, nothing in flight upstream."""
    for gateway in gateways:
        wait_until(lambda: gateway.status()["requests"]["in_flight"] == 0, f"{gateway.name} at rest")
        wait_until(lambda: gateway.status()["quota"]["leases"] == 0 and gateway.status()["quota"]["unsettled"] == 0, f"{gateway.name} settled")
        assert gateway.requests()["requests"] == []
        assert gateway.status()["requests"]["body_bytes"] == 0
        told_once(gateway)
        wait_until(lambda: (own_descriptors(gateway) or gateway.birth_descriptors + 1) <= gateway.birth_descriptors,
                   f"{gateway.name} holds no more descriptors than at its start ({gateway.birth_descriptors})")
        tells_no_secret(gateway, redis)
    if redis is not None:
        assert not any(leases(redis).values()), leases(redis)
        wait_until(lambda: tickets(redis) == [], "tickets of breakers given back")
        assert redis.eternal_keys() == []
    if sim is not None:
        wait_until(lambda: sim.stats()["in_flight"] == 0, "the simulator at rest")


def told_once(gateway):
    """A line in the log for each request that the counters know, and the other way round; lines that did not fit are counted too."""

    def numbers():
        ended = gateway.metric("sluice_requests_total")
        lines = gateway.stdout().count('"event":"request",')
        return lines, ended, gateway.metric("sluice_log_dropped_total")

    wait_until(lambda: numbers()[0] == numbers()[1], f"{gateway.name} logs what it counts")
    assert numbers()[2] == 0


def tells_no_secret(gateway, redis=None):
    """Neither the clients' keys nor the upstreams' in what it writes, shows, or names keys after."""
    texts = {"stdout": gateway.stdout(), "stderr": gateway.stderr(), "command line": command_line(gateway.pid)}
    texts.update({page: gateway.page(page).text for page in ("/metrics", "/status", "/requests", "/config")})
    if redis is not None:
        texts["keys"] = "\n".join(redis.keys())
    found = [(where, secret) for where, text in texts.items() for secret in gateway.secrets() if secret in text]
    assert not found, found


def command_line(pid):
    with open(f"/proc/{pid}/cmdline") as line:
        return line.read()


def counted(gateways, **labels):
    """How many requests ended with these labels, over all the instances."""
    return sum(gateway.metric("sluice_requests_total", **labels) for gateway in gateways)
