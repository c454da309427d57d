"""Load by build/sluice-load; its options are in tests/bench/load_options.c."""

import json
import subprocess

from .process import Process, binary


def arguments(urls, connections=1, requests=None, duration=None, rate=None, body=None, headers=None, options=()):
    given = [binary("sluice-load"), "-c", connections]
    for option, value in (("-n", requests), ("-d", duration), ("-r", rate)):
        if value is not None:
            given += [option, value]
    if body is not None:
        given += ["-b", body if isinstance(body, str) else json.dumps(body)]
    for name, value in (headers or {}).items():
        given += ["-H", f"{name}: {value}"]
    return [str(a) for a in [*given, *options, *([urls] if isinstance(urls, str) else urls)]]


def run(urls, timeout=300, **how):
    """Runs it to its end; the report."""
    done = subprocess.run(arguments(urls, **how), stdout=subprocess.PIPE, check=True, timeout=timeout)
    return json.loads(done.stdout)


class Load(Process):
    """The same beside the test: start it, do something, then `report()`."""

    def __init__(self, folder, urls, name="load", **how):
        super().__init__(arguments(urls, **how), folder, name)

    def report(self, timeout=300):
        code = self.wait(timeout)
        if code != 0:
            raise RuntimeError(f"sluice-load ended with {code}: {self.stderr()}")
        return json.loads(self.stdout())
