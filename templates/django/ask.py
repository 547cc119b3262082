# Asks the project's own Django what the server needs to know, and prints one line of JSON.
# Arguments: the release's folder. Paths inside it come back relative.
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
print(json.dumps(answer, sort_keys=True, separators=(",", ":")))
