"""What must not be in the repository: secrets, generated files, paths of one machine, unsafe calls, unfinished work."""
import re

import sources

SECRETS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----\s+[A-Za-z0-9+/]{40}",
    "a Google key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "an OpenAI key": r"\bsk-(?:proj-)?[A-Za-z0-9]{32,}\b",
    "an Anthropic key": r"\bsk-ant-[A-Za-z0-9_-]{32,}\b",
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
}
GENERATED = re.compile(r"(^|/)(build[^/]*|node_modules|__pycache__|\.pytest_cache)/|\.(o|a|so|d|pyc|gcda|gcno|orig|rej|swp|env|pem|key|p12)$|(^|/)core(\.\d+)?$")
UNSAFE = re.compile(r"\b(gets|strcpy|strcat|sprintf|vsprintf|system|popen|alloca|tmpnam|mktemp|setlocale|usleep|sleep|rand)\s*\(")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
HOME = re.compile(r"(?<![\w/.])/(?:home|Users|work)/[a-z]+")


def texts(*suffixes):
    for path in sources.tracked():
        if "corpus" not in path.parts and (not suffixes or path.suffix in suffixes):
            yield path.relative_to(sources.ROOT), path.read_text(errors="replace")


def test_no_generated_or_secret_files():
    wrong = [str(path.relative_to(sources.ROOT)) for path in sources.tracked() if GENERATED.search(str(path.relative_to(sources.ROOT)))]
    assert not wrong, wrong


def test_no_secrets():
    wrong = [f"{path}: {what}" for path, text in texts() for what, pattern in SECRETS.items() if re.search(pattern, text)]
    assert not wrong, wrong


def test_no_unsafe_calls():
    wrong = [f"{path}: {match.group(1)}" for path in sources.c_files(*sources.OURS)
             for match in UNSAFE.finditer(sources.bare((sources.ROOT / path).read_text()))]
    assert not wrong, wrong


def test_nothing_is_left_for_later():
    wrong = [str(path) for path, text in texts(".c", ".h", ".lua", ".py", ".sh", ".md", ".yml") if path.name != "test_forbidden.py"
             if UNFINISHED.search(text)]
    assert not wrong, wrong


def test_no_path_of_one_machine():
    wrong = [str(path) for path, text in texts() if path.name != "test_forbidden.py" and HOME.search(text)]
    assert not wrong, wrong
