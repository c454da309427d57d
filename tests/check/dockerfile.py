"""The steps of docker/Dockerfile as a shell script, for a machine without a Docker engine: run as root in a fresh Debian 13, in the repository.

    python3 tests/check/dockerfile.py | sh -eux

Each stage runs in this one system, one after the other: `COPY` copies below /image/STAGE or, in the first stage, to the work folder; `FROM` says which stage
begins. What only an engine can do (USER, ENTRYPOINT, HEALTHCHECK) is told at the end as a command that is run as that user.
"""
import json
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).resolve().parents[2]


def instructions():
    text = re.sub(r"\\\n", " ", (ROOT / "docker/Dockerfile").read_text())
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            word, rest = line.split(None, 1)
            yield word, " ".join(rest.split())


def script():
    yield "repository=$PWD"
    folder = "/"
    entry, command = [], []
    for word, rest in instructions():
        if word == "FROM":
            yield f": --- {rest}"
        elif word == "WORKDIR":
            folder = rest
            yield f"mkdir -p {folder}-image && cd {folder}-image"
        elif word == "RUN":
            yield rest
        elif word == "COPY" and "--from=" in rest:
            _, source, target = rest.split()
            yield f"install -D {source} {target}"
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if (ROOT / source).is_dir():
                    yield f"mkdir -p {target} && cp -r $repository/{source}/. {target}/"
                else:
                    yield f"mkdir -p {shlex.quote(str(pathlib.PurePath(target).parent))} && cp $repository/{source} {target}"
        elif word == "ENTRYPOINT":
            entry = json.loads(rest)
        elif word == "CMD":
            command = json.loads(rest)
        elif word == "USER":
            user = rest.split(":")[0]
        elif word not in ("EXPOSE", "HEALTHCHECK"):
            raise SystemExit(f"docker/Dockerfile: nobody has said what {word} is without an engine")
    yield "chmod go+rx /"  # a fresh chroot's root may be closed to other users; an image's is not
    yield f": --- {' '.join(entry + command)} as {user}"
    yield f"setpriv --reuid {user} --regid {user} --clear-groups {entry[0]} version"


print("\n".join(script()))
