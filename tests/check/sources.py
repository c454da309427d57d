"""What the checks know of the sources: the files, and just enough of C to see includes, functions and their lengths."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
OURS = ("lib", "svc")


def tracked():
    """All files of the repository that are not ignored, those not committed yet included."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0")
    return sorted(ROOT / name for name in names if name and (ROOT / name).is_file())


def c_files(*folders):
    """The .c and .h files below these folders, as paths from the root."""
    return sorted(path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.[ch]"))


def bare(text):
    """C without comments, strings and preprocessor lines; every line stays where it was."""
    keep_lines = lambda match: re.sub(r"[^\n]", " ", match.group())
    text = re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", keep_lines, text, flags=re.S)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", keep_lines, text, flags=re.M)


class Function:
    def __init__(self, path, name, first, last, is_static):
        self.path, self.name, self.first, self.last, self.is_static = path, name, first, last, is_static

    @property
    def lines(self):
        return self.last - self.first + 1


def functions(path):
    """The functions that a file defines: at depth 0 a head that ends with `)` before its body."""
    text = bare((ROOT / path).read_text())
    depth, head, start = 0, 0, None
    for at, char in enumerate(text):
        if char == "{":
            if depth == 0 and text[head:at].rstrip().endswith(")"):
                start = head
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0 and start is not None:
                yield describe(path, text, start, at)
                start = None
            if depth == 0:
                head = at + 1
        elif char == ";" and depth == 0:
            head = at + 1


def describe(path, text, start, end):
    head = text[start:text.index("{", start)]
    name = re.search(r"(?!__attribute__)\b([A-Za-z_]\w*)\s*\(", head).group(1)
    first = text.count("\n", 0, start + len(head) - len(head.lstrip())) + 1
    return Function(path, name, first, text.count("\n", 0, end) + 1, bool(re.search(r"\bstatic\b", head)))
