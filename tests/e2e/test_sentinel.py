"""Redis behind Sentinels: the master is found, followed when another is elected, and never mistaken."""

import contextlib
import signal
import time

import pytest

from support import share
from support.gateway import merge
from support.process import LONG, free_port, promised, wait_until
from support.redis_server import RedisServer
from support.rest import at_rest
from support.sentinel import Sentinel, Watched
from support.share import charged

DOWN_AFTER = 0.5  # seconds
TIMEOUT = 0.2
CHANGES = {"redis": {"timeout": f"{TIMEOUT * 1000:g}ms"}, "tenants": {"acme": {"limits": {"rpd": share.LIMITS["rpd"]}}}}
CONNECTIONS = 3  # of one worker: for quotas, for answers, for what is published


def ask(gateway):
    return gateway.ask("openai", "[[sim tokens=1]]")


def cut_off_replicas(master):
    """What the master is told from now on, no replica hears of."""
    master.command("ACL", "SETUSER", "default", "-psync", "-sync")
    master.command("CLIENT", "KILL", "TYPE", "replica")
    wait_until(lambda: master.info("replication")["connected_slaves"] == "0", "it has no replica")


def role(server):
    """None: it is being given another, and cuts its clients."""
    with contextlib.suppress(ConnectionError):
        return server.command("ROLE")[0]


class Witness:
    """What each replica knows of that the old master was told, until it is asked to be one itself."""

    def __init__(self, replicas):
        self.known = {replica: None for replica in replicas}

    def look(self):
        for replica in self.known:
            with contextlib.suppress(ConnectionError):
                count = charged(replica)
                if role(replica) == "slave":  # still: so nobody but the old master has told it
                    self.known[replica] = count


def unanswered(gateway):
    return sum(gateway.metric("sluice_redis_errors_total", error=error) for error in ("timed_out", "lost"))


@pytest.mark.parametrize("round", range(share.ROUNDS))
@pytest.mark.parametrize("how", ["kill", "stop", "behind"])
def test_a_failover_under_load(start, start_gateway, start_load, sim, folder, figures, how, round):
    """The master dies, or hangs and comes back as what it is no more, or dies with writes that no replica has heard of. Calls go on all the while, and what was served and is not
    charged is what the failover lost, at most: admissions that the old master had answered, and the new one does not know."""
    watched = Watched(start, folder, down_after_ms=int(DOWN_AFTER * 1000))
    gateway = start_gateway(sim.url, watched.url, merge(CHANGES, {"workers": 2}))
    old = watched.master()
    witness = Witness([server for server in watched.servers if server is not old])
    course = share.Course()
    run = share.offer([gateway], start_load, DOWN_AFTER + 4.5)
    wait_until(lambda: charged(old) >= 30, "it is charged")
    if how == "behind":
        cut_off_replicas(old)
        behind = charged(old)
        wait_until(lambda: charged(old) >= behind + 20, "it alone is charged")
    before = unanswered(gateway)
    old.signal(signal.SIGSTOP if how == "stop" else signal.SIGKILL)
    lost, elected, back = time.monotonic(), False, None
    wait_until(lambda: gateway.status()["redis"]["workers_without"] == 2, "it is missed", interval=0.002)
    quota = gateway.status()["quota"]
    answered, doubtful = quota["admitted"], unanswered(gateway) - before
    while back is None:
        witness.look()
        if not elected and watched.master() not in (old, None):
            elected = True
            watched.elect_no_more()
        if elected and gateway.status()["redis"]["mode"] == "normal":
            back = time.monotonic()
        assert time.monotonic() - lost < 30
    report = run.report()
    new = watched.master()
    if how == "stop":
        old.signal(signal.SIGCONT)
        if LONG:
            wait_until(lambda: role(old) == "slave", "the old one is a replica", deadline=30)
        for _ in range(10):
            assert ask(gateway).status == 200
    at_rest([gateway], None, sim)
    served = sim.stats()["received"]
    missing, writes_lost = served - charged(new), answered - witness.known[new]
    longest = max(one.waited_ms for one in share.asked(gateway, course))
    figures(f"failover, {how}", normal_after_ms=(back - lost) * 1000, served=served, answered_by_the_old_one=answered, writes_lost=writes_lost, in_doubt=doubtful, not_charged=missing,
            without_Redis=share.local([gateway]), longest_wait_ms=longest)
    assert watched.elections() == 1
    assert back - lost <= promised(DOWN_AFTER + 3)
    assert report["by_status"]["200"] == report["requests"] == served - 10 * (how == "stop")
    if how == "behind":
        assert writes_lost >= 20 and missing == writes_lost
    else:  # one in doubt may have been written, and heard of by the replica
        assert 0 <= missing <= writes_lost + doubtful
    assert longest <= promised(TIMEOUT + 0.03) * 1000
    assert gateway.stdout().count('"event":"redis_mode"') == 2


def test_an_elected_master_is_followed_though_the_old_one_answers(start, start_gateway, sim, folder):
    watched = Watched(start, folder)
    gateway = start_gateway(sim.url, watched.url, CHANGES)
    old = watched.master()
    assert ask(gateway).status == 200
    watched.sentinels[0].command("SENTINEL", "FAILOVER", "main")
    wait_until(lambda: watched.master() not in (old, None), "another is elected", deadline=30)
    new, since = watched.master(), time.monotonic()

    def charges_the_new_one():
        before = charged(new)
        return ask(gateway).status == 200 and charged(new) == before + 1

    wait_until(charges_the_new_one, "it is followed")
    assert time.monotonic() - since < promised(3)
    at_rest([gateway], None, sim)


def test_one_sentinel_is_dead_and_another_names_the_wrong_server(start, start_gateway, sim, folder):
    """Two of three name the master; the third never answers, then it names a server that takes writes, but is not the master of the others."""
    master, other = start(RedisServer, port=True), start(RedisServer, port=True)
    right = [start(Sentinel, master.port, quorum=5) for _ in range(2)]
    wrong = start(Sentinel, other.port, quorum=5)
    url = ",".join(f"127.0.0.1:{port}" for port in (wrong.port, *(s.port for s in right)))
    gateway = start_gateway(sim.url, f"sentinel://{url}/main", CHANGES)
    assert ask(gateway).status == 200 and charged(master) == 1 and charged(other) == 0
    wrong.signal(signal.SIGSTOP)
    try:
        again = start_gateway(sim.url, f"sentinel://{url}/main", CHANGES)
        assert ask(again).status == 200 and charged(master) == 2
        time.sleep(2.5)  # it has looked for the master twice, and stays
        assert ask(again).status == 200 and charged(master) == 3
        assert '"event":"redis_down"' not in again.stdout()
    finally:
        wrong.signal(signal.SIGCONT)


@pytest.mark.parametrize("epoch", [0, 7])
def test_a_few_are_believed_only_when_their_word_is_newer(start, start_gateway, sim, epoch):
    """Two of three fall silent, and the third has named another server all the while: only if its configuration is of a later epoch is the master left for it."""
    master, other = start(RedisServer, port=True), start(RedisServer, port=True)
    most = [start(Sentinel, master.port, quorum=5) for _ in range(2)]
    third = start(Sentinel, other.port, quorum=5, epoch=epoch)
    url = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in (third, *most))
    gateway = start_gateway(sim.url, f"sentinel://{url}/main", CHANGES)
    assert ask(gateway).status == 200 and charged(master) == 1 and charged(other) == 0
    for sentinel in most:
        sentinel.signal(signal.SIGSTOP)
    third.wait_for_looks(3, CONNECTIONS)
    if epoch:
        wait_until(lambda: ask(gateway).status == 200 and charged(other) >= 1, "its word counts")
    else:
        assert ask(gateway).status == 200 and charged(master) == 2 and charged(other) == 0


def test_a_sentinel_by_name_with_a_password_of_its_own(start, start_gateway, sim):
    """It listens at one of the name's addresses, which may not be the first; and it is asked time and again over the connections that there are."""
    master = start(RedisServer, port=True)
    sentinel = start(Sentinel, master.port, quorum=1, password="sentinel-canary")
    gateway = start_gateway(sim.url, f"sentinel://localhost:{sentinel.port}/main?sentinel=:sentinel-canary", CHANGES)
    assert ask(gateway).status == 200 and charged(master) == 1
    assert sentinel.wait_for_looks(3, CONNECTIONS) == 0
    assert all("sentinel-canary" not in text for text in (gateway.stdout(), gateway.page("/config").text, gateway.page("/status").text))
    at_rest([gateway], None, sim)


@pytest.mark.parametrize("more", ["", "?sentinel=:another"], ids=["none", "another"])
def test_a_sentinel_that_refuses_the_password_is_named_with_the_remedy(start, start_gateway, sim, more):
    master = start(RedisServer, port=True)
    sentinel = start(Sentinel, master.port, quorum=1, password="sentinel-canary")
    gateway = start_gateway(sim.url, f"sentinel://127.0.0.1:{sentinel.port}/main{more}", CHANGES, wait=False)
    told = f"Sentinel 127.0.0.1:{sentinel.port} refuses our password: set ?sentinel=user:password in redis.url"
    wait_until(lambda: any(line["event"] == "redis_mode" and line["reason"] == told for line in gateway.log()), "it says so")
    assert gateway.status()["redis"]["reason"] == told


def test_a_replica_is_not_talked_to(start, start_gateway, sim, folder):
    """Sentinels name what is a replica: the gateway waits until it is a master. They would elect another, had it replicas of its own."""
    master = start(RedisServer, port=True)
    sentinels = [start(Sentinel, master.port, quorum=5) for _ in range(2)]
    url = "sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in sentinels) + "/main"
    gateway = start_gateway(sim.url, url, CHANGES)
    assert ask(gateway).status == 200
    master.command("REPLICAOF", "127.0.0.1", free_port())
    assert ask(gateway).status == 200  # by its share
    wait_until(lambda: gateway.status()["redis"]["mode"] == "share", "it takes no writes")
    other = start_gateway(sim.url, url, CHANGES, wait=False)
    wait_until(lambda: "it is not a master" in other.stdout(), "its role is asked")
    assert '"event":"redis_up"' not in other.stdout()
    assert all(sentinel.master() == master.port for sentinel in sentinels)
    master.command("REPLICAOF", "NO", "ONE")
    for each in (gateway, other):
        wait_until(lambda: each.ready() and each.status()["redis"]["mode"] == "normal", "it is a master again", deadline=30)
        assert ask(each).status == 200


def test_no_sentinel_knows_the_name(start, start_gateway, sim, folder):
    master = start(RedisServer, port=True)
    sentinel = start(Sentinel, master.port, quorum=1)
    gateway = start_gateway(sim.url, f"sentinel://127.0.0.1:{sentinel.port}/nobody", CHANGES, wait=False)
    wait_until(lambda: f"Sentinel 127.0.0.1:{sentinel.port} knows no master of that name" in gateway.stdout(), "it says so")


def test_sentinels_that_cannot_be_reached_are_named(start_gateway, sim):
    ports = [free_port() for _ in range(2)]
    gateway = start_gateway(sim.url, f"sentinel://127.0.0.1:{ports[0]},no-such-host.invalid:{ports[1]}/main", CHANGES, wait=False)
    told = f"Sentinel 127.0.0.1:{ports[0]} cannot be reached; none of 2 names a master"
    wait_until(lambda: any(line["event"] == "redis_mode" and line["reason"] == told for line in gateway.log()), "it says so")
    assert gateway.status()["redis"]["reason"] == told
