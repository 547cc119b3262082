# What an answer of the site means for its health: the beginning of both preflight.py and health.py.
# `SHIP` holds what the release's step says of the site, above this file.
import html
import re
import sys
from urllib.parse import urljoin, urlsplit

# The most redirects that are followed.
HOPS = 5


def fail(cause, *evidence):
    # The last lines are what the user sees; the cause is in the first line of the message.
    for line in evidence:
        print(line)
    print("ship-cause: " + " ".join(str(cause).split()))
    sys.stdout.flush()


def excerpt(body):
    # The first lines of a page, as text.
    text = body[:65536].decode("utf-8", "replace")
    if re.search("(?i)<(!doctype|html|h1|body)", text):
        text = html.unescape(re.sub(r"(?is)<(style|script|head)\b.*?</\1>|<[^>]*>", " ", text))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return ["    " + line[:200] for line in lines if line][:6]


class Walk:
    """The health path and what it redirects to."""

    def __init__(self, host, hosts, scheme="http"):
        self.url = scheme + "://" + host + SHIP["path"]
        self.hosts = {host.lower()} | {name.lower() for name in hosts}
        self.seen = set()
        self.cookies = {}

    def judge(self, status, headers, tolerant):
        """None to go on at self.url, else what is wrong, or an empty text for a healthy answer; and a remark."""
        location = next((value for name, value in headers if name.lower() == "location"), None)
        for name, value in headers:
            if name.lower() == "set-cookie":
                pair = value.split(";")[0].partition("=")
                self.cookies[pair[0].strip()] = pair[2].strip()
        if status in (301, 302, 303, 307, 308) and location:
            target = urlsplit(urljoin(self.url, location))
            if (target.hostname or "").lower() not in self.hosts:
                return "", "%s redirects to %s://%s, which is not one of its domains" % (
                    self.url, target.scheme, target.netloc)
            self.seen.add(self.url)
            before, self.url = self.url, target._replace(fragment="").geturl()
            if self.url in self.seen:
                if target.scheme == "https":
                    return "", "%s redirects to itself even when the request came by https" % before
                return "redirects in a circle", None
            return (None, None) if len(self.seen) <= HOPS else ("redirects more than %d times" % HOPS, None)
        if 200 <= status < 400:
            return "", None
        if status == 401:
            # Who asks for a password is there.
            return "", None
        if status == 404 and tolerant:
            return "", "%s is 404, and nothing says which page to ask for; name one: `django: {health: /path/}`" % SHIP["path"]
        return "answered %d" % status, None


def advice(status, host):
    if status == 403:
        return "ship-hint: visitors may not see it; name a path that anyone may see: `django: {health: /path/}`"
    if status == 404:
        return "ship-hint: name a path that is there: `django: {health: /path/}`"
    if status == 400:
        return "ship-hint: does ALLOWED_HOSTS have %s? It can be read from the environment" % host
    return None
