# Packs static files, each beside itself, for nginx's gzip_static. Argument: their folder.
#
# nginx asks only whether the packed file is there. So what does not hold its file's content any more is removed before
# anything else; what somebody else has packed is theirs, and stays.
import concurrent.futures
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


def pack(path):
    with open(path, "rb") as file:
        content = file.read()
    beside, new = path + ".gz", os.path.join(os.path.dirname(path), ".%s.gz.new" % os.path.basename(path))
    before = packed_before(beside)
    if before and before[1] == struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF):
        return
    if before:
        if not before[0]:
            return
        os.unlink(beside)
    if len(content) < LEAST:
        return
    try:
        with open(new, "wb") as file, gzip.GzipFile(NAME, "wb", 6, file, mtime=0) as packer:
            packer.write(content)
        if os.path.getsize(new) < len(content) * 0.9:
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
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for done in [pool.submit(pack, path) for path in found]:
        try:
            done.result()
        except OSError as error:
            # The site is as well without: nginx packs what it sends.
            print("static files are not packed: %s" % error)
            break
