"""The Django project that every tool deploys, and the changes that are made to it. The same bytes on every machine.

    bench/app.py FOLDER     writes it there, as a git repository with one commit

One app with a model, a migration, rows of its own, about 200 static files of 5 MB; PostgreSQL by psycopg, Pillow. The
settings take everything for production from the environment, as the tutorials teach, so that no tool has to change them.
The front page tells what bench/check wants to know: version, database, rows, installed packages.
"""

import hashlib
import os
import pathlib
import subprocess
import sys

REQUIREMENTS = [
    "Django==5.2.19",
    "psycopg[binary]==3.3.9",
    "dj-database-url==3.1.2",
    "gunicorn==27.0.1",
    "whitenoise==6.12.0",
    "Pillow==13.0.0",
]
# Small, of Python alone, and needed by nothing else: one more for each run on a server.
MORE_REQUIREMENTS = [
    "Markdown==3.7",
    "inflection==0.5.1",
    "tabulate==0.9.0",
    "shortuuid==1.0.13",
    "xmltodict==0.14.2",
    "toml==0.10.2",
    "termcolor==2.5.0",
    "colorama==0.4.6",
    "iniconfig==2.0.0",
    "six==1.17.0",
    "zipp==3.21.0",
    "idna==3.10",
    "click==8.1.8",
    "packaging==24.2",
    "pytz==2024.2",
    "attrs==24.3.0",
    "blinker==1.9.0",
    "boltons==24.1.0",
    "cachetools==5.5.0",
    "chardet==5.2.0",
    "decorator==5.1.1",
    "distlib==0.3.9",
    "filelock==3.16.1",
    "itsdangerous==2.2.0",
    "more-itertools==10.5.0",
    "platformdirs==4.3.6",
    "pluggy==1.5.0",
    "pycodestyle==2.12.1",
    "pyflakes==3.2.0",
    "pyparsing==3.2.0",
    "sortedcontainers==2.4.0",
    "toolz==1.0.0",
    "tomli==2.2.1",
    "urllib3==2.2.3",
    "wcwidth==0.2.13",
]

FILES = {
    ".gitignore": "__pycache__/\n/staticfiles/\n/.ship/\n",
    "manage.py": '''#!/usr/bin/env python
import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shelf.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
''',
    "shelf/__init__.py": "",
    "shelf/version.py": 'VERSION = "1"\n',
    "shelf/settings.py": '''import os
from pathlib import Path

import dj_database_url

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("SECRET_KEY", "")
DEBUG = os.environ.get("DEBUG", "").lower() in ("1", "true", "yes", "on")
ALLOWED_HOSTS = [host for host in os.environ.get("ALLOWED_HOSTS", "").split(",") if host]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "notes",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "shelf.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
WSGI_APPLICATION = "shelf.wsgi.application"
DATABASES = {"default": dj_database_url.config(default=f"sqlite:///{BASE_DIR}/db.sqlite3", conn_max_age=60)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
STATIC_URL = "/static/"
STATIC_ROOT = os.environ.get("STATIC_ROOT")
# As Heroku has it: no web server before gunicorn.
if os.environ.get("WHITENOISE"):
    MIDDLEWARE.insert(1, "whitenoise.middleware.WhiteNoiseMiddleware")
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }
''',
    "shelf/urls.py": '''from django.contrib import admin
from django.urls import path

from notes.views import index, waits

urlpatterns = [path("", index), path("waits/", waits), path("admin/", admin.site.urls)]
''',
    "shelf/wsgi.py": '''import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shelf.settings")
application = get_wsgi_application()
''',
    "notes/__init__.py": "",
    "notes/apps.py": '''from django.apps import AppConfig


class NotesConfig(AppConfig):
    name = "notes"
''',
    "notes/models.py": '''from django.db import models


class Note(models.Model):
    title = models.CharField(max_length=100)
    text = models.TextField()
    written = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["title"]

    def __str__(self):
        return self.title
''',
    "notes/admin.py": '''from django.contrib import admin

from .models import Note

admin.site.register(Note)
''',
    "notes/migrations/__init__.py": "",
    "notes/migrations/0001_initial.py": '''from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            name="Note",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("title", models.CharField(max_length=100)),
                ("text", models.TextField()),
                ("written", models.DateTimeField(auto_now_add=True)),
            ],
            options={"ordering": ["title"]},
        ),
    ]
''',
    "notes/migrations/0002_rows.py": '''from django.db import migrations


def write(apps, schema_editor):
    Note = apps.get_model("notes", "Note")
    Note.objects.bulk_create(Note(title=f"Note {n:02}", text=f"The text of note {n}. " * 8) for n in range(25))


class Migration(migrations.Migration):
    dependencies = [("notes", "0001_initial")]
    operations = [migrations.RunPython(write, migrations.RunPython.noop)]
''',
    "notes/views.py": '''import time
from importlib.metadata import version
from pathlib import Path

import PIL.Image
from django.db import connection
from django.http import HttpResponse
from django.shortcuts import render

from shelf.version import VERSION

from .models import Note

NAMES = [line.split("==")[0] for line in Path(__file__).parent.parent.joinpath("requirements.txt").read_text().split()]
PACKAGES = " ".join(f"{name}=={version(name.split('[')[0])}" for name in NAMES)


def index(request):
    context = {
        "version": VERSION,
        "database": connection.vendor,
        "packages": PACKAGES,
        "picture": PIL.Image.new("1", (1, 1)).size[0],
        "notes": list(Note.objects.all()),
    }
    return render(request, "notes/index.html", context)


def waits(request):
    """As long as somebody else's API may take."""
    time.sleep(0.05)
    return HttpResponse("waited")
''',
    "notes/templates/notes/index.html": """{% load static %}<!doctype html>
<html lang="en">
<head><title>Notes</title><link rel="stylesheet" href="{% static 'notes/file-000.css' %}"></head>
<body>
<p id="version">version={{ version }};</p>
<p id="database">database={{ database }}; rows={{ notes|length }}; picture={{ picture }};</p>
<p id="packages">packages={{ packages }};</p>
<ul>
{% for note in notes %}<li><b>{{ note.title }}</b> {{ note.text|truncatewords:20 }} <i>{{ note.written|date:"Y" }}</i></li>
{% endfor %}</ul>
</body>
</html>
""",
}


def noise(seed: str, size: int) -> bytes:
    """Bytes that don't compress, the same for the same seed."""
    parts = (hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(size // 32 + 1))
    return b"".join(parts)[:size]


def static_files():
    """Names and contents of 200 files: 60 style sheets, 60 scripts, 80 pictures; 5 MB."""
    for n in range(60):
        rules = (f".rule-{n}-{k} {{ margin: {k % 7}px; color: #{noise(f'c{n}-{k}', 3).hex()}; }}\n" for k in range(180))
        yield f"file-{n:03}.css", "".join(rules).encode()
    for n in range(60):
        lines = (f"export const value_{n}_{k} = '{noise(f'j{n}-{k}', 12).hex()}';\n" for k in range(250))
        yield f"file-{n:03}.js", "".join(lines).encode()
    for n in range(80):
        yield f"file-{n:03}.png", b"\x89PNG\r\n\x1a\n" + noise(f"p{n}", 16_000 + n * 760)


def git(folder: pathlib.Path, *words: str) -> None:
    """Runs git as nobody in particular: always the same commits."""
    who = {"NAME": "Bench", "EMAIL": "bench@example.com", "DATE": "2026-01-01T00:00:00Z"}
    env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    env |= {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", folder, *words], env=env, check=True, stdout=subprocess.DEVNULL)


def commit(folder: pathlib.Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)


def write(folder: pathlib.Path) -> None:
    """Writes the project into a folder that is not there yet."""
    for path, text in FILES.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "requirements.txt").write_text("\n".join(REQUIREMENTS) + "\n")
    static = folder / "notes/static/notes"
    static.mkdir(parents=True)
    for name, content in static_files():
        (static / name).write_bytes(content)
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder, "The project")


def change_code(folder: pathlib.Path, version: str) -> None:
    """The change of one line in one file, seen on the front page."""
    (folder / "shelf/version.py").write_text(f'VERSION = "{version}"\n')
    commit(folder, f"Version {version}")


def add_requirement(folder: pathlib.Path, requirement: str) -> None:
    """One more line in requirements.txt, seen on the front page."""
    with (folder / "requirements.txt").open("a") as file:
        file.write(requirement + "\n")
    commit(folder, f"Needs {requirement}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    write(pathlib.Path(sys.argv[1]))
