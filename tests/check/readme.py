"""The generated parts of README.md, from the tables that the program itself uses.

    readme.py BUILD          writes them
    readme.py BUILD --check  says whether they are as they should be (exit 1: run `make docs`)
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


def printed(build, *arguments):
    return subprocess.run([pathlib.Path(build) / "sluice", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def configuration(build):
    return printed(build, "config", "--docs")


def flow(build):
    graph = printed(build, "flow")
    lines = ["```mermaid", "flowchart LR"]
    for name, text in re.findall(r'^  (\w+) \[label="\w+\\n(.*)"\];$', graph, re.M):
        lines.append(f'  {name}["{name}: {text}"]')
    lines += [f"  {a} --> {b}" for a, b in re.findall(r"^  (\w+) -> (\w+);$", graph, re.M)]
    return "\n".join([*lines, "```"]) + "\n"


def rows(header, macro):
    """The rows of an X-macro table: their arguments, quotes taken off."""
    text = (ROOT / header).read_text()
    table = text[text.index(f"#define {macro}(X)"):]
    table = table[:table.index("/* clang-format on */")]
    for row in re.findall(r'^\tX\((.*)\)(?: \\)?$', table, re.M):
        yield [part.strip().strip('"') for part in re.findall(r'"(?:[^"\\]|\\.)*"|[^,"\s][^,"]*', row)]


def refusals(_):
    lines = ["| status | code | come again | what it says |", "|---|---|---|---|"]
    for name, status, retry, *_, text in rows("svc/refusal.h", "REFUSALS"):
        if name != "none":
            lines.append(f"| {status} | `{name}` | {'yes' if retry == 'true' else 'no'} | {text} |")
    return "\n".join(lines) + "\n"


def metrics(_):
    lines = ["| metric | type | labels | what it is |", "|---|---|---|---|"]
    for name, kind, labels, text in rows("svc/metrics.h", "METRICS"):
        lines.append(f"| `sluice_{name}` | {kind.lower()} | {labels.replace(',', ', ')} | {text} |")
    return "\n".join(lines) + "\n"


PARTS = {"configuration": configuration, "flow": flow, "refusals": refusals, "metrics": metrics}


def renewed(build):
    text = README.read_text()
    for name, write in PARTS.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, rest = text.split(begin)
        text = before + begin + "\n" + write(build) + "\n" + end + rest.split(end, 1)[1]
    return text


if __name__ == "__main__":
    wanted = renewed(sys.argv[1])
    if "--check" in sys.argv:
        sys.exit(0 if README.read_text() == wanted else "README.md is not what the tables say; run `make docs`")
    README.write_text(wanted)
