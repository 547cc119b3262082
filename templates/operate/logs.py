"""Reads the logs of a site as one stream in the order of time: the journal, and the files of nginx and PostgreSQL.

The first line of stdin says what is wanted, as JSON; after that each byte is a sign that somebody still reads, and the end
of stdin is the end of this program. Each line of stdout is a record with the place that its source is at after it: whoever
begins there next time misses nothing and sees nothing twice, whatever was rotated in between.
"""

import datetime
import glob
import gzip
import hashlib
import heapq
import json
import os
import queue
import re
import select
import subprocess
import sys
import threading
import time

BAD_INPUT = 65
HEAD = 256
# How long a file that was renamed must be quiet until nobody writes to it any more: nginx reopens its logs on a signal.
QUIET_S = 2.0

WANTED = json.loads(sys.stdin.buffer.readline())
APP = WANTED["app"]
GREP = None
UNIT = re.compile(rf"^{re.escape(APP)}(?:-(?P<process>[a-z0-9-]+))?@(?P<release>v[0-9]+)[^@]*\.service$")
PLAIN = re.compile(rf"^{re.escape(APP)}-(?P<process>(?:job|run)-[A-Za-z0-9-]+)\.service$")


def refuse(text):
    print(json.dumps({"error": text}), flush=True)
    sys.exit(BAD_INPUT)


def listen():
    """Ends the program with its reader, also with one that went away without a word."""
    while True:
        ready, _, _ = select.select([0], [], [], WANTED["idle_s"])
        if not ready or not os.read(0, 4096):
            os._exit(0)


class Record:
    __slots__ = ("at", "process", "release", "text", "level", "source", "place")

    def __init__(self, at, process, release, text, level, source, place):
        self.at, self.process, self.release, self.text = at, process, release, text
        self.level, self.source, self.place = level, source, place

    def is_wanted(self):
        if self.process is None:
            return False
        if WANTED["release"] and self.release != WANTED["release"]:
            return False
        return GREP is None or GREP.search(self.text) is not None

    def line(self):
        return json.dumps(
            {"t": self.at, "p": self.process, "r": self.release, "m": self.text, "l": self.level}
            | {"s": self.source, "c": self.place}
        )


# The journal -----------------------------------------------------------------------------------------------------------


def field(entry, name):
    """A field as text: one that is no UTF-8 comes as a list of bytes, one that is there twice as a list of values."""
    value = entry.get(name)
    if isinstance(value, list):
        if value and all(isinstance(byte, int) for byte in value):
            return bytes(value).decode("utf-8", "replace")
        return field({name: value[0]}, name) if value else ""
    return value if isinstance(value, str) else ""


class Journal:
    name = "journal"

    def __init__(self, place):
        self.place = place
        self.units = WANTED["units"]

    def matches(self):
        groups = [[f"_SYSTEMD_SLICE=system-{unit.replace('-', chr(92) + 'x2d')}.slice"] for unit in self.units["templates"]]
        groups += [[f"_SYSTEMD_UNIT={unit}.service"] for unit in self.units["plain"]]
        groups += [[f"SYSLOG_IDENTIFIER={name}"] for name in self.units["identifiers"]]
        # What systemd says of a unit: that it was started, killed, ran out of memory.
        groups.append(["_PID=1", "SYSLOG_IDENTIFIER=systemd"])
        words = []
        for group in groups:
            words += [*group, "+"]
        return words[:-1]

    def command(self, *options):
        return ["journalctl", "--quiet", "--no-pager", "--all", "--output=json", *options, *self.matches()]

    def record(self, line):
        try:
            entry = json.loads(line)
        except ValueError:
            return None
        at, place = int(field(entry, "__REALTIME_TIMESTAMP") or 0), field(entry, "__CURSOR")
        manager = field(entry, "_PID") == "1"
        process, release = self.origin(entry, manager)
        level = "system" if manager else field(entry, "PRIORITY")
        return Record(at, process, release, field(entry, "MESSAGE"), level, self.name, place)

    def origin(self, entry, manager):
        unit = field(entry, "UNIT" if manager else "_SYSTEMD_UNIT")
        found = UNIT.match(unit)
        if found and not found["process"]:
            process, release = "web", found["release"]
        elif found:
            process, release = found["process"], found["release"]
        else:
            found = PLAIN.match(unit)
            if not found:
                return None, None
            process, release = found["process"], None
            if process.startswith("run-"):
                # That one was started is no news to whoever has started it.
                process = None if manager else "run"
            else:
                process = process[len("job-") :]
        return (process, release) if process in WANTED["processes"] else (None, None)

    def history(self, lines, since):
        """The records so far, oldest first. From here on, `place` is where they end."""
        newest = subprocess.run(
            ["journalctl", "--quiet", "--no-pager", "--output=json", "--lines=1"], capture_output=True
        ).stdout
        end = self.record(newest) if newest.strip() else None
        options, backward = [], False
        if self.place is not None:
            options = [f"--after-cursor={self.place}"] if self.place else []
        elif since is not None:
            options = [f"--since=@{since / 1e6:.6f}"]
        else:
            options, backward = ["--reverse"], True
        found, last = [], None
        with subprocess.Popen(self.command(*options), stdout=subprocess.PIPE) as reader:
            for line in reader.stdout:
                record = self.record(line)
                if record is None:
                    continue
                if not backward or last is None:
                    last = record.place
                if record.is_wanted():
                    found.append(record)
                    if backward and len(found) >= lines:
                        reader.terminate()
                        break
        # Nothing that was seen is older than the end that was looked up before.
        self.place = last or self.place or (end.place if end else "")
        return found[::-1] if backward else found

    def follow(self, into):
        place = [f"--after-cursor={self.place}"] if self.place else []
        while True:
            with subprocess.Popen(self.command("--follow", "--no-tail", *place), stdout=subprocess.PIPE) as reader:
                for line in reader.stdout:
                    record = self.record(line)
                    if record is None:
                        continue
                    place = [f"--after-cursor={record.place}"]
                    into.put(record)
            # It was killed, or the journal restarted.
            time.sleep(0.5)


# Files -----------------------------------------------------------------------------------------------------------------


def local(text, form):
    return int(time.mktime(time.strptime(text, form)) * 1_000_000)


def micros(moment):
    return int(moment.timestamp() * 1_000_000)


ACCESS = re.compile(r"^(\S+) \[(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?[+-]\d\d:\d\d)\] (.*)$", re.S)
ERROR = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (.*)$", re.S)
POSTGRES = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.(\d{3}) (\S+) (\[\d+\] (?:(\S+)@(\S+) )?.*)$", re.S)
REDIS = re.compile(r"^\d+:\w (\d\d \w{3} \d{4} \d\d:\d\d:\d\d)\.(\d{3}) (.*)$", re.S)


def dissect(kind, text):
    """The time of a line, what it says, and whether it is this site's; `None` if it goes on with the line before."""
    try:
        if kind == "access" and (found := ACCESS.match(text)):
            return micros(datetime.datetime.fromisoformat(found[2])), f"{found[1]} {found[3]}", True
        if kind == "error" and (found := ERROR.match(text)):
            return local(found[1], "%Y/%m/%d %H:%M:%S"), found[2], True
        if kind == "postgres" and (found := POSTGRES.match(text)):
            zone = datetime.timezone.utc if found[3] in ("UTC", "GMT") else None
            moment = datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=zone)
            return micros(moment) + int(found[2]) * 1000, found[4], found[6] in (None, APP)
        if kind == "redis" and (found := REDIS.match(text)):
            return local(found[1], "%d %b %Y %H:%M:%S") + int(found[2]) * 1000, found[3], True
    except ValueError:
        pass
    return None


def opened(path):
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")


def digest(head):
    return hashlib.sha256(head).hexdigest()[:16]


class Log:
    """A file that is rotated: a chain of files, each known by how it begins, whatever it is called by now."""

    def __init__(self, process, kind, path, place):
        self.process, self.kind, self.path, self.name = process, kind, path, path
        self.file, self.head, self.offset, self.rotated_at = None, b"", 0, None
        # What a line that goes on with another one belongs to.
        self.at, self.ours = 0, True
        self.resume = place

    def chain(self):
        """What is left of the log, the newest first."""
        numbered = []
        for path in glob.glob(glob.escape(self.path) + ".*"):
            found = re.fullmatch(r"\.(\d+)(?:\.gz)?", path[len(self.path) :])
            if found:
                numbered.append((int(found[1]), path))
        return [self.path] + [path for _, path in sorted(numbered)]

    def begins(self, path, length, known):
        try:
            with opened(path) as file:
                head = file.read(length)
        except OSError:
            return False
        return len(head) == length and digest(head) == known

    def found_again(self, length, known):
        """Where the file with this beginning is in the chain."""
        for index, path in enumerate(self.chain()):
            if self.begins(path, length, known):
                return index
        return None

    def record(self, line, wanted_since=None):
        text = line.rstrip(b"\r\n").decode("utf-8", "replace")
        told = dissect(self.kind, text)
        if told:
            self.at, text, self.ours = told
        if not self.at:
            self.at = int(time.time() * 1e6)
        process = self.process if self.ours else None
        if wanted_since is not None and self.at < wanted_since:
            process = None
        return Record(self.at, process, None, text, "", self.name, None)

    def place(self):
        known = self.head[:HEAD]
        return [len(known), digest(known), self.offset, self.at / 1e6 if known and self.at else time.time()]

    def start_at(self, path, offset):
        self.close()
        try:
            self.file = opened(path)
        except OSError:
            self.file = None
            return
        self.head = self.file.read(HEAD)
        self.offset = offset
        self.rotated_at = None

    def close(self):
        if self.file:
            self.file.close()
        self.file = None

    # What was written before this program looked.

    def history(self, lines, since):
        if self.resume is not None:
            return self.since_then()
        found = []
        if since is not None:
            chain = [path for path in self.chain() if self.newer(path, since / 1e6)]
            self.start_at(chain[-1] if chain else self.path, 0)
            while True:
                found += [record for record in self.lines(since) if record.is_wanted()]
                if not self.newer_one(True):
                    return found
        self.start_at(self.path, 0)
        self.offset = self.last_line_end()
        end = self.offset
        for path in self.chain():
            for record in self.backward(path, end):
                if record.is_wanted():
                    found.append(record)
                    if len(found) >= lines:
                        return found[::-1]
            end = None
        return found[::-1]

    def newer(self, path, seconds):
        try:
            return os.stat(path).st_mtime >= seconds
        except OSError:
            return False

    def since_then(self):
        length, known, offset, when = self.resume
        if length:
            index = self.found_again(length, known)
            chain, since = self.chain(), None
            if index is None:
                # Rotated away altogether: of what is left, all that is later.
                index, offset, since = -1, 0, int(when * 1e6) + 1
            self.start_at(chain[index], offset)
        else:
            # It was empty, or wasn't there: all that was written to since.
            chain, since = [path for path in self.chain() if self.newer(path, when)], None
            self.start_at(chain[-1] if chain else self.path, 0)
        found = []
        while True:
            found += [record for record in self.lines(since) if record.is_wanted()]
            if not self.newer_one(True):
                return found

    def last_line_end(self):
        if not self.file:
            return 0
        size = end = os.fstat(self.file.fileno()).st_size
        while end > 0:
            start = max(0, end - 65536)
            self.file.seek(start)
            at = self.file.read(end - start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
        return 0 if size else 0

    def backward(self, path, end):
        """The records of one file from its end on. Lines that go on with another one come with it."""
        try:
            file = opened(path)
        except OSError:
            return
        with file:
            if path.endswith(".gz"):
                pieces = [file.read()]
            else:
                pieces = self.pieces(file, os.fstat(file.fileno()).st_size if end is None else end)
            rest, later = b"", []
            for piece in pieces:
                lines = (piece + rest).split(b"\n")
                rest = lines[0]
                for line in reversed(lines[1:]):
                    later = yield from self.told(line, later)
            yield from self.told(rest, later)

    def pieces(self, file, end):
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            yield file.read(end - start)
            end = start

    def told(self, line, later):
        if not line:
            return later
        if dissect(self.kind, line.decode("utf-8", "replace")) is None:
            return [line, *later]
        group = [self.record(line), *[self.record(more) for more in later]]
        yield from reversed(group)
        return []

    # What is written from now on.

    def lines(self, since=None):
        """Complete lines that are new, each with the place after it."""
        if not self.file:
            return
        rest = b""
        self.file.seek(self.offset)
        while chunk := self.file.read(1 << 20):
            pieces = (rest + chunk).split(b"\n")
            rest = pieces.pop()
            if len(self.head) < HEAD:
                at = self.file.tell()
                self.file.seek(0)
                self.head = self.file.read(HEAD)
                self.file.seek(at)
            for line in pieces:
                self.offset += len(line) + 1
                record = self.record(line + b"\n", since)
                record.place = self.place()
                yield record

    def is_current(self):
        try:
            own, there = os.fstat(self.file.fileno()), os.stat(self.path)
        except OSError:
            return True
        return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)

    def was_truncated(self):
        """Whether it begins otherwise than it did: copied and emptied, as PostgreSQL's logs are."""
        known = self.head[:HEAD]
        self.file.seek(0)
        return self.file.read(len(known)) != known or os.fstat(self.file.fileno()).st_size < self.offset

    def newer_one(self, at_once=False):
        """Goes on with the next file of the chain if this one is over."""
        if not self.file:
            self.start_at(self.path, 0)
            return self.file is not None
        known = self.head[:HEAD]
        if self.is_current():
            if not known or not self.was_truncated():
                return False
            index = self.found_again(len(known), digest(known))
            if index is None:
                self.start_at(self.path, 0)
            else:
                self.start_at(self.chain()[index], self.offset)
            return True
        if not at_once:
            now = time.monotonic()
            size = os.fstat(self.file.fileno()).st_size
            if self.rotated_at is None or self.rotated_at[1] != size:
                self.rotated_at = (now, size)
            if now - self.rotated_at[0] < QUIET_S:
                return False
        index = self.found_again(len(known), digest(known)) if known else None
        if index == 0:
            self.start_at(self.path, self.offset)
        else:
            self.start_at(self.chain()[index - 1] if index else self.path, 0)
        return True

    def poll(self):
        while self.newer_one():
            yield from self.lines()
        yield from self.lines()


# All of it -------------------------------------------------------------------------------------------------------------


def moment(text):
    """A time as people say it, by the server's clock."""
    words = ["date", "--date", text, "+%s.%N"]
    told = subprocess.run(words, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    if told.returncode:
        refuse(f"`{text}` is no time: such as `10m`, `1 hour ago`, `yesterday`, `2026-01-31 12:00`")
    return int(float(told.stdout) * 1e6)


def main():
    global GREP
    if WANTED["grep"]:
        try:
            # All in lower case finds capitals, too.
            GREP = re.compile(WANTED["grep"], re.I if WANTED["grep"] == WANTED["grep"].lower() else 0)
        except re.error as error:
            refuse(f"`{WANTED['grep']}` is no pattern: {error}")
    threading.Thread(target=listen, daemon=True).start()
    since = moment(WANTED["since"]) if WANTED["since"] else None
    places = WANTED["places"]
    sources = []
    if WANTED["units"]:
        sources.append(Journal(places.get(Journal.name)))
    for kind in WANTED["files"]:
        for path in sorted(glob.glob(kind["path"])) or ([] if "*" in kind["path"] else [kind["path"]]):
            sources.append(Log(kind["process"], kind["kind"], path, places.get(path)))

    found = []
    for source in sources:
        found += source.history(WANTED["lines"], since)
    found.sort(key=lambda record: record.at)
    if WANTED["lines"] is not None and not places:
        found = found[-WANTED["lines"] :] if WANTED["lines"] else []
    for record in found:
        print(record.line())
    for source in sources:
        place = source.place() if callable(source.place) else source.place
        print(json.dumps({"s": source.name, "c": place}))
    sys.stdout.flush()
    if WANTED["follow"]:
        follow(sources)


def follow(sources):
    # nginx writes its access log with a delay; whoever waits that long sees everything in order.
    slow = any(isinstance(source, Log) and source.kind == "access" for source in sources)
    usual = 1_500_000 if slow else 200_000
    arrived, waiting, last, count = queue.Queue(), [], {}, 0

    def keep(record):
        nonlocal count
        # A source's own order is kept, whatever its clock says.
        due = last[record.source] = max(min(record.at, time.time() * 1e6), last.get(record.source, 0))
        count += 1
        heapq.heappush(waiting, (due, count, record))

    for source in sources:
        if isinstance(source, Journal):
            threading.Thread(target=source.follow, args=(arrived,), daemon=True).start()
    logs = [source for source in sources if isinstance(source, Log)]
    while True:
        try:
            keep(arrived.get(timeout=0.1))
            while True:
                keep(arrived.get_nowait())
        except queue.Empty:
            pass
        for log in logs:
            for record in log.poll():
                keep(record)
        now = time.time() * 1e6
        # What is in a file after a renamed one comes when that one has been quiet for long enough.
        hold = usual + QUIET_S * 1_000_000 if any(log.rotated_at for log in logs) else usual
        wrote = False
        while waiting and waiting[0][0] <= now - hold:
            record = heapq.heappop(waiting)[2]
            if record.is_wanted():
                print(record.line())
            else:
                print(json.dumps({"s": record.source, "c": record.place}))
            wrote = True
        if wrote:
            sys.stdout.flush()


try:
    main()
except BrokenPipeError:
    os._exit(0)
