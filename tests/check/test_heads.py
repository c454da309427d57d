"""Every file opens with what it is for."""
import re

import pytest
import sources

LUA = sorted((sources.ROOT / "lua").glob("*.lua"))


def opens_with_a_comment(path):
    return (sources.ROOT / path).read_text().startswith("/*")


def test_c_files_open_with_a_comment():
    """A .c file may leave it to the header of its name."""
    wrong = [str(path) for path in sources.c_files("lib", "svc", "tests") if not opens_with_a_comment(path)
             and not (path.suffix == ".c" and (sources.ROOT / path.with_suffix(".h")).exists())]
    assert not wrong, wrong


def test_headers_are_guarded_by_their_own_name():
    wrong = []
    for path in sources.c_files(*sources.OURS):
        if path.suffix == ".h":
            guard = "SLUICE_" + re.sub(r"\W", "_", path.stem.upper()) + "_H"
            if not re.search(rf"^#ifndef {guard}\n#define {guard}\n", (sources.ROOT / path).read_text(), re.M):
                wrong.append(f"{path}: {guard}")
    assert not wrong, wrong


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_scripts_say_their_contract(path):
    """What the keys, the arguments and the reply are, before the first statement. Without #!lua Redis would let a script touch a key of
    another slot."""
    lines = path.read_text().splitlines()
    assert lines[0].startswith("#!lua")
    head = []
    for line in lines[1:]:
        if not line.startswith("--"):
            break
        head.append(line)
    for word in ("KEYS", "ARGV", "Reply"):
        assert re.search(rf"\b{word}\b", "\n".join(head), re.I), f"{path.name}: the head comment does not tell {word}"
