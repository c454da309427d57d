"""clang-format 14 would change nothing. Another version formats otherwise, so only this one is asked."""
import re
import shutil
import subprocess

import pytest
import sources

VERSION = "14"


def formatter():
    for name in (f"clang-format-{VERSION}", "clang-format"):
        path = shutil.which(name)
        said = subprocess.run([path, "--version"], stdout=subprocess.PIPE).stdout.decode() if path else ""
        if re.search(rf"version {VERSION}\.", said):
            return path
    return None


def test_c_is_formatted():
    command = formatter()
    if command is None:
        pytest.skip(f"clang-format {VERSION} is not here (Debian 12 has it); the formatting is not checked")
    files = [str(path) for path in sources.c_files("lib", "svc", "tests")]
    run = subprocess.run([command, "--dry-run", "-Werror", *files], cwd=sources.ROOT, stderr=subprocess.PIPE)
    wrong = sorted(set(re.findall(r"^([^:\n]+):\d+:\d+: error", run.stderr.decode(), re.M)))
    assert run.returncode == 0, "`make format` would change " + ", ".join(wrong)


def test_blanks():
    wrong = []
    for path in sources.tracked():
        if "corpus" in path.parts or path.name == "LICENSE" or path.suffix in (".png", ".svg", ".bin"):
            continue
        text = path.read_text()
        if re.search(r"[ \t]+$", text, re.M) or (text and not text.endswith("\n")) or "\r" in text:
            wrong.append(str(path.relative_to(sources.ROOT)))
    assert not wrong, f"blanks at the end of a line, CR, or no newline at the end: {wrong}"
