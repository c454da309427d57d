"""The documents against the program: what README quotes, what the manual page names, what the files in docker/ say."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from support.process import BUILD, ROOT, Process, binary, free_port

MANUAL = ROOT / "docker" / "sluice.1"


def test_readme_quotes_the_tables():
    done = subprocess.run(["/usr/bin/python3", ROOT / "tests/check/readme.py", BUILD, "--check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_readme_names_files_that_exist():
    for name in re.findall(r"`((?:svc|lib|tests|docker)/[\w./*]+)`", (ROOT / "README.md").read_text()):
        assert list(ROOT.glob(name.rstrip("/"))), name


def test_the_manual_names_every_command_and_option():
    manual = MANUAL.read_text().replace("\\-", "-")
    told = subprocess.run([binary("sluice"), "help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for command in re.findall(r"^  (\w+) ", told, re.M):
        assert command in manual, command
        text = subprocess.run([binary("sluice"), command, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        for option in set(re.findall(r"--[a-z]+", text)) - {"--help"}:
            assert option in manual, f"{command} {option}"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is missing")
def test_the_manual_is_well_formed():
    done = subprocess.run(["groff", "-man", "-Tascii", "-ww", "-z", MANUAL], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_fleets_configuration_is_right():
    settings = {"SLUICE_LISTEN": "0.0.0.0:8080", "SLUICE_ADMIN": "0.0.0.0:8081", "SLUICE_ADMIN_TOKEN": "demo-admin-token", "SLUICE_REDIS": "redis://redis:6379/0",
                "SLUICE_UPSTREAM": "http://simulator:9000", "SLUICE_UPSTREAM_KEY": "simulated", "DEMO_KEY": "demo-key-of-the-fleet"}
    compose = (ROOT / "docker" / "compose.yml").read_text()
    for name, value in settings.items():
        assert f'{name}: "{value}"' in compose, name
    done = subprocess.run([binary("sluice"), "check", ROOT / "docker/fleet.yaml"], env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_haproxy_takes_its_configuration():
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    settings = {"HAPROXY_BIND": "127.0.0.1:1", "SLUICE_1": "127.0.0.1:2", "SLUICE_2": "127.0.0.1:3", "SLUICE_3": "127.0.0.1:4"}
    done = subprocess.run([program, "-c", "-f", ROOT / "docker/haproxy.cfg"], env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_what_the_image_copies_exists():
    for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line


def test_the_demonstration_holds():
    done = subprocess.run([ROOT / "docker/demo.sh", BUILD], env={**os.environ, "DEMO_SECONDS": "6"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0 and "\nheld: " in done.stdout, done.stdout


def test_make_runs_lines_work(folder):
    """What `make run` prints is pasted into a shell, line by line."""
    ports = free_port(), free_port()
    settings = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    settings.update(SLUICE_LISTEN=f"127.0.0.1:{ports[0]}", SLUICE_ADMIN=f"127.0.0.1:{ports[1]}", TMPDIR=str(folder))
    gateway = Process([ROOT / "docker/run.sh", BUILD], folder, "run", env=settings)
    try:
        gateway.wait_ready(lambda: f"curl http://127.0.0.1:{ports[1]}/status" in gateway.stdout())
        lines = re.findall(r"^  (curl .*)$", gateway.stdout(), re.M)
        assert len(lines) == 7
        for line in lines:
            done = subprocess.run(["sh", "-c", line.replace("curl ", "curl -sS --fail-with-body -m 20 ", 1)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert done.returncode == 0 and len(done.stdout) > 100, (line, done)
    finally:
        gateway.signal(signal.SIGTERM)  # SIGINT is ignored by what a shell started in the background
        gateway.wait(30)
