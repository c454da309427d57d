"""The layers as data: a file includes only files of rows below its own, and its own header.

A row is a name and its modules. A module is a file pair and its parts: lib/pool is pool.h, pool.c and every pool_*.[ch], which may
include each other. A new file belongs to a module named here, or its module gets a row here.
"""
import pathlib

ROWS = [
    ("words", "lib/base lib/slice lib/list"),
    ("ground", "lib/bytes lib/lane lib/clock lib/mem lib/siphash lib/utf8"),
    ("ground", "lib/buf lib/map"),
    ("ground", "lib/text lib/file lib/line"),
    ("ground", "lib/log lib/json lib/sse lib/estimate lib/answer"),
    ("loop", "lib/loop"),
    ("clients", "lib/redis lib/pool lib/embedded"),
    ("scripts", "lib/script lib/subscriber"),
    ("policy", "lib/limiter lib/flight lib/cache lib/breaker lib/queue lib/retry lib/jobs"),
    ("tables", "svc/kinds"),
    ("tables", "svc/refusal svc/metrics"),
    ("tables", "svc/dialect svc/config"),
    ("tables", "svc/route"),
    ("wire", "svc/http svc/upload"),
    ("wire", "svc/caller svc/fields svc/directives svc/session"),
    ("wire", "svc/share"),
    ("request", "svc/worker"),
    ("request", "svc/request"),
    ("request", "svc/reply svc/charge svc/attempt"),
    ("flow", "svc/flow"),
    ("doors", "svc/server"),
    ("doors", "svc/admin"),
    ("commands", "svc/staffing"),
    ("commands", "svc/command"),
    ("top", "svc/main"),
]

GENERATED = {"scripts.h": "lib/script"}  # written by the build; counts as part of this module

RANK = {module: rank for rank, (_, modules) in enumerate(ROWS) for module in modules.split()}
ROW_OF = {module: name for name, modules in ROWS for module in modules.split()}


def module_of(name):
    """lib/pool_tls.c, svc/dialect/gemini.c → lib/pool, svc/dialect; None when no row names it."""
    name = str(pathlib.PurePath(name).with_suffix(""))
    owners = [module for module in RANK if name == module or name.startswith((module + "_", module + "/"))]
    return max(owners, key=len, default=None)
