"""docker/demo_breaker.py URL PROVIDER KEY TOKEN ADMIN...: one breaker, seen from outside. docker/demo.sh calls it.

Sixty calls a second go to URL (the load balancer) in front of the instances, whose admin planes are ADMIN. After a second the provider fails, three seconds later it
recovers. Says each half second what went where, and what each instance thinks of the provider; ends with 1 unless all instances stopped calling it and all went on.
"""
import asyncio
import json
import sys
import time
import urllib.parse
import urllib.request

RATE, WELL, FAILING, PATIENCE, STEP = 60, 1.0, 3.0, 20.0, 0.5  # calls a second; seconds
WELL_WORDS = "chance=0%"
MODEL = "claude-haiku-4-5"
BODY = json.dumps({"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}).encode()


def fetch(url, body=None, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=10) as page:
        return json.load(page)


class Callers:
    """What became of each call: (when it began, status or what broke, which instance answered)."""

    def __init__(self, url, key):
        self.url, self.key, self.ended = urllib.parse.urlsplit(url), key, []

    async def call(self):
        began = time.monotonic()
        try:
            status, instance = await asyncio.wait_for(self._ask(), 30)
        except (OSError, ValueError, EOFError, asyncio.TimeoutError) as error:
            status, instance = repr(error), None
        self.ended.append((began, status, instance))

    async def _ask(self):
        reader, writer = await asyncio.open_connection(self.url.hostname, self.url.port)
        try:
            writer.write(f"POST {self.url.path} HTTP/1.1\r\nHost: {self.url.netloc}\r\nx-api-key: {self.key}\r\nanthropic-version: 2023-06-01\r\n"
                         f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            await reader.read()
            return int(head.split(" ")[1]), head.partition("\r\nx-request-id: ")[2].split(".")[0]
        finally:
            writer.close()

    async def run(self):
        began, count, calls = time.monotonic(), 0, set()
        try:
            while True:
                while count < (time.monotonic() - began) * RATE:
                    calls.add(task := asyncio.create_task(self.call()))
                    task.add_done_callback(calls.discard)
                    count += 1
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            await asyncio.gather(*calls)

    def since(self, moment, status, instance=None):
        """How many that began at this moment or later came to that."""
        return sum(began >= moment and came == status and instance in (None, by) for began, came, by in self.ended)


class Watch:
    def __init__(self, callers, provider, admins, token):
        self.callers, self.provider, self.admins, self.token = callers, provider, admins, token
        self.began, self.told, self.received = time.monotonic(), 0, 0

    async def states(self):
        pages = await asyncio.gather(*(asyncio.to_thread(fetch, f"{admin}/breakers", Authorization=f"Bearer {self.token}") for admin in self.admins))
        return [page["upstreams"]["anthropic"]["endpoints"][0]["state"] for page in pages]

    async def provider_received(self):
        return (await asyncio.to_thread(fetch, f"{self.provider}/__sim/stats"))["received"]

    async def set(self, words):
        """What the provider does from now on, whatever it was told before."""
        await asyncio.to_thread(fetch, f"{self.provider}/__sim/set", json.dumps({"clear": True, "set": words, "model": MODEL}).encode())

    async def line(self):
        """Until the next half second has passed; what was in it."""
        await asyncio.sleep(max(0, self.began + STEP * (round((time.monotonic() - self.began) / STEP) + 1) - time.monotonic()))
        received, states, ended = await self.provider_received(), await self.states(), self.callers.ended[self.told:]
        counts = [sum(status == wanted for _, status, _ in ended) for wanted in (200, 503)]
        print(f"{time.monotonic() - self.began:7.1f} {len(ended):7} {counts[0]:10} {len(ended) - sum(counts):8} {counts[1]:12} {received - self.received:23}   {', '.join(states)}", flush=True)
        self.told, self.received = self.told + len(ended), received
        return states


async def act(url, provider, key, token, admins):
    callers = Callers(url, key)
    watch = Watch(callers, provider, admins, token)
    await watch.set(WELL_WORDS)
    watch.received = await watch.provider_received()
    running = asyncio.create_task(callers.run())
    print(" second   ended   answered   failed   not called   the provider received   its breaker, as each instance sees it")
    stopped = set()
    try:
        while time.monotonic() < watch.began + WELL:
            await watch.line()
        print("  the provider answers each call with 529 from now on")
        await watch.set("status=529 chance=100%")
        failing, before = time.monotonic(), watch.received
        while time.monotonic() < failing + FAILING or (len(stopped) < len(admins) and time.monotonic() < failing + PATIENCE):
            await watch.line()
            stopped = {by for began, status, by in callers.ended if began >= failing and status == 503}
        print("  the provider is well again")
        during, asked = watch.received - before, sum(began >= failing for began, *_ in callers.ended)
        await watch.set(WELL_WORDS)
        well, states = time.monotonic(), []
        while states != ["closed"] * len(admins) and time.monotonic() < well + PATIENCE:
            states = await watch.line()
        on = time.monotonic()
        await watch.line()
        await watch.line()
    finally:
        running.cancel()
        await running
    after = {by for began, status, by in callers.ended if began >= on and status == 200}
    bad = sum(began >= on and status != 200 for began, status, _ in callers.ended)
    return len(stopped), during, asked, len(after), bad


def main(url, provider, key, token, *admins):
    stopped, during, asked, after, bad = asyncio.run(act(url, provider, key, token, admins))
    if stopped == after == len(admins) and bad == 0 and 2 * during < asked:
        print(f"one breaker: of {asked} calls while the provider failed {during} reached it, its probes among them; {stopped} instances left it alone, and all of them went on")
        return 0
    print(f"NOT one breaker: {stopped} of {len(admins)} instances left it alone; of {asked} calls while it failed {during} reached it; {after} went on, {bad} calls failed then")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
