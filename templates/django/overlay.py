# What production needs of a project's settings, decided from what they are: pure functions, tested as data.
#
# `decide` looks at the settings as the project computes them. What is production-safe already, or comes from the
# environment, stays as it is; everything else becomes an override with its old value, its new one and the reason.
import os
import re
from urllib.parse import parse_qsl, unquote

# Variables that no user has set: a setting that equals one of these says nothing.
SYSTEM = {
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "PWD", "TERM", "INVOCATION_ID", "JOURNAL_STREAM",
    "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "SYSTEMD_EXEC_PID", "PORT", "PYTHONPATH",
    "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "DJANGO_SETTINGS_MODULE", "SHIP_SETTINGS_MODULE", "DEBUG",
    "DJANGO_DEBUG", "ALLOWED_HOSTS", "DJANGO_ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS", "SHLVL", "_",
}

ENGINES = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "pgsql": "django.db.backends.postgresql",
    "postgis": "django.contrib.gis.db.backends.postgis",
    "mysql": "django.db.backends.mysql",
    "mysql2": "django.db.backends.mysql",
    "mariadb": "django.db.backends.mysql",
    "mysqlgis": "django.contrib.gis.db.backends.mysql",
    "sqlite": "django.db.backends.sqlite3",
    "sqlite3": "django.db.backends.sqlite3",
    "spatialite": "django.contrib.gis.db.backends.spatialite",
    "oracle": "django.db.backends.oracle",
}

# Keys of a database's URL that are Django's own, not the driver's.
DJANGO_OPTIONS = {
    "conn_max_age", "conn_health_checks", "atomic_requests", "autocommit", "disable_server_side_cursors",
}


def family(engine):
    """What kind of database a backend speaks to, those of other packages too."""
    engine = str(engine or "").lower()
    if "spatialite" in engine or "sqlite" in engine:
        return "sqlite"
    if "postgis" in engine or "postgres" in engine or "psycopg" in engine:
        return "postgres"
    for name in ("mysql", "mariadb", "oracle"):
        if name in engine:
            return "mysql" if name == "mariadb" else name
    return ""


def is_gis(engine):
    return "gis" in str(engine or "").lower() or "spatialite" in str(engine or "").lower()


def typed(text):
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if re.fullmatch(r"\d{1,9}", text) else text


def parse_url(url):
    """A database's URL as Django's settings write it. Every part may be percent-encoded; a host may be a socket's folder."""
    scheme, colon, rest = url.partition("://")
    scheme = scheme.split("+")[0].lower()
    if not colon or scheme not in ENGINES:
        raise ValueError("DATABASE_URL begins with %s://, which is no database of Django's" % scheme)
    rest, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    made = {"ENGINE": ENGINES[scheme], "NAME": "", "USER": "", "PASSWORD": "", "HOST": "", "PORT": ""}
    if family(made["ENGINE"]) == "sqlite":
        # sqlite:////absolute, sqlite:///relative, sqlite://:memory:
        host, _, name = rest.partition("/")
        made["NAME"] = unquote(name or host) or ":memory:"
    else:
        credentials, at, place = rest.rpartition("@")
        if at:
            user, _, password = credentials.partition(":")
            made["USER"], made["PASSWORD"] = unquote(user), unquote(password)
        hosts, _, name = place.partition("/")
        pairs = [re.fullmatch(r"(\[[^\]]*\]|[^:]*)(?::(\d*))?", one) for one in hosts.split(",")]
        if not all(pairs):
            raise ValueError("DATABASE_URL has a host that can't be read")
        made["HOST"] = ",".join(unquote(pair.group(1)).strip("[]") for pair in pairs)
        ports = [pair.group(2) or "" for pair in pairs]
        made["PORT"] = ",".join(ports) if any(ports) else ""
        made["NAME"] = unquote(name)
        # As libpq writes sockets: postgresql:///name?host=/run/postgresql
        for key in ("host", "port", "user", "password"):
            if key in options and not made[key.upper()]:
                made[key.upper()] = options.pop(key)
    for key, value in options.items():
        if key.lower() in DJANGO_OPTIONS:
            made[key.upper()] = typed(value)
            continue
        into = made.setdefault("OPTIONS", {})
        if family(made["ENGINE"]) == "mysql" and key.replace("-", "").replace("_", "") == "sslmode":
            into["ssl_mode"] = value.upper()
        elif family(made["ENGINE"]) == "mysql" and key.startswith("ssl-"):
            into.setdefault("ssl", {})[key[4:]] = value
        elif family(made["ENGINE"]) == "postgres" and key == "currentSchema":
            into["options"] = "-c search_path=" + value
        elif family(made["ENGINE"]) == "postgres" and key.startswith("ssl"):
            into[key] = value
        else:
            into[key] = typed(value)
    return made


def given(env):
    """The values that somebody has set for this site."""
    return {value for name, value in env.items() if value and name not in SYSTEM and not name.startswith("LC_")}


def local(host):
    return str(host or "").lower() in ("", "localhost", "127.0.0.1", "::1")


def same_database(old, new):
    if family(old.get("ENGINE")) != family(new["ENGINE"]) or str(old.get("NAME") or "") != new["NAME"]:
        return False
    if family(new["ENGINE"]) == "sqlite":
        return True
    same_host = str(old.get("HOST") or "") == new["HOST"] or (local(old.get("HOST")) and local(new["HOST"]))
    return same_host and str(old.get("USER") or "") == new["USER"] and str(old.get("PASSWORD") or "") == new["PASSWORD"]


def from_environment(old, env):
    """Whether the project reads its database from variables that somebody has set, rather than from its own text."""
    values = given({name: value for name, value in env.items() if name != "DATABASE_URL"})
    if family(old.get("ENGINE")) == "sqlite":
        return str(old.get("NAME") or "") in values
    keys = ("HOST", "PASSWORD") if not local(old.get("HOST")) else ("PASSWORD", "NAME")
    return any(str(old.get(key) or "") in values for key in keys)


def in_project(path):
    """A path as the project sees it, whichever release it is in."""
    return re.sub(r"^/srv/[^/]+/releases/v[0-9]+/", "", str(path))


def name_database(one):
    """A database in words, without its password."""
    kind = family(one.get("ENGINE")) or "nothing"
    if kind == "nothing":
        return kind
    name = str(one.get("NAME") or "")
    if kind == "sqlite":
        return "sqlite " + in_project(name)
    return "%s %s at %s" % (kind, name, one.get("HOST") or "localhost")


def database(old, new, version, asynchronous):
    """The default database as it should be, from the one that the settings have and that of the URL."""
    kind, made = family(new["ENGINE"]), dict(new)
    if family(old.get("ENGINE")) == kind:
        # The project's own backend and options are of use for the same kind of database elsewhere.
        if is_gis(old["ENGINE"]) or not is_gis(new["ENGINE"]):
            made["ENGINE"] = old["ENGINE"]
        if old.get("OPTIONS") or made.get("OPTIONS"):
            made["OPTIONS"] = {**(old.get("OPTIONS") or {}), **made.get("OPTIONS", {})}
    elif is_gis(old.get("ENGINE")):
        made["ENGINE"] = ENGINES[{"postgres": "postgis", "mysql": "mysqlgis", "sqlite": "spatialite"}.get(kind, kind)]
    for key in ("ATOMIC_REQUESTS", "AUTOCOMMIT", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "TIME_ZONE", "TEST",
                "DISABLE_SERVER_SIDE_CURSORS"):
        if key in old:
            made.setdefault(key, old[key])
    if kind == "sqlite":
        made = {key: value for key, value in made.items() if key not in ("USER", "PASSWORD", "HOST", "PORT")}
        made["OPTIONS"] = sqlite_options(made.get("OPTIONS") or {}, version)
    elif not asynchronous and "pool" not in made.get("OPTIONS", {}):
        # A connection kept for a minute saves its handshake; one that died is noticed where Django can.
        made.setdefault("CONN_MAX_AGE", 60)
        if version >= (4, 1) and made["CONN_MAX_AGE"] != 0:
            made.setdefault("CONN_HEALTH_CHECKS", True)
    if kind == "mysql":
        # What led to the database of before leads away from this one.
        away = ELSEWHERE if local(new["HOST"]) else ("read_default_file", "read_default_group", "unix_socket")
        options = {key: value for key, value in made.get("OPTIONS", {}).items() if key not in away}
        made["OPTIONS"] = {"charset": "utf8mb4", **options, **new.get("OPTIONS", {})}
    return made


ELSEWHERE = ("read_default_file", "read_default_group", "unix_socket", "ssl", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key")


def for_pymysql(options):
    """The same options for PyMySQL, which knows no `ssl_mode`: anything in `ssl` means TLS, a `ca` that it is checked."""
    made = {key: value for key, value in options.items() if key != "ssl_mode"}
    mode = str(options.get("ssl_mode") or "").replace("-", "_")
    if mode in ("REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"):
        tls = {"check_hostname": mode == "VERIFY_IDENTITY"}
        if mode != "REQUIRED":
            tls["verify_mode"] = "required"
        made["ssl"] = {**tls, **(options.get("ssl") or {})}
    return made


PRAGMAS = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"


def sqlite_options(options, version):
    """Readers and one writer at a time without a `database is locked`."""
    made = dict(options)
    made.setdefault("timeout", 20)
    if version >= (5, 1):
        made.setdefault("transaction_mode", "IMMEDIATE")
        made.setdefault("init_command", PRAGMAS)
    return made


def accepts(pattern, host):
    """As Django's validate_host."""
    pattern = str(pattern).lower()
    return pattern == "*" or pattern == host or (
        pattern.startswith(".") and (host.endswith(pattern) or host == pattern[1:])
    )


def backend(settings, alias, older):
    storages = settings.get("STORAGES") or {}
    return str((storages.get(alias) or {}).get("BACKEND") or settings.get(older) or "")


def show(value):
    if isinstance(value, (str, os.PathLike)):
        value = in_project(value)
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def decide(settings, ship, env, version, sources=()):
    """The overrides for these settings. `sources` are the texts that the settings are made from."""
    found = []

    def override(switch, name, value, old, new, why):
        if switch not in ship["off"]:
            found.append({"switch": switch, "name": name, "value": value, "old": old, "new": new, "why": why})

    if settings.get("DEBUG"):
        override("debug", "DEBUG", False, show(settings["DEBUG"]), "False",
                 "with DEBUG on, errors show the site's code and settings to everyone")

    key = settings.get("SECRET_KEY") or ""
    known = env.get("SECRET_KEY") or env.get("DJANGO_SECRET_KEY")
    text = key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)
    if known and text not in env.values():
        if not text:
            override("secret_key", "SECRET_KEY", known, "not set", "***", "made on the server and known to it alone")
        elif text.startswith("django-insecure-") or any(text in source for source in sources):
            override("secret_key", "SECRET_KEY", known, "*** in the code", "***",
                     "whoever reads the code could sign sessions with it; the new one is known to the server alone")

    hosts = settings.get("ALLOWED_HOSTS") or []
    hosts = [hosts] if isinstance(hosts, str) else list(hosts)
    missing = [name for name in ship["domains"] if not any(accepts(host, name) for host in hosts)]
    if ship["domains"] and missing:
        override("allowed_hosts", "ALLOWED_HOSTS", hosts + missing, show(hosts), show(hosts + missing),
                 "`domains` of ship.yml")
    elif not ship["domains"] and "*" not in hosts:
        override("allowed_hosts", "ALLOWED_HOSTS", ["*"], show(hosts), "['*']",
                 "without `domains` in ship.yml, the site answers to any name")

    origins = list(settings.get("CSRF_TRUSTED_ORIGINS") or [])
    # Forms of the site itself need no entry; by HTTP, none is given where HTTPS is meant.
    schemes = ("https",) if ship.get("https") or ship.get("tls") else ("https", "http")
    wanted = ["%s://%s" % (scheme, name) for name in ship["domains"] for scheme in schemes]
    missing = [one for one in wanted if not any(
        one == origin or ("*." in origin and one.startswith(origin.split("*")[0]) and one.endswith(origin.split("*")[1]))
        for origin in map(str, origins)
    )]
    if missing and version >= (4, 0):
        override("csrf_trusted_origins", "CSRF_TRUSTED_ORIGINS", origins + missing, show(origins), show(origins + missing),
                 "forms are sent from the `domains` of ship.yml, through nginx")

    databases(settings, ship, env, version, override)
    files(settings, ship, override)
    mail(settings, env, override)

    security(settings, ship, version, override)
    return found


# What `check --deploy` asks for and nginx does, by the check's name: whether the settings leave it to nginx.
DONE_BY_NGINX = {
    "security.W004": lambda settings: not settings.get("SECURE_HSTS_SECONDS"),
    "security.W008": lambda settings: not settings.get("SECURE_SSL_REDIRECT"),
}


def security(settings, ship, version, override):
    """What the Django deployment checklist asks for. CORS and a Content-Security-Policy are the project's own to say: they
    depend on what its pages load from elsewhere, and so does who may put it into a frame (X_FRAME_OPTIONS)."""
    if settings.get("SECURE_CONTENT_TYPE_NOSNIFF", version >= (3, 0)) is False:
        override("security_headers", "SECURE_CONTENT_TYPE_NOSNIFF", True, "False", "True",
                 "browsers must not guess that an upload is a script")
    if not settings.get("SECURE_REFERRER_POLICY", version >= (3, 1)):
        override("security_headers", "SECURE_REFERRER_POLICY", "same-origin", "None", "'same-origin'", "other sites don't learn which page a visitor came from")
    if settings.get("SESSION_COOKIE_HTTPONLY") is False:
        override("secure_cookies", "SESSION_COOKIE_HTTPONLY", True, "False", "True",
                 "a script that gets into a page could take the session away")
    if not ship.get("https"):
        return
    if not settings.get("SECURE_PROXY_SSL_HEADER"):
        override("proxy_ssl_header", "SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"), "not set",
                 "X-Forwarded-Proto", "nginx ends TLS, and tells Django so in this header, which nobody else can set")
    for name in ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE"):
        if not settings.get(name):
            override("secure_cookies", name, True, "False", "True", "the site is served by HTTPS")
    silenced = list(settings.get("SILENCED_SYSTEM_CHECKS") or [])
    more = [name for name, left in DONE_BY_NGINX.items() if name not in silenced and left(settings)]
    if more:
        override("silenced_checks", "SILENCED_SYSTEM_CHECKS", silenced + more, show(silenced), show(silenced + more),
                 "nginx redirects to HTTPS and sends Strict-Transport-Security, which Django can't see")


# What `check --deploy` refuses as the default mailer, from Django 6.1 on.
NOWHERE = tuple("django.core.mail.backends.%s.EmailBackend" % name for name in ("console", "dummy", "filebased", "locmem"))


def mail(settings, env, override):
    mailers = settings.get("MAILERS") or {}
    old = (mailers.get("default") or {}).get("BACKEND")
    if old not in NOWHERE:
        return
    options = {"host": env.get("EMAIL_HOST") or "localhost"}
    for variable, option in (("EMAIL_PORT", "port"), ("EMAIL_USE_TLS", "use_tls"), ("EMAIL_USE_SSL", "use_ssl")):
        if env.get(variable):
            options[option] = typed(env[variable])
    for variable, option in (("EMAIL_HOST_USER", "username"), ("EMAIL_HOST_PASSWORD", "password")):
        if env.get(variable):
            options[option] = env[variable]
    made = {"BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": options}
    override("mailers", "MAILERS", dict(mailers, default=made), old.split(".")[-2], "SMTP at EMAIL_HOST",
             "the project's own is for development and sends nothing; EMAIL_HOST, EMAIL_PORT, EMAIL_HOST_USER, "
             "EMAIL_HOST_PASSWORD, EMAIL_USE_TLS by `ship config set`, else localhost")


# Apps whose models have fields of django.contrib.postgres when the database is PostgreSQL.
POSTGRES_FIELDS = ("wagtail.search", "modelsearch")


def databases(settings, ship, env, version, override):
    url = env.get("DATABASE_URL")
    old = dict((settings.get("DATABASES") or {}).get("default") or {})
    if not url:
        return
    new = parse_url(url)
    if same_database(old, new):
        if family(new["ENGINE"]) == "sqlite" and sqlite_options(old.get("OPTIONS") or {}, version) != (old.get("OPTIONS") or {}):
            made = dict(old, OPTIONS=sqlite_options(old.get("OPTIONS") or {}, version))
            value = dict(settings["DATABASES"], default=made)
            override("databases", "DATABASES", value, name_database(old), "the same with a write-ahead log",
                     "several processes use it: each waits for its turn")
        return
    if old.get("ENGINE") and from_environment(old, env):
        return
    made = database(old, new, version, ship.get("asgi", False))
    value = dict(settings.get("DATABASES") or {}, default=made)
    kind = family(old.get("ENGINE"))
    if ship["database"] == "external":
        why = "DATABASE_URL says where the database is"
    elif ship["database"] == "sqlite":
        why = "`database: sqlite`: a file that outlives each release"
    elif kind == "sqlite":
        why = "the project's own would be gone with each release; to keep SQLite: `database: sqlite`"
    elif not kind:
        why = "the settings name no database"
    else:
        why = "the settings don't read it from the environment"
    override("databases", "DATABASES", value, name_database(old), name_database(made), why)
    apps = list(settings.get("INSTALLED_APPS") or [])
    by = [name for name in POSTGRES_FIELDS if name in apps]
    if by and family(made["ENGINE"]) == "postgres" and kind != "postgres" and "django.contrib.postgres" not in apps:
        override("installed_apps", "INSTALLED_APPS", apps + ["django.contrib.postgres"], "without django.contrib.postgres",
                 "with it", "%s has other fields on PostgreSQL, which need it" % by[0])


def files(settings, ship, override):
    def where(path):
        return os.path.normpath(os.path.join(ship["cwd"], str(path)))

    def ours(path):
        return any(path == root or path.startswith(root + "/") for root in ship["folders"])

    if "django.contrib.staticfiles" in (settings.get("INSTALLED_APPS") or []):
        if not settings.get("STATIC_URL"):
            override("static_url", "STATIC_URL", "/static/", "not set", "'/static/'", "staticfiles needs it")
        root = settings.get("STATIC_ROOT")
        sources = [one[1] if isinstance(one, (tuple, list)) else one for one in settings.get("STATICFILES_DIRS") or []]
        why = None
        if not root:
            why = "collectstatic needs a folder, which nginx serves"
        elif where(root) in [where(one) for one in sources]:
            why = "STATICFILES_DIRS has the same folder, which Django refuses"
        elif not ours(where(root)):
            why = "the site can't write there"
        if why:
            override("static_root", "STATIC_ROOT", ship["static"], show(root) if root else "not set", show(ship["static"]), why)

    # Uploads that go to a bucket, or wherever a storage of the project's own puts them, are left to it.
    storage = backend(settings, "default", "DEFAULT_FILE_STORAGE")
    if storage in ("", "django.core.files.storage.FileSystemStorage"):
        root = settings.get("MEDIA_ROOT")
        if not root:
            # MEDIA_URL stays empty: what the project never meant to show is not put before everyone.
            override("media_root", "MEDIA_ROOT", ship["media"], "not set", show(ship["media"]),
                     "uploads are kept outside the releases")
        elif not ours(where(root)):
            override("media_root", "MEDIA_ROOT", ship["media"], show(root), show(ship["media"]),
                     "the site can't write there")
