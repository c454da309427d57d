"""Documents against what they describe. The tables that the program prints are compared here with the files that quote them."""
import re
import subprocess

import sources

TARGETS = "all run test check demo bench asan tsan fuzz tidy format docs coverage install docker help clean".split()
TASKS = "build run test demo bench check ci".split()


def helped():
    listing = subprocess.run(["make", "-s", "help"], cwd=sources.ROOT, check=True, stdout=subprocess.PIPE).stdout.decode()
    return set(re.findall(r"^  make (\w+) +\S", listing, re.M))


def test_make_help_lists_every_target():
    assert not set(TARGETS) - helped()


def test_documents_name_targets_that_exist():
    targets = helped() | {"sluice"}
    for path in sources.ROOT.glob("*.md"):
        for target in re.findall(r"\bmake ([a-z]+)`", path.read_text()):
            assert target in targets, f"{path.name}: make {target}"


def test_every_target_that_runs_something_installs_what_it_needs():
    """`packages.sh` comes first, with a set named as the target where there is one."""
    recipes = dict(re.findall(r"^([a-z]+):[^\n]* ## [^\n]*\n\t([^\n]*)", (sources.ROOT / "Makefile").read_text(), re.M))
    for target in "run test check asan tsan fuzz coverage tidy bench demo".split():
        assert recipes[target].startswith("@tests/check/packages.sh "), target
        assert target in recipes[target].split() or target not in TASKS, target


def test_every_task_has_packages():
    script = str(sources.ROOT / "tests/check/packages.sh")
    for task in TASKS:
        listed = subprocess.run([script, "--list", task], check=True, stdout=subprocess.PIPE).stdout.decode().split()
        assert listed and all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", package) for package in listed), task
    assert subprocess.run([script, "no-such-task"], stderr=subprocess.DEVNULL).returncode == 2


def test_readme_lists_every_event_of_the_log():
    """An event stands behind its level, wherever a line is begun: in its words, or in two of which one is chosen."""
    level = re.compile(r'\bLOG_(?:DEBUG|INFO|WARNING|ERROR),\s*(?:[^";,]*\?\s*"([\w.]+)"\s*:\s*)?"([\w.]+)"')
    written = {name for path in sources.c_files(*sources.OURS) for pair in level.findall((sources.ROOT / path).read_text()) for name in pair if name}
    readme = (sources.ROOT / "README.md").read_text()
    cells = [row.split("|")[1] for row in readme.split("| event | what it says |")[1].split("\n\n")[0].splitlines() if row]
    told = {name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}
    assert len(written) > 30 and told | {"request", "refresh"} == written, (told | {"request", "refresh"}) ^ written
