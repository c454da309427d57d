"""Shell scripts: shellcheck has nothing to say about them, and they ask for no more than a POSIX shell unless they name bash."""

import subprocess

from sources import tracked

SCRIPTS = [path for path in tracked() if path.read_bytes().startswith(b"#!/bin/")]


def test_shellcheck_is_content():
    assert len(SCRIPTS) >= 4
    done = subprocess.run(["shellcheck", *SCRIPTS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_what_says_sh_means_it():
    for path in SCRIPTS:
        shell = path.read_text().splitlines()[0]
        assert shell in ("#!/bin/sh", "#!/bin/bash"), path
        assert subprocess.run([shell[2:], "-n", path]).returncode == 0, path
