"""Fixtures: each starts real processes for one test and ends them by their own pid, whatever the test did."""

import collections
import contextlib
import pathlib
import shutil
import socket
import statistics
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from support.gateway import Gateway  # noqa: E402
from support.load import Load  # noqa: E402
from support import share  # noqa: E402
from support.provider import Provider  # noqa: E402
from support.proxy import FaultProxy  # noqa: E402
from support.redis_faults import World  # noqa: E402
from support.redis_server import RedisServer  # noqa: E402
from support.sim import Sim  # noqa: E402
from support.tls import Authority, NghttpxFront, NginxFront  # noqa: E402


_figures = collections.defaultdict(lambda: collections.defaultdict(list))


@pytest.fixture
def figures():
    """figures("killed", waited_ms=…): told at the end of the run, over all that came under that name; also when all is well, and by tests/run too."""

    def note(name, **values):
        for what, value in values.items():
            _figures[name][what].append(value)

    return note


def _sum_up(values):
    return f"{values[0]:.0f}" if len(values) == 1 else "/".join(f"{of(values):.0f}" for of in (min, statistics.median, max))


def pytest_terminal_summary(terminalreporter):
    for name, columns in _figures.items():
        rounds = max(len(values) for values in columns.values())
        of = f" ({rounds} times; min/median/max)" if rounds > 1 else ""
        terminalreporter.write_line(f"figures: {name}{of}: " + ", ".join(f"{what.replace('_', ' ')} {_sum_up(values)}" for what, values in columns.items()))


@pytest.fixture(autouse=True)
def localhost(monkeypatch):
    """localhost is the loopback (RFC 6761, section 6.3), also where /etc/hosts is missing, as in a bare chroot."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **options: resolve("127.0.0.1" if host == "localhost" else host, *more,
                                                                                      **options))


@pytest.fixture
def folder():
    """A short path, because a unix socket's name has at most 107 bytes."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="sluice-e2e-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


FINDINGS = ("Sanitizer:", "runtime error:")


def end(process):
    """Stops it. The simulator must leave in order, and a sanitizer's finding in any process' last words fails the test: also one at its very end."""
    code = process.stop()
    words = process.stderr()
    if (isinstance(process, Sim) and code != 0) or any(finding in words for finding in FINDINGS):
        raise RuntimeError(f"{process.name} ended with {code}\n{words[-4000:]}")


@pytest.fixture
def start(folder):
    """start(Sim, …): a process of that class in the test's folder, stopped with the test, the last one first."""
    with contextlib.ExitStack() as stack:
        count = 0

        def begin(kind, *arguments, **options):
            nonlocal count
            count += 1
            options.setdefault("name", f"{kind.__name__.lower()}{count}")
            process = kind(folder, *arguments, **options)
            stack.callback(end, process)
            return process

        yield begin


@pytest.fixture
def start_sim(start):
    return lambda behaviour="", **options: start(Sim, behaviour, **options)


@pytest.fixture
def start_redis(start):
    return lambda **options: start(RedisServer, **options)


@pytest.fixture
def start_gateway(start):
    """start_gateway(sim.url, redis.url, {"tenants": …}): changes to the usual configuration; see support/gateway.py."""
    return lambda upstream_url, redis_url="embedded", changes=None, **options: start(Gateway, upstream_url, redis_url, changes,
                                                                                     **options)


@pytest.fixture
def start_load(start):
    return lambda urls, **how: start(Load, urls, **how)


@pytest.fixture
def sim(start_sim):
    return start_sim()


@pytest.fixture
def redis(start_redis):
    return start_redis()


@pytest.fixture
def gateway(start_gateway, sim, redis):
    return start_gateway(sim.url, redis.url)


@pytest.fixture
def proxy():
    """proxy("tcp:127.0.0.1:port"): a FaultProxy in front of it; see support/proxy.py."""
    made = []

    def begin(target, listen_path=None):
        made.append(FaultProxy(target, listen_path))
        return made[-1]

    yield begin
    for each in made:
        each.close()


@pytest.fixture
def world(redis, start_redis, proxy, folder):
    """A Redis and the line to it; see support/redis_faults.py."""
    front = proxy(f"unix:{redis.path}", str(folder / "front.sock"))
    front.tell("skip 2")
    return World(redis, front, start_redis)


@pytest.fixture
def start_fleet(start_gateway, sim, world):
    """start_fleet(): three instances that have this Redis together, by this line; see support/share.py."""

    def begin(changes=share.CHANGES):
        gateways = [start_gateway(sim.url, world.url, changes, wait=False) for _ in range(3)]
        for gateway in gateways:
            gateway.wait_ready(gateway.ready)
        share.all_known(gateways)
        return gateways

    return begin


@pytest.fixture
def provider():
    """provider(b"HTTP/1.1 200 OK…"): one that answers these bytes; see support/provider.py."""
    made = []

    def begin(answer, **options):
        made.append(Provider(answer, **options))
        return made[-1]

    yield begin
    for each in made:
        each.stop()


@pytest.fixture
def authority(folder):
    return Authority(folder)


@pytest.fixture
def tls_front(start, authority):
    """tls_front(port, http2=True): nghttpx (or nginx with program="nginx") with a certificate for localhost."""

    def begin(port, program="nghttpx", certificate=None, **options):
        key, pem = certificate or authority.issue("server")
        return start(NginxFront if program == "nginx" else NghttpxFront, port, key, pem, **options)

    return begin
