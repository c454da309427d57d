"""docker/demo_flight.py URL PROVIDER KEY: one flight, seen from outside. docker/demo.sh calls it.

300 clients ask the same of URL (the load balancer) at temperature 0 while the provider's one stream runs: the first at once, the others within the next second. Says how
often the provider was called, whether all have the same bytes, and how far they were behind the first; ends with 1 unless it was one call and one answer.
"""
import asyncio
import hashlib
import json
import statistics
import sys
import time
import urllib.parse
import urllib.request

CLIENTS, SPREAD = 300, 1.0
TOKENS, RATE = 60, 20  # the provider's stream: three seconds
PROMPT = f"[[sim tokens={TOKENS} rate={RATE} chance=0%]] Tell me about flights."


class Client:
    """One stream of its own connection: its body, and when how much of it was there."""

    def __init__(self):
        self.body, self.seen, self.failure = b"", [], None

    async def run(self, url, key):
        try:
            await asyncio.wait_for(self._ask(urllib.parse.urlsplit(url), key), 30)
        except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
            self.failure = repr(error)

    async def _ask(self, url, key):
        body = json.dumps({"model": "gpt-4o-mini", "temperature": 0, "stream": True, "messages": [{"role": "user", "content": PROMPT}]})
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            writer.write(f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
                         f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if not head.startswith("http/1.1 200 ") or "\r\ntransfer-encoding: chunked\r\n" not in head:
                raise ValueError(head.splitlines()[0])
            self.instance = head.split("\r\nx-request-id: ")[1].split(".")[0]
            while size := int(await reader.readline(), 16):
                self.body += await reader.readexactly(size)
                self.seen.append((time.monotonic(), len(self.body)))
                await reader.readexactly(2)
        finally:
            writer.close()


def behind(client, first):
    """Seconds from when the first had so much of the answer to when this one did, for what came after this one had joined."""
    lags, at = [], iter(client.seen)
    moment, length = next(at)
    joined = moment
    for then, wanted in first.seen:
        while length < wanted:
            moment, length = next(at)
        if then >= joined:
            lags.append(moment - then)
    return lags


async def fly(url, key):
    clients = [Client() for _ in range(CLIENTS)]
    running = [asyncio.create_task(clients[0].run(url, key))]
    while not clients[0].seen and not running[0].done():
        await asyncio.sleep(0.01)
    for client in clients[1:]:
        running.append(asyncio.create_task(client.run(url, key)))
        await asyncio.sleep(SPREAD / CLIENTS)
    await asyncio.gather(*running)
    return clients


def main(url, provider, key):
    clients = asyncio.run(fly(url, key))
    with urllib.request.urlopen(f"{provider}/__sim/stats", timeout=10) as page:
        calls = json.load(page)["received"]
    failed = [client.failure for client in clients if client.failure]
    for failure in sorted(set(failed)):
        print(f"  failed: {failure} {failed.count(failure)}x")
    whole = [client for client in clients if not client.failure and client.body.endswith(b"data: [DONE]\n\n")]
    bodies = {hashlib.sha256(client.body).hexdigest()[:16] for client in whole}
    instances = [client.instance for client in whole]
    print(f"  calls that the provider received   {calls}")
    print(f"  whole answers                      {len(whole)}, over instances: {', '.join(str(instances.count(name)) for name in sorted(set(instances)))}")
    print(f"  SHA-256 of each, its beginning     {', '.join(sorted(bodies))}")
    if calls != 1 or len(whole) != CLIENTS or len(bodies) != 1:
        print(f"NOT shared: {calls} calls, {len(bodies)} different answers, {CLIENTS - len(whole)} clients without a whole one")
        return 1
    lags = sorted(1000 * lag for client in clients[1:] for lag in behind(client, clients[0]))
    print(f"  behind the first client            median {statistics.median(lags):.1f} ms, 99 of 100 pieces within {lags[len(lags) * 99 // 100]:.0f} ms")
    print(f"shared: {CLIENTS} streams over {len(set(instances))} instances were one call; its {TOKENS} tokens were paid once, not {CLIENTS * TOKENS:,}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
