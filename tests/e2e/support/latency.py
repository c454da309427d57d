"""A link as long as a wide-area one (build/tests/latency-relay) in front of a server: what it models is told in tests/support/programs/latency_relay.c."""

from .process import Process, binary


class LatencyRelay(Process):
    def __init__(self, folder, port, round_trip, name="latency-relay"):
        """`round_trip` in milliseconds."""
        super().__init__([binary("tests/latency-relay"), "--round-trip", round_trip, "--connect", f"127.0.0.1:{port}"], folder, name)
        self.port = int(self.wait_ready(lambda: self.stdout().endswith("\n") and self.stdout()).split()[1])
