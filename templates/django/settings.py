# The settings that Django is started with: those of the project, and over them what production needs.
import importlib
import os
import sys

_PROJECT = os.environ.get("SHIP_SETTINGS_MODULE") or SHIP["settings"]


def _load():
    # Settings that look at their own name find the project's.
    ours = os.environ.get("DJANGO_SETTINGS_MODULE")
    os.environ["DJANGO_SETTINGS_MODULE"] = _PROJECT
    try:
        return importlib.import_module(_PROJECT)
    finally:
        if ours is None:
            del os.environ["DJANGO_SETTINGS_MODULE"]
        else:
            os.environ["DJANGO_SETTINGS_MODULE"] = ours


def _sources():
    """The texts of the project's modules that are loaded: at this moment, the settings and what they import."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        if os.path.realpath(path).startswith(SHIP["releases"]) and path.endswith(".py"):
            with open(path, encoding="utf-8", errors="replace") as source:
                yield source.read()


def _write_ahead(sender, connection, pragmas=PRAGMAS, **_):
    # Django before 5.1 has no setting for it.
    if connection.vendor == "sqlite" and connection.alias == "default":
        with connection.cursor() as cursor:
            for pragma in pragmas.split(";"):
                cursor.execute(pragma)


def _mysql_driver(databases):
    """PyMySQL in the place of the driver that Django looks for, where the project has only that one."""
    ours = [one for one in databases.values() if str(one.get("ENGINE", "")).endswith(".mysql")]
    if not ours:
        return
    try:
        import MySQLdb as driver
    except ImportError:
        try:
            import pymysql
        except ImportError:
            # Django says what is missing.
            return
        # Django asks for the version of the one that this pretends to be.
        pymysql.version_info = (2, 2, 8, "final", 0)
        pymysql.install_as_MySQLdb()
        driver = pymysql
    if driver.__name__ == "pymysql":
        for one in ours:
            one["OPTIONS"] = for_pymysql(one.get("OPTIONS") or {})


def _apply(names):
    import django

    loaded = {name: value for name, value in names.items() if name.isupper()}
    ship = dict(SHIP, cwd=os.getcwd(), https=os.environ.get("SHIP_HTTPS") == "on")
    found = decide(loaded, ship, os.environ, django.VERSION[:2], list(_sources()))
    for one in found:
        names[one["name"]] = one["value"]
        if one["switch"] == "databases" and family(one["value"]["default"]["ENGINE"]) == "sqlite":
            if django.VERSION[:2] < (5, 1):
                from django.db.backends.signals import connection_created

                connection_created.connect(_write_ahead, weak=False, dispatch_uid="ship")
    _mysql_driver(names.get("DATABASES") or {})
    # What was done, for whoever asks; values of secrets are not in it.
    names["SHIP_OVERRIDES"] = [{key: one[key] for key in ("switch", "name", "old", "new", "why")} for one in found]
    # Not the overlay's own name: code that looks at it means the project's.
    names["SETTINGS_MODULE"] = _PROJECT


def _settings():
    module = _load()
    names = {name: value for name, value in vars(module).items() if not (name.startswith("__") and name.endswith("__"))}
    _apply(names)
    return names


globals().update(_settings())
