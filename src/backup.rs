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
use crate::release::database::replace_from_stdin;
use crate::release::mysql;
use crate::shell::Script;
use crate::transport::{Exec, Flow, Session, Stdin, Stream};
use crate::ui::Ui;

/// Where a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The folder.
    pub folder: PathBuf,
    /// The database, if there was one to copy: a dump in PostgreSQL's custom format, one of MariaDB's compressed
    /// with gzip, or SQLite's file.
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
    let folder = project_folder(project, &Owner::of(config).host_name());
    private_folder(&folder)
        .and_then(|()| keep_out_of_git(&folder))
        .map_err(|error| Failure::failed(format!("can't make the folder {}: {error}", folder.display())))?;
    let database = match dump_script(config.database, &config.app) {
        Some((script, name)) => fetch_one(session, "the database", &script, &folder.join(name), ui).await?,
        None => None,
    };
    let file = folder.join("media.tar.gz");
    let media = fetch_one(session, "the media", &media_archive(&config.app), &file, ui).await?;
    Ok(Copy { folder, database, media })
}

/// Now, as a part of a file's name: `20260131T120000Z`.
pub fn stamp() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Where a copy of that name belongs in a project.
pub fn project_folder(project: &Path, name: &str) -> PathBuf {
    project.join(".ship/backups").join(format!("{name}-{}", stamp()))
}

/// Makes a folder that nobody else may look into: data of users is nobody else's business.
pub fn private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(folder)
}

/// What users have entrusted to a site must not end up in its repository.
pub fn keep_out_of_git(folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join(".gitignore"), "*\n")
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
        let script = restore_script(config.database, &config.app);
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

/// Prints a database of the server's own, and what the copy is called; exits with 44 if it isn't there.
pub fn dump_script(database: Database, app: &str) -> Option<(Script, &'static str)> {
    match database {
        Database::Postgres => Some((postgres_dump(app), "database.dump")),
        Database::Sqlite => Some((sqlite_copy(app), "database.sqlite3")),
        Database::Mysql => Some((mysql_dump(app), "database.sql.gz")),
        Database::External => None,
    }
}

/// Puts what [`dump_script`] printed, on stdin, in the database's place.
pub fn restore_script(database: Database, app: &str) -> Option<Script> {
    match database {
        Database::Postgres | Database::Sqlite | Database::Mysql => Some(replace_from_stdin(database, app)),
        Database::External => None,
    }
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

/// In a file first: a dump that broke off is noticed before it counts.
fn mysql_dump(app: &str) -> Script {
    Script::new()
        .set("app", app)
        .line("command -v mariadb-dump >/dev/null || exit 44")
        .line("there=$(mariadb --batch --skip-column-names -e \"show databases like '$app'\") || exit 1")
        .line("[ -n \"$there\" ] || exit 44")
        .line("umask 077")
        .line("copy=$(mktemp -p /var/lib/ship) || exit 1")
        .line("trap 'rm -f \"$copy\"' EXIT")
        .then(&Script::from_text(mysql::DUMP))
        .line("dump_database >\"$copy\" && whole \"$copy\" && cat \"$copy\"")
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
        .line("tar --extract --gzip --no-same-owner --no-overwrite-dir")
        .line("find . -mindepth 1 -exec chown -h \"$app:$app\" {} +")
}
