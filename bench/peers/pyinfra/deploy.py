"""What someone who knows pyinfra writes for one app on one server: no operation that asks more than it must, rsync for the
code and only for a release that is not there, and every expensive step only when what it is made from has changed."""

import hashlib
import os
import pathlib
import secrets
import subprocess
from io import StringIO

from pyinfra import host
from pyinfra.facts.files import Directory
from pyinfra.operations import apt, files, postgres, server, systemd

PROJECT = pathlib.Path.cwd()
COMMON = pathlib.Path(__file__).resolve().parent.parent / "common"
SECRETS = pathlib.Path(os.environ["BENCH_SECRETS"])
RELEASE = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()


def secret(name):
    """A secret of this deployment, made the first time."""
    file = SECRETS / name
    if not file.exists():
        SECRETS.mkdir(mode=0o700, exist_ok=True)
        file.write_text(secrets.token_hex(24))
    return file.read_text()


def stamp(name, *patterns):
    """Puts the hash of what a step is made from on the server; tells whether it has changed."""
    digest = hashlib.sha256()
    for pattern in ("requirements.txt", *patterns):
        for path in sorted(PROJECT.glob(pattern)):
            digest.update(path.read_bytes())
    return files.put(name=f"Inputs of {name}", src=StringIO(digest.hexdigest() + "\n"), dest=f"/srv/bench/.{name}")


def manage(command):
    return (
        f"cd /srv/bench/releases/{RELEASE} && set -a && . /etc/bench.env && "
        f"exec runuser -u bench -- /srv/bench/venv/bin/python -B manage.py {command} --noinput"
    )


apt.packages(
    name="Packages",
    packages=["rsync", "nginx", "postgresql", "python3-venv"],
    no_recommends=True,
    update=True,
    cache_time=86400,
)
server.user(name="The site's user", user="bench", system=True, home="/srv/bench", shell="/usr/sbin/nologin", create_home=False)
files.directory(name="Releases", path="/srv/bench/releases")
files.directory(name="Static files' folder", path="/srv/bench/static", user="bench", group="bench")
postgres.role(name="The database's user", role="bench", password=secret("database"), _su_user="postgres")
postgres.database(name="The database", database="bench", owner="bench", _su_user="postgres")
environment = files.put(
    name="The environment",
    src=StringIO(
        f"SECRET_KEY={secret('key')}\n"
        f"DATABASE_URL=postgres://bench:{secret('database')}@127.0.0.1:5432/bench\n"
        "ALLOWED_HOSTS=*\nSTATIC_ROOT=/srv/bench/static\n"
    ),
    dest="/etc/bench.env",
    mode="600",
)

if not host.get_fact(Directory, path=f"/srv/bench/releases/{RELEASE}"):
    files.rsync(
        name="The code",
        src=f"{PROJECT}/",
        dest="/srv/bench/src/",
        flags=["-rlptz", "--delete", "--exclude=.git", "--exclude=.ship"],
    )
    server.shell(name="The release", commands=[f"cp -a /srv/bench/src /srv/bench/releases/{RELEASE}"])

requirements = stamp("requirements")
server.shell(
    name="Python's packages",
    commands=[
        "test -x /srv/bench/venv/bin/pip || python3 -m venv /srv/bench/venv",
        "/srv/bench/venv/bin/pip install -q --disable-pip-version-check --no-input -r /srv/bench/src/requirements.txt",
    ],
    _if=requirements.did_change,
)
migrations = stamp("migrations", "*/migrations/*.py")
server.shell(name="Migrations", commands=[manage("migrate")], _if=migrations.did_change)
static = stamp("static-inputs", "shelf/settings.py", "*/static/*/*")
server.shell(name="Static files", commands=[manage("collectstatic")], _if=static.did_change)

unit = files.put(name="The service", src=str(COMMON / "bench.service"), dest="/etc/systemd/system/bench.service")
systemd.daemon_reload(name="Reload systemd", _if=unit.did_change)
live = files.link(name="The live release", path="/srv/bench/current", target=f"releases/{RELEASE}")
systemd.service(name="At boot", service="bench", enabled=True, running=True)
systemd.service(
    name="Restart the site",
    service="bench",
    restarted=True,
    _if=lambda: any(part.did_change() for part in (environment, requirements, unit, live)),
)

nginx = files.put(name="nginx's site", src=str(COMMON / "nginx.conf"), dest="/etc/nginx/sites-available/bench")
on = files.link(name="nginx's site is on", path="/etc/nginx/sites-enabled/bench", target="../sites-available/bench")
off = files.link(name="nginx's default is off", path="/etc/nginx/sites-enabled/default", present=False)
systemd.service(
    name="Reload nginx",
    service="nginx",
    reloaded=True,
    _if=lambda: any(part.did_change() for part in (nginx, on, off)),
)
