"""Wall clocks that a test sets, each a program's own (tests/support/programs/clock_shift.c)."""

import mmap
import os
import pathlib
import struct

from .process import binary


class Clock:
    def __init__(self, folder, name):
        self.path = pathlib.Path(folder) / f"{name}.clock"
        self.path.write_bytes(bytes(8))
        with open(self.path, "r+b") as file:
            self.shift = mmap.mmap(file.fileno(), 8)

    @property
    def env(self):
        """Of the program whose clock it is to be."""
        sanitizers = os.environ.get("ASAN_OPTIONS", "")
        return {**os.environ, "LD_PRELOAD": binary("tests/clock-shift.so"), "CLOCK_SHIFT": str(self.path), "ASAN_OPTIONS": f"{sanitizers}:verify_asan_link_order=0"}

    def set(self, seconds):
        """So much ahead of the machine's from now on."""
        self.shift[:] = struct.pack("=q", int(seconds * 1e6))
