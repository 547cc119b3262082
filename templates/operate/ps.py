"""What runs of an application, as JSON: the state of its units, and memory and CPU of their processes."""

import json
import os
import re
import subprocess
import sys
import time

APP = sys.argv[1]
SAMPLE_S = 0.4
NAMES = [
    "Id", "ActiveState", "SubState", "Result", "NRestarts", "ActiveEnterTimestampMonotonic", "WorkingDirectory", "Type",
    "NextElapseUSecRealtime", "ExecMainStatus",
]
KINDS = ["@*.service", "-*@*.service", "-run-*.service", "-job-*.service", "-job-*.timer"]


def units():
    command = ["systemctl", "show", f"--property={','.join(NAMES)}", "--", *[APP + kind for kind in KINDS]]
    told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}).stdout
    for block in told.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        # Another application's name may begin as this one's.
        if unit.get("Id") and (unit["Id"].endswith(".timer") or unit["WorkingDirectory"].startswith(f"/srv/{APP}/")):
            yield unit


def processes():
    """The processes of each unit."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                name = re.search(rf"/({re.escape(APP)}[^/\n]*\.service)", file.read())
        except OSError:
            continue
        if name:
            found.setdefault(name[1], []).append(pid)
    return found


def memory(pid):
    """Bytes, with what processes share counted once in all."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return int(re.search(r"^Pss: +(\d+)", file.read(), re.M)[1]) * 1024
    except (OSError, TypeError):
        return 0


def ticks(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError):
        return 0


def main():
    own = processes()
    before = {unit: sum(map(ticks, pids)) for unit, pids in own.items()}
    began = time.monotonic()
    shown = list(units())
    time.sleep(max(0.0, SAMPLE_S - (time.monotonic() - began)))
    took = time.monotonic() - began
    after = {unit: sum(map(ticks, pids)) for unit, pids in own.items()}
    per_second = os.sysconf("SC_CLK_TCK")
    rows = []
    for unit in shown:
        name = unit["Id"]
        entered = int(unit.get("ActiveEnterTimestampMonotonic") or 0)
        running = unit["ActiveState"] in ("active", "activating", "deactivating", "reloading")
        rows.append({
            "unit": name,
            "state": unit["ActiveState"],
            "detail": unit["SubState"],
            "result": unit["Result"],
            "restarts": int(unit.get("NRestarts") or 0),
            "since": time.time() - (time.monotonic() - entered / 1e6) if entered and running else None,
            "next": unit.get("NextElapseUSecRealtime") or None,
            "processes": len(own.get(name, [])),
            "memory": sum(map(memory, own.get(name, []))),
            "cpu_percent": round((after.get(name, 0) - before.get(name, 0)) / per_second / took * 100, 1),
            "cpu_seconds": after.get(name, 0) / per_second,
        })
    try:
        current = os.path.basename(os.readlink(f"/srv/{APP}/current"))
    except OSError:
        current = None
    print(json.dumps({"current": current, "now": time.time(), "units": rows}))


main()
