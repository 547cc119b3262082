# A real browser, driven by its own driver (WebDriver): opens the site by HTTPS and logs in to Django's admin. Prints what it saw
# as JSON. Arguments: the driver's port, the server's address, the site's name, user, password, a file for a picture.
import base64
import json
import sys
import urllib.request

port, address, name, user, password, picture = sys.argv[1:]


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request("http://127.0.0.1:%s%s" % (port, path), data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        sys.exit("%s %s: %s" % (method, path, error.read().decode()[:600]))


arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,800",
             "--host-resolver-rules=MAP %s %s" % (name, address)]
wish = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}}}
session = "/session/" + call("POST", "/session", wish)["sessionId"]
try:
    # By HTTP, as people type it.
    call("POST", session + "/url", {"url": "http://%s/" % name})
    seen = {"url": call("GET", session + "/url"), "title": call("GET", session + "/title")}
    script = "const [entry] = performance.getEntriesByType('navigation'); return [entry.nextHopProtocol, isSecureContext]"
    seen["protocol"], seen["secure"] = call("POST", session + "/execute/sync", {"script": script, "args": []})
    call("POST", session + "/url", {"url": "https://%s/admin/" % name})

    def find(css):
        found = call("POST", session + "/element", {"using": "css selector", "value": css})
        return session + "/element/" + next(iter(found.values()))

    call("POST", find("#id_username") + "/value", {"text": user})
    call("POST", find("#id_password") + "/value", {"text": password})
    call("POST", find("input[type=submit]") + "/click", {})
    seen["admin"] = call("GET", find("#user-tools") + "/text")
    cookies = call("GET", session + "/cookie")
    seen["cookies"] = {one["name"]: [one["secure"], one["httpOnly"]] for one in cookies}
    with open(picture, "wb") as file:
        file.write(base64.b64decode(call("GET", session + "/screenshot")))
finally:
    call("DELETE", session)
print(json.dumps(seen))
