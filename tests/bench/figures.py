"""What is read off: CPU by the kernel's account of each process, memory, and what a load saw; and the table that it ends in."""

import os
import pathlib

import peers
from support import load

TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # microseconds


def cpu(pids):
    """Microseconds of CPU that these processes have used, user and system."""
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) * TICK
    return total


def machine():
    """(microseconds that all cores were busy, or taken by the host; microseconds of all cores)"""
    with open("/proc/stat") as stat:
        user, nice, system, idle, wait, irq, softirq, steal = (int(word) * TICK for word in stat.readline().split()[1:9])
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + wait


def memory(pid):
    """Resident KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def checked(url, **how):
    """The report of a load; anything but a 200 for every request ends the bench: a figure of something else means nothing."""
    report = load.run(url, **how)
    if not report["completed"] or report["by_status"] != {"200": report["completed"]} or report["errors"]:
        raise RuntimeError(f"{url}, {how['connections']} connections: answers {report['by_status']}, errors {report['errors']}")
    return report


def drive(port, connections, seconds, body, requests=None):
    return checked(f"http://127.0.0.1:{port}{peers.PATH}", connections=connections, duration=seconds, requests=requests, body=body, headers=peers.HEADERS)


class Table:
    """Figures with their targets, printed as they come and kept for the file."""

    def __init__(self):
        self.rows = []

    def add(self, what, value, unit, target=None, rounds=None, at_least=None):
        """`target` is the most that it may be, `at_least` the least."""
        met = value >= at_least if at_least is not None else None if target is None else value <= target
        self.rows.append({"what": what, "value": value, "unit": unit, "target": target, "at_least": at_least, "met": met, "rounds": rounds})
        wanted = f"target ≥ {at_least:g} {unit}" if at_least is not None else "" if target is None else f"target ≤ {target:g} {unit}"
        spread = f"rounds {min(rounds):.2f} to {max(rounds):.2f}" if rounds and len(rounds) > 1 else ""
        verdict = {None: "", True: "met", False: "NOT met"}[met]
        digits = 2 if unit == "×" else 1
        print(f"  {what:<50} {value:>9.{digits}f} {unit:<5} {wanted:<18} {verdict:<9} {spread}".rstrip(), flush=True)
