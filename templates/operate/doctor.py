"""What a site rests on, as JSON: one look at everything that may be wrong with a server. Changes nothing."""

import http.client
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

ASK = json.loads(sys.argv[1])
APP = ASK["app"]
TOP = f"/srv/{APP}"
PLACES = ["/", "/var", "/var/lib", "/var/log", "/tmp", "/srv", "/var/lib/postgresql", "/var/lib/mysql", "/boot"]
PLACES += [TOP, f"{TOP}/shared", f"{TOP}/shared/media"]
SERVICES = ["nginx.service", "postgresql.service", "postgresql@*.service", "mariadb.service", "redis-server.service"]
SERVICES += ["memcached.service"]
OWN = [f"{APP}.socket", f"{APP}@*.service", f"{APP}-*@*.service", f"{APP}-job-*.service", f"{APP}-job-*.timer"]
PROPERTIES = ["Id", "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts"]
PROPERTIES += ["ActiveEnterTimestampMonotonic", "WorkingDirectory"]
# What the kernel, systemd and gunicorn say of a process that memory was taken from, and of one that systemd itself kills.
KILLED = r"Out of memory: Killed process|out of memory: Killed process|killed by the OOM killer|status=9/KILL|Perhaps out of memory"
MEANT = r"timed out\. Killing|with signal SIGKILL"


def run(*command, given="", seconds=20):
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, errors="replace", timeout=seconds, cwd="/"
        )
        return done.returncode, done.stdout, done.stderr
    except OSError as error:
        return 127, "", str(error)
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {seconds} s"


def last(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def release():
    try:
        return os.path.basename(os.readlink(f"{TOP}/current"))
    except OSError:
        return None


RELEASE = release()


def clock():
    # `date` is what everything else on the server goes by, too.
    now = last(run("date", "+%s")[1])
    synchronised = last(run("timedatectl", "show", "-p", "NTPSynchronized", "--value")[1])
    return {"now": int(now) if now.isdigit() else int(time.time()), "synchronised": synchronised == "yes"}


def disks():
    found = {}
    for place in PLACES:
        try:
            seen, device = os.statvfs(place), os.stat(place).st_dev
        except OSError:
            continue
        at = os.path.realpath(place)
        while at != "/" and os.stat(os.path.dirname(at)).st_dev == device:
            at = os.path.dirname(at)
        found[device] = {
            "at": at,
            "total": seen.f_blocks * seen.f_frsize,
            "free": seen.f_bavail * seen.f_frsize,
            "inodes": seen.f_files,
            "free_inodes": seen.f_favail,
            "read_only": bool(seen.f_flag & os.ST_RDONLY),
        }
    return sorted(found.values(), key=lambda disk: disk["at"])


def shown(*names):
    told = run("systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", *names)[1]
    for block in told.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("Id") and unit.get("LoadState") == "loaded":
            yield unit


def units():
    since_boot = time.clock_gettime(time.CLOCK_MONOTONIC)
    failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "--full")[1]
    failed = [line.split()[0] for line in failed.splitlines() if line.split()]
    found = {}
    for unit in [*shown(*SERVICES), *shown(*OWN), *(shown(*failed) if failed else [])]:
        name, folder = unit["Id"], unit.get("WorkingDirectory", "")
        # Another application's name may begin as this one's.
        own = name.startswith(APP) and (not name.endswith(".service") or folder.startswith(f"{TOP}/"))
        if name.startswith((f"{APP}-", f"{APP}@")) and not own:
            continue
        entered = int(unit.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        found[name] = {
            "name": name,
            "own": own,
            "state": unit["ActiveState"],
            "sub": unit["SubState"],
            "result": unit.get("Result", ""),
            "status": int(unit.get("ExecMainStatus") or 0),
            "restarts": int(unit.get("NRestarts") or 0),
            "for_s": int(since_boot - entered) if entered else None,
            "log": [],
        }
    for unit in found.values():
        if unit["state"] != "active" or (unit["restarts"] and (unit["for_s"] or 0) < 60):
            unit["log"] = log(unit["name"])
    return list(found.values())


def entries(text):
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry.get("MESSAGE"), str):
            yield entry


def log(name):
    """The last lines that are the unit's own."""
    told = run("journalctl", "-q", "-b", "-u", name, "-n", "40", "-o", "json")[1]
    lines = [entry["MESSAGE"].rstrip() for entry in entries(told) if entry.get("_PID") != "1"]
    # Who fails again and again says the same each time.
    return list(dict.fromkeys(line for line in reversed(lines) if line))[:3][::-1]


def killed():
    told = run(
        "journalctl", "-q", "--since", "-24h", "-n", "200", "-o", "json", "--grep", f"{KILLED}|{MEANT}",
        "--output-fields=MESSAGE,UNIT,_SYSTEMD_UNIT,__REALTIME_TIMESTAMP",
        "_TRANSPORT=kernel", "+", "_PID=1", "+", f"SYSLOG_IDENTIFIER={APP}",
    )[1]  # fmt: skip
    meant, found = {}, []
    for entry in entries(told):
        at = int(entry["__REALTIME_TIMESTAMP"]) // 1_000_000
        unit = entry.get("UNIT") or entry.get("_SYSTEMD_UNIT") or ""
        if re.search(MEANT, entry["MESSAGE"]):
            meant[unit] = at
        elif at - meant.get(unit, 0) > 5:
            found.append({"at": at, "unit": unit, "message": entry["MESSAGE"].strip()[:200]})
    return found[-20:]


def packages():
    told = run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}\t${Package}\n")[1]
    # Half-installed, unpacked, half-configured, waiting for triggers, or to be installed again.
    return [line.split("\t")[1] for line in told.splitlines() if re.match(r".[UFHWt]|..R", line)]


def database():
    if ASK["database"] == "postgres":
        query = ("psql", "-qtAXw", "-d", "postgres", "-c", "select 1")
        code, out, err = run("runuser", "-u", "postgres", "--", *query, seconds=10)
        why = re.sub(r"^psql: (error: )?", "", err.strip()).splitlines()
        return None if out.strip() == "1" else (why[0] if why else f"psql ended with {code}")
    if ASK["database"] == "mysql":
        code, out, err = run("mariadb", "-N", "-e", "select 1", seconds=10)
        return None if out.strip() == "1" else last(err) or f"mariadb ended with {code}"
    return None


def redis():
    code, out, err = run("redis-cli", "ping", seconds=5)
    return None if out.strip() == "PONG" or code == 127 else last(out) or last(err)


def nginx():
    code, _, err = run("nginx", "-t", "-q")
    if code in (0, 127):
        return None
    lines = [line for line in err.splitlines() if "[emerg]" in line] or [last(err)]
    return re.sub(r"^nginx: (\[emerg\] )?", "", lines[0].strip())


def own_port():
    """The port that the site has on this server, or would get."""
    try:
        with open(f"/etc/systemd/system/{APP}.socket") as unit:
            return re.search(r"^ListenStream=(?:.*:)?(\d+)$", unit.read(), re.M).group(1)
    except (OSError, AttributeError):
        return str(ASK["port"])


def listeners():
    told, found = run("ss", "-Hltnp")[1], []
    for line in told.splitlines():
        fields = line.split()
        port = fields[3].rsplit(":", 1)[-1] if len(fields) > 3 else ""
        if port not in ("80", "443", own_port()):
            continue
        for name, pid in re.findall(r'\("([^"]*)",pid=(\d+)', line):
            found.append({"port": int(port), "name": name, "pid": int(pid), "unit": unit_of(pid)})
    return found


def unit_of(pid):
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as file:
            names = re.findall(r"[^/\n]+\.(?:service|scope|socket)", file.read())
    except OSError:
        return ""
    return names[-1] if names else ""


def owner(path):
    return last(run("stat", "-c", "%U:%G, mode %a", path)[1])


def permissions():
    wrong = []

    def may(user, flag, path, what):
        # Who can't enter a folder can't do anything below it either, and a path is told once.
        if any(one["path"] == path or one["user"] == user and path.startswith(one["path"] + "/") for one in wrong):
            return
        if os.path.lexists(path) and run("runuser", "-u", user, "--", "test", flag, path)[0] == 1:
            wrong.append({"path": path, "what": what, "is": owner(path), "user": user})

    may(APP, "-x", TOP, "the site can't enter it")
    for place in ("shared", "shared/media"):
        may(APP, "-w", f"{TOP}/{place}", "the site can't write to it")
    for place in (TOP, f"{TOP}/static", f"{TOP}/shared", f"{TOP}/shared/media"):
        may("www-data", "-x", place, "nginx can't enter it")
    if RELEASE:
        may(APP, "-x", f"{TOP}/releases/{RELEASE}", "the site can't enter it")
        may(APP, "-r", f"{TOP}/releases/{RELEASE}{ASK['root']}/manage.py", "the site can't read it")
        may(APP, "-x", f"{TOP}/venvs/{RELEASE}/bin/python", "the site can't run it")
        path = f"/etc/ship/{APP}/{RELEASE}.env"
        try:
            if os.stat(path).st_mode & 0o007:
                what = "everyone on the server can read the secrets in it"
                wrong.append({"path": path, "what": what, "is": owner(path), "user": "others"})
        except OSError:
            wrong.append({"path": path, "what": "it is missing", "is": "", "user": "root"})
    return wrong


DJANGO = r"""
import json, os, sys
sys.path.insert(0, os.getcwd())
sys.dont_write_bytecode = True
import django
django.setup()
from django.db import connections
from django.db.migrations.executor import MigrationExecutor
told = {"databases": {}, "unapplied": []}
for alias in connections:
    try:
        connections[alias].ensure_connection()
    except Exception as error:
        told["databases"][alias] = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
if "default" not in told["databases"]:
    executor = MigrationExecutor(connections["default"])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    told["unapplied"] = ["%s.%s" % (migration.app_label, migration.name) for migration, _ in plan]
print("\nship-told " + json.dumps(told))
"""


def django():
    """What the project's own Django says of its databases."""
    if not RELEASE:
        return None
    folder = f"{TOP}/releases/{RELEASE}{ASK['root']}"
    code, out, err = run(
        "systemd-run", "--quiet", "--collect", "--wait", "--pipe", "--service-type=exec", f"--property=User={APP}",
        f"--property=Group={APP}", f"--property=WorkingDirectory={folder}", "--property=RuntimeMaxSec=40",
        f"--property=EnvironmentFile=/etc/ship/{APP}/{RELEASE}.env", "--",
        f"{TOP}/venvs/{RELEASE}/bin/python", "-", given=DJANGO, seconds=45,
    )  # fmt: skip
    for line in out.splitlines():
        if line.startswith("ship-told "):
            return {**json.loads(line[len("ship-told ") :]), "error": None}
    return {"databases": {}, "unapplied": [], "error": last(err) or f"Python ended with {code}"}


def answer():
    """What the site says to the server itself, through nginx."""
    if not RELEASE:
        return None
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=15)
    try:
        connection.request("GET", ASK["path"], headers={"Host": ASK["host"], "User-Agent": "ship", "X-Ship-Check": "1"})
        return {"status": connection.getresponse().status, "error": None}
    except (OSError, http.client.HTTPException) as error:
        return {"status": None, "error": str(error) or type(error).__name__}
    finally:
        connection.close()


def firewall():
    if run("ufw", "status")[1].startswith("Status: active"):
        return "ufw"
    if re.search(r"\b(drop|reject)\b", run("nft", "list", "ruleset")[1]):
        return "nftables"
    return None


def main():
    looks = [disks, killed, packages, database, redis, nginx, listeners, permissions, django, answer, firewall]
    # A request starts a site that does not run: how it was is known before.
    found = units()
    with ThreadPoolExecutor(4) as pool:
        told = {look.__name__: pool.submit(look) for look in looks}
        told = {name: future.result() for name, future in told.items()}
    told.update(clock(), units=found)
    told["release"] = RELEASE
    print(json.dumps(told))


if __name__ == "__main__":
    main()
