"""What must hold when nothing is in flight, whatever happened before."""

from .process import wait_until


def leases(redis):
    """Reservations that are open: members with a positive expiry; tombstones have a negative one."""
    return {key: redis.command("ZCOUNT", key, 0, "+inf") for key in redis.keys("sluice:*:l")}


def at_rest(gateways, redis=None, sim=None):
    """Waits until all have ended; then: no request, no lease, no settle without its answer, every key has an expiry, nothing in flight upstream."""
    for gateway in gateways:
        wait_until(lambda: gateway.status()["requests"]["in_flight"] == 0, f"{gateway.name} at rest")
        wait_until(lambda: gateway.status()["quota"]["leases"] == 0 and gateway.status()["quota"]["unsettled"] == 0, f"{gateway.name} settled")
        assert gateway.requests()["requests"] == []
        assert gateway.status()["requests"]["body_bytes"] == 0
    if redis is not None:
        assert not any(leases(redis).values()), leases(redis)
        assert redis.eternal_keys() == []
    if sim is not None:
        wait_until(lambda: sim.stats()["in_flight"] == 0, "the simulator at rest")


def counted(gateways, **labels):
    """How many requests ended with these labels, over all the instances."""
    return sum(gateway.metric("sluice_requests_total", **labels) for gateway in gateways)
