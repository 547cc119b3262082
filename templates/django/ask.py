# Asks the project's own Django what the server needs to know, and prints one line of JSON.
# Arguments: the release's folder, then the site's domains. Paths inside the release come back relative.
import json
import os
import sys

sys.path.insert(0, os.getcwd())
sys.dont_write_bytecode = True
release = os.path.realpath(sys.argv[1])

import django

django.setup()
from django.conf import settings


def relative(path):
    if not path:
        return None
    path = os.path.normpath(os.path.join(os.getcwd(), str(path)))
    return os.path.relpath(path, release) if path.startswith(release + os.sep) else path


def url(value):
    value = str(value or "")
    return value if value.startswith("/") and value != "/" else None


static = "django.contrib.staticfiles" in settings.INSTALLED_APPS
answer = {
    "static_url": url(settings.STATIC_URL) if static else None,
    "static_root": relative(settings.STATIC_ROOT) if static else None,
    "media_url": url(settings.MEDIA_URL),
    "media_root": relative(settings.MEDIA_ROOT),
}


def tell(text):
    # Lines that begin so are shown to the user.
    print("ship: " + text, file=sys.stderr)


database = settings.DATABASES.get("default", {})
name = str(database.get("NAME") or "")
if database.get("ENGINE", "").endswith("sqlite3") and relative(name) != os.path.normpath(name):
    sys.exit(
        "The settings keep SQLite inside the release (%s), where nothing can be written and nothing stays.\n"
        "Let them read DATABASE_URL from the environment, for example with dj-database-url." % relative(name)
    )
if settings.DEBUG:
    tell("the settings have DEBUG on, whatever the environment says; let them read DEBUG")
from django.http.request import validate_host

for host in [host for host in sys.argv[2:] if not settings.DEBUG and not validate_host(host, settings.ALLOWED_HOSTS)]:
    tell("the settings' ALLOWED_HOSTS refuses %s; let them read ALLOWED_HOSTS from the environment" % host)

if static and not settings.STATIC_ROOT:
    tell("the settings have no STATIC_ROOT, so nothing serves the static files; set STATIC_ROOT = BASE_DIR / \"staticfiles\"")
if settings.MEDIA_ROOT and os.path.isabs(relative(settings.MEDIA_ROOT)):
    tell("MEDIA_ROOT is %s, outside the project, where the site can't write" % settings.MEDIA_ROOT)

print(json.dumps(answer, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
