# Asks a release, in the unit's own environment, whether it can serve: before anything of it runs for visitors.
#
# Loads the WSGI callable as gunicorn does, runs `check --deploy`, and asks for the health path as nginx would.
# What later steps of the same release may cure (a column that its migration adds, a static file that is yet to
# be collected) is no failure the first time, and final the second.
import io
import json
import os
import threading
import traceback
from urllib.parse import unquote_to_bytes

STAGE = os.environ.pop("SHIP_PREFLIGHT", "first").split(",")
sys.path[:1] = [os.getcwd()]
sys.dont_write_bytecode = True
result = {"host": None, "status": None, "pending": [], "again": None}


def stop(cause, *evidence):
    # What the project's own log said of it stands before.
    print("ship-evidence")
    fail(cause, *evidence)
    end(1)


def end(code):
    print("ship-result: " + json.dumps(result, sort_keys=True))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that the project started must not keep it here.
    os._exit(code)


class Limit:
    """Ends everything when what is done takes too long, and shows where it hangs."""

    def __init__(self, what, seconds, setting):
        self.what, self.seconds, self.setting = what, seconds, setting
        self.done = threading.Event()
        self.thread = threading.get_ident()

    def __enter__(self):
        threading.Thread(target=self.watch, daemon=True).start()

    def __exit__(self, *_):
        self.done.set()

    def watch(self):
        if self.done.wait(self.seconds):
            return
        frame = sys._current_frames().get(self.thread)
        stack = traceback.format_stack(frame) if frame else []
        stack = [entry for entry in stack if '"<stdin>"' not in entry]
        stop(
            "%s took longer than %s s (`%s`)" % (self.what, self.seconds, self.setting),
            "It is here, the innermost call last:",
            "".join(stack[-8:]).rstrip(),
        )


def chain(error):
    seen = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    return seen


def curable(error):
    """What the steps between the first and the final preflight may cure."""
    if "final" in STAGE:
        return None
    try:
        from django.db import Error as DatabaseError
    except ImportError:
        return None

    for one in chain(error):
        if isinstance(one, DatabaseError) and result["pending"]:
            return "migrations"
        frames = traceback.extract_tb(one.__traceback__)
        if any(frame.filename.endswith("/staticfiles/storage.py") for frame in frames):
            return "static files"
    return None


def told(error):
    text = str(error).strip().splitlines()
    return "%s: %s" % (type(error).__name__, text[0]) if text else type(error).__name__


def refuse(what, error, *evidence):
    cure = curable(error)
    if cure:
        result["again"] = "%s: %s" % (cure, told(error))
        end(0)
    stop((what + ": " if what else "") + told(error), *evidence, *shown(error))


def shown(error):
    """The traceback without the stairs of import and of the middleware: the project's frames, and the last two."""
    causes = [error]
    while causes[-1] is not None:
        last = causes[-1]
        causes.append(last.__cause__ or (None if last.__suppress_context__ else last.__context__))
    lines = []
    for one in reversed(causes[:-1][:4]):
        frames = [frame for frame in traceback.extract_tb(one.__traceback__) if not frame.filename.startswith("<")]
        keep = [i >= len(frames) - 2 or frame.filename.startswith(SHIP["folder"]) for i, frame in enumerate(frames)]
        lines.append("Traceback (most recent call last):")
        for i, frame in enumerate(frames):
            if keep[i]:
                lines.append("".join(traceback.format_list([frame])).rstrip())
            elif i == 0 or keep[i - 1]:
                lines.append("  ...")
        lines.append("".join(traceback.format_exception_only(type(one), one)).rstrip())
    return lines


def pending():
    from django.db import DEFAULT_DB_ALIAS, connections
    from django.db.migrations.executor import MigrationExecutor

    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "unknown":
        return []
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return ["%s.%s" % (migration.app_label, migration.name) for migration, _ in plan]


def load():
    try:
        # As gunicorn does it, and with its words for what is not there.
        from gunicorn.util import import_app

        return import_app(SHIP["wsgi"])
    except SystemExit as error:
        stop("loading %s: it calls exit(%s)" % (SHIP["wsgi"], error.code))
    except BaseException as error:
        try:
            result["pending"] = pending()
        except BaseException:
            pass
        refuse("loading " + SHIP["wsgi"], error)


def check():
    from django.core import checks

    try:
        found = checks.run_checks(include_deployment_checks=True)
    except BaseException as error:
        refuse("check --deploy", error)
    found = [message for message in found if not message.is_silenced()]
    errors = [message for message in found if message.is_serious()]
    if errors:
        first = errors[0]
        cause = "check --deploy: %s (%s)" % (" ".join(str(first.msg).split()), first.id)
        stop(cause, *[str(message) for message in errors[:10]])
    security, rest = [], []
    for message in found:
        if message.level < checks.WARNING:
            continue
        name = re.search(r"\b[A-Z]{3,}(_[A-Z]+)+\b", str(message.msg))
        if str(message.id).startswith("security.") and name:
            security.append("%s (%s)" % (name.group(), message.id))
        else:
            text = " ".join(("" if message.obj is None else "%s: " % message.obj + "").split() + str(message.msg).split())
            rest.append("%s (%s)" % (text[:200], message.id))
    if security:
        print("ship-warning: check --deploy warns of " + ", ".join(sorted(security)))
    for line in rest:
        print("ship-warning: check: " + line)


def host():
    """The name that a visitor comes with: the first domain, else one that the settings accept."""
    from django.conf import settings
    from django.http.request import validate_host

    if SHIP["domains"]:
        return SHIP["domains"][0]
    names = ["localhost", "127.0.0.1"]
    if settings.DEBUG and not settings.ALLOWED_HOSTS:
        return "localhost"
    names += [name.lstrip(".") for name in settings.ALLOWED_HOSTS if "*" not in name]
    return next((name for name in names if validate_host(name, settings.ALLOWED_HOSTS)), names[0])


def environ(url, cookies):
    """A request as it comes from nginx through gunicorn."""
    parts = urlsplit(url)
    port = "443" if parts.scheme == "https" else "80"
    path = parts.path or "/"
    made = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "RAW_URI": path + ("?" + parts.query if parts.query else ""),
        "QUERY_STRING": parts.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(SHIP["port"]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "0",
        "HTTP_HOST": parts.hostname,
        "HTTP_X_REAL_IP": "127.0.0.1",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "HTTP_X_FORWARDED_PROTO": parts.scheme,
        "HTTP_X_FORWARDED_HOST": parts.hostname,
        "HTTP_X_FORWARDED_PORT": port,
        "HTTP_CONNECTION": "close",
        "HTTP_USER_AGENT": "ship",
        "HTTP_ACCEPT": "text/html,*/*",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": parts.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    if cookies:
        made["HTTP_COOKIE"] = "; ".join("%s=%s" % pair for pair in cookies.items())
    return made


def ask(application, url, cookies):
    """Status, headers, the beginning of the body, and the exception behind an error page."""
    from django.core.signals import got_request_exception

    seen, answer, raised = [], {}, []
    note = lambda **_: seen.append(sys.exc_info()[1])

    def start_response(status, headers, exc_info=None):
        answer.update(status=int(status.split(" ")[0]), headers=headers)
        return lambda data: None

    def serve():
        # In a thread, as gunicorn serves it.
        try:
            with Limit("GET " + urlsplit(url).path, SHIP["timeout"], "django.health.timeout"):
                body, size = [], 0
                made = application(environ(url, cookies), start_response)
                try:
                    for piece in made:
                        body.append(piece)
                        size += len(piece)
                        if size > 1 << 20:
                            break
                finally:
                    if hasattr(made, "close"):
                        made.close()
                answer["body"] = b"".join(body)
        except BaseException as error:
            raised.append(error)

    got_request_exception.connect(note, weak=False)
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    got_request_exception.disconnect(note)
    return answer, (raised + seen + [None])[0]


def request(application):
    walk = Walk(result["host"], SHIP["domains"])
    while True:
        url = walk.url
        what = "GET %s as %s" % (urlsplit(url).path, urlsplit(url).hostname)
        answer, error = ask(application, url, walk.cookies)
        status = answer.get("status")
        if status is None or "body" not in answer:
            if error is None:
                stop(what + ": no answer")
            refuse(what, error)
        if status >= 500 and error is not None:
            page = ["It answers:"] + excerpt(answer["body"])
            refuse("%s answered %d" % (what, status), error, *page)
        wrong, remark = walk.judge(status, answer["headers"], SHIP["guessed"] and "tolerant" in STAGE)
        if remark:
            print("ship-warning: " + remark)
        if wrong is None:
            continue
        result["status"] = status
        if not wrong:
            return
        if status >= 500 and result["pending"] and "final" not in STAGE:
            # A page that looks at the schema by itself and says that it isn't ready.
            result["again"] = "migrations: %s %s" % (what, wrong)
            return
        hint = advice(status, result["host"])
        stop("%s %s" % (what, wrong), *excerpt(answer["body"]), *([hint] if hint else []))


with Limit("loading " + SHIP["wsgi"], SHIP["boot_timeout"], "processes.web.boot_timeout"):
    application = load()
    import django
    from django.apps import apps

    if not apps.ready:
        try:
            django.setup()
        except BaseException as error:
            refuse("django.setup()", error)
with Limit("looking for migrations", SHIP["boot_timeout"], "processes.web.boot_timeout"):
    try:
        result["pending"] = pending()
    except BaseException as error:
        refuse("looking for migrations", error)
with Limit("check --deploy", SHIP["boot_timeout"], "processes.web.boot_timeout"):
    check()
result["host"] = host()
request(application)
end(0)
