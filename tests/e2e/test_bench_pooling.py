"""The bench "pooling pays", in small: that it measures what it says. What is fast enough, only the bench itself says, on a machine without other work."""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))

import agents  # noqa: E402
import pooling  # noqa: E402
from figures import Table  # noqa: E402

BODY = json.dumps({"model": agents.CHAT, "messages": [{"role": "user", "content": "x" * 500}]})


def test_the_trace_comes_again_and_has_the_duplicates_that_it_states():
    made = agents.calls(2000, seed=1)
    assert [call.body for call in made] == [call.body for call in agents.calls(2000, seed=1)] != [call.body for call in agents.calls(2000, seed=2)]
    again, shareable = agents.repeats(made)
    assert again / 2000 == pytest.approx(agents.REPEATED, abs=0.03)
    assert shareable / again == pytest.approx(1 - agents.SAMPLED, abs=0.05)
    bodies = [call.body for call in made]
    close = sum(body in bodies[max(0, i - agents.CLOSE):i] for i, body in enumerate(bodies))
    assert close / again == pytest.approx(0.5, abs=0.1)
    for call in made:
        body = json.loads(call.body)
        assert call.shareable == (body["model"] == agents.EMBEDDING or body["temperature"] == 0)


def test_what_the_trace_costs():
    call = {"model": agents.CHAT, "input_tokens": 1000, "output_tokens": 500}
    assert agents.cost([call, {**call, "model": agents.EMBEDDING}]) == pytest.approx(0.00015 + 0.0003 + 0.00002)


def test_the_table_tells_what_is_met(capsys):
    table = Table()
    table.add("low", 1, "×", 1)
    table.add("high", 2, "×", 1)
    table.add("enough", 5, "", at_least=5)
    table.add("short", 4, "", at_least=5)
    table.add("free", 4, "ms")
    assert [row["met"] for row in table.rows] == [True, False, True, False, None]
    assert [line.split()[-2:] == ["NOT", "met"] for line in capsys.readouterr().out.splitlines()] == [False, True, False, True, False]


def test_the_scenario_in_small(folder, monkeypatch, capsys):
    """Each figure is there, and none is faster than the link allows: three round trips over TLS 1.3, four over 1.2, one through Sluice; all that may be shared is."""
    for name, value in (("CROWDS", (2, 4)), ("FEW", 20), ("AT_ONCE", 10), ("HELD", 1200), ("TRACE", 150)):
        monkeypatch.setattr(pooling, name, value)
    found = pooling.measure(str(folder), BODY, rounds=1, seconds=0.3, say=lambda text: None)
    assert found["clients"] in (2, 4) and len(found["rounds"]) == 1
    for one in found["rounds"]:
        for load in (one["many"], one["few"]):
            floors = {"1.3": 3, "1.2": 4, "pooled": 1}
            assert all(load[way]["p50"] / 1e3 >= trips * pooling.ROUND_TRIP + pooling.SERVICE for way, trips in floors.items())
        assert one["burst_apart"] > 3 * pooling.ROUND_TRIP / 1e3 and one["burst_pooled"] > pooling.ROUND_TRIP / 1e3 and one["reused"] > 0.98
    assert found["held"]["completed"] == pytest.approx(1.02 * 1200 / 60 * 7 * 0.3, rel=0.2)
    trace = found["trace"]
    assert trace["each"]["calls"] == trace["calls"] == 150 and trace["shared"]["calls"] == 150 - trace["shareable"] < 150
    assert trace["shared"]["cost"] < trace["each"]["cost"]
    table = Table()
    pooling.report(table, found)
    assert sum(row["met"] is not None for row in table.rows) == 9 and "NaN" not in capsys.readouterr().out
