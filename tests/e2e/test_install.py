"""What `make install` gives: a stranger's program finds the library through pkg-config and links."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("SLUICE_BUILD", ROOT / "build"))
PROGRAM = r"""
#include <sluice/buf.h>
#include <sluice/cache.h>
#include <sluice/clock.h>
#include <sluice/flight.h>
#include <sluice/limiter.h>
#include <sluice/loop.h>
#include <sluice/map.h>
#include <sluice/pool.h>
#include <sluice/redis.h>
#include <sluice/text.h>
#include <stdio.h>
static void stop(void *arg) { loop_stop(arg); }
int main(void)
{
	int64_t wait;
	struct cache *cache = cache_new(1 << 20);
	struct loop *loop = loop_new();
	cache_free(&cache);
	loop_post(loop, stop, loop);
	loop_run(loop);
	loop_free(&loop);
	if (!text_duration(SLICE("1.5s"), &wait))
		return 1;
	printf("%lld\n", (long long)wait);
	return 0;
}
"""


def run(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, **options).stdout.decode()


def flags_of_build():
    """The sanitizers that the library was built with have to be linked by the stranger too."""
    flags = (BUILD / "flags").read_text().split()
    return [flag for flag in flags if flag.startswith(("-fsanitize", "--coverage"))]


def compiler():
    return "clang" if "clang" in (BUILD / "flags").read_text().splitlines()[0] else "gcc"


def install(destination, prefix):
    installer = ["make", "-s", "install-files", f"B={BUILD}", f"DESTDIR={destination}", f"PREFIX={prefix}"]
    run(*installer, cwd=ROOT, env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")})
    return pathlib.Path(f"{destination}{prefix}")


def test_each_installed_header_stands_alone(tmp_path):
    """It brings what it includes, in strict C11; what a module keeps to its own parts is not among them."""
    headers = install(tmp_path / "root", "/usr") / "include"
    names = sorted(path.name for path in (headers / "sluice").glob("*.h"))
    assert {"cache.h", "flight.h", "json_scan.h"} <= set(names) and not [name for name in names if name.endswith(("_internal.h", "_wire.h"))]
    for name in names:
        alone = subprocess.run([compiler(), "-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I", headers, "-x", "c", "-"],
                               input=f"#include <sluice/{name}>\n", stderr=subprocess.PIPE, text=True)
        assert alone.returncode == 0, alone.stderr


def test_a_program_links_against_the_installed_library(tmp_path):
    prefix = tmp_path / "usr"
    objects = (BUILD / "flags").stat().st_mtime
    installed = install(tmp_path / "root", prefix)
    for name in ("lib/libsluice.a", "lib/pkgconfig/sluice.pc", "include/sluice/limiter.h", "share/man/man1/sluice.1", "lib/systemd/system/sluice.service"):
        assert (installed / name).is_file(), name
    assert f"\nExecStart={prefix}/bin/sluice serve " in (installed / "lib/systemd/system/sluice.service").read_text()
    assert (BUILD / "flags").stat().st_mtime == objects, "installing built anew, with other flags"
    environment = {**os.environ, "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    options = run("pkg-config", "--cflags", "--libs", f"--define-variable=prefix={installed}", "sluice", env=environment).split()
    source, program = tmp_path / "stranger.c", tmp_path / "stranger"
    source.write_text(PROGRAM)
    run(compiler(), "-std=c11", "-Wall", "-Wextra", "-Werror", *flags_of_build(), "-o", program, source, *options)
    assert run(program) == "1500000\n"
