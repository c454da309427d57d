"""The simulated provider (build/sluice-sim): what it can be told to do is in tests/sim/behaviour.h."""

import json
import subprocess
import time

from . import client
from .process import DEADLINE, Process, binary


class Sim(Process):
    def __init__(self, folder, behaviour="", key=None, limits=None, models=None, listen="127.0.0.1:0", control=None, name="sim"):
        arguments = [binary("sluice-sim"), "--listen", listen, "--die-with-parent", "--set", behaviour]
        for option, value in (("--key", key), ("--limits", limits), ("--models", models), ("--control", control)):
            if value is not None:
                arguments += [option, value]
        super().__init__(arguments, folder, name)
        ready = json.loads(self.wait_ready(lambda: self.stdout().partition("\n")[1] and self.stdout()))
        self.url = ready.get("url")
        self.port = ready.get("port")
        self.control_url = ready.get("control_url", self.url)

    def stop(self, timeout=DEADLINE):
        """Asked as often as it takes: under ThreadSanitizer one signal in some hundred is never delivered."""
        end = time.monotonic() + timeout
        while self.alive() and time.monotonic() < end:
            self.child.terminate()
            try:
                self.child.wait(2)
            except subprocess.TimeoutExpired:
                pass
        return super().stop(timeout)

    def _page(self, page, body=None):
        answer = client.request(f"{self.control_url}/__sim/{page}", body=body, method="GET" if body is None else "POST")
        if answer.status != 200:
            raise RuntimeError(f"/__sim/{page}: {answer.text}")
        return answer.json()

    def stats(self):
        return self._page("stats")

    def model_stats(self, model):
        return self.stats()["models"].get(model, {"received": 0, "completed": 0, "aborted": 0, "in_flight": 0})

    def arrivals(self):
        """[(seconds on CLOCK_BOOTTIME, model, input tokens, output tokens billed, status)], oldest first."""
        page = self._page("arrivals")
        return [(at / 1e6, page["models"][model], tokens_in, tokens_out, status)
                for at, model, tokens_in, tokens_out, status, *_ in page["arrivals"]]

    def calls(self):
        """Every API call since the reset, oldest first: what was asked for by whom, and when it came and ended; `ended` is 0 as long as it has not."""
        page = self._page("arrivals")
        names = ("at_us", "model", "input_tokens", "output_tokens", "status", "unix_us", "ended_us", "path", "id", "nonce")
        return [{**dict(zip(names, call)), "model": page["models"][call[1]]} for call in page["arrivals"]]

    def aborts(self):
        """What clients left: dicts with nonce, model, arrived_us, left_us (CLOCK_BOOTTIME), output_tokens."""
        page = self._page("aborts")
        return [{**abort, "model": page["models"][abort["model"]]} for abort in page["aborts"]]

    def reset(self):
        self._page("reset", {})

    def set(self, words, model="*", times=0):
        """A rule for the next `times` requests (0: for all) for the model; see tests/sim/control.h."""
        self._page("set", {"set": words, "model": model, "times": times})

    def clear(self):
        self._page("set", {"clear": True})

    def down(self, how):
        """Everything is gone, health checks too: "blackhole", "refuse" or "garbage"; needs control="127.0.0.1:0". See tests/sim/control.h."""
        self._page("set", {"down": how})

    def up(self):
        self._page("set", {"down": None})

    def limits(self, **rates):
        self._page("set", {"limits": rates})

    def configure(self, **members):
        self._page("set", members)


def most_in_window(times, window):
    """The largest number of `times` (sorted) in any half-open window of that length."""
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most
