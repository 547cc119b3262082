"""Connects to every TCP port of an address and prints those that answer. Arguments: the address, the ports to try (1-65535)."""
import resource
import select
import socket
import sys
import time

address, span = sys.argv[1], sys.argv[2]
first, last = map(int, span.split("-"))
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
family, kind, proto, _, target = socket.getaddrinfo(address, 1, type=socket.SOCK_STREAM)[0]
# What is dropped never answers: many at once, and a second chance for those that got lost.
batch = min(8000, limit - 100)
open_ports, refused, left = set(), 0, list(range(first, last + 1))
for turn in range(2):
    silent = []
    for start in range(0, len(left), batch):
        poller, waiting = select.epoll(), {}
        for port in left[start:start + batch]:
            one = socket.socket(family, kind, proto)
            one.setblocking(False)
            result = one.connect_ex((target[0], port) + tuple(target[2:]))
            waiting[one.fileno()] = (one, port)
            poller.register(one.fileno(), select.EPOLLOUT)
        deadline = time.monotonic() + (1.5 if turn == 0 else 1)
        while waiting and time.monotonic() < deadline:
            for number, _ in poller.poll(max(0.01, deadline - time.monotonic())):
                one, port = waiting.pop(number)
                error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                poller.unregister(number)
                one.close()
                if error == 0:
                    open_ports.add(port)
                elif error == 111:
                    refused += 1
                else:
                    silent.append(port)
        for one, port in waiting.values():
            one.close()
            silent.append(port)
        poller.close()
    # The second time only where something is likely to be.
    left = [port for port in silent if port < 11000]
print(" ".join(map(str, sorted(open_ports))), "refused", refused)
