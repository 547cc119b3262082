# Asks the project's own Django about its migrations, applies them or takes them back, as the site and in a release's
# folder. Arguments: `pending`, `migrate [FOLDER MIB]`, `applied`, or `reverse APP.NAME…`.
# Stdout is for the server: a word, a tab, a value. On stderr, "ship-note: ", "ship: ", "ship-cause: " and "ship-hint: "
# begin what the user is shown. As a module of preflight.py's program it is only asked what is pending.
import contextlib
import os
import re
import sys
import threading

import django

if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    sys.dont_write_bytecode = True
    django.setup()

from django.core.management import call_command, get_commands
from django.db import connection, connections
from django.db.migrations import operations as ops
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

# A table of so many rows takes seconds where a lock would otherwise not be noticed.
BIG = 100_000
# What is shown of many migrations, and of a long one.
MIGRATIONS, LINES, WIDTH = 10, 12, 160


def answer(word, *values):
    print("\t".join((word,) + values))


def say(kind, text):
    print("ship-%s: %s" % (kind, text), file=sys.stderr, flush=True)


def note(text):
    say("note", text)


def warn(text):
    print("ship: " + text, file=sys.stderr, flush=True)


def label(migration):
    app, name = migration if isinstance(migration, tuple) else (migration.app_label, migration.name)
    # Names are files of the project; what no file of Django's is called must not upset who reads this.
    return re.sub(r"[^A-Za-z0-9_.-]", "?", "%s.%s" % (app, name))


def flat(operations):
    """The operations that touch the database."""
    for operation in operations:
        if isinstance(operation, ops.SeparateDatabaseAndState):
            yield from flat(operation.database_operations)
        else:
            yield operation


def irreversible(migration):
    """Why it can't be taken back, or nothing."""
    names = [type(operation).__name__ for operation in flat(migration.operations) if not operation.reversible]
    return ", ".join(dict.fromkeys(names))


def forward_plan(executor):
    return [migration for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]


def pending():
    if connection.vendor == "unknown":
        # The settings name no database.
        return []
    executor = MigrationExecutor(connection)
    loader = executor.loader
    for key in sorted(loader.disk_migrations):
        answer("has", label(key))
    conflicts = loader.detect_conflicts()
    if conflicts:
        names = "; ".join("%s in %s" % (" and ".join(sorted(leaves)), app) for app, leaves in sorted(conflicts.items()))
        say("cause", "migrations conflict: " + names)
        say("hint", "python manage.py makemigrations --merge")
        sys.exit(1)
    loader.check_consistent_history(connection)
    plan = forward_plan(executor)
    for migration in plan:
        answer("pending", label(migration))
    if get_commands()["migrate"] != "django.core":
        # Only the project knows what its own command does.
        note("the project has a `migrate` command of its own, which runs at every release")
        answer("pending", "the.project's-own-command")
    names = [label(migration) for migration in plan]
    if not plan:
        return names
    if not connection.introspection.table_names():
        answer("empty")
        note("the database is empty: %d migrations make its tables" % len(plan))
        return names
    try:
        describe(executor, plan)
    except Exception as error:
        # Whatever a project's operations do when they are only looked at, the migration itself decides.
        warn("what the migrations do can't be told: %s: %s" % (type(error).__name__, error))
    return names


def describe(executor, plan):
    # Nothing of it is rendered, so this is quick however large the project is.
    state = executor._create_project_state(with_applied_migrations=True)
    rows = Rows()
    for index, migration in enumerate(plan):
        if index == MIGRATIONS:
            note("and %d more migrations" % (len(plan) - MIGRATIONS))
        shown = index < MIGRATIONS
        why = irreversible(migration)
        title = "migration %s, %s" % (label(migration), "can't be reversed (%s)" % why if why else "can be reversed")
        if not migration.atomic:
            title += ", not atomic"
        if shown:
            note(title)
        for operation in migration.operations:
            if shown:
                note("  - %s" % operation.describe())
            for inner in flat([operation]):
                for text in risks(inner, migration.app_label, state, rows):
                    warn("%s: %s" % (label(migration), text))
            operation.state_forwards(migration.app_label, state)
        if shown:
            show_sql(executor, migration)


def show_sql(executor, migration):
    try:
        with contextlib.redirect_stdout(sys.stderr):
            statements = executor.loader.collect_sql([(migration, False)])
    except Exception as error:
        note("      (its SQL depends on what comes before: %s)" % type(error).__name__)
        return
    lines = [line for text in statements for line in str(text).splitlines()]
    lines = [line for line in lines if line.strip() and not re.match(r"--|BEGIN;|COMMIT;", line)]
    for line in lines[:LINES]:
        note("      " + (line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"))
    if len(lines) > LINES:
        note("      … %d more lines" % (len(lines) - LINES))


class Rows:
    """The database's own estimate of how large tables are."""

    def __init__(self):
        self.counts = {}
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "select relname, reltuples::bigint from pg_class where relkind in ('r', 'p') "
                    "and pg_table_is_visible(oid)"
                )
                self.counts = dict(cursor.fetchall())
        elif connection.vendor == "mysql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "select table_name, coalesce(table_rows, 0) from information_schema.tables where table_schema = database()"
                )
                self.counts = dict(cursor.fetchall())

    def of(self, table):
        return self.counts.get(table, 0)


def count(number):
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return "%.1f %s" % (number / size, word)
    return "{:,}".format(number)


def table_of(state, app, model):
    if "." in model:
        app, model = model.split(".", 1)
    found = state.models.get((app, model.lower()))
    if found is None:
        return None
    return found.options.get("db_table") or "%s_%s" % (app, model.lower())


def kind_of(field):
    try:
        return field.db_type(connection)
    except Exception:
        return None


def risks(operation, app, state, rows):
    """What of an operation the site may notice."""
    model = getattr(operation, "model_name", None) or getattr(operation, "name", None)
    if isinstance(operation, ops.RenameModel):
        model = operation.old_name
    table = table_of(state, app, model) if model else None
    # The release before serves on until the switch, with the schema of after.
    if isinstance(operation, (ops.RemoveField, ops.DeleteModel, ops.RenameField, ops.RenameModel, ops.AlterModelTable)):
        yield "the release that serves until the switch fails where it uses what this takes away (%s)" % (
            operation.describe()
        )
    if table is None or rows.of(table) < BIG:
        return
    lock = locks(operation, state.models[(app, model.lower())])
    if lock:
        yield "%s has about %s rows: %s" % (table, count(rows.of(table)), lock)


def locks_of_mysql(operation, model):
    """What InnoDB does to a big table while nobody can write it. Columns and indexes that are new don't stop writers."""
    if isinstance(operation, ops.AddField):
        field = operation.field
        if field.remote_field is not None and getattr(field, "db_constraint", False):
            return "a foreign key makes a copy of it, and nobody writes it meanwhile"
    elif isinstance(operation, ops.AlterField):
        old, new = model.fields.get(operation.name), operation.field
        if old is not None and (kind_of(old) != kind_of(new) or (old.null and not new.null)):
            return "it may be copied, and nobody writes it meanwhile"
    elif isinstance(operation, ops.AddConstraint) and type(operation.constraint).__name__ == "CheckConstraint":
        return "it is copied to check every row, and nobody writes it meanwhile"
    return None


def locks(operation, model):
    """What the database does to a big table, if it takes time that grows with it."""
    if connection.vendor == "mysql":
        return locks_of_mysql(operation, model)
    name = type(operation).__name__
    if isinstance(operation, ops.AddField):
        field = operation.field
        if type(field).__name__ == "GeneratedField":
            return "it is rewritten, and nobody reads or writes it meanwhile"
        if field.remote_field is not None and getattr(field, "db_constraint", False):
            return "a foreign key is checked and indexed, and nobody writes it meanwhile"
        if field.unique:
            return "a unique index is built, and nobody reads or writes it meanwhile"
        if field.db_index:
            return "an index is built, and nobody writes it meanwhile; AddIndexConcurrently doesn't stop writers"
    elif isinstance(operation, ops.AlterField):
        old, new = model.fields.get(operation.name), operation.field
        if old is None:
            return None
        before, after = kind_of(old), kind_of(new)
        if before != after and not widened(before, after):
            return "%s becomes %s, so it is rewritten, and nobody reads or writes it meanwhile" % (before, after)
        if old.null and not new.null:
            return "every row is checked for NULL, and nobody reads or writes it meanwhile"
        if new.unique and not old.unique:
            return "a unique index is built, and nobody reads or writes it meanwhile"
        if new.db_index and not old.db_index:
            return "an index is built, and nobody writes it meanwhile; AddIndexConcurrently doesn't stop writers"
    elif name == "AddIndex" or name in ("AlterUniqueTogether", "AlterIndexTogether"):
        return "an index is built, and nobody writes it meanwhile; AddIndexConcurrently doesn't stop writers"
    elif isinstance(operation, ops.AddConstraint):
        if type(operation.constraint).__name__ == "CheckConstraint":
            return "every row is checked, and nobody reads or writes it meanwhile; AddConstraintNotValid doesn't"
        return "an index is built, and nobody reads or writes it meanwhile"
    return None


def widened(before, after):
    """PostgreSQL only takes note of a longer varchar."""
    sizes = [re.fullmatch(r"varchar(?:\((\d+)\))?", kind or "") for kind in (before, after)]
    if after == "text" and sizes[0]:
        return True
    if not all(sizes):
        return False
    old, new = (int(size.group(1) or 10**9) for size in sizes)
    return new >= old


def watch(method, current):
    """Keeps in `current` the migration that Django is at."""
    original = getattr(MigrationExecutor, method)

    def wrapped(self, state, migration, *args, **kwargs):
        current[:] = [migration]
        result = original(self, state, migration, *args, **kwargs)
        current.clear()
        return result

    setattr(MigrationExecutor, method, wrapped)


def last_words(error):
    lines = str(error).strip().splitlines()
    return "%s: %s" % (type(error).__name__, lines[0]) if lines else type(error).__name__


def state_of_database(migration, verb):
    """What a migration that stopped half-way left behind."""
    if migration.atomic and connection.features.can_rollback_ddl:
        say("hint", "%s took back all of %s" % (connection.display_name, label(migration)))
        return
    why = "it is not atomic" if not migration.atomic else "%s can't take it back" % connection.display_name
    say("hint", "what %s %s before the error stays in the database, since %s" % (label(migration), verb, why))
    answer("partly", label(migration))


class Space:
    """Stops a migration before the disk is full: a database without room for its log stops for good."""

    def __init__(self, folder=None, reserve_mb="0"):
        self.folder, self.reserve_mb, self.done = folder, int(reserve_mb), threading.Event()
        self.left_mb = None

    @property
    def low(self):
        return self.left_mb is not None

    def __enter__(self):
        if self.folder:
            # `connection` is another one in each thread.
            threading.Thread(target=self.watch, args=[connections["default"]], daemon=True).start()
        return self

    def __exit__(self, *error):
        self.done.set()

    def watch(self, database):
        while not self.done.wait(0.1):
            disk = os.statvfs(self.folder)
            free_mb = disk.f_bavail * disk.f_frsize // 2**20
            if free_mb < self.reserve_mb:
                self.left_mb = free_mb
            if self.low:
                # Again and again: between two statements there is nothing to stop.
                with contextlib.suppress(Exception):
                    self.stop(database)

    @staticmethod
    def stop(database):
        if database.vendor == "sqlite":
            database.connection.interrupt()
        elif database.vendor == "mysql":
            # Only another connection can: in this thread, `connection` is one.
            with connection.cursor() as cursor:
                cursor.execute("kill query %d" % database.connection.thread_id())
        else:
            database.connection.cancel()

    def cause(self):
        return "the disk is full: of %d MiB that the database must keep for its log, %d were left in %s" % (
            self.reserve_mb, self.left_mb, self.folder)


def migrate(folder=None, reserve_mb="0"):
    plan = [(migration.app_label, migration.name) for migration in forward_plan(MigrationExecutor(connection))]
    current, failed, space = [], None, Space(folder, reserve_mb)
    watch("apply_migration", current)
    try:
        with contextlib.redirect_stdout(sys.stderr), space:
            call_command("migrate", interactive=False, verbosity=1, stdout=sys.stderr)
    except (Exception, SystemExit) as error:
        # What Django said last ends without a line break.
        print("\n" + "\n".join(shown(error, os.getcwd() + os.sep)), file=sys.stderr, flush=True)
        failed = error
    if failed is not None:
        # In a broken transaction nothing more can be asked.
        connection.close()
    applied = MigrationRecorder(connection).applied_migrations()
    done = [key for key in plan if key in applied]
    for key in done:
        answer("applied", label(key))
    if failed is None:
        return
    why = space.cause() if space.low else last_words(failed)
    if current:
        say("cause", "%s: %s" % (label(current[0]), why))
        state_of_database(current[0], "did")
    else:
        say("cause", why)
    if done:
        say("hint", "before it, this release applied %s" % ", ".join(label(key) for key in done))
    sys.exit(1)


# Taking these back only removes what a release before doesn't know of: it runs well before and after.
ADDING = {"CreateModel", "AddField", "AddIndex", "AddIndexConcurrently", "AddConstraint", "AddConstraintNotValid"}
NEUTRAL = {"AlterModelOptions", "AlterModelManagers", "AlterModelTableComment", "RunPython", "ValidateConstraint"}


def applied():
    executor = MigrationExecutor(connection)
    loader = executor.loader
    for key in loader.applied_migrations:
        migration = loader.disk_migrations.get(key)
        if migration is None:
            continue
        names = {type(operation).__name__ for operation in flat(migration.operations)}
        additive = names <= ADDING | NEUTRAL and bool(names & ADDING)
        replaces = ",".join(label(tuple(replaced)) for replaced in migration.replaces)
        answer("applied", label(key), irreversible(migration), "additive" if additive else "", replaces)


def reverse(names):
    executor = MigrationExecutor(connection)
    graph, rows = executor.loader.graph, executor.loader.applied_migrations
    full = executor.migration_plan(graph.leaf_nodes(), clean_start=True)
    plan = [(migration, True) for migration, _ in reversed(full)]
    plan = [step for step in plan if label(step[0]) in names and (step[0].app_label, step[0].name) in rows]
    keys = {(migration.app_label, migration.name) for migration, _ in plan}
    for key in sorted(keys):
        others = [node for node in graph.backwards_plan(key) if node in rows and node not in keys]
        if others:
            say("cause", "%s can't be reversed: %s depends on it" % (label(key), label(others[0])))
            sys.exit(1)
    if not plan:
        return
    from django.core.management.sql import emit_pre_migrate_signal

    current = []
    watch("unapply_migration", current)
    before = executor._create_project_state(with_applied_migrations=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            emit_pre_migrate_signal(0, False, "default", stdout=sys.stderr, apps=before.apps, plan=plan)
            executor.migrate(None, plan=plan)
    except (Exception, SystemExit) as error:
        print("\n".join(shown(error, os.getcwd() + os.sep)), file=sys.stderr, flush=True)
        connection.close()
        say("cause", "%s%s" % (label(current[0]) + ": " if current else "", last_words(error)))
        if current:
            state_of_database(current[0], "took back")
        left = MigrationRecorder(connection).applied_migrations()
        gone = [label(migration) for migration, _ in plan if (migration.app_label, migration.name) not in left]
        if gone:
            say("hint", "reversed before it: %s; `ship manage migrate` applies them again" % ", ".join(gone))
        sys.exit(1)
    for migration, _ in plan:
        note("reversed %s" % label(migration))


if __name__ == "__main__":
    mode, names = sys.argv[1], sys.argv[2:]
    {
        "pending": pending,
        "migrate": lambda: migrate(*names),
        "applied": applied,
        "reverse": lambda: reverse(set(names)),
    }[mode]()
