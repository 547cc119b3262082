//! A copy of the site's data on this computer: the database and the uploaded files, taken before a server goes away.
//!
//! Invariant: a copy is complete or it isn't there; a half one is never left under its name.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::cloud::Owner;
use crate::config::{Config, Database};
use crate::error::Failure;
use crate::human::bytes;
use crate::shell::Script;
use crate::transport::{Exec, Flow, Session, Stdin, Stream};
use crate::ui::Ui;

/// Where a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The folder.
    pub folder: PathBuf,
    /// The database, if there was one to copy: a dump in PostgreSQL's custom format, or SQLite's file.
    pub database: Option<PathBuf>,
    /// The uploaded files, a tar archive compressed with gzip.
    pub media: Option<PathBuf>,
}

impl Copy {
    /// What it is, for a person.
    pub fn text(&self) -> String {
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |meta| meta.len());
        let part = |name: &str, path: &Option<PathBuf>| match path {
            Some(path) => format!("{name} ({})", bytes(size(path))),
            None => format!("no {name}"),
        };
        format!(
            "{} and {} in {}",
            part("database", &self.database),
            part("media", &self.media),
            self.folder.display()
        )
    }
}

/// The exit status that says that there is nothing to copy.
const NOTHING: i32 = 44;

/// Fetches a copy into a new folder under `.ship/backups`.
pub async fn fetch(session: &Session, project: &Path, config: &Config, ui: &Ui) -> Result<Copy, Failure> {
    let name = Owner::of(config).host_name();
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let folder = project.join(".ship/backups").join(format!("{name}-{stamp}"));
    std::fs::create_dir_all(&folder)
        .map_err(|error| Failure::failed(format!("can't make the folder {}: {error}", folder.display())))?;
    private(&folder)?;
    let database = match config.database {
        Database::Postgres => {
            let file = folder.join("database.dump");
            fetch_one(session, "the database", &postgres_dump(&config.app), &file, ui).await?
        }
        Database::Sqlite => {
            let file = folder.join("database.sqlite3");
            fetch_one(session, "the database", &sqlite_copy(&config.app), &file, ui).await?
        }
        Database::External => None,
    };
    let file = folder.join("media.tar.gz");
    let media = fetch_one(session, "the media", &media_archive(&config.app), &file, ui).await?;
    Ok(Copy { folder, database, media })
}

/// Data of users is nobody else's business.
fn private(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
        .map_err(|error| Failure::failed(format!("can't close the folder {}: {error}", folder.display())))
}

async fn fetch_one(
    session: &Session,
    what: &str,
    script: &Script,
    file: &Path,
    ui: &Ui,
) -> Result<Option<PathBuf>, Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("can't write {}: {error}", file.display()));
    let part = file.with_extension("part");
    let mut out = BufWriter::new(File::create(&part).map_err(failed)?);
    let (mut stderr, mut broken, mut count, mut shown) = (Vec::new(), None, 0_u64, 0_u64);
    ui.working(&format!("fetching {what}"));
    let mut take = |stream: Stream, piece: &[u8]| {
        match stream {
            Stream::Err => stderr.extend_from_slice(piece),
            Stream::Out => {
                count += piece.len() as u64;
                if count - shown > 1 << 20 {
                    shown = count;
                    ui.working(&format!("fetching {what}: {}", bytes(count)));
                }
                if let Err(error) = out.write_all(piece) {
                    broken = Some(error);
                    return Flow::Stop;
                }
            }
        }
        Flow::Continue
    };
    let status = session.stream(Exec::as_root(script), &mut take).await;
    let flushed =
        out.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| file.sync_all());
    let result = match (broken, flushed, status) {
        (Some(error), _, _) | (None, Err(error), _) => Err(failed(error)),
        (None, Ok(()), Ok(Some(0))) => Ok(true),
        (None, Ok(()), Ok(Some(NOTHING))) => Ok(false),
        (None, Ok(()), Ok(_)) => Err(Failure::failed(format!("the server could not give out {what}"))
            .detail(String::from_utf8_lossy(&stderr).into_owned())),
        (None, Ok(()), Err(error)) => Err(error.into()),
    };
    match result {
        Ok(true) => {
            std::fs::rename(&part, file).map_err(failed)?;
            Ok(Some(file.to_path_buf()))
        }
        Ok(false) => {
            let _ = std::fs::remove_file(&part);
            Ok(None)
        }
        Err(failure) => {
            let _ = std::fs::remove_file(&part);
            Err(failure)
        }
    }
}

/// Puts a copy back, in place of what the server has now.
pub async fn restore(session: &Session, config: &Config, copy: &Copy, ui: &Ui) -> Result<(), Failure> {
    if let Some(file) = &copy.database {
        let script = match config.database {
            Database::Postgres => Some(postgres_restore(&config.app)),
            Database::Sqlite => Some(sqlite_restore(&config.app)),
            Database::External => None,
        };
        if let Some(script) = script {
            send_one(session, "the database", &script, file, ui).await?;
        }
    }
    if let Some(file) = &copy.media {
        send_one(session, "the media", &media_restore(&config.app), file, ui).await?;
    }
    Ok(())
}

async fn send_one(
    session: &Session,
    what: &str,
    script: &Script,
    file: &Path,
    ui: &Ui,
) -> Result<(), Failure> {
    ui.working(&format!("restoring {what}"));
    let mut input = tokio::fs::File::open(file)
        .await
        .map_err(|error| Failure::failed(format!("can't read {}: {error}", file.display())))?;
    let output = session.run(Exec::as_root(script).stdin(Stdin::Stream(&mut input))).await?;
    if output.success() {
        return Ok(());
    }
    Err(Failure::failed(format!("the server could not restore {what}"))
        .detail(output.stderr_text())
        .hint(format!("the copy is still there: {}", file.display())))
}

fn postgres_dump(app: &str) -> Script {
    Script::new()
        .set("app", app)
        .line("cd /")
        .line("command -v pg_dump >/dev/null && id postgres >/dev/null 2>&1 || exit 44")
        .line("there=$(runuser -u postgres -- psql -Atq -d postgres -v name=\"$app\" <<'SQL'")
        .line("select 1 from pg_database where datname = :'name'")
        .line("SQL")
        .line(") || exit 1")
        .line("[ -n \"$there\" ] || exit 44")
        .line("exec runuser -u postgres -- pg_dump --format=custom --dbname=\"$app\"")
}

fn postgres_restore(app: &str) -> Script {
    Script::new()
        .set("app", app)
        .line("set -e")
        .line("cd /")
        // The archive comes first: half of one must not cost the database.
        .line("dump=$(mktemp -p /var/lib/ship)")
        .line("trap 'rm -f \"$dump\"' EXIT")
        .line("cat >\"$dump\"")
        .line("chown postgres \"$dump\"")
        .line("runuser -u postgres -- pg_restore --list \"$dump\" >/dev/null")
        .line("runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 -d postgres -v name=\"$app\" <<'SQL'")
        .line("drop database if exists :\"name\" with (force);")
        .line("create database :\"name\" owner :\"name\";")
        .line("SQL")
        .line("runuser -u postgres -- pg_restore --exit-on-error --no-owner --role=\"$app\" --dbname=\"$app\" \"$dump\"")
}

/// SQLite's own backup, since a file in use can't simply be copied.
fn sqlite_copy(app: &str) -> Script {
    Script::new()
        .set("app", app)
        .line("db=/srv/$app/shared/database/db.sqlite3")
        .line("[ -e \"$db\" ] || exit 44")
        .line("copy=$(mktemp) || exit 1")
        .line("trap 'rm -f \"$copy\"' EXIT")
        .line("python3 -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))' \"$db\" \"$copy\" || exit 1")
        .line("cat \"$copy\"")
}

fn sqlite_restore(app: &str) -> Script {
    Script::new()
        .set("app", app)
        .line("set -e")
        .line("db=/srv/$app/shared/database/db.sqlite3")
        .line("umask 077")
        .line("cat >\"$db.new\"")
        .line("chown \"$app:$app\" \"$db.new\"")
        .line("rm -f \"$db-wal\" \"$db-shm\"")
        .line("mv \"$db.new\" \"$db\"")
}

fn media_archive(app: &str) -> Script {
    Script::new()
        .set("app", app)
        .line("cd \"/srv/$app/shared/media\" 2>/dev/null || exit 44")
        .line("[ -n \"$(ls -A)\" ] || exit 44")
        // A file that is written to meanwhile is a warning (1), not a failure.
        .line("tar --create --gzip --numeric-owner . || [ $? -eq 1 ]")
}

fn media_restore(app: &str) -> Script {
    Script::new()
        .set("app", app)
        .line("set -e")
        .line("cd \"/srv/$app/shared/media\"")
        .line("tar --extract --gzip --no-same-owner")
        .line("chown -R \"$app:$app\" .")
}
