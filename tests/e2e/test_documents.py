"""The documents against the program: what README quotes, what the manual page names, what the files in docker/ say."""

import http.server
import os
import re
import shutil
import signal
import subprocess
import threading
import xml.etree.ElementTree

import pytest

from support.client import headers_for, prompt, stream
from support.process import BUILD, ROOT, Process, binary, free_port, program, wait_until

MANUAL = ROOT / "docker" / "sluice.1"


def test_readme_quotes_the_tables():
    done = subprocess.run(["/usr/bin/python3", ROOT / "tests/check/readme.py", BUILD, "--check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def test_readme_quotes_what_pool_size_prints():
    readme = (ROOT / "README.md").read_text()
    typed = re.search(r"^    \$ sluice (pool-size .*)\n", readme, re.M)
    printed = subprocess.run([binary("sluice"), *typed[1].split()], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert typed[0] + re.sub("^(?=.)", "    ", printed, flags=re.M) in readme


def test_readme_tells_the_fields_of_a_requests_line():
    written = set(re.findall(r'log_\w+\(&?line, "(\w+)"', (ROOT / "svc/request.c").read_text()))
    table = (ROOT / "README.md").read_text().split("| field | what it is |")[1].split("\n\n")[0]
    told = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")}
    assert told == written | {"time", "level", "event", "dropped"}


def test_readme_lists_what_comes_later():
    later = [key for table in ROOT.glob("svc/config_table*.c") for key in re.findall(r'^\t\{ "(\w+)", CONFIG_LATER,', table.read_text(), re.M)]
    listed = (ROOT / "README.md").read_text().split("- Not in this version.")[1].split("\n- ")[0]
    assert later and not [key for key in later if f"`{key}`" not in listed]


def test_readme_names_files_that_exist():
    for name in re.findall(r"`((?:svc|lib|tests|docker)/[\w./*]+)`", (ROOT / "README.md").read_text()):
        assert list(ROOT.glob(name.rstrip("/"))), name


def test_readmes_picture_is_one():
    """It is well-formed, its words are text, it says what it shows to who cannot see it, and it has colours for a dark page, with a ground under both."""
    name = re.search(r"^!\[[^\]]{100,}\]\((docker/\w+\.svg)\)$", (ROOT / "README.md").read_text(), re.M)[1]
    text = (ROOT / name).read_text()
    root = xml.etree.ElementTree.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{svg}svg" and root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.find(f"{svg}title").text and len(root.find(f"{svg}desc").text) > 200
    assert {"Provider", "Redis", "Instance A", "one call", "join: lead", "join: follow", "join: hit"} <= {each.text for each in root.iter(f"{svg}text")}
    ground = next(each for each in root if each.tag in (f"{svg}rect", f"{svg}g"))
    assert [ground.get(name) for name in ("class", "width", "height")] == ["ground", root.get("width"), root.get("height")] and text.count(".ground { fill: ") == 2
    named = {each.get("id") for each in root.iter() if each.get("id")}
    used = set(re.findall(r"url\(#(\w+)\)", text)) | set(re.findall(r'href="#(\w+)"', text)) | set(root.get("aria-labelledby").split())
    assert used <= named and len(used) >= 6 and "prefers-color-scheme: dark" in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|<(image|script|foreignObject)\b", text)  # nothing of elsewhere


def readme_block(words):
    """The indented block of README that holds these words, as it would be pasted."""
    blocks = re.findall(r"(?:^    .*\n)+", (ROOT / "README.md").read_text(), re.M)
    return re.sub("^    ", "", next(block for block in blocks if words in block), flags=re.M)


def paste(block, folder):
    """Runs the block in a shell that stops at the first line that fails, in a folder that has nothing but the build. Its ports become free ones, also where the
    example configuration has them; the providers of that are on this machine, and nobody is there. Nothing that it started runs at its end."""
    ports = {port: free_port() for port in ("8080", "8081", "8090", "8091", "9000", "9001", "9002", "6390")}
    for port, free in ports.items():
        block = block.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}").replace(f"--port {port}", f"--port {free}")
    changes = [f"-e s/127.0.0.1:{port}/127.0.0.1:{free}/" for port, free in ports.items()] + ["-e s,https://[a-z.]*,http://127.0.0.1:1,"]
    block = re.sub(r"(>sluice\.yaml) .*", rf"\1; sed -i {' '.join(changes)} sluice.yaml", block)
    (folder / "build").symlink_to(BUILD)
    settings = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY") and not name.startswith("SLUICE_")}
    settings.update(TMPDIR=str(folder), SLUICE_ADMIN=f"http://127.0.0.1:{ports['8081']}")
    shell = Process(["bash", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT; set -e\n{block}\n[ -z \"$(jobs -p)\" ]"], folder, "pasted", env=settings, cwd=folder)
    try:
        assert shell.wait(60) == 0, (shell.stdout(), shell.stderr())
    finally:
        shell.stop()
    return shell.stdout()


def without_times(text):
    return re.sub(r"(?<=;t=)\d+|(?<=After: )\d+", "N", text)


def test_readmes_blocks_work_one_after_the_other(folder):
    """Each ends what it started, so that the ports of the next are free; the first comes twice."""
    told = paste("echo one\n".join([readme_block("quota.yaml"), readme_block("config --example"), readme_block("quota.yaml")]), folder)
    first, own, again = told.split("one\n")
    shown = without_times(readme_block("HTTP/1.1 429")).splitlines()
    for part in first, again:
        assert without_times(part).splitlines() == shown and [line for line in shown if line.startswith("HTTP")][2:] == ["HTTP/1.1 429 Too Many Requests"], part
    assert "sluice.yaml: fine: 2 upstreams, 1 model, " in own and "\"models/gemini-2.5-pro\"" in own and re.search(r"^upstream +pool", own, re.M), own
    assert '"event"' not in own


def test_readme_shows_what_happens_when_a_provider_fails(folder):
    """The block works as it stands, and tells what README shows below it, but for ports."""
    told = re.sub(r"^.*\"(event|listen|url)\":.*\n", "", paste(readme_block("failover.yaml"), folder), flags=re.M).replace("\r", "")
    shown, told = ([re.sub(r"(?<=127\.0\.0\.1:)\d+", "N", line).split() for line in text.splitlines()] for text in (readme_block("X-Sluice-Model: "), told))
    assert told == shown


def test_readme_shows_who_waits(folder):
    told = paste(readme_block("queue.yaml"), folder)
    shown = readme_block("503, Retry-After")
    assert re.findall(r'(\d+), Retry-After "(\d*)"', told) == re.findall(r'(\d+), Retry-After "(\d*)"', shown) and len(told.splitlines()) == 5, told


def test_readme_shows_what_happens_when_redis_goes_away(folder):
    """The same calls pass, and status says the same, but for times and what became of the connection."""
    told, shown = ([re.sub(r"[\d.]+ s\b|(?<=share, )[^,]*", "N", line) for line in text.splitlines()] for text in (paste(readme_block("away.yaml"), folder), readme_block("Redis DOWN (share")))
    assert told == shown


def test_git_ignores_what_readmes_blocks_make():
    made = re.findall(r">(\w+\.\w+)", readme_block("quota.yaml") + readme_block("config --example") + readme_block("failover.yaml") + readme_block("queue.yaml") + readme_block("away.yaml"))
    assert sorted(made) == ["away.log", "away.yaml", "failover.log", "failover.yaml", "queue.log", "queue.yaml", "quota.log", "quota.yaml", "sluice.log", "sluice.yaml"]
    assert {f"/{name}" for name in made} <= set((ROOT / ".gitignore").read_text().split())


def test_the_manual_names_every_command_and_option():
    manual = MANUAL.read_text().replace("\\-", "-")
    told = subprocess.run([binary("sluice"), "help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    for command in re.findall(r"^  (\w+) ", told, re.M):
        assert command in manual, command
        text = subprocess.run([binary("sluice"), command, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        for option in set(re.findall(r"--[a-z]+", text)) - {"--help"}:
            assert option in manual, f"{command} {option}"


def test_the_manual_names_the_admin_planes_paths_and_the_version():
    manual = MANUAL.read_text()
    paths = re.findall(r'^\t\{ \{ "(/[\w/{}]+)", \d+ \}', (ROOT / "svc/admin_pages.c").read_text(), re.M)
    for path in paths:
        assert re.search(rf"^\.B (?:POST )?{re.escape(path)}$", manual, re.M), path
    version = re.search(r"^VERSION = (\S+)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert len(paths) >= 10 and re.match(rf'\.TH SLUICE 1 "\d{{4}}-\d\d-\d\d" "Sluice {re.escape(version)}" ', manual)


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
    settings = {"HAPROXY_BIND": "127.0.0.1:1", "HAPROXY_STATISTICS": "127.0.0.1:5", "SLUICE_1": "127.0.0.1:2", "SLUICE_2": "127.0.0.1:3", "SLUICE_3": "127.0.0.1:4"}
    compose = (ROOT / "docker" / "compose.yml").read_text()
    for name in settings:
        assert f"{name}: " in compose, name
    done = subprocess.run([program("haproxy"), "-c", "-f", ROOT / "docker/haproxy.cfg"], env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stdout, done.stdout


@pytest.mark.parametrize("change,right", [(("", ""), True), (("cap_drop:", "cap_dropped:"), False), (("service_healthy", "service_well"), False), (("interval: 1s", "interval: [1]"), False)])
def test_the_compose_file_keeps_to_its_schema(tmp_path, change, right):
    """Debian's docker-compose brings the Compose specification's schema; it asks no Docker engine for this."""
    (tmp_path / "compose.yml").write_text((ROOT / "docker" / "compose.yml").read_text().replace(*change))
    done = subprocess.run(["docker-compose", "-f", "compose.yml", "config", "-q"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert (done.returncode == 0) == right, done.stdout


def test_what_the_image_copies_exists():
    for line in (ROOT / "docker" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), line


def test_the_images_steps_are_a_script():
    """They are run in a fresh Debian 13 by hand (tests/check/dockerfile.py says how); here they are at least understood, all of them."""
    steps = subprocess.run(["/usr/bin/python3", ROOT / "tests/check/dockerfile.py"], stdout=subprocess.PIPE, check=True, text=True).stdout
    assert len(re.findall(r"^: --- debian:trixie-slim|^: --- base", steps, re.M)) == (ROOT / "docker/Dockerfile").read_text().count("\nFROM ") == 4
    assert subprocess.run(["sh", "-n"], input=steps, text=True).returncode == 0


def test_the_service_starts_what_is_installed(tmp_path):
    unit = (ROOT / "docker" / "sluice.service").read_text()
    command = re.search(r"^ExecStart=(\S+) (.*)$", unit, re.M)
    assert command[1] == "/usr/local/bin/sluice" and re.search(r"^PREFIX \?= /usr/local$", (ROOT / "Makefile").read_text(), re.M)
    sections = re.findall(r"^\[(\w+)\]$", unit, re.M)
    assert sections == ["Unit", "Service", "Install"]
    done = subprocess.run([binary("sluice"), *command[2].split()], stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2 and "/etc/sluice/sluice.yaml" in done.stderr  # its file is not there: the words were understood
    if shutil.which("systemd-analyze"):
        copy = tmp_path / "sluice.service"
        copy.write_text(unit.replace(command[1], binary("sluice")))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        told = [line for line in done.stdout.splitlines() if "sluice.service" in line]
        assert not told, told


def demonstrate(folder, **settings):
    demo = Process([ROOT / "docker/demo.sh", BUILD], folder, "demo", env={**os.environ, "DEMO_SECONDS": "6", **settings})
    try:
        assert demo.wait(120) == 0 and "\nheld: " in demo.stdout(), (demo.stdout(), demo.stderr())
    finally:
        demo.stop()
    return demo.stdout()


def test_the_demonstration_holds(tmp_path):
    told = demonstrate(tmp_path)
    assert re.search(r"^  calls that the provider received +1\n  whole answers +300, over instances: (\d+), (\d+), (\d+)\n  SHA-256 of each, its beginning +[0-9a-f]{16}\n  "
                     r"behind the first client +median .*\nshared: 300 streams over 3 instances were one call; ", told, re.M), told
    for line in readme_block("calls that the provider received").splitlines():
        measured = line.startswith(("  SHA-256", "  behind", "  whole"))
        assert re.search("^" + (re.sub(r"\d+(\\\.\d+)?|[0-9a-f]{16}", "[0-9a-f.]+", re.escape(line)) if measured else re.escape(line)) + "$", told, re.M), line
    assert re.search(r"^failed for another reason than the quota: \d+ calls?", told, re.M), told
    assert re.search(r"^one breaker: of \d+ calls while the provider failed \d+ reached it, its probes among them; 3 instances left it alone, and all of them went on$", told, re.M), told
    act = told[told.index("The killed instance is started again"):]
    assert {"open, open, open", "closed, closed, closed"} <= set(re.findall(r"\w+, \w+, \w+$", act, re.M)), act
    for line in readme_block("the provider answers each call").splitlines():
        assert re.search("^" + re.escape(line) + "$", act, re.M) or re.match(r" *\d+\.\d( +\d+){5}   (\w+, ){2}\w+$", line) or line.startswith("one breaker: "), line
    for program in ("redis-server", "sluice-sim", "sluice serve", "haproxy -db", "sluice-load"):
        assert re.search(rf"^  .*{program}", told, re.M), program


def test_the_demonstration_says_when_nothing_is_shared(tmp_path):
    """A copy whose fleet does not: each client is a call of its own, which a quota of 60 at once does not let pass."""
    for name in ("demo.sh", "demo_flight.py", "haproxy.cfg", "fleet.yaml"):
        shutil.copy(ROOT / "docker" / name, tmp_path / name)
    with open(tmp_path / "fleet.yaml", "a") as configuration:
        configuration.write("cache: {when: never}\ncoalesce: {when: never}\n")
    demo = Process([tmp_path / "demo.sh", BUILD], tmp_path, "demo")
    try:
        assert demo.wait(120) == 1 and re.search(r"^NOT shared: [1-9]\d+ calls, ", demo.stdout(), re.M), (demo.stdout(), demo.stderr())
    finally:
        demo.stop()


def test_the_demonstration_tells_the_codes_of_what_failed(tmp_path):
    """A quota's refusals are none of them; each second's are those of the whole."""
    told = demonstrate(tmp_path, DEMO_ANSWERS="tokens=5 status=503 chance=30%")
    total, codes = re.search(r"^failed for another reason than the quota: (\d+) calls, (503 .*)$", told, re.M).groups()
    assert int(total) == sum(map(int, re.findall(r" (\d+)x", codes))) > 10 and "429" not in codes, told
    lines = re.findall(r"^  failed: (.*)$", told, re.M)
    assert all(re.search(rf"\b503 from {name} \d+x", "".join(lines)) for name in ("sluice1", "sluice2")), told
    assert 10 < sum(int(times) for line in lines for times in re.findall(r" (\d+)x", line)) <= int(total), told  # the last may end behind the last line


def make_run(folder, ports):
    """docker/run.sh as a terminal starts it: the first of a session, and SIGINT is not ignored."""
    settings = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    settings.update(SLUICE_LISTEN=f"127.0.0.1:{ports[0]}", SLUICE_ADMIN=f"127.0.0.1:{ports[1]}", TMPDIR=str(folder))
    return Process(["setsid", "env", "--default-signal=INT", ROOT / "docker/run.sh", BUILD], folder, "run", env=settings)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_make_run(folder, presses):
    """A terminal interrupts the whole group: the simulator must not leave before its stream has ended, and the gateway must hear it once. Twice means now."""
    ports = free_port(), free_port()
    gateway = make_run(folder, ports)
    try:
        gateway.wait_ready(lambda: f"curl http://127.0.0.1:{ports[1]}/status" in gateway.stdout())
        path, body = prompt("openai", f"[[sim tokens={60 if presses == 1 else 100000} rate=20]]", True)
        with stream(f"http://127.0.0.1:{ports[0]}{path}", body, headers_for("openai", "any-key-will-do")) as answer:
            assert answer.read_event()
            os.killpg(gateway.pid, signal.SIGINT)
            wait_until(lambda: "no new connections" in gateway.stdout(), "it drains at once")
            if presses == 1:
                assert answer.read_all().rstrip().endswith(b"[DONE]"), gateway.stdout()
            else:
                os.killpg(gateway.pid, signal.SIGINT)
            code = gateway.wait(20)
            assert code == (0 if presses == 1 else 130), gateway.stdout()  # of 0 make says nothing
        assert ("a second signal" in gateway.stdout()) == (presses == 2)
        assert not list(folder.glob("sluice-run-*"))
    finally:
        gateway.stop()


class Ready(http.server.BaseHTTPRequestHandler):
    """Another gateway, which is ready."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("taken", ["both", "admin", "listen"])
def test_make_run_takes_no_other_gateway_for_its_own(folder, taken):
    """Its ports are taken, and /readyz answers there: it must not say that it serves."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ready) for _ in range(2 if taken == "both" else 1)]
    try:
        for server in servers:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        ports = (free_port() if taken == "admin" else servers[0].server_port), (free_port() if taken == "listen" else servers[-1].server_port)
        gateway = make_run(folder, ports)
        try:
            assert gateway.wait() == 1
        finally:
            gateway.stop()
        assert "curl" not in gateway.stdout(), gateway.stdout()
        first, hint = gateway.stderr().splitlines()[0], "(SLUICE_LISTEN and SLUICE_ADMIN change the addresses)"
        if taken == "listen":
            assert first == f"sluice: cannot listen on 127.0.0.1:{ports[0]}: Address already in use" and hint in gateway.stderr()
        else:
            assert first == f"sluice: somebody serves on http://127.0.0.1:{ports[1]} already {hint}"
        assert not list(folder.glob("sluice-run-*"))
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def test_readme_shows_a_hit_beside_make_run(folder):
    """The block works as it stands, and its answers are those that README shows, but for times and keys."""
    ports = free_port(), free_port()
    gateway = make_run(folder, ports)
    try:
        gateway.wait_ready(lambda: f"curl http://127.0.0.1:{ports[1]}/status" in gateway.stdout())
        block = readme_block("cache/purge").replace("127.0.0.1:8080", f"127.0.0.1:{ports[0]}").replace("127.0.0.1:8081", f"127.0.0.1:{ports[1]}")
        told = subprocess.run(["bash", "-ec", block], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60).stdout
        shown, told = (re.sub(r'(?<=ttl=)\d+|(?<=Age: )\d+|(?<="at_ms":)\d+|(?<=key=")[^"]+', "N", text.replace("\r", "")).split() for text in (readme_block("Cache-Status: "), told))
        assert told == shown
    finally:
        gateway.signal(signal.SIGTERM)
        gateway.wait(30)


def test_make_runs_lines_work(folder):
    """What `make run` prints is pasted into a shell, line by line."""
    ports = free_port(), free_port()
    gateway = make_run(folder, ports)
    try:
        gateway.wait_ready(lambda: f"curl http://127.0.0.1:{ports[1]}/status" in gateway.stdout())
        lines = re.findall(r"^  (curl .*)$", gateway.stdout(), re.M)
        assert len(lines) == 7
        for line in lines:
            done = subprocess.run(["sh", "-c", line.replace("curl ", "curl -sS --fail-with-body -m 20 ", 1)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            assert done.returncode == 0 and len(done.stdout) > 100, (line, done)
    finally:
        gateway.signal(signal.SIGTERM)
        gateway.wait(30)
