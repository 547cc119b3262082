"""Visitors at a fixed rate, each with a connection of its own, whatever the site does meanwhile.

    bench/load.py URL RATE SECONDS TEXT     until SIGTERM, at most SECONDS; prints one line of JSON

A request has failed if there is no answer within 10 s, if it isn't 200, or if TEXT is not in it. Its time counts from when
it was due, so that a stalled site is seen by all who would have come meanwhile.
"""

import asyncio
import json
import signal
import sys
import time
import urllib.parse

PATIENCE = 10


async def ask(host: str, port: int, path: str, text: bytes) -> str:
    """What went wrong, or nothing."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read(-1)
    finally:
        writer.close()
    status = answer[9:12].decode(errors="replace")
    if status != "200":
        return f"status {status or 'missing'}"
    return "" if text in answer else "wrong content"


async def main() -> None:
    url, rate, limit, text = urllib.parse.urlsplit(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    times, failures = [], {}

    async def visit(due: float) -> None:
        try:
            where = url.hostname, url.port or 80, url.path or "/"
            wrong = await asyncio.wait_for(ask(*where, text.encode()), PATIENCE)
        except (OSError, asyncio.TimeoutError) as error:
            wrong = type(error).__name__
        times.append(time.monotonic() - due)
        if wrong:
            failures[wrong] = failures.get(wrong, 0) + 1

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    visits, begin = [], time.monotonic()
    while not stop.is_set() and time.monotonic() - begin < limit:
        due = begin + len(visits) / rate
        pause = due - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        visits.append(asyncio.create_task(visit(due)))
    await asyncio.gather(*visits)
    times.sort()

    def share(part: float) -> float | None:
        return round(times[min(len(times) - 1, int(part * len(times)))] * 1000, 1) if times else None

    report = {
        "requests": len(times),
        "failed": sum(failures.values()),
        "failures": failures,
        "median_ms": share(0.5),
        "p99_ms": share(0.99),
        "slowest_ms": share(1),
        "stopped": stop.is_set(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    asyncio.run(main())
