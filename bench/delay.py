"""A line with a round-trip time to a box: two TUN devices, one here, one in the box's network namespace, joined by this
program, which holds each packet for half of it. Works where the kernel has no netem. As root; ends when it is told to.

    bench/delay.py NETNS HERE THERE MILLISECONDS     prints `ready`; the box then has the address THERE
"""

import collections
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
TUN_WITHOUT_HEADER = 0x0001 | 0x1000
# Packets longer than an Ethernet's would let fewer of them carry the same, as no real line does.
MTU = 1500


def tun(name: str) -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22s", name.encode(), TUN_WITHOUT_HEADER, b""))
    return device


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def forward(ends: tuple[int, int], delay: float) -> None:
    """Passes packets on for ever. A packet waits in the queue of the end it leaves by, with the time when it may."""
    waiting = {end: collections.deque() for end in ends}
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    while True:
        due = min((queue[0][0] for queue in waiting.values() if queue), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select(ends, [], [], timeout)
        for end in readable:
            # A few at a time, so that what is due does not wait for a long burst.
            for _ in range(64):
                try:
                    packet = os.read(end, MTU + 64)
                except BlockingIOError:
                    break
                waiting[other[end]].append((time.monotonic() + delay, packet))
        now = time.monotonic()
        for end, queue in waiting.items():
            while queue and queue[0][0] <= now:
                try:
                    os.write(end, queue[0][1])
                except BlockingIOError:
                    break
                except OSError:
                    pass  # the end refuses the packet, as a line may
                queue.popleft()


def main() -> None:
    netns, here, there, milliseconds = sys.argv[1:]
    near, far = f"bn{os.getpid() % 10**6}", f"bf{os.getpid() % 10**6}"
    ends = tun(near), tun(far)
    ip("link", "set", far, "netns", netns)
    ip("addr", "add", here, "peer", there, "dev", near)
    ip("link", "set", near, "mtu", str(MTU), "txqueuelen", "10000", "up")
    ip("-n", netns, "addr", "add", there, "peer", here, "dev", far)
    ip("-n", netns, "link", "set", far, "mtu", str(MTU), "txqueuelen", "10000", "up")
    print("ready", flush=True)
    # The devices go when this process does.
    forward(ends, float(milliseconds) / 2000)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main()
