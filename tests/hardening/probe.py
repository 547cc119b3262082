"""Tries what a process of the site must not be able to do, and writes down what it could: `name: yes`, or the reason why not."""
import ctypes
import os
import socket
import sys
import time

name, outside = sys.argv[1], sys.argv[2]
found = []


def attempt(what, work):
    try:
        work()
        found.append("%s: yes" % what)
    except Exception as error:
        found.append("%s: no (%s)" % (what, error))


def write(path):
    with open(path, "a"):
        pass


def connect(host, port):
    socket.create_connection((host, port), 3).close()


def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def bind(port):
    with socket.socket() as one:
        one.bind(("127.0.0.1", port))


here = os.getcwd()
attempt("write its code", lambda: write(here + "/manage.py"))
attempt("add to its code", lambda: write(here + "/new.py"))
attempt("write its packages", lambda: write(sys.prefix + "/new.pth"))
attempt("write its overlay", lambda: write("/etc/ship/library/overlay/v1/ship_settings.py"))
attempt("write to /srv/library", lambda: write("/srv/library/new"))
attempt("write to /etc", lambda: write("/etc/new"))
attempt("write to /var/tmp of all", lambda: os.stat("/var/tmp/canary"))
attempt("read its own shared folder", lambda: os.listdir("/srv/library/shared"))
attempt("write to its shared folder", lambda: write("/srv/library/shared/made-by-" + name))
attempt("read its media", lambda: os.listdir("/srv/library/shared/media"))
attempt("use shared memory", lambda: __import__("multiprocessing").Lock())
attempt("run other programs", lambda: __import__("subprocess").run(["/bin/true"], check=True))
# As a compiler at run time does: memory to write to and to run.
attempt("make code", lambda: __import__("mmap").mmap(-1, 4096, prot=7).close())
for path in ["/etc/shadow", "/etc/ship/second/v1.env", "/etc/ship/second/config/00-generated.env",
             "/etc/ship/library/config/00-generated.env", "/etc/ship/library/database.password",
             "/srv/second/releases/v1/manage.py", "/srv/second/shared/canary",
             "/srv/second/shared/database/db.sqlite3", "/root/.ssh/authorized_keys", "/home/canary", "/dev/kmsg", "/dev/mem",
             "/etc/ssh/ssh_host_ed25519_key"]:
    attempt("read " + path, lambda: open(path).read(1))
attempt("see other processes", lambda: os.stat("/proc/1/environ"))
attempt("use a port of another site", lambda: bind(8001))
attempt("make a user namespace", lambda: call(272, 0x10000000))
attempt("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, 0))
attempt("load a kernel module", lambda: call(175, 0, 0, 0))
attempt("trace", lambda: call(101, 16, os.getppid(), 0, 0))
attempt("open a raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("open a packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("reach its database", lambda: connect("127.0.0.1", 5432))
attempt("reach its database by its socket", lambda: socket.socket(socket.AF_UNIX).connect("/run/postgresql/.s.PGSQL.5432"))
attempt("reach another host", lambda: connect(outside, 22))

path = "/srv/library/shared/media/probe-" + name
with open(path + ".new", "w") as out:
    out.write("\n".join(found) + "\n")
os.rename(path + ".new", path)
while name != "job":
    time.sleep(60)
