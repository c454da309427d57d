"""What a file exports begins with its module's name; structs are not typedefed; there are no variables but these."""
import re
import subprocess

import layers
import pytest
import sources

# Mutable state of the process, each with its reason.
VARIABLES = {
    "lib/base.o": {"note"},  # the crash message's, per thread
    "lib/clock.o": {"stopped", "stopped_now", "stopped_unix"},  # the clock that tests hold
    "lib/pool_tls.o": {"shelf", "shelf_lock"},  # certificate stores, shared by the workers: 900 KiB and 57 ms each
    "svc/dialect/plan.o": {"once", "paths", "plans"},  # the tables of members, compiled once
    "svc/caller.o": {"sha256", "sha256_once"},  # the digest, looked up once
    "lib/map.o": {"process_key", "process_key_once"},  # SipHash's key
}


# Modules that export the verbs of more than one noun.
PREFIXES = {"lib/breaker": ("breaker_", "breakers_"), "lib/limiter": ("limiter_", "lease_", "limit_"), "lib/flight": ("flight_", "flights_"), "svc/dialect": ("dialect_", "meter_"), "svc/flow": ("flow_", "stage_")}


def test_exported_functions():
    wrong = []
    for path in sources.c_files(*sources.OURS):
        module = layers.module_of(path)
        prefix = PREFIXES.get(module) or ((module or "").split("/")[-1] + "_",)
        wrong += [f"{path}:{function.first}: {function.name} does not begin with {' or '.join(prefix)}" for function in sources.functions(path)
                  if not function.is_static and function.name != "main" and not function.name.startswith(prefix)]
    assert not wrong, "\n" + "\n".join(wrong)


def test_structs_are_not_typedefed():
    wrong = [str(path) for path in sources.c_files(*sources.OURS)
             if re.search(r"\btypedef\s+(struct|enum|union)\b", sources.bare((sources.ROOT / path).read_text()))]
    assert not wrong, wrong


def variables_of(objects):
    """{object: names} in writable sections; tables of constants with addresses are in .data.rel.ro, which is not."""
    listing = subprocess.run(["nm", "--format=sysv", *map(str, objects)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found, current = {}, None
    for line in listing.stdout.decode().splitlines():
        if line.startswith("Symbols from "):
            current = line.split("Symbols from ")[1].rstrip(":")
        columns = [column.strip() for column in line.split("|")]
        if len(columns) == 7 and re.match(r"\.(data|bss|tdata|tbss)(?!\.rel\.ro)", columns[6]) and columns[3] in ("OBJECT", "TLS"):
            found.setdefault(current, set()).add(columns[0].split(".")[0])
    return found


def test_no_variables():
    build = sources.ROOT / "build"
    objects = [build / path.with_suffix(".o") for path in sources.c_files(*sources.OURS) if path.suffix == ".c"]
    if not all(path.exists() for path in objects):
        pytest.skip("needs a build")
    found = variables_of(objects)
    wrong = {str(name): names - VARIABLES.get(name.split("/build/")[1], set()) for name, names in found.items()}
    assert not {name: names for name, names in wrong.items() if names}
    assert found, "nm was not understood: the known ones are missing"
