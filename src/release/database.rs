//! The site's database as pieces of scripts: whatever engine it has, whoever dumps, restores or copies it uses the same
//! few shell functions, which `templates/database/postgres.sh` explains.
//!
//! Invariant: pure. What takes the place of the database is complete beside it first, and has the live release's
//! migrations; only then does the site let go, and whatever happens from there, it gets a database back.

use crate::apply::heredoc;
use crate::config::{Config, Database};
use crate::plan::{Action, Change, ResourceId};
use crate::shell::Script;

use super::steps::AS_APP;

/// Runs something of the project's with another database.
const ELSEWHERE: &str = include_str!("../../templates/django/elsewhere.py");

/// The functions for an engine, and those that make the site let go of its database.
pub fn library(database: Database) -> String {
    let engine = match database {
        Database::Postgres => include_str!("../../templates/database/postgres.sh"),
        Database::Sqlite => include_str!("../../templates/database/sqlite.sh"),
        Database::Mysql => include_str!("../../templates/database/mysql.sh"),
        Database::External => include_str!("../../templates/database/external.sh"),
    };
    format!("{engine}{}", include_str!("../../templates/database/hold.sh"))
}

/// The beginning of every script here: nothing goes on after an error, nobody else reads what it writes.
pub fn prelude(config: &Config) -> Script {
    prelude_of(config.database, &config.app)
}

fn prelude_of(database: Database, app: &str) -> Script {
    Script::from_text("set -eu\numask 077\nexport LC_ALL=C.UTF-8")
        .set("app", app)
        .then(&Script::from_text(library(database)))
        .line("spools=/var/lib/ship/$app/spool")
}

/// What a copy of the database is called.
pub fn file_name(database: Database) -> &'static str {
    match database {
        Database::Postgres => "database.dump",
        Database::Sqlite => "database.sqlite3",
        Database::Mysql => "database.sql.gz",
        Database::External => "database",
    }
}

/// Puts the dump in `$dump` in the place of the database; for the middle of a script with [`library`].
pub(super) const REPLACE: &str = r#"db_load "$dump" "$app.restored"
trap 'release_site || true; db_drop "$app.restored" || true' EXIT
db_swap "$app.restored"
trap - EXIT
release_site
db_forget
"#;

/// The same from stdin, for a site that nobody has used yet.
pub fn replace_from_stdin(database: Database, app: &str) -> Script {
    prelude_of(database, app)
        .line("install -d -m 0755 /var/lib/ship")
        .line("dump=$(mktemp -p /var/lib/ship)")
        .line("trap 'rm -f \"$dump\"' EXIT")
        // The archive comes first: half of one must not cost the database.
        .line("cat >\"$dump\"")
        .line("db_load \"$dump\" \"$app.restored\"")
        .line("trap 'rm -f \"$dump\"; release_site || true; db_drop \"$app.restored\" || true' EXIT")
        .line("db_swap \"$app.restored\"")
        .line("release_site")
        .line("db_forget")
}

/// Runs a part of [`ELSEWHERE`] in the live release, on the database that `$target` names.
fn elsewhere(config: &Config, words: &str) -> Script {
    Script::new()
        .set("root", config.django.suffix())
        .line("n=$(readlink \"/srv/$app/current\")")
        .line("n=${n##*/}; top=/srv/$app; release=$top/releases/$n")
        .line("SHIP_UNIT=${SHIP_UNIT:--.slice}")
        .then(&Script::fixed(AS_APP))
        .then(&heredoc(&format!("as_app \"$top/venvs/$n/bin/python\" - \"$target\" {words}"), ELSEWHERE))
}

/// What a dump is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The site's own database.
    Site,
    /// A copy of it that a script has gone over: what stdin holds, as SQL or as Python.
    Anonymised {
        /// Whether the script is SQL.
        sql: bool,
    },
}

/// Dumps into a spool of this name and says how large it is and what its digest is; exits with 44 without a database.
/// Spools that nobody has fetched for a day are removed.
pub fn spool_dump(config: &Config, id: &str, of: Of) -> Script {
    let script = prelude(config)
        .set("id", id)
        .line("install -d -m 0711 /var/lib/ship \"/var/lib/ship/$app\" 2>/dev/null || true")
        .line("install -d -m 0711 \"$spools\"")
        .line("find \"$spools\" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} +")
        .line("db_there || exit 44")
        .line("bytes=$(db_bytes)")
        .then(&Script::fixed(ROOM))
        .line("spool=$spools/$id")
        .line("mkdir -m 0711 \"$spool\"")
        .line("trap 'rc=$?; [ $rc -eq 0 ] || rm -rf \"$spool\"' EXIT");
    let script = match of {
        Of::Site => script.line("db_dump \"$spool/data\" \"$spool/rows\""),
        Of::Anonymised { sql } => script
            .line("[ -e \"/srv/$app/current\" ] || { echo \"ship-cause: $app has no release that could run the script\"; exit 1; }")
            .line("install -m 0640 -g \"$app\" /dev/stdin \"$spool/script\"")
            .line("trap 'rc=$?; db_drop \"$app.scratch\" || true; rm -f \"$spool/before\"; [ $rc -eq 0 ] || rm -rf \"$spool\"' EXIT")
            .line("db_compress=1 db_dump \"$spool/before\" \"$spool/rows\"")
            .line("db_load \"$spool/before\" \"$app.scratch\"")
            .line("target=$(db_target \"$app.scratch\")")
            .then(&elsewhere(config, if sql { "script \"$spool/script\" sql" } else { "script \"$spool/script\"" }))
            .line("db_dump \"$spool/data\" \"$spool/rows\" \"$app.scratch\""),
    };
    script.then(&tell())
}

/// Says what a spool holds.
pub(super) fn tell() -> Script {
    Script::from_text(
        r#"printf 'ship-spooled: %s %s\n' "$(stat -c %s "$spool/data")" "$(sha256sum <"$spool/data" | cut -d' ' -f1)" >"$spool/told"
cat "$spool/told"
"#,
    )
}

/// Refuses what would fill the disk.
const ROOM: &str = r#"free=$(df -Pk /var/lib/ship | awk 'NR == 2 { print $4 }')
if [ "$((bytes / 1024))" -gt "$free" ]; then
  echo "ship-cause: there is no room for a copy on the server's disk: it may take $((bytes / 1048576)) MiB, and $((free / 1024)) are free"
  exit 1
fi
"#;

/// Says again what a spool holds; exits with 44 if it is gone.
pub fn spool_told(config: &Config, id: &str) -> Script {
    Script::from_text("set -eu")
        .set("app", &config.app)
        .set("id", id)
        .line("cat \"/var/lib/ship/$app/spool/$id/told\" 2>/dev/null || exit 44")
}

/// Prints a spool's data from a byte on.
pub fn spool_read(config: &Config, id: &str, from: u64) -> Script {
    Script::from_text("set -eu")
        .set("app", &config.app)
        .set("id", id)
        .line(&format!("exec tail -c +{} \"/var/lib/ship/$app/spool/$id/data\"", from.saturating_add(1)))
}

/// Removes a spool.
pub fn spool_remove(config: &Config, id: &str) -> Script {
    Script::from_text("set -eu")
        .set("app", &config.app)
        .set("id", id)
        .line("rm -rf -- \"/var/lib/ship/$app/spool/$id\"")
}

/// Takes a file into a spool from stdin, whole or not at all.
pub fn spool_write(config: &Config, id: &str, name: &str, bytes: u64, sha256: &str) -> Script {
    Script::from_text("set -eu\numask 077")
        .set("app", &config.app)
        .set("id", id)
        .set("name", name)
        .set("sha256", sha256)
        .set("bytes", bytes.to_string())
        .line("spools=/var/lib/ship/$app/spool")
        .line("install -d -m 0711 \"$spools\" \"$spools/$id\"")
        .line("find \"$spools\" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf {} +")
        .then(&Script::fixed(ROOM))
        .line("cat >\"$spools/$id/$name.part\"")
        .line("[ \"$(sha256sum <\"$spools/$id/$name.part\" | cut -d' ' -f1)\" = \"$sha256\" ] || { echo 'ship-cause: it did not arrive whole'; exit 1; }")
        .line("mv \"$spools/$id/$name.part\" \"$spools/$id/$name\"")
}

/// Where what is restored comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Files that are in the spool already.
    Spool,
    /// A dump on the server: its path.
    Kept(String),
    /// A backup: its id, or `latest`.
    Backup(String),
}

/// What is put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore<'a> {
    /// The site.
    pub config: &'a Config,
    /// Whether a release is live.
    pub live: bool,
    /// The spool that it goes through.
    pub spool: &'a str,
    /// Where it comes from.
    pub source: Source,
    /// What it is called in messages.
    pub shown: &'a str,
    /// Whether there is a database in it.
    pub database: bool,
    /// Whether there may be media in it.
    pub media: bool,
    /// Names the dump of what is there now.
    pub stamp: &'a str,
}

impl Restore<'_> {
    /// The steps, in order.
    pub fn changes(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        let change = |name: &str, why: &str, script: Script| {
            Change::run(ResourceId::new("database", name), Action::Run, why, script)
        };
        let prelude = || prelude(self.config).set("id", self.spool).line("spool=$spools/$id");
        match &self.source {
            Source::Spool => {}
            Source::Kept(path) => {
                let script = prelude()
                    .set("from", path)
                    .line("install -d -m 0711 \"$spools\" \"$spool\"")
                    .line("cp -- \"$from\" \"$spool/database\"");
                changes.push(change(&format!("take {}", self.shown), "", script));
            }
            Source::Backup(id) => {
                let script = prelude()
                    .set("backup", id)
                    .line("install -d -m 0711 \"$spools\" \"$spool\"")
                    .line("sh \"/etc/ship/$app/backup/run\" fetch \"$backup\" \"$spool\"")
                    .line("for file in database.dump database.sqlite3 database.sql.gz; do [ ! -e \"$spool/$file\" ] || mv \"$spool/$file\" \"$spool/database\"; done");
                changes.push(change(&format!("fetch {}", self.shown), "", script));
            }
        }
        if self.database {
            let script = prelude()
                .line("[ -e \"$spool/database\" ] || exit 0")
                .line("bytes=$(stat -c %s \"$spool/database\")")
                .then(&Script::fixed(ROOM))
                .line("db_load \"$spool/database\" \"$app.restored\"");
            changes.push(change("read it in beside the database", self.shown, script));
        }
        if self.database && self.live {
            let script = prelude()
                .line("[ -e \"$spool/database\" ] || exit 0")
                .line("target=$(db_target \"$app.restored\")")
                .then(&elsewhere(self.config, "migrate"));
            changes.push(change("apply what the live release has and it lacks", "", script));
        }
        if self.database {
            let script = prelude().set("stamp", self.stamp).then(&Script::fixed(SAFETY_DUMP));
            changes.push(change("dump the database as it is", "to have it if this was a mistake", script));
        }
        if self.media {
            let script = prelude().then(&Script::fixed(MEDIA));
            changes.push(change("put the media back", "files that came since then stay", script));
        }
        if self.database {
            let script = prelude().then(&Script::fixed(SWAP));
            changes.push(change(SWAPS, "the site waits for it", script));
        }
        let script = prelude().line("rm -rf \"$spool\"");
        changes.push(change("clear up", "", script));
        changes
    }
}

/// The step after whose beginning the database may be another one.
pub const SWAPS: &str = "let it take the place of the database";

/// The last three of them are kept.
const SAFETY_DUMP: &str = r#"[ -e "$spool/database" ] || exit 0
db_there || exit 0
folder=/var/backups/ship/$app
install -d -m 0700 /var/backups/ship "$folder"
bytes=$(db_bytes)
if [ "$((bytes / 1024))" -gt "$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')" ]; then
  echo "ship-cause: there is no room for it on the server's disk"
  exit 1
fi
if ! db_dump "$folder/$stamp.part" "$spool/rows.before"; then rm -f "$folder/$stamp.part"; exit 1; fi
mv "$folder/$stamp.part" "$folder/$stamp.dump"
ls -1t "$folder"/before-restore-*.dump | tail -n +4 | while IFS= read -r old; do rm -f -- "$old"; done
echo "ship-note: the database of before is kept: \`ship db restore $stamp\` brings it back"
"#;

const MEDIA: &str = r#"media=/srv/$app/shared/media
new=/srv/$app/shared/media.ship-restore
[ -d "$spool/media" ] || [ -e "$spool/media.tar.gz" ] || exit 0
rm -rf "$new"
install -d -m 0700 "$new"
trap 'rm -rf "$new"' EXIT
if [ -d "$spool/media" ]; then cp -a "$spool/media/." "$new/"
else tar --extract --gzip --no-same-owner --file "$spool/media.tar.gz" -C "$new"; fi
# A running site keeps what is being written under other names.
chown -R -h "$app:$app" "$new"
find "$new" -type d -exec chmod 0755 {} +
# The folder itself stays as the playbook made it.
chown --reference="$media" "$new"
chmod --reference="$media" "$new"
cp -al --remove-destination "$new/." "$media/"
echo "ship-note: $(find "$new" -type f | wc -l) files of media are back"
"#;

const SWAP: &str = r#"[ -e "$spool/database" ] || exit 0
exec 9>>"/var/lib/ship/$app/backup.lock"
flock -w 600 9 || { echo "ship-cause: a backup is being taken all the time"; exit 1; }
trap 'release_site || true' EXIT
db_swap "$app.restored"
trap - EXIT
release_site
db_rows "$app" | awk -F '\t' '{ tables += 1; rows += $2 } END { printf "ship-note: %d tables and %d rows are in place\n", tables, rows }'
db_forget
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_before_all_of_it_is_there_and_what_is_there_is_kept() {
        let config = crate::release::tests::config("");
        let restore = Restore {
            config: &config,
            live: true,
            spool: "1-1",
            source: Source::Backup("latest".into()),
            shown: "the backup latest",
            database: true,
            media: true,
            stamp: "before-restore-20260101T000000Z",
        };
        let names = |restore: &Restore<'_>| {
            restore.changes().iter().map(|change| change.id.name.clone()).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(names(&restore), @r"
        fetch the backup latest
        read it in beside the database
        apply what the live release has and it lacks
        dump the database as it is
        put the media back
        let it take the place of the database
        clear up
        ");
        let bare = Restore { live: false, source: Source::Spool, media: false, ..restore };
        insta::assert_snapshot!(names(&bare), @r"
        read it in beside the database
        dump the database as it is
        let it take the place of the database
        clear up
        ");
    }

    #[test]
    fn what_is_read_again_begins_where_it_broke_off() {
        let config = crate::release::tests::config("");
        let text = |from| spool_read(&config, "7-1", from).text().to_owned();
        assert_eq!(
            text(0),
            "set -eu\napp=site\nid=7-1\nexec tail -c +1 \"/var/lib/ship/$app/spool/$id/data\"\n"
        );
        assert!(text(1000).contains("tail -c +1001 "));
    }
}
