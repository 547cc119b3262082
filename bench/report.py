"""Makes of scripts/bench's results what people read: a report, its table for the README, and a picture.

    bench/report.py RESULTS.json FOLDER     writes bench.md, readme.md and bench.svg there

Where a goal is not reached, bench/notes.md says by hand what the time is spent on; it becomes a part of the report. Pure: the
same results and notes make the same files.
"""

import html
import json
import pathlib
import statistics
import sys

TITLES = {
    "ship": "ship",
    "shell": "shell floor",
    "shell-hup": "shell, HUP",
    "pyinfra": "pyinfra",
    "ansible": "Ansible",
    "mitogen": "Ansible + Mitogen",
}
CASES = {
    "first": "first deploy from a bare server",
    "noop": "nothing to do",
    "noop20": "nothing to do, 20 ms away",
    "noop100": "nothing to do, 100 ms away",
    "change": "code change",
    "change100": "code change, 100 ms away",
    "requirement": "one more requirement",
}
SETUPS = {
    "ship": "ship",
    "shell": "the tutorials' nginx and gunicorn",
    "whitenoise": "gunicorn with WhiteNoise",
}
SERVED = {"small": "style sheet", "large": "picture", "page": "page"}


class Results:
    """Measured runs, and what is asked of them. What was not measured is None."""

    def __init__(self, results: dict):
        self.meta, self.runs = results["meta"], results["runs"]
        self.tools = [tool for tool in TITLES if any(run["tool"] == tool for run in self.runs)]

    def of(self, case: str, tool: str, key: str = "seconds", **where) -> list:
        """One value of each run. A dotted key looks into what visitors saw."""
        found = [
            run
            for run in self.runs
            if run["case"] == case and run["tool"] == tool and all(run.get(name) == value for name, value in where.items())
        ]
        if key.startswith("visitors."):
            found = [run["visitors"] for run in found]
            key = key.removeprefix("visitors.")
        return [run[key] for run in found]

    def median(self, case: str, tool: str, key: str = "seconds", **where) -> float | None:
        values = self.of(case, tool, key, **where)
        return statistics.median(values) if values else None

    def ratio(self, case: str, above: str, below: str, key: str = "seconds", **where) -> float | None:
        top, bottom = self.median(case, above, key, **where), self.median(case, below, key, **where)
        return top / bottom if top is not None and bottom else None

    def round_trips(self, tool: str) -> float | None:
        """What 80 ms more of round trip cost, in round trips: those that wait for one another."""
        near, far = self.median("noop20", tool), self.median("noop100", tool)
        if near is None or far is None:
            return None
        trips = self.median("noop100", tool, "rtt") - self.median("noop20", tool, "rtt")
        return (far - near) / trips


def goals(results: Results) -> list[tuple[str, str, str, bool | None]]:
    """Each goal: of what, what is wanted, what was measured, whether it was reached (None: not measured)."""

    def at_most(work, text, value, limit, unit=""):
        shown = "–" if value is None else f"{value:.2f}{unit}" if isinstance(value, float) else f"{value}{unit}"
        return work, text, shown, None if value is None else value <= limit

    def at_least(work, text, value, limit):
        return work, text, "–" if value is None else f"{value:.2f}", None if value is None else value >= limit

    rows = []
    for case, peer, limit in (
        ("noop", "shell", 0.8),
        ("noop100", "shell", 0.65),
        ("change", "shell", 1.3),
        ("change100", "shell", 0.8),
        ("requirement", "shell", 1.2),
        ("first", "shell", 0.8),
    ):
        rows.append(at_most(CASES[case], f"≤ {limit} × {TITLES[peer]}", results.ratio(case, "ship", peer), limit))
    for case, peer, limit in (
        ("noop", "pyinfra", 8),
        ("noop", "ansible", 18),
        ("noop100", "ansible", 11),
        ("change", "pyinfra", 2.8),
        ("change", "ansible", 6),
        ("first", "ansible", 1.5),
    ):
        rows.append(at_least(CASES[case], f"≥ {limit} × faster than {TITLES[peer]}", results.ratio(case, peer, "ship"), limit))
    rows.append(at_most(CASES["noop"], "≤ 14 round trips one after another", results.round_trips("ship"), 14))
    order = list(CASES)
    rows.sort(key=lambda row: next(index for index, case in enumerate(order) if CASES[case] == row[0]))
    for case, name in (("load", "100 requests a second"), ("wrk", "wrk")):
        failed, slowest = results.of(case, "ship", "visitors.failed"), results.of(case, "ship", "visitors.slowest_ms")
        whole = all(results.of(case, "ship", "visitors.whole"))
        work = f"code change under {name}"
        rows.append(at_most(work, "0 failed requests", sum(failed) if failed and whole else None, 0))
        rows.append(at_most(work, "slowest ≤ 150 ms", max(slowest) if slowest and whole else None, 150, " ms"))
    for what in ("small", "large"):
        value = results.ratio("site", "ship", "whitenoise", "rate", what=what)
        rows.append(at_least(f"the site: {SERVED[what]}", "≥ 3 × WhiteNoise, requests a second", value, 3))
    pages = results.ratio("site", "ship", "whitenoise", "rate", what="page")
    rows.append(at_least("the site: page", "≥ 1 × WhiteNoise, requests a second", pages, 1))
    p99 = results.ratio("site", "ship", "whitenoise", "p99_ms", what="page")
    sooner = None if p99 is None else p99 < 1
    rows.append(("the site: page", "99 % < 1 × WhiteNoise's", "–" if p99 is None else f"{p99:.2f}", sooner))
    return rows


def seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    lines = [head, ["---" if index < left else "---:" for index in range(len(head))], *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def times(results: Results) -> str:
    """Medians; empty rows are left out."""
    rows = []
    for case, title in CASES.items():
        values = [results.median(case, tool) for tool in results.tools]
        if any(value is not None for value in values):
            rows.append([title, *map(seconds, values)])
    return table(["seconds", *(TITLES[tool] for tool in results.tools)], rows)


def every_run(results: Results) -> str:
    rows = []
    for case, title in CASES.items():
        for tool in results.tools:
            values = results.of(case, tool)
            if values:
                rows.append([title, TITLES[tool], " ".join(map(seconds, values))])
    return table(["work", "by", "seconds of each run"], rows, left=2)


def wire(results: Results) -> str:
    rows = []
    for case in ("noop", "change", "requirement", "first"):
        for tool in results.tools:
            if results.of(case, tool):
                counts = [results.median(case, tool, key) for key in ("connections", "sessions")]
                sizes = [f"{results.median(case, tool, key) / 1000:,.0f}" for key in ("bytes_up", "bytes_down")]
                trips = results.round_trips(tool) if case == "noop" else None
                shown = "–" if trips is None else f"{trips:.0f}"
                cpu = seconds(results.median(case, tool, "client_cpu"))
                rows.append([CASES[case], TITLES[tool], *(f"{count:.0f}" for count in counts), *sizes, shown, cpu])
    head = ["work", "by", "connections", "sessions", "kB sent", "kB received", "round trips", "s of this computer's processor"]
    return table(head, rows, left=2)


def visitors(results: Results) -> str:
    rows = []
    for case, name in (("load", "100 requests a second"), ("wrk", "wrk, 8 connections")):
        for tool in results.tools:
            total = [sum(results.of(case, tool, f"visitors.{key}")) for key in ("requests", "failed")]
            if not results.of(case, tool):
                continue
            slow = [max(results.of(case, tool, f"visitors.{key}")) for key in ("p99_ms", "slowest_ms")]
            part = "" if all(results.of(case, tool, "visitors.whole")) else " (of a part of the change)"
            median = results.median(case, tool, "visitors.median_ms")
            cells = [f"{value:,.0f}" for value in (*total, median, *slow)]
            rows.append([name + part, TITLES[tool], *cells, seconds(results.median(case, tool))])
    head = ["visitors", "by", "requests", "failed", "median ms", "99 % ms", "slowest ms", "s of the deploy"]
    return table(head, rows, left=2)


def site(results: Results) -> str:
    rows = []
    for setup, title in SETUPS.items():
        for what, served in SERVED.items():
            if not results.of("site", setup, "rate", what=what):
                continue
            rate, p99, memory = (results.median("site", setup, key, what=what) for key in ("rate", "p99_ms", "memory_mb"))
            failed = sum(results.of("site", setup, "failed", what=what))
            rows.append([title, served, f"{rate:,.0f}", f"{p99:.1f}", str(failed), f"{memory:.0f}"])
    return table(["setup", "what", "requests a second", "99 % ms", "failed", "MB"], rows, left=2)


def workers(results: Results) -> str:
    """A row for each size of a server and each choice of workers."""
    setups = {}
    for run in results.runs:
        if run["case"] == "workers":
            setup = (*run["size"], run["kind"], run["threads"], run["workers"])
            setups.setdefault(setup, {})[run["what"]] = run
    rows = []
    for (memory_mb, cores, kind, threads, count), runs in setups.items():
        name = kind if threads == 1 else f"{kind}, {threads} threads"
        cells = [f"{run[key]:,.0f}" for run in (runs["page"], runs["waits"]) for key in ("rate", "p99_ms")]
        failed = sum(run["failed"] for run in runs.values())
        memory = max(run["memory_mb"] for run in runs.values())
        rows.append([f"{memory_mb // 1024} GB, {cores}", name, str(count), *cells, str(failed), f"{memory:.0f}"])
    head = ["memory, cores", "class", "workers", "a page a second", "99 % ms", "waiting a second", "99 % ms", "failed", "MB"]
    return table(head, rows, left=2)


def measured(meta: dict) -> str:
    changes = " with uncommitted changes" if meta["dirty"] else ""
    return (
        f"{meta['date']}, commit {meta['commit']}{changes}, on a machine with {meta['cores']} cores that it shares with the server "
        f"(load {meta['load']:.1f} before)"
    )


def disturbed(results: Results) -> str:
    """How much the host of the machine was in the way."""
    stolen = [run["stolen"] for run in results.runs if "stolen" in run]
    if not stolen:
        return ""
    quiet = results.meta["quiet"]
    above = sum(share > quiet for share in stolen)
    return (
        f"Each run waits until the host leaves this machine all of its processors; one during which it gave more than {quiet:.0%} of the\n"
        f"processor time to others is repeated, up to twice, and the least disturbed counts. Of the {len(stolen)} runs that count, {above} were above it all the same.\n"
    )


def report(results: Results, notes: str) -> str:
    versions = results.meta["versions"]
    reached = [
        [work, wanted, value, {True: "yes", False: "**no**", None: "not measured"}[met]]
        for work, wanted, value, met in goals(results)
    ]
    parts = [
        "# How fast it is, beside others\n",
        f"Measured by `scripts/bench` on {measured(results.meta)}.\n"
        f"ship {versions['ship']}, {versions['peers'].replace('==', ' ')}; {versions['ssh']}, rsync {versions['rsync']}, "
        f"{versions['wrk']}; Linux {versions['kernel']}, the server a Debian 12 in systemd-nspawn.\n",
        "One Django project (`bench/app.py`: a model, migrations, 200 static files of 5 MB, psycopg, Pillow), the same end state for\n"
        "each, seen by `bench/check` after every run: nginx, gunicorn by systemd, PostgreSQL, releases with a link to the live one.\n"
        "Each peer is written as its own experts would (`bench/peers`): Ansible with pipelining and ControlPersist, rsync wherever it\n"
        "helps, and nothing is done again whose inputs are the same. The shell floor is a script by hand for this app and this server:\n"
        "no plan, no check of the new release, no backup, no way back. Medians; runs are interleaved.\n"
        + disturbed(results),
        times(results),
        "![The same as bars](bench.svg)\n",
        "## Goals\n",
        table(["work", "goal", "measured", "reached"], reached, left=2),
        *([notes] if notes else []),
        "## On the wire\n",
        "Connections and sessions as the server's sshd logged them; bytes of SSH, counted by nftables. Round trips: those that wait for\n"
        "one another, from what 80 ms more of round-trip time cost.\n",
        wire(results),
        "## Visitors during a code change\n",
        "At a fixed rate each visitor has a connection of its own, and its time counts from when it was due.\n",
        visitors(results),
        "## The site itself\n",
        "wrk with 32 connections from the same machine. MB: memory of nginx and gunicorn, or of gunicorn alone, shared pages in equal\n"
        "parts. WhiteNoise has as many workers as ship chose.\n",
        site(results),
        "## How many workers\n",
        "ship's setup with other workers, wrk with 32 connections, 5 s each: the front page, which asks the database, and one that waits\n"
        "50 ms for somebody else. The server has so many of this machine's cores (wrk has all of them) and so much memory.\n",
        workers(results),
        "## Every run\n",
        every_run(results),
    ]
    return "\n".join(parts)


def readme(results: Results) -> str:
    return (
        times(results)
        + "\n![Bars: ship, a script by hand, pyinfra and Ansible at the same work](docs/bench.svg)\n\n"
        + f"Measured on {measured(results.meta)}.\n"
    )


# --- the picture -------------------------------------------------------------------------------------------------------

PANELS = ("noop", "noop100", "change", "change100", "requirement", "first")
WIDTH, LABEL, BAR, GAP = 420, 118, 16, 6
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.small { font-size: 11px; fill: #57606a }
.bar { fill: #afb8c1 }
.ship { fill: #2da44e }
.run { stroke: #24292f; stroke-opacity: .45 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .small { fill: #9198a1 }
  .bar { fill: #57606a }
  .ship { fill: #3fb950 }
  .run { stroke: #e6edf3 }
}
"""


def panel(results: Results, case: str, x: float, y: float) -> tuple[str, float]:
    """One work as bars from zero, with a line for each run; and how high that is."""
    shown = [tool for tool in results.tools if results.of(case, tool)]
    longest = max(max(results.of(case, tool)) for tool in shown)
    scale = (WIDTH - LABEL - 60) / longest
    parts = [f'<text class="title" x="{x}" y="{y + 12}">{html.escape(CASES[case])}</text>']
    top = y + 22
    for tool in shown:
        width = results.median(case, tool) * scale
        kind = "ship" if tool == "ship" else "bar"
        middle = top + BAR - 4
        parts.append(f'<text x="{x + LABEL - 6}" y="{middle}" text-anchor="end">{html.escape(TITLES[tool])}</text>')
        parts.append(f'<rect class="{kind}" x="{x + LABEL}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        ends = [x + LABEL + value * scale for value in results.of(case, tool)]
        parts += [f'<path class="run" d="M{end:.1f} {top + 3}v{BAR - 6}"/>' for end in ends]
        after = max([x + LABEL + width, *ends]) + 6
        parts.append(f'<text class="small" x="{after:.1f}" y="{middle}">{seconds(results.median(case, tool))} s</text>')
        top += BAR + GAP
    return "\n".join(parts), top - y


def picture(results: Results) -> str:
    panels = [case for case in PANELS if any(results.of(case, tool) for tool in results.tools)]
    parts, y = [], 10.0
    for index in range(0, len(panels), 2):
        drawn = [panel(results, case, 10 + column * (WIDTH + 20), y) for column, case in enumerate(panels[index : index + 2])]
        parts += [text for text, _ in drawn]
        y += max(height for _, height in drawn) + 14
    meta = results.meta
    note = f"Medians of interleaved runs (thin lines: each run). {meta['date']}, commit {meta['commit']}, {meta['cores']} cores."
    parts.append(f'<text class="small" x="10" y="{y + 8}">{html.escape(note)}</text>')
    width, height = 2 * WIDTH + 40, y + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" viewBox="0 0 {width} {height:.0f}" role="img">\n'
        f"<title>Seconds that the same work takes with each tool</title>\n<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def main() -> None:
    source, folder = map(pathlib.Path, sys.argv[1:])
    results = Results(json.loads(source.read_text()))
    notes = pathlib.Path(__file__).parent / "notes.md"
    (folder / "bench.md").write_text(report(results, notes.read_text() if notes.exists() else ""))
    (folder / "readme.md").write_text(readme(results))
    (folder / "bench.svg").write_text(picture(results))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main()
