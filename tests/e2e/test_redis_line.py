"""Three instances and a line to their Redis that has faults of every kind: what must hold is in support/share.py."""

import pytest

from support import share
from support.redis_faults import FAULTS, OF_THE_LINE
from support.rest import at_rest
from support.share import BURST, RATE


@pytest.mark.parametrize("round", range(share.ROUNDS))
@pytest.mark.parametrize("fault", OF_THE_LINE, ids=lambda fault: fault.name)
def test_three_instances_lose_redis(start_fleet, world, sim, start_load, figures, fault, round):
    share.three_instances_lose(fault, start_fleet(), world, sim, start_load, figures)


@pytest.mark.parametrize("round", range(share.ROUNDS))
def test_one_instance_is_cut_off_alone(start_gateway, world, sim, start_load, figures, round):
    """The others have all of the quota as before, and it adds its share: a third."""
    gateways = [start_gateway(sim.url, url, share.CHANGES) for url in (world.redis.url, world.redis.url, world.url)]
    share.all_known(gateways)
    course, report = share.drive(gateways, FAULTS["stalled"].upon(world), gateways[2:], start_load)
    numbers = share.judge(gateways, sim, course, report, gateways[2:], burst=BURST * 4 / 3, rate=RATE * 4 / 3, extra=0)
    assert all("redis_mode" not in gateway.stdout() for gateway in gateways[:2])
    at_rest(gateways, world.redis, sim)
    figures("one cut off", **numbers, not_charged=share.exactly_charged(world.redis, sim, course, False))
