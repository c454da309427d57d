"""Every include points down."""
import re

import layers
import sources

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def test_every_file_has_a_row():
    homeless = [str(path) for path in sources.c_files(*sources.OURS) if layers.module_of(path) is None]
    assert not homeless, "these files are in no row of tests/check/layers.py: " + ", ".join(homeless)


def offences(path, text):
    own = layers.module_of(path)
    for included in INCLUDE.findall(text):
        target = layers.GENERATED.get(included) or layers.module_of(included)
        if target is None:
            yield f'{path} includes "{included}", which is no file of lib or svc with its folder'
        elif target != own and layers.RANK[target] >= layers.RANK[own]:
            yield f'{path} ({layers.ROW_OF[own]}) includes "{included}" ({layers.ROW_OF[target]}), which is not below it'


def test_includes_point_down():
    found = [offence for path in sources.c_files(*sources.OURS) if layers.module_of(path)
             for offence in offences(path, (sources.ROOT / path).read_text())]
    assert not found, "\n" + "\n".join(found)


def test_an_upward_include_is_found():
    assert list(offences("lib/buf.c", '#include "lib/buf.h"\n#include "lib/mem.h"\n')) == []
    assert list(offences("lib/redis_url.c", '#include "lib/redis_call.h"\n')) == []
    assert list(offences("lib/limiter.c", '#include "scripts.h"\n')) == []
    for path, included in (("lib/buf.c", "lib/loop.h"), ("lib/pool.c", "lib/redis.h"), ("lib/pool.c", "svc/http.h"), ("lib/loop.c", "mem.h"),
                           ("svc/flow.c", "tests/support/proxy.h")):
        assert len(list(offences(path, f'#include "{included}"\n'))) == 1, (path, included)
