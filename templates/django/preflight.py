# Asks a release, in the unit's own environment, what it needs and whether it can serve: before anything of it runs for visitors.
#
# Loads the WSGI or ASGI callable as the server does, tells the settings and the pending migrations, runs `check --deploy`, and
# asks for the health path as nginx would: all in one process, since most of its time is Django's start.
# `SHIP_PREFLIGHT` has the stage: `settings` ends when they are told.
# What later steps of the same release may cure (a column that its migration adds, a static file that is yet to
# be collected) is no failure the first time, and final the second.
import io
import json
import os
import threading
import traceback
import types
from urllib.parse import unquote_to_bytes

STAGE = os.environ.pop("SHIP_PREFLIGHT", "first").split(",")
sys.path[:1] = [os.getcwd()]
sys.dont_write_bytecode = True
RELEASE = os.path.realpath(SHIP["folder"] + SHIP["release"])
# Ends of this process; see release::ANSWER_DIFFERS and release::NEEDS_INPUT.
ANSWER_DIFFERS, NEEDS_INPUT = 64, 65
result = {"host": None, "status": None, "pending": [], "again": None}


def part(name):
    """A part of this program that is a file of its own."""
    module = types.ModuleType("ship_" + name)
    exec(compile(PARTS[name], "<ship %s>" % name, "exec"), module.__dict__)
    return module


class Beside:
    """What there is to know of migrations, asked in a copy of this process: it takes as long as all else together. Its lines
    come when this one needs the answer; if it ends this, it does so before anything else."""

    def __init__(self):
        sys.stdout.flush()
        sys.stderr.flush()
        self.lines = os.memfd_create("lines")
        self.pid = os.fork()
        if self.pid:
            return
        os.dup2(self.lines, 1)
        os.dup2(self.lines, 2)
        globals()["beside"] = None
        look_for_migrations()
        result["changed"] = unmigrated()
        end(0)

    def join(self):
        status = os.waitpid(self.pid, 0)[1]
        with open(self.lines, encoding="utf-8", errors="replace") as file:
            file.seek(0)
            lines = file.read().splitlines(keepends=True)
        answer = None
        for line in lines:
            if line.startswith("ship-result: "):
                answer = json.loads(line.partition(" ")[2])
            elif not line.startswith("ship-end: "):
                sys.stdout.write(line)
        sys.stdout.flush()
        if os.WIFSIGNALED(status):
            stop("looking for migrations was ended by signal %d" % os.WTERMSIG(status))
        if answer is None:
            stop("looking for migrations was ended with exit code %d" % os.WEXITSTATUS(status))
        if "changed" not in answer:
            # It came to the end of everything.
            result.update(answer)
            end(os.WEXITSTATUS(status))
        result["pending"], changed[:] = answer["pending"], answer["changed"]


beside, changed = None, []


def together():
    """Waits for what is done beside this."""
    global beside
    if beside is not None:
        copy, beside = beside, None
        copy.join()


def stop(cause, *evidence, code=1):
    together()
    # What the project's own log said of it stands before.
    print("ship-evidence")
    fail(cause, *evidence)
    end(code)


def end(code):
    together()
    print("ship-result: " + json.dumps(result, sort_keys=True))
    print("ship-end: %d" % code)
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
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()

    def __exit__(self, *_):
        self.done.set()
        self.watcher.join()

    def watch(self):
        if self.done.wait(self.seconds):
            return
        frame = sys._current_frames().get(self.thread)
        stack = traceback.format_stack(frame) if frame else []
        stack = [entry for entry in stack if '"<stdin>"' not in entry and '"<ship ' not in entry]
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
    together()
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
    stop((what + ": " if what else "") + told(error), *evidence, *shown(error, SHIP["folder"]), *remedy(error))


def unmigrated():
    """The project's own apps whose models have changes that no migration makes."""
    try:
        from django.apps import apps
        from django.db.migrations.autodetector import MigrationAutodetector
        from django.db.migrations.loader import MigrationLoader
        from django.db.migrations.state import ProjectState

        loader = MigrationLoader(None)
        detector = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps))
        changed = detector.changes(graph=loader.graph)
        # What packages lack is not the project's to write.
        own = [config.label for config in apps.get_app_configs() if config.path.startswith(SHIP["folder"])]
        return sorted(label for label in own if label in changed)
    except Exception:
        # What is wrong with the migrations themselves, the next step says.
        return []


def lacking(labels):
    return "the models of %s have changes that no migration makes: `python manage.py makemigrations` writes it" % ", ".join(labels)


def remedy(error):
    """What to do about a table or a column that isn't there."""
    try:
        from django.db import Error as DatabaseError
    except ImportError:
        return []
    labels = unmigrated() if any(isinstance(one, DatabaseError) for one in chain(error)) else []
    return ["ship-hint: " + lacking(labels)] if labels else []


def pending():
    """The migrations that the database lacks; told with all that is known of them where they will be applied."""
    if SHIP["look"] and "final" not in STAGE:
        migrations = part("migrations")
        migrations.answer = lambda *words: print("ship-told: " + "\t".join(words))
        return migrations.pending()
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    if connection.vendor == "unknown":
        return []
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return ["%s.%s" % (migration.app_label, migration.name) for migration, _ in plan]


def plain_import(name):
    import importlib

    module, _, callable_name = name.partition(":")
    found = importlib.import_module(module)
    for part in (callable_name or "application").split("."):
        found = getattr(found, part)
    return found


def look_for_migrations():
    with Limit("looking for migrations", SHIP["boot_timeout"], "processes.web.boot_timeout"):
        try:
            result["pending"] = pending()
        except SystemExit:
            # It has said why.
            end(1)
        except BaseException as error:
            refuse("looking for migrations", error)


def load():
    try:
        # As gunicorn does it, and with its words for what is not there.
        try:
            from gunicorn.util import import_app
        except ImportError:
            import_app = plain_import

        if os.environ.get("DJANGO_SETTINGS_MODULE") == "ship_settings":
            from django.conf import settings

            settings.DEBUG
        return import_app(SHIP["wsgi"])
    except SystemExit as error:
        stop("loading %s: it calls exit(%s)" % (SHIP["wsgi"], error.code))
    except BaseException as error:
        stop_if_lacking(error)
        try:
            result["pending"] = pending()
            if curable(error):
                ask_settings()
        except BaseException:
            pass
        refuse("loading " + SHIP["wsgi"], error)


def stop_if_lacking(error):
    """Ends with what the user must give, if that is the reason."""
    lacks = part("ask").lacks(error, RELEASE)
    if lacks:
        stop(lacks[0], "ship-hint: " + lacks[1], code=NEEDS_INPUT)


def ask_settings():
    """Tells the settings; nothing else is of use if the plan was made for others."""
    try:
        answer = part("ask").settings_told(RELEASE, SHIP["domains"])
    except SystemExit as error:
        stop(*str(error.code).splitlines())
    print("ship-answer: " + answer)
    if answer != SHIP["answer"]:
        end(ANSWER_DIFFERS)
    if "settings" in STAGE:
        end(0)
    if json.loads(SHIP["answer"])["static_root"]:
        try:
            proof = part("static").proof(RELEASE)
        except Exception:
            # Whatever a project's own finders do when they are only asked: then the command itself runs.
            proof = None
        if proof:
            print("ship-static: %s %s" % (proof[0], "there" if proof[1] else "missing"))


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


def asgi_scope(url, cookies):
    """The same request as ASGI has it."""
    made = environ(url, cookies)
    names = [name for name in made if name.startswith("HTTP_")]
    headers = [(name[5:].replace("_", "-").lower().encode(), made[name].encode("latin-1")) for name in names]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": urlsplit(url).scheme,
        "path": made["PATH_INFO"].encode("latin-1").decode("utf-8", "replace"),
        "raw_path": (urlsplit(url).path or "/").encode(),
        "query_string": made["QUERY_STRING"].encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", SHIP["port"]),
    }


def ask_asgi(application, url, cookies, answer):
    import asyncio

    body, size = [], 0

    async def talk():
        nonlocal size
        done, asked = asyncio.Event(), []

        async def receive():
            if not asked:
                asked.append(True)
                return {"type": "http.request", "body": b"", "more_body": False}
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            nonlocal size
            if message["type"] == "http.response.start":
                decode = lambda value: value.decode("latin-1") if isinstance(value, bytes) else value
                headers = [(decode(name), decode(value)) for name, value in message.get("headers", ())]
                answer.update(status=message["status"], headers=headers)
            elif message["type"] == "http.response.body":
                body.append(message.get("body", b""))
                size += len(body[-1])
                if not message.get("more_body") or size > 1 << 20:
                    answer["body"] = b"".join(body)
                    done.set()

        called = application(asgi_scope(url, cookies), receive, send)
        running = asyncio.ensure_future(called)
        ended = asyncio.ensure_future(done.wait())
        await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        # What it does after its answer is its own affair, but an exception without an answer is the cause.
        if not running.done():
            await asyncio.wait([running], timeout=1)
        if running.done():
            if not running.cancelled() and running.exception() and "body" not in answer:
                raise running.exception()
        else:
            running.cancel()

    asyncio.run(talk())


def hang_up():
    """Closes what this thread has open to databases."""
    try:
        from django.db import connections

        connections.close_all()
    except Exception:
        pass


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
                if SHIP.get("asgi"):
                    return ask_asgi(application, url, cookies, answer)
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
        finally:
            hang_up()

    got_request_exception.connect(note, weak=False)
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    got_request_exception.disconnect(note)
    return answer, (raised + seen + [None])[0]


def request(application):
    scheme = "https" if os.environ.get("SHIP_HTTPS") == "on" else "http"
    walk = Walk(result["host"], SHIP["domains"], scheme)
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
            # Where this is a copy of the process that will serve, that one may go the same way.
            if "passed" in globals() and not SHIP.get("asgi"):
                made = environ(url, walk.cookies)
                passed({name: value for name, value in made.items() if isinstance(value, str)})
            return
        together()
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
            stop_if_lacking(error)
            refuse("django.setup()", error)
if "final" not in STAGE:
    ask_settings()
# Threads that the project has started are not in a copy.
if len(os.sched_getaffinity(0)) > 1 and len(os.listdir("/proc/self/task")) == 1:
    beside = Beside()
else:
    look_for_migrations()
    changed = unmigrated()
with Limit("check --deploy", SHIP["boot_timeout"], "processes.web.boot_timeout"):
    check()
if SHIP.get("asgi"):
    from django.conf import settings

    for alias, database in sorted(settings.DATABASES.items()):
        if database.get("CONN_MAX_AGE", 0) != 0:
            print("ship-warning: CONN_MAX_AGE of DATABASES[%r] is %s; served by ASGI, every request keeps a connection of its "
                  "own so long: set it to 0" % (alias, database["CONN_MAX_AGE"]))
result["host"] = host()
request(application)
together()
if changed:
    print("ship-warning: " + lacking(changed))
end(0)
