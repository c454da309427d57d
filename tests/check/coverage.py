#!/usr/bin/python3
"""coverage.py BUILD LEAST: how many lines of lib and svc ran in a build with --coverage; fails below LEAST percent.
gcov's own words (gcov --json-format) are added up; a line that several objects contain (an inline of a header) ran if it ran once."""
import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def lines_of(build):
    """{file: {line: times it ran}}"""
    ran = collections.defaultdict(lambda: collections.defaultdict(int))
    notes = sorted(path.resolve() for folder in ("lib", "svc") for path in (build / folder).rglob("*.gcno"))
    for note in notes:
        run = subprocess.run(["gcov", "--json-format", "--stdout", str(note)], cwd=ROOT, check=True, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        for document in run.stdout.decode().splitlines():
            for file in json.loads(document)["files"]:
                if file["file"].startswith(("lib/", "svc/")):
                    for line in file["lines"]:
                        ran[file["file"]][line["line_number"]] += line["count"]
    return ran


def main():
    build, least = pathlib.Path(sys.argv[1]), float(sys.argv[2])
    total = covered = 0
    for name, lines in sorted(lines_of(build).items()):
        hit = sum(count > 0 for count in lines.values())
        total, covered = total + len(lines), covered + hit
        print(f"{100 * hit / len(lines):5.1f} %  {hit:5} of {len(lines):5}  {name}")
    percent = 100 * covered / total if total else 0.0
    print(f"{percent:.1f} % of {total} lines of lib and svc are covered; at least {least:.0f} % are asked")
    return 0 if percent >= least else 1


if __name__ == "__main__":
    sys.exit(main())
