"""Runs something of the project's with another database in the place of its own.

python elsewhere.py DATABASE migrate         applies what the release's code has and that database lacks
python elsewhere.py DATABASE script FILE     runs a script of SQL or Python (.py), for example to make names unreadable
python elsewhere.py DATABASE script FILE sql the same whatever it is called

Nothing runs unless the connection says itself that it is to that database.
"""

import os
import sys

CAUSE = "ship-cause: "


def stop(text):
    print(CAUSE + text, flush=True)
    sys.exit(1)


def redirect(name):
    """Leads every alias that is for the site's database to the other one."""
    from django.db import connections

    databases = connections.databases
    own = databases["default"]
    same = [
        alias
        for alias, one in databases.items()
        if all(one.get(key) == own.get(key) for key in ("ENGINE", "NAME", "HOST", "PORT"))
    ]
    connections.close_all()
    for alias in same:
        databases[alias]["NAME"] = name
        connections[alias].settings_dict["NAME"] = name
    connection = connections["default"]
    questions = {
        "postgresql": "select current_database()",
        "mysql": "select database()",
        "sqlite": "select file from pragma_database_list where name = 'main'",
    }
    question = questions.get(connection.vendor)
    if question is None:
        stop("the database is of a kind that ship doesn't know: " + connection.vendor)
    with connection.cursor() as cursor:
        cursor.execute(question)
        (found,) = cursor.fetchone()
    if found != name and os.path.realpath(found) != os.path.realpath(name):
        stop("the settings lead to the database %s, not to the copy %s" % (found, name))
    others = sorted(set(databases) - set(same))
    return connection, others


def migrate(connection):
    from django.core.management import call_command
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    known = set(executor.loader.disk_migrations)
    unknown = sorted("%s.%s" % key for key in set(executor.loader.applied_migrations) - known if key[0] in {k[0] for k in known})
    for name in unknown:
        print("ship-note: it has the migration %s, which the live release doesn't know of" % name, flush=True)
    if not plan:
        return
    for migration, _ in plan:
        print("ship-note: it lacked the migration %s.%s" % (migration.app_label, migration.name), flush=True)
    try:
        call_command("migrate", interactive=False, verbosity=0)
    except Exception as error:  # whatever a project's migrations raise
        stop("its data does not take the live release's migrations: %s: %s" % (type(error).__name__, str(error).strip().split("\n")[0]))


def script(connection, path, sql):
    from django.db import transaction

    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        if not sql:
            exec(compile(text, path, "exec"), {"__name__": "__main__", "__file__": path})
        elif connection.vendor == "sqlite":
            connection.ensure_connection()
            connection.connection.executescript(text)
        else:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(text)
    except SystemExit as end:
        if end.code not in (None, 0):
            stop("the script ended with %s" % end.code)
    except Exception as error:
        line = ""
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == path:
                line = " at line %d" % trace.tb_lineno
            trace = trace.tb_next
        stop("the script failed%s: %s: %s" % (line, type(error).__name__, str(error).strip().split("\n")[0]))
    if connection.vendor == "sqlite":
        # What was overwritten would still lie in free pages.
        connection.connection.commit()
        connection.connection.execute("VACUUM")


def main():
    sys.path.insert(0, os.getcwd())
    import django

    django.setup()
    name, what, *rest = sys.argv[1:]
    connection, others = redirect(name)
    if what == "migrate":
        migrate(connection)
    else:
        script(connection, rest[0], rest[1:] == ["sql"])
    if others and what == "script":
        print("ship-note: the script could reach the site's own %s" % ", ".join(others), flush=True)


main()
