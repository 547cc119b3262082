# Packs static files, each beside itself, for nginx's gzip_static. Argument: their folder.
#
# nginx asks only whether the packed file is there. So what does not hold its file's content any more is removed before
# anything else; what somebody else has packed is theirs, and stays. A packed file has the time of the file it was made of.
import gzip
import os
import struct
import sys
import zlib

ENDINGS = (".css", ".html", ".htm", ".js", ".json", ".map", ".mjs", ".otf", ".svg", ".ttf", ".txt", ".wasm", ".webmanifest", ".xml")
# Smaller ones nginx sends as they are.
LEAST = 512
# The name in the header of a packed file tells whose it is.
NAME = "ship"


def packed_before(path):
    """Of a packed file: whether it is ship's own, and the checksum and size of what is in it. None if there is none."""
    try:
        with open(path, "rb") as file:
            head = file.read(10 + len(NAME) + 1)
            own = head[3:4] == b"\x08" and head[10:] == NAME.encode() + b"\0"
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8))
            return own, file.read()
    except FileNotFoundError:
        return None


def is_as_old(path, beside):
    try:
        return os.stat(path).st_mtime_ns == os.stat(beside).st_mtime_ns
    except FileNotFoundError:
        return False


def pack(path):
    beside, new = path + ".gz", os.path.join(os.path.dirname(path), ".%s.gz.new" % os.path.basename(path))
    if is_as_old(path, beside):
        return
    with open(path, "rb") as file:
        content, made = file.read(), os.fstat(file.fileno()).st_mtime_ns
    before = packed_before(beside)
    if before and not before[0]:
        return
    if before and before[1] == struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF):
        os.utime(beside, ns=(made, made))
        return
    if before:
        os.unlink(beside)
    if len(content) < LEAST:
        return
    try:
        with open(new, "wb") as file, gzip.GzipFile(NAME, "wb", 6, file, mtime=0) as packer:
            packer.write(content)
        if os.path.getsize(new) < len(content) * 0.9:
            os.utime(new, ns=(made, made))
            os.replace(new, beside)
        else:
            os.unlink(new)
    except BaseException:
        if os.path.exists(new):
            os.unlink(new)
        raise


folder = sys.argv[1]
found, left = [], []
for top, _, names in os.walk(folder):
    there = set(names)
    found += [os.path.join(top, name) for name in names if name.lower().endswith(ENDINGS)]
    left += [os.path.join(top, name) for name in names if name.endswith(".gz") and name[:-3] not in there]
for path in left:
    if (packed_before(path) or [False])[0]:
        os.unlink(path)
why = None
for path in found:
    try:
        pack(path)
    except OSError as error:
        why = error
if why:
    # The site is as well without: nginx packs what it sends.
    print("not all static files are packed: %s" % why)
