"""Measures ship beside its peers on boxes of tests/boxes, and writes what it saw as JSON. scripts/bench calls it, as root.

Runs are interleaved (round by round, each tool in turn, another first each time), nothing of a run is left for the next
one (no open connections), and bench/check looks at the box after each. What counts a run: wall time, processor time on this
computer, connections and sessions that sshd logged, bytes of SSH both ways as nftables counted them; and what share of the
processor time that was wanted meanwhile the host of this machine gave to others.
"""

import argparse
import contextlib
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import app

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench/peers"
CACHE = pathlib.Path(os.environ.get("SHIP_TESTBED", "/var/cache/ship-testbed")) / "bench"
LIMIT = 1800  # seconds that a deploy may take
RATE = 100  # requests a second under a fixed rate
HOST = "bench"  # what ssh's configuration calls the box
QUIET = 0.1  # the share of processor time that the host may give to others, for a run to count
PATIENCE = 300  # seconds that a run waits for the host
ATTEMPTS = 3  # at a run that counts

# Case: how often each tool is run in it, and what it is called. What takes most of the processors comes last: a host may
# grant less after that.
CASES = {
    "noop": (5, "no-op"),
    "noop20": (3, "no-op at 20 ms"),
    "noop100": (3, "no-op at 100 ms"),
    "change": (5, "code change"),
    "change100": (3, "code change at 100 ms"),
    "requirement": (5, "one more requirement"),
    "load": (3, "code change under 100 requests/s"),
    "wrk": (3, "code change under wrk"),
    "site": (3, "the site itself"),
    "workers": (1, "how many workers, on servers of 1, 2 and 4 GB"),
    "first": (3, "first deploy from a bare box"),
}
# `--quick`: without those that need a slow line.
SLOW_LINE = ("noop20", "noop100", "change100")


class Stolen:
    """What the host gives to others, since this was made, of the processor time that somebody here wants."""

    def __init__(self):
        self.before = self.ticks()

    @staticmethod
    def ticks() -> tuple[int, int]:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, stolen = map(int, file.readline().split()[1:9])
        return user + nice + system + irq + softirq + stolen, stolen

    def share(self) -> float:
        wanted, stolen = (now - before for now, before in zip(self.ticks(), self.before))
        return round(stolen / max(1, wanted), 3)


def wait_for_quiet() -> None:
    """Waits until the host leaves all of its processors to this machine: some do for a while, and then only after a rest."""
    spin = "import time\nend = time.monotonic() + 0.4\nwhile time.monotonic() < end: pass"
    deadline, quiet = time.monotonic() + PATIENCE, 0
    while quiet < 2 and time.monotonic() < deadline:
        stolen = Stolen()
        for process in [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(os.cpu_count() or 1)]:
            process.wait()
        quiet = quiet + 1 if stolen.share() <= QUIET else 0
        if quiet == 0:
            time.sleep(10)


def counted(run):
    """What `run()` measured, while the host let this machine work as far as that can be had."""
    best = None
    for attempt in range(ATTEMPTS):
        wait_for_quiet()
        measured = run()
        best = measured if best is None else min(best, measured, key=lambda one: one["stolen"])
        if best["stolen"] <= QUIET:
            break
        say(f"the host took {measured['stolen']:.0%} of the processor time meanwhile (attempt {attempt + 1} of {ATTEMPTS})")
    return best


class Failed(Exception):
    """What went wrong, in words for whoever ran the benchmark."""


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def output(*words: object) -> str:
    """What a command printed; it must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words))} failed: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout.strip()


# --- servers -----------------------------------------------------------------------------------------------------------


class Box:
    """A server, and how everybody logs in to it: as `bench`, by an ssh configuration that says where that is."""

    def __init__(self, name: str, packages: bool, folder: pathlib.Path, keep: bool):
        self.name, self.folder = f"bench-{os.getpid()}-{name}", folder
        ssh = folder / "home/.ssh"
        ssh.mkdir(parents=True, mode=0o700)
        output("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", ssh / "id_ed25519")
        words = ["--packages"] if packages else []
        # Once its owner is gone, the next box that anybody makes removes this one.
        words += [] if keep else ["--owner", os.getpid()]
        made = json.loads(output(ROOT / "tests/boxes/box", "up", self.name, "--key", ssh / "id_ed25519.pub", *words))
        self.host, key = made["host"], made["host_key"]
        self.number = self.host.split(".")[2]
        # The address behind the slow line, see bench/delay.py.
        self.far = f"10.232.{self.number}.2"
        (ssh / "known_hosts").write_text(f"{HOST},{self.host},{self.far} {key}\n")
        self.log_in_by(self.host)
        self.table = f"ship_bench_{self.number}"
        addresses = f"{{ {self.host}, {self.far} }}"
        nft(
            f"table ip {self.table} {{}}\ndelete table ip {self.table}\ntable ip {self.table} {{\n"
            "counter up {}\ncounter down {}\n"
            f"chain out {{ type filter hook output priority 0; ip daddr {addresses} tcp dport 22 counter name up; }}\n"
            f"chain in {{ type filter hook input priority 0; ip saddr {addresses} tcp sport 22 counter name down; }}\n}}\n"
        )

    @property
    def ssh_config(self) -> pathlib.Path:
        return self.folder / "home/.ssh/config"

    def log_in_by(self, address: str) -> None:
        ssh = self.folder / "home/.ssh"
        lines = {
            "HostName": address,
            "User": "root",
            "IdentityFile": ssh / "id_ed25519",
            "IdentitiesOnly": "yes",
            "HostKeyAlias": HOST,
            "UserKnownHostsFile": ssh / "known_hosts",
            "StrictHostKeyChecking": "yes",
        }
        self.ssh_config.write_text(f"Host {HOST}\n" + "".join(f"    {key} {value}\n" for key, value in lines.items()))

    def exec(self, *words: object) -> str:
        """Runs a command in the box, not through its sshd."""
        return output(ROOT / "tests/boxes/box", "exec", self.name, *words)

    @contextlib.contextmanager
    def sized(self, memory_mb: int, cores: int):
        """As if it were sold with so much memory and so many cores: of this machine's, the first ones."""
        box, every = ROOT / "tests/boxes/box", os.sched_getaffinity(0)
        output(box, "memory", self.name, memory_mb)
        self.run_on(sorted(every)[:cores])
        try:
            yield
        finally:
            self.run_on(every)
            output(box, "memory", self.name, "max")

    def run_on(self, cores) -> None:
        """All its processes; what they start inherits it."""
        groups = pathlib.Path("/sys/fs/cgroup").glob(f"**/shipbox{self.number}/**/cgroup.procs")
        for pid in {pid for group in groups for pid in group.read_text().split()}:
            # One may have ended.
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    os.sched_setaffinity(int(task), cores)

    def counts(self) -> dict[str, int]:
        log = self.exec("sh", "-c", "journalctl --sync && journalctl -q -o cat -t sshd -t sshd-session").splitlines()
        listed = json.loads(output("nft", "-j", "list", "counters", "table", "ip", self.table))["nftables"]
        counters = {item["counter"]["name"]: item["counter"]["bytes"] for item in listed if "counter" in item}
        return {
            "connections": sum(line.startswith("Accepted publickey for ") for line in log),
            "sessions": sum(line.startswith("Starting session: ") for line in log),
            "bytes_up": counters["up"],
            "bytes_down": counters["down"],
        }

    @contextlib.contextmanager
    def line(self, milliseconds: int):
        """A line with that round-trip time, by which everybody logs in meanwhile. Gives the time that was measured."""
        if not milliseconds:
            yield 0.0
            return
        words = [f"shipbox{self.number}", f"10.232.{self.number}.1", self.far, str(milliseconds)]
        delay = subprocess.Popen([sys.executable, ROOT / "bench/delay.py", *words], stdout=subprocess.PIPE, text=True)
        try:
            if delay.stdout.readline() != "ready\n":
                raise Failed("the slow line could not be made: is there /dev/net/tun?")
            measured = min(connect_seconds(self.far) for _ in range(3))
            if not 0.95 < measured * 1000 / milliseconds < 1.5:
                raise Failed(f"the line of {milliseconds} ms has {measured * 1000:.0f} ms")
            self.log_in_by(self.far)
            yield measured
        finally:
            self.log_in_by(self.host)
            delay.terminate()
            delay.wait()

    def remove(self) -> None:
        subprocess.run(["nft", "delete", "table", "ip", self.table], stderr=subprocess.DEVNULL, check=False)
        output(ROOT / "tests/boxes/box", "down", self.name)


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


def connect_seconds(host: str) -> float:
    """A handshake of TCP's is one round trip."""
    begin = time.monotonic()
    socket.create_connection((host, 22), timeout=10).close()
    return time.monotonic() - begin


# --- tools -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Tool:
    """One that deploys. Tools of a family make the same of a server, and share one."""

    name: str
    title: str
    family: str
    command: tuple[str, ...]
    only: tuple[str, ...] = tuple(CASES)
    env: tuple[tuple[str, str], ...] = ()


def tools(ship: str) -> dict[str, Tool]:
    ansible = (str(CACHE / "ansible/bin/ansible-playbook"), str(PEERS / "ansible/site.yml"))
    strategy = "lib/python{}.{}/site-packages/ansible_mitogen/plugins/strategy"
    found = sorted((CACHE / "ansible").glob(strategy.format("*", "*")))
    mitogen = (("ANSIBLE_STRATEGY_PLUGINS", str(found[0]) if found else ""), ("ANSIBLE_STRATEGY", "mitogen_linear"))
    listed = [
        Tool("ship", "ship", "ship", (ship, "up", "--yes")),
        Tool("shell", "shell floor", "shell", (str(PEERS / "shell/deploy"), "restart")),
        Tool("shell-hup", "shell, HUP", "shell", (str(PEERS / "shell/deploy"), "reload"), ("change", "load", "wrk")),
        Tool("pyinfra", "pyinfra", "pyinfra", (str(PEERS / "pyinfra/deploy"),)),
        Tool("ansible", "Ansible", "ansible", ansible),
        # Not from a bare box: under Mitogen the module `apt` doesn't find the python3-apt that it has just installed.
        Tool("mitogen", "+ Mitogen", "ansible", ansible, tuple(case for case in CASES if case != "first"), mitogen),
    ]
    return {tool.name: tool for tool in listed}


class Site:
    """A project on a server of its own, deployed by the tools of one family."""

    def __init__(self, family: str, work: pathlib.Path, packages: bool, logs: pathlib.Path, keep: bool):
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{family}-", dir=work))
        self.logs, self.folder, self.project = logs, folder, folder / "project"
        self.box = Box(folder.name.lower().replace("_", "-").strip("-"), packages, folder, keep)
        app.write(self.project)
        (self.project / "ship.yml").write_text(
            f"app: bench\nserver: {{provider: ssh, host: {HOST}, user: root}}\ndatabase: postgres\n"
        )
        app.commit(self.project, "How ship deploys it")
        # ship asks `ssh -G` where HOST is, and OpenSSH looks only into the real home folder for its configuration.
        asked = folder / "bin/ssh"
        asked.parent.mkdir()
        asked.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.box.ssh_config} "$@"\n')
        asked.chmod(0o755)

    def environment(self, tool: Tool) -> dict[str, str]:
        home, control = self.folder / "home", self.folder / "control"
        control.mkdir(exist_ok=True)
        return {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}" if tool.family == "ship" else os.environ["PATH"],
            "HOME": str(home),
            "USER": "bench",
            "LANG": "C.UTF-8",
            "SSH_CONFIG": str(self.box.ssh_config),
            "HOST": HOST,
            "PROJECT": str(self.project),
            "BENCH_CACHE": str(CACHE),
            "BENCH_SECRETS": str(self.folder / "secrets"),
            "ANSIBLE_CONFIG": str(PEERS / "ansible/ansible.cfg"),
            "ANSIBLE_SSH_ARGS": f"-F {self.box.ssh_config} -C -o ControlMaster=auto -o ControlPersist=60s "
            f"-o ControlPath={control}/%C",
            **dict(tool.env),
        }

    def hang_up(self) -> None:
        """Closes connections that a tool leaves open for its next run, which comes later than they would last."""
        for path in (self.folder / "control").glob("*"):
            subprocess.run(["ssh", "-o", f"ControlPath={path}", "-O", "exit", HOST], capture_output=True, check=False)

    def deploy(self, tool: Tool, label: str) -> dict:
        """Runs a tool once and measures it; what it printed goes to a file."""
        self.hang_up()
        log = self.logs / f"{label}-{tool.name}.log"
        before, processor, stolen = self.box.counts(), resource.getrusage(resource.RUSAGE_CHILDREN), Stolen()
        with log.open("wb") as file:
            begin = time.monotonic()
            running = subprocess.Popen(
                tool.command,
                cwd=self.project,
                env=self.environment(tool),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            # Popen's own wait with a limit looks every 50 ms.
            limit = threading.Timer(LIMIT, running.kill)
            limit.daemon = True
            limit.start()
            code = running.wait()
            seconds = time.monotonic() - begin
            limit.cancel()
        after, taken = resource.getrusage(resource.RUSAGE_CHILDREN), stolen.share()
        if code != 0:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            why = f"no end within {LIMIT} s" if code == -signal.SIGKILL else code
            raise Failed(f"{tool.name} failed ({label}, {why}); the end of {log}:\n{tail}")
        self.hang_up()
        used = after.ru_utime - processor.ru_utime + after.ru_stime - processor.ru_stime
        counts = {key: value - before[key] for key, value in self.box.counts().items()}
        return {"seconds": round(seconds, 3), "client_cpu": round(used, 3), "stolen": taken, **counts}

    @contextlib.contextmanager
    def workers(self, kind: str, count: int, threads: int):
        """With other workers than those that ship chose, for a while."""
        file, unit = "/etc/ship/bench/gunicorn.py", f"bench@{pathlib.PurePath(self.live()).name}.service"
        other = f"workers, worker_class, threads, worker_connections = {count}, \"{kind}\", {threads}, {threads + 1}"
        self.box.exec("sh", "-c", f"cp -p {file} {file}.ship && echo '{other}' >>{file} && systemctl restart {unit}")
        try:
            yield
        finally:
            self.box.exec("sh", "-c", f"mv {file}.ship {file} && systemctl restart {unit}")

    def check(self) -> str:
        """The live release, once bench/check is content with the server."""
        return output(ROOT / "bench/check", self.box.name, self.box.host, self.project)

    def live(self) -> str:
        return self.box.exec("readlink", "-f", "/srv/bench/current")

    def remove(self) -> None:
        self.box.remove()
        shutil.rmtree(self.folder)


# --- cases -------------------------------------------------------------------------------------------------------------


class Bench:
    """All measurements of one run of scripts/bench, and the sites that they need."""

    def __init__(self, options: argparse.Namespace, chosen: list[Tool], work: pathlib.Path, logs: pathlib.Path):
        self.options, self.chosen, self.work, self.logs = options, chosen, work, logs
        self.sites: dict[str, Site] = {}
        self.runs: list[dict] = []
        self.version = 1

    def rounds(self, case: str):
        """Each round's number and tools, another one first each time."""
        chosen = [tool for tool in self.chosen if case in tool.only]
        for number in range(1 if self.options.quick else CASES[case][0]):
            first = number % max(1, len(chosen))
            yield number, chosen[first:] + chosen[:first]

    def site(self, tool: Tool) -> Site:
        """The family's site, deployed and well. Made when it is first asked for."""
        if tool.family not in self.sites:
            site = Site(tool.family, self.work, True, self.logs, self.options.keep)
            self.sites[tool.family] = site
            site.deploy(tool, "setup")
            site.check()
        return self.sites[tool.family]

    def record(self, case: str, tool: Tool, number: int, measured: dict) -> None:
        self.runs.append({"case": case, "tool": tool.name, "round": number, "load": os.getloadavg()[0], **measured})
        shown = ", ".join(f"{key} {value}" for key, value in measured.items())
        say(f"{case} {number + 1}: {tool.name}: {shown}")

    def first(self, case: str) -> None:
        for number, turn in self.rounds(case):
            for tool in turn:
                self.record(case, tool, number, counted(lambda: self.from_bare(case, tool, number)))

    def from_bare(self, case: str, tool: Tool, number: int) -> dict:
        site = Site(tool.family, self.work, False, self.logs, self.options.keep)
        try:
            measured = site.deploy(tool, f"{case}-{number}")
            site.check()
            return measured
        finally:
            if not self.options.keep:
                site.remove()
            else:
                say(f"kept: box {site.box.name}")

    def noop(self, case: str, milliseconds: int = 0) -> None:
        for number, turn in self.rounds(case):
            for tool in turn:
                site = self.site(tool)
                live = site.check()
                with site.box.line(milliseconds) as rtt:
                    # The first one after a change by a sibling may still have something to put right.
                    if number == 0:
                        site.deploy(tool, f"{case}-settle")
                        live = site.check()
                    measured = counted(lambda: site.deploy(tool, f"{case}-{number}"))
                if site.check() != live:
                    raise Failed(f"{tool.name} made a release with nothing to do")
                self.record(case, tool, number, {"rtt": round(rtt, 4), **measured})

    def changed(self, case: str, site: Site, tool: Tool, number: int, change, load=contextlib.nullcontext()) -> dict:
        """Deploys the project after `change(site)`, under a load if there is one, and sees that there is another release."""
        change(site)
        live = site.live()
        with load as visitors:
            measured = site.deploy(tool, f"{case}-{number}")
        if site.check() == live:
            raise Failed(f"{tool.name} made no release of a change")
        return measured if visitors is None else {**measured, "visitors": visitors}

    def change(self, case: str, milliseconds: int = 0) -> None:
        for number, turn in self.rounds(case):
            for tool in turn:
                site = self.site(tool)
                with site.box.line(milliseconds) as rtt:
                    measured = counted(lambda: self.changed(case, site, tool, number, self.next_version))
                self.record(case, tool, number, {"rtt": round(rtt, 4), **measured})

    def next_version(self, site: Site) -> None:
        self.version += 1
        app.change_code(site.project, str(self.version))

    def requirement(self, case: str) -> None:
        for number, turn in self.rounds(case):
            for tool in turn:
                site = self.site(tool)
                self.record(case, tool, number, counted(lambda: self.changed(case, site, tool, number, self.require_more)))

    def require_more(self, site: Site) -> None:
        # Siblings share a server: what one of them has installed there, the other would find.
        have = (site.project / "requirements.txt").read_text()
        more = next((line for line in app.MORE_REQUIREMENTS if line not in have), None)
        if more is None:
            raise Failed("bench/app.py has too few MORE_REQUIREMENTS for so many rounds")
        app.add_requirement(site.project, more)

    def under(self, case: str, load) -> None:
        """A code change while `load(url)` runs."""
        for number, turn in self.rounds(case):
            for tool in turn:
                site = self.site(tool)
                where = f"http://{site.box.host}/", self.options.load_limit
                run = lambda: self.changed(case, site, tool, number, self.next_version, load(*where))
                self.record(case, tool, number, counted(run))

    def run(self, case: str) -> None:
        say(f"== {CASES[case][1]}")
        match case:
            case "first":
                self.first(case)
            case "noop" | "noop20" | "noop100":
                self.noop(case, int(case.removeprefix("noop") or 0))
            case "change" | "change100":
                self.change(case, int(case.removeprefix("change") or 0))
            case "requirement":
                self.requirement(case)
            case "load":
                self.under(case, fixed_rate)
            case "wrk":
                self.under(case, wrk)
            case "site":
                self.runs += compare_sites(self)
            case "workers":
                self.runs += compare_workers(self)


@contextlib.contextmanager
def fixed_rate(url: str, limit: float):
    words = [sys.executable, ROOT / "bench/load.py", url, str(RATE), str(limit), "version="]
    yield from under_load(words, signal.SIGTERM, limit)


@contextlib.contextmanager
def wrk(url: str, limit: float):
    words = ["wrk", "-t1", "-c8", "--timeout", "10s", f"-d{int(limit)}s", "-s", ROOT / "bench/wrk.lua", url]
    yield from under_load(words, signal.SIGINT, limit)


def under_load(words: list, end: signal.Signals, limit: float):
    """Runs a load from a second before the block to a second after it; the report is filled then. It is `whole` if the load
    outlasted the block."""
    report: dict = {}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        yield report
        time.sleep(1)
    finally:
        whole = process.poll() is None
        process.send_signal(end)
        text, errors = process.communicate(timeout=limit + 30)
        lines = [line for line in text.splitlines() if line.startswith("{")]
        if lines:
            report.update(json.loads(lines[-1]), whole=whole)
        elif sys.exc_info()[0] is None:
            raise Failed(f"the load told nothing: {text}{errors}")


# --- the site itself ---------------------------------------------------------------------------------------------------


def compare_sites(bench: Bench) -> list[dict]:
    """What visitors get of ship's setup, of the tutorials' (the shell floor's nginx), and of gunicorn with WhiteNoise."""
    by_name = {tool.name: tool for tool in bench.chosen}
    setups = {name: bench.site(by_name[name]) for name in ("ship", "shell") if name in by_name}
    where = {name: f"http://{site.box.host}" for name, site in setups.items()}
    if "shell" in setups:
        workers = worker_count(setups["ship"]) if "ship" in setups else 3
        setups["shell"].box.exec("bash", "-c", (PEERS / "whitenoise.sh").read_text(), "whitenoise", workers)
        where["whitenoise"] = f"http://{setups['shell'].box.host}:8001"
    runs = []
    seconds = 3 if bench.options.quick else 10
    for number in range(1 if bench.options.quick else CASES["site"][0]):
        for name, base in sorted(where.items(), key=lambda item: (list(where).index(item[0]) + number) % len(where)):
            site = setups["shell" if name == "whitenoise" else name]
            for what, path in (("small", "/static/notes/file-001.css"), ("large", "/static/notes/file-079.png"), ("page", "/")):
                report = counted(lambda: served(site, name, base + path, seconds, "-H", "Accept-Encoding: gzip"))
                runs.append({"case": "site", "tool": name, "what": what, "round": number, **report})
                say(f"site {number + 1}: {name} {what}: {report}")
    if "whitenoise" in where:
        setups["shell"].box.exec("systemctl", "stop", "whitenoise")
    return runs


def served(site: Site, name: str, url: str, seconds: int, *words: str) -> dict:
    """What wrk gets of a page in so many seconds, and the memory that it takes to serve it."""
    asked = ("wrk", "-t1", "-c32", f"-d{seconds}s", *words, "-s", ROOT / "bench/wrk.lua", url)
    stolen = Stolen()
    report = json.loads(output(*asked).splitlines()[-1])
    taken, rate = stolen.share(), round(report["requests"] / report["seconds"], 1)
    return {**report, "rate": rate, "stolen": taken, "memory_mb": memory(site, name)}


# What is sold as such: MB of memory and cores.
SIZES = ((1024, 1), (2048, 1), (4096, 2))
# Classes of workers, and the threads of each.
KINDS = (("sync", 1), ("gthread", 2), ("gthread", 4))


def compare_workers(bench: Bench) -> list[dict]:
    """What the site gives with other workers than ship's, for a page that works and for one that waits for somebody else."""
    ship = next((tool for tool in bench.chosen if tool.name == "ship"), None)
    if ship is None:
        return []
    site = bench.site(ship)
    seconds = 2 if bench.options.quick else 5
    runs = []
    for memory_mb, cores in SIZES:
        for kind, threads in KINDS:
            for count in sorted({1, cores, cores + 1, 2 * cores + 1, 4 * cores}):
                with site.box.sized(memory_mb, cores), site.workers(kind, count, threads):
                    for what, path in (("page", "/"), ("waits", "/waits/")):
                        report = counted(lambda: served(site, "ship", f"http://{site.box.host}{path}", seconds))
                        setup = {"size": [memory_mb, cores], "kind": kind, "threads": threads, "workers": count}
                        runs.append({"case": "workers", "tool": "ship", "what": what, "round": 0, **setup, **report})
                        say(f"workers: {memory_mb} MB, {cores} cores, {count} {kind} of {threads}, {what}: {report}")
    return runs


def worker_count(site: Site) -> int:
    return max(1, int(site.box.exec("sh", "-c", "pgrep -c -f bin/[g]unicorn")) - 1)


def memory(site: Site, name: str) -> float:
    """MB of what serves the site: nginx if it does, and gunicorn; shared pages in equal parts."""
    unit = "whitenoise" if name == "whitenoise" else "(nginx|bench.*)"
    script = f"""ps -eo pid=,unit= | awk '$2 ~ /^{unit}[.]service$/ {{ print "/proc/" $1 "/smaps_rollup" }}' |
        xargs cat | awk '/^Pss:/ {{ sum += $2 }} END {{ print sum / 1024 }}'"""
    return round(float(site.box.exec("sh", "-c", script)), 1)


# --- all of it ---------------------------------------------------------------------------------------------------------


def versions(ship: str) -> dict[str, str]:
    pins = (CACHE / "ansible/.pins").read_text() + (CACHE / "pyinfra/.pins").read_text()
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=False).stderr.split(",")[0]
    return {
        "ship": output(ship, "--version").split()[-1],
        "peers": " ".join(pins.split()),
        "ssh": said,
        "rsync": output("rsync", "--version").split()[2],
        "wrk": subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split(" [")[0],
        "kernel": platform.release(),
    }


# What a measurement depends on.
MATTERS = ("src", "templates", "playbooks", "bench", "tests/boxes", "Cargo.lock", ":(exclude)bench/notes.md")


def machine() -> dict:
    memory_kb = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")))
    dirty = output("git", "-C", ROOT, "status", "--porcelain", "--", *MATTERS)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "commit": output("git", "-C", ROOT, "rev-parse", "--short", "HEAD"),
        "dirty": bool(dirty),
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1024**2),
        "load": os.getloadavg()[0],
        "quiet": QUIET,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one run of each, and no slow lines")
    cases = f"one of {', '.join(CASES)}; may be repeated"
    parser.add_argument("--only", metavar="CASE", action="append", choices=CASES, help=cases)
    parser.add_argument("--tools", metavar="A,B", help="of ship, shell, shell-hup, pyinfra, ansible, mitogen")
    parser.add_argument("--ship", type=os.path.abspath, default=str(ROOT / "target/release/ship"), help="the binary to measure")
    resume = "go on with a run that was cut off, if nothing of what it measured has changed: the cases that it has finished are not measured again"
    parser.add_argument("--resume", action="store_true", help=resume)
    limit = "seconds after which a load ends, whatever the deploy does"
    parser.add_argument("--load-limit", type=float, default=120, help=limit)
    parser.add_argument("--keep", action="store_true", help="leave the boxes, to look into")
    where = "where results.json (partial.json unless all was measured) and logs go"
    parser.add_argument("--to", type=pathlib.Path, default=ROOT / "target/bench", help=where)
    return parser.parse_args()


def cut_off(options: argparse.Namespace, names: list[str], meta: dict) -> tuple[list[str], list[dict]]:
    """The cases that a run of the same, which was cut off, has whole, and what it measured in them."""
    file = options.to / "partial.json"
    known = json.loads(file.read_text()) if file.exists() else None
    same = known and (known["meta"]["versions"], known["tools"], known.get("quick")) == (meta["versions"], names, options.quick)
    if not same or known["meta"]["dirty"] or meta["dirty"]:
        raise Failed("there is nothing to go on with: no unfinished run of the same tools, without uncommitted changes")
    changed = output("git", "-C", ROOT, "diff", "--stat", known["meta"]["commit"], "HEAD", "--", *MATTERS)
    if changed:
        raise Failed(f"what was measured has changed since the run that was cut off:\n{changed}")
    return known["finished"], [run for run in known["runs"] if run["case"] in known["finished"]]


def main() -> None:
    options = arguments()
    if not os.access(options.ship, os.X_OK):
        raise Failed(f"there is no {options.ship}: cargo build --release, or --ship FILE")
    known = tools(options.ship)
    names = options.tools.split(",") if options.tools else list(known)
    for name in names:
        if name not in known:
            raise Failed(f"there is no tool '{name}': {', '.join(known)}")
    cases = options.only or [case for case in CASES if not (options.quick and case in SLOW_LINE)]
    logs = options.to / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix="ship-bench-"))
    bench = Bench(options, [known[name] for name in names], work, logs)
    meta = {**machine(), "versions": versions(options.ship)}
    finished = []
    if options.resume:
        finished, bench.runs = cut_off(options, names, meta)
    # A signal ends it as an error does: boxes and lines are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Only all of it replaces what was measured last.
    name = "partial.json"
    try:
        for case in cases:
            if case not in finished:
                bench.run(case)
                finished.append(case)
        if cases == list(CASES) and names == list(known):
            name = "results.json"
    finally:
        meta["load_after"] = os.getloadavg()[0]
        how = {"cases": cases, "tools": names, "quick": options.quick, "finished": finished}
        results = {"meta": meta, **how, "runs": bench.runs}
        (options.to / "partial.json").unlink(missing_ok=True)
        (options.to / name).write_text(json.dumps(results, indent=1) + "\n")
        if options.keep:
            say(f"kept: {work}, boxes {', '.join(site.box.name for site in bench.sites.values())}")
        else:
            for site in bench.sites.values():
                site.remove()
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        say(str(error))
        sys.exit(1)
