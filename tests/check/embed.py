"""Writes scripts.h and scripts.c: the Lua scripts of lua/ as C strings with their SHA-1, for lib/script. A line "-- part: NAME" is replaced
by lua/part/NAME.lua, which several scripts share.
usage: embed.py OUTPUT_FOLDER SCRIPT.lua ..."""
import hashlib
import pathlib
import re
import sys

folder, paths = pathlib.Path(sys.argv[1]), [pathlib.Path(p) for p in sorted(sys.argv[2:])]
header = ['#include "lib/script.h"']
source = ['#include "scripts.h"']


def whole(path):
    def part(found):
        return (path.parent / "part" / f"{found[1]}.lua").read_text()
    return re.sub(r"^-- part: (\w+)\n", part, path.read_text(), flags=re.M).encode()


for path in paths:
    text, name = whole(path), path.stem
    digits = ",".join(str(byte if byte < 128 else byte - 256) for byte in text)
    header.append(f"extern const struct script script_{name};")
    source.append(f"static const char source_{name}[] = {{{digits},0}};")
    source.append(f'const struct script script_{name} = {{"{name}", source_{name}, {len(text)}, "{hashlib.sha1(text).hexdigest()}"}};')
guard = ["#ifndef SLUICE_SCRIPTS_H", "#define SLUICE_SCRIPTS_H", *header, "#endif", ""]
(folder / "scripts.h").write_text("\n".join(guard))
(folder / "scripts.c").write_text("\n".join([*source, ""]))
