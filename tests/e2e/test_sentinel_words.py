"""One Sentinel of three is not believed, whatever it says and however soon. Then the master dies and all three say anything, each call is answered all the while; then they agree, and
whom they name is followed.

SLUICE_SOAK=N does so with N seeds, ten at most (`make soak`), SLUICE_LONG=1 for longer; SLUICE_SEED=N with that one, which a run has printed."""

import os
import random
import re
import time

import pytest

from support import share
from support.lying_sentinel import TRUTH_EPOCH, LyingSentinel
from support.process import LONG, free_port, promised, resident_bytes, sanitized, wait_until
from support.redis_server import RedisServer
from support.rest import at_rest, own_descriptors
from support.share import charged

DURING = 10 if LONG else 3  # seconds of lies
TIMEOUT = 0.2
WORKERS = 2
CHANGES = {"workers": WORKERS, "redis": {"timeout": f"{TIMEOUT * 1000:g}ms"}, "tenants": {"acme": {"limits": {"rpd": share.LIMITS["rpd"]}}}}
CONNECTIONS = 3 * WORKERS  # for quotas, for answers, for what is published
LATEST = 2**63 - 1  # epoch
GROWTH = 16 << 20  # bytes
GREETING = {"client|setname", "role"}
SEEDS = [int(os.environ["SLUICE_SEED"])] if "SLUICE_SEED" in os.environ else [random.SystemRandom().randrange(10**6) for _ in range(share.ROUNDS)]


@pytest.fixture
def sentinels():
    made = []

    def begin(*arguments):
        made.append(LyingSentinel(*arguments))
        return made[-1]

    yield begin
    for each in made:
        each.stop()


def told(server):
    """The names of the commands that it was given, but for those that its own start gives it too."""
    return set(re.findall(r"cmdstat_([^:]+)", server.command("INFO", "commandstats"))) - {"info", "ping"}


def ask(gateway):
    answer = gateway.ask("openai", "[[sim tokens=1]]")
    assert answer.status == 200
    return answer


def connected(server):
    return server.command("CLIENT", "LIST").count(" name=sluice ")


def one_is_not_believed(gateway, sentinels, master, decoy, chance):
    """The other two name the master, if a moment later: its word is no more than one, of however late an epoch."""
    liar = chance.choice(sentinels)
    for sentinel in sentinels:
        sentinel.names(master.port, pause=0.05)
    liar.names(decoy.port, chance.choice([0, TRUTH_EPOCH, TRUTH_EPOCH + 1, LATEST]))
    wait_until(lambda: ask(gateway) and liar.listeners() == CONNECTIONS, "it is asked", interval=0.05)
    time.sleep(0.3)  # what an answer might have led to
    assert not told(decoy), told(decoy)


def all_lie(gateway, sentinels, ports):
    """How many workers were without Redis, after each call."""
    for sentinel in sentinels:
        sentinel.lies = ports
    without, end = [], time.monotonic() + DURING
    while time.monotonic() < end:
        ask(gateway)
        without.append(gateway.status()["redis"]["workers_without"])
        time.sleep(0.02)
    return without


def all_agree(gateway, sentinels, server, epoch):
    """The time that it took until all was normal with that master, in milliseconds; soon each of the Sentinels is asked over each connection, whatever it had said on it."""
    for sentinel in sentinels:
        sentinel.names(server.port, epoch)
    since, before = time.monotonic(), charged(server)
    wait_until(lambda: ask(gateway) and charged(server) > before and connected(server) == CONNECTIONS and share.mode(gateway) == "normal", "it is followed", interval=0.02)
    took = time.monotonic() - since
    wait_until(lambda: all(sentinel.listeners() == CONNECTIONS for sentinel in sentinels), "all are asked")
    assert took <= promised(3) and time.monotonic() - since <= promised(5)
    return took * 1000


def changes_are_told_once(gateway, seconds):
    """A line for each change, none for each answer: of who is down no more until it has been up, or five seconds later. How many there are."""
    changes, lines = share.changes_of(gateway), [line["event"] for line in gateway.log() if line["event"] in ("redis_up", "redis_down")]
    ups, downs = lines.count("redis_up"), lines.count("redis_down")
    assert changes == ["share", "normal"] * (len(changes) // 2), changes
    assert ups <= CONNECTIONS * (1 + seconds / 2) and downs <= ups + CONNECTIONS * int(seconds / 5), (ups, downs, seconds)
    return len(changes) + len(lines)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_sentinels_say_is_not_trusted(start, start_gateway, sim, sentinels, figures, seed):
    print(f"SLUICE_SEED={seed}")
    chance = random.Random(seed)
    old, decoy, new = (start(RedisServer, port=True) for _ in range(3))
    replica = start(RedisServer, port=True, options=["--replicaof", "127.0.0.1", free_port()])
    three = [sentinels(f"{seed}/{i}", old.port) for i in range(3)]
    url = "sentinel://" + ",".join(f"{host}:{s.port}" for host, s in zip(("127.0.0.1", "localhost", "127.0.0.1"), three)) + "/main?sentinel=:password"
    gateway = start_gateway(sim.url, url, CHANGES)
    began = time.monotonic()
    all_agree(gateway, three, old, TRUTH_EPOCH)
    gateway.birth_descriptors = wait_until(lambda: own_descriptors(gateway), "all is open")
    memory = resident_bytes(gateway.pid)
    one_is_not_believed(gateway, three, old, decoy, chance)
    asked = sum(s.asked for s in three)
    old.kill()
    without = all_lie(gateway, three, [decoy.port] * 3 + [replica.port, free_port(), three[0].port])  # of which the last is no Redis at all
    asked = sum(s.asked for s in three) - asked
    back = all_agree(gateway, three, new, TRUTH_EPOCH)
    to_another = all_agree(gateway, three, decoy, LATEST)
    and_back = all_agree(gateway, three, new, TRUTH_EPOCH)  # though that is older: all say so
    lines = changes_are_told_once(gateway, time.monotonic() - began)
    assert told(replica) <= GREETING, told(replica)
    at_rest([gateway], None, sim)
    grown = resident_bytes(gateway.pid) - memory
    assert sanitized() or grown < GROWTH
    longest = max(one.waited_ms for one in share.asked(gateway, share.Course()))
    assert longest <= promised(TIMEOUT + 0.03) * 1000
    figures("Sentinels that lie", followed_after_ms=back, another_after_ms=to_another, the_first_again_after_ms=and_back, questions=asked, lines=lines, calls=len(without),
            percent_without_Redis=100 * sum(without) / (WORKERS * len(without)), longest_wait_ms=longest, grown_KiB=grown >> 10)


def is_asked(gateway, *sentinels):
    """Anew, each over each connection."""
    for sentinel in sentinels:
        sentinel.names(*sentinel.word)
    wait_until(lambda: ask(gateway) and all(sentinel.listeners() == CONNECTIONS for sentinel in sentinels), "all are asked", interval=0.05)


def test_an_older_word_is_not_followed(start, start_gateway, sim, sentinels):
    """Of three who tell the epoch later than the address one does not know of the seventh yet; both others than the third, which knows of the third one and of another master, fall
    silent. It is not believed then, nor when the master is lost as well."""
    master, other = start(RedisServer, port=True), start(RedisServer, port=True)
    behind, most, third = (sentinels(0, port) for port in (master.port, master.port, other.port))
    behind.names(master.port, 2, pause_more=0.05)
    most.names(master.port, 7, pause_more=0.05)
    third.names(other.port, 3)
    gateway = start_gateway(sim.url, "sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in (behind, most, third)) + "/main", CHANGES)
    wait_until(lambda: ask(gateway) and connected(master) == CONNECTIONS, "all is well")
    is_asked(gateway, behind, most, third)
    other.command("CONFIG", "RESETSTAT")  # where two were late at the start, it was asked who it is
    for silent in (behind, most):
        silent.names(master.port, 7, pause=1)  # when nobody listens any more
    for loss in (lambda: None, master.kill):
        loss()
        is_asked(gateway, third)
        time.sleep(0.5)  # what the answers might have led to
        assert told(other) <= {"config|resetstat"}, told(other)
    third.names(other.port, 8)
    wait_until(lambda: ask(gateway) and connected(other) == CONNECTIONS and share.mode(gateway) == "normal", "what is newer is followed", interval=0.05)
