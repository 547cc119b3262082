//! The database's part of a release: what is pending, a dump before it, the migration, and the ways back.
//!
//! Invariant: nothing is migrated, reversed or restored before a dump of what is there is kept, unless the user said so
//! or is told why not. Stamps of a release, in its state folder: `migrations` (what its code has, a name a line),
//! `pending`, `applied` (what it applied itself), `partly` (one that stopped half-way and left something behind),
//! `reversed` (the database has been taken back for it).

use crate::apply::heredoc;
use crate::config::Database;
use crate::human::count;
use crate::plan::Change;
use crate::shell::{Cmd, Script};

use super::database::{REPLACE, library};
use super::mysql;
use super::preview::MIGRATE;
use super::space::RESERVE_MB;
use super::steps::Steps;

/// The questions about migrations, as a part of the preflight.
pub(super) const QUESTIONS: &str = include_str!("../../templates/django/migrations.py");

/// The question and its answers, as a Python program that runs in a release.
pub(super) const PROGRAM: &str = concat!(
    include_str!("../../templates/django/trace.py"),
    "\n\n",
    include_str!("../../templates/django/migrations.py")
);

/// Why a dump is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Migrations are pending.
    Migrations,
    /// What is there is lost: migrations are taken back, or a dump of then takes its place.
    Loss,
}

impl Steps<'_> {
    /// Looks, dumps and migrates. Without pending migrations the last two do nothing.
    /// `new` are files that the server lacks and what they do, for the plan.
    pub(super) fn migrations(&self, new: &[(String, Vec<String>)]) -> Vec<Change> {
        let mut changes: Vec<Change> = self.dump(Before::Migrations).into_iter().collect();
        let mut migrate = self.migrate();
        if !new.is_empty() {
            migrate.why = format!("{} not on the server yet", count(new.len(), "migration"));
            let lines = new.iter().flat_map(|(path, operations)| {
                std::iter::once(path.clone()).chain(operations.iter().map(|line| format!("  {line}")))
            });
            migrate.diff = Some(lines.collect::<Vec<_>>().join("\n"));
        }
        changes.push(migrate);
        changes
    }

    /// Runs the program in the release that `$n`, `$release` and `$root` name; its answers are in `$told`.
    fn run_program(&self, cmd: Cmd) -> Script {
        let line = format!("told=$(as_app \"$top/venvs/$n/bin/python\" - {}", cmd.text());
        Script::new().then(&heredoc(&line, PROGRAM))
    }

    fn dump(&self, before: Before) -> Option<Change> {
        let config = self.context.config;
        let limit = config.dump_limit_mb;
        let (name, why) = match before {
            Before::Migrations => ("dump the database", "if migrations are pending"),
            Before::Loss => ("dump the database as it is", "to have it if this was a mistake"),
        };
        if limit == 0 || config.database == Database::External {
            let text = match config.database {
                Database::External => {
                    "ship-note: the database is not on this server, so ship takes no dump of it"
                }
                Database::Postgres | Database::Sqlite | Database::Mysql => {
                    "ship-note: no dump was taken before it, as was asked for"
                }
            };
            let script =
                self.prelude().set("text", text).line("[ ! -s \"$state/pending\" ] || echo \"$text\"");
            // Of what is lost on purpose, the user has been told.
            return (before == Before::Migrations).then(|| self.change("take no dump", "", script));
        }
        let prelude = match before {
            Before::Migrations => self.if_pending().then(&self.guarded("dump")),
            // It may be live by now.
            Before::Loss => self.prelude(),
        };
        let mut script = prelude.set("limit", limit.to_string());
        if before == Before::Migrations {
            script = script.then(&Script::fixed(ONLY_IF_PENDING));
        }
        let (size, take) = match config.database {
            Database::Postgres => (POSTGRES_SIZE, POSTGRES_DUMP),
            Database::Mysql => (mysql::SIZE, mysql::TAKE),
            Database::Sqlite | Database::External => (SQLITE_SIZE, SQLITE_DUMP),
        };
        if config.database == Database::Mysql {
            script = script.then(&Script::fixed(mysql::DUMP));
        }
        let script = script
            .then(&Script::from_text(size))
            .then(&Script::fixed(SKIP_LARGE))
            .line("install -d -m 0700 /var/backups/ship \"/var/backups/ship/$app\" || failed=1")
            .then(&Script::from_text("dump=/var/backups/ship/$app/$n.dump"))
            .then(&Script::from_text(take))
            .then(&Script::fixed(KEEP_DUMP))
            .line(if before == Before::Loss { "touch \"$state/kept\"" } else { "" });
        Some(self.change(name, why, script))
    }

    /// Most releases have nothing to migrate.
    fn if_pending(&self) -> Script {
        self.prelude().line("[ -s \"$state/pending\" ] || { : >idle; exit 0; }")
    }

    fn migrate(&self) -> Change {
        let script = self
            .if_pending()
            .then(&self.guarded("migrate"))
            .then(&self.as_app())
            .line("rc=0")
            .then(&self.run_program(self.migrate_cmd()))
            .line(") || rc=$?");
        let script = match self.context.config.database {
            Database::Mysql => {
                script.then(&Script::fixed(mysql::EMPTY)).then(&Script::fixed(mysql::EMPTY_AGAIN))
            }
            Database::Postgres | Database::Sqlite | Database::External => script,
        };
        let script = script.then(&Script::fixed(KEEP_APPLIED));
        self.change(MIGRATE, "if migrations are pending", script)
    }

    /// With what must stay free where the database is.
    fn migrate_cmd(&self) -> Cmd {
        let config = self.context.config;
        let folder = match config.database {
            Database::Postgres => "/var/lib/postgresql".to_string(),
            Database::Mysql => "/var/lib/mysql".to_string(),
            Database::Sqlite => format!("/srv/{}/shared", config.app),
            Database::External => return Cmd::new("migrate"),
        };
        Cmd::new("migrate").arg(folder).arg(RESERVE_MB.to_string())
    }

    /// Takes back migrations with the code of a release that has them, after a dump.
    pub(super) fn reverse(&self, with: u32, names: &[String], why: &str, after_switch: bool) -> Vec<Change> {
        let mut script = self.prelude().then(&self.as_app());
        if after_switch {
            // Whoever still works with the newer code needs what goes now.
            script = script.line(DRAINED);
        }
        let script = script
            .set("n", format!("v{with}"))
            .line("release=$top/releases/$n")
            .line("rc=0")
            .then(&self.run_program(Cmd::new("reverse").args(names)))
            .line(") || rc=$?")
            .line("[ \"$rc\" -ne 0 ] || touch \"$state/reversed\"")
            .line("exit $rc");
        let reverse = self.change(&format!("reverse {}", count(names.len(), "migration")), why, script);
        self.dump(Before::Loss).into_iter().chain([reverse]).collect()
    }

    /// Puts the dump of a release in the place of the database, after one of the database as it is.
    pub(super) fn restore(&self, dump_of: u32, why: &str) -> Vec<Change> {
        let script =
            self.prelude().set("of", format!("v{dump_of}")).line("dump=/var/backups/ship/$app/$of.dump");
        let script = script
            .line("umask 077")
            .then(&Script::from_text(library(self.context.config.database)))
            .then(&Script::fixed(RESTORE))
            .then(&Script::fixed(REPLACE))
            .line("rm -f \"$dump\"");
        let script = script.line("touch \"$state/reversed\"");
        self.dump(Before::Loss)
            .into_iter()
            .chain([self.change(&format!("restore the dump of before v{dump_of}"), why, script)])
            .collect()
    }
}

/// Answers become stamps; what an interrupted run of this release applied is no longer pending.
pub(super) const KEEP_ANSWERS: &str = r#"awk -v to="$state/" '
  BEGIN { printf "" >(to ".new"); printf "" >(to "pending.new") }
  sub(/^has\t/, "") { print >(to ".new") }
  sub(/^pending\t/, "") { print >(to "pending.new") }
  $0 == "empty" { printf "" >(to "empty.new") }' "$state/told"
mv "$state/.new" "$state/migrations"
if [ -e "$state/pending" ]; then
  touch "$state/applied"
  grep -vxFf "$state/pending.new" "$state/pending" | grep -vxFf "$state/applied" >"$state/.new" || true
  cat "$state/.new" >>"$state/applied"
  rm -f "$state/.new"
fi
mv "$state/pending.new" "$state/pending"
rm -f "$state/empty"
[ ! -e "$state/empty.new" ] || mv "$state/empty.new" "$state/empty"
"#;

/// The dump of before is kept while this release has changed the database already.
const ONLY_IF_PENDING: &str = r#"if [ -e "$state/empty" ]; then exit 0; fi
if [ -e "/var/backups/ship/$app/$n.dump" ] && { [ -e "$state/kept" ] || [ -s "$state/applied" ] || [ -e "$state/partly" ]; }; then
  echo "ship-note: the dump of before $n is kept: /var/backups/ship/$app/$n.dump"
  exit 0
fi
"#;

const POSTGRES_SIZE: &str = r#"size=$(cd / && runuser -u postgres -- psql -Atq -d "$app" -c 'select pg_database_size(current_database())')
"#;

const SQLITE_SIZE: &str = r#"db=/srv/$app/shared/database/db.sqlite3
if [ ! -e "$db" ]; then exit 0; fi
size=$(stat -c %s "$db")
"#;

const SKIP_LARGE: &str = r#"if [ $((size / 1048576)) -gt "$limit" ]; then
  echo "ship: the database has $((size / 1048576)) MiB, more than dump_limit ($limit), so no dump is taken of it"
  exit 0
fi
"#;

const POSTGRES_DUMP: &str = r#"umask 077
why=$( ( cd / && runuser -u postgres -- pg_dump --format=custom --dbname="$app" ) 2>&1 >"$dump.part" ) || failed=1
"#;

const SQLITE_DUMP: &str = r#"umask 077
why=$(python3 -I -c 'import sqlite3, sys; sqlite3.connect("file:%s?mode=ro" % sys.argv[1], uri=True).backup(sqlite3.connect(sys.argv[2]))' "$db" "$dump.part" 2>&1) || failed=1
"#;

const KEEP_DUMP: &str = r#"[ -z "$why" ] || printf '%s\n' "$why"
[ -n "${failed:-}" ] || sync "$dump.part" || failed=1
if [ -n "${failed:-}" ]; then
  rm -f "$dump.part"
  case $why in
    *'No space left'*|*'disk is full'*) echo "ship-cause: there is no room for it on the server's disk" ;;
    *) echo "ship-cause: $(printf '%s\n' "$why" | tail -n 1)" ;;
  esac
  echo "ship-hint: the database was left as it is; \`ship up --no-dump\` goes on without a dump of it"
  exit 1
fi
mv -f "$dump.part" "$dump"
echo "ship-note: the database of before is kept in $dump ($(du -h "$dump" | cut -f1))"
"#;

const KEEP_APPLIED: &str = r#"printf '%s\n' "$told" | sed -n 's/^applied\t//p' >>"$state/applied"
rm -f "$state/partly"
printf '%s\n' "$told" | sed -n 's/^partly\t//p' >"$state/.new"
if [ -s "$state/.new" ]; then mv "$state/.new" "$state/partly"; else rm -f "$state/.new"; fi
if [ "$rc" -ne 0 ]; then
  if [ -e "/var/backups/ship/$app/$n.dump" ]; then
    echo "ship-hint: the database of before $n is in /var/backups/ship/$app/$n.dump"
  fi
  if [ -e "$top/current" ] && { [ -s "$state/applied" ] || [ -e "$state/partly" ]; }; then
    if [ -e "$state/partly" ] && [ -e "/var/backups/ship/$app/$n.dump" ]; then
      echo "ship-hint: \`ship rollback --restore-dump\` puts that one back; what was written since is lost"
    else
      echo "ship-hint: \`ship rollback\` takes back what was applied"
    fi
  fi
  exit "$rc"
fi
: >"$state/pending"
"#;

const DRAINED: &str = r#"for unit in $(systemctl list-units --all --plain --no-legend "$app@*.service" "$app-*@*.service" | cut -d' ' -f1); do
  case "$unit" in *"@$n.service") ;; *) systemctl stop "$unit" ;; esac
done"#;

/// What unpacking leaves beside a dump belongs beside a copy of it.
const RESTORE: &str = r#"kept=$dump
dump=$(mktemp -p /var/lib/ship)
cat "$kept" >"$dump"
"#;
