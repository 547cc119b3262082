# Asks the site for its health path through nginx on this server, once for each name that it answers to.
#
# As long as two releases share the listening socket, either may answer: an answer counts when it is the new
# release's, which says so to whoever asks from this server. Where gunicorn's settings are someone's own and say
# nothing, every answer counts. With a second argument, it waits for a line first.
import http.client
import json
import socket
import ssl
import time

known = json.loads(sys.argv[1] or "{}")
tolerant = SHIP["guessed"] and known.get("status") == 404
names = SHIP["domains"] or [known.get("host") or "localhost"]


class Https(http.client.HTTPSConnection):
    """To this server by a name of the site's. Whether the certificate is one to trust is not the release's business."""

    def __init__(self, name):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        super().__init__("127.0.0.1", SHIP["tls"], timeout=SHIP["timeout"], context=context)
        self.name = name

    def connect(self):
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.name)


def has_tls():
    try:
        socket.create_connection(("127.0.0.1", SHIP["tls"]), SHIP["timeout"]).close()
        return True
    except OSError:
        return False


if sys.argv[2:]:
    # It was started before there is anything to ask.
    sys.stdin.readline()
TLS = has_tls()


def ask(url, cookies):
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection = Https(parts.hostname)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", SHIP["web"], timeout=SHIP["timeout"])
    headers = {"Host": parts.hostname, "X-Ship-Check": SHIP["release"], "User-Agent": "ship", "Accept": "text/html,*/*"}
    if cookies:
        headers["Cookie"] = "; ".join("%s=%s" % pair for pair in cookies.items())
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    try:
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read(1 << 16)
    finally:
        connection.close()


def once(name):
    """Whose answer it was (None if nobody said), what is wrong with it, and its first lines."""
    walk, whose = Walk(name, SHIP["domains"]), None
    while True:
        url = walk.url
        what = "GET " + url
        if url.startswith("https:") and not TLS:
            # Whether there is TLS is not the release's business.
            return whose, "", [], 0
        try:
            status, headers, body = ask(url, walk.cookies)
        except TimeoutError:
            return whose, "%s took longer than %s s (`django.health.timeout`)" % (what, SHIP["timeout"]), [], 0
        except (OSError, http.client.HTTPException) as error:
            return whose, "%s: %s" % (what, error or type(error).__name__), [], 0
        whose = next((value for key, value in headers if key.lower() == "x-ship-release"), None)
        if whose is not None and whose != SHIP["release"]:
            # The old one's page says nothing of the new one.
            return whose, "", [], status
        wrong, _ = walk.judge(status, headers, tolerant)
        if wrong is not None:
            return whose, wrong and "%s %s" % (what, wrong), excerpt(body), status


def settle(name):
    """What is wrong with the new release's answers under a name, and the evidence."""
    bad, silent, asked = [], None, 0
    patience = SHIP["timeout"] + 5
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        asked += 1
        whose, wrong, lines, status = once(name)
        if whose == SHIP["release"]:
            if not wrong:
                return None
            bad.append((wrong, lines, status))
            # An answer may fail for a moment's reason; the third of a kind doesn't.
            if len(bad) == 3:
                break
            time.sleep(0.2)
        elif whose is None:
            silent = (wrong, lines, status)
            if (not wrong and asked >= 20) or "took longer" in wrong:
                break
            time.sleep(0.05)
        else:
            time.sleep(0.002)
    if bad:
        return bad[-1]
    if silent is None:
        return "%s did not answer any request for %s s" % (SHIP["release"], patience), [], 0
    return silent if silent[0] else None


for name in names:
    trouble = settle(name)
    if trouble:
        wrong, lines, status = trouble
        hint = advice(status, name)
        fail(wrong, *lines, *([hint] if hint else []))
        sys.exit(1)
