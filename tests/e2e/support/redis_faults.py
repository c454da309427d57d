"""What can happen to a Redis, or to the way to it. Each fault is in force inside its `with`; outside all is as it was, but for what Redis forgot."""

import contextlib
import dataclasses
import os
import signal
import socket
import threading
import typing

from .process import free_port, wait_until
from .redis_server import encode


class World:
    """`proxy` stands before `redis`, which may be another one afterwards."""

    def __init__(self, redis, proxy=None, start_redis=None):
        self.redis, self.proxy, self.start_redis = redis, proxy, start_redis

    @property
    def url(self):
        return f"unix://{self.proxy.path}"


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    upon: typing.Callable  # a context manager of the world
    gone: bool = True  # all must say that Redis is away
    forgets: bool = False  # what Redis knew before is lost
    flickers: bool = False  # it may count as away more than once
    losses: int = 1


def _tolerant(redis, *words):
    with contextlib.suppress(OSError, RuntimeError):
        redis.command(*words)


def _is_silent(redis):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.1)
        connection.connect(redis.path)
        connection.sendall(encode("PING"))
        try:
            connection.recv(1)
        except TimeoutError:
            return True
    return False


def _between(tell, begin, end=()):
    """That world's `tell` is told `begin` first, `end` afterwards; each a list of arguments."""

    @contextlib.contextmanager
    def fault(world):
        for words in begin:
            tell(world)(*words)
        yield
        for words in end:
            tell(world)(*words)

    return fault


def _redis(begin, end=()):
    return _between(lambda world: world.redis.command, [line.split() for line in begin], [line.split() for line in end])


def _line(begin, end):
    return _between(lambda world: world.proxy.tell, [[line] for line in begin], [[line] for line in end])


@contextlib.contextmanager
def _killed(world):
    """And it comes back empty."""
    world.redis.kill()
    yield
    os.unlink(world.redis.path)
    world.redis = world.start_redis(name=world.redis.name)


@contextlib.contextmanager
def _busy(world):
    """A script of somebody that does not end: silence first, then BUSY."""
    world.redis.command("CONFIG", "SET", "busy-reply-threshold", "300")
    endless = threading.Thread(target=_tolerant, args=(world.redis, "EVAL", "while true do end", "0"))
    endless.start()
    wait_until(lambda: _is_silent(world.redis), "the script runs", interval=0)
    yield
    wait_until(lambda: (_tolerant(world.redis, "SCRIPT", "KILL"), not endless.is_alive())[1], "the script is killed")


@contextlib.contextmanager
def _resets(world):
    over = threading.Event()

    def again():
        while not over.wait(0.05):
            world.proxy.tell("reset")

    thread = threading.Thread(target=again)
    thread.start()
    yield
    over.set()
    thread.join()


OF_THE_SERVER = [
    Fault("killed", _killed, forgets=True),
    Fault("hung", _between(lambda world: world.redis.signal, [[signal.SIGSTOP]], [[signal.SIGCONT]])),
    Fault("full", _redis(["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"])),
    Fault("busy", _busy, flickers=True),
    Fault("replica", _redis([f"REPLICAOF 127.0.0.1 {free_port()}"], ["REPLICAOF NO ONE"]), flickers=True),
    Fault("forbidden", _redis(["ACL SETUSER default -evalsha"], ["ACL SETUSER default +evalsha"])),
    Fault("flushed", _redis(["FLUSHALL", "SCRIPT FLUSH"]), gone=False, forgets=True),
    # Somebody overwrites the tenant's key, and somebody deletes that: twice its buckets are gone.
    Fault("wrong_type", _redis(["SET sluice:{t:acme}:q rubbish EX 60"], ["DEL sluice:{t:acme}:q"]), gone=False, forgets=True, losses=2),
]
OF_THE_LINE = [
    Fault("unreachable", _line(["refuse on", "reset"], ["refuse off"])),
    Fault("stalled", _line(["stall on"], ["stall off"])),
    Fault("late", _line(["delay 150"], ["delay 0"]), flickers=True),  # each answer comes when nobody waits for it any more
    Fault("answers_lost", _line(["drop-reply-every 5"], ["drop-reply-every 0"]), gone=False, flickers=True),  # the script ran
    Fault("answers_lost_in_silence", _line(["after-drop mute", "drop-reply-every 5"], ["after-drop close", "drop-reply-every 0", "reset"]), gone=False, flickers=True),
    Fault("resets", _resets, gone=False, flickers=True),
]
FAULTS = {fault.name: fault for fault in OF_THE_SERVER + OF_THE_LINE}
