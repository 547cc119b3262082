# Brings data into the site's database: a fixture, or an SQLite database that the project had before. Arguments: the
# file, its name as the user knows it, and `empty` or `replace`. Runs as the site, in its release.
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.getcwd())
sys.dont_write_bytecode = True
path, name, mode = sys.argv[1:4]

import django
from django.conf import settings

with open(path, "rb") as file:
    carried = file.read(16) == b"SQLite format 3\0"
if carried:
    # Its own migrations bring it up to date; this is a copy.
    settings.DATABASES["ship_import"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
django.setup()

from django.apps import apps
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connections, transaction
from django.db.models import signals

# What Django and its migrations make by themselves.
OWN = {"contenttypes.contenttype", "auth.permission", "sites.site", "sessions.session"}


def refuse(cause, *hints):
    print("ship-cause: " + cause)
    for hint in hints:
        print("ship-hint: " + hint)
    sys.exit(1)


def last_words(error):
    lines = str(error).strip().splitlines()
    return "%s: %s" % (type(error).__name__, lines[0]) if lines else type(error).__name__


def filled():
    """The models that have rows."""
    for model in apps.get_models():
        if model._meta.managed and not model._meta.proxy and model._meta.label_lower not in OWN:
            if model._base_manager.using("default").exists():
                yield model._meta.label


def count():
    return sum(
        model._base_manager.using("default").count()
        for model in apps.get_models()
        if model._meta.managed and not model._meta.proxy and model._meta.label_lower not in OWN
    )


def empty():
    connection = connections["default"]
    if connection.vendor != "mysql":
        call_command("flush", interactive=False, verbosity=0)
        return
    # `flush` truncates, which MySQL can't take back.
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        for table in connection.introspection.django_table_names(only_existing=True, include_views=False):
            cursor.execute("delete from " + connection.ops.quote_name(table))
    emit_post_migrate_signal(0, False, "default")


def load(fixture):
    # What signals would make of each row is in the file as well.
    quiet = (signals.pre_save, signals.post_save, signals.m2m_changed) if carried else ()
    kept = [(signal, signal.receivers) for signal in quiet]
    for signal in quiet:
        signal.receivers = []
        signal.sender_receivers_cache.clear()
    try:
        with transaction.atomic():
            if mode == "replace":
                empty()
                # A site that the file brings as well has this one's place.
                if carried and apps.is_installed("django.contrib.sites"):
                    apps.get_model("sites.Site").objects.all().delete()
            call_command("loaddata", fixture, verbosity=0)
    finally:
        for signal, receivers in kept:
            signal.receivers = receivers


rows = list(filled())
if rows and mode != "replace":
    refuse(
        "the database is not empty: %s %s rows" % (", ".join(rows[:5]), "has" if len(rows) == 1 else "have"),
        "`ship db import --replace` empties it first",
    )
with tempfile.TemporaryDirectory() as folder:
    fixture = os.path.join(folder, name if not carried else "data.json")
    try:
        if carried:
            call_command("migrate", database="ship_import", interactive=False, verbosity=0)
            exclude = [label for label in sorted(OWN - {"sites.site"}) if apps.is_installed("django.contrib." + label.split(".")[0])]
            call_command("dumpdata", database="ship_import", natural_foreign=True, exclude=exclude, output=fixture, verbosity=0)
            connections["ship_import"].close()
        else:
            shutil.copyfile(path, fixture)
        load(fixture)
    except (Exception, SystemExit) as error:
        import traceback

        traceback.print_exc()
        refuse(last_words(error), "the database is as it was")
print("ship-rows: %d" % count())
