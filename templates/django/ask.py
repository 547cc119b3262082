# Asks the project's own Django what the server needs to know. A module of preflight.py's program.
import json
import os
import re
import sys
import traceback


def tell(text):
    # Lines that begin so are shown to the user.
    print("ship: " + text, file=sys.stderr)


def causes(error):
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def missing(error):
    """The variables that an error says are not set."""
    kind, text = type(error).__name__, str(error)
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, KeyError) and error.args:
        last = frames[-1].filename if frames else ""
        if last == "<frozen os>" or last.endswith("/os.py"):
            return [str(error.args[0])]
        # starlette's and other readers' own words
        text = str(error.args[0])
    for pattern in (
        r"^(\w+) not found\. Declare it as envvar",
        r"[Ss]et the (\w+) env(?:ironment)? ?var",
        r"[Ee]nvironment variable ['\"]?(\w+)['\"]?,? (?:is )?(?:not set|missing|required|not found)",
        r"[Mm]issing (?:required )?environment variable:? ['\"]?(\w+)",
        r"^Config '(\w+)' is missing, and has no default",
    ):
        found = re.search(pattern, text)
        if found:
            return [found.group(1)]
    if kind == "ValidationError" and callable(getattr(error, "errors", None)):
        # pydantic-settings: a field is read from the variable of its name.
        names = [one["loc"][-1] for one in error.errors() if one.get("type") in ("missing", "value_error.missing") and one.get("loc")]
        return [str(name).upper() for name in names]
    return []


def place(error, release):
    """The project's line that asked for it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(release + os.sep)]
    return "%s:%d" % (os.path.relpath(frames[-1].filename, release), frames[-1].lineno) if frames else None


def lacks(error, release):
    """What the user must give, with a hint, when that is behind an error."""
    for one in causes(error):
        names = missing(one)
        if names:
            where = place(one, release) or place(error, release)
            verb = "is" if len(names) == 1 else "are"
            by = ", and %s reads %s" % (where, "it" if len(names) == 1 else "them") if where else ""
            cause = "%s %s not set%s" % (", ".join(names), verb, by)
            return cause, "ship config set " + " ".join(name + "=…" for name in names)
        if isinstance(one, OSError) and one.filename and os.path.basename(str(one.filename)) != ".env":
            path = os.path.realpath(str(one.filename))
            if isinstance(one, FileNotFoundError) and path.startswith(release + os.sep):
                name = os.path.relpath(path, release)
                cause = "the settings read %s, which the release doesn't have" % name
                return cause, "a file that git must not have is placed by ship.yml: `files: [%s]`" % name
    return None


def relative(path, release):
    if not path:
        return None
    path = os.path.normpath(os.path.join(os.getcwd(), str(path)))
    return os.path.relpath(path, release) if path.startswith(release + os.sep) else path


def url(value):
    value = str(value or "")
    return value if value.startswith("/") and value != "/" else None


def masked(text):
    return re.sub(r"(://[^:/@]*:)\S*@", r"\1***@", str(text))


def plain(value):
    """What JSON can hold, without passwords."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(one) for one in value]
    return value if isinstance(value, (bool, int, float, type(None))) else masked(value)


def local_files():
    """Whether uploads are files of this server."""
    try:
        from django.core.files.storage import FileSystemStorage, default_storage

        default_storage._setup()
        return isinstance(default_storage._wrapped, FileSystemStorage)
    except Exception:
        # What is wrong with it, the project's own pages will say.
        return False


def settings_told(release, domains):
    """Prints what the settings are, and returns what nginx and the shared folders depend on, as JSON. Paths inside the
    release come back relative."""
    import django
    from django.conf import settings
    from django.http.request import validate_host

    static = "django.contrib.staticfiles" in settings.INSTALLED_APPS
    media = bool(settings.MEDIA_ROOT) and local_files()
    answer = {
        "static_url": url(settings.STATIC_URL) if static else None,
        "static_root": relative(settings.STATIC_ROOT, release) if static else None,
        "media_url": url(settings.MEDIA_URL) if media else None,
        "media_root": relative(settings.MEDIA_ROOT, release) if media else None,
    }

    database = settings.DATABASES.get("default", {})
    name = str(database.get("NAME") or "")
    if database.get("ENGINE", "").endswith(("sqlite3", "spatialite")) and relative(name, release) != os.path.normpath(name):
        sys.exit(
            "The settings keep SQLite inside the release (%s), where nothing can be written and nothing stays.\n"
            "Let them read DATABASE_URL from the environment, for example with dj-database-url." % relative(name, release)
        )
    overlaid = getattr(settings, "SHIP_OVERRIDES", None)
    if overlaid is None and os.environ.get("DJANGO_SETTINGS_MODULE") == "ship_settings":
        tell("something sets other settings than ship's: what production needs is not laid over them")
    if settings.DEBUG:
        tell("the settings have DEBUG on, whatever the environment says; let them read DEBUG")
    for host in [host for host in domains if not settings.DEBUG and not validate_host(host, settings.ALLOWED_HOSTS)]:
        tell("the settings' ALLOWED_HOSTS refuses %s; let them read ALLOWED_HOSTS from the environment" % host)

    if static and not settings.STATIC_ROOT:
        tell("the settings have no STATIC_ROOT, so nothing serves the static files; set STATIC_ROOT = BASE_DIR / \"staticfiles\"")
    if media and os.path.isabs(answer["media_root"]) and not answer["media_root"].startswith(release.partition("/releases/")[0] + "/"):
        tell("MEDIA_ROOT is %s, outside the project, where the site can't write" % settings.MEDIA_ROOT)

    told = {
        "django": django.get_version(),
        "overrides": overlaid or [],
        "debug": bool(settings.DEBUG),
        "installed_apps": list(settings.INSTALLED_APPS),
        "wsgi_application": settings.WSGI_APPLICATION,
        "asgi_application": getattr(settings, "ASGI_APPLICATION", None),
        "auth_user_model": settings.AUTH_USER_MODEL,
        "databases": {
            alias: {key.lower(): plain(one.get(key)) for key in ("ENGINE", "NAME", "HOST", "PORT", "USER")}
            for alias, one in settings.DATABASES.items()
        },
        "caches": {
            alias: {"backend": one.get("BACKEND"), "location": plain(one.get("LOCATION"))} for alias, one in settings.CACHES.items()
        },
        "channel_layers": {
            alias: {"backend": one.get("BACKEND"), "hosts": plain((one.get("CONFIG") or {}).get("hosts"))}
            for alias, one in (getattr(settings, "CHANNEL_LAYERS", None) or {}).items()
        },
        "celery_broker_url": plain(getattr(settings, "CELERY_BROKER_URL", None) or getattr(settings, "BROKER_URL", None)),
        "storages": {
            alias: one.get("BACKEND") for alias, one in (getattr(settings, "STORAGES", None) or {}).items() if isinstance(one, dict)
        },
        "static_url": plain(settings.STATIC_URL),
        "static_root": plain(settings.STATIC_ROOT),
        "media_url": plain(settings.MEDIA_URL),
        "media_root": plain(settings.MEDIA_ROOT),
        "session_engine": settings.SESSION_ENGINE,
    }
    for one in overlaid or []:
        print("ship-override: %(name)s: %(old)s → %(new)s (%(why)s)" % one)
    print("ship-settings: " + json.dumps(told, sort_keys=True, separators=(",", ":")))
    return json.dumps(answer, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
