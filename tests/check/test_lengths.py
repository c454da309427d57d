"""Files of at most 600 lines, functions of at most 60."""
import statistics

import sources

FILE_LINES, FUNCTION_LINES, MEDIAN_LINES = 600, 60, 20


def lines_of(path):
    return (sources.ROOT / path).read_text().count("\n")


def test_files():
    names = sources.c_files("lib", "svc", "tests")
    names += [path.relative_to(sources.ROOT) for suffix in ("*.py", "*.lua", "*.sh") for path in sources.ROOT.rglob(suffix)
              if not str(path.relative_to(sources.ROOT)).startswith(("build", "node_modules", "."))]
    long = [f"{path}: {lines_of(path)} lines" for path in names if lines_of(path) > FILE_LINES]
    assert not long, f"longer than {FILE_LINES} lines; which second idea is in there?\n" + "\n".join(long)


def test_functions():
    long = [f"{function.path}:{function.first}: {function.name}, {function.lines} lines" for path in sources.c_files("lib", "svc", "tests")
            for function in sources.functions(path) if function.lines > FUNCTION_LINES]
    assert not long, f"longer than {FUNCTION_LINES} lines:\n" + "\n".join(long)


def test_the_median_is_short():
    lengths = [function.lines for path in sources.c_files("lib", "svc") for function in sources.functions(path)]
    assert len(lengths) > 100
    assert statistics.median(lengths) <= MEDIAN_LINES


def test_the_ruler():
    found = {function.name: function for function in sources.functions("lib/base.h")}
    assert found == {}  # declarations and macros are no functions
    found = {function.name: function for function in sources.functions("lib/slice.h")}
    assert found["slice_of"].lines == 4 and found["slice_of"].is_static
