# Visitors of a site by HTTPS, half of whom keep their connection, until standard input ends. Every certificate is verified.
# Prints how many requests there were, what went wrong, and the certificates that were seen, in order.
# Arguments: the server's address, the site's name, a file with the root to trust.
import hashlib
import http.client
import json
import socket
import ssl
import sys
import threading
import time

address, name, root = sys.argv[1:]
context = ssl.create_default_context(cafile=root)
lock, stop = threading.Lock(), threading.Event()
seen = {"requests": 0, "failed": [], "certificates": []}


class Connection(http.client.HTTPSConnection):
    def connect(self):
        plain = socket.create_connection((address, 443), 20)
        self.sock = context.wrap_socket(plain, server_hostname=name)
        mark = hashlib.sha256(self.sock.getpeercert(True)).hexdigest()
        with lock:
            if mark not in seen["certificates"]:
                seen["certificates"].append(mark)


def visit(keeps):
    connection = None
    while not stop.is_set():
        # nginx may close a kept connection between two requests when it reads its files anew; a browser asks again then.
        if connection is not None and connection.sock is not None:
            connection.sock.settimeout(0)
            try:
                gone = connection.sock.recv(1) == b""
            except (ssl.SSLWantReadError, BlockingIOError):
                gone = False
            except OSError:
                gone = True
            if gone:
                connection = None
            else:
                connection.sock.settimeout(20)
        wrong = None
        try:
            connection = connection or Connection(name)
            connection.request("GET", "/", headers={} if keeps else {"Connection": "close"})
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status != 200 or not text.rstrip().endswith("</html>"):
                wrong = "%d: %s" % (answer.status, text[:200])
        except Exception as error:
            wrong = "%s: %s" % (type(error).__name__, error)
        with lock:
            seen["requests"] += 1
            if wrong:
                seen["failed"].append(wrong)
        if wrong or not keeps:
            connection = None
        time.sleep(0.02)


threads = [threading.Thread(target=visit, args=(index % 2 == 0,)) for index in range(6)]
for thread in threads:
    thread.start()
sys.stdin.read()
stop.set()
for thread in threads:
    thread.join()
print(json.dumps(seen))
